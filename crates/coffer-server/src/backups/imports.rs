//! Imports. The command puts a backup into `import/<backup id>/` of the data directory, where its files
//! are linked from when they are attached; what is only verified gets a directory of its own there for
//! key and manifest.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use coffer_backup::{
    BackupId, KEY, KEY_OBJECT_BYTES_MAX, KeyObject, MANIFEST, MANIFEST_BYTES_MAX, Manifest,
};
use coffer_crypto::KeyRecord;
use coffer_model::TableId;
use coffer_query::{BACKUP_KEYSPACE, Database, Error};
use coffer_storage::RestoreSource;
use coffer_storage::inspect::{compare_tail_with_catalog, compare_with_catalog};
use coffer_storage::vfs::OsVfs;
use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::{customer_managed, name_of};
use crate::admin::{Refusal, Service};

/// How long the files of an interrupted import are kept.
const KEPT_MILLIS: i64 = 7 * 24 * 3_600 * 1_000;

/// The directory through which a backup is imported.
pub(crate) fn import_directory(data_dir: &Path, backup: BackupId) -> PathBuf {
    imports(data_dir).join(backup.to_string())
}

fn imports(data_dir: &Path) -> PathBuf {
    data_dir.join("import")
}

/// Makes an import directory, in a data directory that is there.
pub(super) fn make_directory(data_dir: &Path, id: BackupId) -> Result<(), String> {
    for directory in [imports(data_dir), import_directory(data_dir, id)] {
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(format!("create {}: {error}", directory.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// KEYSPACE.TABLE in two.
pub(super) fn target(table: &str) -> Result<(&str, &str), String> {
    table.split_once('.').ok_or_else(|| format!("{table}: KEYSPACE.TABLE is wanted"))
}

/// A backup in the import directory, opened.
pub(super) struct Staged {
    pub(super) record: KeyRecord,
    pub(super) manifest: Manifest,
}

impl Staged {
    /// Opens key and manifest. Where that fails and no other file was copied yet, nothing is left of
    /// them.
    pub(super) async fn open(
        database: &Database,
        backup: BackupId,
        directory: &Path,
    ) -> Result<Self, Refusal> {
        let opened = Self::try_open(database, backup, directory).await;
        if opened.is_err() && last_copied_millis(directory).is_ok_and(|copied| copied.is_none()) {
            remove(directory)?;
        }
        opened
    }

    async fn try_open(
        database: &Database,
        backup: BackupId,
        directory: &Path,
    ) -> Result<Self, Refusal> {
        let key = read(&directory.join(KEY), KEY_OBJECT_BYTES_MAX)?;
        let KeyObject { record, .. } = KeyObject::from_bytes(backup, &key)?;
        database.open_backup_keys(&name_of(backup), &record).await?;
        let keyring = database.keyring();
        let manifest = read(&directory.join(MANIFEST), MANIFEST_BYTES_MAX).map_err(Refusal::from);
        let opened =
            manifest.and_then(|bytes| Ok(Manifest::open(backup, &bytes, keyring.as_ref())?));
        keyring.forget(&backup.0);
        Ok(Self { record, manifest: opened? })
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(bytes_max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

pub(super) async fn attach(
    service: &Service,
    backup: BackupId,
    table: &str,
    kms_key: &str,
) -> Result<Value, Refusal> {
    let target = target(table)?;
    let directory = import_directory(&service.data_dir, backup);
    let staged = Staged::open(&service.database, backup, &directory).await?;
    let encryption = customer_managed(kms_key)?;
    let snapshot = staged.manifest.snapshot;
    let mut segments = Vec::with_capacity(snapshot.segments.len());
    for segment in snapshot.segments {
        let path = segment.path(&directory);
        compare_with_catalog(&OsVfs, &path, &segment)?;
        segments.push((path, segment));
    }
    let mut tails = Vec::with_capacity(snapshot.tails.len());
    for tail in snapshot.tails {
        let path = tail.path(&directory);
        compare_tail_with_catalog(&OsVfs, &path, &tail)?;
        tails.push((path, tail));
    }
    let source = RestoreSource::of_files(
        TableId(backup.0),
        snapshot.schema,
        snapshot.types,
        Arc::new(staged.record),
        snapshot.as_of_millis,
        segments,
        tails,
    );
    let imported = service.database.import_table(source, BACKUP_KEYSPACE, target, encryption).await;
    // a key may come back, and then the same command goes on; it never does against a wrong request
    let is_over = match &imported {
        Ok(()) | Err(Error::Invalid(_) | Error::Configuration(_) | Error::AlreadyExists { .. }) => {
            true
        }
        Err(_) => false,
    };
    // what stays is sealed, and a later start removes it
    if is_over && let Err(error) = remove(&directory) {
        tracing::warn!(error, "files of an import that is over stay");
    }
    imported?;
    tracing::info!(%backup, table, "backup imported");
    Ok(json!({ "backup": backup.to_string(), "table": table }))
}

pub(super) fn remove(directory: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what attempts to verify a backup left, and imports that nobody went on with; for the start of
/// a server. An import goes on as long as its files are new enough.
pub(crate) fn clear_imports(data_dir: &Path, now_millis: i64) {
    let Ok(entries) = std::fs::read_dir(imports(data_dir)) else { return };
    for directory in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let is_kept = |copied: i64| now_millis.saturating_sub(copied) < KEPT_MILLIS;
        let cleared = match last_copied_millis(&directory) {
            Ok(Some(copied)) if is_kept(copied) => continue,
            _ if is_in_use(&directory) => continue,
            Ok(_) => remove(&directory),
            Err(error) => Err(error.to_string()),
        };
        let directory = directory.display();
        match cleared {
            Ok(()) => tracing::info!(%directory, "files of a backup that nobody imports removed"),
            Err(error) => tracing::warn!(%directory, error, "files of a backup stay"),
        }
    }
}

/// When the newest file was copied here, apart from key and manifest; milliseconds since 1970.
fn last_copied_millis(directory: &Path) -> std::io::Result<Option<i64>> {
    let mut newest = None;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if [KEY, MANIFEST].iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let since = entry.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        newest = newest.max(Some(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
    }
    Ok(newest)
}

/// Whether a command that runs just now holds the directory.
fn is_in_use(directory: &Path) -> bool {
    let Ok(file) = File::open(directory) else { return false };
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    locked == Err(rustix::io::Errno::WOULDBLOCK)
}
