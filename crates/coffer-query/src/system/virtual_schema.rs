//! `system_virtual_schema`: it must exist from release 4.0 on. Only its own tables are listed as
//! virtual; all other system tables are described in `system_schema`, where older clients look.

use super::cells::text;
use super::definition::{C, P, R, SystemTable, Type};
use super::schema::column_cells;
use crate::database::{Database, Session};
use crate::error::Result;
use crate::schema::Table;
use crate::table_source::VirtualRow;

/// Its name.
pub(crate) const KEYSPACE: &str = "system_virtual_schema";

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![
        SystemTable {
            name: "keyspaces",
            comment: "virtual keyspace definitions",
            columns: &[("keyspace_name", P, Type::Text)],
            rows: |_, _| Ok(vec![vec![text(KEYSPACE)]]),
        },
        SystemTable {
            name: "tables",
            comment: "virtual table definitions",
            columns: &[
                ("keyspace_name", P, Type::Text),
                ("table_name", C, Type::Text),
                ("comment", R, Type::Text),
            ],
            rows: table_rows,
        },
        SystemTable {
            name: "columns",
            comment: "virtual column definitions",
            columns: super::schema::COLUMNS,
            rows: column_rows,
        },
    ]
}

fn table_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    let rows = schema.keyspace(KEYSPACE).into_iter().flat_map(|keyspace| keyspace.tables.values());
    Ok(rows
        .map(|table| {
            vec![text(KEYSPACE), text(&table.schema.name), text(&table.schema.options.comment)]
        })
        .collect())
}

fn column_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let schema = database.schema();
    let tables =
        schema.keyspace(KEYSPACE).into_iter().flat_map(|keyspace| keyspace.tables.values());
    Ok(tables.flat_map(|table: &std::sync::Arc<Table>| column_cells(&table.schema)).collect())
}
