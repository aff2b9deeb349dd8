//! What a log file or a tail file is, for the `inspect` command. Never shows contents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coffer_crypto::{DataKeySource, RootKey, TableKeyId};
use coffer_model::TableId;

use super::reader::inspect_frames;
use super::record::{FILE_MAGIC, FileHeader, HEADER_LEN};
use super::replay::replay;
use super::tail;
use crate::Lsn;
use crate::error::{Error, Result};
use crate::ids::ClusterId;
use crate::vfs::Vfs;

/// Longest tail file that is read.
const TAIL_BYTES_MAX: u64 = 4 << 30;

/// What a log file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStructure {
    /// The cluster it was born in.
    pub cluster: ClusterId,
    /// Its place in the log.
    pub number: u64,
    /// Length in bytes, as its header has it.
    pub length: u64,
    /// What is in it; `None` without the root key.
    pub frames: Option<LogFrames>,
}

/// What is in a log file, verified with the root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFrames {
    /// Number of the first and the last frame; `None` for an empty file.
    pub range: Option<(Lsn, Lsn)>,
    /// Whether it ends with an end frame.
    pub ended: bool,
    /// Groups of records by table and the table key that wraps their data key.
    pub tables: BTreeMap<(TableId, TableKeyId), u64>,
    /// The newest version of the catalog that a frame knows of; 0 without frames.
    pub catalog_version: u64,
}

/// What a tail file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailStructure {
    /// The table whose log records they are; after a restore not the one it belongs to.
    pub table: TableId,
    /// Groups of records by the table key that wraps their data key.
    pub groups: BTreeMap<TableKeyId, u64>,
    /// When the earliest and the latest of them were committed, milliseconds since 1970.
    pub committed_millis: Option<(i64, i64)>,
}

/// Whether a file that begins with these bytes is a log file.
#[must_use]
pub fn is_log(start: &[u8]) -> bool {
    start.starts_with(&FILE_MAGIC)
}

/// Whether a file that begins with these bytes is a tail file.
#[must_use]
pub fn is_tail(start: &[u8]) -> bool {
    start.starts_with(&tail::MAGIC)
}

/// Reads a log file; with the root key its structure is verified.
///
/// # Errors
/// `Io`, `Tampered`, `WrongKey`.
pub fn inspect_log(vfs: &dyn Vfs, path: &Path, root: Option<&RootKey>) -> Result<LogStructure> {
    let header = read_header(vfs, path)?;
    let frames = match root {
        Some(root) => Some(inspect_frames(vfs, root, &header, PathBuf::from(path))?.0),
        None => None,
    };
    Ok(LogStructure {
        cluster: header.cluster,
        number: header.number,
        length: header.length,
        frames,
    })
}

/// Opens all records of a log file whose table's key is at hand; returns the tables whose key is not.
///
/// # Errors
/// `Io`, `Tampered`, `WrongKey`.
pub fn verify_log(
    vfs: &dyn Vfs,
    path: &Path,
    root: &RootKey,
    keys: &dyn DataKeySource,
) -> Result<BTreeSet<TableId>> {
    let header = read_header(vfs, path)?;
    let (frames, index) = inspect_frames(vfs, root, &header, PathBuf::from(path))?;
    let mut away = BTreeSet::new();
    for table in frames.tables.into_keys().map(|(table, _)| table) {
        for records in index.records(table, Lsn(0)) {
            match replay(vfs, keys, table, &records, &mut |_, _| Ok(())) {
                Err(Error::KeyUnavailable(_)) => drop(away.insert(table)),
                opened => opened?,
            }
        }
    }
    Ok(away)
}

fn read_header(vfs: &dyn Vfs, path: &Path) -> Result<FileHeader> {
    let file = vfs.open(path).map_err(|error| Error::io("open log", path, error))?;
    let mut sector = vec![0; HEADER_LEN];
    let read = file.read_at(0, &mut sector).map_err(|error| Error::io("read log", path, error))?;
    let header = FileHeader::describe(sector.get(..read).unwrap_or_default());
    header.ok_or_else(|| Error::tampered(path, "header"))
}

/// Reads a tail file. Its proof is the SHA-256 in the catalog.
///
/// # Errors
/// `Io`, `CorruptFile`.
pub fn inspect_tail(vfs: &dyn Vfs, path: &Path) -> Result<TailStructure> {
    let bytes =
        vfs.read(path, TAIL_BYTES_MAX).map_err(|error| Error::io("read tail", path, error))?;
    let mut rest = bytes.as_slice();
    let (table, parts) = tail::header(&mut rest).map_err(|what| Error::corrupt(path, what))?;
    tail_structure(table, parts, rest).ok_or_else(|| Error::corrupt(path, "tail file"))
}

fn tail_structure(table: TableId, parts: u32, mut rest: &[u8]) -> Option<TailStructure> {
    let mut structure = TailStructure { table, groups: BTreeMap::new(), committed_millis: None };
    for _ in 0..parts {
        let (_, wrapped, groups) = tail::part(&mut rest)?;
        for _ in 0..groups {
            let millis = tail::group(&mut rest)?.commit_millis;
            let (first, last) = structure.committed_millis.unwrap_or((millis, millis));
            structure.committed_millis = Some((first.min(millis), last.max(millis)));
        }
        *structure.groups.entry(wrapped.table_key_id).or_default() += u64::from(groups);
    }
    rest.is_empty().then_some(structure)
}
