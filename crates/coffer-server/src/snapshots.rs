//! What an operator does with snapshots while the server runs: `coffer snapshot`.

use coffer_model::TableId;
use coffer_query::Database;
use coffer_storage::{Catalog, SnapshotId, SnapshotKind, SnapshotRecord, SnapshotRequest};
use cql_types::time::format_timestamp;
use serde_json::{Value, json};

use crate::admin::Report;
use crate::audit_operations;
use crate::cli::SnapshotOperation;

const DAY_MILLIS: i64 = 24 * 3_600 * 1_000;

/// Does what is asked. Blocks.
///
/// # Errors
/// A text for whoever typed the command.
pub(crate) fn perform(
    database: &Database,
    operation: &SnapshotOperation,
) -> Result<Report, String> {
    let done = rows(database, operation);
    audit_operations::record_snapshot(database, operation, &done);
    Ok(Report { rows: done?, has_findings: false })
}

fn rows(database: &Database, operation: &SnapshotOperation) -> Result<Vec<Value>, String> {
    let engine = database.engine();
    let wall = |age: i64| {
        let left = age.saturating_sub(engine.age_millis());
        database.clock().key_wall_millis().saturating_add(left)
    };
    Ok(match operation {
        SnapshotOperation::Create { table, name, keep } => {
            let request = SnapshotRequest {
                kind: SnapshotKind::Manual,
                name: name.clone(),
                keep_millis: keep.map(|days| i64::from(days).saturating_mul(DAY_MILLIS)),
            };
            let table = table_of(&engine.catalog(), table)?;
            let taken = engine.take_snapshot(table, &request).map_err(|e| e.to_string())?;
            if let Err(error) = engine.verify_snapshot(taken.id) {
                return Err(format!("snapshot {} was taken and is not good: {error}", taken.id));
            }
            let catalog = engine.catalog();
            catalog
                .snapshots
                .get(&taken.id)
                .map(|snapshot| row(snapshot, wall))
                .into_iter()
                .collect()
        }
        SnapshotOperation::List => {
            let catalog = engine.catalog();
            catalog.snapshots.values().map(|snapshot| row(snapshot, wall)).collect()
        }
        SnapshotOperation::Verify { id } => {
            let id = id_of(id)?;
            engine.verify_snapshot(id).map_err(|error| error.to_string())?;
            let catalog = engine.catalog();
            catalog.snapshots.get(&id).map(|snapshot| row(snapshot, wall)).into_iter().collect()
        }
        SnapshotOperation::Drop { id } => {
            let id = id_of(id)?;
            let certificate = database.erase_snapshot(id).map_err(|error| error.to_string())?;
            tracing::info!(snapshot = %id, "snapshot erased");
            vec![certificate]
        }
    })
}

/// The table called KEYSPACE.TABLE.
///
/// # Errors
/// A text when there is none.
pub(crate) fn table_of(catalog: &Catalog, name: &str) -> Result<TableId, String> {
    let entry = name.split_once('.').and_then(|(keyspace, table)| catalog.table(keyspace, table));
    let entry = entry.ok_or_else(|| {
        format!("there is no table {name}; KEYSPACE.TABLE is wanted, as it was created")
    })?;
    Ok(entry.schema.id)
}

/// The snapshot of this id.
///
/// # Errors
/// A text when it is no id.
pub(crate) fn id_of(text: &str) -> Result<SnapshotId, String> {
    text.parse().map_err(|_| format!("{text} is no snapshot: its id is 32 hex digits"))
}

/// A line of the list. `wall` gives the time at which the data directory has an age.
pub(crate) fn row(snapshot: &SnapshotRecord, wall: impl Fn(i64) -> i64) -> Value {
    json!({
        "id": snapshot.id.to_string(),
        "kind": snapshot.kind.as_str(),
        "keyspace": snapshot.schema.keyspace,
        "table": snapshot.schema.name,
        "name": snapshot.name,
        "files": snapshot.segments.len() + snapshot.tails.len(),
        "bytes": snapshot.bytes(),
        "as_of": format_timestamp(snapshot.as_of_millis),
        "taken_at": format_timestamp(snapshot.taken_at_millis),
        "expires_at": snapshot.expires_at_age.map(|age| format_timestamp(wall(age))),
        "key_arn": snapshot.key_arn,
        "verified_at": snapshot.verified_at_millis.map(format_timestamp),
    })
}
