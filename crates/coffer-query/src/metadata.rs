//! Names and types of bind markers and of result columns.

use std::sync::Arc;

use cql_types::CqlType;

/// One bind marker or one result column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Keyspace of the table.
    pub keyspace: Arc<str>,
    /// Table.
    pub table: Arc<str>,
    /// Name of the column as Cassandra gives it: a column, an alias, `system.now()`, `[limit]`.
    pub name: Arc<str>,
    /// Type of the value.
    pub ty: CqlType,
}

/// What the rows of a result look like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultMetadata {
    /// Columns in the order of the cells.
    pub columns: Vec<ColumnSpec>,
}

impl ResultMetadata {
    /// Whether all columns are of one table, so that its name can be sent once.
    pub fn has_global_table(&self) -> bool {
        is_one_table(&self.columns)
    }
}

/// What the bind markers of a prepared statement look like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BindMetadata {
    /// Markers in the order of the values.
    pub columns: Vec<ColumnSpec>,
    /// Which marker holds each component of the partition key, in key order; empty when the
    /// markers do not give the whole key.
    pub partition_key_indexes: Vec<u16>,
}

impl BindMetadata {
    /// Whether all markers are of one table, so that its name can be sent once.
    pub fn has_global_table(&self) -> bool {
        is_one_table(&self.columns)
    }
}

fn is_one_table(columns: &[ColumnSpec]) -> bool {
    columns.first().is_some_and(|first| {
        columns
            .iter()
            .all(|column| column.keyspace == first.keyspace && column.table == first.table)
    })
}
