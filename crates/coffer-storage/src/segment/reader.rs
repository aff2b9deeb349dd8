//! Reads a segment: bloom filter, index, blocks.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coffer_crypto::DataKeySource;
use coffer_model::Token;

use super::SegmentStatistics;
use crate::block_cache::BlockCache;
use super::SegmentEntry;
use crate::error::Result;
use crate::merge::{Direction, EntrySource};
use crate::vfs::Vfs;

/// An open segment. Its blocks leave the cache when it is dropped.
#[derive(Debug)]
pub struct Segment {}

impl Segment {
    /// Opens the segment that the catalog describes: checks length and identity, unwraps its data key, loads
    /// statistics, filter and top index.
    ///
    /// # Errors
    /// `Io`, `KeyUnavailable`, `WrongKey`, `Tampered`, `Corrupt`.
    pub fn open(
        vfs: &dyn Vfs,
        directory: &Path,
        entry: &SegmentEntry,
        keys: &dyn DataKeySource,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Self>> {
        let _ = (vfs, directory, entry, keys, cache);
        todo!()
    }

    /// The catalog's line.
    #[must_use]
    pub fn entry(&self) -> &SegmentEntry {
        todo!()
    }

    /// Counts and bounds.
    #[must_use]
    pub fn statistics(&self) -> &SegmentStatistics {
        todo!()
    }

    /// Bytes this open segment keeps in memory outside the block cache.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        todo!()
    }

    /// False only when no partition with this token is in the segment.
    #[must_use]
    pub fn may_contain(&self, token: Token) -> bool {
        let _ = token;
        todo!()
    }

    /// The row under exactly this entry key.
    ///
    /// # Errors
    /// `Tampered`, `Corrupt`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let _ = key;
        todo!()
    }

    /// A cursor over the entries with `start <= key < end`; `end` `None` for all that follow.
    ///
    /// Compaction and whole-table scans pass [`Caching::Bypass`] so that they do not drive out what point reads use.
    ///
    /// # Errors
    /// `Tampered`, `Corrupt`.
    pub fn range(
        self: &Arc<Self>,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
        caching: Caching,
    ) -> Result<SegmentCursor> {
        let _ = (start, end, direction, caching);
        todo!()
    }

    /// Opens every block, so that any changed byte is found.
    ///
    /// # Errors
    /// `Tampered`, `Corrupt`.
    pub fn verify(&self) -> Result<()> {
        todo!()
    }
}

/// Whether blocks that a cursor reads enter the block cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Blocks enter the cache.
    Fill,
    /// Blocks are taken from the cache where they are there, and do not enter it: for compaction and long scans.
    Bypass,
}

/// A cursor over a range of a segment.
#[derive(Debug)]
pub struct SegmentCursor {}

impl EntrySource for SegmentCursor {
    fn key(&self) -> Option<&[u8]> {
        todo!()
    }

    fn row(&self) -> Bytes {
        todo!()
    }

    fn advance(&mut self) -> Result<()> {
        todo!()
    }
}
