//! Who wins: the rule that merges rows, hides what is deleted, and drops what nobody needs.
//!
//! Merging is commutative, associative and idempotent. As in Cassandra: the higher timestamp wins;
//! at the same timestamp a deletion hides what is written; a tombstone beats a value, an expiring
//! value one that stays, the later expiry the earlier; then the larger value bytes.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::row::Cells;
use crate::{
    CellContent, CellRef, DeletionTime, Error, Liveness, RowBuilder, RowRef, WriteTimestamp,
};

/// Order of two cells in a row: column, complex deletion first, path.
#[inline]
pub(crate) fn order_of_places(left: &CellRef<'_>, right: &CellRef<'_>) -> Ordering {
    let by_column = left.column.cmp(&right.column);
    if by_column.is_ne() || (left.path.is_empty() && right.path.is_empty()) {
        return by_column.then_with(|| is_cell(left).cmp(&is_cell(right)));
    }
    is_cell(left).cmp(&is_cell(right)).then_with(|| left.path.cmp(right.path))
}

#[inline]
fn is_cell(cell: &CellRef<'_>) -> bool {
    !matches!(cell.content, CellContent::ComplexDeletion { .. })
}

/// The winner of two cells of the same place. For complex deletions, the stronger one.
#[inline]
pub(crate) fn reconcile_cells<'a>(left: CellRef<'a>, right: CellRef<'a>) -> CellRef<'a> {
    if compare_strength(&left, &right).is_ge() { left } else { right }
}

#[inline]
fn compare_strength(left: &CellRef<'_>, right: &CellRef<'_>) -> Ordering {
    left.timestamp.cmp(&right.timestamp).then_with(|| compare_ties(left, right))
}

/// Cells of the same timestamp.
fn compare_ties(left: &CellRef<'_>, right: &CellRef<'_>) -> Ordering {
    let (rank, time, ttl, value) = strength(left);
    let (other_rank, other_time, other_ttl, other_value) = strength(right);
    rank.cmp(&other_rank)
        .then(time.cmp(&other_time))
        .then_with(|| value.cmp(other_value))
        .then(ttl.cmp(&other_ttl))
}

/// What decides at equal timestamps: kind, time, time to live, value.
fn strength<'a>(cell: &CellRef<'a>) -> (u8, u32, u32, &'a [u8]) {
    match cell.content {
        CellContent::Live { value, expiry: None } => (0, 0, 0, value),
        CellContent::Live { value, expiry: Some(expiry) } => {
            (1, expiry.expires_at, expiry.ttl, value)
        }
        CellContent::Tombstone { local_deletion_time }
        | CellContent::ComplexDeletion { local_deletion_time } => (2, local_deletion_time, 0, &[]),
    }
}

/// The stronger of two livenesses: later timestamp, then expiring, then later expiry.
fn stronger_liveness(left: Liveness, right: Liveness) -> Liveness {
    let rank = |liveness: &Liveness| {
        (liveness.timestamp, liveness.expiry.map(|expiry| (expiry.expires_at, expiry.ttl)))
    };
    if rank(&left) >= rank(&right) { left } else { right }
}

/// Merges versions of one row. An empty slice gives an empty row.
#[must_use]
pub fn merge_rows(rows: &[RowRef<'_>]) -> Bytes {
    match rows {
        [one] if one.is_plain() => Bytes::copy_from_slice(one.as_bytes()),
        [left, right] => merge_two(rows, Head::new(left), Head::new(right)),
        _ => merge_all(rows, &mut rows.iter().map(Head::new).collect::<Vec<_>>()),
    }
}

/// The cells of one version, the first of them at hand.
struct Head<'a> {
    cell: Option<CellRef<'a>>,
    rest: Cells<'a>,
}

impl<'a> Head<'a> {
    fn new(row: &RowRef<'a>) -> Self {
        let mut rest = row.cells();
        Self { cell: rest.next(), rest }
    }

    #[inline]
    fn advance(&mut self) {
        self.cell = self.rest.next();
    }
}

/// The filter that takes the merged cells of the rows.
fn merged_filter(rows: &[RowRef<'_>]) -> Filter {
    let deletion = rows.iter().filter_map(RowRef::deletion).max();
    let liveness = rows.iter().filter_map(RowRef::liveness).reduce(stronger_liveness);
    let capacity: usize = rows.iter().map(|row| row.as_bytes().len()).sum();
    Filter::new(liveness, deletion, Vec::with_capacity(capacity))
}

fn merge_two<'a>(rows: &[RowRef<'a>], mut left: Head<'a>, mut right: Head<'a>) -> Bytes {
    let mut filter = merged_filter(rows);
    while let (Some(one), Some(other)) = (&left.cell, &right.cell) {
        match order_of_places(one, other) {
            Ordering::Less => {
                filter.push(one);
                left.advance();
            }
            Ordering::Greater => {
                filter.push(other);
                right.advance();
            }
            Ordering::Equal => {
                filter.push(if compare_strength(one, other).is_ge() { one } else { other });
                left.advance();
                right.advance();
            }
        }
    }
    for mut head in [left, right] {
        while let Some(cell) = &head.cell {
            filter.push(cell);
            head.advance();
        }
    }
    filter.row.finish()
}

fn merge_all<'a>(rows: &[RowRef<'a>], heads: &mut [Head<'a>]) -> Bytes {
    let mut filter = merged_filter(rows);
    while let Some(cell) = next_merged(heads) {
        filter.push(&cell);
    }
    filter.row.finish()
}

/// Takes the winner of the smallest place off all heads that stand at it.
fn next_merged<'a>(heads: &mut [Head<'a>]) -> Option<CellRef<'a>> {
    let mut smallest: Option<CellRef<'a>> = None;
    for head in &*heads {
        let Some(cell) = head.cell else { continue };
        smallest = match smallest {
            None => Some(cell),
            Some(best) => match order_of_places(&cell, &best) {
                Ordering::Less => Some(cell),
                Ordering::Equal => Some(reconcile_cells(best, cell)),
                Ordering::Greater => Some(best),
            },
        };
    }
    let winner = smallest?;
    for head in heads {
        if head.cell.is_some_and(|cell| order_of_places(&cell, &winner).is_eq()) {
            head.advance();
        }
    }
    Some(winner)
}

/// Writes a row while leaving out what the row deletion and complex deletions hide.
struct Filter {
    row: RowBuilder,
    deletion: Option<DeletionTime>,
    complex: Option<(crate::ColumnId, DeletionTime)>,
}

impl Filter {
    fn new(liveness: Option<Liveness>, deletion: Option<DeletionTime>, buffer: Vec<u8>) -> Self {
        let hidden = |liveness: &Liveness| is_deleted(deletion, liveness.timestamp);
        let liveness = liveness.filter(|liveness| !hidden(liveness));
        let row = RowBuilder::with_buffer(buffer, liveness, deletion);
        Self { row, deletion, complex: None }
    }

    #[inline]
    fn push(&mut self, cell: &CellRef<'_>) {
        if self.hides(cell) {
            return;
        }
        if let Some(deletion) = cell.as_complex_deletion() {
            self.complex = Some((cell.column, deletion));
        }
        self.row.push(cell);
    }

    #[inline]
    fn hides(&self, cell: &CellRef<'_>) -> bool {
        is_deleted(self.deletion, cell.timestamp)
            || self.complex.is_some_and(|(column, deletion)| {
                column == cell.column && deletion.deletes(cell.timestamp)
            })
    }
}

fn is_deleted(deletion: Option<DeletionTime>, timestamp: WriteTimestamp) -> bool {
    deletion.is_some_and(|deletion| deletion.deletes(timestamp))
}

/// Applies a deletion of a partition or range to a row: everything written at or before it is
/// left out. `None` when nothing remains.
#[must_use]
pub fn shadow(row: &RowRef<'_>, deletion: DeletionTime) -> Option<Bytes> {
    let liveness = row.liveness().filter(|liveness| !deletion.deletes(liveness.timestamp));
    let own = row.deletion().filter(|own| !deletion.deletes(own.marked_at));
    let mut kept = RowBuilder::new(liveness, own);
    for cell in row.cells().filter(|cell| !deletion.deletes(cell.timestamp)) {
        kept.push(&cell);
    }
    (!kept.is_empty()).then(|| kept.finish())
}

/// What a read sees of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// The row as it is.
    Whole,
    /// This, without what is deleted or expired.
    Part(Bytes),
    /// The row is not there.
    Nothing,
}

/// What a read sees of an encoded row at `now_secs`: no tombstones, nothing deleted or expired.
/// Times to live stay. The cells of a row that is seen whole are checked where they are read.
///
/// # Errors
/// [`Error::Malformed`].
pub fn visible(row: &[u8], now_secs: u32) -> Result<Visible, Error> {
    if is_plain(row)? {
        return Ok(Visible::Whole);
    }
    Ok(live_part(&RowRef::parse(row)?, now_secs).map_or(Visible::Nothing, Visible::Part))
}

/// As [`visible`], from and to bytes that are kept. `None` when the row is not there.
///
/// # Errors
/// [`Error::Malformed`].
pub fn live(row: Bytes, now_secs: u32) -> Result<Option<Bytes>, Error> {
    Ok(match visible(&row, now_secs)? {
        Visible::Whole => Some(row),
        Visible::Part(part) => Some(part),
        Visible::Nothing => None,
    })
}

/// Whether an encoded row is there for ever, with nothing in it that expires or deletes. Its cells
/// are not looked at.
///
/// # Errors
/// [`Error::Malformed`].
pub fn is_plain(row: &[u8]) -> Result<bool, Error> {
    let header = RowRef::parse_header(row)?;
    Ok(header.is_plain() && !header.is_empty())
}

/// As [`live`], from a parsed row, and always a copy.
#[must_use]
pub fn live_part(row: &RowRef<'_>, now_secs: u32) -> Option<Bytes> {
    let liveness = row.liveness().filter(|liveness| {
        liveness.expiry.is_none_or(|expiry| !expiry.is_expired(now_secs))
            && !is_deleted(row.deletion(), liveness.timestamp)
    });
    let buffer = Vec::with_capacity(row.as_bytes().len() + 16);
    let mut filter = Filter::new(liveness, None, buffer);
    filter.deletion = row.deletion();
    for cell in row.cells() {
        if let Some(deletion) = cell.as_complex_deletion() {
            filter.complex = Some((cell.column, deletion));
        } else if cell.is_live(now_secs) {
            filter.push(&cell);
        }
    }
    (!filter.row.is_empty()).then(|| filter.row.finish())
}

/// What compaction may drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeLimits {
    /// The time of the compaction, seconds since 1970.
    pub now_secs: u32,
    /// Deletions made before this second are past their grace.
    pub gc_before_secs: u32,
    /// Nothing that stays outside the compaction is older than this, so older deletions hide
    /// nothing there.
    pub max_purgeable_timestamp: WriteTimestamp,
}

impl PurgeLimits {
    fn drops(&self, timestamp: WriteTimestamp, local_deletion_time: u32) -> bool {
        timestamp < self.max_purgeable_timestamp && local_deletion_time < self.gc_before_secs
    }
}

/// What compaction keeps of a row: expired values become tombstones, tombstones past their grace
/// are left out when they hide nothing outside. `None` when nothing remains.
#[must_use]
pub fn purge(row: &RowRef<'_>, limits: &PurgeLimits) -> Option<Bytes> {
    if row.is_plain() {
        return (!row.is_empty()).then(|| Bytes::copy_from_slice(row.as_bytes()));
    }
    let liveness = row.liveness().filter(|liveness| match liveness.expiry {
        Some(expiry) if expiry.is_expired(limits.now_secs) => {
            !limits.drops(liveness.timestamp, expiry.expires_at)
        }
        _ => true,
    });
    let deletion = row
        .deletion()
        .filter(|deletion| !limits.drops(deletion.marked_at, deletion.local_deletion_time));
    let buffer = Vec::with_capacity(row.as_bytes().len() + 16);
    let mut kept = RowBuilder::with_buffer(buffer, liveness, deletion);
    for cell in row.cells() {
        if let Some(cell) = purge_cell(cell, limits) {
            kept.push(&cell);
        }
    }
    (!kept.is_empty()).then(|| kept.finish())
}

fn purge_cell<'a>(mut cell: CellRef<'a>, limits: &PurgeLimits) -> Option<CellRef<'a>> {
    if let CellContent::Live { expiry: Some(expiry), .. } = cell.content
        && expiry.is_expired(limits.now_secs)
    {
        // An expired value was deleted when it was written, as far as grace is concerned.
        let local_deletion_time = expiry.expires_at.saturating_sub(expiry.ttl);
        cell.content = CellContent::Tombstone { local_deletion_time };
    }
    let kept = match cell.content {
        CellContent::Live { .. } => true,
        CellContent::Tombstone { local_deletion_time }
        | CellContent::ComplexDeletion { local_deletion_time } => {
            !limits.drops(cell.timestamp, local_deletion_time)
        }
    };
    kept.then_some(cell)
}

#[cfg(test)]
mod tests;
