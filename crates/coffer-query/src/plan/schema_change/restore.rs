//! RESTORE TABLE: what the statement asks for, and the table it makes.
//!
//! Columns, types and options are as of the time that is restored; capacity, point-in-time recovery
//! and the other custom properties as they are now, or were when the table was dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_crypto::KeyRecord;
use coffer_keys::{EncryptionSpecification, KeyArn};
use coffer_model::{KeyspaceSchema, TableSchema};
use coffer_storage::{Catalog, TableEntry};
use cql_parser::ast::{QualifiedName, RestoreTable};
use cql_types::{CqlType, UserType};

use super::tables::{apply_properties, check_name, exists_already};
use super::{Change, ChangeContext, event, keyspace_of, keyspaces, next};
use crate::custom_properties::{CustomProperties, SnapshotChoice, TAGS};
use crate::error::{Error, Result};
use crate::history;
use crate::table_options::{self, AUTOSCALING_SETTINGS, CUSTOM_PROPERTIES, no_duplicates};

/// The moment that is restored.
const RESTORE_TIMESTAMP: &str = "restore_timestamp";
const OPTIONS: [&str; 4] =
    [AUTOSCALING_SETTINGS, CUSTOM_PROPERTIES, RESTORE_TIMESTAMP, table_options::TAGS];

/// What the WITH of a RESTORE TABLE says.
#[derive(Debug)]
pub(crate) struct RestoreOptions {
    /// The moment, milliseconds since 1970; `None` for the newest state.
    pub at_millis: Option<i64>,
    /// Settings of the new table.
    pub properties: CustomProperties,
    /// A snapshot instead of a moment.
    pub snapshot: Option<SnapshotChoice>,
}

/// Reads the options.
///
/// # Errors
/// Syntax for unknown ones; Invalid for a moment that is none or has not come.
pub(crate) fn options(restore: &RestoreTable, now_millis: i64) -> Result<RestoreOptions> {
    no_duplicates(&restore.properties)?;
    let mut options =
        RestoreOptions { at_millis: None, properties: CustomProperties::default(), snapshot: None };
    for property in &restore.properties {
        match property.name.as_str() {
            RESTORE_TIMESTAMP => {
                let text = property.value.text().unwrap_or_default();
                options.at_millis = Some(moment(text, now_millis)?);
            }
            CUSTOM_PROPERTIES => options.properties = CustomProperties::parse(&property.value)?,
            name if OPTIONS.contains(&name) => {}
            unknown => {
                return Err(Error::Syntax(format!(
                    "Unknown property '{unknown}': RESTORE TABLE takes {}",
                    OPTIONS.join(", ")
                )));
            }
        }
    }
    options.snapshot = options.properties.snapshot.take();
    if options.snapshot.is_some() && options.at_millis.is_some() {
        return Err(Error::invalid(
            "custom property 'snapshot' names the state to restore: leave out restore_timestamp",
        ));
    }
    Ok(options)
}

fn moment(text: &str, now_millis: i64) -> Result<i64> {
    let millis = cql_types::time::parse_timestamp(text).map_err(|_| {
        Error::Invalid(format!(
            "{RESTORE_TIMESTAMP} must be an ISO 8601 time such as '2020-06-30T19:19:21.175Z' or \
             '2020-06-30T04:05:00+0000', got '{text}'"
        ))
    })?;
    if millis > now_millis {
        return Err(Error::Invalid(format!(
            "{RESTORE_TIMESTAMP} '{text}' has not come yet: it is {} now",
            cql_types::time::format_timestamp(now_millis)
        )));
    }
    Ok(millis)
}

/// Whether a table can be made under that name; its keyspace.
///
/// # Errors
/// As CREATE TABLE's.
pub(crate) fn check_target<'a>(
    catalog: &'a Catalog,
    name: &QualifiedName,
) -> Result<&'a Arc<KeyspaceSchema>> {
    let (keyspace, table) = (keyspace_of(name), name.name.as_str());
    let schema = catalog.keyspaces.get(keyspace).ok_or_else(|| keyspaces::missing(keyspace))?;
    if catalog.table(keyspace, table).is_some() {
        return Err(exists_already(keyspace, table));
    }
    check_name(keyspace, table)?;
    Ok(schema)
}

/// The key that a table is under which says nothing else.
///
/// # Errors
/// When its record names no ARN that can be read.
pub(crate) fn encryption_of(record: &KeyRecord) -> Result<EncryptionSpecification> {
    match &record.kms_key_arn {
        None => Ok(EncryptionSpecification::AwsOwned),
        Some(arn) => KeyArn::parse(arn)
            .map(EncryptionSpecification::CustomerManaged)
            .map_err(|error| Error::Invalid(error.to_string())),
    }
}

/// What a table is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The table as of the time that is restored.
    pub then: &'a TableSchema,
    /// The table as it is, or was when it was dropped.
    pub now: &'a TableSchema,
}

/// The catalog with the new table in it; nothing as long as there is no key for it.
///
/// # Errors
/// As [`check_target`]'s; Invalid for settings that are wrong, and for a type of the keyspace that is
/// another one than the table had.
pub(crate) fn apply(
    catalog: &Catalog,
    restore: &RestoreTable,
    options: &RestoreOptions,
    origin: Origin<'_>,
    context: &ChangeContext,
) -> Result<Change> {
    let present = check_target(catalog, &restore.name)?;
    let (table, types) = table(present, restore, options, origin, context)?;
    let Some(key) = &context.key else {
        return Ok(Change::Nothing);
    };
    let event = event("CREATED", "TABLE", &table.keyspace, &table.name);
    let mut next = next(catalog);
    if !types.is_empty() {
        let mut schema = KeyspaceSchema::clone(present);
        schema.types.extend(types);
        next.keyspaces.insert(schema.name.clone(), Arc::new(schema));
    }
    history::record(&mut next, "RESTORE", &table, key, context.now_millis);
    let entry = TableEntry::new(Arc::new(table), Arc::new(key.clone()));
    next.tables.insert(context.table_id, Arc::new(entry));
    Ok(Change::Next(next, event))
}

/// The new table, and the user types that its keyspace lacks for it.
fn table(
    keyspace: &KeyspaceSchema,
    restore: &RestoreTable,
    options: &RestoreOptions,
    origin: Origin<'_>,
    context: &ChangeContext,
) -> Result<(TableSchema, BTreeMap<String, Arc<UserType>>)> {
    let mut types = Types { keyspace, added: BTreeMap::new() };
    let mut table = TableSchema {
        id: context.table_id,
        keyspace: keyspace.name.clone(),
        name: restore.name.name.clone(),
        custom_properties: origin.now.custom_properties.clone(),
        created_at_millis: context.now_millis.try_into().unwrap_or(0),
        ..origin.then.clone()
    };
    for column in &mut table.columns {
        column.ty = types.settle(&column.ty)?;
    }
    // a change stream belongs to the table it was made for
    table.options.cdc = false;
    for name in [TAGS, "cdc_specification"] {
        table.custom_properties.remove(name);
    }
    match origin.then.custom_properties.get("ttl") {
        Some(ttl) => table.custom_properties.insert("ttl".to_owned(), ttl.clone()),
        None => table.custom_properties.remove("ttl"),
    };
    let others = restore.properties.iter().filter(|property| property.name != CUSTOM_PROPERTIES);
    apply_properties(&mut table, &others.cloned().collect::<Vec<_>>())?;
    options.properties.apply(&mut table)?;
    Ok((table, types.added))
}

/// The types of a keyspace while a table is put into it.
struct Types<'a> {
    keyspace: &'a KeyspaceSchema,
    added: BTreeMap<String, Arc<UserType>>,
}

impl Types<'_> {
    /// The type with the keyspace's own user types in it.
    fn settle(&mut self, ty: &CqlType) -> Result<CqlType> {
        Ok(match ty {
            CqlType::List(inner) => CqlType::List(self.inner(inner)?),
            CqlType::Set(inner) => CqlType::Set(self.inner(inner)?),
            CqlType::Frozen(inner) => CqlType::Frozen(self.inner(inner)?),
            CqlType::Vector(inner, dimension) => CqlType::Vector(self.inner(inner)?, *dimension),
            CqlType::Map(key, value) => CqlType::Map(self.inner(key)?, self.inner(value)?),
            CqlType::Tuple(fields) => CqlType::Tuple(
                fields.iter().map(|field| self.settle(field)).collect::<Result<_>>()?,
            ),
            CqlType::Udt(user_type) => CqlType::Udt(self.user_type(user_type)?),
            other => other.clone(),
        })
    }

    fn inner(&mut self, ty: &CqlType) -> Result<Arc<CqlType>> {
        self.settle(ty).map(Arc::new)
    }

    fn user_type(&mut self, wanted: &UserType) -> Result<Arc<UserType>> {
        let fields = wanted.fields.iter();
        let wanted = UserType {
            keyspace: self.keyspace.name.clone(),
            name: wanted.name.clone(),
            fields: fields
                .map(|(name, ty)| Ok((name.clone(), self.settle(ty)?)))
                .collect::<Result<_>>()?,
        };
        let name = &wanted.name;
        let present = self.keyspace.types.get(name).or_else(|| self.added.get(name));
        match present {
            // values of a type that got fields since are values of that type
            Some(present) if present.fields.starts_with(&wanted.fields) => Ok(Arc::clone(present)),
            Some(_) => Err(Error::Invalid(format!(
                "user type {}.{name} is not the one that the table had: rename it (CREATE TYPE \
                 under another name) or restore into another keyspace",
                self.keyspace.name
            ))),
            None => {
                let wanted = Arc::new(wanted);
                self.added.insert(wanted.name.clone(), Arc::clone(&wanted));
                Ok(wanted)
            }
        }
    }
}
