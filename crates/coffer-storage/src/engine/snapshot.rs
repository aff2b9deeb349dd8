//! Snapshots: the files of one table at one moment, under second names. No key is needed to take one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::{KeyUnavailable, TableKeyId, UnavailableReason};
use coffer_model::TableId;
use parking_lot::Mutex;

use super::{Engine, RestoreSource};
use crate::Lsn;
use crate::block_cache::BlockCache;
use crate::catalog::{Catalog, SnapshotKind, SnapshotRecord, TableEntry, TailRecord, table_keys};
use crate::commit_log::{self, read_tail};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::SnapshotId;
use crate::inspect::{compare_tail_with_catalog, compare_with_catalog};
use crate::key_use::HeldKeys;
use crate::segment::{Segment, SegmentEntry};
use crate::vfs;

/// Times the files of a table are gathered while compactions, or a table that opens, replace them; the
/// last ones hold these up.
const ATTEMPTS: usize = 6;
const ATTEMPTS_BESIDE_OTHERS: usize = 3;

/// What a snapshot is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Why it is taken.
    pub kind: SnapshotKind,
    /// What an operator calls it; empty for the other kinds.
    pub name: String,
    /// How long it is kept, in age of the data directory; `None` until it is dropped by hand.
    pub keep_millis: Option<i64>,
}

/// The files of one table at one moment, in a directory of their own, durable. The table keys that they
/// need stay in the key record for as long as this is held.
pub(crate) struct KeptFiles {
    pub(crate) id: SnapshotId,
    pub(crate) directory: PathBuf,
    pub(crate) segments: Vec<SegmentEntry>,
    pub(crate) tails: Vec<TailRecord>,
    /// The table as the catalog had it when they were gathered.
    pub(crate) entry: Arc<TableEntry>,
    /// All frames up to this one are in it, and none after it.
    pub(crate) as_of: Lsn,
    /// All frames that were committed by then are in it.
    pub(crate) as_of_millis: i64,
    /// When the files were found to be as the catalog says.
    pub(crate) verified_at_millis: Option<i64>,
    _keys: HeldKeys,
}

/// Why the files could not be gathered.
enum Failed {
    /// A flush or a compaction replaced some of them meanwhile, it seems.
    Replaced(Error),
    Other(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match &error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::Replaced(missing_is_tampering(error))
            }
            _ => Self::Other(error),
        }
    }
}

impl Engine {
    /// Takes a snapshot of a table: it holds every write that was acknowledged before the call. Works
    /// with and without the table's key; the table stays as it is, open and writable. When this
    /// returns the snapshot is in the catalog. Its files are not compared with the catalog yet:
    /// [`Engine::verify_snapshot`]. Blocking.
    ///
    /// # Errors
    /// `NoSuchTable`; `Tampered` when a file is missing; `Io`, `Poisoned`. Then there is no snapshot.
    pub fn take_snapshot(
        &self,
        table: TableId,
        request: &SnapshotRequest,
    ) -> Result<Arc<SnapshotRecord>> {
        again_when_changed(|| self.try_take_snapshot(table, request))
    }

    fn try_take_snapshot(
        &self,
        table: TableId,
        request: &SnapshotRequest,
    ) -> Result<Arc<SnapshotRecord>> {
        let core = &self.core;
        let kept = core.keep_files(table)?;
        let mut taken = None;
        let published = core.update(|old| {
            let mut new = old.clone();
            taken = Some(core.list_snapshot(old, &mut new, table, &kept, request)?);
            Ok(new)
        });
        core.keep_if_published(&published, &kept);
        published?;
        taken.ok_or_else(|| Error::Internal("snapshot was not listed".into()))
    }

    /// Reads every file of a snapshot whole: length and SHA-256 must be what the catalog says. Where
    /// the table's key is at hand it also opens every unit of them; else tells why not. Notes when that
    /// was. Blocking.
    ///
    /// # Errors
    /// `Tampered`, `WrongKey`, `CorruptFile` or `Io`, naming the file; `Refused` when there is no such
    /// snapshot.
    pub fn verify_snapshot(&self, id: SnapshotId) -> Result<Option<KeyUnavailable>> {
        let core = &self.core;
        let catalog = core.catalog.current();
        let snapshot = catalog.snapshots.get(&id).ok_or_else(|| no_such_snapshot(id))?;
        let directory = snapshot.directory(&core.directory);
        let table = snapshot.schema.id;
        let unopened = core.verify_files(table, &directory, &snapshot.segments, &snapshot.tails)?;
        let verified_at_millis = core.clock.key_wall_millis();
        core.update(|old| {
            let mut new = old.clone();
            let snapshot = new.snapshots.get_mut(&id).ok_or_else(|| no_such_snapshot(id))?;
            Arc::make_mut(snapshot).verified_at_millis = Some(verified_at_millis);
            Ok(new)
        })
        .map(|_| unopened)
    }

    /// Reads every file of a source whole: length and SHA-256 must be what the catalog says. No key is
    /// needed. Blocking.
    ///
    /// # Errors
    /// `Tampered` or `Io`, naming the file; `Refused` when the source was erased meanwhile.
    pub fn compare_source(&self, source: &RestoreSource) -> Result<()> {
        let segments = source.segments.iter().map(|(path, segment)| (path.clone(), segment));
        let tails = source.tails.iter().map(|(path, tail)| (path.clone(), tail));
        self.core.compare_files(segments, tails).map_err(|error| {
            // erased files leave the catalog first
            self.core.check_source(&self.core.catalog.settled(), source).err().unwrap_or(error)
        })
    }

    /// Snapshots whose time has come: see [`Engine::erase_snapshot`].
    #[must_use]
    pub fn expired_snapshots(&self) -> Vec<SnapshotId> {
        let age = self.core.age.millis();
        let catalog = self.core.catalog.current();
        let is_expired =
            |snapshot: &SnapshotRecord| snapshot.expires_at_age.is_some_and(|at| at <= age);
        let expired = catalog.snapshots.values().filter(|snapshot| is_expired(snapshot));
        expired.map(|snapshot| snapshot.id).collect()
    }
}

pub(super) fn no_such_snapshot(id: SnapshotId) -> Error {
    Error::Refused(format!("there is no snapshot {id}, it may have expired"))
}

impl Core {
    /// Gathers the files of a table as they are now. Writers and compactions go on; a flush that begins
    /// meanwhile waits. The caller holds no lock of the table.
    pub(crate) fn keep_files(&self, table: TableId) -> Result<KeptFiles> {
        self.gather(table, Some(&self.lifecycle(table)))
    }

    /// Gathers the files of a table that was closed. The caller holds its lifecycle lock.
    pub(super) fn keep_fenced_files(&self, table: TableId) -> Result<KeptFiles> {
        self.gather(table, None)
    }

    fn gather(&self, table: TableId, lifecycle: Option<&Mutex<()>>) -> Result<KeptFiles> {
        let id = SnapshotId(
            coffer_crypto::random_array()
                .map_err(|error| Error::sealed(&self.directory, "snapshot id", error))?,
        );
        let directory = self.directory.join("snapshots").join(id.to_string());
        let mut missing = Error::NoSuchTable(table);
        for attempt in 0..ATTEMPTS {
            let is_alone = attempt >= ATTEMPTS_BESIDE_OTHERS;
            let _lifecycle = lifecycle.filter(|_| is_alone).map(Mutex::lock);
            let store = self.tables.load().get(&table).cloned();
            let _flushing = store.as_ref().map(|store| store.flushing.lock());
            let _compacting =
                store.as_ref().filter(|_| is_alone).map(|store| store.compacting.lock());
            match self.try_keep_files(table, id, &directory) {
                Ok(kept) => return Ok(kept),
                Err(Failed::Replaced(error)) => {
                    self.remove_kept(&directory);
                    missing = error;
                }
                Err(Failed::Other(error)) => {
                    self.remove_kept(&directory);
                    return Err(error);
                }
            }
        }
        Err(missing)
    }

    fn try_keep_files(
        &self,
        table: TableId,
        id: SnapshotId,
        directory: &Path,
    ) -> std::result::Result<KeptFiles, Failed> {
        // a frame that got its time before this one was appended by now
        let as_of_millis = self.log.stamp_millis().saturating_sub(1);
        let assigned = self.log.last_assigned();
        self.log.wait_committed(assigned)?;
        self.log.wait_durable(assigned)?;
        let durable = self.log.durable();
        let entry = self.settled_entry(table)?;
        let flushed = entry.replay_from;
        let mut records = self.log.index.lock().records(table, flushed);
        for file in &mut records {
            file.records.groups.retain(|group| group.lsn <= durable);
        }
        records.retain(|file| !file.records.groups.is_empty());
        let mut needed = table_keys(&entry.segments, &entry.tails);
        needed.extend(records.iter().map(|file| file.records.wrapped.table_key_id));
        let keys = self.key_use.hold(table, &needed);
        // what is looked for from here on sees the keys; and the log lost no file that was looked for
        if !is_same(&entry, &*self.settled_entry(table)?) {
            let error = Error::Overloaded("the files of the table changed meanwhile");
            return Err(Failed::Replaced(error));
        }
        self.vfs
            .create_directory(directory)
            .map_err(|error| Error::io("create snapshot directory", directory, error))?;
        let from = self.table_directory(table);
        self.link_files(&from, directory, &entry.segments, &entry.tails)?;
        let mut tails = entry.tails.clone();
        if !records.is_empty() {
            tails.push(commit_log::write_tail(&self.vfs, directory, table, &records)?);
        }
        self.sync_kept(directory)?;
        Ok(KeptFiles {
            id,
            directory: directory.to_path_buf(),
            segments: entry.segments.clone(),
            tails,
            entry,
            as_of: durable.max(flushed),
            as_of_millis,
            verified_at_millis: None,
            _keys: keys,
        })
    }

    fn settled_entry(&self, table: TableId) -> Result<Arc<TableEntry>> {
        let catalog = self.catalog.settled();
        catalog.tables.get(&table).cloned().ok_or(Error::NoSuchTable(table))
    }

    /// Gives files second names in `to`. They are durable after a sync of `to`.
    pub(super) fn link_files(
        &self,
        from: &Path,
        to: &Path,
        segments: &[SegmentEntry],
        tails: &[TailRecord],
    ) -> Result<()> {
        for segment in segments {
            vfs::link_or_copy(&self.vfs, &segment.path(from), &segment.path(to))?;
        }
        for tail in tails {
            vfs::link_or_copy(&self.vfs, &tail.path(from), &tail.path(to))?;
        }
        Ok(())
    }

    pub(super) fn sync_kept(&self, directory: &Path) -> Result<()> {
        self.vfs
            .sync_directory(directory)
            .map_err(|error| Error::io("sync directory", directory, error))
    }

    /// Puts a snapshot of these files into `new`, which goes on from `old`.
    pub(super) fn list_snapshot(
        &self,
        old: &Catalog,
        new: &mut Catalog,
        table: TableId,
        kept: &KeptFiles,
        request: &SnapshotRequest,
    ) -> Result<Arc<SnapshotRecord>> {
        let entry = old.tables.get(&table).ok_or(Error::NoSuchTable(table))?;
        if !table_keys(&kept.segments, &kept.tails).iter().all(|key| entry.key.holds(*key)) {
            return Err(Error::Overloaded("the keys of the table changed meanwhile"));
        }
        if is_truncated_between(&kept.entry, entry) {
            return Err(Error::Overloaded("the table was truncated meanwhile"));
        }
        let expires_at_age = request.keep_millis.map(|keep| self.age.millis().saturating_add(keep));
        let snapshot = Arc::new(SnapshotRecord {
            id: kept.id,
            kind: request.kind,
            name: request.name.clone(),
            schema: Arc::clone(&entry.schema),
            types: old.types_of(&entry.schema),
            key_arn: entry.key.kms_key_arn.clone(),
            segments: kept.segments.clone(),
            tails: kept.tails.clone(),
            as_of: kept.as_of,
            as_of_millis: kept.as_of_millis,
            taken_at_millis: self.clock.key_wall_millis(),
            expires_at_age,
            verified_at_millis: kept.verified_at_millis,
        });
        new.snapshots.insert(kept.id, Arc::clone(&snapshot));
        Ok(snapshot)
    }

    /// Removes the files again unless the catalog has them, or may have them after a crash.
    pub(super) fn keep_if_published<T>(&self, published: &Result<T>, kept: &KeptFiles) {
        if !matches!(published, Ok(_) | Err(Error::Poisoned(_))) {
            self.remove_kept(&kept.directory);
        }
    }

    pub(super) fn remove_kept(&self, directory: &Path) {
        if self.vfs.exists(directory).unwrap_or(true) {
            self.remove_all_in(directory);
        }
    }

    /// Compares files with what the catalog says, and opens them where the table's key is at hand; else
    /// gives why it is not.
    pub(crate) fn verify_files(
        &self,
        table: TableId,
        directory: &Path,
        segments: &[SegmentEntry],
        tails: &[TailRecord],
    ) -> Result<Option<KeyUnavailable>> {
        self.compare_files(
            segments.iter().map(|segment| (segment.path(directory), segment)),
            tails.iter().map(|tail| (tail.path(directory), tail)),
        )?;
        let unavailable = |reason| KeyUnavailable { table: *table.as_bytes(), reason };
        match self.keys.lease(table.as_bytes()) {
            Ok(lease) if lease.is_valid(self.clock.key_now_millis()) => {}
            Ok(_) => return Ok(Some(unavailable(UnavailableReason::Expired))),
            Err(coffer_crypto::Error::KeyUnavailable(told)) => return Ok(Some(told)),
            Err(_) => return Ok(Some(unavailable(UnavailableReason::NotOpened))),
        }
        match self.open_all(table, directory, segments, tails) {
            Ok(()) => Ok(None),
            // it went away meanwhile
            Err(Error::KeyUnavailable(told)) => Ok(Some(told)),
            Err(error) => Err(error),
        }
    }

    fn compare_files<'a>(
        &self,
        segments: impl Iterator<Item = (PathBuf, &'a SegmentEntry)>,
        tails: impl Iterator<Item = (PathBuf, &'a TailRecord)>,
    ) -> Result<()> {
        let vfs = self.vfs.as_ref();
        for (path, segment) in segments {
            compare_with_catalog(vfs, &path, segment).map_err(missing_is_tampering)?;
        }
        for (path, tail) in tails {
            compare_tail_with_catalog(vfs, &path, tail).map_err(missing_is_tampering)?;
        }
        Ok(())
    }

    fn open_all(
        &self,
        table: TableId,
        directory: &Path,
        segments: &[SegmentEntry],
        tails: &[TailRecord],
    ) -> Result<()> {
        let (vfs, keys) = (self.vfs.as_ref(), self.keys.as_ref());
        let cache = Arc::new(BlockCache::new(0));
        for segment in segments {
            Segment::open(vfs, directory, table, segment, keys, &cache)?.verify()?;
        }
        for tail in tails {
            read_tail(vfs, keys, directory, table, tail, &mut |_, _| Ok(()))?;
        }
        Ok(())
    }
}

/// A file that the catalog names was removed outside the database.
fn missing_is_tampering(error: Error) -> Error {
    match error {
        Error::Io { file, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::tampered(file, "file is missing")
        }
        error => error,
    }
}

/// Tries again what found that the table changed under it.
pub(super) fn again_when_changed<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Error::Overloaded(why)) => tracing::debug!(why, "snapshot is taken again"),
            taken => return taken,
        }
    }
    attempt()
}

/// Whether the table was truncated from one look at it to the next. Truncations with no frame between
/// them have the same number, and then the first of them took all rows there were: of a table that was
/// restored, and not written to since, all files.
fn is_truncated_between(before: &TableEntry, after: &TableEntry) -> bool {
    let has_files = |entry: &TableEntry| !entry.segments.is_empty() || !entry.tails.is_empty();
    before.truncated_at != after.truncated_at || (has_files(before) && !has_files(after))
}

/// Whether the table was truncated after these files of a snapshot were gathered. The number of the
/// frame alone does not say it: a table that was restored, and not written to since, begins where it was
/// attached, with files. Truncation takes all of them.
pub(super) fn is_truncated_since(
    entry: &TableEntry,
    as_of: Lsn,
    segments: &[SegmentEntry],
    tails: &[TailRecord],
) -> bool {
    let is_listed = segments.iter().any(|file| entry.segments.contains(file))
        || tails.iter().any(|file| entry.tails.contains(file));
    let is_empty = segments.is_empty() && tails.is_empty();
    entry.truncated_at >= as_of && !is_empty && !is_listed
}

/// Whether the table's files are the same, and its key record still opens them.
fn is_same(before: &TableEntry, after: &TableEntry) -> bool {
    let needed: HashSet<TableKeyId> = table_keys(&before.segments, &before.tails);
    before.replay_from == after.replay_from
        && before.segments == after.segments
        && before.tails == after.tails
        && needed.iter().all(|key| after.key.holds(*key))
}
