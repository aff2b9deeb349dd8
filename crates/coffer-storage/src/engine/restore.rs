//! Attaching kept files to a new table: nothing in them is rewritten.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::{KeyRecord, TableKeyId};
use coffer_model::{TableId, TableSchema, UserType};

use super::Engine;
use super::erase::listed_files;
use super::snapshot::{KeptFiles, no_such_snapshot};
use crate::catalog::{Catalog, SnapshotRecord, TailRecord};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::SnapshotId;
use crate::segment::SegmentEntry;
use crate::vfs;

/// What a restore attaches: files, and what is needed to make a table of them.
#[derive(Debug)]
pub struct RestoreSource {
    /// The table that the files belong to now: its key record opens them.
    pub table: TableId,
    /// The table as it was.
    pub schema: Arc<TableSchema>,
    /// The user types that it needs.
    pub types: BTreeMap<String, Arc<UserType>>,
    /// The key record.
    pub key: Arc<KeyRecord>,
    /// Every write that was committed by then is in it: server's clock of writes, milliseconds since
    /// 1970.
    pub as_of_millis: i64,
    /// Segments and where they are.
    pub segments: Vec<(PathBuf, SegmentEntry)>,
    /// Tail files and where they are, in the order of the log.
    pub tails: Vec<(PathBuf, TailRecord)>,
    pub(crate) files: SourceFiles,
}

/// Who sees to it that the files of a source stay.
#[derive(Debug)]
pub(crate) enum SourceFiles {
    /// Whoever made the source: they are of no table of this server.
    Foreign,
    /// The catalog, until they are erased.
    Listed,
    /// The source itself: they go with it.
    Held { _files: HeldFiles },
}

impl RestoreSource {
    /// Files that no snapshot of this server holds. They must stay where they are until they are
    /// attached; `table` is the one whose key record `key` is.
    #[must_use]
    pub fn of_files(
        table: TableId,
        schema: Arc<TableSchema>,
        types: BTreeMap<String, Arc<UserType>>,
        key: Arc<KeyRecord>,
        as_of_millis: i64,
        segments: Vec<(PathBuf, SegmentEntry)>,
        tails: Vec<(PathBuf, TailRecord)>,
    ) -> Self {
        let files = SourceFiles::Foreign;
        Self { table, schema, types, key, as_of_millis, segments, tails, files }
    }

    /// The table keys that wrap the data keys of its files.
    #[must_use]
    pub fn table_keys(&self) -> HashSet<TableKeyId> {
        let segments = self.segments.iter().map(|(_, segment)| segment.table_key);
        let tails = self.tails.iter().flat_map(|(_, tail)| tail.table_keys.iter().copied());
        segments.chain(tails).collect()
    }

    /// Length of all its files, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|(_, segment)| segment.length);
        segments.chain(self.tails.iter().map(|(_, tail)| tail.length)).sum()
    }

    pub(crate) fn of_snapshot(
        data_directory: &Path,
        snapshot: &SnapshotRecord,
        key: Arc<KeyRecord>,
    ) -> Self {
        let directory = snapshot.directory(data_directory);
        Self {
            table: snapshot.schema.id,
            schema: Arc::clone(&snapshot.schema),
            types: snapshot.types.clone(),
            key,
            as_of_millis: snapshot.as_of_millis,
            segments: with_paths(&snapshot.segments, |segment| segment.path(&directory)),
            tails: with_paths(&snapshot.tails, |tail| tail.path(&directory)),
            files: SourceFiles::Listed,
        }
    }
}

fn with_paths<T: Clone>(files: &[T], path: impl Fn(&T) -> PathBuf) -> Vec<(PathBuf, T)> {
    files.iter().map(|file| (path(file), file.clone())).collect()
}

/// Files of a live table under second names that the catalog does not know; they go with this.
pub(crate) struct HeldFiles {
    core: Arc<Core>,
    kept: KeptFiles,
}

impl fmt::Debug for HeldFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HeldFiles").field(&self.kept.directory).finish()
    }
}

impl Drop for HeldFiles {
    fn drop(&mut self) {
        self.core.remove_kept(&self.kept.directory);
    }
}

impl Catalog {
    /// The key record of a table, live or dropped.
    #[must_use]
    pub fn key_record(&self, table: TableId) -> Option<&Arc<KeyRecord>> {
        let live = self.tables.get(&table).map(|entry| &entry.key);
        live.or_else(|| self.dropped.get(&table).map(|dropped| &dropped.key))
    }
}

impl Engine {
    /// The files of a snapshot. When it is erased before they are attached, attaching fails.
    ///
    /// # Errors
    /// `Refused` when there is no such snapshot.
    pub fn snapshot_source(&self, id: SnapshotId) -> Result<RestoreSource> {
        let catalog = self.core.catalog.settled();
        let snapshot = catalog.snapshots.get(&id).ok_or_else(|| no_such_snapshot(id))?;
        let key = catalog
            .key_record(snapshot.schema.id)
            .ok_or_else(|| Error::Internal(format!("snapshot {id} has no key record")))?;
        Ok(RestoreSource::of_snapshot(&self.core.directory, snapshot, Arc::clone(key)))
    }

    /// The files of a live table as they are now: what a snapshot would hold.
    ///
    /// # Errors
    /// As [`Engine::take_snapshot`].
    pub fn live_source(&self, table: TableId) -> Result<RestoreSource> {
        let kept = self.core.keep_files(table)?;
        let catalog = self.core.catalog.settled();
        let Some(entry) = catalog.tables.get(&table) else {
            self.core.remove_kept(&kept.directory);
            return Err(Error::NoSuchTable(table));
        };
        Ok(RestoreSource {
            table,
            schema: Arc::clone(&entry.schema),
            types: catalog.types_of(&entry.schema),
            key: Arc::clone(&entry.key),
            as_of_millis: kept.as_of_millis,
            segments: with_paths(&kept.segments, |segment| segment.path(&kept.directory)),
            tails: with_paths(&kept.tails, |tail| tail.path(&kept.directory)),
            files: SourceFiles::Held { _files: HeldFiles { core: Arc::clone(&self.core), kept } },
        })
    }

    /// Gives a new table the files of `source`: links them into its directory, and publishes `change`,
    /// which puts the table with its schema and its key record into the catalog, together with them in
    /// one version. The key record must hold the table keys of the source. Blocking.
    ///
    /// # Errors
    /// What `change` returns; `Refused` when the table is there already, when its key record does not
    /// open the files, or when the source was erased meanwhile; `Io`. Then there is no table.
    pub fn attach_table(
        &self,
        source: &RestoreSource,
        table: TableId,
        change: &mut dyn FnMut(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let core = &self.core;
        let lifecycle = core.lifecycle(table);
        let _lifecycle = lifecycle.lock();
        if core.catalog.settled().tables.contains_key(&table) {
            return Err(Error::Refused(format!("table {table} is there already")));
        }
        let directory = core.table_directory(table);
        let linked = core.link_source(source, &directory).map_err(|error| {
            // erased files leave the catalog first
            core.check_source(&core.catalog.settled(), source).err().unwrap_or(error)
        });
        let published = linked.and_then(|()| {
            let own = &mut |old: &Catalog, new: &mut Catalog| {
                core.check_source(old, source)?;
                let entry = new.tables.get_mut(&table).ok_or(Error::NoSuchTable(table))?;
                let entry = Arc::make_mut(entry);
                if !source.table_keys().iter().all(|key| entry.key.holds(*key)) {
                    let refused = "the new table's key record does not open the files";
                    return Err(Error::Refused(refused.into()));
                }
                entry.segments = source.segments.iter().map(|(_, file)| file.clone()).collect();
                entry.tails = source.tails.iter().map(|(_, file)| file.clone()).collect();
                Ok(())
            };
            core.publish(change, own, &[])
        });
        if !matches!(published, Ok(_) | Err(Error::Poisoned(_))) {
            core.remove_kept(&directory);
        }
        published.map(|(catalog, _)| catalog)
    }
}

impl Core {
    /// Whether a source of this server is still there: what an erase has destroyed, and certified, must
    /// not come back in a table that is made at the same time.
    pub(super) fn check_source(&self, catalog: &Catalog, source: &RestoreSource) -> Result<()> {
        if matches!(source.files, SourceFiles::Foreign) {
            return Ok(());
        }
        let key = catalog.key_record(source.table);
        let has_keys =
            key.is_some_and(|key| source.table_keys().iter().all(|needed| key.holds(*needed)));
        let is_there = has_keys
            && match source.files {
                SourceFiles::Listed => {
                    let listed = listed_files(&self.directory, catalog, source.table);
                    let listed: HashSet<PathBuf> =
                        listed.into_iter().map(|(path, _, _)| path).collect();
                    let segments = source.segments.iter().map(|(path, _)| path);
                    segments
                        .chain(source.tails.iter().map(|(path, _)| path))
                        .all(|path| listed.contains(path))
                }
                SourceFiles::Foreign | SourceFiles::Held { .. } => true,
            };
        if is_there {
            return Ok(());
        }
        let of = format!("{}.{}", source.schema.keyspace, source.schema.name);
        Err(Error::Refused(format!(
            "what was to be restored of table {of} was erased meanwhile: system_coffer.snapshots \
             lists what there is"
        )))
    }

    fn link_source(&self, source: &RestoreSource, directory: &Path) -> Result<()> {
        self.remove_kept(directory);
        self.vfs
            .create_directory(directory)
            .map_err(|error| Error::io("create table directory", directory, error))?;
        for (path, segment) in &source.segments {
            vfs::link_or_copy(&self.vfs, path, &segment.path(directory))?;
        }
        for (path, tail) in &source.tails {
            vfs::link_or_copy(&self.vfs, path, &tail.path(directory))?;
        }
        self.sync_kept(directory)
    }
}
