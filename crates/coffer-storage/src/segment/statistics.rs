//! What a segment knows of its rows; sealed in the file, used for purging and for skipping look-ups.

/// Counts and bounds over all entries of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStatistics {
    /// Rows, static rows among them.
    pub rows: u64,
    /// Partitions.
    pub partitions: u64,
    /// Static rows.
    pub static_rows: u64,
    /// Entries of partition tombstones (deletions of partitions and ranges).
    pub partition_tombstones: u64,
    /// Tombstones of rows, cells and collections.
    pub tombstones: u64,
    /// Smallest write timestamp in microseconds; `i64::MAX` when there is none.
    pub min_timestamp: i64,
    /// Largest write timestamp; `i64::MIN` when there is none.
    pub max_timestamp: i64,
    /// Smallest time in seconds at which something dies or died: local deletion times and expiries.
    pub min_deletion_secs: u32,
    /// Largest such time; 0 when nothing dies.
    pub max_deletion_secs: u32,
    /// First entry key.
    pub min_key: Vec<u8>,
    /// Last entry key.
    pub max_key: Vec<u8>,
}

impl SegmentStatistics {
    /// Whether reads must look up partition tombstones here.
    #[must_use]
    pub fn has_partition_tombstones(&self) -> bool {
        self.partition_tombstones > 0
    }

    /// Whether reads must look up static rows here.
    #[must_use]
    pub fn has_static_rows(&self) -> bool {
        self.static_rows > 0
    }
}
