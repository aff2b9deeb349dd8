//! What a read asks for and what it gets: [`PartitionRead`], [`ScanRange`] and their cursors.

use bytes::Bytes;
use coffer_model::Token;

use crate::error::Result;

/// A read of one partition.
#[derive(Debug, Clone, Copy)]
pub struct PartitionRead<'a> {
    /// The partition key bytes.
    pub partition_key: &'a [u8],
    /// Its token.
    pub token: Token,
    /// Clustering ranges as ordered bytes, start inclusive and end exclusive, ascending and
    /// disjoint. An empty end has no bound. To read all rows pass one pair of empty bounds; to read
    /// only the static row pass no pair.
    pub slices: &'a [(Vec<u8>, Vec<u8>)],
    /// Rows come in descending order of clustering bytes.
    pub reversed: bool,
    /// Whether the static row is read too.
    pub statics: bool,
}

/// One live row of a partition.
#[derive(Debug, Clone)]
pub struct RowEntry {
    /// The clustering ordered bytes.
    pub clustering: Bytes,
    /// The encoded row; dead and expired cells are gone.
    pub row: Bytes,
}

/// The rows of one partition.
pub struct PartitionCursor {}

impl PartitionCursor {
    /// The live static row, when it was asked for and there is one.
    #[must_use]
    pub fn static_row(&self) -> Option<&Bytes> {
        todo!()
    }

    /// The next live row; `None` at the end.
    ///
    /// # Errors
    /// `Tampered` or `Io`; the cursor is then at its end.
    pub fn next_row(&mut self) -> Result<Option<RowEntry>> {
        todo!()
    }
}

impl Iterator for PartitionCursor {
    type Item = Result<RowEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// Where a scan starts within a partition it has seen part of.
#[derive(Debug, Clone, Copy)]
pub struct ScanPosition<'a> {
    /// Partition key bytes of the last row seen.
    pub partition_key: &'a [u8],
    /// Its token.
    pub token: Token,
    /// Clustering bytes of the last row seen; `None` skips the whole partition.
    pub clustering: Option<&'a [u8]>,
}

/// Which part of a table a scan covers.
#[derive(Debug, Clone, Copy)]
pub struct ScanRange<'a> {
    /// First token, inclusive.
    pub first: Token,
    /// Last token, inclusive.
    pub last: Token,
    /// Rows at or before this position are skipped.
    pub after: Option<ScanPosition<'a>>,
}

impl ScanRange<'_> {
    /// The whole table.
    #[must_use]
    pub fn all() -> Self {
        Self { first: Token(i64::MIN), last: Token(i64::MAX), after: None }
    }
}

/// What a scan yields. `Partition` comes once before the rows of each partition that has a live row
/// or a live static row (also when the scan resumes inside it).
#[derive(Debug, Clone)]
pub enum ScanItem {
    /// A partition begins.
    Partition {
        /// Its key bytes.
        partition_key: Bytes,
        /// Its token.
        token: Token,
        /// Its live static row.
        static_row: Option<Bytes>,
    },
    /// A live row of the partition that began last.
    Row(RowEntry),
}

/// The live rows of a table in token order.
pub struct ScanCursor {}

impl ScanCursor {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// `Tampered`, `Io`, or `KeyUnavailable` when the key was revoked meanwhile.
    pub fn next_item(&mut self) -> Result<Option<ScanItem>> {
        todo!()
    }

    /// Skips the remaining rows of the partition that began last.
    pub fn skip_partition(&mut self) {
        todo!()
    }
}

/// Sizes and counts of one table.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableStatistics {
    /// Bytes held by active and frozen memtables.
    pub memtable_bytes: u64,
    /// Number of live segments.
    pub segments: u64,
    /// Bytes of live segments on disk.
    pub segment_bytes: u64,
    /// Number of tail files.
    pub tails: u64,
}
