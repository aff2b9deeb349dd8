//! The catalog: names, schemas, key records and file lists, as one immutable value and one sealed
//! document on disk.
//!
//! Every change is a function from the old [`Catalog`] to a new one; the new one is written under a
//! new name, synced, and only then published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::{KeyRecord, TableKeyId};
use coffer_model::{KeyspaceSchema, TableId, TableSchema};
use serde::{Deserialize, Serialize};

use crate::Lsn;
use crate::ids::{ClusterId, SnapshotId};
use crate::segment::SegmentEntry;

/// What the catalog says about one tail file: log records of a table, as they were sealed in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRecord {
    /// Identity and file name.
    pub id: [u8; 16],
    /// Length of the file in bytes.
    pub length: u64,
    /// SHA-256 of the whole file as it lies on disk.
    pub sha256: [u8; 32],
    /// The last log frame whose records are in it.
    pub last: Lsn,
    /// The table keys that wrap its data keys.
    pub table_keys: Vec<TableKeyId>,
    /// The table whose log records they are; after a restore not the one they belong to.
    pub table: TableId,
    /// When its earliest and its latest frame were committed: server's clock of writes, milliseconds
    /// since 1970.
    pub committed_millis: (i64, i64),
    /// Frames that were committed after this are not read; a restore to a point in time sets it.
    pub read_until_millis: Option<i64>,
}

impl TailRecord {
    /// The tail's file in its table's directory.
    #[must_use]
    pub fn path(&self, table_directory: &Path) -> PathBuf {
        Self::path_of(table_directory, self.id)
    }

    pub(crate) fn path_of(table_directory: &Path, id: [u8; 16]) -> PathBuf {
        table_directory.join(format!("{}.tail", hex::encode(id)))
    }
}

/// One table: its schema, its keys and its files.
#[derive(Debug, Clone)]
pub struct TableEntry {
    /// Names, columns, options.
    pub schema: Arc<TableSchema>,
    /// The wrapped table keys.
    pub key: Arc<KeyRecord>,
    /// Live segments; the engine alone changes this list.
    pub segments: Vec<SegmentEntry>,
    /// Tail files; the engine alone changes this list.
    pub tails: Vec<TailRecord>,
    /// Log records at or before this one are in segments (or truncated) and skipped by replay.
    pub replay_from: Lsn,
    /// The last log frame before the table was created or truncated.
    pub truncated_at: Lsn,
}

/// The catalog as one immutable value.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Rises by one with each change.
    pub version: u64,
    /// Random identity of this data directory.
    pub cluster_id: ClusterId,
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, Arc<KeyspaceSchema>>,
    /// Tables by id.
    pub tables: BTreeMap<TableId, Arc<TableEntry>>,
    /// Small documents of the layers above (account, region, schema version, histories), by name.
    pub properties: Arc<BTreeMap<String, String>>,
    /// Changes of keys that have begun and are not published, by the table they are for. The entry
    /// of a table that is being created stands only here.
    pub key_changes: BTreeMap<TableId, KeyChange>,
    /// Grants at a KMS that nothing needs any more, or will not need from some time on.
    pub retiring_grants: Vec<Arc<RetiringGrant>>,
    /// Snapshots, of live tables and of dropped ones.
    pub snapshots: BTreeMap<SnapshotId, Arc<SnapshotRecord>>,
    /// Log records kept for point-in-time recovery, by table, live or dropped.
    pub archives: BTreeMap<TableId, Arc<Archive>>,
    /// Dropped tables of which there is still a snapshot or an archive.
    pub dropped: BTreeMap<TableId, Arc<DroppedTable>>,
    /// How long the data directory has lived, as far as is sure.
    pub age: Age,
    /// What is known of the commit log's files.
    pub log: LogRecord,
}

/// How long a data directory has lived, and when that was noted: see [`crate::Engine::age_millis`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Age {
    /// Milliseconds.
    pub millis: i64,
    /// Wall clock of keys, milliseconds since 1970.
    pub noted_at_millis: i64,
}

/// The intent of a change of a table's key: written before the KMS is asked for anything that lasts,
/// so that what a crash leaves at the KMS is found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// Keyspace of the table.
    pub keyspace: String,
    /// Name of the table.
    pub name: String,
    /// The KMS key the table is to be under; `None` for an owned key.
    pub target_arn: Option<String>,
    /// Random; part of the names of the grants, so that a retry finds them.
    pub change_id: u64,
    /// The encryption context of the table, which the grants are bound to.
    pub encryption_context: BTreeMap<String, String>,
    /// Wall clock, milliseconds since 1970.
    pub started_at_millis: i64,
    /// Whether the table is created by it.
    pub is_create: bool,
    /// Whether the table is restored by it.
    #[serde(default)]
    pub is_restore: bool,
    /// The KMS key of a restore's source, when a temporary grant is needed to open that one.
    #[serde(default)]
    pub source_arn: Option<String>,
    /// The encryption context of the source, which that grant is bound to.
    #[serde(default)]
    pub source_context: BTreeMap<String, String>,
}

/// A grant that is to be retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetiringGrant {
    /// ARN of the KMS key.
    pub key_arn: String,
    /// The KMS's id of the grant.
    pub grant_id: String,
    /// `data` or `snapshot`.
    pub kind: String,
    /// Not before this, on the wall clock of keys, milliseconds since 1970.
    pub due_at_millis: i64,
    /// Keyspace of the table it was made for.
    pub keyspace: String,
    /// Name of that table.
    pub table: String,
}

/// What the catalog knows of the commit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRecord {
    /// Oldest log file that must exist.
    pub oldest: u64,
    /// Every log file from `oldest` to this one must exist.
    pub known: u64,
    /// The last frame of the files before `oldest`.
    pub freed: Lsn,
    /// The log holds at least the frames up to this one.
    pub committed: Lsn,
    /// Files that did not end cleanly: number, and the bytes of it that are valid.
    pub recovered: BTreeMap<u64, u64>,
}

impl TableEntry {
    /// A new table without files.
    #[must_use]
    pub fn new(schema: Arc<TableSchema>, key: Arc<KeyRecord>) -> Self {
        Self {
            schema,
            key,
            segments: Vec::new(),
            tails: Vec::new(),
            replay_from: Lsn(0),
            truncated_at: Lsn(0),
        }
    }
}

mod document;
mod retained;
mod store;

pub(crate) use retained::table_keys;
pub use retained::{
    Archive, ArchiveBase, ArchivedLog, DroppedTable, SnapshotKind, SnapshotRecord,
    archive_directory,
};

pub(crate) use store::{CatalogStore, SharedRootKeys, read_catalog, read_newest};

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            version: 0,
            cluster_id,
            keyspaces: BTreeMap::new(),
            tables: BTreeMap::new(),
            properties: Arc::default(),
            key_changes: BTreeMap::new(),
            retiring_grants: Vec::new(),
            snapshots: BTreeMap::new(),
            archives: BTreeMap::new(),
            dropped: BTreeMap::new(),
            age: Age::default(),
            log: LogRecord::default(),
        }
    }

    /// The table of that keyspace and name.
    #[must_use]
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<TableEntry>> {
        self.tables
            .values()
            .find(|table| table.schema.keyspace == keyspace && table.schema.name == name)
    }
}

#[cfg(test)]
mod tests;
