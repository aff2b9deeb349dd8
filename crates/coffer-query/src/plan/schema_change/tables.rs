//! CREATE, ALTER and DROP TABLE.

mod alter;
mod create;

use coffer_storage::{Catalog, TableEntry};
use cql_parser::ast::QualifiedName;

pub(super) use alter::alter;
pub(super) use create::{apply_properties, check_name, create, exists_already};

use super::{Change, ChangeContext, event, keyspace_of, next};
use crate::error::{Error, Result};
use crate::execute::schema_change::SchemaChangeEvent;
use crate::history;

pub(super) fn drop(
    catalog: &Catalog,
    name: &QualifiedName,
    if_exists: bool,
    context: &ChangeContext,
) -> Result<Change> {
    let keyspace = keyspace_of(name);
    let Some(entry) = catalog.table(keyspace, &name.name) else {
        return if if_exists { Ok(Change::Nothing) } else { Err(missing(keyspace, &name.name)) };
    };
    let (next, event) = drop_entry(catalog, entry, context.now_millis);
    Ok(Change::Next(next, event))
}

/// The catalog without a table, whoever drops it.
pub(crate) fn drop_entry(
    catalog: &Catalog,
    entry: &TableEntry,
    now_millis: i64,
) -> (Box<Catalog>, SchemaChangeEvent) {
    let schema = &entry.schema;
    let mut next = next(catalog);
    history::record(&mut next, "DROP", schema, &entry.key, now_millis);
    next.tables.remove(&schema.id);
    (next, event("DROPPED", "TABLE", &schema.keyspace, &schema.name))
}

fn missing(keyspace: &str, table: &str) -> Error {
    Error::Invalid(format!("Table '{keyspace}.{table}' doesn't exist"))
}
