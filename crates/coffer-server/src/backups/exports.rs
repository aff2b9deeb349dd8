//! Exports: a snapshot and keys for each. One that has begun stands in the catalog with both, so that it
//! goes on after an interruption with the same ones, for as long as a new one would take the same.

use std::path::Path;
use std::sync::Arc;

use coffer_backup::{BackupId, KeyObject, Manifest};
use coffer_crypto::KeyRecord;
use coffer_keys::{EncryptionContext, EncryptionSpecification};
use coffer_model::{TableId, TableSchema};
use coffer_query::{BackupKeys, Database, EXPORT_PREFIX};
use coffer_storage::{Catalog, SnapshotId, SnapshotKind, SnapshotRecord, SnapshotRequest};
use cql_types::time::format_timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ExportRequest, customer_managed, files, name_of};
use crate::admin::Refusal;
use crate::snapshots::{id_of, table_of};

/// Name of the pair of the encryption context that names the backup.
const CONTEXT_BACKUP: &str = "coffer:backup-id";
/// Name of the pair that names the account.
const CONTEXT_ACCOUNT: &str = "aws:cassandra:subscriberId";
/// How long the snapshot of an interrupted export is kept: milliseconds of the age of the data
/// directory.
const SNAPSHOT_MILLIS: i64 = 7 * 24 * 3_600 * 1_000;

/// An export that has begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Export {
    subject: String,
    /// Id of the table; empty where an earlier version noted it.
    #[serde(default)]
    table: String,
    place: String,
    kms_key: String,
    /// The key was named by whoever began it.
    #[serde(default)]
    is_key_named: bool,
    snapshot: String,
    is_own_snapshot: bool,
    record: KeyRecord,
    created_at_millis: i64,
}

impl Export {
    fn has_snapshot(&self, catalog: &Catalog) -> bool {
        self.snapshot.parse().is_ok_and(|id| catalog.snapshots.contains_key(&id))
    }
}

/// What a new export would take.
struct Wanted<'a> {
    request: &'a ExportRequest,
    table: TableId,
    schema: Arc<TableSchema>,
    encryption: EncryptionSpecification,
    arn: String,
}

impl<'a> Wanted<'a> {
    fn of(catalog: &Catalog, request: &'a ExportRequest) -> Result<Self, String> {
        let subject = &request.subject;
        let no_key = || "the table has no key record".to_owned();
        let schema = if request.is_snapshot {
            let id = id_of(subject)?;
            let snapshot = catalog.snapshots.get(&id);
            let missing = || format!("there is no snapshot {id}, it may have expired");
            Arc::clone(&snapshot.ok_or_else(missing)?.schema)
        } else {
            let table = catalog.tables.get(&table_of(catalog, subject)?);
            Arc::clone(&table.ok_or_else(no_key)?.schema)
        };
        let owned = catalog.key_record(schema.id).ok_or_else(no_key)?;
        let arn = request.kms_key.as_deref().or(owned.kms_key_arn.as_deref()).ok_or_else(|| {
            format!(
                "{subject} is under the service's own key, which never leaves this server: name a \
                 KMS key for the backup with --kms-key"
            )
        })?;
        let (encryption, arn) = (customer_managed(arn)?, arn.to_owned());
        Ok(Self { request, table: schema.id, schema, encryption, arn })
    }

    /// Whether the other one is of the same name, and goes to the same place.
    fn is_called_as(&self, export: &Export) -> bool {
        export.subject == self.request.subject
            && export.is_own_snapshot != self.request.is_snapshot
            && export.place == self.request.place
    }

    fn goes_on_with(&self, catalog: &Catalog, export: &Export) -> bool {
        self.is_called_as(export)
            && export.table == self.table.to_string()
            && export.kms_key == self.arn
            && export.has_snapshot(catalog)
    }

    /// Whether nobody can go on with it any more: it is of a table that had the name before, or it was
    /// to be under the table's key, and that is another one now.
    fn replaces(&self, export: &Export) -> bool {
        let is_of_old_key =
            !export.is_key_named && self.request.kms_key.is_none() && export.kms_key != self.arn;
        self.is_called_as(export) && (export.table != self.table.to_string() || is_of_old_key)
    }
}

pub(super) async fn begin(database: &Database, request: &ExportRequest) -> Result<Value, Refusal> {
    let catalog = database.engine().catalog();
    let wanted = Wanted::of(&catalog, request)?;
    database.check_backup_key(&wanted.schema, &wanted.encryption)?;
    let noted = exports(&catalog);
    let begun = noted.iter().find(|(_, export)| wanted.goes_on_with(&catalog, export)).cloned();
    let is_resumed = begun.is_some();
    let (backup, export) = match begun {
        Some((backup, export)) => {
            database.open_backup_keys(&name_of(backup), &export.record).await?;
            (backup, export)
        }
        None => start(database, &wanted).await?,
    };
    for (old, left) in &noted {
        if *old != backup && (wanted.replaces(left) || !left.has_snapshot(&catalog)) {
            end(database, *old, left)?;
            tracing::info!(backup = %old, subject = left.subject, "unfinished export given up");
        }
    }
    let sealed = seal(database, backup, &export);
    database.keyring().forget(&backup.0);
    let (manifest, bytes) = sealed?;
    // the grants are this server's, and end with the export
    let record = KeyRecord { grants: Vec::new(), ..export.record };
    let key = KeyObject { id: backup, record, created_at_millis: export.created_at_millis };
    let directory = manifest.snapshot.directory(Path::new(""));
    Ok(json!({
        "backup": backup.to_string(),
        "is_resumed": is_resumed,
        "as_of": format_timestamp(manifest.snapshot.as_of_millis),
        "kms_key": export.kms_key,
        "key": hex::encode(key.to_bytes()?),
        "manifest": hex::encode(bytes),
        "files": files(&manifest, &directory),
    }))
}

fn exports(catalog: &Catalog) -> Vec<(BackupId, Export)> {
    let export = |(name, text): (&String, &String)| {
        let backup = name.strip_prefix(EXPORT_PREFIX)?.parse().ok()?;
        Some((backup, serde_json::from_str(text).ok()?))
    };
    catalog.properties.iter().filter_map(export).collect()
}

/// The manifest, and its sealed form. The keys of the backup are open.
fn seal(
    database: &Database,
    backup: BackupId,
    export: &Export,
) -> Result<(Manifest, Vec<u8>), Refusal> {
    let catalog = database.engine().catalog();
    let snapshot = catalog.snapshots.get(&id_of(&export.snapshot)?);
    let gone = || "the snapshot of the export was erased; export again".to_owned();
    let snapshot = SnapshotRecord::clone(snapshot.ok_or_else(gone)?);
    let manifest = Manifest { cluster: catalog.cluster_id, snapshot };
    let bytes = manifest.seal(backup, database.keyring().as_ref())?;
    Ok((manifest, bytes))
}

/// A new export: a snapshot, keys, and the note of both. The keys are open when this returns.
async fn start(database: &Database, wanted: &Wanted<'_>) -> Result<(BackupId, Export), Refusal> {
    let engine = database.engine();
    let request = wanted.request;
    let backup = BackupId::random()?;
    let described = database.keyring().describe(&name_of(backup), &wanted.encryption).await;
    described.map_err(coffer_query::Error::from)?;
    let snapshot = if request.is_snapshot {
        id_of(&request.subject)?
    } else {
        let snapshot = SnapshotRequest {
            kind: SnapshotKind::Manual,
            name: format!("export of backup {backup}"),
            keep_millis: Some(SNAPSHOT_MILLIS),
        };
        engine.take_snapshot(wanted.table, &snapshot)?.id
    };
    let created_at_millis = database.clock().key_wall_millis();
    let export = |record: &KeyRecord| Export {
        subject: request.subject.clone(),
        table: wanted.table.to_string(),
        place: request.place.clone(),
        kms_key: wanted.arn.clone(),
        is_key_named: request.kms_key.is_some(),
        snapshot: snapshot.to_string(),
        is_own_snapshot: !request.is_snapshot,
        record: record.clone(),
        created_at_millis,
    };
    let noted = make_keys(database, (backup, snapshot), &wanted.encryption, &export).await;
    if noted.is_err() && !request.is_snapshot {
        // it expires by itself
        drop(database.erase_needless_snapshot(snapshot));
    }
    noted.map(|record| (backup, export(&record)))
}

/// Keys of the backup under its KMS key, and the table keys of the snapshot's files under them; with
/// them the export is noted.
async fn make_keys(
    database: &Database,
    (backup, snapshot): (BackupId, SnapshotId),
    encryption: &EncryptionSpecification,
    export: &dyn Fn(&KeyRecord) -> Export,
) -> Result<KeyRecord, Refusal> {
    let files = database.engine().snapshot_source(snapshot)?;
    let context = EncryptionContext::from([
        (CONTEXT_BACKUP.to_owned(), backup.to_string()),
        (CONTEXT_ACCOUNT.to_owned(), database.options().account.clone()),
    ]);
    let name = name_of(backup);
    let keys = BackupKeys { name: &name, encryption, context: &context };
    let note = |next: &mut Catalog, record: &KeyRecord| {
        if !next.snapshots.contains_key(&snapshot) {
            return Err("its snapshot was erased meanwhile, export again".to_owned());
        }
        let text = serde_json::to_string(&export(record)).map_err(|error| error.to_string())?;
        Arc::make_mut(&mut next.properties).insert(format!("{EXPORT_PREFIX}{backup}"), text);
        Ok(())
    };
    Ok(database.make_backup_keys(&files, keys, &note).await?)
}

/// Ends an export, complete or not: its note, its grants, and the snapshot that was taken for it.
fn end(database: &Database, backup: BackupId, export: &Export) -> Result<(), Refusal> {
    database.end_export(&backup.to_string())?;
    if export.is_own_snapshot && export.has_snapshot(&database.engine().catalog()) {
        let snapshot = id_of(&export.snapshot)?;
        if let Err(error) = database.erase_needless_snapshot(snapshot) {
            tracing::warn!(%snapshot, %error, "the snapshot of an ended export stays until it expires");
        }
    }
    Ok(())
}

pub(super) fn finish(database: &Database, backup: BackupId) -> Result<Value, Refusal> {
    let catalog = database.engine().catalog();
    let found = exports(&catalog).into_iter().find(|(known, _)| *known == backup);
    let Some((_, export)) = found else { return Ok(json!({})) };
    end(database, backup, &export)?;
    tracing::info!(%backup, subject = export.subject, place = export.place, "backup exported");
    Ok(json!({ "backup": backup.to_string() }))
}
