//! The rows of one table that are in the log and not yet in a segment: sixteen ordered maps, each
//! under its own lock.
//!
//! The log thread (and replay) is the only writer. A shard holds one sixteenth of the token range,
//! so walking the shards in turn walks all entries in order. Readers take entries a chunk at a time
//! and hold no lock in between; a row that changes meanwhile is seen old or new, never half.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use coffer_model::{EntryKind, PartitionTombstones, RowRef, reconcile};
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::Lsn;
use crate::error::Result;
use crate::merge::{Direction, EntrySource};

/// Memory of a new entry besides its row: node share, key box, `Bytes` handle.
const ENTRY_OVERHEAD_BYTES: u64 = 128;
/// Entries a cursor takes under one lock: each chunk twice the one before, up to a bound.
const CHUNK_MAX: usize = 128;
const CHUNK_FIRST: usize = 16;
const SHARDS: usize = 16;

type Shard = BTreeMap<Key<'static>, Bytes>;

/// An entry key: the token as a number, so that looking for a key hardly leaves the nodes of the
/// map, and the rest. A bound that is shorter than a token is filled up with zeros.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a> {
    token: u64,
    rest: Cow<'a, [u8]>,
}

impl<'a> Key<'a> {
    fn new(key: &'a [u8]) -> Self {
        let (token, rest) = key.split_first_chunk::<8>().map_or_else(
            || {
                let mut token = [0; 8];
                token.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
                (token, &[][..])
            },
            |(token, rest)| (*token, rest),
        );
        Self { token: u64::from_be_bytes(token), rest: Cow::Borrowed(rest) }
    }

    fn into_owned(self) -> Key<'static> {
        Key { token: self.token, rest: Cow::Owned(self.rest.into_owned()) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.token.to_be_bytes());
        out.extend_from_slice(&self.rest);
    }
}

/// Bytes held by all memtables and by what waits for the log.
#[derive(Debug, Default)]
pub(crate) struct MemoryUse(AtomicU64);

impl MemoryUse {
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One memtable, active or frozen.
#[derive(Debug)]
pub(crate) struct Memtable {
    shards: [CachePadded<Mutex<Shard>>; SHARDS],
    memory: Arc<MemoryUse>,
    bytes: AtomicU64,
    entries: AtomicU64,
    last: AtomicU64,
    has_tombstones: AtomicBool,
    has_statics: AtomicBool,
    /// Tail files whose last records are in this memtable or an earlier one.
    tails: Mutex<Vec<[u8; 16]>>,
}

impl Memtable {
    pub(crate) fn new(memory: Arc<MemoryUse>) -> Self {
        Self {
            shards: Default::default(),
            memory,
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            last: AtomicU64::new(0),
            has_tombstones: AtomicBool::new(false),
            has_statics: AtomicBool::new(false),
            tails: Mutex::new(Vec::new()),
        }
    }

    /// Takes up an entry, reconciling it with what is there.
    pub(crate) fn insert(&self, kind: EntryKind, key: &[u8], row: Bytes) -> Result<()> {
        let Some(shard) = self.shard(key) else { return Ok(()) };
        match kind {
            EntryKind::Tombstones => self.has_tombstones.store(true, Ordering::Release),
            EntryKind::StaticRow => self.has_statics.store(true, Ordering::Release),
            EntryKind::Row => {}
        }
        let owned = Key::new(key).into_owned();
        match shard.lock().entry(owned) {
            Entry::Occupied(mut present) => {
                let merged = merge_entry(kind, present.get(), &row)?;
                self.charge(merged.len() as u64);
                present.insert(merged);
            }
            Entry::Vacant(place) => {
                place.insert(row);
                self.entries.fetch_add(1, Ordering::Relaxed);
                self.charge(key.len() as u64 + ENTRY_OVERHEAD_BYTES);
            }
        }
        Ok(())
    }

    /// Counts memory that entries keep alive.
    pub(crate) fn charge(&self, bytes: u64) {
        self.memory.add(bytes);
        self.adopt(bytes);
    }

    /// Takes over memory that is already counted in the total.
    pub(crate) fn adopt(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that all records of the table up to `lsn` are in this memtable or an earlier one.
    pub(crate) fn advance(&self, lsn: Lsn) {
        self.last.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Notes that the tail file was taken up whole.
    pub(crate) fn note_tail(&self, tail: [u8; 16]) {
        self.tails.lock().push(tail);
    }

    pub(crate) fn tails(&self) -> Vec<[u8; 16]> {
        self.tails.lock().clone()
    }

    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.last.load(Ordering::Acquire))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether it holds neither entries nor the end of a tail file or frame, which counts too: the log
    /// keeps a frame until a flush has passed it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries() == 0 && self.last() == Lsn(0) && self.tails.lock().is_empty()
    }

    pub(crate) fn has_tombstones(&self) -> bool {
        self.has_tombstones.load(Ordering::Acquire)
    }

    pub(crate) fn has_statics(&self) -> bool {
        self.has_statics.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Bytes> {
        let map = self.shard(key)?.lock();
        let map: &BTreeMap<Key<'_>, Bytes> = &map;
        map.get(&Key::new(key)).cloned()
    }

    /// Smallest write timestamp of all entries; `i64::MIN` where an entry does not decode.
    pub(crate) fn min_timestamp(&self) -> i64 {
        let mut least = i64::MAX;
        for shard in &self.shards {
            for (key, row) in shard.lock().iter() {
                least = least.min(entry_min_timestamp(key, row));
            }
        }
        least
    }

    /// A cursor over `start <= key < end`; an empty `end` has no bound.
    pub(crate) fn range(
        self: &Arc<Self>,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> MemtableCursor {
        MemtableCursor::new(Arc::clone(self), start, end, direction)
    }

    fn shard(&self, key: &[u8]) -> Option<&Mutex<Shard>> {
        self.shards.get(shard_number(key)).map(|shard| &**shard)
    }
}

impl Drop for Memtable {
    fn drop(&mut self) {
        self.memory.subtract(self.bytes());
    }
}

/// The top four bits of the token.
fn shard_number(key: &[u8]) -> usize {
    usize::from(key.first().copied().unwrap_or_default() >> 4)
}

fn merge_entry(kind: EntryKind, present: &[u8], row: &[u8]) -> Result<Bytes> {
    if kind == EntryKind::Tombstones {
        let mut tombstones = PartitionTombstones::decode(present)?;
        tombstones.merge(&PartitionTombstones::decode(row)?);
        return Ok(Bytes::from(tombstones.encode()));
    }
    Ok(reconcile::merge_rows(&[RowRef::parse(present)?, RowRef::parse(row)?]))
}

fn entry_min_timestamp(key: &Key<'_>, row: &[u8]) -> i64 {
    let mut bytes = Vec::with_capacity(64);
    key.write(&mut bytes);
    let Ok(entry) = coffer_model::EntryKey::decode(&bytes) else { return i64::MIN };
    if entry.kind == EntryKind::Tombstones {
        let Ok(tombstones) = PartitionTombstones::decode(row) else { return i64::MIN };
        let ranges = tombstones.ranges().iter().map(|range| range.deletion.marked_at.0);
        let whole = tombstones.deletion().map(|deletion| deletion.marked_at.0);
        return ranges.chain(whole).min().unwrap_or(i64::MAX);
    }
    let Ok(row) = RowRef::parse(row) else { return i64::MIN };
    row.timestamp_range().map_or(i64::MAX, |(least, _)| least.0)
}

/// A cursor over a range of a memtable: copies a chunk of entries at a time.
#[derive(Debug)]
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    direction: Direction,
    /// What is left: `start <= key < end`, an empty end without bound.
    start: Vec<u8>,
    end: Vec<u8>,
    /// The shard the next chunk comes from; `None` when there is none.
    shard: Option<usize>,
    /// Whether `start` itself was seen (forward only).
    after_start: bool,
    keys: Vec<u8>,
    chunk: Vec<(usize, Bytes)>,
    position: usize,
    chunk_size: usize,
}

impl MemtableCursor {
    fn new(memtable: Arc<Memtable>, start: &[u8], end: &[u8], direction: Direction) -> Self {
        let first = match direction {
            Direction::Forward => shard_number(start),
            Direction::Reversed if end.is_empty() => SHARDS - 1,
            Direction::Reversed => shard_number(end),
        };
        let mut cursor = Self {
            memtable,
            direction,
            start: start.to_vec(),
            end: end.to_vec(),
            shard: Some(first),
            after_start: false,
            keys: Vec::new(),
            chunk: Vec::new(),
            position: 0,
            chunk_size: CHUNK_FIRST,
        };
        cursor.fill();
        cursor
    }

    /// Takes the next chunk, from as many shards on as are empty.
    fn fill(&mut self) {
        self.keys.clear();
        self.chunk.clear();
        self.position = 0;
        while let Some(number) = self.shard {
            self.fill_from(number);
            let full = self.chunk.len() >= self.chunk_size;
            if !full {
                self.shard = self.next_shard(number);
            }
            if !self.chunk.is_empty() {
                self.move_bound();
                self.chunk_size = (self.chunk_size * 2).min(CHUNK_MAX);
                return;
            }
        }
    }

    fn next_shard(&self, number: usize) -> Option<usize> {
        match self.direction {
            Direction::Forward => {
                let last = if self.end.is_empty() { SHARDS - 1 } else { shard_number(&self.end) };
                (number < last).then_some(number + 1)
            }
            Direction::Reversed => (number > shard_number(&self.start)).then(|| number - 1),
        }
    }

    fn fill_from(&mut self, number: usize) {
        let Some(shard) = self.memtable.shards.get(number) else { return };
        let start = match (Key::new(&self.start), self.after_start) {
            (start, true) => Bound::Excluded(start),
            (start, false) => Bound::Included(start),
        };
        let end = match self.end.as_slice() {
            [] => Bound::Unbounded,
            end if end <= self.start.as_slice() => return,
            end => Bound::Excluded(Key::new(end)),
        };
        let map = shard.lock();
        let map: &BTreeMap<Key<'_>, Bytes> = &map;
        let range = map.range((start, end));
        let (keys, chunk, limit) = (&mut self.keys, &mut self.chunk, self.chunk_size);
        let mut take = |key: &Key<'_>, row: &Bytes| {
            key.write(keys);
            chunk.push((keys.len(), row.clone()));
        };
        match self.direction {
            Direction::Forward => range.take(limit).for_each(|(key, row)| take(key, row)),
            Direction::Reversed => range.rev().take(limit).for_each(|(key, row)| take(key, row)),
        }
    }

    /// Moves the bound past the chunk that was taken.
    fn move_bound(&mut self) {
        let Some(last) = self.key_at(self.chunk.len().saturating_sub(1)).map(<[u8]>::to_vec) else {
            return;
        };
        match self.direction {
            Direction::Forward => {
                self.start = last;
                self.after_start = true;
            }
            Direction::Reversed => self.end = last,
        }
    }

    fn key_at(&self, position: usize) -> Option<&[u8]> {
        let (end, _) = self.chunk.get(position)?;
        let start = match position.checked_sub(1) {
            Some(before) => self.chunk.get(before)?.0,
            None => 0,
        };
        self.keys.get(start..*end)
    }
}

impl EntrySource for MemtableCursor {
    fn key(&self) -> Option<&[u8]> {
        self.key_at(self.position)
    }

    fn row(&self) -> &[u8] {
        self.chunk.get(self.position).map(|(_, row)| row.as_ref()).unwrap_or_default()
    }

    fn shared_row(&self) -> Bytes {
        self.chunk.get(self.position).map(|(_, row)| row.clone()).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<()> {
        self.position += 1;
        if self.position >= self.chunk.len() {
            self.fill();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
