//! Dropping tables of which something is kept, and erasing what is kept: key records go first, then
//! the files.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::{KeyRecord, TableKeyId};
use coffer_model::TableId;

use super::Engine;
use super::publish::Change;
use super::snapshot::{KeptFiles, SnapshotRequest, is_truncated_since, no_such_snapshot};
use crate::catalog::{Archive, Catalog, DroppedTable, SnapshotKind, archive_directory};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::SnapshotId;

/// What was erased of a table's snapshots and archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The table, live or dropped.
    pub table: TableId,
    /// Its keyspace.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// ARN of the KMS key that its table keys were under; `None` for an owned key.
    pub key_arn: Option<String>,
    /// The snapshots that were erased.
    pub snapshots: Vec<SnapshotId>,
    /// The table keys that left the key record, because nothing needs them any more: what is sealed
    /// under them cannot be opened, wherever a copy of it may be.
    pub destroyed_table_keys: Vec<TableKeyId>,
    /// Table keys that left the key record as well, and that the key record of another table still
    /// holds, with the name of that one: it was restored from this one.
    pub still_held: Vec<(TableKeyId, String)>,
    /// The files that were unlinked, or that are unlinked next: path in the data directory, length,
    /// SHA-256.
    pub unlinked: Vec<(String, u64, [u8; 32])>,
    /// Files that could not be unlinked now, and are at the next start.
    pub left: Vec<String>,
    /// Files that were gone already: somebody removed them outside the database.
    pub missing: Vec<String>,
    /// Whether the table is still there.
    pub is_live: bool,
    /// Snapshots that still hold data of the table.
    pub remaining_snapshots: Vec<SnapshotId>,
    /// Whether archived log still holds data of the table.
    pub has_archive: bool,
    /// Whether all archived log of the table went with it.
    pub was_archive_erased: bool,
}

/// Is told what is erased, before it is: changes the catalog that is published without it, so that an
/// event is there exactly when the erase is. What it does to the engine's own fields must be left alone.
pub type Told<'a> = &'a mut dyn FnMut(&mut Catalog, &Erased);

/// For an erase that nobody is told of.
pub(super) fn untold(_: &mut Catalog, _: &Erased) {}

/// A file that the catalog lists.
type Listed = (PathBuf, u64, [u8; 32]);

impl Engine {
    /// Publishes `change`, which removes tables, together with a snapshot of each of the tables in
    /// `keep`, in one version: no table leaves without its snapshot, and nothing is written to it after
    /// the snapshot. A snapshot because of a lost key is verified before; the others are not. Works
    /// with and without the keys. Blocking; tables in `keep` are closed meanwhile, also after an
    /// error.
    ///
    /// # Errors
    /// What `change` returns; `Refused` when it keeps a table of `keep`; `NoSuchTable`; `Tampered`
    /// naming the file; `Io`, `Poisoned`. Then no table is dropped.
    pub fn drop_tables_keeping(
        &self,
        keep: &[(TableId, SnapshotRequest)],
        change: &mut dyn FnMut(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let core = &self.core;
        // in the order of their ids, so that two of these do not wait for each other
        let keep: BTreeMap<TableId, &SnapshotRequest> =
            keep.iter().map(|(table, request)| (*table, request)).collect();
        let (published, dropped) = {
            let locks: Vec<_> = keep.keys().map(|table| core.lifecycle(*table)).collect();
            let _locked: Vec<_> = locks.iter().map(|lock| lock.lock()).collect();
            let (published, dropped) = core.drop_keeping(&keep, change)?;
            for table in keep.keys() {
                core.leave_dropped(*table);
            }
            (published, dropped)
        };
        for table in dropped.iter().filter(|table| !keep.contains_key(table)) {
            let lifecycle = core.lifecycle(*table);
            let _lifecycle = lifecycle.lock();
            core.leave_dropped(*table);
        }
        core.housekeeping.notify();
        Ok(published)
    }

    /// Publishes `change`, which removes the table of a snapshot that was taken and verified before. Only
    /// when nothing was written to the table since: it is closed, then looked at. The snapshot is kept
    /// for `keep_millis` of age from now on, whenever it was taken: it is the only copy now. Blocking.
    ///
    /// # Errors
    /// What `change` returns; `Refused` when there is no such snapshot, when it was not verified, or does
    /// not hold the last write; `Io`, `Poisoned`. Then the table is not dropped.
    pub fn drop_table_kept_by(
        &self,
        id: SnapshotId,
        keep_millis: i64,
        change: &mut dyn FnMut(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let core = &self.core;
        let catalog = core.catalog.settled();
        let snapshot = catalog.snapshots.get(&id).ok_or_else(|| no_such_snapshot(id))?;
        let table = snapshot.schema.id;
        let published = {
            let lifecycle = core.lifecycle(table);
            let _lifecycle = lifecycle.lock();
            let last = core.close_store(table);
            core.log.wait_committed(last)?;
            core.log.wait_durable(last)?;
            let own = &mut |old: &Catalog, new: &mut Catalog| {
                core.check_kept(old, id, table)?;
                let kept = new.snapshots.get_mut(&id).ok_or_else(|| no_such_snapshot(id))?;
                let expires_at_age = core.age.millis().saturating_add(keep_millis);
                Arc::make_mut(kept).expires_at_age = Some(expires_at_age);
                Ok(())
            };
            let (published, _) = core.publish(change, own, &[(table, id)])?;
            core.leave_dropped(table);
            published
        };
        core.housekeeping.notify();
        Ok(published)
    }

    /// Erases a snapshot: publishes the catalog without it and without the table keys that nothing
    /// needs any more, then unlinks its files. A live table keeps older table keys while its key is
    /// away. Blocking.
    ///
    /// # Errors
    /// `Refused` when there is no such snapshot, or when it belongs to the history of a table; `Io`,
    /// `Poisoned`. Then nothing is erased.
    pub fn erase_snapshot(&self, id: SnapshotId) -> Result<Erased> {
        self.erase_snapshot_with(id, &mut untold)
    }

    /// As [`Engine::erase_snapshot`]; what `told` changes is in the same version of the catalog.
    ///
    /// # Errors
    /// As [`Engine::erase_snapshot`].
    pub fn erase_snapshot_with(&self, id: SnapshotId, told: Told<'_>) -> Result<Erased> {
        let catalog = self.core.catalog.settled();
        let snapshot = catalog.snapshots.get(&id).ok_or_else(|| no_such_snapshot(id))?;
        let remove = &mut |new: &mut Catalog| {
            check_no_base(new, id)?;
            new.snapshots.remove(&id).map(drop).ok_or_else(|| no_such_snapshot(id))
        };
        self.core.erase(snapshot.schema.id, remove, told)
    }

    /// Puts the table key of a dropped table under another wrapping of the same key. False when the
    /// key record is another one meanwhile, or gone.
    ///
    /// # Errors
    /// `Io`, `Poisoned`.
    pub fn rewrap_dropped_key(&self, table: TableId, rewrapped: &KeyRecord) -> Result<bool> {
        let mut is_done = false;
        self.core.update(|old| {
            let mut new = old.clone();
            let present = new.dropped.get_mut(&table);
            let Some(dropped) =
                present.filter(|dropped| dropped.key.table_key_id == rewrapped.table_key_id)
            else {
                return Ok(new);
            };
            let key = KeyRecord {
                blob: rewrapped.blob.clone(),
                key_material_id: rewrapped.key_material_id.clone(),
                ..(*dropped.key).clone()
            };
            Arc::make_mut(dropped).key = Arc::new(key);
            is_done = true;
            Ok(new)
        })?;
        Ok(is_done)
    }
}

impl Core {
    /// The caller holds the lifecycle locks of the tables.
    fn drop_keeping(
        &self,
        keep: &BTreeMap<TableId, &SnapshotRequest>,
        change: Change<'_>,
    ) -> Result<(Arc<Catalog>, Vec<TableId>)> {
        let mut all_kept: Vec<(TableId, &SnapshotRequest, KeptFiles)> = Vec::new();
        let mut gathered = Ok(());
        for (table, request) in keep {
            match self.fence_and_keep(*table, request) {
                Ok(kept) => all_kept.push((*table, request, kept)),
                Err(error) => gathered = Err(error),
            }
            if gathered.is_err() {
                break;
            }
        }
        let published = gathered.and_then(|()| {
            let own = &mut |old: &Catalog, new: &mut Catalog| {
                for (table, request, kept) in &all_kept {
                    if new.tables.contains_key(table) {
                        let refused = format!("table {table} was to be dropped");
                        return Err(Error::Refused(refused));
                    }
                    self.list_snapshot(old, new, *table, kept, request)?;
                }
                Ok(())
            };
            let last: Vec<_> = all_kept.iter().map(|(table, _, kept)| (*table, kept.id)).collect();
            self.publish(change, own, &last)
        });
        for (_, _, kept) in &all_kept {
            self.keep_if_published(&published, kept);
        }
        published
    }

    /// Whether a verified snapshot holds the last write of a table that was closed.
    fn check_kept(&self, catalog: &Catalog, id: SnapshotId, table: TableId) -> Result<()> {
        let snapshot = catalog.snapshots.get(&id).ok_or_else(|| no_such_snapshot(id))?;
        let entry = catalog.tables.get(&table).ok_or(Error::NoSuchTable(table))?;
        if snapshot.verified_at_millis.is_none() {
            return Err(Error::Refused(format!("snapshot {id} was not verified")));
        }
        if is_truncated_since(entry, snapshot.as_of, &snapshot.segments, &snapshot.tails) {
            return Err(Error::Refused(format!("table {table} was truncated after snapshot {id}")));
        }
        let is_newer = entry.replay_from > snapshot.as_of
            || !self.log.index.lock().records(table, snapshot.as_of).is_empty();
        if is_newer {
            return Err(Error::Refused(format!(
                "table {table} was written to after snapshot {id}"
            )));
        }
        Ok(())
    }

    /// Closes a table, so that nothing changes in it any more, and gathers its files.
    fn fence_and_keep(&self, table: TableId, request: &SnapshotRequest) -> Result<KeptFiles> {
        self.close_store(table);
        let mut kept = self.keep_fenced_files(table)?;
        if request.kind == SnapshotKind::KeyLoss {
            let verified = self.verify_files(table, &kept.directory, &kept.segments, &kept.tails);
            if let Err(error) = verified {
                self.remove_kept(&kept.directory);
                return Err(error);
            }
            kept.verified_at_millis = Some(self.clock.key_wall_millis());
        }
        Ok(kept)
    }

    /// Keeps the key record of a table that leaves, for as long as something needs it. `last` is the
    /// snapshot of the state in which it leaves.
    pub(super) fn keep_dropped(
        &self,
        old: &Catalog,
        new: &mut Catalog,
        table: TableId,
        last: Option<SnapshotId>,
    ) {
        let Some(entry) = old.tables.get(&table) else { return };
        if !new.retains(table) {
            return;
        }
        let kind = last.and_then(|id| new.snapshots.get(&id)).map(|snapshot| snapshot.kind);
        let needed = self.keys_retained(new, table);
        let mut key = (*entry.key).clone();
        key.older.retain(|older| needed.contains(&older.table_key_id));
        let dropped = DroppedTable {
            schema: Arc::clone(&entry.schema),
            types: old.types_of(&entry.schema),
            key: Arc::new(key),
            dropped_at_millis: self.log.stamp_millis(),
            last,
            is_key_loss: kind == Some(SnapshotKind::KeyLoss),
        };
        new.dropped.insert(table, Arc::new(dropped));
    }

    /// The table keys that what is kept of a dropped table needs, log that is not archived yet
    /// included.
    fn keys_retained(&self, catalog: &Catalog, table: TableId) -> HashSet<TableKeyId> {
        let mut needed = catalog.retained_table_keys(table);
        if let Some(archive) = catalog.archives.get(&table) {
            needed.extend(self.log.index.lock().table_keys(table, archive.archived_to));
        }
        needed
    }

    /// Publishes the catalog without what `remove` removes of the table's snapshots and archive, and
    /// without the keys that nothing needs any more; then unlinks the files.
    pub(crate) fn erase(
        &self,
        table: TableId,
        remove: &mut dyn FnMut(&mut Catalog) -> Result<()>,
        told: Told<'_>,
    ) -> Result<Erased> {
        let mut result = None;
        self.update(|old| {
            let mut new = old.clone();
            remove(&mut new)?;
            let before = listed_files(&self.directory, old, table);
            let after = listed_files(&self.directory, &new, table);
            let gone: Vec<Listed> = before
                .into_iter()
                .filter(|(path, _, _)| !after.iter().any(|(p, _, _)| p == path))
                .collect();
            let left = self.destroy_keys(&mut new, table)?;
            let (still_held, destroyed_table_keys) = split_held(&new, left);
            let schema = old
                .tables
                .get(&table)
                .map(|entry| &entry.schema)
                .or_else(|| old.dropped.get(&table).map(|dropped| &dropped.schema))
                .ok_or(Error::NoSuchTable(table))?;
            let is_gone = |id: &SnapshotId| !new.snapshots.contains_key(id);
            let erased = Erased {
                table,
                keyspace: schema.keyspace.clone(),
                name: schema.name.clone(),
                key_arn: old.key_record(table).and_then(|key| key.kms_key_arn.clone()),
                snapshots: old.snapshots.keys().filter(|id| is_gone(id)).copied().collect(),
                destroyed_table_keys,
                still_held,
                unlinked: gone
                    .iter()
                    .map(|(path, length, sha256)| (self.name_in_directory(path), *length, *sha256))
                    .collect(),
                left: Vec::new(),
                missing: Vec::new(),
                is_live: new.tables.contains_key(&table),
                remaining_snapshots: new.snapshots_of(table).map(|left| left.id).collect(),
                has_archive: new.archives.contains_key(&table),
                was_archive_erased: old.archives.contains_key(&table)
                    && !new.archives.contains_key(&table),
            };
            told(&mut new, &erased);
            result = Some((erased, gone));
            Ok(new)
        })?;
        let (mut erased, gone) =
            result.ok_or_else(|| Error::Internal("nothing was erased".into()))?;
        self.unlink_erased(&mut erased, gone);
        Ok(erased)
    }

    /// Takes the table keys that nothing needs any more out of the table's key record.
    fn destroy_keys(&self, new: &mut Catalog, table: TableId) -> Result<Vec<TableKeyId>> {
        if let Some(entry) = new.tables.get(&table) {
            let mut entry = (**entry).clone();
            let before = Arc::clone(&entry.key);
            self.settle_keys(new, &mut entry)?;
            let destroyed = older_ids(&before).filter(|id| !entry.key.holds(*id)).collect();
            new.tables.insert(table, Arc::new(entry));
            return Ok(destroyed);
        }
        let Some(dropped) = new.dropped.get(&table) else { return Ok(Vec::new()) };
        let before = Arc::clone(&dropped.key);
        if !new.retains(table) {
            new.dropped.remove(&table);
            return Ok(std::iter::once(before.table_key_id).chain(older_ids(&before)).collect());
        }
        let needed = self.keys_retained(new, table);
        let mut key = (*before).clone();
        key.older.retain(|older| needed.contains(&older.table_key_id));
        let destroyed = older_ids(&before).filter(|id| !key.holds(*id)).collect();
        if let Some(dropped) = new.dropped.get_mut(&table).map(Arc::make_mut) {
            dropped.key = Arc::new(key);
            dropped.last = dropped.last.filter(|last| new.snapshots.contains_key(last));
        }
        Ok(destroyed)
    }

    fn name_in_directory(&self, path: &Path) -> String {
        path.strip_prefix(&self.directory).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn unlink_erased(&self, erased: &mut Erased, gone: Vec<Listed>) {
        erased.unlinked.clear();
        for (path, length, sha256) in gone {
            let name = self.name_in_directory(&path);
            match self.vfs.remove(&path) {
                Ok(()) => erased.unlinked.push((name, length, sha256)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    tracing::warn!(file = %path.display(), "an erased file was gone already");
                    erased.missing.push(name);
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "an erased file stays until the next start");
                    erased.left.push(name);
                }
            }
        }
        let mut directories: Vec<PathBuf> = erased
            .snapshots
            .iter()
            .map(|id| self.directory.join("snapshots").join(id.to_string()))
            .collect();
        // another erase may come before the first file of an archive that was begun since
        if erased.was_archive_erased {
            directories.push(archive_directory(&self.directory, erased.table));
        }
        for directory in directories {
            self.remove_kept(&directory);
            if let Some(parent) = directory.parent()
                && let Err(error) = self.vfs.sync_directory(parent)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(directory = %parent.display(), %error, "erased files may come back after a crash, and go at the next start");
            }
        }
    }
}

/// A base is what the archived log after it is restored with.
fn check_no_base(catalog: &Catalog, id: SnapshotId) -> Result<()> {
    let is_based = |archive: &Archive| archive.bases.iter().any(|base| base.snapshot == id);
    let Some((table, _)) = catalog.archives.iter().find(|(_, archive)| is_based(archive)) else {
        return Ok(());
    };
    let of = name_of(catalog, *table).unwrap_or_else(|| table.to_string());
    Err(Error::Refused(format!(
        "snapshot {id} belongs to the history of {of}: disable point_in_time_recovery to erase that"
    )))
}

fn name_of(catalog: &Catalog, table: TableId) -> Option<String> {
    let live = catalog.tables.get(&table).map(|entry| &entry.schema);
    let schema = live.or_else(|| catalog.dropped.get(&table).map(|dropped| &dropped.schema))?;
    Some(format!("{}.{}", schema.keyspace, schema.name))
}

/// Table keys that left a key record: those that others hold, with the name of the table of each, and
/// the rest.
fn split_held(
    catalog: &Catalog,
    left: Vec<TableKeyId>,
) -> (Vec<(TableKeyId, String)>, Vec<TableKeyId>) {
    let live = catalog.tables.iter().map(|(table, entry)| (table, &entry.key));
    let dropped = catalog.dropped.iter().map(|(table, dropped)| (table, &dropped.key));
    let records: Vec<(&TableId, &Arc<KeyRecord>)> = live.chain(dropped).collect();
    let (mut held, mut destroyed) = (Vec::new(), Vec::new());
    for id in left {
        let before = held.len();
        for (table, _) in records.iter().filter(|(_, key)| key.holds(id)) {
            held.push((id, name_of(catalog, **table).unwrap_or_else(|| table.to_string())));
        }
        if held.len() == before {
            destroyed.push(id);
        }
    }
    (held, destroyed)
}

fn older_ids(key: &KeyRecord) -> impl Iterator<Item = TableKeyId> + '_ {
    key.older.iter().map(|older| older.table_key_id)
}

/// The files of a table's snapshots and archive.
pub(super) fn listed_files(
    data_directory: &Path,
    catalog: &Catalog,
    table: TableId,
) -> Vec<Listed> {
    let mut files = Vec::new();
    for snapshot in catalog.snapshots_of(table) {
        let directory = snapshot.directory(data_directory);
        files.extend(
            snapshot.segments.iter().map(|file| (file.path(&directory), file.length, file.sha256)),
        );
        files.extend(
            snapshot.tails.iter().map(|file| (file.path(&directory), file.length, file.sha256)),
        );
    }
    if let Some(archive) = catalog.archives.get(&table) {
        let directory = archive_directory(data_directory, table);
        let tails = archive.log.iter().map(|log| &log.tail);
        files.extend(tails.map(|file| (file.path(&directory), file.length, file.sha256)));
    }
    files
}
