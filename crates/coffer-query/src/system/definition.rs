//! How a system table is written down, and how it becomes a table of the schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{
    Column, ColumnId, ColumnKind, KeyspaceSchema, TableId, TableOptions, TableSchema,
};
use cql_types::CqlType;

use crate::database::{Database, Session};
use crate::digest::name_uuid;
use crate::error::{Error, Result};
use crate::schema::{Keyspace, Table};
use crate::table_source::{TableSource, VirtualRow, VirtualTable};

/// Computes all rows of a table; cells in the order of the definition.
pub(crate) type RowsOf = fn(&Database, &Session) -> Result<Vec<VirtualRow>>;

/// A system table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemTable {
    /// Its name.
    pub name: &'static str,
    /// `comment` in `system_schema.tables`.
    pub comment: &'static str,
    /// Columns in the order of the cells.
    pub columns: &'static [SystemColumn],
    /// The rows as they are now.
    pub rows: RowsOf,
}

/// Name, place and type.
pub(crate) type SystemColumn = (&'static str, Place, Type);

/// Place of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Partition key, in the order written.
    Partition,
    /// Clustering, in the order written.
    Clustering,
    /// Clustering, newest first.
    ClusteringDescending,
    /// Any other.
    Regular,
}

pub(crate) use Place::{Clustering as C, ClusteringDescending as CD, Partition as P, Regular as R};

/// Types that system tables use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    BigInt,
    Blob,
    Boolean,
    Double,
    Inet,
    Int,
    Text,
    Timestamp,
    TimeUuid,
    Uuid,
    SetText,
    MapTextText,
    MapUuidBlob,
    FrozenListText,
    FrozenSetText,
    FrozenMapTextText,
    FrozenMapTextBlob,
    /// `map<text, frozen<map<text, text>>>`
    NestedMap,
}

impl Type {
    fn cql(self) -> CqlType {
        use CqlType::{Blob, List, Map, Set, Text, Uuid};
        let text = || Arc::new(Text);
        match self {
            Type::BigInt => CqlType::BigInt,
            Type::Blob => Blob,
            Type::Boolean => CqlType::Boolean,
            Type::Double => CqlType::Double,
            Type::Inet => CqlType::Inet,
            Type::Int => CqlType::Int,
            Type::Text => Text,
            Type::Timestamp => CqlType::Timestamp,
            Type::TimeUuid => CqlType::TimeUuid,
            Type::Uuid => Uuid,
            Type::SetText => Set(text()),
            Type::MapTextText => Map(text(), text()),
            Type::MapUuidBlob => Map(Arc::new(Uuid), Arc::new(Blob)),
            Type::FrozenListText => List(text()).frozen(),
            Type::FrozenSetText => Set(text()).frozen(),
            Type::FrozenMapTextText => Map(text(), text()).frozen(),
            Type::FrozenMapTextBlob => Map(text(), Arc::new(Blob)).frozen(),
            Type::NestedMap => Map(text(), Arc::new(Map(text(), text()).frozen())),
        }
    }
}

/// A table without rows.
pub(crate) fn no_rows(_database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    Ok(Vec::new())
}

#[derive(Debug)]
struct ComputedTable {
    rows: RowsOf,
}

impl VirtualTable for ComputedTable {
    fn rows(&self, database: &Database, session: &Session) -> Result<Vec<VirtualRow>> {
        (self.rows)(database, session)
    }
}

/// A keyspace of system tables.
pub(crate) fn keyspace(name: &str, definitions: &[SystemTable]) -> Result<Keyspace> {
    let mut tables = BTreeMap::new();
    for definition in definitions {
        let table = Table {
            schema: Arc::new(table_schema(name, definition)?),
            source: TableSource::Virtual(Arc::new(ComputedTable { rows: definition.rows })),
        };
        tables.insert(definition.name.to_owned(), Arc::new(table));
    }
    let class = "org.apache.cassandra.locator.LocalStrategy".to_owned();
    let schema = KeyspaceSchema {
        name: name.to_owned(),
        replication: BTreeMap::from([("class".to_owned(), class)]),
        durable_writes: true,
        tags: BTreeMap::new(),
        custom_properties: BTreeMap::new(),
        types: BTreeMap::new(),
    };
    Ok(Keyspace { schema: Arc::new(schema), tables, is_system: true })
}

fn table_schema(keyspace: &str, definition: &SystemTable) -> Result<TableSchema> {
    let mut columns = Vec::new();
    let (mut partition, mut clustering) = (0, 0);
    for (index, (name, place, ty)) in definition.columns.iter().enumerate() {
        let id = u32::try_from(index).map_err(|_| Error::Server("too many columns".into()))?;
        let kind = match place {
            Place::Partition => {
                partition += 1;
                ColumnKind::PartitionKey { position: partition - 1 }
            }
            Place::Clustering | Place::ClusteringDescending => {
                clustering += 1;
                let reversed = *place == Place::ClusteringDescending;
                ColumnKind::Clustering { position: clustering - 1, reversed }
            }
            Place::Regular => ColumnKind::Regular,
        };
        columns.push(Column { id: ColumnId(id), name: (*name).to_owned(), ty: ty.cql(), kind });
    }
    let next_column_id = columns.len().try_into().unwrap_or(u32::MAX);
    Ok(TableSchema {
        id: TableId::from(name_uuid(format!("{keyspace}.{}", definition.name).as_bytes())),
        keyspace: keyspace.to_owned(),
        name: definition.name.to_owned(),
        columns,
        options: TableOptions {
            comment: definition.comment.to_owned(),
            gc_grace_seconds: 0,
            ..TableOptions::default()
        },
        custom_properties: BTreeMap::new(),
        dropped_columns: Vec::new(),
        next_column_id,
        created_at_millis: 0,
    })
}
