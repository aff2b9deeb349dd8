//! CREATE, ALTER and DROP KEYSPACE.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::KeyspaceSchema;
use coffer_storage::Catalog;
use cql_parser::ast::{AlterKeyspace, CreateKeyspace, KeyspaceChange, Property, PropertyValue};

use super::{Change, ChangeContext, NAME_BYTES_MAX, event, next};
use crate::custom_properties::{self, add_tags, tags};
use crate::error::{Error, Result};
use crate::history;
use crate::system::LOCATOR;
use crate::table_options::{self, boolean, no_duplicates};

/// Kept for a keyspace when CLIENT_SIDE_TIMESTAMPS are on.
const CLIENT_SIDE_TIMESTAMPS: &str = "client_side_timestamps/";

pub(super) fn create(catalog: &Catalog, create: &CreateKeyspace) -> Result<Change> {
    let name = &create.name;
    check_name(name)?;
    let properties = KeyspaceProperties::parse(name, &create.properties)?;
    if catalog.keyspaces.contains_key(name) {
        if create.if_not_exists {
            return Ok(Change::Nothing);
        }
        return Err(Error::AlreadyExists {
            keyspace: name.clone(),
            table: String::new(),
            message: format!("Cannot add existing keyspace \"{name}\""),
        });
    }
    let replication = properties
        .replication
        .ok_or_else(|| Error::invalid("Missing mandatory option 'replication'"))?;
    let mut catalog = next(catalog);
    let schema = KeyspaceSchema {
        name: name.clone(),
        replication,
        durable_writes: properties.durable_writes.unwrap_or(true),
        tags: properties.tags.unwrap_or_default(),
        custom_properties: properties.custom_properties,
        types: BTreeMap::new(),
    };
    catalog.keyspaces.insert(name.clone(), Arc::new(schema));
    if properties.client_side_timestamps == Some(true) {
        Arc::make_mut(&mut catalog.properties)
            .insert(format!("{CLIENT_SIDE_TIMESTAMPS}{name}"), "ENABLED".to_owned());
    }
    Ok(Change::Next(catalog, event("CREATED", "KEYSPACE", name, "")))
}

pub(super) fn alter(catalog: &Catalog, alter: &AlterKeyspace) -> Result<Change> {
    let name = &alter.name;
    let properties = match &alter.change {
        KeyspaceChange::Properties(properties) => KeyspaceProperties::parse(name, properties)?,
        _ => KeyspaceProperties::default(),
    };
    let Some(present) = catalog.keyspaces.get(name) else {
        return if alter.if_exists { Ok(Change::Nothing) } else { Err(missing(name)) };
    };
    let mut keyspace = KeyspaceSchema::clone(present);
    let mut catalog = next(catalog);
    match &alter.change {
        KeyspaceChange::Properties(_) => {
            if let Some(replication) = properties.replication {
                keyspace.replication = replication;
            }
            if let Some(durable_writes) = properties.durable_writes {
                keyspace.durable_writes = durable_writes;
            }
            if let Some(tags) = properties.tags {
                keyspace.tags = tags;
            }
            keyspace.custom_properties.extend(properties.custom_properties);
            let property = format!("{CLIENT_SIDE_TIMESTAMPS}{name}");
            match properties.client_side_timestamps {
                Some(true) => {
                    Arc::make_mut(&mut catalog.properties).insert(property, "ENABLED".to_owned());
                }
                Some(false) if catalog.properties.contains_key(&property) => {
                    return Err(Error::Invalid(format!(
                        "client_side_timestamps cannot be disabled once it is enabled (keyspace \
                         {name})"
                    )));
                }
                _ => {}
            }
        }
        KeyspaceChange::AddTags(value) => add_tags(&mut keyspace.tags, tags(value)?)?,
        KeyspaceChange::DropTags(value) => {
            for tag in tags(value)?.keys() {
                keyspace.tags.remove(tag);
            }
        }
    }
    catalog.keyspaces.insert(name.clone(), Arc::new(keyspace));
    Ok(Change::Next(catalog, event("UPDATED", "KEYSPACE", name, "")))
}

pub(super) fn drop(
    catalog: &Catalog,
    name: &str,
    if_exists: bool,
    context: &ChangeContext,
) -> Result<Change> {
    if !catalog.keyspaces.contains_key(name) {
        return if if_exists { Ok(Change::Nothing) } else { Err(missing(name)) };
    }
    let mut next = next(catalog);
    for entry in catalog.tables.values().filter(|entry| entry.schema.keyspace == name) {
        history::record(&mut next, "DROP", &entry.schema, &entry.key, context.now_millis);
        next.tables.remove(&entry.schema.id);
    }
    next.keyspaces.remove(name);
    Arc::make_mut(&mut next.properties).remove(&format!("{CLIENT_SIDE_TIMESTAMPS}{name}"));
    Ok(Change::Next(next, event("DROPPED", "KEYSPACE", name, "")))
}

pub(super) fn missing(name: &str) -> Error {
    Error::Invalid(format!("Keyspace '{name}' doesn't exist"))
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(Error::Invalid(format!(
            "Keyspace name must not be empty and must contain alphanumeric or underscore \
             characters only (got \"{name}\")"
        )));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "Keyspace name must not be more than {NAME_BYTES_MAX} characters long (got {} \
             characters for \"{name}\")",
            name.len()
        )));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct KeyspaceProperties {
    replication: Option<BTreeMap<String, String>>,
    durable_writes: Option<bool>,
    tags: Option<BTreeMap<String, String>>,
    client_side_timestamps: Option<bool>,
    custom_properties: BTreeMap<String, BTreeMap<String, String>>,
}

impl KeyspaceProperties {
    fn parse(keyspace: &str, properties: &[Property]) -> Result<Self> {
        no_duplicates(properties)?;
        let mut parsed = Self::default();
        for property in properties {
            let value = &property.value;
            match property.name.as_str() {
                "replication" => parsed.replication = Some(replication(keyspace, value)?),
                "durable_writes" => {
                    parsed.durable_writes = Some(boolean("durable_writes", value)?);
                }
                "tags" => parsed.tags = Some(tags(value)?),
                "client_side_timestamps" => {
                    parsed.client_side_timestamps = Some(timestamps_status(value)?);
                }
                table_options::CUSTOM_PROPERTIES => {
                    parsed.custom_properties = custom_properties::of_keyspace(value)?;
                }
                other => return Err(Error::Syntax(format!("Unknown property '{other}'"))),
            }
        }
        Ok(parsed)
    }
}

fn timestamps_status(value: &PropertyValue) -> Result<bool> {
    let status = value
        .map()
        .and_then(|entries| {
            entries.iter().find(|(key, _)| key.text().eq_ignore_ascii_case("status"))
        })
        .and_then(|(_, status)| status.text())
        .map(str::to_ascii_lowercase);
    match status.as_deref() {
        Some("enabled") => Ok(true),
        Some("disabled") => Ok(false),
        _ => Err(Error::invalid(
            "client_side_timestamps needs {'status': 'ENABLED'} or {'status': 'DISABLED'}",
        )),
    }
}

/// The replication options as `system_schema.keyspaces` shows them.
fn replication(keyspace: &str, value: &PropertyValue) -> Result<BTreeMap<String, String>> {
    let entries = value.map().ok_or_else(|| {
        Error::Syntax("Invalid value for property 'replication'. It should be a map.".into())
    })?;
    let mut options = BTreeMap::new();
    for (key, value) in entries {
        let text = value.text().ok_or_else(|| {
            Error::Syntax("Invalid value for property 'replication'. It should be a map.".into())
        })?;
        options.insert(key.text().to_owned(), text.to_owned());
    }
    let class = options
        .get("class")
        .ok_or_else(|| Error::Configuration("Missing replication strategy class".into()))?;
    let full = if class.contains('.') { class.clone() } else { format!("{LOCATOR}{class}") };
    let short = full.strip_prefix(LOCATOR).unwrap_or_default();
    match short {
        "SimpleStrategy" => only_factor(keyspace, &options)?,
        "SingleRegionStrategy" | "NetworkTopologyStrategy" | "LocalStrategy" => {}
        _ => {
            return Err(Error::Configuration(format!(
                "Unable to find replication strategy class '{full}'"
            )));
        }
    }
    if short == "LocalStrategy" {
        return Err(Error::Configuration(
            "Unable to use given strategy class: LocalStrategy is reserved for internal use."
                .into(),
        ));
    }
    for (name, factor) in options.iter().filter(|(name, _)| name.as_str() != "class") {
        check_factor(name, factor)?;
    }
    if short == "SimpleStrategy" {
        options.entry("replication_factor".to_owned()).or_insert_with(|| "1".to_owned());
    }
    options.insert("class".to_owned(), full);
    Ok(options)
}

fn only_factor(keyspace: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let known = ["class", "replication_factor"];
    match options.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Error::Configuration(format!(
            "Unrecognized strategy option {{{name}}} passed to SimpleStrategy for keyspace \
             {keyspace}"
        ))),
        None => Ok(()),
    }
}

/// A replication factor: `3`, or `3/1` with transient replicas, which there are none of here.
fn check_factor(name: &str, factor: &str) -> Result<()> {
    let number: i64 = factor
        .trim()
        .parse()
        .map_err(|_| Error::Configuration(format!("For input string: \"{factor}\"")))?;
    if number < 0 {
        return Err(Error::Configuration(format!(
            "Replication factor must be non-negative, found {factor}"
        )));
    }
    if name.is_empty() || number > i64::from(i32::MAX) {
        return Err(Error::Configuration(format!("For input string: \"{factor}\"")));
    }
    Ok(())
}
