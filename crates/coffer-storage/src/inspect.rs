//! What a file of the data directory is, for the `inspect` command and for verifying files without a key. Never shows contents.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coffer_crypto::{DataKeySource, RootKey, RootKeys, TableKeyId};
use coffer_model::TableId;
use sha2::{Digest as _, Sha256};

use crate::block_cache::BlockCache;
use crate::catalog::TailRecord;
use crate::error::{Error, Result};
use crate::ids::{ClusterId, SegmentId};
use crate::segment::format::{HEADER_LEN, Header, MAGIC};
use crate::segment::{Segment, SegmentEntry};
use crate::vfs::Vfs;

pub use crate::commit_log::inspect::{
    LogFrames, LogStructure, TailStructure, inspect_log, inspect_tail, is_log, is_tail, verify_log,
};

/// Bytes read at once when a file is digested.
const DIGEST_BYTES: usize = 1 << 20;

/// What the header of a segment tells, without any key and so without any proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStructure {
    /// Version of the format it was written in.
    pub format_version: u16,
    /// Birth identity: the cluster.
    pub cluster: ClusterId,
    /// Birth identity: the table.
    pub table: TableId,
    /// Birth identity: the segment.
    pub segment: SegmentId,
    /// The table key that wraps its data key.
    pub table_key: TableKeyId,
    /// Length of the file in bytes.
    pub length: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

impl SegmentStructure {
    /// The catalog's line as the file itself has it.
    #[must_use]
    pub fn to_entry(&self) -> SegmentEntry {
        SegmentEntry {
            id: self.segment,
            cluster: self.cluster,
            table: self.table,
            table_key: self.table_key,
            length: self.length,
            sha256: self.sha256,
            created_at_millis: 0,
        }
    }
}

/// Whether a file that begins with these bytes is a segment.
#[must_use]
pub fn is_segment(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// Reads the header of a segment and digests the file.
///
/// # Errors
/// `Io`; `Tampered` when the header is not a segment's.
pub fn inspect_segment(vfs: &dyn Vfs, path: &Path) -> Result<SegmentStructure> {
    let map = vfs.map(path).map_err(|error| Error::io("map segment", path, error))?;
    let header = map.copy(0, HEADER_LEN).unwrap_or_default();
    let Header { identity, wrapped } =
        Header::decode(&header).map_err(|what| Error::tampered(path, what))?;
    let (length, sha256) = digest(vfs, path)?;
    Ok(SegmentStructure {
        format_version: identity.format_version,
        cluster: ClusterId(identity.cluster_id),
        table: TableId(identity.table_id),
        segment: SegmentId(identity.file_id),
        table_key: wrapped.table_key_id,
        length,
        sha256,
    })
}

/// Opens every unit of a segment that belongs to `table` now; returns how many there are.
///
/// # Errors
/// `KeyUnavailable`, `WrongKey`, `Tampered`, `CorruptFile`, `Io`.
pub fn verify_segment(
    vfs: &dyn Vfs,
    path: &Path,
    table: TableId,
    entry: &SegmentEntry,
    keys: &dyn DataKeySource,
) -> Result<u64> {
    let cache = Arc::new(BlockCache::new(0));
    Segment::open_file(vfs, path, table, entry, keys, &cache)?.verify()
}

/// Compares a segment's file with the catalog's line by length and SHA-256, which needs no key.
///
/// # Errors
/// `Tampered` when they differ; `Io`.
pub fn compare_with_catalog(vfs: &dyn Vfs, path: &Path, entry: &SegmentEntry) -> Result<()> {
    let (length, sha256) = digest(vfs, path)?;
    if length != entry.length {
        return Err(Error::tampered(
            path,
            format!("length is {length}, expected {}", entry.length),
        ));
    }
    if sha256 != entry.sha256 {
        return Err(Error::tampered(path, "digest is not the catalog's"));
    }
    Ok(())
}

/// What a version of the catalog holds, by number and id alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogStructure {
    /// Its version.
    pub version: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// Number of keyspaces.
    pub keyspaces: usize,
    /// Its tables.
    pub tables: BTreeMap<TableId, TableStructure>,
}

/// What the catalog holds of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStructure {
    /// The current table key.
    pub table_key: TableKeyId,
    /// Number of older table keys in the key record.
    pub older_keys: usize,
    /// Number of live segments.
    pub segments: usize,
    /// Number of tail files.
    pub tails: usize,
}

/// Compares a tail file with the catalog's line by length and SHA-256, which needs no table key.
///
/// # Errors
/// `Tampered` when they differ; `Io`.
pub fn compare_tail_with_catalog(vfs: &dyn Vfs, path: &Path, tail: &TailRecord) -> Result<()> {
    if digest(vfs, path)? == (tail.length, tail.sha256) {
        Ok(())
    } else {
        Err(Error::tampered(path, "length or digest is not the catalog's"))
    }
}

/// Opens every record of a tail file that belongs to `table` now.
///
/// # Errors
/// `KeyUnavailable`, `WrongKey`, `Tampered`, `CorruptFile`, `Io`.
pub fn verify_tail(
    vfs: &dyn Vfs,
    directory: &Path,
    table: TableId,
    tail: &TailRecord,
    keys: &dyn DataKeySource,
) -> Result<()> {
    crate::commit_log::read_tail(vfs, keys, directory, table, tail, &mut |_, _| Ok(()))
}

/// Checks that no file of the log is missing or cut, and that the catalog is not older than the log
/// says. A server that writes meanwhile may make a whole log look cut: then ask again.
///
/// # Errors
/// `Tampered`, `WrongKey`, `Io`.
pub fn verify_log_directory(
    vfs: &dyn Vfs,
    data_directory: &Path,
    roots: &RootKeys,
    catalog: &crate::Catalog,
) -> Result<()> {
    let directory = data_directory.join("log");
    let scan = crate::commit_log::check(vfs, &directory, roots, catalog.cluster_id, &catalog.log)?;
    if scan.catalog_version > catalog.version {
        let directory = data_directory.join("catalog");
        return Err(Error::tampered(
            directory,
            "an older version was put in the place of a newer one",
        ));
    }
    Ok(())
}

/// The newest catalog of a data directory, without its lock: a server that runs may have replaced it by
/// the time this returns. `None` when there is none.
///
/// # Errors
/// `Io`, `WrongKey`, `Tampered`, `CorruptFile`.
pub fn newest_catalog(
    vfs: &dyn Vfs,
    data_directory: &Path,
    roots: impl Into<RootKeys>,
) -> Result<Option<crate::Catalog>> {
    crate::catalog::read_newest(vfs, &data_directory.join("catalog"), &roots.into())
}

/// Verifies and opens a version of the catalog.
///
/// # Errors
/// `Io`, `Tampered`, `WrongKey`, `CorruptFile`.
pub fn inspect_catalog(vfs: &dyn Vfs, path: &Path, root: &RootKey) -> Result<CatalogStructure> {
    let catalog = crate::catalog::read_catalog(vfs, path, &root.duplicate().into())?;
    let tables = catalog.tables.iter().map(|(id, entry)| {
        let structure = TableStructure {
            table_key: entry.key.table_key_id,
            older_keys: entry.key.older.len(),
            segments: entry.segments.len(),
            tails: entry.tails.len(),
        };
        (*id, structure)
    });
    Ok(CatalogStructure {
        version: catalog.version,
        cluster: catalog.cluster_id,
        keyspaces: catalog.keyspaces.len(),
        tables: tables.collect(),
    })
}

/// Length and SHA-256 of a file.
///
/// # Errors
/// `Io`.
pub fn digest(vfs: &dyn Vfs, path: &Path) -> Result<(u64, [u8; 32])> {
    let file = vfs.open(path).map_err(|error| Error::io("open file", path, error))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; DIGEST_BYTES];
    let mut length = 0_u64;
    loop {
        let read = file
            .read_at(length, &mut buffer)
            .map_err(|error| Error::io("read file", path, error))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        digest.update(bytes);
        length = length.saturating_add(read as u64);
    }
    Ok((length, digest.finalize().into()))
}
