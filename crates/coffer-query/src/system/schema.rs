//! `system_schema`: what drivers build their picture of keyspaces and tables from. System tables
//! are in it like all others, because cqlsh looks them up here.

use coffer_model::schema::DroppedColumn;
use coffer_model::{ColumnKind, TableSchema};

use super::cells::{
    Cell, blob, blob_map, boolean, count, double, int, text, text_map, texts, timestamp, uuid,
};
use super::definition::{C, P, R, SystemColumn, SystemTable, Type, no_rows};
use super::virtual_schema;
use crate::database::{Database, Session};
use crate::error::Result;
use crate::schema::Keyspace;
use crate::table_source::VirtualRow;

/// Columns of `columns`, here and in `system_virtual_schema`.
pub(super) const COLUMNS: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("table_name", C, Type::Text),
    ("column_name", C, Type::Text),
    ("clustering_order", R, Type::Text),
    ("column_name_bytes", R, Type::Blob),
    ("kind", R, Type::Text),
    ("position", R, Type::Int),
    ("type", R, Type::Text),
];

const TABLES: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("table_name", C, Type::Text),
    ("additional_write_policy", R, Type::Text),
    ("allow_auto_snapshot", R, Type::Boolean),
    ("bloom_filter_fp_chance", R, Type::Double),
    ("caching", R, Type::FrozenMapTextText),
    ("cdc", R, Type::Boolean),
    ("comment", R, Type::Text),
    ("compaction", R, Type::FrozenMapTextText),
    ("compression", R, Type::FrozenMapTextText),
    ("crc_check_chance", R, Type::Double),
    ("dclocal_read_repair_chance", R, Type::Double),
    ("default_time_to_live", R, Type::Int),
    ("extensions", R, Type::FrozenMapTextBlob),
    ("flags", R, Type::FrozenSetText),
    ("gc_grace_seconds", R, Type::Int),
    ("id", R, Type::Uuid),
    ("incremental_backups", R, Type::Boolean),
    ("max_index_interval", R, Type::Int),
    ("memtable", R, Type::Text),
    ("memtable_flush_period_in_ms", R, Type::Int),
    ("min_index_interval", R, Type::Int),
    ("read_repair", R, Type::Text),
    ("read_repair_chance", R, Type::Double),
    ("speculative_retry", R, Type::Text),
];

const VIEWS: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("view_name", C, Type::Text),
    ("additional_write_policy", R, Type::Text),
    ("allow_auto_snapshot", R, Type::Boolean),
    ("base_table_id", R, Type::Uuid),
    ("base_table_name", R, Type::Text),
    ("bloom_filter_fp_chance", R, Type::Double),
    ("caching", R, Type::FrozenMapTextText),
    ("cdc", R, Type::Boolean),
    ("comment", R, Type::Text),
    ("compaction", R, Type::FrozenMapTextText),
    ("compression", R, Type::FrozenMapTextText),
    ("crc_check_chance", R, Type::Double),
    ("dclocal_read_repair_chance", R, Type::Double),
    ("default_time_to_live", R, Type::Int),
    ("extensions", R, Type::FrozenMapTextBlob),
    ("gc_grace_seconds", R, Type::Int),
    ("id", R, Type::Uuid),
    ("include_all_columns", R, Type::Boolean),
    ("incremental_backups", R, Type::Boolean),
    ("max_index_interval", R, Type::Int),
    ("memtable", R, Type::Text),
    ("memtable_flush_period_in_ms", R, Type::Int),
    ("min_index_interval", R, Type::Int),
    ("read_repair", R, Type::Text),
    ("read_repair_chance", R, Type::Double),
    ("speculative_retry", R, Type::Text),
    ("where_clause", R, Type::Text),
];

const FUNCTIONS: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("function_name", C, Type::Text),
    ("argument_types", C, Type::FrozenListText),
    ("argument_names", R, Type::FrozenListText),
    ("body", R, Type::Text),
    ("called_on_null_input", R, Type::Boolean),
    ("language", R, Type::Text),
    ("return_type", R, Type::Text),
];

const AGGREGATES: &[SystemColumn] = &[
    ("keyspace_name", P, Type::Text),
    ("aggregate_name", C, Type::Text),
    ("argument_types", C, Type::FrozenListText),
    ("final_func", R, Type::Text),
    ("initcond", R, Type::Text),
    ("return_type", R, Type::Text),
    ("state_func", R, Type::Text),
    ("state_type", R, Type::Text),
];

pub(crate) fn tables() -> Vec<SystemTable> {
    let mut tables = vec![
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
            columns: COLUMNS,
            rows: column_rows,
        },
        SystemTable {
            name: "dropped_columns",
            comment: "dropped column registry",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("table_name", C, Type::Text),
                ("column_name", C, Type::Text),
                ("dropped_time", R, Type::Timestamp),
                ("kind", R, Type::Text),
                ("type", R, Type::Text),
            ],
            rows: dropped_column_rows,
        },
        SystemTable {
            name: "types",
            comment: "user defined type definitions",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("type_name", C, Type::Text),
                ("field_names", R, Type::FrozenListText),
                ("field_types", R, Type::FrozenListText),
            ],
            rows: type_rows,
        },
    ];
    tables.extend(tables_without_rows());
    tables
}

fn tables_without_rows() -> Vec<SystemTable> {
    let empty = |name, comment, columns| SystemTable { name, comment, columns, rows: no_rows };
    vec![
        empty(
            "indexes",
            "secondary index definitions",
            &[
                ("keyspace_name", P, Type::Text),
                ("table_name", C, Type::Text),
                ("index_name", C, Type::Text),
                ("kind", R, Type::Text),
                ("options", R, Type::FrozenMapTextText),
            ],
        ),
        empty(
            "triggers",
            "trigger definitions",
            &[
                ("keyspace_name", P, Type::Text),
                ("table_name", C, Type::Text),
                ("trigger_name", C, Type::Text),
                ("options", R, Type::FrozenMapTextText),
            ],
        ),
        empty("views", "view definitions", VIEWS),
        empty("functions", "user defined function definitions", FUNCTIONS),
        empty("aggregates", "user defined aggregate definitions", AGGREGATES),
    ]
}

/// All tables but those of the virtual keyspace, which has its own schema tables.
fn all_tables<T>(
    database: &Database,
    mut rows: impl FnMut(&Keyspace, &TableSchema) -> Vec<T>,
) -> Vec<T> {
    let schema = database.schema();
    let keyspaces = schema.keyspaces.values().filter(|keyspace| is_listed(keyspace));
    keyspaces
        .flat_map(|keyspace| {
            keyspace
                .tables
                .values()
                .flat_map(|table| rows(keyspace, &table.schema))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_listed(keyspace: &Keyspace) -> bool {
    keyspace.schema.name != virtual_schema::KEYSPACE
}

pub(super) fn keyspace_cells(keyspace: &Keyspace) -> VirtualRow {
    let schema = &keyspace.schema;
    vec![text(&schema.name), boolean(schema.durable_writes), text_map(&schema.replication)]
}

fn keyspace_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    let listed = schema.keyspaces.values().filter(|keyspace| is_listed(keyspace));
    Ok(listed.map(|keyspace| keyspace_cells(keyspace)).collect())
}

fn table_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    Ok(all_tables(database, |_, table| vec![table_cells(table)]))
}

/// `flags` of a table.
pub(super) fn flags(table: &TableSchema) -> Cell {
    if table.is_counter() { texts(["compound", "counter"]) } else { texts(["compound"]) }
}

fn table_cells(table: &TableSchema) -> VirtualRow {
    let options = &table.options;
    vec![
        text(&table.keyspace),
        text(&table.name),
        text(&options.additional_write_policy),
        options.allow_auto_snapshot.and_then(boolean),
        double(options.bloom_filter_fp_chance),
        text_map(&options.caching),
        options.cdc.then_some(true).and_then(boolean),
        text(&options.comment),
        text_map(&options.compaction),
        text_map(&options.compression),
        double(options.crc_check_chance),
        double(0.0),
        count(options.default_time_to_live),
        blob_map(&options.extensions),
        flags(table),
        count(options.gc_grace_seconds),
        uuid(table.id.to_uuid()),
        options.incremental_backups.and_then(boolean),
        count(options.max_index_interval),
        // null means the default configuration
        (options.memtable != "default").then_some(&options.memtable).and_then(|name| text(name)),
        count(options.memtable_flush_period_in_ms),
        count(options.min_index_interval),
        text(&options.read_repair),
        double(0.0),
        text(&options.speculative_retry),
    ]
}

pub(super) fn column_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    Ok(all_tables(database, |_, table| column_cells(table)))
}

/// Rows of `columns` for one table.
pub(super) fn column_cells(table: &TableSchema) -> Vec<VirtualRow> {
    table
        .columns
        .iter()
        .map(|column| {
            let (order, position) = match column.kind {
                ColumnKind::PartitionKey { position } => ("none", i32::from(position)),
                ColumnKind::Clustering { position, reversed: true } => {
                    ("desc", i32::from(position))
                }
                ColumnKind::Clustering { position, .. } => ("asc", i32::from(position)),
                ColumnKind::Static | ColumnKind::Regular => ("none", -1),
            };
            vec![
                text(&table.keyspace),
                text(&table.name),
                text(&column.name),
                text(order),
                blob(column.name.as_bytes()),
                text(kind_name(column.kind)),
                int(position),
                text(&column.ty.to_string()),
            ]
        })
        .collect()
}

fn kind_name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::PartitionKey { .. } => "partition_key",
        ColumnKind::Clustering { .. } => "clustering",
        ColumnKind::Static => "static",
        ColumnKind::Regular => "regular",
    }
}

fn dropped_column_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    Ok(all_tables(database, |_, table| {
        latest_dropped(table)
            .into_iter()
            .map(|column| {
                vec![
                    text(&table.keyspace),
                    text(&table.name),
                    text(&column.name),
                    timestamp(column.dropped_at.0.div_euclid(1000)),
                    text(kind_name(column.kind)),
                    text(&column.ty.to_string()),
                ]
            })
            .collect()
    }))
}

/// One per name: a column dropped, added and dropped again counts once.
pub(crate) fn latest_dropped(table: &TableSchema) -> Vec<&DroppedColumn> {
    let mut latest: Vec<&DroppedColumn> = Vec::new();
    for column in &table.dropped_columns {
        latest.retain(|earlier| earlier.name != column.name);
        latest.push(column);
    }
    latest
}

fn type_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    let types = schema.keyspaces.values().flat_map(|keyspace| keyspace.schema.types.values());
    Ok(types
        .map(|user_type| {
            vec![
                text(&user_type.keyspace),
                text(&user_type.name),
                texts(user_type.fields.iter().map(|(name, _)| name)),
                texts(user_type.fields.iter().map(|(_, ty)| ty.to_string())),
            ]
        })
        .collect())
}
