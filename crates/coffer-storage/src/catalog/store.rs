//! The catalog on disk: versions as sealed files, and the one that was published last.
//!
//! Changes are applied at once, in turn, each to the result of the one before, and written in
//! groups: while one version is being written the changes that come meanwhile gather for the next.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use coffer_crypto::{DocumentKind, RootKeys, SealedDocument};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use super::Catalog;
use super::document::{self, Texts};
use crate::error::{Error, Result};
use crate::ids::ClusterId;
use crate::vfs::{self, Vfs};

/// Longest catalog file that is read.
const CATALOG_BYTES_MAX: u64 = 1 << 30;

/// The root keys that the catalog and the log seal with; they change while a server runs.
pub(crate) type SharedRootKeys = Arc<RwLock<RootKeys>>;

/// The catalog on disk and the value that was published last.
pub(crate) struct CatalogStore {
    directory: PathBuf,
    vfs: Arc<dyn Vfs>,
    root_keys: SharedRootKeys,
    current: ArcSwap<Catalog>,
    /// Serialises changes; not held while a version is written.
    changes: Mutex<Changes>,
    /// Noticed when a version was written or given up.
    written: Condvar,
    /// Held by whoever writes a version.
    texts: Mutex<Texts>,
}

/// Changes that are applied and not published.
struct Changes {
    /// The catalog with all of them; the published one when there are none.
    head: Arc<Catalog>,
    /// What becomes of those in `head` that are not being written yet.
    next: Arc<Group>,
    next_is_empty: bool,
    /// What becomes of those being written.
    writing: Option<Arc<Group>>,
    /// Why there can be no changes any more: a version that was given up may be found at the next
    /// start.
    poisoned: Option<String>,
}

/// Changes that share one version.
#[derive(Default)]
struct Group {
    /// The published catalog, or why there is none.
    outcome: OnceLock<std::result::Result<Arc<Catalog>, GivenUp>>,
}

/// Why a version was not written; many callers get it.
struct GivenUp(Error);

impl GivenUp {
    fn error(&self) -> Error {
        match &self.0 {
            Error::Poisoned(cause) => Error::Poisoned(cause.clone()),
            Error::Io { action, file, source } => {
                let source = std::io::Error::new(source.kind(), source.to_string());
                Error::Io { action, file: file.clone(), source }
            }
            other => Error::Internal(other.to_string()),
        }
    }
}

impl CatalogStore {
    /// The newest catalog in the directory; `None` when there is none.
    pub(crate) fn open(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        root_keys: &SharedRootKeys,
    ) -> Result<Option<Self>> {
        let versions = versions(vfs.as_ref(), directory)?;
        let Some((newest, older)) = versions.split_last() else { return Ok(None) };
        let path = version_path(directory, *newest);
        let catalog = read_catalog(vfs.as_ref(), &path, &root_keys.read())?;
        if catalog.version != *newest {
            return Err(Error::tampered(&path, "catalog of another version"));
        }
        // its writer may have died before it did this
        vfs.sync_directory(directory)
            .map_err(|error| Error::io("sync directory", directory, error))?;
        for version in older {
            remove_version(vfs.as_ref(), directory, *version);
        }
        Ok(Some(Self::with(vfs, directory, root_keys, catalog)))
    }

    /// Writes the first catalog of a new data directory.
    pub(crate) fn create(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        root_keys: &SharedRootKeys,
        cluster: ClusterId,
    ) -> Result<Self> {
        let store = Self::with(vfs, directory, root_keys, Catalog::new(cluster));
        store.update(|catalog| Ok(catalog.clone()))?;
        Ok(store)
    }

    fn with(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        root_keys: &SharedRootKeys,
        catalog: Catalog,
    ) -> Self {
        let catalog = Arc::new(catalog);
        Self {
            directory: directory.to_path_buf(),
            vfs: Arc::clone(vfs),
            root_keys: Arc::clone(root_keys),
            current: ArcSwap::new(Arc::clone(&catalog)),
            changes: Mutex::new(Changes {
                head: catalog,
                next: Arc::default(),
                next_is_empty: true,
                writing: None,
                poisoned: None,
            }),
            written: Condvar::new(),
            texts: Mutex::default(),
        }
    }

    /// The catalog as it is now.
    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// The catalog after all changes that have begun.
    pub(crate) fn settled(&self) -> Arc<Catalog> {
        let changes = self.changes.lock();
        if let Some(group) = changes.last_group() {
            // given up: the one before is the one that counts
            drop(self.wait(changes, &group));
        }
        self.current.load_full()
    }

    /// Applies `change` to the catalog and returns when a version with it is written and published,
    /// the old one unlinked. Others' changes may share that version. When the version cannot be
    /// written, none of the changes in it counts; after `Poisoned` it may be found at the next start,
    /// so that files of neither may be removed.
    ///
    /// What `change` sees may not be published yet; also its error is returned only when it is.
    pub(crate) fn update(
        &self,
        change: impl FnOnce(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let mut changes = self.changes.lock();
        if let Some(cause) = &changes.poisoned {
            return Err(Error::Poisoned(cause.clone()));
        }
        match change(&changes.head) {
            Ok(mut new) => {
                let is_first = u64::from(changes.next_is_empty);
                new.version = changes.head.version + is_first;
                new.cluster_id = changes.head.cluster_id;
                changes.head = Arc::new(new);
                changes.next_is_empty = false;
                let group = Arc::clone(&changes.next);
                self.wait(changes, &group)
            }
            Err(error) => {
                if let Some(group) = changes.last_group() {
                    self.wait(changes, &group)?;
                }
                Err(error)
            }
        }
    }

    /// Waits for the outcome of a group; writes versions when nobody else does.
    fn wait(&self, mut changes: MutexGuard<'_, Changes>, group: &Group) -> Result<Arc<Catalog>> {
        loop {
            if let Some(outcome) = group.outcome.get() {
                return outcome.as_ref().map(Arc::clone).map_err(GivenUp::error);
            }
            if changes.writing.is_some() {
                self.written.wait(&mut changes);
                continue;
            }
            let new = Arc::clone(&changes.head);
            let writing = changes.take_group();
            let written = MutexGuard::unlocked(&mut changes, || self.write(&new));
            changes.writing = None;
            match written {
                Ok(()) => {
                    self.current.store(Arc::clone(&new));
                    let _first = writing.outcome.set(Ok(new));
                }
                Err(error) => {
                    if let Error::Poisoned(cause) = &error {
                        changes.poisoned = Some(cause.clone());
                    }
                    // what came meanwhile was made from what is given up
                    changes.head = self.current.load_full();
                    let next = changes.take_next();
                    let again = GivenUp(GivenUp(error).error());
                    let _first = next.outcome.set(Err(GivenUp(again.error())));
                    let _first = writing.outcome.set(Err(again));
                }
            }
            self.written.notify_all();
        }
    }

    #[cfg(test)]
    pub(super) fn unpublished(&self) -> Arc<Catalog> {
        Arc::clone(&self.changes.lock().head)
    }

    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.changes.lock().writing.is_some()
    }

    /// Versions are written when this is dropped.
    #[cfg(test)]
    pub(super) fn hold_writing(&self) -> impl Drop + '_ {
        self.texts.lock()
    }

    /// Writes a version, and unlinks the one before.
    fn write(&self, new: &Catalog) -> Result<()> {
        let path = version_path(&self.directory, new.version);
        let json = document::encode(new, &mut self.texts.lock())
            .map_err(|error| Error::Internal(error.to_string()))?;
        let sealed = SealedDocument::seal(
            self.root_keys.read().current(),
            DocumentKind::Catalog,
            new.version,
            &json,
        )
        .map_err(|error| Error::sealed(&path, "catalog", error))?;
        vfs::publish(&self.vfs, &path, &sealed)?;
        if new.version > 1 {
            remove_version(self.vfs.as_ref(), &self.directory, new.version - 1);
        }
        Ok(())
    }
}

impl Changes {
    /// The group of the last change that is not published.
    fn last_group(&self) -> Option<Arc<Group>> {
        if self.next_is_empty { self.writing.clone() } else { Some(Arc::clone(&self.next)) }
    }

    /// The group that gathered, which is written from here on.
    fn take_group(&mut self) -> Arc<Group> {
        let group = self.take_next();
        self.writing = Some(Arc::clone(&group));
        group
    }

    fn take_next(&mut self) -> Arc<Group> {
        self.next_is_empty = true;
        std::mem::take(&mut self.next)
    }
}

/// Opens the catalog in one file.
pub(crate) fn read_catalog(vfs: &dyn Vfs, path: &Path, root_keys: &RootKeys) -> Result<Catalog> {
    let bytes = vfs
        .read(path, CATALOG_BYTES_MAX)
        .map_err(|error| Error::io("read catalog", path, error))?;
    let opened = SealedDocument::open_with(root_keys, DocumentKind::Catalog, &bytes)
        .map_err(|error| Error::sealed(path, "catalog", error))?;
    document::decode(&opened.plaintext, opened.version)
        .map_err(|error| Error::corrupt(path, error.to_string()))
}

/// Opens the newest catalog in a directory that a server may be writing to: a version that goes away
/// meanwhile has a newer one beside it.
pub(crate) fn read_newest(
    vfs: &dyn Vfs,
    directory: &Path,
    root_keys: &RootKeys,
) -> Result<Option<Catalog>> {
    let mut tried = None;
    loop {
        let Some(newest) = versions(vfs, directory)?.pop() else { return Ok(None) };
        match read_catalog(vfs, &version_path(directory, newest), root_keys) {
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
