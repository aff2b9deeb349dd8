//! `system_coffer`: what this server knows of the keys of its tables.

use coffer_storage::TableEntry;

use super::cells::{Cell, optional_text, text, timestamp};
use super::definition::{C, P, R, SystemTable, Type};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::execute::schema_change::is_customer_managed;
use crate::key_health::KeyHealth;
use crate::table_source::VirtualRow;

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![SystemTable {
        name: "key_status",
        comment: "keys of tables as the KMS last answered",
        columns: &[
            ("keyspace_name", P, Type::Text),
            ("table_name", C, Type::Text),
            ("deadline", R, Type::Timestamp),
            ("encryption_type", R, Type::Text),
            ("inaccessible_since", R, Type::Timestamp),
            ("key_arn", R, Type::Text),
            ("key_created_at", R, Type::Timestamp),
            ("kms_state", R, Type::Text),
            ("last_error", R, Type::Text),
            ("last_error_class", R, Type::Text),
            ("last_success", R, Type::Timestamp),
            ("older_table_keys", R, Type::Int),
            ("state", R, Type::Text),
            ("table_key_id", R, Type::Text),
        ],
        rows: key_rows,
    }]
}

fn key_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let catalog = database.engine().catalog();
    Ok(catalog.tables.values().map(|entry| key_cells(database, entry)).collect())
}

fn key_cells(database: &Database, entry: &TableEntry) -> VirtualRow {
    let health = database.key_healths().of(&entry.schema.id.0);
    let millis = |value: Option<i64>| -> Cell { value.and_then(timestamp) };
    vec![
        text(&entry.schema.keyspace),
        text(&entry.schema.name),
        None,
        text(entry.key.encryption_type.as_str()),
        millis(health.inaccessible_since),
        optional_text(entry.key.kms_key_arn.as_deref()),
        timestamp(entry.key.created_at_millis),
        if is_customer_managed(entry) { optional_text(health.kms_state) } else { None },
        optional_text(health.last_error.as_deref()),
        optional_text(health.last_error_class),
        millis(health.last_success),
        super::cells::count(entry.key.older.len()),
        text(state(database, entry, &health)),
        text(&format!("{}", entry.key.table_key_id)),
    ]
}

/// `ACCESSIBLE`, `INACCESSIBLE`, or `UNKNOWN` before the first use since the start.
fn state(database: &Database, entry: &TableEntry, health: &KeyHealth) -> &'static str {
    if !is_customer_managed(entry) || database.keyring().is_usable(&entry.schema.id.0) {
        "ACCESSIBLE"
    } else if health.inaccessible_since.is_some() {
        "INACCESSIBLE"
    } else {
        "UNKNOWN"
    }
}

/// `status` of a table in `system_schema_mcs`.
pub(super) fn table_status(database: &Database, entry: &TableEntry) -> &'static str {
    let health = database.key_healths().of(&entry.schema.id.0);
    if state(database, entry, &health) == "INACCESSIBLE" {
        "INACCESSIBLE_ENCRYPTION_CREDENTIALS"
    } else {
        "ACTIVE"
    }
}
