//! A whole table, cell by cell as bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use cql_protocol::ReceivedBody;

use crate::{Client, Result};

/// Rows of a page: small, so that a table has several.
const PAGE_ROWS: i32 = 23;

/// What a table holds: names of columns, and each row's cells as the protocol has them.
pub type Dump = (Vec<String>, Vec<Vec<Option<Bytes>>>);

/// Reads all pages of a statement.
///
/// # Errors
/// When it is refused or gives no rows.
pub fn pages(client: &mut Client, statement: &str) -> Result<Dump> {
    let (mut rows, mut state) = (Vec::new(), None);
    loop {
        match client.page(statement, Some(PAGE_ROWS), state.take())?.body {
            ReceivedBody::Rows(mut page) => {
                rows.append(&mut page.rows);
                state = page.paging_state;
                if state.is_none() {
                    let names = page.columns.iter().map(|column| column.name.to_string());
                    return Ok((names.collect(), rows));
                }
            }
            other => return Err(format!("no rows but {other:?}: {statement}").into()),
        }
    }
}

/// Every cell of a table, and the time of writing of each cell that has one.
///
/// # Errors
/// When the table cannot be read.
pub fn table(client: &mut Client, keyspace: &str, table: &str) -> Result<Dump> {
    let columns = pages(
        client,
        &format!(
            "SELECT column_name, kind, type FROM system_schema.columns WHERE keyspace_name = \
             '{keyspace}' AND table_name = '{table}'"
        ),
    )?;
    let text = |cell: &Option<Bytes>| {
        cell.as_ref().map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let columns: BTreeMap<String, (String, String)> = columns
        .1
        .iter()
        .filter_map(|row| match row.as_slice() {
            [name, kind, ty] => Some((text(name), (text(kind), text(ty)))),
            _ => None,
        })
        .collect();
    let has_one_time = |(kind, ty): &(String, String)| {
        let is_many = ["list<", "set<", "map<"].iter().any(|many| ty.starts_with(many));
        let is_native_or_frozen = !is_many;
        matches!(kind.as_str(), "regular" | "static") && is_native_or_frozen
    };
    let times = columns.iter().filter(|(_, column)| has_one_time(column));
    let selected: Vec<String> = columns
        .keys()
        .cloned()
        .chain(times.map(|(name, _)| format!("WRITETIME({name})")))
        .collect();
    pages(client, &format!("SELECT {} FROM {keyspace}.{table}", selected.join(", ")))
}
