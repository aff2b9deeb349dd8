//! Reads the plaintext of a block: point look-up, and a cursor that walks both ways.
//!
//! ```text
//! entry*     shared length varint | rest length varint | value length varint | rest of key | value
//! restart*   position u32 of an entry that shares nothing, every 4th
//! count      u32, number of restarts
//! ```
//! Numbers are big endian. For example the entries `ab`=1, `ac`=2 are
//! `00 02 01 61 62 31 | 01 01 01 63 32 | 00000000 | 00000001`.
//! The same layout holds rows, the index and the top of the index.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use coffer_model::{Error, varint};

use super::block_builder::shared_length;

/// Entries from one restart to the next.
pub(super) const RESTART_INTERVAL: usize = 4;

const MALFORMED: Error = Error::Malformed("block");

/// A block in memory. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    bytes: Bytes,
    entries_end: usize,
    restarts: usize,
}

/// One entry's place in its block.
#[derive(Debug, Clone, Default)]
struct Entry {
    shared: usize,
    rest: Range<usize>,
    value: Range<usize>,
}

impl Block {
    /// Takes the plaintext of a block after checking where its parts lie.
    pub(super) fn parse(bytes: Bytes) -> Result<Self, Error> {
        let (body, count) = bytes.split_last_chunk::<4>().ok_or(MALFORMED)?;
        let restarts = u32::from_be_bytes(*count) as usize;
        let entries_end = restarts
            .checked_mul(4)
            .and_then(|length| body.len().checked_sub(length))
            .ok_or(MALFORMED)?;
        if restarts == 0 {
            return Err(MALFORMED);
        }
        Ok(Self { bytes, entries_end, restarts })
    }

    /// Bytes it keeps in memory.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// A block that only has a length, for tests of the cache.
    #[cfg(test)]
    pub(crate) fn of_length(length: usize) -> Self {
        Self { bytes: Bytes::from(vec![0; length]), entries_end: 0, restarts: 1 }
    }

    #[inline]
    fn restart(&self, index: usize) -> Result<usize, Error> {
        let at = index
            .checked_mul(4)
            .and_then(|at| at.checked_add(self.entries_end))
            .ok_or(MALFORMED)?;
        let position =
            self.bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(MALFORMED)?;
        Ok(u32::from_be_bytes(*position) as usize)
    }

    #[inline]
    fn entry_at(&self, position: usize) -> Result<Entry, Error> {
        let entries = self.bytes.get(..self.entries_end).ok_or(MALFORMED)?;
        let mut rest = entries.get(position..).ok_or(MALFORMED)?;
        let shared = varint::read(&mut rest)? as usize;
        let key_length = varint::read(&mut rest)? as usize;
        let value_length = varint::read(&mut rest)? as usize;
        let start = entries.len().checked_sub(rest.len()).ok_or(MALFORMED)?;
        let key_end = start.checked_add(key_length).ok_or(MALFORMED)?;
        let value_end = key_end
            .checked_add(value_length)
            .filter(|end| *end <= entries.len())
            .ok_or(MALFORMED)?;
        Ok(Entry { shared, rest: start..key_end, value: key_end..value_end })
    }

    #[inline]
    fn part(&self, range: &Range<usize>) -> Result<&[u8], Error> {
        self.bytes.get(range.clone()).ok_or(MALFORMED)
    }

    /// The last restart whose key is not above `target`; 0 when all are.
    fn restart_before(&self, target: &[u8]) -> Result<usize, Error> {
        let (mut low, mut high) = (0, self.restarts);
        // invariant: restart `low` is not above the target (or low is 0), restart `high` is above it
        while high.saturating_sub(low) > 1 {
            let middle = low.midpoint(high);
            let entry = self.entry_at(self.restart(middle)?)?;
            if self.part(&entry.rest)? <= target {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The last restart that starts before `position`; `None` when there is none.
    fn interval_before(&self, position: usize) -> Result<Option<usize>, Error> {
        let (mut low, mut high) = (0, self.restarts);
        // invariant: restarts below `low` start before the position, those from `high` on do not
        while low < high {
            let middle = low.midpoint(high);
            if self.restart(middle)? < position {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1))
    }

    /// The first entry with a key at or above `target`: its value, and whether the key is `target` itself.
    ///
    /// Compares without putting keys together: what an entry shares with the one before it was compared already.
    pub(super) fn lower_bound(&self, target: &[u8]) -> Result<Option<(Bytes, bool)>, Error> {
        let mut position = self.restart(self.restart_before(target)?)?;
        let mut matched = 0;
        while position < self.entries_end {
            let entry = self.entry_at(position)?;
            position = entry.value.end;
            match entry.shared.cmp(&matched) {
                // shares with its predecessor the byte that made that one smaller
                Ordering::Greater => continue,
                // has a larger byte where the predecessor still agreed with the target
                Ordering::Less => return self.found(&entry, false),
                Ordering::Equal => {}
            }
            let rest = self.part(&entry.rest)?;
            let wanted = target.get(matched..).ok_or(MALFORMED)?;
            match rest.cmp(wanted) {
                Ordering::Less => matched = matched.saturating_add(shared_length(rest, wanted)),
                Ordering::Equal => return self.found(&entry, true),
                Ordering::Greater => return self.found(&entry, false),
            }
        }
        Ok(None)
    }

    fn found(&self, entry: &Entry, exact: bool) -> Result<Option<(Bytes, bool)>, Error> {
        self.part(&entry.value)?;
        Ok(Some((self.bytes.slice(entry.value.clone()), exact)))
    }
}

/// A place in a block; walks both ways.
#[derive(Debug)]
pub(super) struct BlockCursor {
    block: Block,
    /// Start of the current entry; `entries_end` past the end.
    position: usize,
    entry: Entry,
    key: Vec<u8>,
}

impl BlockCursor {
    /// A cursor that stands nowhere yet.
    pub(super) fn new(block: Block) -> Self {
        let position = block.entries_end;
        Self { block, position, entry: Entry::default(), key: Vec::new() }
    }

    #[inline]
    pub(super) fn is_valid(&self) -> bool {
        self.position < self.block.entries_end
    }

    /// The current key; empty when the cursor stands nowhere.
    pub(super) fn key(&self) -> &[u8] {
        if self.is_valid() { &self.key } else { &[] }
    }

    /// The current value; empty when the cursor stands nowhere.
    pub(super) fn value(&self) -> &[u8] {
        if self.is_valid() { self.block.part(&self.entry.value).unwrap_or_default() } else { &[] }
    }

    /// As [`BlockCursor::value`], to keep: it shares the block's memory.
    pub(super) fn shared_value(&self) -> Bytes {
        if self.is_valid() && self.entry.value.end <= self.block.bytes.len() {
            self.block.bytes.slice(self.entry.value.clone())
        } else {
            Bytes::new()
        }
    }

    /// Goes to the first entry with a key at or above `target`, or past the end.
    pub(super) fn seek(&mut self, target: &[u8]) -> Result<(), Error> {
        let interval = self.block.restart_before(target)?;
        self.go_to_restart(interval)?;
        while self.is_valid() && self.key.as_slice() < target {
            self.next()?;
        }
        Ok(())
    }

    pub(super) fn first(&mut self) -> Result<(), Error> {
        self.go_to_restart(0)
    }

    pub(super) fn last(&mut self) -> Result<(), Error> {
        let interval = self.block.restarts.saturating_sub(1);
        self.walk_from_restart(interval, self.block.entries_end)
    }

    #[inline]
    pub(super) fn next(&mut self) -> Result<(), Error> {
        if !self.is_valid() {
            return Ok(());
        }
        self.position = self.entry.value.end;
        self.load()
    }

    /// Goes one entry back; past the end (nowhere) from the first one.
    pub(super) fn prev(&mut self) -> Result<(), Error> {
        if !self.is_valid() {
            return Ok(());
        }
        let until = self.position;
        match self.block.interval_before(until)? {
            Some(interval) => self.walk_from_restart(interval, until),
            None => {
                self.position = self.block.entries_end;
                Ok(())
            }
        }
    }

    /// Goes to the last entry of an interval that starts before `until`.
    fn walk_from_restart(&mut self, interval: usize, until: usize) -> Result<(), Error> {
        self.go_to_restart(interval)?;
        while self.is_valid() && self.entry.value.end < until {
            self.next()?;
        }
        Ok(())
    }

    fn go_to_restart(&mut self, interval: usize) -> Result<(), Error> {
        self.position = self.block.restart(interval)?;
        self.key.clear();
        self.load()
    }

    /// Decodes the entry at `position` onto the key of the one before it.
    fn load(&mut self) -> Result<(), Error> {
        if !self.is_valid() {
            return Ok(());
        }
        let entry = self.block.entry_at(self.position)?;
        if entry.shared > self.key.len() {
            return Err(MALFORMED);
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(self.block.part(&entry.rest)?);
        self.entry = entry;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
