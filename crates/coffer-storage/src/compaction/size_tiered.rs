//! Size-tiered choice: segments of like size are merged once there are enough of them.

use std::collections::BTreeMap;

use crate::ids::SegmentId;

/// What the choice looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The segment.
    pub id: SegmentId,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Options of a table's compaction, with Cassandra's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactionOptions {
    /// `min_threshold`: fewest segments merged at once.
    pub min_threshold: usize,
    /// `max_threshold`: most segments merged at once.
    pub max_threshold: usize,
    /// `min_sstable_size`: smaller segments count as of one size, in bytes.
    pub min_segment_bytes: u64,
    /// `bucket_low`: least share of a bucket's average size.
    pub bucket_low: f64,
    /// `bucket_high`: largest share of a bucket's average size.
    pub bucket_high: f64,
    /// `enabled`.
    pub enabled: bool,
}

impl CompactionOptions {
    /// Reads a table's `compaction` map; what is missing or does not parse has its default.
    #[must_use]
    pub fn from_map(options: &BTreeMap<String, String>) -> Self {
        let _ = options;
        todo!()
    }
}

/// The size-tiered strategy.
#[derive(Debug, Clone)]
pub struct SizeTiered {
    /// Its options.
    pub options: CompactionOptions,
}

impl SizeTiered {
    /// The segments to merge now, if any.
    #[must_use]
    pub fn choose(&self, candidates: &[Candidate]) -> Option<Vec<SegmentId>> {
        let _ = candidates;
        todo!()
    }
}
