//! What a table was at a moment, and how far back such moments go.

use std::sync::Arc;

use coffer_model::{TableId, TableSchema};

use super::Engine;
use super::archive::archive_of;
use super::erase::{Erased, Told, untold};
use crate::RestoreSource;
use crate::catalog::{Archive, ArchiveBase, Catalog, SnapshotRecord, archive_directory};
use crate::core::Core;
use crate::error::{Error, Result};

/// A new base is taken when the log archived after the newest one is larger than that one, and than this.
const LOG_BYTES_MIN: u64 = 64 << 20;
/// It is taken anyway when there is log after one of this age.
const BASE_MILLIS_MAX: i64 = 24 * 60 * 60 * 1000;

impl Engine {
    /// What a table, live or dropped, was at a moment (server's clock of writes, milliseconds since
    /// 1970): with every write that was committed by then and none that came later. `None` is the
    /// newest state: of a live table what a snapshot would hold now, of a dropped one the state in which
    /// it was dropped. When the files expire before they are attached, attaching fails. Blocking.
    ///
    /// # Errors
    /// `NotRestorable`, with the moments that are possible; `NoSuchTable`; `Io`, `Poisoned`.
    pub fn restore_source(&self, table: TableId, at_millis: Option<i64>) -> Result<RestoreSource> {
        let catalog = self.core.catalog.settled();
        match at_millis {
            None if catalog.tables.contains_key(&table) => self.live_source(table),
            None => self.core.last_source(table),
            Some(at) => self.core.source_at(table, at),
        }
    }

    /// The earliest and the latest moment that a table, live or dropped, can be restored to (server's
    /// clock of writes, milliseconds since 1970); `None` when there is no such moment. For a live
    /// table the latest is now.
    #[must_use]
    pub fn restorable_millis(&self, table: TableId) -> Option<(i64, i64)> {
        self.core.restorable(&self.core.catalog.current(), table)
    }

    /// Takes new bases where much log was archived, erases what is not needed to restore tables to
    /// any moment of the last `window_millis` of the data directory's age, and all that was kept of
    /// tables that were dropped longer ago. Cheap when nothing is due. Blocking.
    ///
    /// # Errors
    /// The first failure; the other tables had their turn.
    pub fn keep_up_archives(&self, window_millis: i64) -> Result<Vec<Erased>> {
        let (erased, result) = self.keep_up_archives_with(window_millis, &mut untold);
        result.map(|()| erased)
    }

    /// As [`Engine::keep_up_archives`], with all that was erased also after a failure; `told` is told of
    /// each in turn, and what it changes is in the same version of the catalog.
    pub fn keep_up_archives_with(
        &self,
        window_millis: i64,
        told: Told<'_>,
    ) -> (Vec<Erased>, Result<()>) {
        let catalog = self.core.catalog.current();
        let (mut erased, mut result) = (Vec::new(), Ok(()));
        for table in catalog.archives.keys() {
            let kept = self.core.keep_up_archive(*table, window_millis, told);
            if let Err(error) = &kept {
                tracing::warn!(%table, error = %error.chain(), "the archive of a table is not kept up, trying again");
            }
            result = result.and(kept.map(|gone| erased.extend(gone)));
        }
        (erased, result)
    }
}

impl Core {
    fn restorable(&self, catalog: &Catalog, table: TableId) -> Option<(i64, i64)> {
        let latest = match catalog.dropped.get(&table) {
            Some(dropped) => dropped.dropped_at_millis,
            None => self.log.stamp_millis(),
        };
        let archived = catalog.archives.get(&table).filter(|archive| !archive.bases.is_empty());
        let last = catalog.last_snapshot(table);
        let since = archived.map(|archive| archive.since_millis);
        let earliest = since.or_else(|| last.map(|snapshot| snapshot.as_of_millis))?;
        Some((earliest, latest.max(earliest)))
    }

    /// The last state of a dropped table.
    fn last_source(&self, table: TableId) -> Result<RestoreSource> {
        let catalog = self.catalog.settled();
        let dropped = catalog.dropped.get(&table).ok_or(Error::NoSuchTable(table))?;
        match catalog.last_snapshot(table) {
            Some(last) => Ok(self.snapshot_source_of(last, Arc::clone(&dropped.key))),
            // all of it, whatever its times: the clock may have been set back before the drop
            None => self.source_until(table, dropped.dropped_at_millis, i64::MAX),
        }
    }

    fn source_at(&self, table: TableId, at_millis: i64) -> Result<RestoreSource> {
        let catalog = self.catalog.settled();
        if catalog.key_record(table).is_none() {
            return Err(Error::NoSuchTable(table));
        }
        let restorable = self.restorable(&catalog, table);
        let possible = restorable.filter(|(from, to)| (*from..=*to).contains(&at_millis));
        possible.ok_or(Error::NotRestorable { table, at_millis, restorable })?;
        self.source_until(table, at_millis, at_millis)
    }

    /// A table as of `at_millis`, with what was committed until `until_millis`.
    fn source_until(
        &self,
        table: TableId,
        at_millis: i64,
        until_millis: i64,
    ) -> Result<RestoreSource> {
        let _archives = self.archives.lock();
        let restorable = self.restorable(&self.catalog.settled(), table);
        let refused = || Error::NotRestorable { table, at_millis, restorable };
        // a frame that got its time by now was appended by now
        let assigned = self.log.last_assigned();
        self.log.wait_committed(assigned)?;
        self.log.wait_durable(assigned)?;
        self.archive_pending(table)?;
        let catalog = self.catalog.settled();
        let key = Arc::clone(catalog.key_record(table).ok_or(Error::NoSuchTable(table))?);
        let archive = catalog.archives.get(&table).filter(|archive| !archive.bases.is_empty());
        let Some(archive) = archive else {
            let last = catalog.last_snapshot(table).ok_or_else(refused)?;
            return Ok(self.snapshot_source_of(last, key));
        };
        let usable = |base: &&ArchiveBase| base.from_millis <= until_millis;
        let base = archive.bases.iter().rev().find(usable).ok_or_else(refused)?;
        let base = catalog.snapshots.get(&base.snapshot).ok_or_else(refused)?;
        let mut source = self.snapshot_source_of(base, key);
        let directory = archive_directory(&self.directory, table);
        for log in archive.log.iter().filter(|log| log.tail.last > base.as_of) {
            let (earliest, latest) = log.tail.committed_millis;
            if earliest <= until_millis {
                let mut tail = log.tail.clone();
                tail.read_until_millis = (latest > until_millis).then_some(until_millis);
                source.tails.push((tail.path(&directory), tail));
            }
        }
        if let Some(schema) = archive.schema_at(until_millis) {
            source.schema = Arc::clone(schema);
            source.types.clone_from(&archive.types);
        }
        source.as_of_millis = at_millis;
        Ok(source)
    }

    fn snapshot_source_of(
        &self,
        snapshot: &SnapshotRecord,
        key: Arc<coffer_crypto::KeyRecord>,
    ) -> RestoreSource {
        RestoreSource::of_snapshot(&self.directory, snapshot, key)
    }

    /// Returns what was erased, if something was.
    fn keep_up_archive(
        &self,
        table: TableId,
        window_millis: i64,
        told: Told<'_>,
    ) -> Result<Option<Erased>> {
        let window_start = self.age.millis().saturating_sub(window_millis);
        if !self.is_upkeep_due(table, window_start) {
            return Ok(None);
        }
        let _archives = self.archives.lock();
        let catalog = self.catalog.settled();
        let Some(archive) = catalog.archives.get(&table) else { return Ok(None) };
        if !catalog.tables.contains_key(&table) {
            match archive.ended_at_age {
                None => self.note_archive_end(table)?,
                Some(ended) if ended <= window_start => {
                    return self.shorten_archive(table, None, told).map(Some);
                }
                Some(_) => {}
            }
        } else if self.is_base_due(&catalog, table, archive) {
            self.archive_pending(table)?;
            self.take_base(table)?;
        }
        let oldest = archive.oldest_needed(window_start);
        oldest.map(|oldest| self.shorten_archive(table, Some(*oldest), told)).transpose()
    }

    fn is_upkeep_due(&self, table: TableId, window_start: i64) -> bool {
        let catalog = self.catalog.current();
        let Some(archive) = catalog.archives.get(&table) else { return false };
        let ended = match archive.ended_at_age {
            Some(ended) => ended <= window_start,
            None => !catalog.tables.contains_key(&table),
        };
        ended
            || archive.oldest_needed(window_start).is_some()
            || (catalog.tables.contains_key(&table) && self.is_base_due(&catalog, table, archive))
    }

    fn is_base_due(&self, catalog: &Catalog, table: TableId, archive: &Archive) -> bool {
        let newest = archive.bases.last();
        let Some((base, snapshot)) =
            newest.and_then(|base| Some((base, catalog.snapshots.get(&base.snapshot)?)))
        else {
            return true;
        };
        let after = archive.log.iter().rev().take_while(|log| log.tail.last > snapshot.as_of);
        let bytes: u64 = after.map(|log| log.tail.length).sum();
        if bytes > snapshot.bytes().max(LOG_BYTES_MIN) {
            return true;
        }
        let is_old = self.age.millis().saturating_sub(base.taken_at_age) >= BASE_MILLIS_MAX;
        is_old && (bytes > 0 || self.log.index.lock().has_records(table, snapshot.as_of))
    }

    /// The time of a dropped table's archive runs from when the drop is seen first.
    fn note_archive_end(&self, table: TableId) -> Result<()> {
        let age = self.age.millis();
        self.update(|old| {
            let mut new = old.clone();
            archive_of(&mut new, table)?.ended_at_age = Some(age);
            Ok(new)
        })
        .map(drop)
    }
}

impl Archive {
    /// The schema in force at a moment.
    fn schema_at(&self, at_millis: i64) -> Option<&Arc<TableSchema>> {
        let in_force = self.schemas.iter().rev().find(|(from, _)| *from <= at_millis);
        in_force.or(self.schemas.first()).map(|(_, schema)| schema)
    }

    /// The base that restoring to the window's start needs, when something is older than that one.
    fn oldest_needed(&self, window_start: i64) -> Option<&ArchiveBase> {
        let before = |base: &&ArchiveBase| base.taken_at_age <= window_start;
        let oldest = self.bases.iter().rev().find(before)?;
        (self.bases.first() != Some(oldest)).then_some(oldest)
    }
}
