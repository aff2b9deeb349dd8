//! Keys of backups. What is made for them at the KMS is announced in the catalog first, so that nothing
//! of it stays when the server ends in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_crypto::KeyRecord;
use coffer_keys::{
    EncryptionContext, EncryptionSpecification, NewKeys, PreparedKeys, SourceKeys, TableName,
};
use coffer_model::{KeyspaceSchema, TableId, TableSchema};
use coffer_storage::{Catalog, RestoreSource, SnapshotId};
use cql_parser::ast::QualifiedName;
use serde::Deserialize;

use super::super::key_change::{Begun, Failed, Purpose, retiring};
use super::source_keys::Files;
use super::{new_table_id, source_grant_name};
use crate::database::Database;
use crate::encryption_policy::EncryptionPolicy;
use crate::error::Result;
use crate::plan::schema_change::restore as plan;

/// Keys that a backup is to get.
#[derive(Debug, Clone, Copy)]
pub struct BackupKeys<'a> {
    /// What the keyring knows them as: the backup's id is what they are bound to.
    pub name: &'a TableName,
    /// The KMS key.
    pub encryption: &'a EncryptionSpecification,
    /// What they are bound to at the KMS.
    pub context: &'a EncryptionContext,
}

/// Puts a backup with its keys into the catalog.
pub type BackupNote<'a> = &'a dyn Fn(&mut Catalog, &KeyRecord) -> std::result::Result<(), String>;

/// What the catalog property of an export that has begun begins with; the backup's id follows.
pub const EXPORT_PREFIX: &str = "backup_export/";
/// What messages call the keyspace of a backup.
pub const BACKUP_KEYSPACE: &str = "backup";

/// What must be known of an export, whatever else its note holds.
#[derive(Deserialize)]
struct ExportNote {
    snapshot: String,
    record: KeyRecord,
}

/// Removes the note of an export, which holds the keys of its snapshot's files, and has its grants given
/// back: all in the version of the catalog that is made. `id` is the backup's.
fn forget_export(catalog: &mut Catalog, id: &str, now_millis: i64) {
    let properties = Arc::make_mut(&mut catalog.properties);
    let Some(text) = properties.remove(&format!("{EXPORT_PREFIX}{id}")) else { return };
    match serde_json::from_str::<ExportNote>(&text) {
        Ok(note) => {
            let grants = note.record.grants.iter();
            let due = grants.map(|grant| retiring(grant, now_millis, BACKUP_KEYSPACE, id));
            catalog.retiring_grants.extend(due);
        }
        Err(error) => tracing::error!(backup = id, %error, "the note of an export does not decode"),
    }
}

/// Forgets the exports of snapshots that are erased: what is certified to be destroyed must not stand in
/// a note.
pub(crate) fn forget_exports_of(catalog: &mut Catalog, erased: &[SnapshotId], now_millis: i64) {
    let notes = catalog.properties.iter().filter_map(|(name, text)| {
        let id = name.strip_prefix(EXPORT_PREFIX)?;
        let note: ExportNote = serde_json::from_str(text).ok()?;
        let snapshot = note.snapshot.parse().ok()?;
        erased.contains(&snapshot).then(|| id.to_owned())
    });
    for id in notes.collect::<Vec<_>>() {
        forget_export(catalog, &id, now_millis);
    }
}

impl Database {
    /// Ends an export, complete or not: its note goes, and its grants are given back. `id` is the
    /// backup's. Blocks.
    ///
    /// # Errors
    /// When the catalog cannot be written; then it goes on.
    pub fn end_export(&self, id: &str) -> Result<()> {
        let now = self.clock().key_wall_millis();
        self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            forget_export(&mut next, id, now);
            Ok(next)
        })?;
        Ok(())
    }

    /// Whether a backup of a table may be under this key: as for the table itself by the rules of the
    /// server, and of its keyspace where that is still there.
    ///
    /// # Errors
    /// Invalid, naming the option and who set it.
    pub fn check_backup_key(
        &self,
        table: &TableSchema,
        encryption: &EncryptionSpecification,
    ) -> Result<()> {
        let catalog = self.engine().catalog();
        let gone = KeyspaceSchema {
            name: table.keyspace.clone(),
            replication: BTreeMap::new(),
            durable_writes: true,
            tags: BTreeMap::new(),
            custom_properties: BTreeMap::new(),
            types: BTreeMap::new(),
        };
        let keyspace = catalog.keyspaces.get(&table.keyspace).map_or(&gone, |schema| &**schema);
        EncryptionPolicy::of(&self.options().encryption, keyspace).check(&table.name, encryption)
    }

    /// Whether table `keyspace.name` can be made under this key, as far as it shows without the files.
    /// Waits for the KMS.
    ///
    /// # Errors
    /// As [`Database::import_table`]'s.
    pub async fn check_import(
        &self,
        (keyspace, name): (&str, &str),
        encryption: &EncryptionSpecification,
    ) -> Result<()> {
        let catalog = self.engine().catalog();
        let target = QualifiedName { keyspace: Some(keyspace.to_owned()), name: name.to_owned() };
        let schema = plan::check_target(&catalog, &target)?;
        EncryptionPolicy::of(&self.options().encryption, schema).check(name, encryption)?;
        let table = TableName::new(new_table_id()?.0, keyspace, name);
        self.keyring().describe(&table, encryption).await?;
        Ok(())
    }

    /// Opens the keys of a backup, and holds them until they are forgotten: with the rights that Coffer
    /// has on its KMS key, or else through a grant that is made for it and retired. Waits for the KMS.
    ///
    /// # Errors
    /// [`crate::Error::KeyRefused`], [`crate::Error::KeyUnreachable`]; [`crate::Error::ReadFailure`] for a damaged key.
    pub async fn open_backup_keys(&self, name: &TableName, record: &KeyRecord) -> Result<()> {
        let older = record.older.iter().map(|older| older.table_key_id);
        let needed = older.chain([record.table_key_id]).collect();
        let files = Files { table: name.clone(), record, needed, is_live: false };
        let failed = match self.keyring().open_files(files.source(None)).await {
            Ok(()) => return Ok(()),
            Err(failed) => Failed::from(failed),
        };
        if !files.may_need_grant(&failed) {
            return Err(*failed.error);
        }
        let (owned, context) = (EncryptionSpecification::AwsOwned, EncryptionContext::new());
        let nothing = BackupKeys { name, encryption: &owned, context: &context };
        let begun = self.announce(nothing, Some(record))?;
        let temporary = source_grant_name(&self.grant_names(&begun));
        match self.keyring().open_files(files.source(Some(&temporary))).await {
            Ok(()) => {
                self.remove_change(&begun.table, &begun.change, &[]);
                Ok(())
            }
            Err(failed) => Err(self.give_up(Some(&begun), failed.into())),
        }
    }

    /// Makes the keys of a backup, with the table keys of its files under them. `note` puts into the
    /// catalog what must be known of the backup. The keys are open when this returns. Waits for the KMS.
    ///
    /// # Errors
    /// As [`Database::open_backup_keys`]'s; then nothing is noted, and grants are given back.
    pub async fn make_backup_keys(
        &self,
        files: &RestoreSource,
        backup: BackupKeys<'_>,
        note: BackupNote<'_>,
    ) -> Result<KeyRecord> {
        let schema = &files.schema;
        let source = Files {
            table: TableName::new(files.table.0, &schema.keyspace, &schema.name),
            record: &files.key,
            needed: files.table_keys(),
            is_live: self.engine().catalog().tables.contains_key(&files.table),
        };
        let opened = self.open_with_rights(&source).await?;
        let begun = self.announce(backup, source.granted(opened.as_ref()))?;
        let made = self.make_announced(&source, opened, backup, &begun, note).await;
        let keys = made.map_err(|failed| self.give_up(Some(&begun), failed))?;
        let record = keys.record().clone();
        self.keyring().install(keys);
        Ok(record)
    }

    async fn make_announced(
        &self,
        source: &Files<'_>,
        opened: Option<SourceKeys>,
        backup: BackupKeys<'_>,
        begun: &Begun,
        note: BackupNote<'_>,
    ) -> Result<PreparedKeys, Failed> {
        let names = self.grant_names(begun);
        let opened = self.open_announced(source, opened, &names).await?;
        let BackupKeys { name, encryption: specification, context } = backup;
        let grants = Some(&names);
        let new = NewKeys { specification, context, grants, double_wrapped: false };
        let keys = self.keyring().adopt_opened(&opened, name, new).await?;
        let noted = self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            next.key_changes.remove(&TableId(begun.table.id));
            note(&mut next, keys.record()).map_err(|error| {
                coffer_storage::Error::Refused(format!("the backup cannot be noted: {error}"))
            })?;
            Ok(next)
        });
        match noted {
            Ok(_) => Ok(keys),
            Err(error) => {
                let grants = keys.record().grants.clone();
                Err(Failed { error: Box::new(error.into()), grants, is_lost: false })
            }
        }
    }

    /// Announces what is to be made at the KMS. Each announcement has an id of its own: that of a backup
    /// may be verified twice at a time.
    fn announce(&self, backup: BackupKeys<'_>, granted: Option<&KeyRecord>) -> Result<Begun> {
        let BackupKeys { name, encryption, context } = backup;
        let table = TableName::new(new_table_id()?.0, &name.keyspace, &name.name);
        self.begin_change(&table, encryption, context, Purpose::Backup { granted })
    }
}
