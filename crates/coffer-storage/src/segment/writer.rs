//! Writes a segment in one pass with bounded memory.

use std::path::Path;
use std::sync::Arc;

use coffer_crypto::DataKeySource;
use coffer_model::TableId;

use super::SegmentEntry;
use crate::error::Result;
use crate::ids::ClusterId;
use crate::vfs::Vfs;

/// How a table's segments are written.
#[derive(Debug, Clone)]
pub struct SegmentOptions {
    /// Birth identity: the cluster.
    pub cluster: ClusterId,
    /// Birth identity: the table.
    pub table: TableId,
    /// Target size of a block before compression, in bytes (4096, 16384 or 65536).
    pub block_bytes: u32,
    /// Whether blocks are compressed with LZ4 where that helps.
    pub compress: bool,
    /// Wanted rate of false positives of the bloom filter, in (0, 1]; 1 writes no filter.
    pub bloom_filter_fp_chance: f64,
}

/// A segment being written. Dropped before [`SegmentWriter::finish`] it leaves nothing.
#[derive(Debug)]
pub struct SegmentWriter {}

impl SegmentWriter {
    /// Starts a segment in `directory` under a fresh data key.
    ///
    /// `partitions_max` is an upper bound of the partitions to come; it sizes the bloom filter, and being wrong
    /// costs false positives or memory only.
    ///
    /// # Errors
    /// `KeyUnavailable`, `Io`.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        options: &SegmentOptions,
        keys: &dyn DataKeySource,
        partitions_max: u64,
    ) -> Result<Self> {
        let _ = (vfs, directory, options, keys, partitions_max);
        todo!()
    }

    /// Adds an entry; keys must rise strictly.
    ///
    /// # Errors
    /// `Io`, `TooLarge`, `Corrupt` for a row that does not decode.
    pub fn add(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let _ = (key, row);
        todo!()
    }

    /// Bytes written to the file so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        todo!()
    }

    /// Writes index, filter, statistics and footer and publishes the file; `None` (and no file) when nothing was
    /// added.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self) -> Result<Option<SegmentEntry>> {
        todo!()
    }
}
