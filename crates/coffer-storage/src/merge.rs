//! Merges sorted sources (memtables and segments) into reconciled rows; reads and compaction share it.
//!
//! Two steps: [`Merge`] makes one entry of all entries with the same key and keeps deletions; [`LiveRows`] applies
//! deletions as of a moment. Compaction puts its own second step on [`Merge`] (`compaction/purge.rs`).

use bytes::Bytes;
use coffer_model::reconcile::{self, Visible};
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
    fn row(&self) -> &[u8];
    /// As [`EntrySource::row`], to keep beyond the next step: it shares the source's memory.
    fn shared_row(&self) -> Bytes;
    /// Steps to the next entry.
    ///
    /// # Errors
    /// Those of the file read. The cursor is of no use afterwards.
    fn advance(&mut self) -> Result<()>;
}

/// The union of sources; entries of equal key are reconciled into one. Deletions are kept, not applied.
///
/// It lends the entry it stands on: what only one source has is read where it lies.
pub(crate) struct Merge<'a> {
    sources: Vec<Box<dyn EntrySource + 'a>>,
    /// Places of the sources that are not at their end, as a binary heap: the one that comes next is first.
    heap: Vec<usize>,
    direction: Direction,
    /// Whether the merge stands on the front source's entry. Else it stands on `key` and `merged`, which all their
    /// sources are past.
    is_on_front: bool,
    key: Vec<u8>,
    merged: Bytes,
    versions: Vec<Bytes>,
}

impl<'a> Merge<'a> {
    /// Merges cursors that all walk in `direction`. Stands before the first entry.
    #[must_use]
    pub(crate) fn new(sources: Vec<Box<dyn EntrySource + 'a>>, direction: Direction) -> Self {
        let heap: Vec<usize> = (0..sources.len())
            .filter(|place| sources.get(*place).is_some_and(|s| s.key().is_some()))
            .collect();
        let mut merge = Self {
            sources,
            heap,
            direction,
            is_on_front: false,
            key: Vec::new(),
            merged: Bytes::new(),
            versions: Vec::new(),
        };
        for place in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(place);
        }
        merge
    }

    /// The key of the entry that [`Merge::advance`] went to.
    pub(crate) fn key(&self) -> &[u8] {
        if self.is_on_front { self.front().unwrap_or_default() } else { &self.key }
    }

    /// Its row, or partition tombstones.
    pub(crate) fn row(&self) -> &[u8] {
        if self.is_on_front {
            self.front_source().map_or(&[], |source| source.row())
        } else {
            &self.merged
        }
    }

    /// As [`Merge::row`], to keep.
    pub(crate) fn shared_row(&self) -> Bytes {
        match self.front_source() {
            Some(source) if self.is_on_front => source.shared_row(),
            _ => self.merged.clone(),
        }
    }

    /// Goes to the next entry; false at the end.
    ///
    /// # Errors
    /// Those of the sources; `Corrupt` for a row that does not decode.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        if self.is_on_front {
            self.is_on_front = false;
            self.step_front()?;
        }
        if self.heap.is_empty() {
            self.key.clear();
            self.merged.clear();
            return Ok(false);
        }
        if !self.is_front_shared() {
            self.is_on_front = true;
            return Ok(true);
        }
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        key.extend_from_slice(self.front().unwrap_or_default());
        self.key = key;
        self.versions.clear();
        while self.front() == Some(&self.key) {
            let row = self.front_source().map(|source| source.shared_row()).unwrap_or_default();
            self.versions.push(row);
            self.step_front()?;
        }
        self.merged = merge_versions(&self.key, &self.versions)?;
        Ok(true)
    }

    /// Whether another source has the front's key. Keys of one source rise strictly, so it is a child of the first.
    fn is_front_shared(&self) -> bool {
        self.heap.get(1..).is_some_and(|rest| {
            let front = self.front();
            rest.iter().take(2).any(|place| self.key_of(*place) == front)
        })
    }

    fn front_source(&self) -> Option<&(dyn EntrySource + 'a)> {
        self.heap.first().and_then(|place| self.sources.get(*place)).map(|source| &**source)
    }

    /// The key that comes next.
    fn front(&self) -> Option<&[u8]> {
        self.heap.first().and_then(|place| self.key_of(*place))
    }

    fn key_of(&self, place: usize) -> Option<&[u8]> {
        self.sources.get(place).and_then(|source| source.key())
    }

    /// Steps past the front source's entry.
    fn step_front(&mut self) -> Result<()> {
        let Some(source) = self.heap.first().and_then(|place| self.sources.get_mut(*place)) else {
            return Ok(());
        };
        source.advance()?;
        if source.key().is_none() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
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
            let child =
                if right < self.heap.len() && self.is_before(right, left) { right } else { left };
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
        formatter
            .debug_struct("Merge")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
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
    let rows = versions
        .iter()
        .map(|row| RowRef::parse(row))
        .collect::<std::result::Result<Vec<_>, _>>()?;
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
pub(crate) fn shadow(
    tombstones: &PartitionTombstones,
    suffix: &[u8],
    row: Bytes,
) -> Result<Option<Bytes>> {
    let deletion = match suffix.split_first() {
        Some((&kind, clustering)) if kind == EntryKind::Row.to_byte() => {
            tombstones.covering(clustering)
        }
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

    /// Whether there is no tombstone to apply.
    pub(crate) fn hides_nothing(&self) -> bool {
        self.tombstones.is_empty()
    }

    /// What the tombstones leave of a row of this or another partition.
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

/// Dead rows that are passed in one step, so that nobody waits long for a reader of tombstones.
const DEAD_ROWS_PER_STEP: u32 = 16;

/// Where a step of a cursor came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// It stands on a live row.
    Row,
    /// It passed some dead rows and stands on none; there may be more.
    Pause,
    /// There are no more rows.
    End,
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
    /// What is alive of the row it stands on, when that is not all of it.
    part: Option<Bytes>,
}

impl<'a> LiveRows<'a> {
    /// Rows alive at `now_secs` (seconds since the epoch).
    #[must_use]
    pub(crate) fn new(merge: Merge<'a>, now_secs: u32) -> Self {
        Self { merge, now_secs, partition: CurrentPartition::default(), part: None }
    }

    /// Gives the tombstones of the partition whose entry keys start with `partition` (token, length, partition key).
    #[must_use]
    pub(crate) fn with_tombstones(
        mut self,
        partition: Bytes,
        tombstones: PartitionTombstones,
    ) -> Self {
        self.partition.enter(partition, tombstones);
        self
    }

    /// The whole entry key of the row that it stands on.
    pub(crate) fn key(&self) -> &[u8] {
        self.merge.key()
    }

    /// The row that it stands on.
    pub(crate) fn row(&self) -> &[u8] {
        self.part.as_deref().unwrap_or_else(|| self.merge.row())
    }

    /// As [`LiveRows::row`], to keep.
    pub(crate) fn shared_row(&self) -> Bytes {
        self.part.clone().unwrap_or_else(|| self.merge.shared_row())
    }

    /// Goes to the next row that is alive (kind static or row).
    ///
    /// # Errors
    /// As [`Merge::advance`].
    pub(crate) fn advance(&mut self) -> Result<Advance> {
        for _ in 0..DEAD_ROWS_PER_STEP {
            if !self.merge.advance()? {
                return Ok(Advance::End);
            }
            if self.is_alive()? {
                return Ok(Advance::Row);
            }
        }
        Ok(Advance::Pause)
    }

    /// Whether something is alive of the entry that the merge stands on.
    fn is_alive(&mut self) -> Result<bool> {
        let (key, row) = (self.merge.key(), self.merge.row());
        let (prefix, suffix) = entry_key::split(key)?;
        if suffix.first() == Some(&EntryKind::Tombstones.to_byte()) {
            // walking backward they come too late and the caller gave them
            if self.merge.direction == Direction::Forward {
                self.partition
                    .enter(Bytes::copy_from_slice(prefix), PartitionTombstones::decode(row)?);
            }
            return Ok(false);
        }
        if self.partition.hides_nothing() {
            let visible = reconcile::visible(row, self.now_secs)?;
            let is_alive = visible != Visible::Nothing;
            self.part = if let Visible::Part(part) = visible { Some(part) } else { None };
            return Ok(is_alive);
        }
        self.part = match self.partition.shadow(key, self.merge.shared_row())? {
            Some(row) => reconcile::live(row, self.now_secs)?,
            None => None,
        };
        Ok(self.part.is_some())
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
