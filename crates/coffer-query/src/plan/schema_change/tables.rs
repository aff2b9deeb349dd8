//! CREATE, ALTER and DROP TABLE.

mod alter;
mod create;

use coffer_storage::Catalog;
use cql_parser::ast::QualifiedName;

pub(super) use alter::alter;
pub(super) use create::{apply_properties, check_name, create, exists_already};

use super::{Change, ChangeContext, event, keyspace_of, next};
use crate::error::{Error, Result};
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
    let mut next = next(catalog);
    history::record(&mut next, "DROP", &entry.schema, &entry.key, context.now_millis);
    next.tables.remove(&entry.schema.id);
    Ok(Change::Next(next, event("DROPPED", "TABLE", keyspace, &name.name)))
}

fn missing(keyspace: &str, table: &str) -> Error {
    Error::Invalid(format!("Table '{keyspace}.{table}' doesn't exist"))
}
