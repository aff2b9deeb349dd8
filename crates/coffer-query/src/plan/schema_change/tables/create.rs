//! CREATE TABLE.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{Column, ColumnId, ColumnKind, TableOptions, TableSchema};
use coffer_storage::{Catalog, TableEntry};
use cql_parser::ast::{ColumnDefinition, CreateTable, PrimaryKey, Property};
use cql_types::CqlType;

use super::super::keyspaces;
use super::super::{Change, ChangeContext, NAME_BYTES_MAX, event, keyspace_of, next};
use crate::custom_properties::{self, AUTOSCALING, CustomProperties};
use crate::error::{Error, Result};
use crate::plan::type_name::{TypeResolver, mentions_duration};
use crate::{history, table_options};

/// Columns of one table.
const COLUMNS_MAX: usize = 4096;

pub(in super::super) fn create(
    catalog: &Catalog,
    create: &CreateTable,
    context: &ChangeContext,
) -> Result<Change> {
    let (keyspace, name) = (keyspace_of(&create.name), create.name.name.as_str());
    let options = table_options::apply(&TableOptions::default(), &create.properties)?;
    let keyspace_schema =
        catalog.keyspaces.get(keyspace).ok_or_else(|| keyspaces::missing(keyspace))?;
    if catalog.table(keyspace, name).is_some() {
        if create.if_not_exists {
            return Ok(Change::Nothing);
        }
        return Err(exists_already(keyspace, name));
    }
    check_name(keyspace, name)?;
    if create.properties.iter().any(|property| property.name == table_options::ID) {
        return Err(Error::Configuration("The id of a table cannot be chosen.".into()));
    }
    if create.compact_storage {
        return Err(Error::invalid("COMPACT STORAGE is not supported by this version"));
    }
    let resolver = TypeResolver { keyspace, types: &keyspace_schema.types };
    let columns = columns(create, &resolver)?;
    table_options::validate(&options)?;
    let mut table = TableSchema {
        id: context.table_id,
        keyspace: keyspace.to_owned(),
        name: name.to_owned(),
        next_column_id: columns.len().try_into().unwrap_or(u32::MAX),
        columns,
        options,
        custom_properties: BTreeMap::new(),
        dropped_columns: Vec::new(),
        created_at_millis: context.now_millis.try_into().unwrap_or(0),
    };
    apply_properties(&mut table, &create.properties)?;
    let Some(key) = &context.key else {
        // the statement is right; the caller asks again with the key of the table
        return Ok(Change::Nothing);
    };
    let mut next = next(catalog);
    history::record(&mut next, "CREATE", &table, key, context.now_millis);
    let entry = TableEntry::new(Arc::new(table), Arc::new(key.clone()));
    next.tables.insert(context.table_id, Arc::new(entry));
    Ok(Change::Next(next, event("CREATED", "TABLE", keyspace, name)))
}

pub(in super::super) fn exists_already(keyspace: &str, name: &str) -> Error {
    Error::AlreadyExists {
        keyspace: keyspace.to_owned(),
        table: name.to_owned(),
        message: format!("Cannot add already existing table \"{name}\" to keyspace \"{keyspace}\""),
    }
}

/// Custom properties, tags and autoscaling settings.
pub(in super::super) fn apply_properties(
    table: &mut TableSchema,
    properties: &[Property],
) -> Result<()> {
    for property in properties {
        match property.name.as_str() {
            table_options::CUSTOM_PROPERTIES => {
                CustomProperties::parse(&property.value)?.apply(table)?;
            }
            table_options::TAGS => {
                let tags = custom_properties::tags(&property.value)?;
                table.custom_properties.insert(custom_properties::TAGS.to_owned(), tags);
            }
            table_options::AUTOSCALING_SETTINGS => {
                let settings = custom_properties::autoscaling(&property.value)?;
                table.custom_properties.insert(AUTOSCALING.to_owned(), settings);
            }
            _ => {}
        }
    }
    Ok(())
}

pub(in super::super) fn check_name(keyspace: &str, name: &str) -> Result<()> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Error::Configuration(format!(
            "{keyspace}.{name}: Table name must not be empty or not contain \
             non-alphanumeric-underscore characters (got \"{name}\")"
        )));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::Configuration(format!(
            "{keyspace}.{name}: Table name must not be more than {NAME_BYTES_MAX} characters long \
             (got {} characters for \"{name}\")",
            name.len()
        )));
    }
    Ok(())
}

fn columns(create: &CreateTable, resolver: &TypeResolver<'_>) -> Result<Vec<Column>> {
    let full_name = format!("{}.{}", resolver.keyspace, create.name.name);
    if create.columns.len() > COLUMNS_MAX {
        return Err(Error::Invalid(format!("a table has at most {COLUMNS_MAX} columns")));
    }
    let mut types: BTreeMap<&str, CqlType> = BTreeMap::new();
    for definition in &create.columns {
        refuse_mask(definition)?;
        let ty = column_type(resolver, definition)?;
        if types.insert(&definition.name, ty).is_some() {
            return Err(Error::Invalid(format!(
                "Duplicate column '{}' declaration for table '{full_name}'",
                definition.name
            )));
        }
    }
    let key = primary_key(create, &full_name)?;
    check_key(create, key, &types)?;
    check_others(create, key, &types)?;
    let order = clustering_order(create, key, &full_name)?;
    let mut columns = Vec::with_capacity(create.columns.len());
    for definition in &create.columns {
        let name = definition.name.as_str();
        let kind = if let Some(position) = position(&key.partition_key, name) {
            ColumnKind::PartitionKey { position }
        } else if let Some(position) = position(&key.clustering, name) {
            let reversed = order.get(name).copied().unwrap_or(false);
            ColumnKind::Clustering { position, reversed }
        } else if definition.is_static {
            ColumnKind::Static
        } else {
            ColumnKind::Regular
        };
        let id = ColumnId(columns.len().try_into().unwrap_or(u32::MAX));
        let ty = types.remove(name).unwrap_or(CqlType::Blob);
        columns.push(Column { id, name: name.to_owned(), ty, kind });
    }
    Ok(columns)
}

pub(super) fn refuse_mask(definition: &ColumnDefinition) -> Result<()> {
    if definition.mask.is_some() {
        return Err(Error::invalid("Dynamic data masking is not supported by this version"));
    }
    Ok(())
}

/// The type of a column, with the rules for columns of user types.
pub(super) fn column_type(
    resolver: &TypeResolver<'_>,
    definition: &ColumnDefinition,
) -> Result<CqlType> {
    let ty = resolver.resolve(&definition.ty)?;
    if let CqlType::Udt(user_type) = &ty
        && user_type.fields.iter().any(|(_, field)| field.is_multi_cell())
    {
        return Err(Error::invalid(
            "Non-frozen UDTs with nested non-frozen collections are not supported",
        ));
    }
    Ok(ty)
}

fn position(names: &[String], name: &str) -> Option<u16> {
    names.iter().position(|other| other == name)?.try_into().ok()
}

fn primary_key<'a>(create: &'a CreateTable, full_name: &str) -> Result<&'a PrimaryKey> {
    match create.primary_keys.as_slice() {
        [key] => Ok(key),
        [] => Err(Error::Invalid(format!(
            "No PRIMARY KEY specifed for table '{full_name}' (exactly one required)"
        ))),
        _ => Err(Error::Invalid(format!(
            "Multiple PRIMARY KEY specified for table '{full_name}' (exactly one required)"
        ))),
    }
}

fn check_key(
    create: &CreateTable,
    key: &PrimaryKey,
    types: &BTreeMap<&str, CqlType>,
) -> Result<()> {
    let names: Vec<&String> = key.partition_key.iter().chain(&key.clustering).collect();
    for (index, name) in names.iter().enumerate() {
        let Some(ty) = types.get(name.as_str()) else {
            return Err(Error::Invalid(format!(
                "Unknown column '{name}' referenced in PRIMARY KEY for table '{}'",
                create.name.name
            )));
        };
        if names.iter().skip(index + 1).any(|other| other == name) {
            return Err(Error::Invalid(format!(
                "Duplicate column '{name}' in PRIMARY KEY clause for table '{}'",
                create.name.name
            )));
        }
        check_key_type(name, ty)?;
        let is_static =
            create.columns.iter().any(|column| column.name == **name && column.is_static);
        if is_static {
            return Err(Error::Invalid(format!(
                "Static column '{name}' cannot be part of the PRIMARY KEY"
            )));
        }
    }
    Ok(())
}

fn check_key_type(name: &str, ty: &CqlType) -> Result<()> {
    let message = match ty {
        CqlType::Counter => {
            format!("counter type is not supported for PRIMARY KEY column '{name}'")
        }
        CqlType::Udt(user_type) => format!(
            "Invalid non-frozen user-defined type \"{}.{}\" for PRIMARY KEY column '{name}'",
            user_type.keyspace, user_type.name
        ),
        ty if ty.is_multi_cell() => {
            format!("Invalid non-frozen collection type {ty} for PRIMARY KEY column '{name}'")
        }
        ty if mentions_duration(ty) => {
            format!("duration type is not supported for PRIMARY KEY column '{name}'")
        }
        _ => return Ok(()),
    };
    Err(Error::Invalid(message))
}

fn check_others(
    create: &CreateTable,
    key: &PrimaryKey,
    types: &BTreeMap<&str, CqlType>,
) -> Result<()> {
    if key.clustering.is_empty() && create.columns.iter().any(|column| column.is_static) {
        return Err(static_without_clustering());
    }
    let is_key = |name: &str| {
        key.partition_key.iter().chain(&key.clustering).any(|key| key.as_str() == name)
    };
    let others = || types.iter().filter(|(name, _)| !is_key(name));
    let counters = others().filter(|(_, ty)| **ty == CqlType::Counter).count();
    if counters > 0 && counters < others().count() {
        return Err(Error::invalid("Cannot mix counter and non counter columns in the same table"));
    }
    if counters > 0 {
        return Err(Error::invalid("Counter tables are not supported by this version"));
    }
    Ok(())
}

pub(super) fn static_without_clustering() -> Error {
    Error::invalid(
        "Static columns are only useful (and thus allowed) if the table has at least one \
         clustering column",
    )
}

/// Whether each clustering column is descending.
fn clustering_order<'a>(
    create: &'a CreateTable,
    key: &PrimaryKey,
    full_name: &str,
) -> Result<BTreeMap<&'a str, bool>> {
    let order = &create.clustering_order;
    let mut descending = BTreeMap::new();
    for (name, is_descending) in order {
        if descending.insert(name.as_str(), *is_descending).is_some() {
            return Err(Error::Invalid(format!(
                "Duplicate column '{name}' in CLUSTERING ORDER BY clause for table '{full_name}'"
            )));
        }
    }
    let strangers: Vec<&str> = order
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !key.clustering.iter().any(|column| column == name))
        .collect();
    if !strangers.is_empty() {
        return Err(Error::Invalid(format!(
            "Only clustering key columns can be defined in CLUSTERING ORDER directive: [{}] are \
             not clustering columns",
            strangers.join(", ")
        )));
    }
    for (column, (name, _)) in key.clustering.iter().zip(order) {
        if !descending.contains_key(column.as_str()) {
            return Err(Error::Invalid(format!("Missing CLUSTERING ORDER for column {column}")));
        }
        if column != name {
            return Err(Error::Invalid(format!(
                "The order of columns in the CLUSTERING ORDER directive must match that of the \
                 clustering columns ({column} must appear before {name})"
            )));
        }
    }
    Ok(descending)
}
