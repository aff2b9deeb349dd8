//! Merges sorted sources (memtables and segments) into reconciled rows; reads and compaction share it.
//!
//! Two steps: [`Merge`] makes one entry of all entries with the same key and keeps deletions; [`LiveRows`] applies
//! deletions as of a moment. Compaction puts its own second step on [`Merge`] (`compaction/purge.rs`).

use bytes::Bytes;
use coffer_model::reconcile;
use coffer_model::{EntryKind, PartitionTombstones, RowRef, entry_key};

use crate::error::Result;

/// Which way a cursor walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Rising entry keys.
    Forward,
    /// Falling entry keys.
    Reversed,
}

/// A cursor over entries in the order of their keys (falling when it was made with [`Direction::Reversed`]).
///
/// It stands on its first entry when it is made.
pub(crate) trait EntrySource: Send {
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

/// The union of sources; entries of equal key are reconciled into one. Deletions are kept, not applied.
pub(crate) struct Merge<'a> {
    sources: Vec<Box<dyn EntrySource + 'a>>,
    /// Places of the sources that are not at their end, as a binary heap: the one that comes next is first.
    heap: Vec<usize>,
    direction: Direction,
    /// The key of the entry that was taken last.
    key: Vec<u8>,
    versions: Vec<Bytes>,
}

impl<'a> Merge<'a> {
    /// Merges cursors that all walk in `direction`.
    #[must_use]
    pub(crate) fn new(sources: Vec<Box<dyn EntrySource + 'a>>, direction: Direction) -> Self {
        let heap: Vec<usize> =
            (0..sources.len()).filter(|place| sources.get(*place).is_some_and(|s| s.key().is_some())).collect();
        let mut merge = Self { sources, heap, direction, key: Vec::new(), versions: Vec::new() };
        for place in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(place);
        }
        merge
    }

    /// The key of the entry that [`Merge::next_row`] gave last.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The next entry's row, or partition tombstones; `None` at the end.
    ///
    /// # Errors
    /// Those of the sources; `Corrupt` for a row that does not decode.
    pub(crate) fn next_row(&mut self) -> Result<Option<Bytes>> {
        let Some(front) = self.heap.first() else { return Ok(None) };
        self.key.clear();
        self.key.extend_from_slice(self.sources.get(*front).and_then(|source| source.key()).unwrap_or_default());
        let row = self.take_front()?;
        // keys of one source rise strictly, so only another one can have the same
        if self.sources.len() == 1 || self.front() != Some(&self.key) {
            return Ok(Some(row));
        }
        self.versions.clear();
        self.versions.push(row);
        while self.front() == Some(&self.key) {
            let row = self.take_front()?;
            self.versions.push(row);
        }
        merge_versions(&self.key, &self.versions).map(Some)
    }

    /// The key that comes next.
    fn front(&self) -> Option<&[u8]> {
        self.heap.first().and_then(|place| self.key_of(*place))
    }

    fn key_of(&self, place: usize) -> Option<&[u8]> {
        self.sources.get(place).and_then(|source| source.key())
    }

    /// The row at the front; steps past it.
    fn take_front(&mut self) -> Result<Bytes> {
        let Some(source) = self.heap.first().and_then(|place| self.sources.get_mut(*place)) else {
            return Ok(Bytes::new());
        };
        let row = source.row();
        source.advance()?;
        if source.key().is_none() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(row)
    }

    /// Whether the source at one place of the heap comes before the one at another.
    fn is_before(&self, left: usize, right: usize) -> bool {
        let key = |place: usize| self.heap.get(place).and_then(|source| self.key_of(*source));
        match (key(left), key(right)) {
            (Some(left), Some(right)) => match self.direction {
                Direction::Forward => left < right,
                Direction::Reversed => left > right,
            },
            (left, _) => left.is_some(),
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            if left >= self.heap.len() {
                return;
            }
            let child = if right < self.heap.len() && self.is_before(right, left) { right } else { left };
            if !self.is_before(child, place) {
                return;
            }
            self.heap.swap(child, place);
            place = child;
        }
    }
}

impl std::fmt::Debug for Merge<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Merge").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

/// Reconciles what several sources have under one key.
fn merge_versions(key: &[u8], versions: &[Bytes]) -> Result<Bytes> {
    let (_, suffix) = entry_key::split(key)?;
    let kind = EntryKind::from_byte(suffix.first().copied().unwrap_or(u8::MAX))?;
    if kind == EntryKind::Tombstones {
        return Ok(merge_tombstones(versions)?.encode().into());
    }
    merge_row_versions(versions)
}

fn merge_row_versions(versions: &[Bytes]) -> Result<Bytes> {
    let rows = versions.iter().map(|row| RowRef::parse(row)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(reconcile::merge_rows(&rows))
}

/// Joins the partition tombstones found in several sources.
///
/// # Errors
/// `Corrupt` for bytes that do not decode.
pub(crate) fn merge_tombstones(versions: &[Bytes]) -> Result<PartitionTombstones> {
    let mut merged = PartitionTombstones::new();
    for version in versions {
        merged.merge(&PartitionTombstones::decode(version)?);
    }
    Ok(merged)
}

/// What a partition's tombstones leave of a row; `None` when they cover all of it. `suffix` is kind and clustering.
pub(crate) fn shadow(tombstones: &PartitionTombstones, suffix: &[u8], row: Bytes) -> Result<Option<Bytes>> {
    let deletion = match suffix.split_first() {
        Some((&kind, clustering)) if kind == EntryKind::Row.to_byte() => tombstones.covering(clustering),
        // ranges are of rows; the static row goes with its partition only
        _ => tombstones.deletion(),
    };
    match deletion {
        None => Ok(Some(row)),
        Some(deletion) => Ok(reconcile::shadow(&RowRef::parse(&row)?, deletion)),
    }
}

/// The tombstones of the partition a merge is in.
#[derive(Debug, Default)]
pub(crate) struct CurrentPartition {
    /// What the keys of the partition begin with.
    prefix: Bytes,
    tombstones: PartitionTombstones,
}

impl CurrentPartition {
    /// Takes up partition tombstones; forgets them with the next partition.
    pub(crate) fn enter(&mut self, prefix: Bytes, tombstones: PartitionTombstones) {
        self.prefix = prefix;
        self.tombstones = tombstones;
    }

    /// What the tombstones leave of a row of this or another partition.
    #[inline]
    pub(crate) fn shadow(&self, key: &[u8], row: Bytes) -> Result<Option<Bytes>> {
        if self.tombstones.is_empty() {
            return Ok(Some(row));
        }
        let (prefix, suffix) = entry_key::split(key)?;
        if prefix != self.prefix.as_ref() {
            return Ok(Some(row));
        }
        shadow(&self.tombstones, suffix, row)
    }
}

/// The live rows of a merge: deletions of row, range and partition applied, dead cells and rows left out.
///
/// Walking forward it takes up partition tombstones as it meets them. Where the merge does not start at the
/// partition's first entry, or walks backward, the caller gives them through [`LiveRows::with_tombstones`].
#[derive(Debug)]
pub(crate) struct LiveRows<'a> {
    merge: Merge<'a>,
    now_secs: u32,
    partition: CurrentPartition,
}

impl<'a> LiveRows<'a> {
    /// Rows alive at `now_secs` (seconds since the epoch).
    #[must_use]
    pub(crate) fn new(merge: Merge<'a>, now_secs: u32) -> Self {
        Self { merge, now_secs, partition: CurrentPartition::default() }
    }

    /// Gives the tombstones of the partition whose entry keys start with `partition` (token, length, partition key).
    #[must_use]
    pub(crate) fn with_tombstones(mut self, partition: Bytes, tombstones: PartitionTombstones) -> Self {
        self.partition.enter(partition, tombstones);
        self
    }

    /// The whole entry key of the row that [`LiveRows::next_row`] gave last.
    pub(crate) fn key(&self) -> &[u8] {
        self.merge.key()
    }

    /// The next row that is alive (kind static or row); `None` at the end.
    ///
    /// # Errors
    /// As [`Merge::next_row`].
    pub(crate) fn next_row(&mut self) -> Result<Option<Bytes>> {
        while let Some(row) = self.merge.next_row()? {
            let key = self.merge.key();
            let (prefix, suffix) = entry_key::split(key)?;
            if suffix.first() == Some(&EntryKind::Tombstones.to_byte()) {
                // walking backward they come too late and the caller gave them
                if self.merge.direction == Direction::Forward {
                    let prefix = Bytes::copy_from_slice(prefix);
                    self.partition.enter(prefix, PartitionTombstones::decode(&row)?);
                }
                continue;
            }
            let Some(row) = self.partition.shadow(key, row)? else { continue };
            if let Some(row) = reconcile::live(row, self.now_secs)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// Reconciles the versions of one row (the order does not matter) with its partition's tombstones as found in the
/// sources; `None` when nothing of it is alive at `now_secs`.
///
/// `clustering` is `None` for the static row.
///
/// # Errors
/// `Corrupt` for bytes that do not decode.
pub(crate) fn merge_point(
    versions: &[Bytes],
    tombstones: &[Bytes],
    clustering: Option<&[u8]>,
    now_secs: u32,
) -> Result<Option<Bytes>> {
    let row = match versions {
        [] => return Ok(None),
        [one] => one.clone(),
        versions => merge_row_versions(versions)?,
    };
    let row = if tombstones.is_empty() {
        row
    } else {
        let tombstones = merge_tombstones(tombstones)?;
        let deletion = match clustering {
            Some(clustering) => tombstones.covering(clustering),
            None => tombstones.deletion(),
        };
        match deletion {
            None => row,
            Some(deletion) => match reconcile::shadow(&RowRef::parse(&row)?, deletion) {
                None => return Ok(None),
                Some(row) => row,
            },
        }
    };
    Ok(reconcile::live(row, now_secs)?)
}

#[cfg(test)]
mod tests;
