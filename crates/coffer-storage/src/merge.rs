//! Merges sorted sources (memtables and segments) into reconciled rows; reads and compaction share it.

use bytes::Bytes;
use coffer_model::PartitionTombstones;

use crate::error::Result;

/// Which way a cursor walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Rising entry keys.
    Forward,
    /// Falling entry keys.
    Reversed,
}

/// A cursor over entries in the order of their keys (falling when it was made with [`Direction::Reversed`]).
///
/// It stands on its first entry when it is made.
pub trait EntrySource: Send {
    /// The entry key where the cursor stands; `None` past the end.
    fn key(&self) -> Option<&[u8]>;
    /// The row's bytes where the cursor stands (for kind 0x00: encoded partition tombstones); empty past the end.
    fn row(&self) -> Bytes;
    /// Steps to the next entry.
    ///
    /// # Errors
    /// Those of the file read. The cursor is of no use afterwards.
    fn advance(&mut self) -> Result<()>;
}

/// One entry, reconciled over all sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedEntry {
    /// The entry key.
    pub key: Bytes,
    /// The row, or the partition tombstones.
    pub row: Bytes,
}

/// The union of sources; entries of equal key are reconciled into one. Deletions are kept, not applied.
pub struct Merge<'a> {
    sources: Vec<Box<dyn EntrySource + 'a>>,
}

impl<'a> Merge<'a> {
    /// Merges cursors that all walk in `direction`.
    #[must_use]
    pub fn new(sources: Vec<Box<dyn EntrySource + 'a>>, direction: Direction) -> Self {
        let _ = direction;
        Self { sources }
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// Those of the sources; `Corrupt` for a row that does not decode.
    pub fn next_entry(&mut self) -> Result<Option<MergedEntry>> {
        let _ = &self.sources;
        todo!()
    }
}

/// The live rows of a merge: deletions of row, range and partition applied, dead cells and rows left out.
///
/// Walking forward it takes up partition tombstones as it meets them. Where the merge does not start at the
/// partition's first entry, or walks backward, the caller gives them through [`LiveRows::with_tombstones`].
pub struct LiveRows<'a> {
    merge: Merge<'a>,
}

impl<'a> LiveRows<'a> {
    /// Rows alive at `now_secs` (seconds since the epoch).
    #[must_use]
    pub fn new(merge: Merge<'a>, now_secs: u32) -> Self {
        let _ = now_secs;
        Self { merge }
    }

    /// Gives the tombstones of the partition whose entry keys start with `partition` (token, length, partition key).
    #[must_use]
    pub fn with_tombstones(self, partition: Bytes, tombstones: PartitionTombstones) -> Self {
        let _ = (partition, tombstones);
        self
    }

    /// The next row that is alive (kind static or row), with its whole entry key; `None` at the end.
    ///
    /// # Errors
    /// As [`Merge::next_entry`].
    pub fn next_row(&mut self) -> Result<Option<MergedEntry>> {
        let _ = &self.merge;
        todo!()
    }
}

/// Reconciles the versions of one row (newest source first or not, the order does not matter) with its partition's
/// tombstones as found in the sources; `None` when nothing of it is alive at `now_secs`.
///
/// `clustering` is `None` for the static row.
///
/// # Errors
/// `Corrupt` for bytes that do not decode.
pub fn merge_point(
    versions: &[Bytes],
    tombstones: &[Bytes],
    clustering: Option<&[u8]>,
    now_secs: u32,
) -> Result<Option<Bytes>> {
    let _ = (versions, tombstones, clustering, now_secs);
    todo!()
}
