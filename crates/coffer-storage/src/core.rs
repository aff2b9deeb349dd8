//! What the engine and its threads share: the catalog, the log, the open tables.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use bytes::Bytes;
use coffer_crypto::{DataKeySource, TableKeyId, clock::Clock};
use coffer_model::TableId;
use parking_lot::Mutex;

use crate::Lsn;
use crate::background::Signal;
use crate::block_cache::BlockCache;
use crate::catalog::{Catalog, CatalogStore, SharedRootKeys, TableEntry, table_keys};
use crate::commit_log::{self, CommitLog};
use crate::engine::AgeClock;
use crate::error::{Error, Result};
use crate::key_use::KeyUse;
use crate::memtable::MemoryUse;
use crate::options::EngineOptions;
use crate::segment::{Segment, SegmentOptions};
use crate::table_store::{TableMap, TableStore};
use crate::vfs::Vfs;

/// The state of an engine. Order of locks: `archives`, lifecycle of a table, `flushing` and `compacting` of its
/// store, the catalog's, the log's `pending`, its `index`, a store's `changing`, memtable shards.
pub(crate) struct Core {
    pub(crate) directory: PathBuf,
    pub(crate) options: EngineOptions,
    pub(crate) keys: Arc<dyn DataKeySource>,
    pub(crate) key_use: Arc<KeyUse>,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) catalog: CatalogStore,
    pub(crate) age: AgeClock,
    pub(crate) log: CommitLog,
    pub(crate) root_keys: SharedRootKeys,
    pub(crate) tables: ArcSwap<TableMap>,
    pub(crate) memory: Arc<MemoryUse>,
    pub(crate) cache: Arc<BlockCache>,
    /// One lock for each table that was opened, closed or set aside: these exclude each other.
    pub(crate) lifecycles: Mutex<HashMap<TableId, Arc<Mutex<()>>>>,
    pub(crate) housekeeping: Arc<Signal>,
    pub(crate) flushing: Arc<Signal>,
    pub(crate) compacting: Arc<Signal>,
    /// Asks for archiving.
    pub(crate) archiving: Arc<Signal>,
    /// Held while log is archived, a base taken, or an archive begun, ended or shortened.
    pub(crate) archives: Mutex<()>,
    pub(crate) stopping: AtomicBool,
}

/// What the catalog says about the table keys of a table's files.
pub(crate) struct ListedKeys {
    /// Log records up to this one are in files that the catalog lists, and in the archive if there is
    /// one.
    pub(crate) flushed: Lsn,
    /// The table keys that these files need.
    pub(crate) needed: HashSet<TableKeyId>,
}

impl ListedKeys {
    /// Those of a live table and of what is kept of it.
    pub(crate) fn of(catalog: &Catalog, entry: &TableEntry) -> Self {
        let mut needed = catalog.retained_table_keys(entry.schema.id);
        needed.extend(table_keys(&entry.segments, &entry.tails));
        let archived_to = catalog.archives.get(&entry.schema.id).map(|archive| archive.archived_to);
        let flushed = archived_to.map_or(entry.replay_from, |to| to.min(entry.replay_from));
        Self { flushed, needed }
    }
}

impl Core {
    pub(crate) fn lifecycle(&self, table: TableId) -> Arc<Mutex<()>> {
        Arc::clone(self.lifecycles.lock().entry(table).or_default())
    }

    pub(crate) fn store(&self, table: TableId) -> Result<Arc<TableStore>> {
        let tables = self.tables.load();
        let store = tables.get(&table).ok_or(Error::TableNotOpen(table))?;
        store.check_lease(self.clock.key_now_millis())?;
        Ok(Arc::clone(store))
    }

    pub(crate) fn table_directory(&self, table: TableId) -> PathBuf {
        self.directory.join("tables").join(table.to_string())
    }

    /// Changes the catalog; what the log knows of itself is brought up to date on the way.
    pub(crate) fn update(
        &self,
        change: impl FnOnce(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let updated = self.catalog.update(|old| {
            let mut new = change(old)?;
            new.age = self.age.noted();
            new.log.committed = new.log.committed.max(self.log.durable());
            Ok(new)
        });
        match &updated {
            Ok(catalog) => self.log.witness(catalog.version),
            Err(Error::Poisoned(cause)) => self.log.poison(cause),
            Err(_) => {}
        }
        updated
    }

    /// Changes one table's entry. Older table keys that no file needs any more leave its key record.
    pub(crate) fn update_table(
        &self,
        table: TableId,
        change: impl FnOnce(&mut TableEntry) -> Result<()>,
    ) -> Result<Arc<Catalog>> {
        self.update_table_and(table, change, |_, _| Ok(()))
    }

    /// Changes one table's entry, and with it what is kept beside the table.
    pub(crate) fn update_table_and(
        &self,
        table: TableId,
        change: impl FnOnce(&mut TableEntry) -> Result<()>,
        beside: impl FnOnce(&mut Catalog, &TableEntry) -> Result<()>,
    ) -> Result<Arc<Catalog>> {
        self.update(|old| {
            let mut entry =
                TableEntry::clone(old.tables.get(&table).ok_or(Error::NoSuchTable(table))?);
            change(&mut entry)?;
            let mut new = old.clone();
            beside(&mut new, &entry)?;
            self.settle_keys(old, &mut entry)?;
            new.tables.insert(table, Arc::new(entry));
            Ok(new)
        })
    }

    /// The table keys that files of the table need: those being written, what is written next,
    /// records of the log that are in no segment, segments, tail files, snapshots, archived log. Files
    /// go from each of these to a later one, so it looks in this order; `listed` gives what the catalog
    /// has of the table at the moment.
    pub(crate) fn table_keys_in_use(
        &self,
        table: TableId,
        listed: impl Fn() -> Result<ListedKeys>,
    ) -> Result<HashSet<TableKeyId>> {
        let flushed = listed()?.flushed;
        let newborn = self.key_use.of(table);
        let mut needed = newborn.needed;
        needed.extend(newborn.wrapping.map(|(id, _)| id));
        needed.extend(self.log.index.lock().table_keys(table, flushed));
        needed.extend(listed()?.needed);
        Ok(needed)
    }

    /// Brings the key record up to date. Does nothing while the record's own key is not the one that
    /// wraps data keys: the key is away, or a swap was published and is not installed yet.
    pub(crate) fn settle_keys(&self, catalog: &Catalog, entry: &mut TableEntry) -> Result<()> {
        let table = entry.schema.id;
        let wrapping = self.keys.wrapping_key(table.as_bytes());
        let Some((id, wraps)) = wrapping else { return Ok(()) };
        if id != entry.key.table_key_id {
            return Ok(());
        }
        // the caller holds the catalog: the entry stays as it is
        let needed = self.table_keys_in_use(table, || Ok(ListedKeys::of(catalog, entry)))?;
        let mut key = (*entry.key).clone();
        key.older.retain(|older| needed.contains(&older.table_key_id));
        key.wraps = key.wraps.max(wraps);
        entry.key = Arc::new(key);
        Ok(())
    }

    /// Opens a table: segments, tail files, log.
    pub(crate) fn open_table(&self, table: TableId) -> Result<()> {
        let lifecycle = self.lifecycle(table);
        let _lifecycle = lifecycle.lock();
        if let Some(store) = self.tables.load().get(&table)
            && store.check_lease(self.clock.key_now_millis()).is_ok()
        {
            return Ok(());
        }
        self.close_store(table);
        let catalog = self.catalog.settled();
        let entry = catalog.tables.get(&table).ok_or(Error::NoSuchTable(table))?;
        let lease = self
            .keys
            .lease(table.as_bytes())
            .map_err(|error| Error::sealed(self.table_directory(table), "lease", error))?;
        let directory = self.table_directory(table);
        self.vfs
            .create_directory(&directory)
            .map_err(|error| Error::io("create table directory", &directory, error))?;
        let mut segments = Vec::with_capacity(entry.segments.len());
        for segment in &entry.segments {
            let keys = self.keys.as_ref();
            segments.push(Segment::open(
                self.vfs.as_ref(),
                &directory,
                table,
                segment,
                keys,
                &self.cache,
            )?);
        }
        let store = Arc::new(TableStore::new(table, directory, lease, segments, &self.memory));
        self.replay(&store, entry)?;
        self.tables.rcu(|tables| {
            let mut tables = TableMap::clone(tables);
            tables.insert(table, Arc::clone(&store));
            tables
        });
        self.flushing.notify();
        Ok(())
    }

    fn replay(&self, store: &Arc<TableStore>, entry: &TableEntry) -> Result<()> {
        let (vfs, keys) = (self.vfs.as_ref(), self.keys.as_ref());
        let mut apply = |lsn: Lsn, records: &Bytes| {
            self.memory.add(records.len() as u64);
            store.apply(lsn, records)?;
            if store.active_bytes() >= self.options.memtable_flush_bytes {
                self.flush_store(store)?;
            }
            Ok(())
        };
        for tail in &entry.tails {
            // frames of another log, after a restore, have their numbers from there
            let mut apply = |lsn: Lsn, records: &Bytes| apply(lsn.min(entry.replay_from), records);
            commit_log::read_tail(vfs, keys, &store.directory, store.id, tail, &mut apply)?;
            store.note_tail(tail.id);
        }
        let files = self.log.index.lock().records(store.id, entry.replay_from);
        for file in &files {
            commit_log::replay(vfs, keys, store.id, file, &mut apply)?;
        }
        Ok(())
    }

    /// Takes the table out of use and waits until what was appended to it is in the log. The
    /// caller holds the table's lifecycle lock. Returns the last frame that may hold records of it.
    pub(crate) fn close_store(&self, table: TableId) -> Lsn {
        let store = self.tables.load().get(&table).cloned();
        let lsn = self.log.fence(table, || {
            if let Some(store) = &store {
                store.close();
            }
        });
        let Some(store) = store else { return lsn };
        if let Err(error) = self.log.wait_committed(lsn) {
            tracing::debug!(%table, error = %error.chain(), "table closes with a stopped log");
        }
        self.tables.rcu(|tables| {
            let mut tables = TableMap::clone(tables);
            tables.remove(&table);
            tables
        });
        for segment in &store.view().segments {
            segment.close();
        }
        self.cache.evict_table(table);
        self.log.wake_room();
        lsn
    }

    /// Unlinks all files of a table that the catalog no longer has.
    pub(crate) fn unlink_table(&self, table: TableId) -> Result<()> {
        let directory = self.table_directory(table);
        let names = self
            .vfs
            .list(&directory)
            .map_err(|error| Error::io("list table", &directory, error))?;
        for name in names {
            self.remove_file(&directory.join(name));
        }
        if self.vfs.exists(&directory).unwrap_or(false) {
            let removed = self.vfs.remove_directory(&directory);
            removed.map_err(|error| Error::io("remove table directory", &directory, error))?;
        }
        Ok(())
    }

    /// A file that cannot be unlinked now is unlinked at the next start.
    pub(crate) fn remove_file(&self, path: &std::path::Path) {
        if let Err(error) = self.vfs.remove(path) {
            tracing::warn!(file = %path.display(), %error, "a file of no use stays until the next start");
        }
    }

    /// How the table's segments are written.
    pub(crate) fn segment_options(
        &self,
        catalog: &Catalog,
        table: TableId,
    ) -> Result<SegmentOptions> {
        let entry = catalog.tables.get(&table).ok_or(Error::NoSuchTable(table))?;
        let options = &entry.schema.options;
        let off = options.compression.is_empty()
            || options.compression.get("enabled").is_some_and(|enabled| enabled == "false");
        Ok(SegmentOptions {
            cluster: catalog.cluster_id,
            table,
            block_bytes: self.options.block_bytes,
            compress: self.options.compression && !off,
            bloom_filter_fp_chance: options.bloom_filter_fp_chance,
        })
    }
}
