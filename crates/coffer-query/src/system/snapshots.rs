//! `system_coffer.snapshots`: what is kept of tables beside their live files.

use coffer_storage::{Catalog, SnapshotRecord};

use super::cells::{bigint, boolean, optional_text, text, timestamp, uuid};
use super::definition::{C, P, R, SystemTable, Type};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::table_source::VirtualRow;

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![SystemTable {
        name: "snapshots",
        comment: "snapshots of tables, of those that were dropped too",
        columns: &[
            ("keyspace_name", P, Type::Text),
            ("table_name", C, Type::Text),
            ("id", C, Type::Text),
            ("as_of", R, Type::Timestamp),
            ("bytes", R, Type::BigInt),
            ("expires_at", R, Type::Timestamp),
            ("is_dropped", R, Type::Boolean),
            ("key_arn", R, Type::Text),
            ("key_arn_needed", R, Type::Text),
            ("kind", R, Type::Text),
            ("name", R, Type::Text),
            ("restorable", R, Type::Boolean),
            ("table_id", R, Type::Uuid),
            ("taken_at", R, Type::Timestamp),
            ("verified_at", R, Type::Timestamp),
        ],
        rows,
    }]
}

fn rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let catalog = database.engine().catalog();
    let snapshots = catalog.snapshots.values();
    Ok(snapshots.map(|snapshot| cells(database, &catalog, snapshot)).collect())
}

fn cells(database: &Database, catalog: &Catalog, snapshot: &SnapshotRecord) -> VirtualRow {
    let table = snapshot.schema.id;
    let key = catalog.key_record(table);
    // what the KMS said last, where it was asked: a restore asks anew
    let restorable = match key {
        None => Some(false),
        Some(key) if catalog.dropped.contains_key(&table) => database.is_kept_key_usable(key),
        Some(_) => Some(database.key_healths().of(&table.0).inaccessible_since.is_none()),
    };
    vec![
        text(&snapshot.schema.keyspace),
        text(&snapshot.schema.name),
        text(&snapshot.id.to_string()),
        timestamp(snapshot.as_of_millis),
        bigint(i64::try_from(snapshot.bytes()).unwrap_or(i64::MAX)),
        snapshot.expires_at_age.and_then(|age| timestamp(database.wall_of_age(age))),
        boolean(catalog.dropped.contains_key(&table)),
        optional_text(snapshot.key_arn.as_deref()),
        optional_text(key.and_then(|key| key.kms_key_arn.as_deref())),
        text(snapshot.kind.as_str()),
        text(&snapshot.name),
        restorable.and_then(boolean),
        uuid(table.to_uuid()),
        timestamp(snapshot.taken_at_millis),
        snapshot.verified_at_millis.and_then(timestamp),
    ]
}
