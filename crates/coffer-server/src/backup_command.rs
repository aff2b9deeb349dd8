//! `coffer backup`: moves the sealed files between the data directory and a directory or an object
//! store. The running server makes and opens the keys; the store is reached from here.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use coffer_backup::{
    BackupFile, BackupId, KEY, KEY_OBJECT_BYTES_MAX, KeyObject, Listed, MANIFEST,
    MANIFEST_BYTES_MAX, Store,
};
use cql_types::time::format_timestamp;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::admin::AdminRequest;
use crate::backups::{BackupRequest, ExportRequest, import_directory};
use crate::cli::{Backup, BackupOperation};
use crate::error::{CommandError, EXIT_TAMPERED, Result};
use crate::kms_command::report_of;
use crate::printable::{printable, progress_bar};

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
            let listed = moving.list(from)?;
            let rows: Vec<Value> = listed.iter().map(list_row).collect();
            if command.json {
                say(&format!("{:#}\n", Value::from(rows)));
            } else {
                rows.iter().for_each(|row| say(&format!("{}\n", text(row))));
            }
            let is_damaged = listed.iter().any(|backup| backup.key.is_err());
            let found = if is_damaged { ExitCode::from(EXIT_TAMPERED) } else { ExitCode::SUCCESS };
            return Ok(found);
        }
    };
    say(&if command.json { format!("{row:#}\n") } else { format!("{}\n", text(&row)) });
    Ok(ExitCode::SUCCESS)
}

fn text(row: &Value) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fields = row.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let fields = fields.map(|(name, value)| format!("{name}={}", shown(value)));
    printable(&fields.collect::<Vec<_>>().join(" "))
}

fn list_row(backup: &Listed) -> Value {
    let key = backup.key.as_ref();
    json!({
        "backup": backup.id.to_string(),
        "created_at": key.ok().map(|key| format_timestamp(key.created_at_millis)),
        "kms_key": key.ok().and_then(|key| key.record.kms_key_arn.as_deref()),
        "bytes": backup.bytes,
        "is_complete": backup.is_complete,
        "damaged": key.err().map(told),
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
    let text = told(&error);
    match error {
        coffer_backup::Error::Tampered { .. } => CommandError::Tampered(text),
        _ => CommandError::Refused(text),
    }
}

/// The error with its causes: those of a store's answer tell what to do.
fn told(error: &coffer_backup::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
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
        let request = ExportRequest { subject, is_snapshot, place, kms_key };
        let begun = self.ask(BackupRequest::Begin(request))?;
        let backup = id_of(&begun)?;
        let files = files_of(&begun, &self.data_dir)?;
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
            "as_of": begun.get("as_of"),
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
            (Some(only), None) => Ok(only.id),
            (None, _) => {
                let damaged = all.iter().filter_map(|backup| backup.key.as_ref().err());
                let damaged: String = damaged.map(|error| format!("; {}", told(error))).collect();
                Err(CommandError::Refused(format!(
                    "there is no complete backup in {}; an export that was interrupted is run \
                     again{damaged}",
                    store.location()
                )))
            }
            _ => Err(CommandError::Refused(format!(
                "there is more than one backup in {}: name it with --backup (coffer backup list)",
                store.location()
            ))),
        }
    }

    fn object(
        &self,
        store: &Store,
        backup: BackupId,
        object: &str,
        bytes_max: u64,
    ) -> Result<Bytes> {
        let bytes = self.runtime.block_on(store.get(backup, object, bytes_max));
        bytes.map_err(refused)?.ok_or_else(|| {
            CommandError::Refused(format!(
                "backup {backup} in {} has no {object}: it is not complete",
                store.location()
            ))
        })
    }

    fn head(&self, store: &Store, backup: BackupId) -> Result<Head> {
        let key = self.object(store, backup, KEY, KEY_OBJECT_BYTES_MAX)?;
        let kms_key = KeyObject::from_bytes(backup, &key).map_err(refused)?.record.kms_key_arn;
        let manifest = self.object(store, backup, MANIFEST, MANIFEST_BYTES_MAX)?;
        Ok(Head { kms_key, objects: [(KEY, key), (MANIFEST, manifest)] })
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
        let head = self.head(&store, backup)?;
        let kms_key = kms_key.or_else(|| head.kms_key.clone()).unwrap_or_default();
        let (id, table) = (backup.to_string(), table.to_owned());
        // what can be refused is refused before anything is copied
        self.ask(BackupRequest::StageImport {
            backup: id.clone(),
            table: table.clone(),
            kms_key: kms_key.clone(),
        })?;
        let directory = import_directory(&self.data_dir, backup);
        let _lock = lock(&directory)?;
        head.write(&directory)?;
        let opened = self.ask(BackupRequest::Open { backup: id.clone(), attempt: None })?;
        let files = files_of(&opened, &directory)?;
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
        self.ask(BackupRequest::Attach { backup: id.clone(), table: table.clone(), kms_key })?;
        Ok(json!({ "backup": id, "table": table, "files": files.len(), "bytes": total }))
    }

    /// What the server says of key and manifest. Nothing is left of them.
    fn open(&self, backup: BackupId, head: &Head) -> Result<Value> {
        // not where an import of the same backup is under way
        let attempt = BackupId::random().map_err(refused)?;
        self.ask(BackupRequest::StageAttempt { attempt: attempt.to_string() })?;
        let directory = import_directory(&self.data_dir, attempt);
        let opened = lock(&directory).and_then(|_lock| {
            head.write(&directory)?;
            let attempt = Some(attempt.to_string());
            self.ask(BackupRequest::Open { backup: backup.to_string(), attempt })
        });
        let left = self.ask(BackupRequest::Leave { attempt: attempt.to_string() });
        let opened = opened?;
        left?;
        Ok(opened)
    }

    fn verify(&self, from: &str, backup: Option<&str>) -> Result<Value> {
        let store = self.store(from, false)?;
        let backup = self.chosen(&store, backup)?;
        let opened = self.open(backup, &self.head(&store, backup)?)?;
        let files = files_of(&opened, &self.data_dir)?;
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
            "as_of": opened.get("as_of"),
            "files": files.len(),
            "bytes": total,
            "result": "good",
        }))
    }
}

/// Key and manifest of a backup.
struct Head {
    kms_key: Option<String>,
    objects: [(&'static str, Bytes); 2],
}

impl Head {
    /// Puts them where the server reads them.
    fn write(&self, directory: &Path) -> Result<()> {
        self.objects.iter().try_for_each(|(name, bytes)| write(&directory.join(name), bytes))
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

/// The files of an answer, whose paths are below `directory`.
fn files_of(row: &Value, directory: &Path) -> Result<Vec<Moved>> {
    let files = row.get("files").and_then(Value::as_array).ok_or_else(not_an_answer)?;
    let moved = |file: &Value| {
        let text = |name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut sha256 = [0; 32];
        hex::decode_to_slice(text("sha256")?, &mut sha256).ok()?;
        let length = file.get("bytes").and_then(Value::as_u64)?;
        let (object, file_name) = (text("object")?, text("file_name")?);
        let path = directory.join(text("path")?);
        Some(Moved { file: BackupFile { object, file_name, length, sha256 }, path })
    };
    files.iter().map(|file| moved(file).ok_or_else(not_an_answer)).collect()
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
