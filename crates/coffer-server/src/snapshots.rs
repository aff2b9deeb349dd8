//! What an operator does with snapshots while the server runs: `coffer snapshot`.

use coffer_model::TableId;
use coffer_query::Database;
use coffer_storage::{Catalog, SnapshotId, SnapshotKind, SnapshotRecord, SnapshotRequest};
use cql_types::time::format_timestamp;
use serde_json::{Value, json};

use crate::admin::{Refusal, Report};
use crate::audit_operations;
use crate::cli::SnapshotOperation;
use crate::printable::printable;

const DAY_MILLIS: i64 = 24 * 3_600 * 1_000;

/// Longest name of a snapshot.
const NAME_BYTES_MAX: usize = 255;

/// Does what is asked. Waits for the KMS, and blocks on the disk.
///
/// # Errors
/// A text for whoever typed the command.
pub(crate) async fn perform(
    database: &Database,
    operation: &SnapshotOperation,
) -> Result<Report, Refusal> {
    let done = rows(database, operation).await;
    audit_operations::record_snapshot(database, operation, &done);
    Ok(Report { rows: done?, has_findings: false })
}

async fn rows(database: &Database, operation: &SnapshotOperation) -> Result<Vec<Value>, Refusal> {
    let engine = database.engine();
    let wall = |age: i64| {
        let left = age.saturating_sub(engine.age_millis());
        database.clock().key_wall_millis().saturating_add(left)
    };
    Ok(match operation {
        SnapshotOperation::Create { table, name, keep } => {
            let name = &name_of(name)?;
            let request = SnapshotRequest {
                kind: SnapshotKind::Manual,
                name: name.clone(),
                keep_millis: keep.map(|days| i64::from(days).saturating_mul(DAY_MILLIS)),
            };
            let table = table_of(&engine.catalog(), table)?;
            let taken = engine.take_snapshot(table, &request)?;
            if let Err(error) = engine.verify_snapshot(taken.id) {
                let Refusal { text, is_tampered } = error.into();
                let text = format!("snapshot {} was taken and is not good: {text}", taken.id);
                return Err(Refusal { text, is_tampered });
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
            let unopened = verify(database, id).await?;
            let catalog = engine.catalog();
            let verified = |snapshot| verified_row(row(snapshot, wall), unopened.as_deref());
            catalog.snapshots.get(&id).map(|snapshot| verified(snapshot)).into_iter().collect()
        }
        SnapshotOperation::Drop { id } => {
            let id = id_of(id)?;
            let certificate = database.erase_snapshot(id)?;
            tracing::info!(snapshot = %id, "snapshot erased");
            vec![certificate]
        }
    })
}

/// Verifies a snapshot; says why its files were not opened.
async fn verify(database: &Database, id: SnapshotId) -> Result<Option<String>, Refusal> {
    let catalog = database.engine().catalog();
    let table = catalog.snapshots.get(&id).map(|snapshot| snapshot.schema.id);
    let is_live = table.is_some_and(|table| catalog.tables.contains_key(&table));
    let loaded = match table.filter(|_| is_live) {
        Some(table) => database.load_table_key(table).await,
        None => Ok(()),
    };
    let Some(unavailable) = database.engine().verify_snapshot(id)? else { return Ok(None) };
    Ok(Some(match loaded {
        Err(error) => error.to_string(),
        Ok(()) if !is_live => "the table was dropped and its key is not in memory".to_owned(),
        Ok(()) => unavailable.to_string(),
    }))
}

/// A line of the list with what verifying did; `unopened` is why the files were not opened.
pub(crate) fn verified_row(mut row: Value, unopened: Option<&str>) -> Value {
    if let Some(fields) = row.as_object_mut() {
        fields.insert("opened".to_owned(), unopened.is_none().into());
        fields.insert("not_opened_because".to_owned(), unopened.into());
    }
    row
}

/// A name that a snapshot may have.
///
/// # Errors
/// A text when it is too long or not printable.
pub(crate) fn name_of(text: &str) -> Result<String, String> {
    if text.len() > NAME_BYTES_MAX {
        let length = text.len();
        return Err(format!(
            "the name of a snapshot has {NAME_BYTES_MAX} bytes at most, and this one has {length}"
        ));
    }
    if printable(text) != text {
        return Err("the name of a snapshot has no control characters".to_owned());
    }
    Ok(text.to_owned())
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
