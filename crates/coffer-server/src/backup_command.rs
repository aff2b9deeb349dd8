//! `coffer backup`: moves the sealed files between the data directory and a directory or an object
//! store. The running server makes and opens the keys; the store is reached from here.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coffer_backup::{
    BackupFile, BackupId, KEY, KEY_OBJECT_BYTES_MAX, Listed, MANIFEST, MANIFEST_BYTES_MAX, Store,
};
use cql_types::time::format_timestamp;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::admin::AdminRequest;
use crate::backups::{BackupRequest, import_directory};
use crate::cli::{Backup, BackupOperation};
use crate::error::{CommandError, Result};
use crate::kms_command::report_of;
use crate::printable::progress_bar;

/// Runs the command.
///
/// # Errors
/// What the server, the KMS or the store refused; a backup that is not as it was written.
pub(crate) fn run(command: &Backup, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    // an error only says that there is one already
    let _ = rustls::crypto::ring::default_provider().install_default();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let moving = Moving {
        data_dir: std::path::absolute(&command.data_dir)
            .map_err(CommandError::io("find the data directory"))?,
        runtime: runtime.map_err(CommandError::io("start a thread"))?,
        endpoint: command.endpoint.clone(),
    };
    let row = match &command.operation {
        BackupOperation::Export { table, snapshot, to, kms_key } => {
            let subject = snapshot.as_ref().or(table.as_ref()).cloned().unwrap_or_default();
            moving.export(subject, snapshot.is_some(), to, kms_key.clone())?
        }
        BackupOperation::Import { from, table, backup, kms_key } => {
            moving.import(from, table, backup.as_deref(), kms_key.clone())?
        }
        BackupOperation::Verify { from, backup } => moving.verify(from, backup.as_deref())?,
        BackupOperation::List { from } => {
            let rows: Vec<Value> = moving.list(from)?.iter().map(list_row).collect();
            if command.json {
                say(&format!("{:#}\n", Value::from(rows)));
            } else {
                rows.iter().for_each(|row| say(&format!("{}\n", text(row))));
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    say(&if command.json { format!("{row:#}\n") } else { format!("{}\n", text(&row)) });
    Ok(ExitCode::SUCCESS)
}

fn text(row: &Value) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = row.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name}={}", shown(value))).collect::<Vec<_>>().join(" ")
}

fn list_row(backup: &Listed) -> Value {
    json!({
        "backup": backup.key.id.to_string(),
        "created_at": format_timestamp(backup.key.created_at_millis),
        "kms_key": backup.key.record.kms_key_arn,
        "bytes": backup.bytes,
        "is_complete": backup.is_complete,
    })
}

/// What a backup is moved with.
struct Moving {
    data_dir: PathBuf,
    runtime: Runtime,
    endpoint: Option<String>,
}

/// A file of a backup, and where it is in the data directory.
struct Moved {
    file: BackupFile,
    path: PathBuf,
}

fn refused(error: coffer_backup::Error) -> CommandError {
    // the causes of a store's answer tell what to do
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    CommandError::Refused(text)
}

impl Moving {
    fn store(&self, place: &str, create: bool) -> Result<Store> {
        Store::open(place, self.endpoint.as_deref(), create).map_err(refused)
    }

    /// Asks the server; the row of its answer.
    fn ask(&self, request: BackupRequest) -> Result<Value> {
        let report = report_of(&self.data_dir, &AdminRequest::Backup(request))?;
        Ok(report.rows.into_iter().next().unwrap_or_default())
    }

    fn list(&self, place: &str) -> Result<Vec<Listed>> {
        let store = self.store(place, false)?;
        self.runtime.block_on(store.list()).map_err(refused)
    }

    fn export(
        &self,
        subject: String,
        is_snapshot: bool,
        to: &str,
        kms_key: Option<String>,
    ) -> Result<Value> {
        let store = self.store(to, true)?;
        let mut place = store.location().to_owned();
        if let Some(endpoint) = &self.endpoint {
            place = format!("{place} at {endpoint}");
        }
        let begun = self.ask(BackupRequest::Begin { subject, is_snapshot, place, kms_key })?;
        let backup = id_of(&begun)?;
        let files = files_of(&begun)?;
        let total: u64 = files.iter().map(|moved| moved.file.length).sum();
        let progress = progress_bar(total);
        let copied = self.runtime.block_on(async {
            store.put(backup, KEY, bytes_of(&begun, "key")?).await.map_err(refused)?;
            let mut copied = 0_usize;
            for Moved { file, path } in &files {
                progress.set_message(file.object.clone());
                let count = |bytes| progress.inc(bytes);
                let is_new = store.put_file(backup, file, path, &count).await.map_err(refused)?;
                copied += usize::from(is_new);
            }
            store.put(backup, MANIFEST, bytes_of(&begun, "manifest")?).await.map_err(refused)?;
            Ok::<_, CommandError>(copied)
        })?;
        progress.finish_and_clear();
        self.ask(BackupRequest::Finish { backup: backup.to_string() })?;
        Ok(json!({
            "backup": backup.to_string(),
            "kms_key": begun.get("kms_key"),
            "is_resumed": begun.get("is_resumed"),
            "files": files.len(),
            "files_copied": copied,
            "bytes": total,
        }))
    }

    /// The backup that is meant: the only complete one unless it is named.
    fn chosen(&self, store: &Store, backup: Option<&str>) -> Result<BackupId> {
        if let Some(backup) = backup {
            return backup.parse().map_err(refused);
        }
        let all = self.runtime.block_on(store.list()).map_err(refused)?;
        let mut complete = all.iter().filter(|backup| backup.is_complete);
        match (complete.next(), complete.next()) {
            (Some(only), None) => Ok(only.key.id),
            (None, _) => Err(CommandError::Refused(format!(
                "there is no complete backup in {}; an export that was interrupted is run again",
                store.location()
            ))),
            _ => Err(CommandError::Refused(format!(
                "there is more than one backup in {}: name it with --backup (coffer backup list)",
                store.location()
            ))),
        }
    }

    /// Puts key and manifest where the server reads them; gives what it says of them.
    fn staged(&self, store: &Store, backup: BackupId, attempt: Option<BackupId>) -> Result<Value> {
        let directory = import_directory(&self.data_dir, attempt.unwrap_or(backup));
        create(&directory)?;
        for (object, bytes_max) in [(KEY, KEY_OBJECT_BYTES_MAX), (MANIFEST, MANIFEST_BYTES_MAX)] {
            let bytes = self.runtime.block_on(store.get(backup, object, bytes_max));
            let bytes = bytes.map_err(refused)?.ok_or_else(|| {
                CommandError::Refused(format!(
                    "backup {backup} in {} has no {object}: it is not complete",
                    store.location()
                ))
            })?;
            write(&directory.join(object), &bytes)?;
        }
        let attempt = attempt.map(|attempt| attempt.to_string());
        self.ask(BackupRequest::Open { backup: backup.to_string(), attempt })
    }

    fn import(
        &self,
        from: &str,
        table: &str,
        backup: Option<&str>,
        kms_key: Option<String>,
    ) -> Result<Value> {
        let store = self.store(from, false)?;
        let backup = self.chosen(&store, backup)?;
        let directory = import_directory(&self.data_dir, backup);
        create(&directory)?;
        let _lock = lock(&directory)?;
        let opened = self.staged(&store, backup, None)?;
        let files = files_of(&opened)?;
        let total: u64 = files.iter().map(|moved| moved.file.length).sum();
        let progress = progress_bar(total);
        self.runtime.block_on(async {
            for Moved { file, path } in &files {
                progress.set_message(file.object.clone());
                let count = |bytes| progress.inc(bytes);
                store.get_file(backup, file, path, &count).await.map_err(refused)?;
            }
            Ok::<_, CommandError>(())
        })?;
        progress.finish_and_clear();
        let table = table.to_owned();
        self.ask(BackupRequest::Attach {
            backup: backup.to_string(),
            table: table.clone(),
            kms_key,
        })?;
        Ok(json!({
            "backup": backup.to_string(), "table": table, "files": files.len(), "bytes": total,
        }))
    }

    fn verify(&self, from: &str, backup: Option<&str>) -> Result<Value> {
        let store = self.store(from, false)?;
        let backup = self.chosen(&store, backup)?;
        // not where an import of the same backup is under way
        let attempt = BackupId::random().map_err(refused)?;
        let opened = self.staged(&store, backup, Some(attempt));
        let left = self.ask(BackupRequest::Leave { attempt: attempt.to_string() });
        let opened = opened?;
        left?;
        let files = files_of(&opened)?;
        let total: u64 = files.iter().map(|moved| moved.file.length).sum();
        let progress = progress_bar(total);
        self.runtime.block_on(async {
            for Moved { file, .. } in &files {
                progress.set_message(file.object.clone());
                let count = |bytes| progress.inc(bytes);
                store.verify(backup, file, &count).await.map_err(refused)?;
            }
            Ok::<_, CommandError>(())
        })?;
        progress.finish_and_clear();
        Ok(json!({
            "backup": backup.to_string(),
            "kms_key": opened.get("kms_key"),
            "keyspace": opened.get("keyspace"),
            "table": opened.get("table"),
            "files": files.len(),
            "bytes": total,
            "result": "good",
        }))
    }
}

fn not_an_answer() -> CommandError {
    CommandError::Refused("not an answer of this version of coffer".to_owned())
}

fn id_of(row: &Value) -> Result<BackupId> {
    let id = row.get("backup").and_then(Value::as_str).ok_or_else(not_an_answer)?;
    id.parse().map_err(refused)
}

fn bytes_of(row: &Value, name: &str) -> Result<Vec<u8>> {
    let digits = row.get(name).and_then(Value::as_str).ok_or_else(not_an_answer)?;
    hex::decode(digits).map_err(|_| not_an_answer())
}

fn files_of(row: &Value) -> Result<Vec<Moved>> {
    let files = row.get("files").and_then(Value::as_array).ok_or_else(not_an_answer)?;
    let moved = |file: &Value| {
        let text = |name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut sha256 = [0; 32];
        hex::decode_to_slice(text("sha256")?, &mut sha256).ok()?;
        let length = file.get("bytes").and_then(Value::as_u64)?;
        let (object, file_name) = (text("object")?, text("file_name")?);
        let path = PathBuf::from(text("path")?);
        Some(Moved { file: BackupFile { object, file_name, length, sha256 }, path })
    };
    files.iter().map(|file| moved(file).ok_or_else(not_an_answer)).collect()
}

fn create(directory: &Path) -> Result<()> {
    let failed = CommandError::io(format!("create {}", directory.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)
}

/// The right to fill an import directory, until dropped. The directory itself is locked, so that no
/// file of it stays.
fn lock(directory: &Path) -> Result<File> {
    let failed = || CommandError::io(format!("lock {}", directory.display()));
    let file = File::open(directory).map_err(failed())?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(CommandError::Refused("another command imports this backup just now".to_owned()))
        }
        Err(error) => Err(failed()(error.into())),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(CommandError::io(format!("write {}", path.display())))
}
