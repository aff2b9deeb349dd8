//! The schema as statements see it: keyspaces, tables with resolved types, where rows come from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use coffer_model::{KeyspaceSchema, TableId, TableSchema};
use coffer_storage::Catalog;
use uuid::Uuid;

use crate::digest::name_uuid;
use crate::error::Result;
use crate::table_source::TableSource;

/// Property of the catalog that counts changes of the schema.
pub(crate) const SCHEMA_REVISION: &str = "schema_revision";

/// A table as plans hold it. A schema change that does not touch the table keeps the same `Arc`,
/// so that statements prepared for it stay valid.
#[derive(Debug)]
pub struct Table {
    /// Columns and options.
    pub schema: Arc<TableSchema>,
    /// Where its rows are.
    pub source: TableSource,
}

/// A keyspace with its tables and types.
#[derive(Debug)]
pub struct Keyspace {
    /// Replication, types.
    pub schema: Arc<KeyspaceSchema>,
    /// Tables by name.
    pub tables: BTreeMap<String, Arc<Table>>,
    /// Whether the server computes its tables.
    pub is_system: bool,
}

/// All keyspaces, immutable; a change makes a new one.
#[derive(Debug, Default)]
pub struct Schema {
    /// Keyspaces by name, system keyspaces included.
    pub keyspaces: BTreeMap<String, Arc<Keyspace>>,
    /// Version that all nodes with this schema show; the same after a restart.
    pub version: Uuid,
    tables: HashMap<TableId, Arc<Table>>,
}

impl Schema {
    /// From the persisted catalog, with the system keyspaces added.
    ///
    /// # Errors
    /// When a system table is defined wrongly.
    pub fn load(catalog: &Catalog) -> Result<Schema> {
        Self::load_after(catalog, &Schema::default())
    }

    /// As [`Schema::load`], keeping the `Arc` of every table of `previous` that did not change.
    ///
    /// # Errors
    /// As [`Schema::load`].
    pub fn load_after(catalog: &Catalog, previous: &Schema) -> Result<Schema> {
        let mut keyspaces = system_keyspaces(previous)?;
        let mut tables: HashMap<_, _> = keyspaces
            .values()
            .flat_map(|keyspace| keyspace.tables.values())
            .map(|table| (table.schema.id, Arc::clone(table)))
            .collect();
        let mut tables_of: HashMap<&str, BTreeMap<String, Arc<Table>>> = HashMap::new();
        for (id, entry) in &catalog.tables {
            let kept =
                previous.table_by_id(*id).filter(|table| Arc::ptr_eq(&table.schema, &entry.schema));
            let table = kept.map_or_else(
                || {
                    Arc::new(Table {
                        schema: Arc::clone(&entry.schema),
                        source: TableSource::Stored,
                    })
                },
                Arc::clone,
            );
            tables.insert(*id, Arc::clone(&table));
            tables_of
                .entry(&entry.schema.keyspace)
                .or_default()
                .insert(entry.schema.name.clone(), table);
        }
        for (name, keyspace) in &catalog.keyspaces {
            let keyspace = Keyspace {
                schema: Arc::clone(keyspace),
                tables: tables_of.remove(name.as_str()).unwrap_or_default(),
                is_system: false,
            };
            keyspaces.insert(name.clone(), Arc::new(keyspace));
        }
        Ok(Schema { keyspaces, version: schema_version(catalog), tables })
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

/// The keyspaces of the server itself; they never change while it runs.
fn system_keyspaces(previous: &Schema) -> Result<BTreeMap<String, Arc<Keyspace>>> {
    let kept: BTreeMap<_, _> = previous
        .keyspaces
        .iter()
        .filter(|(_, keyspace)| keyspace.is_system)
        .map(|(name, keyspace)| (name.clone(), Arc::clone(keyspace)))
        .collect();
    if kept.is_empty() { crate::system::keyspaces() } else { Ok(kept) }
}

fn schema_version(catalog: &Catalog) -> Uuid {
    let revision = catalog.properties.get(SCHEMA_REVISION).map_or("0", String::as_str);
    let mut seed = catalog.cluster_id.0.to_vec();
    seed.extend_from_slice(revision.as_bytes());
    name_uuid(&seed)
}
