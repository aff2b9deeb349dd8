//! Opening a data directory: lock, catalog, structure of the commit log.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use coffer_crypto::{DataKeySource, clock::Clock};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::age::AgeClock;
use crate::background::Signal;
use crate::block_cache::BlockCache;
use crate::catalog::{Catalog, CatalogStore, SharedRootKeys};
use crate::commit_log::{self, CommitLog, LogContext, LogScan};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::ClusterId;
use crate::key_use::KeyUse;
use crate::memtable::MemoryUse;
use crate::options::EngineOptions;
use crate::table_store::TableMap;
use crate::vfs::{self, Vfs};

/// Smallest commit log file; options below are raised to it.
const LOG_FILE_BYTES_MIN: u64 = 64 * 1024;

/// Creates the data directory if need be and locks it: the first thing that is done to it.
pub(super) fn lock_directory(directory: &Path) -> Result<File> {
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

pub(super) fn open_core(
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
    let [housekeeping, flushing, compacting, archiving] =
        [(); 4].map(|()| Arc::<Signal>::default());
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
    let age = AgeClock::start(Arc::clone(&clock), known.age);
    catalog.update(|old| {
        let mut new = old.clone();
        new.log.oldest = new.log.oldest.max(1);
        new.log.known = number;
        new.log.recovered = recovered;
        new.log.committed = last;
        new.age = age.noted();
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
        age,
        log,
        root_keys: Arc::clone(root_keys),
        tables: ArcSwap::from_pointee(TableMap::default()),
        memory,
        lifecycles: Mutex::default(),
        housekeeping,
        flushing,
        compacting,
        archiving,
        archives: Mutex::default(),
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
