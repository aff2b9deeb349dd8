//! Where each table's records are in the log, and which files nobody needs any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use bytes::Bytes;
use coffer_crypto::{DataKeySource, FileIdentity, Opener, TAG_LEN, TableKeyId, WrappedDataKey};
use coffer_model::TableId;

use super::record::{Directory, FileHeader, FrameHeader, open_group};
use crate::Lsn;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// One group in a file: ciphertext and tag at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupPlace {
    pub(crate) lsn: Lsn,
    /// When the frame was committed, milliseconds since 1970.
    pub(crate) commit_millis: i64,
    pub(crate) block: u64,
    pub(crate) offset: u64,
    /// Bytes of the plaintext.
    pub(crate) length: u32,
    pub(crate) tag: [u8; TAG_LEN],
}

/// One table's records in one file.
#[derive(Debug, Clone)]
pub(crate) struct TableRecords {
    pub(crate) wrapped: WrappedDataKey,
    pub(crate) groups: Vec<GroupPlace>,
}

/// One log file.
#[derive(Debug, Clone)]
pub(crate) struct IndexedFile {
    pub(crate) header: FileHeader,
    pub(crate) path: PathBuf,
    /// Whether nothing is written into it any more.
    pub(crate) closed: bool,
    pub(crate) last: Lsn,
    /// Records by table, apart for each data key: a table that was closed goes on with a fresh one.
    pub(crate) tables: HashMap<TableId, Vec<TableRecords>>,
    /// Data keys that a frame under way will introduce.
    announced: Vec<(TableId, WrappedDataKey)>,
}

/// Records of one table in one file that are still to be replayed.
#[derive(Debug, Clone)]
pub(crate) struct FileRecords {
    pub(crate) path: PathBuf,
    pub(crate) identity: FileIdentity,
    pub(crate) records: TableRecords,
}

/// All files of the log, by number.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    files: BTreeMap<u64, IndexedFile>,
}

impl LogIndex {
    /// Takes up a file that may get frames.
    pub(crate) fn open_file(&mut self, header: &FileHeader, path: PathBuf) {
        let file = IndexedFile {
            header: *header,
            path,
            closed: false,
            last: Lsn(0),
            tables: HashMap::new(),
            announced: Vec::new(),
        };
        self.files.insert(header.number, file);
    }

    pub(crate) fn close_file(&mut self, number: u64) {
        if let Some(file) = self.files.get_mut(&number) {
            file.closed = true;
        }
    }

    /// Notes the data key of a table in a file, before anything is sealed with it. Frames that were
    /// gathered earlier may still be recorded under the key before.
    pub(crate) fn announce_key(&mut self, number: u64, table: TableId, wrapped: &WrappedDataKey) {
        if let Some(file) = self.files.get_mut(&number) {
            file.announced.push((table, wrapped.clone()));
        }
    }

    /// Notes the groups of a frame; `offsets` are their places, in order.
    pub(crate) fn record(
        &mut self,
        header: &FileHeader,
        frame: &FrameHeader,
        directory: &Directory,
        offsets: &[u64],
    ) {
        let Some(file) = self.files.get_mut(&header.number) else { return };
        for (table, wrapped) in &directory.keys {
            file.announced.retain(|(_, announced)| announced != wrapped);
            let records = TableRecords { wrapped: wrapped.clone(), groups: Vec::new() };
            file.tables.entry(*table).or_default().push(records);
        }
        for (group, offset) in directory.groups.iter().zip(offsets) {
            file.last = file.last.max(frame.lsn);
            if let Some(records) =
                file.tables.get_mut(&group.table).and_then(|keyed| keyed.last_mut())
            {
                records.groups.push(GroupPlace {
                    lsn: frame.lsn,
                    commit_millis: frame.commit_millis,
                    block: group.block,
                    offset: *offset,
                    length: group.length,
                    tag: group.tag,
                });
            }
        }
    }

    /// Disk that the files take.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.header.length).sum()
    }

    /// The table's records after `after`, in the order they were written.
    pub(crate) fn records(&self, table: TableId, after: Lsn) -> Vec<FileRecords> {
        self.records_between(table, after, Lsn(u64::MAX))
    }

    /// The table's records after `after`, up to and with those of `last`.
    pub(crate) fn records_between(
        &self,
        table: TableId,
        after: Lsn,
        last: Lsn,
    ) -> Vec<FileRecords> {
        self.files.values().flat_map(|file| file_records(file, table, after, last)).collect()
    }

    /// Whether there are records of the table after `after`.
    pub(crate) fn has_records(&self, table: TableId, after: Lsn) -> bool {
        let mut last = self.files.values().filter_map(|file| last_record(file.tables.get(&table)?));
        last.any(|last| last > after)
    }

    /// The files at the front of the log that no table needs: numbers, paths, the last frame in them.
    pub(crate) fn free_prefix(&self, catalog: &Catalog) -> Vec<(u64, PathBuf, Lsn)> {
        self.files
            .values()
            .take_while(|file| file.closed && holders(file, catalog).next().is_none())
            .take_while(|file| archives_behind(file, catalog).next().is_none())
            .map(|file| (file.header.number, file.path.clone(), file.last))
            .collect()
    }

    pub(crate) fn remove(&mut self, number: u64) {
        self.files.remove(&number);
    }

    /// Number of the oldest file.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.files.keys().next().copied()
    }

    /// The tables that keep the oldest file.
    pub(crate) fn oldest_holders(&self, catalog: &Catalog) -> Vec<TableId> {
        self.files.values().next().map(|file| holders(file, catalog).collect()).unwrap_or_default()
    }

    /// When the last frame with records was committed, milliseconds since 1970.
    pub(super) fn last_commit_millis(&self) -> Option<i64> {
        let last = |file: &IndexedFile| {
            let groups = file.tables.values().flatten().filter_map(|keyed| keyed.groups.last());
            groups.max_by_key(|group| group.lsn).map(|group| group.commit_millis)
        };
        self.files.values().rev().find_map(last)
    }

    /// Disk that files take that are not written any more.
    pub(crate) fn closed_bytes(&self) -> u64 {
        let closed = self.files.values().filter(|file| file.closed);
        closed.map(|file| file.header.length).sum()
    }

    /// The tables whose records in files that are not written any more are still to be archived.
    pub(crate) fn archives_behind(&self, catalog: &Catalog) -> BTreeSet<TableId> {
        let closed = self.files.values().take_while(|file| file.closed);
        closed.flat_map(|file| archives_behind(file, catalog)).collect()
    }

    /// The table keys that wrap data keys of the table in the log, but for those whose records are
    /// all at or before `flushed`. The last key of a file may still be sealed with.
    pub(crate) fn table_keys(&self, table: TableId, flushed: Lsn) -> Vec<TableKeyId> {
        let mut needed = Vec::new();
        for file in self.files.values() {
            let keyed = file.tables.get(&table).map(Vec::as_slice).unwrap_or_default();
            let is_live = |records: &TableRecords| {
                records.groups.last().is_some_and(|group| group.lsn > flushed)
            };
            let (last, earlier) =
                keyed.split_last().map_or((None, keyed), |(last, earlier)| (Some(last), earlier));
            let records = earlier.iter().filter(|records| is_live(records));
            let last = last.filter(|last| !file.closed || is_live(last));
            needed.extend(records.chain(last).map(|records| records.wrapped.table_key_id));
            let announced = file.announced.iter().filter(|(of, _)| *of == table);
            needed.extend(announced.map(|(_, wrapped)| wrapped.table_key_id));
        }
        needed
    }

    /// Number of groups by table and table key.
    pub(super) fn group_counts(&self) -> BTreeMap<(TableId, TableKeyId), u64> {
        let mut counts = BTreeMap::new();
        for (table, keyed) in self.files.values().flat_map(|file| &file.tables) {
            for records in keyed {
                let count: &mut u64 =
                    counts.entry((*table, records.wrapped.table_key_id)).or_default();
                *count += records.groups.len() as u64;
            }
        }
        counts
    }

    /// Takes away a frame that turned out to be unfinished.
    pub(super) fn cut(&mut self, number: u64, lsn: Lsn) {
        let Some(file) = self.files.get_mut(&number) else { return };
        let mut last = Lsn(0);
        for records in file.tables.values_mut().flatten() {
            records.groups.retain(|group| group.lsn < lsn);
            last = records.groups.last().map_or(last, |group| last.max(group.lsn));
        }
        file.last = last;
    }
}

fn file_records(
    file: &IndexedFile,
    table: TableId,
    after: Lsn,
    last: Lsn,
) -> impl Iterator<Item = FileRecords> + '_ {
    let keyed = file.tables.get(&table).into_iter().flatten();
    keyed.filter_map(move |records| {
        let from = records.groups.partition_point(|group| group.lsn <= after);
        let to = records.groups.partition_point(|group| group.lsn <= last);
        let groups = records.groups.get(from..to).filter(|groups| !groups.is_empty())?.to_vec();
        Some(FileRecords {
            path: file.path.clone(),
            identity: file.header.table_identity(table),
            records: TableRecords { wrapped: records.wrapped.clone(), groups },
        })
    })
}

/// The tables with records in the file that are not in segments or tail files.
fn holders<'a>(file: &'a IndexedFile, catalog: &'a Catalog) -> impl Iterator<Item = TableId> + 'a {
    file.tables.iter().filter_map(|(table, keyed)| {
        let entry = catalog.tables.get(table)?;
        (last_record(keyed)? > entry.replay_from).then_some(*table)
    })
}

/// The tables, dropped ones too, with records in the file that are to be archived.
fn archives_behind<'a>(
    file: &'a IndexedFile,
    catalog: &'a Catalog,
) -> impl Iterator<Item = TableId> + 'a {
    // there are fewer archives than tables
    catalog.archives.iter().filter_map(|(table, archive)| {
        let last = last_record(file.tables.get(table)?)?;
        (last > archive.archived_to).then_some(*table)
    })
}

fn last_record(keyed: &[TableRecords]) -> Option<Lsn> {
    keyed.iter().filter_map(|records| records.groups.last()).map(|group| group.lsn).max()
}

/// Hands the plaintext of each group to `apply`, in order.
pub(crate) fn replay(
    vfs: &dyn Vfs,
    keys: &dyn DataKeySource,
    table: TableId,
    file: &FileRecords,
    apply: &mut dyn FnMut(Lsn, &Bytes) -> Result<()>,
) -> Result<()> {
    let opener = records_opener(keys, table, file)?;
    let reader = vfs.open(&file.path).map_err(|error| Error::io("open log", &file.path, error))?;
    for group in &file.records.groups {
        let mut sealed = vec![0; group.length as usize + TAG_LEN];
        let read = reader.read_at(group.offset, &mut sealed);
        let read = read.map_err(|error| Error::io("read log", &file.path, error))?;
        let whole = read == sealed.len() && sealed.ends_with(&group.tag);
        if !whole || open_group(&opener, group.lsn, group.block, &mut sealed).is_err() {
            return Err(Error::tampered(&file.path, format!("frame {}", group.lsn.0)));
        }
        sealed.truncate(group.length as usize);
        apply(group.lsn, &Bytes::from(sealed))?;
    }
    Ok(())
}

fn records_opener(keys: &dyn DataKeySource, table: TableId, file: &FileRecords) -> Result<Opener> {
    keys.unwrap_data_key(table.as_bytes(), &file.records.wrapped, &file.identity)
        .and_then(|key| Opener::new(&key, &file.identity))
        .map_err(|error| Error::sealed(&file.path, "wrapped data key", error))
}
