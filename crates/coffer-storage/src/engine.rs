//! The engine: open, append, read, and the life of tables. Everything here is synchronous; nothing
//! waits for a KMS.

mod age;
mod archive;
mod erase;
mod keys;
mod open;
mod orphans;
mod point_in_time;
mod publish;
mod restore;
mod snapshot;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::thread::JoinHandle;

use bytes::Bytes;
use coffer_crypto::{DataKeySource, RootKeys, clock::Clock};
use coffer_model::{EntryKind, Mutation, TableId, Token};
use parking_lot::{Mutex, RwLock};

use crate::background::{Priority, spawn};
use crate::catalog::Catalog;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::EngineOptions;
use crate::vfs::Vfs;
use crate::view::Point;
use crate::{Lsn, PartitionCursor, PartitionRead, ScanCursor, ScanRange, TableStatistics};

pub(crate) use age::AgeClock;
pub use archive::ArchiveStatistics;
pub use erase::{Erased, Told};
use open::{lock_directory, open_core};
pub use restore::RestoreSource;
pub use snapshot::SnapshotRequest;

/// The storage engine over one data directory.
pub struct Engine {
    pub(crate) core: Arc<Core>,
    threads: Mutex<Threads>,
    /// Locked as long as the engine lives.
    _lock: File,
}

#[derive(Default)]
struct Threads {
    log: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Opens (or creates) the data directory: locks it, reads the catalog, scans the structure of
    /// the commit log. Asks no KMS and opens no table.
    ///
    /// # Errors
    /// `Locked`, `Tampered`, `WrongKey` or `Io`, naming the file.
    pub fn open(
        directory: &Path,
        options: EngineOptions,
        keys: Arc<dyn DataKeySource>,
        root_keys: impl Into<RootKeys>,
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let lock = lock_directory(directory)?;
        let root_keys = Arc::new(RwLock::new(root_keys.into()));
        let core = Arc::new(open_core(directory, options, keys, &root_keys, &vfs, clock)?);
        core.remove_orphans()?;
        let threads = Mutex::new(Threads::default());
        let engine = Self { core, threads, _lock: lock };
        engine.start_threads()?;
        engine.core.log.witness(engine.core.catalog.current().version);
        Ok(engine)
    }

    /// The catalog as it is now, one immutable value.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.core.catalog.current()
    }

    /// Opens a table of the catalog: its segments, its tail files, its records in the log. Blocking;
    /// the table's key must be in the key source. Opening an open table does nothing.
    ///
    /// # Errors
    /// `NoSuchTable`, `KeyUnavailable`, `Tampered`, `WrongKey`, `Io`.
    pub fn open_table(&self, table: TableId) -> Result<()> {
        self.core.open_table(table)
    }

    /// Whether the table is open and its key lease valid.
    #[must_use]
    pub fn is_open(&self, table: TableId) -> bool {
        self.core.store(table).is_ok_and(|store| !store.is_closed())
    }

    /// Hands a batch to the commit log; it is in the frame whose number is returned, whole or not at
    /// all. The batch is durable and visible once [`Engine::committed`] reaches that number.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Overloaded`, `Poisoned`, `TooLarge`; nothing was written.
    pub fn append(&self, mutations: &[Mutation]) -> Result<Lsn> {
        self.check_room()?;
        self.core.log.append(&self.core.tables.load(), mutations)
    }

    /// The last durable and visible log frame.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        self.core.log.committed()
    }

    /// Wakes `waker` once when `lsn` is committed or the engine is poisoned. Returns true, without
    /// registering, when that is already so.
    #[must_use]
    pub fn wake_at(&self, lsn: Lsn, waker: &Waker) -> bool {
        self.core.log.wake_at(lsn, waker)
    }

    /// Wakes `waker` once when an append that got `Overloaded` may be tried again. Returns true,
    /// without registering, when there is room now.
    #[must_use]
    pub fn wake_when_room(&self, waker: &Waker) -> bool {
        self.core.log.wait_for_room(waker);
        // looked at after registering, so that room made in between is not missed
        let room = self.check_room().is_ok() && !self.core.log.is_starved();
        if !room {
            self.core.flushing.notify();
            self.core.housekeeping.notify();
        }
        room
    }

    /// Blocks until `lsn` is committed. For tests and tools; the server uses [`Engine::wake_at`].
    ///
    /// # Errors
    /// `Poisoned` when it never will be.
    pub fn wait_committed(&self, lsn: Lsn) -> Result<()> {
        self.core.log.wait_committed(lsn)
    }

    /// An error once a log write or sync has failed.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn poisoned(&self) -> Result<()> {
        self.core.log.check_poison()
    }

    /// Starts reading one partition. The cursor holds one [`crate::View`]; nothing moves under it.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn read_partition(
        &self,
        table: TableId,
        read: &PartitionRead<'_>,
        now_seconds: u32,
    ) -> Result<PartitionCursor> {
        let store = self.core.store(table)?;
        PartitionCursor::new(store, Arc::clone(&self.core.clock), read, now_seconds)
    }

    /// One live row by its full primary key (`clustering` is ordered bytes), or `None`.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn read_row(
        &self,
        table: TableId,
        partition_key: &[u8],
        token: Token,
        clustering: &[u8],
        now_seconds: u32,
    ) -> Result<Option<Bytes>> {
        let point = Point { token, partition_key, kind: EntryKind::Row, clustering };
        self.read_point(table, &point, now_seconds)
    }

    /// The live static row of one partition, or `None`.
    ///
    /// # Errors
    /// As [`Engine::read_row`].
    pub fn read_static_row(
        &self,
        table: TableId,
        partition_key: &[u8],
        token: Token,
        now_seconds: u32,
    ) -> Result<Option<Bytes>> {
        let point = Point { token, partition_key, kind: EntryKind::StaticRow, clustering: &[] };
        self.read_point(table, &point, now_seconds)
    }

    /// Scans a table, or a token range of it, in token order.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn scan(
        &self,
        table: TableId,
        range: &ScanRange<'_>,
        now_seconds: u32,
    ) -> Result<ScanCursor> {
        let store = self.core.store(table)?;
        ScanCursor::new(store, Arc::clone(&self.core.clock), range, now_seconds)
    }

    /// Writes the table's memtables to segments; returns when they are in the catalog.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Io`.
    pub fn flush(&self, table: TableId) -> Result<()> {
        let store = self.core.store(table)?;
        self.core.flush_store(&store)
    }

    /// Compacts all segments of the table into one; blocks until done.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn compact(&self, table: TableId) -> Result<()> {
        let store = self.core.store(table)?;
        self.core.compact_all(&store)
    }

    /// Rewrites the segments that were written before `millis` (wall clock of keys) as one, with a
    /// fresh data key; blocks until done. Does nothing when there are none.
    ///
    /// # Errors
    /// As [`Engine::compact`].
    pub fn rewrite_segments_before(&self, table: TableId, millis: i64) -> Result<()> {
        let store = self.core.store(table)?;
        self.core.compact_where(&store, |segment| segment.created_at_millis < millis)
    }

    /// Sizes and counts of one table.
    ///
    /// # Errors
    /// `NoSuchTable`.
    pub fn statistics(&self, table: TableId) -> Result<TableStatistics> {
        let catalog = self.core.catalog.current();
        let entry = catalog.tables.get(&table).ok_or(Error::NoSuchTable(table))?;
        let tables = self.core.tables.load();
        Ok(TableStatistics {
            memtable_bytes: tables.get(&table).map_or(0, |store| store.memtable_bytes()),
            segments: entry.segments.len() as u64,
            segment_bytes: entry.segments.iter().map(|segment| segment.length).sum(),
            tails: entry.tails.len() as u64,
        })
    }

    /// Commits what was appended, flushes, ends the log, and joins the threads.
    pub fn shutdown(&self) {
        if self.core.log.check_poison().is_ok() && !self.core.stopping.load(Ordering::Acquire) {
            self.core.flush_all();
            if let Err(error) = self.core.free_log() {
                let error = error.chain();
                tracing::warn!(error, "commit log files stay until the next start");
            }
        }
        self.stop_threads();
    }

    fn read_point(
        &self,
        table: TableId,
        point: &Point<'_>,
        now_seconds: u32,
    ) -> Result<Option<Bytes>> {
        let tables = self.core.tables.load();
        let store = tables.get(&table).ok_or(Error::TableNotOpen(table))?;
        store.check_lease(self.core.clock.key_now_millis())?;
        store.view().row(point, now_seconds)
    }

    fn check_room(&self) -> Result<()> {
        let core = &self.core;
        if core.memory.bytes() > core.options.memtable_total_bytes {
            core.flushing.notify();
            return Err(Error::Overloaded("memtable_total_bytes"));
        }
        if core.log.file_bytes() > core.options.log_total_bytes {
            core.flushing.notify();
            return Err(Error::Overloaded("log_total_bytes"));
        }
        Ok(())
    }

    fn start_threads(&self) -> Result<()> {
        let mut threads = self.threads.lock();
        let poison = |core: Arc<Core>| move || core.log.poison("a thread of the engine panicked");
        let start = |name, priority, run: fn(&Core)| {
            let core = Arc::clone(&self.core);
            spawn(name, priority, move || run(&core), poison(Arc::clone(&self.core)))
        };
        threads.log = Some(start("coffer-log", Priority::Normal, |core| core.log.run())?);
        for (name, priority, run) in [
            ("coffer-log-files", Priority::Normal, Core::run_housekeeping as fn(&Core)),
            ("coffer-flush", Priority::Normal, Core::run_flushing),
            ("coffer-compact", Priority::Low, Core::run_compacting),
            ("coffer-archive", Priority::Low, Core::run_archiving),
        ] {
            threads.others.push(start(name, priority, run)?);
        }
        Ok(())
    }

    fn stop_threads(&self) {
        self.core.stopping.store(true, Ordering::Release);
        for store in self.core.tables.load().values() {
            store.cancelled.store(true, Ordering::Release);
        }
        let core = &self.core;
        for signal in [&core.housekeeping, &core.flushing, &core.compacting, &core.archiving] {
            signal.notify();
        }
        let mut threads = self.threads.lock();
        let Some(log) = threads.log.take() else { return };
        for thread in threads.others.drain(..) {
            join(thread);
        }
        if let Err(error) = self.note_end() {
            let error = error.chain();
            tracing::warn!(error, "the catalog does not know the end of the commit log");
        }
        self.core.log.stop();
        join(log);
    }

    /// Has the catalog know the last frame, so that a log that was cut after a clean stop is named.
    fn note_end(&self) -> Result<()> {
        self.core.log.refuse()?;
        if self.core.catalog.current().log.committed < self.core.log.durable() {
            self.core.update(|old| Ok(old.clone()))?;
        }
        Ok(())
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the engine panicked");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

#[cfg(test)]
mod tests;
