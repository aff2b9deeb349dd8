//! What happened to each table, kept in the sealed catalog so that it outlives the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_crypto::KeyRecord;
use coffer_model::TableSchema;
use coffer_storage::Catalog;
use serde::{Deserialize, Serialize};

use crate::custom_properties;

/// Events kept for one name; the oldest go first.
const EVENTS_PER_TABLE_MAX: usize = 64;
/// Names of dropped tables whose history is kept; the oldest go first.
const DROPPED_TABLES_MAX: usize = 256;
/// What the catalog property of a table's history begins with.
const PREFIX: &str = "history/";

/// One event in the life of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableEvent {
    /// Milliseconds since 1970.
    pub event_time: i64,
    /// When the table was created, milliseconds since 1970.
    pub creation_time: i64,
    /// Properties after the event, the encryption specification among them.
    pub custom_properties: BTreeMap<String, BTreeMap<String, String>>,
    /// `CREATE`, `ALTER`, `DROP`.
    pub event: String,
}

fn property(keyspace: &str, table: &str) -> String {
    format!("{PREFIX}{keyspace}/{table}")
}

/// Adds an event to the history of a table.
pub(crate) fn record(
    catalog: &mut Catalog,
    event: &'static str,
    table: &TableSchema,
    key: &KeyRecord,
    now_millis: i64,
) {
    let property = property(&table.keyspace, &table.name);
    let mut events = catalog.properties.get(&property).map_or_else(Vec::new, |text| parse(text));
    let last = events.last().map_or(i64::MIN, |event| event.event_time);
    events.push(TableEvent {
        // the time is a key: two events of one millisecond must both be kept
        event_time: now_millis.max(last.saturating_add(1)),
        creation_time: table.created_at_millis.try_into().unwrap_or(i64::MAX),
        custom_properties: custom_properties::shown(table, key),
        event: event.to_owned(),
    });
    let surplus = events.len().saturating_sub(EVENTS_PER_TABLE_MAX);
    events.drain(..surplus);
    if let Ok(text) = serde_json::to_string(&events) {
        Arc::make_mut(&mut catalog.properties).insert(property, text);
    }
    if event == "DROP" {
        forget_oldest_dropped(catalog);
    }
}

fn forget_oldest_dropped(catalog: &mut Catalog) {
    let mut dropped: Vec<(i64, String)> = catalog
        .properties
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .filter_map(|(name, text)| {
            let events = parse(text);
            let last = events.last()?;
            (last.event == "DROP").then(|| (last.event_time, name.clone()))
        })
        .collect();
    dropped.sort();
    let surplus = dropped.len().saturating_sub(DROPPED_TABLES_MAX);
    for (_, name) in dropped.drain(..surplus) {
        Arc::make_mut(&mut catalog.properties).remove(&name);
    }
}

/// A text that does not parse was written by a newer version: it is shown as no history.
fn parse(text: &str) -> Vec<TableEvent> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Events by keyspace and table, the oldest first.
pub(crate) fn of_all_tables(catalog: &Catalog) -> BTreeMap<(String, String), Vec<TableEvent>> {
    catalog
        .properties
        .iter()
        .filter_map(|(name, text)| {
            let (keyspace, table) = name.strip_prefix(PREFIX)?.split_once('/')?;
            Some(((keyspace.to_owned(), table.to_owned()), parse(text)))
        })
        .collect()
}
