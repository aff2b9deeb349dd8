//! The engine: open, append, read, and the life of tables. Everything here is synchronous; nothing
//! waits for a KMS.

mod keys;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use bytes::Bytes;
use coffer_crypto::{DataKeySource, RootKeys, clock::Clock};
use coffer_model::{EntryKind, Mutation, TableId, Token};
use parking_lot::{Mutex, RwLock};
use rustix::fs::{FlockOperation, flock};

use crate::background::{Priority, Signal, spawn};
use crate::block_cache::BlockCache;
use crate::catalog::{Catalog, CatalogStore, SharedRootKeys, TableEntry};
use crate::commit_log::{self, CommitLog, LogContext, LogScan};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::ClusterId;
use crate::key_use::KeyUse;
use crate::memtable::MemoryUse;
use crate::options::EngineOptions;
use crate::table_store::TableMap;
use crate::vfs::{self, Vfs};
use crate::view::Point;
use crate::{Lsn, PartitionCursor, PartitionRead, ScanCursor, ScanRange, TableStatistics};

/// Smallest commit log file; options below are raised to it.
const LOG_FILE_BYTES_MIN: u64 = 64 * 1024;

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

    /// Changes the catalog: `change` maps the present value to the next one, which is persisted and
    /// then published. Changes are serialised. `version`, `log`, and the file lists of existing
    /// tables are the engine's own: what `change` does to them is ignored.
    ///
    /// # Errors
    /// What `change` returns, or `Io` (then nothing is published).
    pub fn update_catalog(
        &self,
        change: &mut dyn FnMut(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let mut dropped = Vec::new();
        let published = self.core.update(|old| {
            let new = change(old)?;
            dropped =
                old.tables.keys().filter(|id| !new.tables.contains_key(id)).copied().collect();
            Ok(self.keep_own_fields(old, new))
        })?;
        for table in dropped {
            let lifecycle = self.core.lifecycle(table);
            let _lifecycle = lifecycle.lock();
            self.core.close_store(table);
            if let Err(error) = self.core.unlink_table(table) {
                let error = commit_log::error_chain(&error);
                tracing::warn!(%table, error, "files of a dropped table stay until the next start");
            }
            self.core.lifecycles.lock().remove(&table);
        }
        self.core.housekeeping.notify();
        Ok(published)
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

    /// Removes all rows of the table, those in the log included, and unlinks its files. Works while
    /// the key is away.
    ///
    /// # Errors
    /// `NoSuchTable`, `Io`.
    pub fn truncate(&self, table: TableId) -> Result<()> {
        let lifecycle = self.core.lifecycle(table);
        let _lifecycle = lifecycle.lock();
        let was_open = self.core.tables.load().contains_key(&table);
        let last = self.core.close_store(table);
        if was_open {
            self.core.log.wait_committed(last)?;
        }
        self.core.log.wait_durable(self.core.log.committed())?;
        let mut removed = TableFiles::default();
        self.core.update_table(table, |entry| {
            removed.segments = std::mem::take(&mut entry.segments);
            removed.tails = std::mem::take(&mut entry.tails);
            entry.replay_from = entry.replay_from.max(last.min(self.core.log.committed()));
            entry.truncated_at = entry.replay_from;
            Ok(())
        })?;
        let directory = self.core.table_directory(table);
        for path in removed.paths(&directory) {
            self.core.remove_file(&path);
        }
        self.core.housekeeping.notify();
        Ok(())
    }

    /// Removes the table from the catalog and unlinks its files. Works while the key is away.
    ///
    /// # Errors
    /// `NoSuchTable`, `Io`.
    pub fn drop_table(&self, table: TableId) -> Result<()> {
        let mut remove = |old: &Catalog| {
            let mut new = old.clone();
            new.tables.remove(&table).ok_or(Error::NoSuchTable(table))?;
            Ok(new)
        };
        self.update_catalog(&mut remove).map(drop)
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
                let error = commit_log::error_chain(&error);
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

    /// What the layers above may not change: the file lists of tables, and what the log knows.
    fn keep_own_fields(&self, old: &Catalog, mut new: Catalog) -> Catalog {
        new.log = old.log.clone();
        for (id, entry) in &mut new.tables {
            match old.tables.get(id) {
                Some(before) if Arc::ptr_eq(before, entry) => {}
                Some(before) => {
                    let kept = Arc::make_mut(entry);
                    kept.segments.clone_from(&before.segments);
                    kept.tails.clone_from(&before.tails);
                    kept.replay_from = before.replay_from;
                    kept.truncated_at = before.truncated_at;
                }
                // records of a dropped table with the same id must not come back
                None => {
                    let mut kept =
                        TableEntry::new(Arc::clone(&entry.schema), Arc::clone(&entry.key));
                    kept.replay_from = self.core.log.durable();
                    kept.truncated_at = kept.replay_from;
                    *entry = Arc::new(kept);
                }
            }
        }
        new
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
        for signal in [&self.core.housekeeping, &self.core.flushing, &self.core.compacting] {
            signal.notify();
        }
        let mut threads = self.threads.lock();
        let Some(log) = threads.log.take() else { return };
        for thread in threads.others.drain(..) {
            join(thread);
        }
        if let Err(error) = self.note_end() {
            let error = commit_log::error_chain(&error);
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

/// Files that leave the catalog together.
#[derive(Default)]
struct TableFiles {
    segments: Vec<crate::SegmentEntry>,
    tails: Vec<crate::TailRecord>,
}

impl TableFiles {
    fn paths(&self, directory: &Path) -> Vec<std::path::PathBuf> {
        let segments = self.segments.iter().map(|segment| segment.path(directory));
        segments.chain(self.tails.iter().map(|tail| tail.path(directory))).collect()
    }
}

/// Creates the data directory if need be and locks it: the first thing that is done to it.
fn lock_directory(directory: &Path) -> Result<File> {
    vfs::OsVfs
        .create_directory(directory)
        .map_err(|error| Error::io("create data directory", directory, error))?;
    let path = directory.join("LOCK");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| Error::io("open lock", &path, error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Error::Locked { directory: directory.to_path_buf() })?;
    Ok(file)
}

fn open_core(
    directory: &Path,
    mut options: EngineOptions,
    keys: Arc<dyn DataKeySource>,
    root_keys: &SharedRootKeys,
    vfs: &Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
) -> Result<Core> {
    options.log_file_bytes = options.log_file_bytes.max(LOG_FILE_BYTES_MIN).next_multiple_of(4096);
    let [log_directory, catalog_directory, tables_directory] =
        ["log", "catalog", "tables"].map(|name| directory.join(name));
    for directory in [&log_directory, &catalog_directory, &tables_directory] {
        vfs.create_directory(directory)
            .map_err(|error| Error::io("create directory", directory, error))?;
        vfs::remove_unpublished(vfs.as_ref(), directory)?;
    }
    let catalog = match CatalogStore::open(vfs, &catalog_directory, root_keys)? {
        Some(catalog) => catalog,
        None => create_catalog(vfs, directory, root_keys)?,
    };
    let known = catalog.current();
    let scan = {
        let roots = root_keys.read();
        commit_log::scan(vfs.as_ref(), &log_directory, &roots, known.cluster_id, &known.log)?
    };
    check_version(&known, &scan, &catalog_directory)?;
    check_replayed(&known, &scan, &catalog_directory)?;
    scan.settle(vfs.as_ref())?;
    let (recovered, last, number) = (scan.recovered.clone(), scan.last, scan.next_number);
    let [housekeeping, flushing, compacting] = [(); 3].map(|()| Arc::<Signal>::default());
    let memory = Arc::<MemoryUse>::default();
    let key_use = Arc::new(KeyUse::new(Arc::clone(&keys)));
    let context = LogContext {
        directory: log_directory,
        vfs: Arc::clone(vfs),
        root_keys: Arc::clone(root_keys),
        keys: Arc::clone(&key_use),
        clock: Arc::clone(&clock),
        cluster: known.cluster_id,
        options: options.clone(),
        memory: Arc::clone(&memory),
    };
    let log = CommitLog::start(context, scan, Arc::clone(&housekeeping), Arc::clone(&flushing))?;
    catalog.update(|old| {
        let mut new = old.clone();
        new.log.oldest = new.log.oldest.max(1);
        new.log.known = number;
        new.log.recovered = recovered;
        new.log.committed = last;
        Ok(new)
    })?;
    Ok(Core {
        directory: directory.to_path_buf(),
        cache: Arc::new(BlockCache::new(options.block_cache_bytes)),
        options,
        keys,
        key_use,
        vfs: Arc::clone(vfs),
        clock,
        catalog,
        log,
        root_keys: Arc::clone(root_keys),
        tables: ArcSwap::from_pointee(TableMap::default()),
        memory,
        lifecycles: Mutex::default(),
        housekeeping,
        flushing,
        compacting,
        stopping: AtomicBool::new(false),
    })
}

/// A new data directory gets a catalog; one that has data and no catalog was tampered with.
fn create_catalog(
    vfs: &Arc<dyn Vfs>,
    directory: &Path,
    root_keys: &SharedRootKeys,
) -> Result<CatalogStore> {
    let catalog_directory = directory.join("catalog");
    for name in ["log", "tables"] {
        let path = directory.join(name);
        let names = vfs.list(&path).map_err(|error| Error::io("list directory", &path, error))?;
        if !names.is_empty() {
            return Err(Error::tampered(catalog_directory, "catalog is missing"));
        }
    }
    let cluster = coffer_crypto::random_array()
        .map_err(|error| Error::sealed(&catalog_directory, "cluster id", error))?;
    CatalogStore::create(vfs, &catalog_directory, root_keys, ClusterId(cluster))
}

/// The catalog is not older than the log says.
fn check_version(catalog: &Catalog, scan: &LogScan, directory: &Path) -> Result<()> {
    let (newest, known) = (catalog.version, scan.catalog_version);
    if newest < known {
        let what = format!("version {newest} is newest, the log knows of {known}");
        return Err(Error::tampered(directory, what));
    }
    Ok(())
}

/// No table was flushed further than the log goes.
fn check_replayed(catalog: &Catalog, scan: &LogScan, directory: &Path) -> Result<()> {
    let flushed = catalog.tables.values().map(|table| table.replay_from).max().unwrap_or_default();
    if flushed > scan.last {
        let what = format!("log ends at frame {}, catalog knows of {}", scan.last.0, flushed.0);
        return Err(Error::tampered(directory.with_file_name("log"), what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
