//! What a server says about keys in `system_coffer`, and what its audit log says.

use std::collections::BTreeMap;

use cql_types::to_literal;
use serde_json::Value;

use crate::{Client, Result, Server};

/// Rows of a statement as text by column name; a null is the empty text.
///
/// # Errors
/// When it gives no rows.
pub fn texts(client: &mut Client, statement: &str) -> Result<Vec<BTreeMap<String, String>>> {
    let rows = client.rows(statement)?;
    let mut all = Vec::new();
    for row in &rows.rows {
        let mut texts = BTreeMap::new();
        for (column, cell) in rows.columns.iter().zip(row) {
            let text = match cell {
                Some(bytes) => to_literal(&column.ty, bytes)?,
                None => String::new(),
            };
            texts.insert(column.name.to_string(), text.trim_matches('\'').to_owned());
        }
        all.push(texts);
    }
    Ok(all)
}

/// A column of `system_coffer.key_status` of a table of keyspace `ks`.
///
/// # Errors
/// When there is no such row or column.
pub fn status(client: &mut Client, table: &str, column: &str) -> Result<String> {
    let statement = format!(
        "SELECT {column} FROM system_coffer.key_status WHERE keyspace_name = 'ks' AND table_name = '{table}'"
    );
    let rows = texts(client, &statement)?;
    let value = rows.into_iter().next().and_then(|mut row| row.remove(column));
    value.ok_or_else(|| format!("no {column} of {table}").into())
}

/// Requests to KMSs since the server's start, by operation, of a table of keyspace `ks` or of all.
///
/// # Errors
/// When the server does not tell.
pub fn requests(client: &mut Client, table: Option<&str>) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for row in texts(client, "SELECT * FROM system_coffer.kms_requests")? {
        let field = |name: &str| row.get(name).cloned().unwrap_or_default();
        if table.is_none_or(|table| field("table_name") == table) {
            *counts.entry(field("operation")).or_insert(0) += field("count").parse::<u64>()?;
        }
    }
    Ok(counts)
}

/// The records of the server's audit log, with these filters of `coffer audit`.
///
/// # Errors
/// When it cannot be read.
pub fn trail(server: &Server, filters: &[&str]) -> Result<Vec<Value>> {
    let output = server.coffer(&[&["audit", "--json"], filters].concat())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(serde_json::from_str).collect::<serde_json::Result<_>>()?)
}
