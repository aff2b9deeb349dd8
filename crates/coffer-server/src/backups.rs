//! The server's part of `coffer backup`: keys, manifest, and the new table of an import. The command
//! itself reads and writes the files, so no credentials of a store come here.
//!
//! An export that has begun stands in the catalog with its snapshot and its keys, so that it goes on
//! after an interruption with the same ones. An import goes through `import/<backup id>/` in the data
//! directory, where files are linked from when they are attached.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_backup::{
    BackupId, KEY, KEY_OBJECT_BYTES_MAX, KeyObject, MANIFEST, MANIFEST_BYTES_MAX, Manifest,
};
use coffer_crypto::{KeyGrant, KeyRecord, TableKeyId};
use coffer_keys::{
    EncryptionContext, EncryptionSpecification, GrantNames, KeyArn, KeyChangeError, KeySource,
    NewKeys, SourceAccess, TableName,
};
use coffer_model::TableId;
use coffer_query::Database;
use coffer_storage::inspect::{compare_tail_with_catalog, compare_with_catalog};
use coffer_storage::vfs::OsVfs;
use coffer_storage::{
    Catalog, RestoreSource, SnapshotId, SnapshotKind, SnapshotRecord, SnapshotRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::{Report, Service};
use crate::audit_operations;
use crate::snapshots::{id_of, table_of};

/// What the catalog property of an export begins with.
const PREFIX: &str = "backup_export/";
/// Name of the pair of the encryption context that names the backup.
const CONTEXT_BACKUP: &str = "coffer:backup-id";
/// Name of the pair that names the account.
const CONTEXT_ACCOUNT: &str = "aws:cassandra:subscriberId";
/// What messages call the keyspace of a backup's keys.
const BACKUP: &str = "backup";
/// How long the snapshot of an interrupted export is kept: milliseconds of the age of the data
/// directory.
const SNAPSHOT_MILLIS: i64 = 7 * 24 * 3_600 * 1_000;

/// What the command asks the server for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub(crate) enum BackupRequest {
    /// Keys and manifest of a new backup, or of one to this place that was interrupted.
    Begin {
        /// KEYSPACE.TABLE, or the id of a snapshot.
        subject: String,
        is_snapshot: bool,
        place: String,
        kms_key: Option<String>,
    },
    /// The backup is complete.
    Finish { backup: String },
    /// What is in the backup whose key and manifest are in the import directory, or in one that only
    /// this attempt uses.
    Open {
        backup: String,
        /// Which attempt to verify it; `None` is the import.
        attempt: Option<String>,
    },
    /// Makes a table of the files in the import directory.
    Attach { backup: String, table: String, kms_key: Option<String> },
    /// Removes what an attempt to verify it left.
    Leave { attempt: String },
}

/// An export that has begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    subject: String,
    place: String,
    kms_key: String,
    snapshot: String,
    is_own_snapshot: bool,
    record: KeyRecord,
    created_at_millis: i64,
}

/// The directory through which a backup is imported.
pub(crate) fn import_directory(data_dir: &Path, backup: BackupId) -> PathBuf {
    data_dir.join("import").join(backup.to_string())
}

/// Does what is asked; waits for the KMS and the disk.
///
/// # Errors
/// A text for whoever typed the command.
pub(crate) async fn perform(service: &Service, request: &BackupRequest) -> Result<Report, String> {
    let done = step(service, request).await;
    audit_operations::record_backup(&service.database, request, &done);
    Ok(Report { rows: vec![done?], has_findings: false })
}

async fn step(service: &Service, request: &BackupRequest) -> Result<Value, String> {
    let database = &service.database;
    Ok(match request {
        BackupRequest::Begin { subject, is_snapshot, place, kms_key } => {
            begin(service, subject, *is_snapshot, place, kms_key.as_deref()).await?
        }
        BackupRequest::Finish { backup } => finish(database, id(backup)?)?,
        BackupRequest::Open { backup, attempt } => {
            let backup = id(backup)?;
            let directory = match attempt {
                Some(attempt) => id(attempt)?,
                None => backup,
            };
            let directory = import_directory(&service.data_dir, directory);
            let staged = Staged::open(service, backup, &directory).await?;
            let files = files(&staged.manifest, &directory);
            let schema = &staged.manifest.snapshot.schema;
            json!({
                "keyspace": schema.keyspace, "table": schema.name, "files": files,
                "kms_key": staged.record.kms_key_arn,
            })
        }
        BackupRequest::Attach { backup, table, kms_key } => {
            attach(service, id(backup)?, table, kms_key.as_deref()).await?
        }
        BackupRequest::Leave { attempt } => {
            remove(&import_directory(&service.data_dir, id(attempt)?))?;
            json!({})
        }
    })
}

fn id(text: &str) -> Result<BackupId, String> {
    text.parse().map_err(|error: coffer_backup::Error| error.to_string())
}

/// Opens the keys of a backup: with the rights that Coffer has on its KMS key, or else through a grant
/// that is made for it and retired.
async fn open(database: &Database, backup: BackupId, record: &KeyRecord) -> Result<(), String> {
    let (name, needed) = (name_of(backup), record_keys(record));
    let grant = format!("coffer-{}-{backup}-open", database.engine().catalog().cluster_id);
    let access = SourceAccess::Dropped { temporary_grant: Some(&grant) };
    let source = KeySource { table: &name, record, needed: &needed, access };
    let opened = database.keyring().open_files(source).await;
    opened.map_err(|failed| give_up(database, backup, &failed))
}

fn record_keys(record: &KeyRecord) -> HashSet<TableKeyId> {
    let older = record.older.iter().map(|older| older.table_key_id);
    older.chain([record.table_key_id]).collect()
}

/// Has the grants retired that a failed call made.
fn give_up(database: &Database, backup: BackupId, failed: &KeyChangeError) -> String {
    retire(database, backup, &failed.grants);
    failed.error.to_string()
}

fn retire(database: &Database, backup: BackupId, grants: &[KeyGrant]) {
    if let Err(error) = database.retire_grants(grants, BACKUP, &backup.to_string()) {
        tracing::warn!(%backup, %error, "grants of a backup stay at the KMS");
    }
}

/// What the keyring knows a backup's keys as.
fn name_of(backup: BackupId) -> TableName {
    TableName::new(backup.0, BACKUP, &backup.to_string())
}

fn customer_managed(arn: &str) -> Result<EncryptionSpecification, String> {
    let arn = KeyArn::parse(arn).map_err(|error| error.to_string())?;
    Ok(EncryptionSpecification::CustomerManaged(arn))
}

fn files(manifest: &Manifest, directory: &Path) -> Vec<Value> {
    let file = |file: coffer_backup::BackupFile| {
        json!({
            "object": file.object,
            "file_name": file.file_name,
            "path": directory.join(&file.file_name),
            "bytes": file.length,
            "sha256": hex::encode(file.sha256),
        })
    };
    manifest.files().into_iter().map(file).collect()
}

async fn begin(
    service: &Service,
    subject: &str,
    is_snapshot: bool,
    place: &str,
    kms_key: Option<&str>,
) -> Result<Value, String> {
    let database = &service.database;
    let catalog = database.engine().catalog();
    let begun = exports(&catalog).into_iter().find(|(_, export)| {
        export.subject == subject
            && export.place == place
            && kms_key.is_none_or(|wanted| wanted == export.kms_key)
            && export.snapshot.parse().is_ok_and(|id| catalog.snapshots.contains_key(&id))
    });
    let is_resumed = begun.is_some();
    let (backup, export) = match begun {
        Some((backup, export)) => {
            open(database, backup, &export.record).await?;
            (backup, export)
        }
        None => start(database, subject, is_snapshot, place, kms_key).await?,
    };
    let sealed = seal(database, backup, &export);
    database.keyring().forget(&backup.0);
    let (manifest, bytes) = sealed?;
    // the grants are this server's, and end with the export
    let record = KeyRecord { grants: Vec::new(), ..export.record };
    let key = KeyObject { id: backup, record, created_at_millis: export.created_at_millis };
    let directory = manifest.snapshot.directory(&service.data_dir);
    Ok(json!({
        "backup": backup.to_string(),
        "is_resumed": is_resumed,
        "kms_key": export.kms_key,
        "key": hex::encode(key.to_bytes().map_err(|error| error.to_string())?),
        "manifest": hex::encode(bytes),
        "files": files(&manifest, &directory),
    }))
}

fn exports(catalog: &Catalog) -> Vec<(BackupId, Export)> {
    let export = |(name, text): (&String, &String)| {
        let backup = name.strip_prefix(PREFIX)?.parse().ok()?;
        Some((backup, serde_json::from_str(text).ok()?))
    };
    catalog.properties.iter().filter_map(export).collect()
}

/// The manifest, and its sealed form. The keys of the backup are open.
fn seal(
    database: &Database,
    backup: BackupId,
    export: &Export,
) -> Result<(Manifest, Vec<u8>), String> {
    let catalog = database.engine().catalog();
    let snapshot = catalog.snapshots.get(&id_of(&export.snapshot)?);
    let snapshot = snapshot.ok_or("the snapshot of the export was erased; export again")?;
    let snapshot = SnapshotRecord::clone(snapshot);
    let manifest = Manifest { cluster: catalog.cluster_id, snapshot };
    let sealed = manifest.seal(backup, database.keyring().as_ref());
    sealed.map(|bytes| (manifest, bytes)).map_err(|error| error.to_string())
}

/// A new export: a snapshot, keys, and the note of both. The keys are open when this returns.
async fn start(
    database: &Database,
    subject: &str,
    is_snapshot: bool,
    place: &str,
    kms_key: Option<&str>,
) -> Result<(BackupId, Export), String> {
    let engine = database.engine();
    let catalog = engine.catalog();
    let backup = BackupId::random().map_err(|error| error.to_string())?;
    let table = if is_snapshot {
        let id = id_of(subject)?;
        let snapshot = catalog.snapshots.get(&id);
        snapshot.ok_or_else(|| format!("there is no snapshot {id}, it may have expired"))?.schema.id
    } else {
        table_of(&catalog, subject)?
    };
    let owned = catalog.key_record(table).ok_or("the table has no key record")?;
    let arn = kms_key.or(owned.kms_key_arn.as_deref()).ok_or_else(|| {
        format!(
            "{subject} is under the service's own key, which never leaves this server: name a KMS \
             key for the backup with --kms-key"
        )
    })?;
    let specification = customer_managed(arn)?;
    let name = name_of(backup);
    let described = database.keyring().describe(&name, &specification).await;
    described.map_err(|error| error.to_string())?;
    let snapshot = if is_snapshot {
        id_of(subject)?
    } else {
        let request = SnapshotRequest {
            kind: SnapshotKind::Manual,
            name: format!("export of backup {backup}"),
            keep_millis: Some(SNAPSHOT_MILLIS),
        };
        engine.take_snapshot(table, &request).map_err(|error| error.to_string())?.id
    };
    let prepared = adopt(database, snapshot, backup, &specification).await;
    let noted = prepared.and_then(|prepared| {
        let export = Export {
            subject: subject.to_owned(),
            place: place.to_owned(),
            kms_key: arn.to_owned(),
            snapshot: snapshot.to_string(),
            is_own_snapshot: !is_snapshot,
            record: prepared.record().clone(),
            created_at_millis: database.clock().key_wall_millis(),
        };
        if let Err(error) = note(database, backup, &export) {
            retire(database, backup, &export.record.grants);
            return Err(error);
        }
        database.keyring().install(prepared);
        Ok((backup, export))
    });
    if noted.is_err() && !is_snapshot {
        // it expires by itself
        drop(engine.erase_snapshot(snapshot));
    }
    noted
}

/// Keys of the backup under its KMS key, and the table keys of the snapshot's files under them.
async fn adopt(
    database: &Database,
    snapshot: SnapshotId,
    backup: BackupId,
    specification: &EncryptionSpecification,
) -> Result<coffer_keys::PreparedKeys, String> {
    let source = database.engine().snapshot_source(snapshot).map_err(|error| error.to_string())?;
    let catalog = database.engine().catalog();
    let schema = &source.schema;
    let table = TableName::new(source.table.0, &schema.keyspace, &schema.name);
    let access = if catalog.tables.contains_key(&source.table) {
        SourceAccess::Live
    } else {
        SourceAccess::Dropped { temporary_grant: None }
    };
    let context = EncryptionContext::from([
        (CONTEXT_BACKUP.to_owned(), backup.to_string()),
        (CONTEXT_ACCOUNT.to_owned(), database.options().account.clone()),
    ]);
    let needed = source.table_keys();
    let source = KeySource { table: &table, record: &source.key, needed: &needed, access };
    let grant = |kind| format!("coffer-{}-{backup}-{kind}", catalog.cluster_id);
    let names = GrantNames { data: grant("data"), snapshot: grant("snapshot") };
    let grants = Some(&names);
    let new = NewKeys { specification, context: &context, grants, double_wrapped: false };
    let adopted = database.keyring().adopt(source, &name_of(backup), new).await;
    adopted.map_err(|failed| give_up(database, backup, &failed))
}

/// Notes an export, and forgets those whose snapshot is gone.
fn note(database: &Database, backup: BackupId, export: &Export) -> Result<(), String> {
    let text = serde_json::to_string(export).map_err(|error| error.to_string())?;
    let catalog = database.engine().catalog();
    let is_gone = |export: &Export| {
        !export.snapshot.parse().is_ok_and(|id| catalog.snapshots.contains_key(&id))
    };
    for (old, gone) in exports(&catalog).iter().filter(|(_, export)| is_gone(export)) {
        retire(database, *old, &gone.record.grants);
    }
    change_properties(database, |catalog, properties| {
        for (old, export) in exports(catalog) {
            let snapshot = export.snapshot.parse();
            if !snapshot.is_ok_and(|id| catalog.snapshots.contains_key(&id)) {
                properties.remove(&format!("{PREFIX}{old}"));
            }
        }
        properties.insert(format!("{PREFIX}{backup}"), text.clone());
    })
}

fn change_properties(
    database: &Database,
    change: impl Fn(&Catalog, &mut BTreeMap<String, String>),
) -> Result<(), String> {
    let published = database.engine().update_catalog(&mut |catalog: &Catalog| {
        let mut next = catalog.clone();
        change(catalog, Arc::make_mut(&mut next.properties));
        Ok(next)
    });
    published.map(drop).map_err(|error| error.to_string())
}

fn finish(database: &Database, backup: BackupId) -> Result<Value, String> {
    let catalog = database.engine().catalog();
    let found = exports(&catalog).into_iter().find(|(known, _)| *known == backup);
    let Some((_, export)) = found else { return Ok(json!({})) };
    change_properties(database, |_, properties| {
        properties.remove(&format!("{PREFIX}{backup}"));
    })?;
    retire(database, backup, &export.record.grants);
    if export.is_own_snapshot {
        let snapshot = id_of(&export.snapshot)?;
        if let Err(error) = database.engine().erase_snapshot(snapshot) {
            tracing::warn!(%snapshot, %error, "the snapshot of a finished export stays until it expires");
        }
    }
    tracing::info!(%backup, subject = export.subject, place = export.place, "backup exported");
    Ok(json!({ "backup": backup.to_string() }))
}

/// A backup in the import directory, opened.
struct Staged {
    record: KeyRecord,
    manifest: Manifest,
}

impl Staged {
    async fn open(service: &Service, backup: BackupId, directory: &Path) -> Result<Self, String> {
        let key = read(&directory.join(KEY), KEY_OBJECT_BYTES_MAX)?;
        let key = KeyObject::from_bytes(&key).map_err(|error| error.to_string())?;
        if key.id != backup {
            return Err(format!("the key object is that of backup {}", key.id));
        }
        let keyring = service.database.keyring();
        open(&service.database, backup, &key.record).await?;
        let manifest = read(&directory.join(MANIFEST), MANIFEST_BYTES_MAX);
        let opened = manifest.and_then(|bytes| {
            Manifest::open(backup, &bytes, keyring.as_ref()).map_err(|error| error.to_string())
        });
        keyring.forget(&backup.0);
        Ok(Self { record: key.record, manifest: opened? })
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(bytes_max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

async fn attach(
    service: &Service,
    backup: BackupId,
    table: &str,
    kms_key: Option<&str>,
) -> Result<Value, String> {
    let (keyspace, name) =
        table.split_once('.').ok_or_else(|| format!("{table}: KEYSPACE.TABLE is wanted"))?;
    let directory = import_directory(&service.data_dir, backup);
    let staged = Staged::open(service, backup, &directory).await?;
    let arn = kms_key.or(staged.record.kms_key_arn.as_deref());
    let encryption = customer_managed(arn.unwrap_or_default())?;
    let snapshot = staged.manifest.snapshot;
    let mut segments = Vec::with_capacity(snapshot.segments.len());
    for segment in snapshot.segments {
        let path = segment.path(&directory);
        compare_with_catalog(&OsVfs, &path, &segment).map_err(|error| error.to_string())?;
        segments.push((path, segment));
    }
    let mut tails = Vec::with_capacity(snapshot.tails.len());
    for tail in snapshot.tails {
        let path = tail.path(&directory);
        compare_tail_with_catalog(&OsVfs, &path, &tail).map_err(|error| error.to_string())?;
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
    let imported = service.database.import_table(source, BACKUP, (keyspace, name), encryption);
    imported.await.map_err(|error| error.to_string())?;
    // what stays is sealed, and the next import or an operator removes it
    if let Err(error) = remove(&directory) {
        tracing::warn!(error, "files of a finished import stay");
    }
    tracing::info!(%backup, table, "backup imported");
    Ok(json!({ "backup": backup.to_string(), "table": table }))
}

fn remove(directory: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}
