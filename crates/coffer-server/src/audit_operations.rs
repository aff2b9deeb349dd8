//! What operators do with copies of tables, in the audit log of the database: done, or refused and why.

use coffer_query::{AuditedOperation, Database, Error};
use coffer_storage::Catalog;
use serde_json::{Map, Value, json};

use crate::admin::Refusal;
use crate::backups::{BackupRequest, ExportRequest};
use crate::cli::SnapshotOperation;

/// What an operation came to.
type Done<'a, T> = &'a Result<T, Refusal>;

/// Records that a backup of a table left, or that a table was made of one.
pub(crate) fn record_backup(database: &Database, request: &BackupRequest, done: Done<'_, Value>) {
    let catalog = database.engine().catalog();
    match request {
        BackupRequest::Begin(ExportRequest { subject, is_snapshot, place, kms_key }) => {
            let (keyspace, table) =
                if *is_snapshot { snapshot_names(&catalog, subject) } else { names(subject) };
            let told = |name: &str| done.as_ref().ok().and_then(|row| row[name].as_str());
            let key_arn = told("kms_key").or(kms_key.as_deref());
            let parameters = parameters([
                ("backupId", json!(told("backup"))),
                ("snapshotId", json!(is_snapshot.then_some(subject))),
                ("place", json!(place)),
                ("kmsKeyId", json!(key_arn)),
            ]);
            let key_arn = key_arn.map(str::to_owned);
            record(database, "ExportBackup", (&keyspace, &table), key_arn, parameters, done);
        }
        // one that is allowed is recorded when its table is made
        BackupRequest::StageImport { .. } if done.is_ok() => {}
        BackupRequest::StageImport { backup, table, kms_key }
        | BackupRequest::Attach { backup, table, kms_key } => {
            let (keyspace, name) = names(table);
            let made = catalog.table(&keyspace, &name).filter(|_| done.is_ok());
            let of_table = made.and_then(|entry| entry.key.kms_key_arn.clone());
            let key_arn = of_table.unwrap_or_else(|| kms_key.clone());
            let parameters =
                parameters([("backupId", json!(backup)), ("kmsKeyId", json!(key_arn))]);
            let names = (keyspace.as_str(), name.as_str());
            record(database, "ImportBackup", names, Some(key_arn), parameters, done);
        }
        // they only read, or end what stands there already
        BackupRequest::Finish { .. }
        | BackupRequest::StageAttempt { .. }
        | BackupRequest::Open { .. }
        | BackupRequest::Leave { .. } => {}
    }
}

/// Records that a snapshot was taken; its end has a record of its own.
pub(crate) fn record_snapshot(
    database: &Database,
    operation: &SnapshotOperation,
    done: Done<'_, Vec<Value>>,
) {
    let SnapshotOperation::Create { table, name, keep } = operation else { return };
    let row = done.as_ref().ok().and_then(|rows| rows.first());
    let told = |name: &str| row.and_then(|row| row[name].as_str());
    let (keyspace, of_table) = names(table);
    let parameters = parameters([
        ("snapshotId", json!(told("id"))),
        ("snapshotName", json!(name)),
        ("keepDays", json!(keep)),
    ]);
    let key_arn = told("key_arn").map(str::to_owned);
    record(database, "CreateSnapshot", (&keyspace, &of_table), key_arn, parameters, done);
}

fn record<T>(
    database: &Database,
    name: &'static str,
    (keyspace, table): (&str, &str),
    key_arn: Option<String>,
    parameters: Map<String, Value>,
    done: Done<'_, T>,
) {
    let error = done.as_ref().err().map(|refusal| Error::Invalid(refusal.text.clone()));
    let operation = AuditedOperation { name, keyspace, table, key_arn, parameters, error };
    database.audit_operation(operation);
}

/// Those that have a value.
fn parameters<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    let known = all.into_iter().filter(|(_, value)| !value.is_null());
    known.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Keyspace and table, as far as the text names them.
fn names(text: &str) -> (String, String) {
    let (keyspace, table) = text.split_once('.').unwrap_or(("", text));
    (keyspace.to_owned(), table.to_owned())
}

fn snapshot_names(catalog: &Catalog, id: &str) -> (String, String) {
    let snapshot = id.parse().ok().and_then(|id| catalog.snapshots.get(&id));
    let names = snapshot.map(|taken| (taken.schema.keyspace.clone(), taken.schema.name.clone()));
    names.unwrap_or_default()
}
