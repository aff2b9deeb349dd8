//! The catalog: names, schemas, key records and file lists, as one immutable value and one sealed
//! document on disk.
//!
//! Every change is a function from the old [`Catalog`] to a new one; the new one is written under a
//! new name, synced, and only then published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use coffer_crypto::{DocumentKind, KeyRecord, RootKey, SealedDocument, TableKeyId};
use coffer_model::{KeyspaceSchema, TableId, TableSchema};
use parking_lot::Mutex;

use crate::Lsn;
use crate::error::{Error, Result};
use crate::ids::ClusterId;
use crate::segment::SegmentEntry;
use crate::vfs::{self, Vfs};

/// What the catalog says about one tail file: log records set aside while the table's key is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRecord {
    /// Identity and file name.
    pub id: [u8; 16],
    /// Length of the file in bytes.
    pub length: u64,
    /// SHA-256 of the whole file as it lies on disk.
    pub sha256: [u8; 32],
    /// The last log frame whose records are in it.
    pub last: Lsn,
    /// The table keys that wrap its data keys.
    pub table_keys: Vec<TableKeyId>,
}

impl TailRecord {
    /// The tail's file in its table's directory.
    #[must_use]
    pub fn path(&self, table_directory: &Path) -> PathBuf {
        Self::path_of(table_directory, self.id)
    }

    pub(crate) fn path_of(table_directory: &Path, id: [u8; 16]) -> PathBuf {
        table_directory.join(format!("{}.tail", hex::encode(id)))
    }
}

/// One table: its schema, its keys and its files.
#[derive(Debug, Clone)]
pub struct TableEntry {
    /// Names, columns, options.
    pub schema: Arc<TableSchema>,
    /// The wrapped table keys.
    pub key: Arc<KeyRecord>,
    /// Live segments; the engine alone changes this list.
    pub segments: Vec<SegmentEntry>,
    /// Tail files; the engine alone changes this list.
    pub tails: Vec<TailRecord>,
    /// Log records at or before this one are in segments (or truncated) and skipped by replay.
    pub replay_from: Lsn,
    /// The last log frame before the table was created or truncated.
    pub truncated_at: Lsn,
}

/// The catalog as one immutable value.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Rises by one with each change.
    pub version: u64,
    /// Random identity of this data directory.
    pub cluster_id: ClusterId,
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, Arc<KeyspaceSchema>>,
    /// Tables by id.
    pub tables: BTreeMap<TableId, Arc<TableEntry>>,
    /// Small settings of the layers above (account, region, schema version), by name.
    pub properties: BTreeMap<String, String>,
    /// What is known of the commit log's files.
    pub log: LogRecord,
}

/// What the catalog knows of the commit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRecord {
    /// Oldest log file that must exist.
    pub oldest: u64,
    /// Every log file from `oldest` to this one must exist.
    pub known: u64,
    /// The last frame of the files before `oldest`.
    pub freed: Lsn,
    /// The log holds at least the frames up to this one.
    pub committed: Lsn,
    /// Files that did not end cleanly: number, and the bytes of it that are valid.
    pub recovered: BTreeMap<u64, u64>,
}

impl TableEntry {
    /// A new table without files.
    #[must_use]
    pub fn new(schema: Arc<TableSchema>, key: Arc<KeyRecord>) -> Self {
        Self {
            schema,
            key,
            segments: Vec::new(),
            tails: Vec::new(),
            replay_from: Lsn(0),
            truncated_at: Lsn(0),
        }
    }
}

mod document;

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            version: 0,
            cluster_id,
            keyspaces: BTreeMap::new(),
            tables: BTreeMap::new(),
            properties: BTreeMap::new(),
            log: LogRecord::default(),
        }
    }

    /// The table of that keyspace and name.
    #[must_use]
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<TableEntry>> {
        self.tables
            .values()
            .find(|table| table.schema.keyspace == keyspace && table.schema.name == name)
    }
}

/// Longest catalog file that is read.
const CATALOG_BYTES_MAX: u64 = 1 << 30;

/// The catalog on disk and the value that was published last.
pub(crate) struct CatalogStore {
    directory: PathBuf,
    vfs: Arc<dyn Vfs>,
    root_key: Arc<RootKey>,
    current: ArcSwap<Catalog>,
    /// Serialises changes. Why there can be none any more: a version that was given up may be found
    /// at the next start.
    changing: Mutex<Option<String>>,
}

impl CatalogStore {
    /// The newest catalog in the directory; `None` when there is none.
    pub(crate) fn open(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        root_key: &Arc<RootKey>,
    ) -> Result<Option<Self>> {
        let versions = versions(vfs.as_ref(), directory)?;
        let Some((newest, older)) = versions.split_last() else { return Ok(None) };
        let path = version_path(directory, *newest);
        let catalog = read_catalog(vfs.as_ref(), &path, root_key)?;
        if catalog.version != *newest {
            return Err(Error::tampered(&path, "catalog of another version"));
        }
        // its writer may have died before it did this
        vfs.sync_directory(directory)
            .map_err(|error| Error::io("sync directory", directory, error))?;
        for version in older {
            remove_version(vfs.as_ref(), directory, *version);
        }
        Ok(Some(Self::with(vfs, directory, root_key, catalog)))
    }

    /// Writes the first catalog of a new data directory.
    pub(crate) fn create(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        root_key: &Arc<RootKey>,
        cluster: ClusterId,
    ) -> Result<Self> {
        let store = Self::with(vfs, directory, root_key, Catalog::new(cluster));
        store.update(|catalog| Ok(catalog.clone()))?;
        Ok(store)
    }

    fn with(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        root_key: &Arc<RootKey>,
        catalog: Catalog,
    ) -> Self {
        Self {
            directory: directory.to_path_buf(),
            vfs: Arc::clone(vfs),
            root_key: Arc::clone(root_key),
            current: ArcSwap::from_pointee(catalog),
            changing: Mutex::new(None),
        }
    }

    /// The catalog as it is now.
    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// The catalog after all changes that have begun.
    pub(crate) fn settled(&self) -> Arc<Catalog> {
        let _changing = self.changing.lock();
        self.current.load_full()
    }

    /// Writes what `change` makes of the catalog as a new version, then publishes it, then unlinks
    /// the old one. After an error the old one stays; after `Poisoned` the new one may be found at the
    /// next start, so that files of neither may be removed.
    pub(crate) fn update(
        &self,
        change: impl FnOnce(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let mut changing = self.changing.lock();
        if let Some(cause) = &*changing {
            return Err(Error::Poisoned(cause.clone()));
        }
        let old = self.current.load_full();
        let mut new = change(&old)?;
        new.version = old.version + 1;
        new.cluster_id = old.cluster_id;
        let path = version_path(&self.directory, new.version);
        let json = document::encode(&new).map_err(|error| Error::Internal(error.to_string()))?;
        let sealed =
            SealedDocument::seal(&self.root_key, DocumentKind::Catalog, new.version, &json)
                .map_err(|error| Error::sealed(&path, "catalog", error))?;
        if let Err(error) = vfs::publish(&self.vfs, &path, &sealed) {
            if let Error::Poisoned(cause) = &error {
                *changing = Some(cause.clone());
            }
            return Err(error);
        }
        let new = Arc::new(new);
        self.current.store(Arc::clone(&new));
        if old.version > 0 {
            remove_version(self.vfs.as_ref(), &self.directory, old.version);
        }
        Ok(new)
    }
}

/// Opens the catalog in one file.
pub(crate) fn read_catalog(vfs: &dyn Vfs, path: &Path, root_key: &RootKey) -> Result<Catalog> {
    let bytes = vfs
        .read(path, CATALOG_BYTES_MAX)
        .map_err(|error| Error::io("read catalog", path, error))?;
    let opened = SealedDocument::open(root_key, DocumentKind::Catalog, &bytes)
        .map_err(|error| Error::sealed(path, "catalog", error))?;
    document::decode(&opened.plaintext, opened.version)
        .map_err(|error| Error::corrupt(path, error.to_string()))
}

/// Opens the newest catalog in a directory that a server may be writing to: a version that goes away
/// meanwhile has a newer one beside it.
pub(crate) fn read_newest(
    vfs: &dyn Vfs,
    directory: &Path,
    root_key: &RootKey,
) -> Result<Option<Catalog>> {
    let mut tried = None;
    loop {
        let Some(newest) = versions(vfs, directory)?.pop() else { return Ok(None) };
        match read_catalog(vfs, &version_path(directory, newest), root_key) {
            Err(Error::Io { .. }) if tried != Some(newest) => tried = Some(newest),
            result => return result.map(Some),
        }
    }
}

fn version_path(directory: &Path, version: u64) -> PathBuf {
    directory.join(format!("{version:016x}.catalog"))
}

fn versions(vfs: &dyn Vfs, directory: &Path) -> Result<Vec<u64>> {
    let names = vfs.list(directory).map_err(|error| Error::io("list catalog", directory, error))?;
    let number = |name: &String| u64::from_str_radix(name.strip_suffix(".catalog")?, 16).ok();
    let mut versions: Vec<u64> = names.iter().filter_map(number).collect();
    versions.sort_unstable();
    Ok(versions)
}

/// An old version that cannot be unlinked now is unlinked at the next start.
fn remove_version(vfs: &dyn Vfs, directory: &Path, version: u64) {
    let path = version_path(directory, version);
    if let Err(error) = vfs.remove(&path) {
        tracing::warn!(file = %path.display(), %error, "an old catalog stays until the next start");
    }
}

#[cfg(test)]
mod tests;
