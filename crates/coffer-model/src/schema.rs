//! Keyspaces, tables and columns as immutable values.

use std::collections::BTreeMap;
use std::sync::Arc;

use cql_types::{CqlType, UserType};

use crate::{ColumnId, TableId, WriteTimestamp};

/// A keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceSchema {
    /// Its name.
    pub name: String,
    /// Replication options as given, `class` among them.
    pub replication: BTreeMap<String, String>,
    /// Whether its writes go to the commit log; kept and shown only.
    pub durable_writes: bool,
    /// Tags of the keyspace.
    pub tags: BTreeMap<String, String>,
    /// What its `CUSTOM_PROPERTIES` say: defaults and rules for the encryption of its tables.
    pub custom_properties: BTreeMap<String, BTreeMap<String, String>>,
    /// User-defined types by name.
    pub types: BTreeMap<String, Arc<UserType>>,
}

/// Place of a column in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// Part of the partition key.
    PartitionKey {
        /// Its place among them, from 0.
        position: u16,
    },
    /// Clustering column.
    Clustering {
        /// Its place among them, from 0.
        position: u16,
        /// Whether rows are stored in descending order of it.
        reversed: bool,
    },
    /// One value for the whole partition.
    Static,
    /// Any other column.
    Regular,
}

impl ColumnKind {
    /// Whether it is part of the primary key.
    #[must_use]
    pub const fn is_primary_key(self) -> bool {
        matches!(self, Self::PartitionKey { .. } | Self::Clustering { .. })
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Identity in data files.
    pub id: ColumnId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: CqlType,
    /// Its place.
    pub kind: ColumnKind,
}

/// A column that was dropped; its id is never used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedColumn {
    /// Identity in data files.
    pub id: ColumnId,
    /// The name it had.
    pub name: String,
    /// The type it had.
    pub ty: CqlType,
    /// The kind it had: static or regular.
    pub kind: ColumnKind,
    /// When it was dropped.
    pub dropped_at: WriteTimestamp,
}

/// Options of a table, as in `system_schema.tables`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    /// `additional_write_policy`.
    pub additional_write_policy: String,
    /// `allow_auto_snapshot`; `None` where it was not given.
    pub allow_auto_snapshot: Option<bool>,
    /// `bloom_filter_fp_chance`: share of false answers, above 0 and at most 1.
    pub bloom_filter_fp_chance: f64,
    /// `caching`.
    pub caching: BTreeMap<String, String>,
    /// `cdc`.
    pub cdc: bool,
    /// `comment`.
    pub comment: String,
    /// `compaction`.
    pub compaction: BTreeMap<String, String>,
    /// `compression`.
    pub compression: BTreeMap<String, String>,
    /// `crc_check_chance`.
    pub crc_check_chance: f64,
    /// `default_time_to_live`, seconds; 0 is none.
    pub default_time_to_live: u32,
    /// `extensions`.
    pub extensions: BTreeMap<String, Vec<u8>>,
    /// `gc_grace_seconds`.
    pub gc_grace_seconds: u32,
    /// `incremental_backups`; `None` where it was not given.
    pub incremental_backups: Option<bool>,
    /// `max_index_interval`.
    pub max_index_interval: u32,
    /// `memtable`.
    pub memtable: String,
    /// `memtable_flush_period_in_ms`; 0 is off.
    pub memtable_flush_period_in_ms: u32,
    /// `min_index_interval`.
    pub min_index_interval: u32,
    /// `read_repair`.
    pub read_repair: String,
    /// `speculative_retry`.
    pub speculative_retry: String,
}

fn text_map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            additional_write_policy: "99p".to_owned(),
            allow_auto_snapshot: None,
            bloom_filter_fp_chance: 0.01,
            caching: text_map(&[("keys", "ALL"), ("rows_per_partition", "NONE")]),
            cdc: false,
            comment: String::new(),
            compaction: text_map(&[
                ("class", "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy"),
                ("max_threshold", "32"),
                ("min_threshold", "4"),
            ]),
            compression: text_map(&[
                ("chunk_length_in_kb", "16"),
                ("class", "org.apache.cassandra.io.compress.LZ4Compressor"),
            ]),
            crc_check_chance: 1.0,
            default_time_to_live: 0,
            extensions: BTreeMap::new(),
            gc_grace_seconds: 864_000,
            incremental_backups: None,
            max_index_interval: 2048,
            memtable: "default".to_owned(),
            memtable_flush_period_in_ms: 0,
            min_index_interval: 128,
            read_repair: "BLOCKING".to_owned(),
            speculative_retry: "99p".to_owned(),
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    /// Its identity; a table dropped and created again has another.
    pub id: TableId,
    /// Name of its keyspace.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Its columns, in any order.
    pub columns: Vec<Column>,
    /// Its options.
    pub options: TableOptions,
    /// Custom properties by name, the encryption specification aside.
    pub custom_properties: BTreeMap<String, BTreeMap<String, String>>,
    /// Columns it once had.
    pub dropped_columns: Vec<DroppedColumn>,
    /// Id of the next column that is added.
    pub next_column_id: u32,
    /// When it was created, milliseconds since 1970.
    pub created_at_millis: u64,
}

impl TableSchema {
    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column with this id.
    #[must_use]
    pub fn column_by_id(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// Partition key columns in order.
    #[must_use]
    pub fn partition_key(&self) -> Vec<&Column> {
        self.key_columns(|kind| match kind {
            ColumnKind::PartitionKey { position } => Some(position),
            _ => None,
        })
    }

    /// Clustering columns in order.
    #[must_use]
    pub fn clustering(&self) -> Vec<&Column> {
        self.key_columns(|kind| match kind {
            ColumnKind::Clustering { position, .. } => Some(position),
            _ => None,
        })
    }

    fn key_columns(&self, position: impl Fn(ColumnKind) -> Option<u16>) -> Vec<&Column> {
        let mut columns: Vec<_> = self
            .columns
            .iter()
            .filter_map(|column| Some((position(column.kind)?, column)))
            .collect();
        columns.sort_by_key(|(position, _)| *position);
        columns.into_iter().map(|(_, column)| column).collect()
    }

    /// Static columns in order of their names.
    #[must_use]
    pub fn statics(&self) -> Vec<&Column> {
        self.by_name(ColumnKind::Static)
    }

    /// Regular columns in order of their names.
    #[must_use]
    pub fn regulars(&self) -> Vec<&Column> {
        self.by_name(ColumnKind::Regular)
    }

    fn by_name(&self, kind: ColumnKind) -> Vec<&Column> {
        let mut columns: Vec<_> =
            self.columns.iter().filter(|column| column.kind == kind).collect();
        columns.sort_by(|left, right| left.name.cmp(&right.name));
        columns
    }

    /// All columns in the order `SELECT *` shows them: partition key, clustering, statics, others.
    #[must_use]
    pub fn columns_in_select_order(&self) -> Vec<&Column> {
        let mut columns = self.partition_key();
        columns.extend(self.clustering());
        columns.extend(self.statics());
        columns.extend(self.regulars());
        columns
    }

    /// Whether it has static columns.
    #[must_use]
    pub fn has_statics(&self) -> bool {
        self.columns.iter().any(|column| column.kind == ColumnKind::Static)
    }

    /// Whether its columns are counters.
    #[must_use]
    pub fn is_counter(&self) -> bool {
        self.columns.iter().any(|column| column.ty == CqlType::Counter)
    }
}
