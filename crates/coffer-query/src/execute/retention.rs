//! What is kept of tables: snapshots of those that are dropped, and the history of those with
//! point-in-time recovery.

use std::collections::HashMap;
use std::sync::Arc;

use coffer_model::{TableId, TableSchema};
use coffer_storage::{Catalog, SnapshotKind, SnapshotRecord, SnapshotRequest, TableEntry};
use cql_parser::ast::{QualifiedName, StatementKind};
use cql_types::time::format_timestamp;

use super::restore::restorable_dropped;
use crate::custom_properties::{auto_snapshot, has_point_in_time_recovery};
use crate::database::Database;
use crate::error::Result;
use crate::table_keys::table_name;

/// How long snapshots of dropped tables are kept, and how far back a table can be restored:
/// milliseconds of the age of the data directory.
pub(crate) const RETENTION_MILLIS: i64 = 35 * 24 * 3_600 * 1_000;

/// What a DROP keeps.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The tables that leave, as they were when it was decided.
    pub(super) leaving: Vec<Leaving>,
    /// Snapshots that are taken with it.
    pub(super) snapshots: Vec<(TableId, SnapshotRequest)>,
    /// What the client should know.
    pub(super) warnings: Vec<String>,
}

/// A table that leaves: what decides about its snapshot.
#[derive(Debug, PartialEq)]
pub(super) struct Leaving {
    schema: Arc<TableSchema>,
    key_arn: Option<String>,
}

impl Database {
    /// Which of the tables that a statement drops leave a snapshot: those whose key cannot be used, those
    /// with a history, and those that ask for it; none that forbids it. Asks the KMS whether a key that
    /// was not refused can still be used, also a cached one, and takes no answer for a no: what was
    /// destroyed does not come back.
    pub(super) async fn kept_by(&self, statement: &StatementKind) -> Kept {
        let catalog = self.engine().catalog();
        let mut kept = Kept { leaving: leaving(&catalog, statement), ..Kept::default() };
        let entries = dropped_by(&catalog, statement);
        let mut asked: HashMap<_, _> =
            entries.iter().filter_map(|entry| self.known_refusal(entry)).collect();
        for entry in entries {
            let table = &entry.schema;
            let is_kept = match auto_snapshot(table) {
                Some(said) => said,
                None => {
                    let lost = self.why_not_openable(entry, &mut asked).await;
                    kept.warnings.extend(lost.as_ref().map(|why| self.kept_warning(entry, why)));
                    lost.is_some() || has_point_in_time_recovery(table)
                }
            };
            if is_kept {
                kept.snapshots.push((table.id, request(SnapshotKind::Drop)));
            }
        }
        kept
    }

    /// Why the table's key cannot be used, if so. `asked` holds answers by KMS key: one that does not
    /// answer is not waited for again.
    async fn why_not_openable(
        &self,
        entry: &TableEntry,
        asked: &mut HashMap<String, String>,
    ) -> Option<String> {
        let arn = entry.key.kms_key_arn.as_deref()?;
        if let Some(why) = asked.get(arn) {
            return Some(why.clone());
        }
        let checked = self.keyring().check_decrypt(&table_name(entry), &entry.key).await;
        let why = checked.err()?.to_string();
        asked.insert(arn.to_owned(), why.clone());
        Some(why)
    }

    /// The KMS key of a table, and how the KMS refused it last.
    fn known_refusal(&self, entry: &TableEntry) -> Option<(String, String)> {
        let arn = entry.key.kms_key_arn.clone()?;
        let health = self.key_healths().of(&entry.schema.id.0);
        let why = health.last_error.filter(|_| health.inaccessible_since.is_some())?;
        Some((arn, why))
    }

    fn kept_warning(&self, entry: &TableEntry, why: &str) -> String {
        let until = self.clock().key_wall_millis().saturating_add(RETENTION_MILLIS);
        format!(
            "the key of table {}.{} cannot be used, so a snapshot of it is kept until {}: RESTORE \
             TABLE brings it back when the key can be used again ({why})",
            entry.schema.keyspace,
            entry.schema.name,
            format_timestamp(until)
        )
    }

    /// A snapshot before TRUNCATE, of a table that asks for one.
    pub(super) fn keep_before_truncate(&self, table: TableId) -> Result<()> {
        let catalog = self.engine().catalog();
        let entry = catalog.tables.get(&table);
        if entry.is_some_and(|entry| auto_snapshot(&entry.schema) == Some(true)) {
            self.engine().take_snapshot(table, &request(SnapshotKind::Truncate))?;
        }
        Ok(())
    }

    /// A statement may have switched the history of its table on or off; what the client should know
    /// when that was not done yet.
    pub(super) fn settle_archive_of(&self, statement: &StatementKind) -> Option<String> {
        let name = match statement {
            StatementKind::CreateTable(create) => &create.name,
            StatementKind::AlterTable(alter) => &alter.name,
            StatementKind::RestoreTable(restore) => &restore.name,
            _ => return None,
        };
        let keyspace = name.keyspace.as_deref().unwrap_or_default();
        let catalog = self.engine().catalog();
        let table = catalog.table(keyspace, &name.name)?.schema.id;
        let error = self.settle_archive(table).err()?;
        tracing::warn!(%table, %error, "history of a table is not begun or ended, trying again");
        Some(format!(
            "point_in_time_recovery of table {keyspace}.{} is not switched yet, it is tried again: \
             {error}",
            name.name
        ))
    }

    /// Begins or ends to keep the history of a table, as its properties say. Blocks.
    ///
    /// # Errors
    /// When its files cannot be linked or the catalog cannot be written; [`Self::keep_up_archives`] tries
    /// again.
    pub(super) fn settle_archive(&self, table: TableId) -> Result<()> {
        let catalog = self.engine().catalog();
        let Some(entry) = catalog.tables.get(&table) else { return Ok(()) };
        let archive = catalog.archives.get(&table);
        let is_whole = archive.is_some_and(|archive| !archive.bases.is_empty());
        match (has_point_in_time_recovery(&entry.schema), archive.is_some()) {
            (true, _) if !is_whole => Ok(self.engine().start_archive(table)?),
            (false, true) => self.erase_history(table),
            _ => Ok(()),
        }
    }

    /// One pass over the tables whose history is kept: begins and ends what statements left open, and
    /// moves the window on. Call it every few seconds, off the request path. Blocks.
    pub fn keep_up_archives(&self) {
        let tables: Vec<_> = self.engine().catalog().tables.keys().copied().collect();
        for table in tables {
            if let Err(error) = self.settle_archive(table) {
                tracing::warn!(%table, %error, "history of a table is not begun or ended, trying again");
            }
        }
        if let Err(error) = self.shorten_histories(RETENTION_MILLIS) {
            tracing::warn!(%error, "history of tables is not kept up, trying again");
        }
    }

    /// Until when the newest state that is kept of a dropped table is, on the wall clock of keys; `None`
    /// when nothing is, `i64::MAX` when no time is set. Older states may be kept for longer.
    pub(crate) fn restorable_until(&self, catalog: &Catalog, table: TableId) -> Option<i64> {
        let expires = |snapshot: &SnapshotRecord| snapshot.expires_at_age.unwrap_or(i64::MAX);
        let of_snapshots = newest_snapshot(catalog, table).map(|newest| expires(newest));
        let ended = catalog.archives.get(&table).and_then(|archive| archive.ended_at_age);
        let of_archive = ended.map(|age| age.saturating_add(RETENTION_MILLIS));
        of_snapshots.max(of_archive).map(|age| self.wall_of_age(age))
    }

    /// The wall clock of keys when the data directory will have this age.
    pub(crate) fn wall_of_age(&self, age: i64) -> i64 {
        if age == i64::MAX {
            return age;
        }
        let until = age.saturating_sub(self.engine().age_millis());
        self.clock().key_wall_millis().saturating_add(until)
    }

    /// What the client should know when a name is given to a new table: what it meant before.
    pub(super) fn reused_name_warning(&self, name: &QualifiedName) -> Option<String> {
        let keyspace = name.keyspace.as_deref().unwrap_or_default();
        let catalog = self.engine().catalog();
        let older = restorable_dropped(&catalog, keyspace, &name.name)?;
        let until = match self.restorable_until(&catalog, older)? {
            i64::MAX => "it is erased by hand".to_owned(),
            millis => format_timestamp(millis),
        };
        let how = newest_snapshot(&catalog, older).map_or_else(String::new, |newest| {
            format!(" WITH custom_properties = {{'snapshot': {{'id': '{}'}}}}", newest.id)
        });
        Some(format!(
            "a dropped table {keyspace}.{} can be restored until {until}; from now on the name means \
             the new table. RESTORE TABLE <new name> FROM TABLE {keyspace}.{}{how} restores the older \
             one",
            name.name, name.name
        ))
    }
}

/// The snapshot with the newest state of a table; of several, the one that is kept for longest. Bases
/// go with the history that they belong to.
fn newest_snapshot(catalog: &Catalog, table: TableId) -> Option<&Arc<SnapshotRecord>> {
    let snapshots = catalog.snapshots.values();
    snapshots
        .filter(|snapshot| snapshot.schema.id == table && snapshot.kind != SnapshotKind::Base)
        .max_by_key(|snapshot| (snapshot.as_of_millis, snapshot.expires_at_age.unwrap_or(i64::MAX)))
}

fn request(kind: SnapshotKind) -> SnapshotRequest {
    SnapshotRequest { kind, name: String::new(), keep_millis: Some(RETENTION_MILLIS) }
}

/// The tables that a statement drops, for comparison.
pub(super) fn leaving(catalog: &Catalog, statement: &StatementKind) -> Vec<Leaving> {
    let entries = dropped_by(catalog, statement).into_iter();
    let leaving = entries.map(|entry| Leaving {
        schema: Arc::clone(&entry.schema),
        key_arn: entry.key.kms_key_arn.clone(),
    });
    leaving.collect()
}

/// The tables that a statement drops.
fn dropped_by<'a>(catalog: &'a Catalog, statement: &StatementKind) -> Vec<&'a TableEntry> {
    match statement {
        StatementKind::DropTable { name, .. } => {
            let keyspace = name.keyspace.as_deref().unwrap_or_default();
            catalog.table(keyspace, &name.name).map(|entry| &**entry).into_iter().collect()
        }
        StatementKind::DropKeyspace { name, .. } => {
            let entries = catalog.tables.values().filter(|entry| entry.schema.keyspace == *name);
            entries.map(|entry| &**entry).collect()
        }
        _ => Vec::new(),
    }
}
