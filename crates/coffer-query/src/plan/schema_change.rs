//! Statements that change the schema, as functions from the catalog to the next catalog.

mod keyspaces;
pub(crate) mod restore;
mod tables;
mod types;

use std::sync::Arc;

use coffer_crypto::KeyRecord;
use coffer_model::{TableId, TableSchema};
use coffer_storage::Catalog;
use cql_parser::ast::{QualifiedName, StatementKind, TableChange};

use crate::custom_properties::CustomProperties;
use crate::database::Session;
use crate::error::{Error, Result};
use crate::execute::schema_change::SchemaChangeEvent;
use crate::schema::SCHEMA_REVISION;
use crate::system::is_system_keyspace;
use crate::table_options;

pub(crate) use tables::drop_entry;

/// Longest name of a keyspace, table or type, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 48;

/// What comes out of applying a statement to a catalog.
#[derive(Debug)]
pub(crate) enum Change {
    /// `IF [NOT] EXISTS` found nothing to do.
    Nothing,
    /// The next catalog, and what to tell clients.
    Next(Box<Catalog>, SchemaChangeEvent),
}

/// What a statement needs besides the catalog.
#[derive(Debug)]
pub(crate) struct ChangeContext {
    /// Milliseconds since 1970.
    pub now_millis: i64,
    /// Identity of a table that is created.
    pub table_id: TableId,
    /// Key record of a table that is created, or the new one of a table whose key is changed.
    pub key: Option<KeyRecord>,
}

/// Checks that the statement may be run at all and fills in the session's keyspace.
///
/// # Errors
/// Invalid without a keyspace; Unauthorized for system keyspaces.
pub(crate) fn with_keyspace(statement: &StatementKind, session: &Session) -> Result<StatementKind> {
    let mut statement = statement.clone();
    match &mut statement {
        StatementKind::CreateKeyspace(create) => {
            if is_system_keyspace(&create.name) {
                return Err(Error::Invalid(format!(
                    "System keyspace '{}' is not user-modifiable",
                    create.name
                )));
            }
        }
        StatementKind::AlterKeyspace(alter) => refuse_system(&alter.name)?,
        StatementKind::DropKeyspace { name, .. } => refuse_system(name)?,
        StatementKind::CreateTable(create) => qualify(&mut create.name, session)?,
        StatementKind::AlterTable(alter) => qualify(&mut alter.name, session)?,
        StatementKind::RestoreTable(restore) => {
            qualify(&mut restore.name, session)?;
            qualify(&mut restore.source, session)?;
        }
        StatementKind::CreateType(create) => qualify(&mut create.name, session)?,
        StatementKind::AlterType(alter) => qualify(&mut alter.name, session)?,
        StatementKind::DropTable { name, .. }
        | StatementKind::DropType { name, .. }
        | StatementKind::Truncate(name) => qualify(name, session)?,
        other => return Err(unsupported(other)),
    }
    Ok(statement)
}

fn qualify(name: &mut QualifiedName, session: &Session) -> Result<()> {
    let keyspace = match &name.keyspace {
        Some(keyspace) => keyspace.clone(),
        None => session.keyspace.as_deref().map(str::to_owned).ok_or_else(|| {
            Error::invalid(
                "No keyspace has been specified. USE a keyspace, or explicitly specify \
                 keyspace.tablename",
            )
        })?,
    };
    refuse_system(&keyspace)?;
    name.keyspace = Some(keyspace);
    Ok(())
}

fn refuse_system(keyspace: &str) -> Result<()> {
    if is_system_keyspace(keyspace) {
        return Err(Error::Unauthorized(format!("{keyspace} keyspace is not user-modifiable.")));
    }
    Ok(())
}

/// Names the feature of a statement that parses but is not executed by this version.
pub(crate) fn unsupported(statement: &StatementKind) -> Error {
    use StatementKind as Kind;
    let feature = match statement {
        Kind::CreateIndex(_) | Kind::DropIndex { .. } => "Secondary indexes are",
        Kind::CreateMaterializedView(_)
        | Kind::AlterMaterializedView { .. }
        | Kind::DropMaterializedView { .. } => "Materialized views are",
        Kind::CreateFunction(_) | Kind::DropFunction(_) => "User-defined functions are",
        Kind::CreateAggregate(_) | Kind::DropAggregate(_) => "User-defined aggregates are",
        Kind::CreateTrigger(_) | Kind::DropTrigger { .. } => "Triggers are",
        Kind::CreateTableLike(_) => "CREATE TABLE LIKE is",
        Kind::CreateRole(_)
        | Kind::AlterRole(_)
        | Kind::DropRole { .. }
        | Kind::GrantPermissions(_)
        | Kind::RevokePermissions(_)
        | Kind::GrantRole { .. }
        | Kind::RevokeRole { .. }
        | Kind::ListPermissions(_)
        | Kind::ListRoles { .. }
        | Kind::ListUsers
        | Kind::ListSuperUsers
        | Kind::AddIdentity { .. }
        | Kind::DropIdentity { .. } => "Roles and permissions are",
        _ => "This statement is",
    };
    Error::Invalid(format!("{feature} not supported by this version"))
}

/// Applies a statement that [`with_keyspace`] has completed.
///
/// # Errors
/// What is wrong with the statement against this catalog, in Cassandra's words and classes.
pub(crate) fn apply(
    catalog: &Catalog,
    statement: &StatementKind,
    context: &ChangeContext,
) -> Result<Change> {
    match statement {
        StatementKind::CreateKeyspace(create) => keyspaces::create(catalog, create),
        StatementKind::AlterKeyspace(alter) => keyspaces::alter(catalog, alter),
        StatementKind::DropKeyspace { name, if_exists } => {
            keyspaces::drop(catalog, name, *if_exists, context)
        }
        StatementKind::CreateTable(create) => tables::create(catalog, create, context),
        StatementKind::AlterTable(alter) => tables::alter(catalog, alter, context),
        StatementKind::DropTable { name, if_exists } => {
            tables::drop(catalog, name, *if_exists, context)
        }
        StatementKind::CreateType(create) => types::create(catalog, create),
        StatementKind::AlterType(alter) => types::alter(catalog, alter),
        StatementKind::DropType { name, if_exists } => types::drop(catalog, name, *if_exists),
        other => Err(unsupported(other)),
    }
}

/// Custom properties a CREATE TABLE, ALTER TABLE or RESTORE TABLE carries.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn custom_properties(statement: &StatementKind) -> Result<CustomProperties> {
    let properties = match statement {
        StatementKind::CreateTable(create) => &create.properties,
        StatementKind::RestoreTable(restore) => &restore.properties,
        StatementKind::AlterTable(alter) => match &alter.change {
            TableChange::Properties(properties) => properties,
            _ => return Ok(CustomProperties::default()),
        },
        _ => return Ok(CustomProperties::default()),
    };
    let given =
        properties.iter().find(|property| property.name == table_options::CUSTOM_PROPERTIES);
    given.map_or_else(
        || Ok(CustomProperties::default()),
        |given| CustomProperties::parse(&given.value),
    )
}

/// The catalog with the schema's revision counted up.
fn next(catalog: &Catalog) -> Box<Catalog> {
    let mut next = Box::new(catalog.clone());
    let revision =
        catalog.properties.get(SCHEMA_REVISION).and_then(|text| text.parse::<u64>().ok());
    let revision = revision.unwrap_or(0).saturating_add(1);
    Arc::make_mut(&mut next.properties).insert(SCHEMA_REVISION.to_owned(), revision.to_string());
    next
}

fn event(
    change: &'static str,
    target: &'static str,
    keyspace: &str,
    name: &str,
) -> SchemaChangeEvent {
    SchemaChangeEvent { change, target, keyspace: keyspace.to_owned(), name: name.to_owned() }
}

/// Keyspace of a name that [`with_keyspace`] has completed.
fn keyspace_of(name: &QualifiedName) -> &str {
    name.keyspace.as_deref().unwrap_or_default()
}

/// Puts a changed table in place of the one there was.
fn replace_table(catalog: &mut Catalog, table: TableSchema, key: Option<KeyRecord>) {
    if let Some(entry) = catalog.tables.get_mut(&table.id) {
        let entry = Arc::make_mut(entry);
        entry.schema = Arc::new(table);
        if let Some(key) = key {
            entry.key = Arc::new(key);
        }
    }
}
