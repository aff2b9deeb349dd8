//! What a segment knows of its rows; sealed in the file, used for purging and for skipping look-ups.

use coffer_model::{
    CellContent, DeletionTime, EntryKind, Error, PartitionTombstones, RowRef, WriteTimestamp,
};

/// Counts and bounds over all entries of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentStatistics {
    /// Rows, static rows among them.
    pub(crate) rows: u64,
    /// Partitions.
    pub(crate) partitions: u64,
    /// Static rows.
    pub(crate) static_rows: u64,
    /// Entries of partition tombstones (deletions of partitions and ranges).
    pub(crate) partition_tombstones: u64,
    /// Tombstones of rows, cells and collections.
    pub(crate) tombstones: u64,
    /// Smallest write timestamp in microseconds; `i64::MAX` when there is none.
    pub(crate) min_timestamp: i64,
    /// Largest write timestamp; `i64::MIN` when there is none.
    pub(crate) max_timestamp: i64,
    /// Smallest time in seconds at which something dies or died: local deletion times and expiries; `u32::MAX` when
    /// nothing does.
    pub(crate) min_deletion_secs: u32,
    /// Largest such time; 0 when nothing dies.
    pub(crate) max_deletion_secs: u32,
    /// First entry key.
    pub(crate) min_key: Vec<u8>,
    /// Last entry key.
    pub(crate) max_key: Vec<u8>,
}

impl Default for SegmentStatistics {
    fn default() -> Self {
        Self {
            rows: 0,
            partitions: 0,
            static_rows: 0,
            partition_tombstones: 0,
            tombstones: 0,
            min_timestamp: i64::MAX,
            max_timestamp: i64::MIN,
            min_deletion_secs: u32::MAX,
            max_deletion_secs: 0,
            min_key: Vec::new(),
            max_key: Vec::new(),
        }
    }
}

impl SegmentStatistics {
    /// Whether reads must look up partition tombstones here.
    #[must_use]
    pub(crate) fn has_partition_tombstones(&self) -> bool {
        self.partition_tombstones > 0
    }

    /// Whether reads must look up static rows here.
    #[must_use]
    pub(crate) fn has_static_rows(&self) -> bool {
        self.static_rows > 0
    }

    /// Takes up one entry, all but its key.
    pub(super) fn record(&mut self, kind: EntryKind, row: &[u8]) -> Result<(), Error> {
        if kind == EntryKind::Tombstones {
            self.partition_tombstones = self.partition_tombstones.saturating_add(1);
            let tombstones = PartitionTombstones::decode(row)?;
            let ranges = tombstones.ranges().iter().map(|range| range.deletion);
            tombstones
                .deletion()
                .into_iter()
                .chain(ranges)
                .for_each(|deletion| self.record_deletion(deletion));
            return Ok(());
        }
        self.rows = self.rows.saturating_add(1);
        if kind == EntryKind::StaticRow {
            self.static_rows = self.static_rows.saturating_add(1);
        }
        self.record_row(&RowRef::parse(row)?);
        Ok(())
    }

    fn record_row(&mut self, row: &RowRef<'_>) {
        if let Some(liveness) = row.liveness() {
            self.record_timestamp(liveness.timestamp);
            if let Some(expiry) = liveness.expiry {
                self.record_death(expiry.expires_at);
            }
        }
        if let Some(deletion) = row.deletion() {
            self.record_tombstone(deletion);
        }
        for cell in row.cells() {
            self.record_timestamp(cell.timestamp);
            match cell.content {
                CellContent::Live { expiry: None, .. } => {}
                CellContent::Live { expiry: Some(expiry), .. } => {
                    self.record_death(expiry.expires_at)
                }
                CellContent::Tombstone { local_deletion_time }
                | CellContent::ComplexDeletion { local_deletion_time } => {
                    self.record_tombstone(DeletionTime {
                        marked_at: cell.timestamp,
                        local_deletion_time,
                    });
                }
            }
        }
    }

    fn record_tombstone(&mut self, deletion: DeletionTime) {
        self.tombstones = self.tombstones.saturating_add(1);
        self.record_deletion(deletion);
    }

    fn record_deletion(&mut self, deletion: DeletionTime) {
        self.record_timestamp(deletion.marked_at);
        self.record_death(deletion.local_deletion_time);
    }

    fn record_timestamp(&mut self, timestamp: WriteTimestamp) {
        self.min_timestamp = self.min_timestamp.min(timestamp.0);
        self.max_timestamp = self.max_timestamp.max(timestamp.0);
    }

    fn record_death(&mut self, secs: u32) {
        self.min_deletion_secs = self.min_deletion_secs.min(secs);
        self.max_deletion_secs = self.max_deletion_secs.max(secs);
    }
}
