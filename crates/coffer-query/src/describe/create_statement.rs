//! Statements that make a keyspace, type or table again.

use std::collections::BTreeMap;
use std::fmt::Write;

use coffer_crypto::KeyRecord;
use coffer_model::{Column, ColumnKind, TableOptions, TableSchema};
use cql_types::{CqlType, UserType};

use super::identifier::identifier;
use crate::custom_properties::{self, quoted};
use crate::java_double::java_double;
use crate::schema::Keyspace;
use crate::system::{LOCATOR, VIRTUAL_KEYSPACE, latest_dropped};

/// `CREATE KEYSPACE`.
pub(super) fn keyspace_statement(keyspace: &Keyspace) -> String {
    let schema = &keyspace.schema;
    let name = identifier(&schema.name);
    if schema.name == VIRTUAL_KEYSPACE {
        return format!(
            "/*\nWarning: Keyspace {name} is a virtual keyspace and cannot be recreated with \
             CQL.\nStructure, for reference:\nVIRTUAL KEYSPACE {name};\n*/"
        );
    }
    let class = schema.replication.get("class").map_or("", String::as_str);
    let class = class.strip_prefix(LOCATOR).unwrap_or(class);
    let mut replication = format!("{{'class': {}", quoted(class));
    for (option, value) in schema.replication.iter().filter(|(option, _)| *option != "class") {
        push(&mut replication, format_args!(", {}: {}", quoted(option), quoted(value)));
    }
    replication.push('}');
    let tags = if schema.tags.is_empty() {
        String::new()
    } else {
        format!(" AND TAGS = {}", map_literal(&schema.tags))
    };
    let properties: Vec<String> = schema
        .custom_properties
        .iter()
        .map(|(name, fields)| format!("{}: {}", quoted(name), fields_literal(fields)))
        .collect();
    let properties = if properties.is_empty() {
        String::new()
    } else {
        format!(" AND CUSTOM_PROPERTIES = {{{}}}", properties.join(", "))
    };
    format!(
        "CREATE KEYSPACE {name} WITH replication = {replication}  AND durable_writes = \
         {}{properties}{tags};",
        schema.durable_writes
    )
}

/// Types such that each comes after those it mentions; else by name.
pub(super) fn types_in_order(keyspace: &Keyspace) -> Vec<&UserType> {
    let mut waiting: Vec<&UserType> = keyspace.schema.types.values().map(|ty| &**ty).collect();
    let mut ordered: Vec<&UserType> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let is_ready = |candidate: &UserType| {
            !waiting.iter().any(|other| {
                other.name != candidate.name
                    && candidate
                        .fields
                        .iter()
                        .any(|(_, field)| field.mentions(&other.keyspace, &other.name))
            })
        };
        let ready = waiting.iter().position(|candidate| is_ready(candidate)).unwrap_or(0);
        ordered.push(waiting.remove(ready));
    }
    ordered
}

/// `CREATE TYPE`.
pub(super) fn type_statement(user_type: &UserType) -> String {
    let fields: Vec<String> = user_type
        .fields
        .iter()
        .map(|(name, ty)| format!("    {} {ty}", identifier(name)))
        .collect();
    format!(
        "CREATE TYPE {}.{} (\n{}\n);",
        identifier(&user_type.keyspace),
        identifier(&user_type.name),
        fields.join(",\n")
    )
}

/// `CREATE TABLE`; with `internals` also its id and dropped columns.
pub(super) fn table_statement(
    table: &TableSchema,
    key: Option<&KeyRecord>,
    internals: bool,
) -> String {
    if table.keyspace == VIRTUAL_KEYSPACE {
        return virtual_statement(table);
    }
    let name = full_name(table);
    let mut properties = Vec::new();
    if internals {
        properties.push(format!("ID = {}", table.id));
    }
    properties.extend(clustering_order(table));
    properties.extend(options(&table.options));
    if let Some(key) = key {
        properties.extend(coffer_options(table, key));
    }
    let mut statement = format!(
        "CREATE TABLE {name} (\n{}\n) WITH {};",
        columns(table, internals),
        properties.join("\n    AND ")
    );
    if internals {
        dropped_columns(&mut statement, table);
    }
    statement
}

fn virtual_statement(table: &TableSchema) -> String {
    let name = full_name(table);
    let mut properties: Vec<String> = clustering_order(table).into_iter().collect();
    properties.push(format!("comment = {}", quoted(&table.options.comment)));
    format!(
        "/*\nWarning: Table {name} is a virtual table and cannot be recreated with \
         CQL.\nStructure, for reference:\nVIRTUAL TABLE {name} (\n{}\n) WITH {};\n*/",
        columns(table, false),
        properties.join("\n    AND ")
    )
}

fn full_name(table: &TableSchema) -> String {
    format!("{}.{}", identifier(&table.keyspace), identifier(&table.name))
}

/// Columns as Cassandra prints them: the key, then statics and others, those of one cell first.
fn columns(table: &TableSchema, internals: bool) -> String {
    let partition = table.partition_key();
    let clustering = table.clustering();
    let is_simple_key = partition.len() == 1 && clustering.is_empty();
    let mut lines = Vec::new();
    for column in partition.iter().chain(&clustering) {
        let key = if is_simple_key { " PRIMARY KEY" } else { "" };
        lines.push(format!("    {} {}{key}", identifier(&column.name), column.ty));
    }
    for (columns, suffix) in [(table.statics(), " static"), (table.regulars(), "")] {
        let (complex, simple): (Vec<&Column>, Vec<&Column>) =
            columns.into_iter().partition(|column| column.ty.is_multi_cell());
        for column in simple.into_iter().chain(complex) {
            lines.push(format!("    {} {}{suffix}", identifier(&column.name), column.ty));
        }
    }
    if internals {
        for column in latest_dropped(table) {
            if table.column(&column.name).is_none() {
                lines.push(column_text(&column.name, &column.ty, column.kind));
            }
        }
    }
    if !is_simple_key {
        let names = |columns: &[&Column]| {
            columns.iter().map(|column| identifier(&column.name)).collect::<Vec<_>>().join(", ")
        };
        let mut key = names(&partition);
        if partition.len() > 1 {
            key = format!("({key})");
        }
        if !clustering.is_empty() {
            push(&mut key, format_args!(", {}", names(&clustering)));
        }
        lines.push(format!("    PRIMARY KEY ({key})"));
    }
    lines.join(",\n")
}

fn column_text(name: &str, ty: &CqlType, kind: ColumnKind) -> String {
    let suffix = if kind == ColumnKind::Static { " static" } else { "" };
    format!("    {} {ty}{suffix}", identifier(name))
}

fn dropped_columns(statement: &mut String, table: &TableSchema) {
    let name = full_name(table);
    for column in latest_dropped(table) {
        let quoted_name = identifier(&column.name);
        push(
            statement,
            format_args!(
                "\nALTER TABLE {name} DROP {quoted_name} USING TIMESTAMP {};",
                column.dropped_at.0
            ),
        );
        if let Some(again) = table.column(&column.name) {
            let text = column_text(&again.name, &again.ty, again.kind);
            push(statement, format_args!("\nALTER TABLE {name} ADD {};", text.trim_start()));
        }
    }
}

fn clustering_order(table: &TableSchema) -> Option<String> {
    let clustering = table.clustering();
    if clustering.is_empty() {
        return None;
    }
    let order: Vec<String> = clustering
        .iter()
        .map(|column| {
            let is_reversed = matches!(column.kind, ColumnKind::Clustering { reversed: true, .. });
            format!("{} {}", identifier(&column.name), if is_reversed { "DESC" } else { "ASC" })
        })
        .collect();
    Some(format!("CLUSTERING ORDER BY ({})", order.join(", ")))
}

/// Options in the order of Cassandra 5.
fn options(options: &TableOptions) -> Vec<String> {
    let extensions: Vec<String> = options
        .extensions
        .iter()
        .map(|(name, bytes)| format!("{}: 0x{}", quoted(name), hex(bytes)))
        .collect();
    vec![
        format!("additional_write_policy = {}", quoted(&options.additional_write_policy)),
        format!("allow_auto_snapshot = {}", options.allow_auto_snapshot.unwrap_or(true)),
        format!("bloom_filter_fp_chance = {}", java_double(options.bloom_filter_fp_chance)),
        format!("caching = {}", map_literal(&options.caching)),
        format!("cdc = {}", options.cdc),
        format!("comment = {}", quoted(&options.comment)),
        format!("compaction = {}", map_literal(&options.compaction)),
        format!("compression = {}", map_literal(&options.compression)),
        format!("memtable = {}", quoted(&options.memtable)),
        format!("crc_check_chance = {}", java_double(options.crc_check_chance)),
        format!("default_time_to_live = {}", options.default_time_to_live),
        format!("extensions = {{{}}}", extensions.join(", ")),
        format!("gc_grace_seconds = {}", options.gc_grace_seconds),
        format!("incremental_backups = {}", options.incremental_backups.unwrap_or(true)),
        format!("max_index_interval = {}", options.max_index_interval),
        format!("memtable_flush_period_in_ms = {}", options.memtable_flush_period_in_ms),
        format!("min_index_interval = {}", options.min_index_interval),
        format!("read_repair = {}", quoted(&options.read_repair)),
        format!("speculative_retry = {}", quoted(&options.speculative_retry)),
    ]
}

/// What Cassandra does not have: custom properties, tags, autoscaling.
fn coffer_options(table: &TableSchema, key: &KeyRecord) -> Vec<String> {
    let properties: Vec<String> = custom_properties::stored(table, key)
        .iter()
        .map(|(name, fields)| format!("{}: {}", quoted(name), fields_literal(fields)))
        .collect();
    let mut lines = vec![format!("CUSTOM_PROPERTIES = {{{}}}", properties.join(", "))];
    if let Some(settings) = table.custom_properties.get(custom_properties::AUTOSCALING) {
        lines.push(format!("AUTOSCALING_SETTINGS = {}", fields_literal(settings)));
    }
    let tags = table.custom_properties.get(custom_properties::TAGS);
    if let Some(tags) = tags.filter(|tags| !tags.is_empty()) {
        lines.push(format!("TAGS = {}", map_literal(tags)));
    }
    lines
}

fn map_literal(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> =
        map.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// As [`map_literal`]; values that are maps are written as maps.
fn fields_literal(fields: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(key, value)| {
            let value = if value.starts_with('{') { value.clone() } else { quoted(value) };
            format!("{}: {value}", quoted(key))
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        push(&mut text, format_args!("{byte:02x}"));
    }
    text
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // writing to a String cannot fail
    let _ = text.write_fmt(arguments);
}
