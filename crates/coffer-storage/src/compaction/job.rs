//! One compaction: merges segments into one, purges what nothing needs any more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coffer_crypto::DataKeySource;

use crate::error::Result;
use crate::segment::{Segment, SegmentEntry, SegmentOptions};
use crate::vfs::Vfs;

/// What may be purged.
#[derive(Debug, Clone)]
pub struct PurgeLimits {
    /// Now, in seconds since the epoch: what expired before becomes a tombstone.
    pub now_secs: u32,
    /// Tombstones older than this go (now less `gc_grace_seconds`).
    pub gc_before_secs: u32,
    /// The table's other live segments: a tombstone stays while one of them may hold something it shadows.
    pub others: Vec<Arc<Segment>>,
    /// Smallest write timestamp in the table's memtables, active and frozen, taken before the job starts;
    /// `i64::MAX` when they are empty.
    pub memtable_min_timestamp: i64,
}

/// A compaction to run.
#[derive(Debug)]
pub struct CompactionJob {
    /// The segments to merge.
    pub inputs: Vec<Arc<Segment>>,
    /// How the output is written.
    pub options: SegmentOptions,
    /// What may be purged.
    pub limits: PurgeLimits,
}

impl CompactionJob {
    /// Merges the inputs into one published segment, in bounded memory; `None` when nothing is left of them.
    /// The inputs stay as they are: the caller swaps the catalog's entries and unlinks them.
    ///
    /// # Errors
    /// `Cancelled` when `cancelled` became true; those of reading and writing. Nothing is published then.
    pub fn run(
        &self,
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        keys: &dyn DataKeySource,
        cancelled: &AtomicBool,
    ) -> Result<Option<SegmentEntry>> {
        let _ = (vfs, directory, keys, cancelled);
        todo!()
    }
}
