//! The server's part of `coffer backup`: keys, manifest, and the new table of an import. The command
//! itself reads and writes the files, so no credentials of a store come here.
//!
//! `exports` keeps what has begun in the catalog, so that it goes on after an interruption; `imports`
//! makes tables of what the command put into `import/` of the data directory.

mod exports;
mod imports;

use std::path::Path;

use coffer_backup::{BackupFile, BackupId, Manifest};
use coffer_keys::{EncryptionSpecification, KeyArn, TableName};
use coffer_query::BACKUP_KEYSPACE;
use cql_types::time::format_timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::{Refusal, Report, Service};
use crate::audit_operations;
use imports::Staged;
pub(crate) use imports::{clear_imports, import_directory};

/// What the command asks the server for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub(crate) enum BackupRequest {
    /// Keys and manifest of a new backup, or of one to this place that was interrupted.
    Begin(ExportRequest),
    /// The backup is complete.
    Finish { backup: String },
    /// A directory for key and manifest of a backup that is to be verified.
    StageAttempt { attempt: String },
    /// A directory for the files of a backup, if its table can be made as far as it shows by now.
    StageImport {
        backup: String,
        table: String,
        /// ARN of the new table's key.
        kms_key: String,
    },
    /// What is in the backup whose key and manifest are in the import directory, or in one that only
    /// this attempt uses.
    Open {
        backup: String,
        /// Which attempt to verify it; `None` is the import.
        attempt: Option<String>,
    },
    /// Makes a table of the files in the import directory.
    Attach { backup: String, table: String, kms_key: String },
    /// Removes what an attempt to verify it left.
    Leave { attempt: String },
}

/// What is to be exported, and where to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExportRequest {
    /// KEYSPACE.TABLE, or the id of a snapshot.
    pub(crate) subject: String,
    pub(crate) is_snapshot: bool,
    pub(crate) place: String,
    /// ARN; that of the table when there is none.
    pub(crate) kms_key: Option<String>,
}

/// Does what is asked; waits for the KMS and the disk.
///
/// # Errors
/// A text for whoever typed the command.
pub(crate) async fn perform(service: &Service, request: &BackupRequest) -> Result<Report, Refusal> {
    let done = step(service, request).await;
    audit_operations::record_backup(&service.database, request, &done);
    Ok(Report { rows: vec![done?], has_findings: false })
}

async fn step(service: &Service, request: &BackupRequest) -> Result<Value, Refusal> {
    let database = &service.database;
    Ok(match request {
        BackupRequest::Begin(request) => exports::begin(database, request).await?,
        BackupRequest::Finish { backup } => exports::finish(database, id(backup)?)?,
        BackupRequest::StageAttempt { attempt } => {
            imports::make_directory(&service.data_dir, id(attempt)?)?;
            json!({})
        }
        BackupRequest::StageImport { backup, table, kms_key } => {
            let backup = id(backup)?;
            let encryption = customer_managed(kms_key)?;
            database.check_import(imports::target(table)?, &encryption).await?;
            imports::make_directory(&service.data_dir, backup)?;
            json!({})
        }
        BackupRequest::Open { backup, attempt } => {
            let backup = id(backup)?;
            let directory = match attempt {
                Some(attempt) => id(attempt)?,
                None => backup,
            };
            let directory = import_directory(&service.data_dir, directory);
            let staged = Staged::open(database, backup, &directory).await?;
            let snapshot = &staged.manifest.snapshot;
            json!({
                "keyspace": snapshot.schema.keyspace, "table": snapshot.schema.name,
                "as_of": format_timestamp(snapshot.as_of_millis),
                "files": files(&staged.manifest, Path::new("")),
                "kms_key": staged.record.kms_key_arn,
            })
        }
        BackupRequest::Attach { backup, table, kms_key } => {
            imports::attach(service, id(backup)?, table, kms_key).await?
        }
        BackupRequest::Leave { attempt } => {
            imports::remove(&import_directory(&service.data_dir, id(attempt)?))?;
            json!({})
        }
    })
}

fn id(text: &str) -> Result<BackupId, Refusal> {
    Ok(text.parse::<BackupId>()?)
}

/// What the keyring knows a backup's keys as.
fn name_of(backup: BackupId) -> TableName {
    TableName::new(backup.0, BACKUP_KEYSPACE, &backup.to_string())
}

fn customer_managed(arn: &str) -> Result<EncryptionSpecification, String> {
    let arn = KeyArn::parse(arn).map_err(|error| error.to_string())?;
    Ok(EncryptionSpecification::CustomerManaged(arn))
}

/// The files, with their paths below `directory`: below the data directory, or the import directory.
fn files(manifest: &Manifest, directory: &Path) -> Vec<Value> {
    let file = |file: BackupFile| {
        json!({
            "object": file.object,
            "file_name": file.file_name,
            "path": directory.join(&file.file_name).to_string_lossy(),
            "bytes": file.length,
            "sha256": hex::encode(file.sha256),
        })
    };
    manifest.files().into_iter().map(file).collect()
}
