//! Memtables to segments, segments to fewer segments, and the log freed behind them: the work of the
//! engine's background threads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coffer_model::TableId;

use crate::commit_log;
use crate::compaction::{Candidate, CompactionJob, CompactionOptions, PurgeLimits, SizeTiered};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::memtable::Memtable;
use crate::merge::{Direction, EntrySource as _};
use crate::segment::{Segment, SegmentEntry, SegmentWriter};
use crate::table_store::{TableMap, TableStore};

/// A failure that lasts is logged this often.
const WARNING_INTERVAL_MILLIS: i64 = 10_000;
/// Wait before work that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MILLIS: i64 = 1000;
/// How often the age of the directory is looked at when nothing else is to do.
const AGE_INTERVAL: Duration = Duration::from_secs(60);

/// What a pass of a background thread came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Worked,
    Idle,
    Failed,
}

impl Core {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Body of the thread that flushes.
    pub(crate) fn run_flushing(&self) {
        let mut warned_millis = None;
        while !self.is_stopping() {
            match self.flush_pass(&mut warned_millis) {
                Pass::Worked => {}
                Pass::Idle => self.flushing.wait(None),
                Pass::Failed => self.flushing.wait(Some(RETRY)),
            }
        }
    }

    /// `warned_millis` is when a failure was logged last: writers that wait ask again much sooner.
    fn flush_pass(&self, warned_millis: &mut Option<i64>) -> Pass {
        if let Some(store) = self.flush_candidate() {
            let flushed = self.flush_store(&store);
            // one that fails waits its turn, the others do not wait for it
            store.note_flush(flushed.is_err().then(|| self.clock.monotonic_millis()));
            self.finish_pass("flush", &store, flushed);
            return Pass::Worked;
        }
        match self.relieve_memory().and_then(|relieved| Ok(relieved | self.relieve_log()?)) {
            Ok(true) => Pass::Worked,
            // a table whose lease ended waits for its key, one that failed for its turn
            Ok(false) if self.has_late_flushes() => Pass::Failed,
            Ok(false) => Pass::Idle,
            Err(error) => {
                let now = self.clock.monotonic_millis();
                if warned_millis.is_none_or(|warned| now - warned >= WARNING_INTERVAL_MILLIS) {
                    *warned_millis = Some(now);
                    tracing::warn!(error = %error.chain(), "memory or commit log cannot be freed, trying again");
                }
                Pass::Failed
            }
        }
    }

    fn finish_pass(&self, what: &'static str, store: &TableStore, result: Result<()>) -> Pass {
        match result {
            Ok(()) => Pass::Worked,
            Err(Error::TableNotOpen(_) | Error::NoSuchTable(_)) if store.is_closed() => {
                Pass::Worked
            }
            // asking was interest: the keyring refreshes the key, or closes the table
            Err(Error::KeyUnavailable(_)) => Pass::Failed,
            Err(error) => {
                let table = store.id;
                tracing::warn!(%table, error = %error.chain(), "{what} failed, trying again");
                Pass::Failed
            }
        }
    }

    /// The table that needs a flush most.
    fn flush_candidate(&self) -> Option<Arc<TableStore>> {
        let now = self.clock.key_now_millis();
        let tables = self.tables.load();
        let failed_after = self.clock.monotonic_millis().saturating_sub(RETRY_MILLIS);
        let usable = |store: &&Arc<TableStore>| {
            !store.flush_failed_after(failed_after) && store.check_lease(now).is_ok()
        };
        let due = self.due(&tables).find(usable);
        if let Some(store) = due {
            return Some(Arc::clone(store));
        }
        if self.memory.bytes() <= self.options.memtable_total_bytes / 2 {
            return None;
        }
        // only tables with rows are asked for: an idle table is not kept from losing its lease
        let filled =
            tables.values().filter(|store| store.memtable_bytes() > 0 && !store.is_closed());
        filled.filter(usable).max_by_key(|store| store.memtable_bytes()).map(Arc::clone)
    }

    /// Tables with a memtable that should be in a segment.
    fn due<'a>(&self, tables: &'a TableMap) -> impl Iterator<Item = &'a Arc<TableStore>> {
        let large = self.options.memtable_flush_bytes;
        tables.values().filter(move |store| {
            !store.is_closed() && (store.active_bytes() >= large || !store.view().frozen.is_empty())
        })
    }

    fn has_late_flushes(&self) -> bool {
        let tables = self.tables.load();
        self.due(&tables).next().is_some()
            || tables.values().any(|store| store.flush_failed_after(i64::MIN))
    }

    /// Closes tables whose key is away when memory is half used: the log has their rows.
    fn relieve_memory(&self) -> Result<bool> {
        if self.memory.bytes() <= self.options.memtable_total_bytes / 2 {
            return Ok(false);
        }
        let now = self.clock.key_now_millis();
        let away = |store: &&Arc<TableStore>| {
            store.check_lease(now).is_err() && store.memtable_bytes() > 0
        };
        let table = self.tables.load().values().find(away).map(|store| store.id);
        table.map_or(Ok(false), |table| self.set_aside(table).map(|()| true))
    }

    /// Flushes or sets aside what holds back the oldest log file, when the log is half full.
    fn relieve_log(&self) -> Result<bool> {
        if self.log.file_bytes() <= self.options.log_total_bytes / 2 {
            return Ok(false);
        }
        let catalog = self.catalog.current();
        let holders = self.log.index.lock().oldest_holders(&catalog);
        let mut result = Ok(false);
        for table in holders {
            let relieved = self.flush_or_set_aside(table);
            // all of them get their turn, also after one that fails
            result = relieved.and_then(|()| result.map(|_| true));
        }
        self.housekeeping.notify();
        result
    }

    /// Copies the log records of a table whose key is away to a tail file.
    pub(crate) fn set_aside(&self, table: TableId) -> Result<()> {
        let lifecycle = self.lifecycle(table);
        let _lifecycle = lifecycle.lock();
        if let Some(store) = self.tables.load().get(&table)
            && store.check_lease(self.clock.key_now_millis()).is_ok()
        {
            return Ok(());
        }
        let last = self.close_store(table);
        self.log.wait_durable(last)?;
        let catalog = self.catalog.settled();
        let Some(entry) = catalog.tables.get(&table) else { return Ok(()) };
        let files = self.log.index.lock().records(table, entry.replay_from);
        if files.is_empty() {
            return Ok(());
        }
        let directory = self.table_directory(table);
        self.vfs
            .create_directory(&directory)
            .map_err(|error| Error::io("create table directory", &directory, error))?;
        let tail = commit_log::write_tail(&self.vfs, &directory, table, &files)?;
        let path = tail.path(&directory);
        let published = self.update_table(table, |entry| {
            entry.replay_from = entry.replay_from.max(tail.last);
            entry.tails.push(tail);
            Ok(())
        });
        if let Err(error) = &published {
            self.give_up(error, &path);
        }
        published.map(drop)
    }

    /// Flushes all memtables of a table.
    pub(crate) fn flush_store(&self, store: &Arc<TableStore>) -> Result<()> {
        let _flushing = store.flushing.lock();
        store.freeze();
        loop {
            let Some(memtable) = store.view().frozen.first().cloned() else { break };
            self.flush_memtable(store, &memtable)?;
        }
        self.housekeeping.notify();
        self.compacting.notify();
        self.log.wake_room();
        Ok(())
    }

    /// Writes one frozen memtable: segment, then catalog, then view.
    fn flush_memtable(&self, store: &Arc<TableStore>, memtable: &Arc<Memtable>) -> Result<()> {
        let options = self.segment_options(&self.catalog.current(), store.id)?;
        let newborn = self.key_use.newborn();
        let partitions = memtable.entries();
        let mut writer =
            SegmentWriter::create(&self.vfs, &store.directory, &options, &newborn, partitions)?;
        let mut cursor = memtable.range(&[], &[], Direction::Forward);
        while let Some(key) = cursor.key() {
            writer.add(key, cursor.row())?;
            cursor.advance()?;
        }
        let mut written = writer.finish()?;
        self.date(&mut written);
        let segment = self.open_written(store, written.as_ref())?;
        let published = self.log.wait_durable(memtable.last()).and_then(|()| {
            self.update_table(store.id, |entry| {
                check_publishable(store, &entry.key, written.as_ref())?;
                entry.segments.extend(written.clone());
                entry.replay_from = entry.replay_from.max(memtable.last());
                let flushed = memtable.tails();
                entry.tails.retain(|tail| !flushed.contains(&tail.id));
                Ok(())
            })
        });
        if let Err(error) = published {
            if let Some(entry) = &written {
                self.give_up(&error, &entry.path(&store.directory));
            }
            return Err(error);
        }
        store.replace_frozen(memtable, segment);
        self.log.counters.flushes.add_one();
        for tail in memtable.tails() {
            self.remove_file(&crate::TailRecord::path_of(&store.directory, tail));
        }
        Ok(())
    }

    fn date(&self, written: &mut Option<SegmentEntry>) {
        if let Some(entry) = written {
            entry.created_at_millis = self.clock.key_wall_millis();
        }
    }

    fn open_written(
        &self,
        store: &TableStore,
        written: Option<&SegmentEntry>,
    ) -> Result<Option<Arc<Segment>>> {
        let Some(entry) = written else { return Ok(None) };
        let (vfs, keys) = (self.vfs.as_ref(), self.keys.as_ref());
        let opened = Segment::open(vfs, &store.directory, store.id, entry, keys, &self.cache);
        if let Err(error) = &opened {
            self.give_up(error, &entry.path(&store.directory));
        }
        opened.map(Some)
    }

    /// Removes a file that the catalog was not to have, unless it may have it after a crash.
    fn give_up(&self, error: &Error, path: &Path) {
        if !matches!(error, Error::Poisoned(_)) {
            self.remove_file(path);
        }
    }

    /// Body of the thread that compacts.
    pub(crate) fn run_compacting(&self) {
        while !self.is_stopping() {
            let stores: Vec<_> = self.tables.load().values().cloned().collect();
            let mut pass = Pass::Idle;
            for store in stores.iter().filter(|store| !store.is_closed()) {
                if self.is_stopping() {
                    return;
                }
                let compacted = self.compact_chosen(store);
                let worked = *compacted.as_ref().unwrap_or(&false);
                pass = match self.finish_pass("compaction", store, compacted.map(drop)) {
                    Pass::Worked if !worked => pass,
                    outcome => outcome,
                };
            }
            match pass {
                Pass::Worked => {}
                Pass::Idle => self.compacting.wait(None),
                Pass::Failed => self.compacting.wait(Some(RETRY)),
            }
        }
    }

    /// Runs the compaction that the strategy chooses, if any.
    fn compact_chosen(&self, store: &Arc<TableStore>) -> Result<bool> {
        let _compacting = store.compacting.lock();
        let catalog = self.catalog.current();
        let entry = catalog.tables.get(&store.id).ok_or(Error::NoSuchTable(store.id))?;
        let mut options = CompactionOptions::from_map(&entry.schema.options.compaction);
        if !entry.schema.options.compaction.contains_key("min_threshold") {
            options.min_threshold = self.options.compaction_segments_min;
        }
        let candidates: Vec<_> = store
            .view()
            .segments
            .iter()
            .map(|segment| Candidate { id: segment.entry().id, bytes: segment.entry().length })
            .collect();
        match (SizeTiered { options }).choose(&candidates) {
            Some(chosen) => {
                store.check_lease(self.clock.key_now_millis())?;
                self.compact_segments(store, &chosen).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// Compacts all segments of the table into one.
    pub(crate) fn compact_all(&self, store: &Arc<TableStore>) -> Result<()> {
        self.compact_where(store, |_| true)
    }

    /// Compacts the segments that `is_meant` into one.
    pub(crate) fn compact_where(
        &self,
        store: &Arc<TableStore>,
        is_meant: impl Fn(&SegmentEntry) -> bool,
    ) -> Result<()> {
        let _compacting = store.compacting.lock();
        let view = store.view_owned();
        let meant = view.segments.iter().map(|segment| segment.entry());
        let chosen: Vec<_> = meant.filter(|entry| is_meant(entry)).map(|entry| entry.id).collect();
        drop(view);
        if chosen.is_empty() {
            return Ok(());
        }
        self.compact_segments(store, &chosen)
    }

    fn compact_segments(&self, store: &Arc<TableStore>, chosen: &[SegmentId]) -> Result<()> {
        let catalog = self.catalog.current();
        let entry = catalog.tables.get(&store.id).ok_or(Error::NoSuchTable(store.id))?;
        let view = store.view_owned();
        let (inputs, others): (Vec<_>, Vec<_>) =
            view.segments.iter().cloned().partition(|segment| chosen.contains(&segment.entry().id));
        let memtables = std::iter::once(&view.active).chain(&view.frozen);
        let now_secs = u32::try_from(self.clock.now_millis() / 1000).unwrap_or(0);
        let job = CompactionJob {
            inputs,
            options: self.segment_options(&catalog, store.id)?,
            limits: PurgeLimits {
                now_secs,
                gc_before_secs: now_secs.saturating_sub(entry.schema.options.gc_grace_seconds),
                others,
                memtable_min_timestamp: memtables
                    .map(|m| m.min_timestamp())
                    .min()
                    .unwrap_or(i64::MAX),
            },
        };
        drop(view);
        let newborn = self.key_use.newborn();
        let mut written = job.run(&self.vfs, &store.directory, &newborn, &store.cancelled)?;
        self.date(&mut written);
        let segment = self.open_written(store, written.as_ref())?;
        let published = self.update_table(store.id, |entry| {
            check_publishable(store, &entry.key, written.as_ref())?;
            entry.segments.retain(|segment| !chosen.contains(&segment.id));
            entry.segments.extend(written.clone());
            Ok(())
        });
        if let Err(error) = published {
            if let Some(entry) = &written {
                self.give_up(&error, &entry.path(&store.directory));
            }
            return Err(error);
        }
        store.replace_segments(chosen, segment);
        self.log.counters.compactions.add_one();
        for input in &job.inputs {
            self.remove_file(&input.entry().path(&store.directory));
        }
        Ok(())
    }

    /// Body of the thread that keeps the log's files: prepares the next one, frees old ones.
    pub(crate) fn run_housekeeping(&self) {
        while !self.is_stopping() {
            let prepared = self.log.prepare_spare();
            let freed = self.free_log();
            let aged = self.note_age();
            let failed =
                [prepared, freed, aged].into_iter().filter_map(Result::err).fold(false, |_, error| {
                    tracing::warn!(error = %error.chain(), "commit log files or age of the directory: trying again");
                    true
                });
            if self.log.file_bytes() > self.options.log_total_bytes / 2 {
                self.flushing.notify();
            }
            if self.is_archiving_due() {
                self.archiving.notify();
            }
            self.housekeeping.wait(Some(if failed { RETRY } else { AGE_INTERVAL }));
        }
    }

    /// Unlinks the log files at the front that no table needs.
    pub(crate) fn free_log(&self) -> Result<()> {
        let free = self.log.index.lock().free_prefix(&self.catalog.current());
        let Some((last, _, _)) = free.last() else { return Ok(()) };
        let freed = free.iter().map(|(_, _, lsn)| *lsn).max().unwrap_or_default();
        self.update(|old| {
            let mut new = old.clone();
            new.log.oldest = new.log.oldest.max(last + 1);
            new.log.freed = new.log.freed.max(freed);
            new.log.recovered.retain(|number, _| number > last);
            Ok(new)
        })?;
        for (number, path, _) in &free {
            self.log.remove_file(*number);
            self.remove_file(path);
        }
        self.log.wake_room();
        Ok(())
    }

    /// Frees all log files before number `first`: flushes the tables that hold them, or sets them
    /// aside when their key is away.
    pub(crate) fn free_log_before(&self, first: u64) -> Result<()> {
        let mut before = None;
        loop {
            self.free_log()?;
            let oldest = self.log.index.lock().oldest();
            let Some(oldest) = oldest.filter(|oldest| *oldest < first) else { return Ok(()) };
            let catalog = self.catalog.current();
            let (holders, behind) = {
                let index = self.log.index.lock();
                (index.oldest_holders(&catalog), index.archives_behind(&catalog))
            };
            let state = (oldest, holders.clone(), behind.clone());
            if before.as_ref() == Some(&state) {
                return Err(Error::Overloaded("a table keeps an older commit log file"));
            }
            before = Some(state);
            for table in holders {
                self.flush_or_set_aside(table)?;
            }
            for table in behind {
                self.archive_log(table)?;
            }
        }
    }

    fn flush_or_set_aside(&self, table: TableId) -> Result<()> {
        let store = self.tables.load().get(&table).cloned();
        match store {
            Some(store) if store.check_lease(self.clock.key_now_millis()).is_ok() => {
                self.flush_store(&store)
            }
            _ => self.set_aside(table),
        }
    }

    /// The last frame of the log is synced and all tables that can be are flushed.
    pub(crate) fn flush_all(&self) {
        let stores: Vec<_> = self.tables.load().values().cloned().collect();
        for store in stores {
            if store.check_lease(self.clock.key_now_millis()).is_ok()
                && let Err(error) = self.flush_store(&store)
            {
                let table: TableId = store.id;
                tracing::warn!(%table, error = %error.chain(), "flush failed, the log has the rows");
            }
        }
    }
}

/// Whether a segment may still be published: the table was not closed meanwhile, and its key record
/// still holds the table key of the segment (newborn files count as live, so it does).
fn check_publishable(
    store: &TableStore,
    key: &coffer_crypto::KeyRecord,
    written: Option<&SegmentEntry>,
) -> Result<()> {
    if store.is_closed() {
        return Err(Error::TableNotOpen(store.id));
    }
    match written {
        Some(entry) if !key.holds(entry.table_key) => {
            Err(Error::Internal("table key of a new segment left the key record".into()))
        }
        _ => Ok(()),
    }
}
