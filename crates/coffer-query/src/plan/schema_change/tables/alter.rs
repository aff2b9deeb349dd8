//! ALTER TABLE.

use std::collections::BTreeMap;

use coffer_model::schema::DroppedColumn;
use coffer_model::{Column, ColumnId, ColumnKind, TableSchema, WriteTimestamp};
use coffer_storage::Catalog;
use cql_parser::ast::{AlterTable, ColumnDefinition, Property, TableChange};
use cql_types::{CqlType, UserType};
use std::sync::Arc;

use super::super::{Change, ChangeContext, event, keyspace_of, next, replace_table};
use super::create::{apply_properties, column_type, refuse_mask, static_without_clustering};
use super::missing;
use crate::custom_properties::{TAGS, add_tags, tags};
use crate::error::{Error, Result};
use crate::plan::type_name::TypeResolver;
use crate::{history, table_options};

pub(in super::super) fn alter(
    catalog: &Catalog,
    alter: &AlterTable,
    context: &ChangeContext,
) -> Result<Change> {
    let (keyspace, name) = (keyspace_of(&alter.name), alter.name.name.as_str());
    let Some(entry) = catalog.table(keyspace, name) else {
        return if alter.if_exists { Ok(Change::Nothing) } else { Err(missing(keyspace, name)) };
    };
    let no_types = BTreeMap::new();
    let types = catalog.keyspaces.get(keyspace).map_or(&no_types, |keyspace| &keyspace.types);
    let mut table = TableSchema::clone(&entry.schema);
    change(&mut table, &alter.change, types, context)?;
    if table == *entry.schema && context.key.is_none() {
        return Ok(Change::Nothing);
    }
    let mut next = next(catalog);
    let key = context.key.as_ref().unwrap_or(&entry.key);
    history::record(&mut next, "ALTER", &table, key, context.now_millis);
    replace_table(&mut next, table, context.key.clone());
    Ok(Change::Next(next, event("UPDATED", "TABLE", keyspace, name)))
}

fn change(
    table: &mut TableSchema,
    change: &TableChange,
    types: &BTreeMap<String, Arc<UserType>>,
    context: &ChangeContext,
) -> Result<()> {
    match change {
        TableChange::AlterType { .. } => {
            Err(Error::invalid("Altering column types is no longer supported"))
        }
        TableChange::AlterMask { .. } => {
            Err(Error::invalid("Dynamic data masking is not supported by this version"))
        }
        TableChange::AddColumns { if_not_exists, columns } => columns
            .iter()
            .try_for_each(|definition| add_column(table, definition, *if_not_exists, types)),
        TableChange::DropColumns { if_exists, columns, timestamp } => {
            let dropped_at = match timestamp {
                Some(text) => {
                    text.parse().map_err(|_| Error::Syntax(format!("Invalid timestamp {text}")))?
                }
                None => context.now_millis.saturating_mul(1000),
            };
            columns.iter().try_for_each(|column| drop_column(table, column, *if_exists, dropped_at))
        }
        TableChange::RenameColumns { renames, .. } => {
            renames.iter().try_for_each(|(from, to)| rename_column(table, from, to))
        }
        TableChange::DropCompactStorage => {
            Err(Error::invalid("Cannot DROP COMPACT STORAGE on table without COMPACT STORAGE"))
        }
        TableChange::Properties(properties) => alter_properties(table, properties),
        TableChange::AddTags(value) => {
            add_tags(table.custom_properties.entry(TAGS.to_owned()).or_default(), tags(value)?)
        }
        TableChange::DropTags(value) => {
            let dropped = tags(value)?;
            if let Some(present) = table.custom_properties.get_mut(TAGS) {
                present.retain(|name, _| !dropped.contains_key(name));
            }
            Ok(())
        }
    }
}

fn alter_properties(table: &mut TableSchema, properties: &[Property]) -> Result<()> {
    if properties.iter().any(|property| property.name == table_options::ID) {
        return Err(Error::Configuration("Cannot alter table id.".into()));
    }
    let options = table_options::apply(&table.options, properties)?;
    table_options::validate(&options)?;
    table.options = options;
    apply_properties(table, properties)
}

fn add_column(
    table: &mut TableSchema,
    definition: &ColumnDefinition,
    if_not_exists: bool,
    types: &BTreeMap<String, Arc<UserType>>,
) -> Result<()> {
    let name = &definition.name;
    refuse_mask(definition)?;
    let keyspace = table.keyspace.clone();
    let ty = column_type(&TypeResolver { keyspace: &keyspace, types }, definition)?;
    if table.column(name).is_some() {
        if if_not_exists {
            return Ok(());
        }
        return Err(Error::Invalid(format!("Column with name '{name}' already exists")));
    }
    if ty == CqlType::Counter {
        return Err(Error::Configuration(format!(
            "{keyspace}.{}: Cannot have a counter column (\"{name}\") in a non counter table",
            table.name
        )));
    }
    if definition.is_static && table.clustering().is_empty() {
        return Err(static_without_clustering());
    }
    let kind = if definition.is_static { ColumnKind::Static } else { ColumnKind::Regular };
    check_dropped(table, name, &ty, kind)?;
    let id = ColumnId(table.next_column_id);
    table.next_column_id = table
        .next_column_id
        .checked_add(1)
        .ok_or_else(|| Error::invalid("the table had too many columns"))?;
    table.columns.push(Column { id, name: name.clone(), ty, kind });
    Ok(())
}

/// Old clients may still send values of the type and kind the name once had.
fn check_dropped(table: &TableSchema, name: &str, ty: &CqlType, kind: ColumnKind) -> Result<()> {
    let Some(dropped) = table.dropped_columns.iter().rev().find(|column| column.name == name)
    else {
        return Ok(());
    };
    if *ty != dropped.ty {
        return Err(Error::Invalid(format!(
            "Cannot re-add previously dropped column '{name}' of type {ty}, incompatible with \
             previous type {}",
            dropped.ty
        )));
    }
    if dropped.kind != kind {
        let word = |kind| {
            if kind == ColumnKind::Static { "STATIC" } else { "REGULAR" }
        };
        return Err(Error::Invalid(format!(
            "Cannot re-add previously dropped column '{name}' of kind {}, incompatible with \
             previous kind {}",
            word(kind),
            word(dropped.kind)
        )));
    }
    Ok(())
}

fn drop_column(
    table: &mut TableSchema,
    name: &str,
    if_exists: bool,
    dropped_at: i64,
) -> Result<()> {
    let Some(index) = table.columns.iter().position(|column| column.name == name) else {
        if if_exists {
            return Ok(());
        }
        return Err(Error::Invalid(format!(
            "Column {name} was not found in table '{}.{}'",
            table.keyspace, table.name
        )));
    };
    let column = table.columns.remove(index);
    if column.kind.is_primary_key() {
        return Err(Error::Invalid(format!("Cannot drop PRIMARY KEY column {name}")));
    }
    if let CqlType::Udt(user_type) = &column.ty {
        return Err(Error::Invalid(format!(
            "Cannot drop non-frozen column {name} of user type {}",
            user_type.name
        )));
    }
    table.dropped_columns.push(DroppedColumn {
        id: column.id,
        name: column.name,
        ty: without_user_types(&column.ty),
        kind: column.kind,
        dropped_at: WriteTimestamp(dropped_at),
    });
    Ok(())
}

/// A dropped column outlives the user types in its type, so they become tuples.
fn without_user_types(ty: &CqlType) -> CqlType {
    let inner = |ty: &CqlType| Arc::new(without_user_types(ty));
    match ty {
        CqlType::List(element) => CqlType::List(inner(element)),
        CqlType::Set(element) => CqlType::Set(inner(element)),
        CqlType::Frozen(frozen) => CqlType::Frozen(inner(frozen)),
        CqlType::Map(key, value) => CqlType::Map(inner(key), inner(value)),
        CqlType::Tuple(fields) => CqlType::Tuple(fields.iter().map(without_user_types).collect()),
        CqlType::Udt(user_type) => CqlType::Tuple(
            user_type.fields.iter().map(|(_, field)| without_user_types(field)).collect(),
        ),
        other => other.clone(),
    }
}

fn rename_column(table: &mut TableSchema, from: &str, to: &str) -> Result<()> {
    let full_name = format!("{}.{}", table.keyspace, table.name);
    let Some(column) = table.column(from) else {
        return Err(Error::Invalid(format!("Undefined column name {from} in table {full_name}")));
    };
    if !column.kind.is_primary_key() {
        return Err(Error::Invalid(format!("Cannot rename non PRIMARY KEY column {from}")));
    }
    if table.column(to).is_some() {
        return Err(Error::Invalid(format!(
            "Cannot rename column {from} to {to} in table '{full_name}'; another column with that \
             name already exists"
        )));
    }
    if let Some(column) = table.columns.iter_mut().find(|column| column.name == from) {
        to.clone_into(&mut column.name);
    }
    Ok(())
}
