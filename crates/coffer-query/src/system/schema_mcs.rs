//! `system_schema_mcs`: the schema as Amazon Keyspaces shows it, with encryption, tags and the
//! history of each table.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{TableId, TableSchema};
use coffer_storage::{Catalog, KeyChange, TableEntry};

use super::cells::{
    blob_map, boolean, count, double, nested_map, text, text_map, texts, timestamp, uuid,
};
use super::definition::{C, CD, P, R, SystemColumn, SystemTable, Type, no_rows};
use super::{keys, schema};
use crate::custom_properties::{self, TAGS};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::history::{self, TableEvent};
use crate::table_source::VirtualRow;

const TABLES: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("table_name", C, Type::Text),
    ("bloom_filter_fp_chance", R, Type::Double),
    ("caching", R, Type::FrozenMapTextText),
    ("cdc", R, Type::Boolean),
    ("cdc_specification", R, Type::FrozenMapTextText),
    ("comment", R, Type::Text),
    ("compaction", R, Type::FrozenMapTextText),
    ("compression", R, Type::FrozenMapTextText),
    ("crc_check_chance", R, Type::Double),
    ("creation_time", R, Type::Timestamp),
    ("custom_properties", R, Type::NestedMap),
    ("dclocal_read_repair_chance", R, Type::Double),
    ("default_time_to_live", R, Type::Int),
    ("encryption_status", R, Type::Text),
    ("extensions", R, Type::FrozenMapTextBlob),
    ("flags", R, Type::FrozenSetText),
    ("gc_grace_seconds", R, Type::Int),
    ("id", R, Type::Uuid),
    ("latest_stream_arn", R, Type::Text),
    ("max_index_interval", R, Type::Int),
    ("memtable_flush_period_in_ms", R, Type::Int),
    ("min_index_interval", R, Type::Int),
    ("read_repair_chance", R, Type::Double),
    ("speculative_retry", R, Type::Text),
    ("status", R, Type::Text),
];

const TYPES: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("type_name", C, Type::Text),
    ("direct_parent_types", R, Type::FrozenListText),
    ("direct_referring_tables", R, Type::FrozenListText),
    ("field_names", R, Type::FrozenListText),
    ("field_types", R, Type::FrozenListText),
    ("last_modified_timestamp", R, Type::Timestamp),
    ("max_nesting_depth", R, Type::Int),
    ("status", R, Type::Text),
];

const AUTOSCALING: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("table_name", C, Type::Text),
    ("provisioned_read_capacity_autoscaling_update", R, Type::FrozenMapTextText),
    ("provisioned_write_capacity_autoscaling_update", R, Type::FrozenMapTextText),
];

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![
        SystemTable {
            name: "keyspaces",
            comment: "keyspace definitions",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("durable_writes", R, Type::Boolean),
                ("replication", R, Type::FrozenMapTextText),
            ],
            rows: keyspace_rows,
        },
        SystemTable {
            name: "tables",
            comment: "table definitions",
            columns: TABLES,
            rows: table_rows,
        },
        SystemTable {
            name: "columns",
            comment: "column definitions",
            columns: schema::COLUMNS,
            rows: schema::column_rows,
        },
        SystemTable {
            name: "tables_history",
            comment: "creations, changes and drops of tables",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("table_name", P, Type::Text),
                ("event_time", CD, Type::Timestamp),
                ("creation_time", R, Type::Timestamp),
                ("custom_properties", R, Type::NestedMap),
                ("event", R, Type::Text),
            ],
            rows: history_rows,
        },
        SystemTable {
            name: "tags",
            comment: "tags of keyspaces and tables",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("resource_name", C, Type::Text),
                ("resource_type", C, Type::Text),
                ("resource_id", R, Type::Text),
                ("tags", R, Type::FrozenMapTextText),
            ],
            rows: tag_rows,
        },
        SystemTable {
            name: "types",
            comment: "user defined type definitions",
            columns: TYPES,
            rows: type_rows,
        },
        SystemTable {
            name: "autoscaling",
            comment: "autoscaling settings of tables",
            columns: AUTOSCALING,
            rows: no_rows,
        },
    ]
}

fn keyspace_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    Ok(schema.keyspaces.values().map(|keyspace| schema::keyspace_cells(keyspace)).collect())
}

/// Tables of users by keyspace and name.
fn user_tables(catalog: &Catalog) -> BTreeMap<(&str, &str), &Arc<TableEntry>> {
    let entries = catalog.tables.values();
    entries
        .map(|entry| ((entry.schema.keyspace.as_str(), entry.schema.name.as_str()), entry))
        .collect()
}

fn table_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let catalog = database.engine().catalog();
    let entries = user_tables(&catalog).into_values();
    let present = entries.map(|entry| table_cells(database, &catalog, entry));
    let coming = keys::being_created(database, &catalog);
    Ok(present.chain(coming.map(|(id, change)| creating_cells(*id, change))).collect())
}

/// A table that is being created or restored: it has a name, a key and no more yet.
fn creating_cells(id: TableId, change: &KeyChange) -> VirtualRow {
    let cell = |(name, _, _): &SystemColumn| match *name {
        "keyspace_name" => text(&change.keyspace),
        "table_name" => text(&change.name),
        "custom_properties" => nested_map(&custom_properties::of_change(change)),
        "encryption_status" => text("ENABLING"),
        "id" => uuid(id.to_uuid()),
        "status" => text(if change.is_restore { "RESTORING" } else { "CREATING" }),
        _ => None,
    };
    TABLES.iter().map(cell).collect()
}

fn table_cells(database: &Database, catalog: &Catalog, entry: &TableEntry) -> VirtualRow {
    let table: &TableSchema = &entry.schema;
    let options = &table.options;
    let (status, encryption_status) = keys::table_status(database, catalog, entry);
    let cdc = table.custom_properties.get("cdc_specification");
    let mut properties = custom_properties::shown(table, &entry.key);
    let archive = database.engine().archive_statistics(table.id);
    if let Some(earliest) = archive.and_then(|archive| archive.earliest_restorable_millis) {
        let field = "earliest_restorable_timestamp";
        custom_properties::show_restorable(&mut properties, field, earliest);
    }
    vec![
        text(&table.keyspace),
        text(&table.name),
        double(options.bloom_filter_fp_chance),
        text_map(&options.caching),
        boolean(options.cdc),
        cdc.and_then(text_map),
        text(&options.comment),
        text_map(&options.compaction),
        text_map(&options.compression),
        double(options.crc_check_chance),
        timestamp(table.created_at_millis.try_into().unwrap_or(i64::MAX)),
        nested_map(&properties),
        double(0.0),
        count(options.default_time_to_live),
        text(encryption_status),
        blob_map(&options.extensions),
        schema::flags(table),
        count(options.gc_grace_seconds),
        uuid(table.id.to_uuid()),
        None,
        count(options.max_index_interval),
        count(options.memtable_flush_period_in_ms),
        count(options.min_index_interval),
        double(0.0),
        text(&options.speculative_retry),
        text(status),
    ]
}

fn history_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let catalog = database.engine().catalog();
    let mut rows = Vec::new();
    for ((keyspace, table), events) in history::of_all_tables(&catalog) {
        for mut event in events {
            show_restorable_until(database, &catalog, (&keyspace, &table), &mut event);
            rows.push(vec![
                text(&keyspace),
                text(&table),
                timestamp(event.event_time),
                timestamp(event.creation_time),
                nested_map(&event.custom_properties),
                text(&event.event),
            ]);
        }
    }
    Ok(rows)
}

/// Until when a dropped table can be restored, beside its DROP.
fn show_restorable_until(
    database: &Database,
    catalog: &Catalog,
    (keyspace, name): (&str, &str),
    event: &mut TableEvent,
) {
    if event.event != "DROP" {
        return;
    }
    let is_meant = |table: &TableSchema| {
        table.keyspace == keyspace
            && table.name == name
            && i64::try_from(table.created_at_millis).ok() == Some(event.creation_time)
    };
    let dropped = catalog.dropped.iter().find(|(_, dropped)| is_meant(&dropped.schema));
    let until = dropped.and_then(|(id, _)| database.restorable_until(catalog, *id));
    if let Some(until) = until.filter(|until| *until < i64::MAX) {
        let field = "restorable_until_time";
        custom_properties::show_restorable(&mut event.custom_properties, field, until);
    }
}

fn tag_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let catalog = database.engine().catalog();
    let mut rows = Vec::new();
    for (name, keyspace) in &catalog.keyspaces {
        if !keyspace.tags.is_empty() {
            let id = resource_id(name, None);
            rows.push(tag_cells(name, name, "keyspace", &id, &keyspace.tags));
        }
    }
    for ((keyspace, table), entry) in user_tables(&catalog) {
        if let Some(tags) = entry.schema.custom_properties.get(TAGS) {
            let id = resource_id(keyspace, Some(table));
            rows.push(tag_cells(keyspace, table, "table", &id, tags));
        }
    }
    Ok(rows)
}

fn resource_id(keyspace: &str, table: Option<&str>) -> String {
    match table {
        Some(table) => format!("/keyspace/{keyspace}/table/{table}"),
        None => format!("/keyspace/{keyspace}/"),
    }
}

fn tag_cells(
    keyspace: &str,
    name: &str,
    kind: &str,
    id: &str,
    tags: &BTreeMap<String, String>,
) -> VirtualRow {
    vec![text(keyspace), text(name), text(kind), text(id), text_map(tags)]
}

fn type_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let database_schema = database.schema();
    let mut rows = Vec::new();
    for keyspace in database_schema.keyspaces.values() {
        let types = &keyspace.schema.types;
        for (name, user_type) in types {
            let mentions =
                |ty: &cql_types::CqlType| ty.mentions(&user_type.keyspace, &user_type.name);
            let parents = types.values().filter(|other| {
                other.name != *name && other.fields.iter().any(|(_, field)| mentions(field))
            });
            let tables = keyspace.tables.iter().filter(|(_, table)| {
                table.schema.columns.iter().any(|column| mentions(&column.ty))
            });
            let depth = user_type.fields.iter().map(|(_, ty)| nesting_depth(ty)).max().unwrap_or(0);
            rows.push(vec![
                text(&user_type.keyspace),
                text(name),
                texts(parents.map(|parent| &parent.name)),
                texts(tables.map(|(table, _)| table)),
                texts(user_type.fields.iter().map(|(field, _)| field)),
                texts(user_type.fields.iter().map(|(_, ty)| ty.to_string())),
                None,
                count(depth),
                text("ACTIVE"),
            ]);
        }
    }
    Ok(rows)
}

/// How many user types are within each other in a field of this type.
fn nesting_depth(ty: &cql_types::CqlType) -> usize {
    use cql_types::CqlType::{Frozen, List, Map, Set, Tuple, Udt, Vector};
    match ty {
        Frozen(inner) | List(inner) | Set(inner) | Vector(inner, _) => nesting_depth(inner),
        Map(key, value) => nesting_depth(key).max(nesting_depth(value)),
        Tuple(fields) => fields.iter().map(nesting_depth).max().unwrap_or(0),
        Udt(inner) => {
            1 + inner.fields.iter().map(|(_, field)| nesting_depth(field)).max().unwrap_or(0)
        }
        _ => 0,
    }
}
