//! CREATE, ALTER and DROP TYPE.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{KeyspaceSchema, TableSchema};
use coffer_storage::Catalog;
use cql_parser::ast::{AlterType, CreateType, QualifiedName, TypeChange, TypeName};
use cql_types::{CqlType, UserType};

use super::{Change, event, keyspace_of, keyspaces, next, replace_table};
use crate::error::{Error, Result};
use crate::plan::type_name::{TypeResolver, user_type_with, with_user_type};

/// Fields of one type; a field is addressed by 16 bits.
const FIELDS_MAX: usize = 1024;
/// Names that were kept for types of the future.
const RESERVED: [&str; 6] = ["byte", "complex", "enum", "date", "interval", "macaddr"];

pub(super) fn create(catalog: &Catalog, create: &CreateType) -> Result<Change> {
    let (keyspace, name) = (keyspace_of(&create.name), create.name.name.as_str());
    if RESERVED.contains(&name) {
        return Err(Error::Syntax(format!("Invalid (reserved) user type name {name}")));
    }
    let present = catalog.keyspaces.get(keyspace).ok_or_else(|| keyspaces::missing(keyspace))?;
    if present.types.contains_key(name) {
        if create.if_not_exists {
            return Ok(Change::Nothing);
        }
        return Err(Error::Invalid(format!("A user type with name '{name}' already exists")));
    }
    for (index, (field, _)) in create.fields.iter().enumerate() {
        if create.fields.iter().skip(index + 1).any(|(other, _)| other == field) {
            return Err(Error::Invalid(format!("Duplicate field name '{field}' in type '{name}'")));
        }
    }
    if create.fields.len() > FIELDS_MAX {
        return Err(Error::Invalid(format!("a user type has at most {FIELDS_MAX} fields")));
    }
    let resolver = TypeResolver { keyspace, types: &present.types };
    let fields = create
        .fields
        .iter()
        .map(|(field, ty)| Ok((field.clone(), field_type(&resolver, ty)?)))
        .collect::<Result<Vec<_>>>()?;
    let user_type = UserType { keyspace: keyspace.to_owned(), name: name.to_owned(), fields };
    let mut schema = KeyspaceSchema::clone(present);
    schema.types.insert(name.to_owned(), Arc::new(user_type));
    let mut next = next(catalog);
    next.keyspaces.insert(keyspace.to_owned(), Arc::new(schema));
    Ok(Change::Next(next, event("CREATED", "TYPE", keyspace, name)))
}

fn field_type(resolver: &TypeResolver<'_>, ty: &TypeName) -> Result<CqlType> {
    match ty {
        TypeName::Native(cql_parser::ast::NativeType::Counter) => {
            Err(Error::invalid("A user type cannot contain counters"))
        }
        TypeName::UserType(_) => Err(Error::invalid("A user type cannot contain non-frozen UDTs")),
        other => resolver.resolve(other),
    }
}

fn missing(keyspace: &str, name: &str) -> Error {
    Error::Invalid(format!("Type {keyspace}.{name} doesn't exist"))
}

pub(super) fn alter(catalog: &Catalog, alter: &AlterType) -> Result<Change> {
    let (keyspace, name) = (keyspace_of(&alter.name), alter.name.name.as_str());
    let present = catalog.keyspaces.get(keyspace);
    let Some((present, user_type)) =
        present.and_then(|present| Some((present, present.types.get(name)?)))
    else {
        return if alter.if_exists { Ok(Change::Nothing) } else { Err(missing(keyspace, name)) };
    };
    let mut changed = UserType::clone(user_type);
    let is_changed = match &alter.change {
        TypeChange::AlterField { .. } => {
            return Err(Error::invalid("Altering field types is no longer supported"));
        }
        TypeChange::AddField { if_not_exists, field, ty } => {
            let resolver = TypeResolver { keyspace, types: &present.types };
            add_field(&mut changed, field, ty, *if_not_exists, &resolver)?
        }
        TypeChange::RenameFields { if_exists, renames } => {
            rename_fields(&mut changed, renames, *if_exists)?
        }
    };
    if !is_changed {
        return Ok(Change::Nothing);
    }
    let next = publish(catalog, present, changed);
    Ok(Change::Next(next, event("UPDATED", "TYPE", keyspace, name)))
}

fn add_field(
    user_type: &mut UserType,
    field: &str,
    ty: &TypeName,
    if_not_exists: bool,
    resolver: &TypeResolver<'_>,
) -> Result<bool> {
    let (keyspace, name) = (user_type.keyspace.clone(), user_type.name.clone());
    if user_type.fields.iter().any(|(other, _)| other == field) {
        if if_not_exists {
            return Ok(false);
        }
        return Err(Error::Invalid(format!(
            "Cannot add field {field} to type {keyspace}.{name}: a field with name {field} already \
             exists"
        )));
    }
    let ty = field_type(resolver, ty)?;
    if ty.mentions(&keyspace, &name) {
        let shown = match ty.unfrozen() {
            CqlType::Udt(inner) => format!("frozen<{}.{}>", inner.keyspace, inner.name),
            _ => ty.to_string(),
        };
        return Err(Error::Invalid(format!(
            "Cannot add new field {field} of type {shown} to user type {keyspace}.{name} as it \
             would create a circular reference"
        )));
    }
    if user_type.fields.len() >= FIELDS_MAX {
        return Err(Error::Invalid(format!("a user type has at most {FIELDS_MAX} fields")));
    }
    user_type.fields.push((field.to_owned(), ty));
    Ok(true)
}

fn rename_fields(
    user_type: &mut UserType,
    renames: &[(String, String)],
    if_exists: bool,
) -> Result<bool> {
    let mut is_changed = false;
    for (from, to) in renames {
        match user_type.fields.iter_mut().find(|(field, _)| field == from) {
            Some((field, _)) => {
                to.clone_into(field);
                is_changed = true;
            }
            None if if_exists => {}
            None => {
                return Err(Error::Invalid(format!(
                    "Unkown field {from} in user type {}.{}",
                    user_type.keyspace, user_type.name
                )));
            }
        }
    }
    for (index, (field, _)) in user_type.fields.iter().enumerate() {
        if user_type.fields.iter().skip(index + 1).any(|(other, _)| other == field) {
            return Err(Error::Invalid(format!(
                "Duplicate field name {field} in type {}",
                user_type.keyspace
            )));
        }
    }
    Ok(is_changed)
}

/// Puts the type in place, also within the types and columns that use it.
fn publish(catalog: &Catalog, keyspace: &KeyspaceSchema, changed: UserType) -> Box<Catalog> {
    let changed = Arc::new(changed);
    let mut next = next(catalog);
    let mut schema = keyspace.clone();
    let types: BTreeMap<String, Arc<UserType>> = keyspace
        .types
        .iter()
        .map(|(name, user_type)| {
            let user_type = if *name == changed.name {
                Arc::clone(&changed)
            } else if mentions(user_type.fields.iter().map(|(_, ty)| ty), &changed) {
                Arc::new(user_type_with(user_type, &changed))
            } else {
                Arc::clone(user_type)
            };
            (name.clone(), user_type)
        })
        .collect();
    schema.types = types;
    next.keyspaces.insert(keyspace.name.clone(), Arc::new(schema));
    for entry in catalog.tables.values().filter(|entry| entry.schema.keyspace == keyspace.name) {
        if mentions(entry.schema.columns.iter().map(|column| &column.ty), &changed) {
            let mut table = TableSchema::clone(&entry.schema);
            for column in &mut table.columns {
                column.ty = with_user_type(&column.ty, &changed);
            }
            replace_table(&mut next, table, None);
        }
    }
    next
}

fn mentions<'a>(mut types: impl Iterator<Item = &'a CqlType>, changed: &UserType) -> bool {
    types.any(|ty| ty.mentions(&changed.keyspace, &changed.name))
}

pub(super) fn drop(catalog: &Catalog, name: &QualifiedName, if_exists: bool) -> Result<Change> {
    let (keyspace, name) = (keyspace_of(name), name.name.as_str());
    let present =
        catalog.keyspaces.get(keyspace).filter(|present| present.types.contains_key(name));
    let Some(present) = present else {
        if if_exists {
            return Ok(Change::Nothing);
        }
        return Err(Error::Invalid(format!("Type '{keyspace}.{name}' doesn't exist")));
    };
    let types: Vec<&str> = present
        .types
        .values()
        .filter(|other| {
            other.name != name && other.fields.iter().any(|(_, ty)| ty.mentions(keyspace, name))
        })
        .map(|other| other.name.as_str())
        .collect();
    let mut tables: Vec<&str> = catalog
        .tables
        .values()
        .filter(|entry| {
            entry.schema.keyspace == keyspace
                && entry.schema.columns.iter().any(|column| column.ty.mentions(keyspace, name))
        })
        .map(|entry| entry.schema.name.as_str())
        .collect();
    tables.sort_unstable();
    for (kind, users) in [("user types", types), ("tables", tables)] {
        if !users.is_empty() {
            return Err(Error::Invalid(format!(
                "Cannot drop user type '{keyspace}.{name}' as it is still used by {kind} {}",
                users.join(", ")
            )));
        }
    }
    let mut schema = KeyspaceSchema::clone(present);
    schema.types.remove(name);
    let mut next = next(catalog);
    next.keyspaces.insert(keyspace.to_owned(), Arc::new(schema));
    Ok(Change::Next(next, event("DROPPED", "TYPE", keyspace, name)))
}
