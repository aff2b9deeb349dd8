//! `coffer snapshot`: through the running server; `list` and `verify` on the files themselves where
//! none runs.

use std::path::Path;
use std::process::ExitCode;

use coffer_keys::load_root_keys;
use coffer_storage::inspect::{compare_tail_with_catalog, compare_with_catalog, newest_catalog};
use coffer_storage::vfs::OsVfs;
use coffer_storage::{Catalog, SnapshotRecord};
use serde_json::Value;

use crate::admin::AdminRequest;
use crate::cli::{Snapshot, SnapshotOperation};
use crate::error::{CommandError, Result};
use crate::kms_command::{connect, report_of, report_over};
use crate::printable::printable;
use crate::snapshots::{id_of, row, verified_row};

/// Runs the command.
///
/// # Errors
/// What the server refused, or why it cannot be reached; a snapshot that is not as it was taken.
pub(crate) fn run(command: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    let works_offline =
        matches!(command.operation, SnapshotOperation::List | SnapshotOperation::Verify { .. });
    let request = AdminRequest::Snapshot(command.operation.clone());
    let rows = match connect(&command.data_dir)? {
        Some(server) => report_over(server, &request)?.rows,
        None if works_offline => offline(command)?,
        None => report_of(&command.data_dir, &request)?.rows,
    };
    if command.json {
        say(&format!("{:#}\n", Value::from(rows)));
        return Ok(ExitCode::SUCCESS);
    }
    for row in &rows {
        match command.operation {
            // a certificate is kept as it is
            SnapshotOperation::Drop { .. } => say(&format!("{row:#}\n")),
            SnapshotOperation::Verify { .. } => say(&format!("{}\n", printable(&verified(row)))),
            _ => say(&format!("{}\n", printable(&line(row)))),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(row: &Value) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let number = |name: &str| row.get(name).and_then(Value::as_u64).unwrap_or_default();
    let or = |name: &str, other: &str| text(name).unwrap_or(other).to_owned();
    let name = match text("name") {
        None | Some("") => String::new(),
        Some(name) => format!(" \"{name}\""),
    };
    format!(
        "{} {} {}.{}{name} {} bytes, taken {}, expires {}, verified {}, under {}",
        or("id", ""),
        or("kind", ""),
        or("keyspace", ""),
        or("table", ""),
        number("bytes"),
        or("taken_at", ""),
        or("expires_at", "never"),
        or("verified_at", "not yet"),
        or("key_arn", "the service's own key"),
    )
}

/// What verifying did.
fn verified(row: &Value) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let files = row.get("files").and_then(Value::as_u64).unwrap_or_default();
    let as_taken = if files == 1 { "file as it was taken" } else { "files as they were taken" };
    let opened = match text("not_opened_because") {
        "" => "opened".to_owned(),
        because => format!("SHA-256 only, because {because}"),
    };
    let (id, keyspace, table) = (text("id"), text("keyspace"), text("table"));
    format!("{id} {keyspace}.{table}: {files} {as_taken}; {opened}")
}

fn offline(command: &Snapshot) -> Result<Vec<Value>> {
    let directory = &command.data_dir;
    if !directory.is_dir() {
        return Err(CommandError::Refused(format!(
            "there is no data directory {}",
            directory.display()
        )));
    }
    let file = command.root_key_file.clone().unwrap_or_else(|| directory.join("root.key"));
    let roots = load_root_keys(&file)?
        .ok_or_else(|| CommandError::RootKeyMissing { file: file.clone() })?;
    let catalog = newest_catalog(&OsVfs, directory, roots)?;
    let catalog = catalog.ok_or_else(|| {
        CommandError::Refused(format!("{} holds no catalog", directory.display()))
    })?;
    let wall = |age: i64| {
        let noted: &Catalog = &catalog;
        noted.age.noted_at_millis.saturating_add(age.saturating_sub(noted.age.millis))
    };
    match &command.operation {
        SnapshotOperation::Verify { id } => {
            let id = id_of(id).map_err(CommandError::Refused)?;
            let snapshot = catalog.snapshots.get(&id).ok_or_else(|| {
                CommandError::Refused(format!("there is no snapshot {id}, it may have expired"))
            })?;
            compare(directory, snapshot)?;
            Ok(vec![verified_row(row(snapshot, wall), Some("no server runs"))])
        }
        _ => Ok(catalog.snapshots.values().map(|snapshot| row(snapshot, wall)).collect()),
    }
}

fn compare(data_dir: &Path, snapshot: &SnapshotRecord) -> Result<()> {
    let directory = snapshot.directory(data_dir);
    let segments = snapshot.segments.iter();
    let mut compared =
        segments.map(|segment| compare_with_catalog(&OsVfs, &segment.path(&directory), segment));
    compared.try_for_each(|compared| compared.map_err(changed))?;
    let tails = snapshot.tails.iter();
    let mut compared =
        tails.map(|tail| compare_tail_with_catalog(&OsVfs, &tail.path(&directory), tail));
    compared.try_for_each(|compared| compared.map_err(changed))
}

/// A file that differs, or is missing.
fn changed(error: coffer_storage::Error) -> CommandError {
    use coffer_storage::Error;
    match &error {
        Error::Tampered { .. } => CommandError::Tampered(error.to_string()),
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            CommandError::Tampered(error.to_string())
        }
        _ => error.into(),
    }
}
