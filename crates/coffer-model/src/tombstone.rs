//! Deletions wider than a row: of a partition and of ranges of its rows.
//!
//! ```text
//! flags u8 (0x01: partition deletion)  [marked_at i64, local_deletion_time u32]
//! count varint
//! range*   start length varint, start, end length varint, end, marked_at i64, local_deletion_time u32
//! ```

use std::collections::BTreeSet;

use crate::varint::{self, read, read_bytes, take_array};
use crate::{Error, WriteTimestamp};

/// A deletion: everything it covers that was written at or before `marked_at` is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeletionTime {
    /// The write timestamp of the deletion.
    pub marked_at: WriteTimestamp,
    /// Second since 1970 in which it was made; what grace periods count from.
    pub local_deletion_time: u32,
}

impl DeletionTime {
    /// Whether something written at `timestamp` is deleted.
    #[must_use]
    pub fn deletes(&self, timestamp: WriteTimestamp) -> bool {
        timestamp <= self.marked_at
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.marked_at.0.to_be_bytes());
        out.extend_from_slice(&self.local_deletion_time.to_be_bytes());
    }

    pub(crate) fn read(input: &mut &[u8]) -> Result<Self, Error> {
        let marked_at = WriteTimestamp(i64::from_be_bytes(take_array(input)?));
        let local_deletion_time = u32::from_be_bytes(take_array(input)?);
        Ok(Self { marked_at, local_deletion_time })
    }
}

/// The deletion of the rows whose clustering ordered bytes lie in `start..end`.
///
/// Bounds are prefixes of clustering ordered bytes: the prefix itself lies before all rows that
/// begin with it, the prefix and 0xFF after all of them. An empty start and an end of `[0xFF]` are
/// the whole partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeTombstone {
    /// First bound, included.
    pub start: Vec<u8>,
    /// Last bound, excluded.
    pub end: Vec<u8>,
    /// When it was deleted.
    pub deletion: DeletionTime,
}

/// All deletions of a partition that are wider than a row.
///
/// Kept canonical: ranges are not empty, sorted, do not overlap, do not touch with the same
/// deletion, and none is covered by the partition deletion. Two values are equal when they delete
/// the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionTombstones {
    deletion: Option<DeletionTime>,
    ranges: Vec<RangeTombstone>,
}

const PARTITION_DELETION: u8 = 0x01;

impl PartitionTombstones {
    /// Nothing is deleted.
    #[must_use]
    pub const fn new() -> Self {
        Self { deletion: None, ranges: Vec::new() }
    }

    /// The whole partition, its static row too, is deleted.
    #[must_use]
    pub const fn of_partition(deletion: DeletionTime) -> Self {
        Self { deletion: Some(deletion), ranges: Vec::new() }
    }

    /// A range of rows is deleted. Nothing, when the range is empty.
    #[must_use]
    pub fn of_range(range: RangeTombstone) -> Self {
        let mut tombstones = Self::new();
        tombstones.insert(range);
        tombstones
    }

    /// The partition deletion.
    #[must_use]
    pub const fn deletion(&self) -> Option<DeletionTime> {
        self.deletion
    }

    /// The range tombstones in order.
    #[must_use]
    pub fn ranges(&self) -> &[RangeTombstone] {
        &self.ranges
    }

    /// Whether nothing is deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deletion.is_none() && self.ranges.is_empty()
    }

    /// The strongest deletion that covers the row with this clustering.
    #[must_use]
    pub fn covering(&self, clustering: &[u8]) -> Option<DeletionTime> {
        let place = self.ranges.partition_point(|range| range.end.as_slice() <= clustering);
        let range = self.ranges.get(place).filter(|range| range.start.as_slice() <= clustering);
        range.map(|range| range.deletion).max(self.deletion)
    }

    /// Adds a range tombstone.
    pub fn insert(&mut self, range: RangeTombstone) {
        if range.start >= range.end || Some(range.deletion) <= self.deletion {
            return;
        }
        // Only the ranges it overlaps or touches can change.
        let first = self.ranges.partition_point(|known| known.end < range.start);
        let behind = self.ranges.partition_point(|known| known.start <= range.end);
        let mut touched: Vec<RangeTombstone> = self.ranges.splice(first..behind, []).collect();
        touched.push(range);
        self.ranges.splice(first..first, canonical(touched));
    }

    /// Adds a deletion of the whole partition.
    pub fn delete_partition(&mut self, deletion: DeletionTime) {
        if Some(deletion) > self.deletion {
            self.deletion = Some(deletion);
            self.ranges.retain(|range| range.deletion > deletion);
        }
    }

    /// Adds all that `other` deletes. Commutative, associative and idempotent.
    pub fn merge(&mut self, other: &Self) {
        self.deletion = self.deletion.max(other.deletion);
        let partition = self.deletion;
        let mut sources = std::mem::take(&mut self.ranges);
        sources.extend_from_slice(&other.ranges);
        sources.retain(|range| Some(range.deletion) > partition);
        self.ranges = canonical(sources);
    }

    /// Drops deletions that compaction need not keep: made before `gc_before_secs`, and nothing
    /// outside the compaction is older than them.
    pub fn purge(&mut self, gc_before_secs: u32, max_purgeable_timestamp: WriteTimestamp) {
        let keep = |deletion: &DeletionTime| {
            deletion.local_deletion_time >= gc_before_secs
                || deletion.marked_at >= max_purgeable_timestamp
        };
        self.deletion = self.deletion.filter(keep);
        self.ranges.retain(|range| keep(&range.deletion));
    }

    /// The encoded form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.ranges.len() * 48);
        match &self.deletion {
            None => out.push(0),
            Some(deletion) => {
                out.push(PARTITION_DELETION);
                deletion.write(&mut out);
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a mutation is smaller than 4 GiB")]
        varint::write(&mut out, self.ranges.len() as u32);
        for range in &self.ranges {
            varint::write_bytes(&mut out, &range.start);
            varint::write_bytes(&mut out, &range.end);
            range.deletion.write(&mut out);
        }
        out
    }

    /// Reads the encoded form.
    ///
    /// # Errors
    /// [`Error::Malformed`], also when the ranges are not disjoint and sorted.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let deletion = match take_array(&mut rest)? {
            [0] => None,
            [PARTITION_DELETION] => Some(DeletionTime::read(&mut rest)?),
            _ => return Err(Error::Malformed("partition tombstones")),
        };
        let count = read(&mut rest)?;
        let mut ranges: Vec<RangeTombstone> = Vec::new();
        for _ in 0..count {
            let start = read_bytes(&mut rest)?.to_vec();
            let end = read_bytes(&mut rest)?.to_vec();
            let deletion = DeletionTime::read(&mut rest)?;
            if start >= end || ranges.last().is_some_and(|last| last.end > start) {
                return Err(Error::Malformed("range tombstones"));
            }
            ranges.push(RangeTombstone { start, end, deletion });
        }
        if !rest.is_empty() {
            return Err(Error::Malformed("partition tombstones"));
        }
        Ok(Self { deletion, ranges })
    }
}

/// Cuts ranges at every bound and keeps the strongest deletion of each piece.
fn canonical(sources: Vec<RangeTombstone>) -> Vec<RangeTombstone> {
    if sources.len() <= 1 {
        return sources;
    }
    // At each bound, what opens and what closes changes the set of open deletions.
    let mut bounds: Vec<(&[u8], bool, usize)> = Vec::with_capacity(sources.len() * 2);
    for (place, range) in sources.iter().enumerate() {
        bounds.push((&range.start, true, place));
        bounds.push((&range.end, false, place));
    }
    bounds.sort_unstable();
    let mut open: BTreeSet<(DeletionTime, usize)> = BTreeSet::new();
    let mut ranges: Vec<RangeTombstone> = Vec::with_capacity(sources.len());
    let mut from: &[u8] = &[];
    for (bound, opens, place) in bounds {
        let Some(source) = sources.get(place) else {
            continue;
        };
        if let Some(&(deletion, _)) = open.last()
            && from < bound
        {
            push_piece(&mut ranges, from, bound, deletion);
        }
        from = bound;
        if opens {
            open.insert((source.deletion, place));
        } else {
            open.remove(&(source.deletion, place));
        }
    }
    ranges
}

/// Adds a piece, as a longer last one when they touch and have the same deletion.
fn push_piece(ranges: &mut Vec<RangeTombstone>, start: &[u8], end: &[u8], deletion: DeletionTime) {
    if let Some(last) = ranges.last_mut()
        && last.deletion == deletion
        && last.end == start
    {
        last.end = end.to_vec();
        return;
    }
    ranges.push(RangeTombstone { start: start.to_vec(), end: end.to_vec(), deletion });
}

#[cfg(test)]
mod tests;
