//! Point-in-time recovery: which log records are kept, and from which snapshots a table is restored.
//!
//! An archive is one or more base snapshots and all log records of the table since the oldest of
//! them, in files of the tail format, sealed as they were in the log. The commit log itself is the
//! part that is not archived yet: a file of it is freed only when the archives of its tables have
//! what they need of it. So flushes, compactions, truncations and drops need to know nothing of
//! archives, and few large files are written instead of many small ones.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::TableId;

use super::Engine;
use super::erase::{Erased, Told, untold};
use super::snapshot::{SnapshotRequest, again_when_changed};
use crate::catalog::{
    Archive, ArchiveBase, ArchivedLog, Catalog, SnapshotKind, SnapshotRecord, TableEntry,
    archive_directory,
};
use crate::commit_log;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::SnapshotId;
use crate::{Lsn, TailRecord};

/// Wait before archiving that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is kept for the point-in-time recovery of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveStatistics {
    /// Number of base snapshots.
    pub bases: u64,
    /// Bytes of their files; some of them are files of the live table as well.
    pub base_bytes: u64,
    /// Number of archived log files.
    pub log_files: u64,
    /// Bytes of archived log.
    pub log_bytes: u64,
    /// The earliest moment that the table can be restored to, server's clock of writes, milliseconds
    /// since 1970; `None` when there is none yet.
    pub earliest_restorable_millis: Option<i64>,
}

impl Engine {
    /// Keeps the history of a table from now on. Works with and without the table's key. Does nothing
    /// when it is kept already. Blocking.
    ///
    /// # Errors
    /// As [`Engine::take_snapshot`].
    pub fn start_archive(&self, table: TableId) -> Result<()> {
        let core = &self.core;
        let _archives = core.archives.lock();
        if core.catalog.settled().archives.get(&table).is_some_and(|known| !known.bases.is_empty())
        {
            return Ok(());
        }
        // first it is made sure that no log is freed any more, then the base may be taken
        core.update(|old| {
            let mut new = old.clone();
            if new.archives.contains_key(&table) {
                return Ok(new);
            }
            let entry = old.tables.get(&table).ok_or(Error::NoSuchTable(table))?;
            let now = core.log.stamp_millis();
            let archive = Archive {
                schemas: vec![(now, Arc::clone(&entry.schema))],
                types: old.types_of(&entry.schema),
                bases: Vec::new(),
                log: Vec::new(),
                archived_to: core.log.durable(),
                since_millis: now,
                ended_at_age: None,
            };
            new.archives.insert(table, Arc::new(archive));
            Ok(new)
        })?;
        let based = core.take_base(table);
        if based.is_err()
            && let Err(error) = core.shorten_archive(table, None, &mut untold)
        {
            tracing::warn!(%table, error = %error.chain(), "an archive without a base stays");
        }
        based
    }

    /// Forgets the history of a table: older table keys that only it needed leave the key record,
    /// then its files are unlinked. Does nothing when there is none. Blocking.
    ///
    /// # Errors
    /// `Io`, `Poisoned`; then it is still there.
    pub fn stop_archive(&self, table: TableId) -> Result<Erased> {
        self.stop_archive_with(table, &mut untold)
    }

    /// As [`Engine::stop_archive`]; what `told` changes is in the same version of the catalog.
    ///
    /// # Errors
    /// As [`Engine::stop_archive`].
    pub fn stop_archive_with(&self, table: TableId, told: Told<'_>) -> Result<Erased> {
        let _archives = self.core.archives.lock();
        self.core.shorten_archive(table, None, told)
    }

    /// What is kept for point-in-time recovery of a table, live or dropped; `None` when nothing is.
    #[must_use]
    pub fn archive_statistics(&self, table: TableId) -> Option<ArchiveStatistics> {
        let catalog = self.core.catalog.current();
        let archive = catalog.archives.get(&table)?;
        let bases = archive.bases.iter();
        let bases = bases.filter_map(|base| catalog.snapshots.get(&base.snapshot));
        Some(ArchiveStatistics {
            bases: archive.bases.len() as u64,
            base_bytes: bases.map(|base| base.bytes()).sum(),
            log_files: archive.log.len() as u64,
            log_bytes: archive.log.iter().map(|log| log.tail.length).sum(),
            earliest_restorable_millis: archive.bases.first().map(|_| archive.since_millis),
        })
    }
}

impl Core {
    /// Body of the thread that archives.
    pub(crate) fn run_archiving(&self) {
        while !self.stopping.load(std::sync::atomic::Ordering::Acquire) {
            if let Err(error) = self.archive_behind() {
                tracing::warn!(error = %error.chain(), "commit log is not archived, trying again");
                // whoever frees log notices again and again while nothing is archived
                let is_over = || self.stopping.load(std::sync::atomic::Ordering::Acquire);
                self.archiving.wait_out(RETRY, is_over);
            } else {
                self.archiving.wait(None);
            }
        }
    }

    /// Whether so much log is held that archives should take their part of it.
    pub(crate) fn is_archiving_due(&self) -> bool {
        let lag = self.options.archive_lag_bytes.min(self.options.log_total_bytes / 4);
        // files that are written to or will be are as large, and hold nothing that could be freed
        let catalog = self.catalog.current();
        if self.log.file_bytes() <= lag || catalog.archives.is_empty() {
            return false;
        }
        let index = self.log.index.lock();
        // log that a table without a history holds is not freed by archiving
        index.closed_bytes() > lag && !index.archives_behind(&catalog).is_empty()
    }

    fn archive_behind(&self) -> Result<()> {
        if !self.is_archiving_due() {
            return Ok(());
        }
        let behind = self.log.index.lock().archives_behind(&self.catalog.current());
        let mut result = Ok(());
        for table in behind {
            // all of them get their turn, also after one that fails
            result = result.and(self.archive_log(table));
        }
        self.housekeeping.notify();
        result
    }

    /// Archives what the log has of a table. Does nothing when the table has no archive.
    pub(crate) fn archive_log(&self, table: TableId) -> Result<()> {
        let _archives = self.archives.lock();
        self.archive_pending(table)
    }

    /// The caller holds `archives`.
    pub(super) fn archive_pending(&self, table: TableId) -> Result<()> {
        let to = self.log.durable();
        let catalog = self.catalog.settled();
        let Some(archive) = catalog.archives.get(&table) else { return Ok(()) };
        let from = archive.archived_to;
        if !self.log.index.lock().has_records(table, from) {
            return Ok(());
        }
        // none of the files has records from before and after a base
        let bases = archive.bases.iter();
        let mut ends: Vec<Lsn> = bases
            .filter_map(|base| catalog.snapshots.get(&base.snapshot))
            .map(|base| base.as_of)
            .filter(|end| from < *end && *end < to)
            .collect();
        ends.push(to);
        let mut written = Vec::new();
        let archived = self.write_archive(table, from, &ends, &mut written).and_then(|()| {
            if written.is_empty() {
                return Ok(());
            }
            let age = self.age.millis();
            self.update(|old| {
                let mut new = old.clone();
                let archive = archive_of(&mut new, table)?;
                let log =
                    |tail: &TailRecord| ArchivedLog { tail: tail.clone(), archived_at_age: age };
                archive.log.extend(written.iter().map(log));
                archive.archived_to = archive.archived_to.max(to);
                Ok(new)
            })
            .map(drop)
        });
        if !matches!(archived, Ok(()) | Err(Error::Poisoned(_))) {
            let directory = archive_directory(&self.directory, table);
            written.iter().for_each(|tail| self.remove_file(&tail.path(&directory)));
        }
        archived
    }

    fn write_archive(
        &self,
        table: TableId,
        mut from: Lsn,
        ends: &[Lsn],
        written: &mut Vec<TailRecord>,
    ) -> Result<()> {
        let directory = archive_directory(&self.directory, table);
        for end in ends {
            let records = self.log.index.lock().records_between(table, from, *end);
            from = *end;
            if records.is_empty() {
                continue;
            }
            self.vfs
                .create_directory(&directory)
                .map_err(|error| Error::io("create archive directory", &directory, error))?;
            written.push(commit_log::write_tail(&self.vfs, &directory, table, &records)?);
        }
        Ok(())
    }

    /// Takes a snapshot from which the table can be restored. The caller holds `archives`.
    pub(super) fn take_base(&self, table: TableId) -> Result<()> {
        again_when_changed(|| self.try_take_base(table))
    }

    fn try_take_base(&self, table: TableId) -> Result<()> {
        let kept = self.keep_files(table)?;
        let request =
            SnapshotRequest { kind: SnapshotKind::Base, name: String::new(), keep_millis: None };
        // what is in it was committed by now
        let from_millis = self.log.stamp_millis();
        let published = self.update(|old| {
            let mut new = old.clone();
            let snapshot = self.list_snapshot(old, &mut new, table, &kept, &request)?;
            self.add_base(&mut new, &snapshot, from_millis)?;
            Ok(new)
        });
        self.keep_if_published(&published, &kept);
        published.map(drop)
    }

    fn add_base(
        &self,
        new: &mut Catalog,
        snapshot: &SnapshotRecord,
        from_millis: i64,
    ) -> Result<()> {
        let archive = archive_of(new, snapshot.schema.id)?;
        if archive.bases.is_empty() {
            archive.archived_to = archive.archived_to.max(snapshot.as_of);
            archive.since_millis = from_millis;
        }
        archive.bases.push(ArchiveBase {
            snapshot: snapshot.id,
            from_millis,
            taken_at_age: self.age.millis(),
        });
        Ok(())
    }

    /// From here on a table that was truncated, if its history is kept, is restored from nothing.
    pub(super) fn add_empty_base(&self, new: &mut Catalog, entry: &TableEntry) -> Result<()> {
        if !new.archives.contains_key(&entry.schema.id) {
            return Ok(());
        }
        let id = SnapshotId(
            coffer_crypto::random_array()
                .map_err(|error| Error::sealed(&self.directory, "snapshot id", error))?,
        );
        let now = self.log.stamp_millis();
        let base = SnapshotRecord {
            id,
            kind: SnapshotKind::Base,
            name: String::new(),
            schema: Arc::clone(&entry.schema),
            types: new.types_of(&entry.schema),
            key_arn: entry.key.kms_key_arn.clone(),
            segments: Vec::new(),
            tails: Vec::new(),
            as_of: entry.replay_from,
            as_of_millis: now,
            taken_at_millis: self.clock.key_wall_millis(),
            expires_at_age: None,
            verified_at_millis: None,
        };
        self.add_base(new, &base, now)?;
        new.snapshots.insert(id, Arc::new(base));
        Ok(())
    }

    /// Erases what is older than the base `oldest`, or all of an archive. The caller holds
    /// `archives`.
    pub(super) fn shorten_archive(
        &self,
        table: TableId,
        oldest: Option<ArchiveBase>,
        told: Told<'_>,
    ) -> Result<Erased> {
        let remove = &mut |new: &mut Catalog| {
            let gone = ArchivePart::before(new, table, oldest);
            gone.bases.iter().for_each(|base| drop(new.snapshots.remove(base)));
            let Some(oldest) = oldest else {
                new.archives.remove(&table);
                return Ok(());
            };
            let archive = archive_of(new, table)?;
            archive.bases.retain(|base| !gone.bases.contains(&base.snapshot));
            archive.log.retain(|log| log.tail.last > gone.last);
            archive.since_millis = oldest.from_millis;
            let in_force = |(from, _): &&(i64, _)| *from <= oldest.from_millis;
            let older = archive.schemas.iter().take_while(in_force).count();
            archive.schemas.drain(..older.saturating_sub(1));
            Ok(())
        };
        self.erase(table, remove, told)
    }
}

/// A part of an archive that is erased.
struct ArchivePart {
    bases: Vec<SnapshotId>,
    /// Log records up to this one.
    last: Lsn,
}

impl ArchivePart {
    /// What comes before a base, or all of it.
    fn before(catalog: &Catalog, table: TableId, oldest: Option<ArchiveBase>) -> Self {
        let archived = catalog.archives.get(&table).map(|archive| archive.bases.as_slice());
        let bases = archived.unwrap_or_default().iter();
        let bases = bases.take_while(|base| Some(**base) != oldest).map(|base| base.snapshot);
        let oldest = oldest.and_then(|base| catalog.snapshots.get(&base.snapshot));
        Self { bases: bases.collect(), last: oldest.map_or(Lsn(0), |base| base.as_of) }
    }
}

pub(super) fn archive_of(catalog: &mut Catalog, table: TableId) -> Result<&mut Archive> {
    let archive = catalog.archives.get_mut(&table).ok_or(Error::NoSuchTable(table))?;
    Ok(Arc::make_mut(archive))
}
