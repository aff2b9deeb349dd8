//! What a read asks for and what it gets: [`PartitionRead`], [`ScanRange`] and their cursors.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use coffer_crypto::clock::Clock;
use coffer_model::{EntryKey, EntryKind, Token, entry_key};

use crate::error::Result;
use crate::merge::{Advance, Direction, LiveRows, Merge};
use crate::segment::Caching;
use crate::table_store::TableStore;
use crate::view::{Point, View};

/// Rows between two looks at the key's lease.
const LEASE_CHECK_ROWS: u32 = 128;
/// Rows of a partition that is skipped are walked over up to this many; then the scan starts anew
/// behind it.
const SKIP_WALK_ROWS: u32 = 32;
/// Above all kinds of entries.
const AFTER_ALL_KINDS: u8 = EntryKind::Row.to_byte() + 1;

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

/// What all cursors hold on to.
struct Reading {
    store: Arc<TableStore>,
    view: Arc<View>,
    clock: Arc<dyn Clock>,
    now_seconds: u32,
    until_check: u32,
}

impl Reading {
    /// Looks at the key's lease from time to time.
    fn tick(&mut self) -> Result<()> {
        if self.until_check == 0 {
            self.store.check_lease(self.clock.key_now_millis())?;
            self.until_check = LEASE_CHECK_ROWS;
        }
        self.until_check -= 1;
        Ok(())
    }
}

/// The rows of one partition.
pub struct PartitionCursor {
    reading: Reading,
    token: Token,
    partition_key: Box<[u8]>,
    prefix: Bytes,
    direction: Direction,
    /// Slices that were not begun, in the order they are read.
    slices: VecDeque<(Vec<u8>, Vec<u8>)>,
    rows: Option<LiveRows<'static>>,
    static_row: Option<Bytes>,
}

impl PartitionCursor {
    pub(crate) fn new(
        store: Arc<TableStore>,
        clock: Arc<dyn Clock>,
        read: &PartitionRead<'_>,
        now_seconds: u32,
    ) -> Result<Self> {
        let view = store.view_owned();
        let mut prefix = Vec::with_capacity(16 + read.partition_key.len());
        entry_key::encode_partition_prefix(read.token, read.partition_key, &mut prefix);
        let point = Point {
            token: read.token,
            partition_key: read.partition_key,
            kind: EntryKind::StaticRow,
            clustering: &[],
        };
        let static_row = if read.statics { view.row(&point, now_seconds)? } else { None };
        let mut slices: VecDeque<_> = read.slices.iter().cloned().collect();
        if read.reversed {
            slices.make_contiguous().reverse();
        }
        Ok(Self {
            reading: Reading { store, view, clock, now_seconds, until_check: LEASE_CHECK_ROWS },
            token: read.token,
            partition_key: read.partition_key.into(),
            prefix: prefix.into(),
            direction: if read.reversed { Direction::Reversed } else { Direction::Forward },
            slices,
            rows: None,
            static_row,
        })
    }

    /// The live static row, when it was asked for and there is one.
    #[must_use]
    pub fn static_row(&self) -> Option<&Bytes> {
        self.static_row.as_ref()
    }

    /// Goes towards the next live row.
    ///
    /// # Errors
    /// `Tampered`, `Io`, or `KeyUnavailable` when the key was revoked meanwhile; the cursor is then
    /// at its end.
    pub fn advance(&mut self) -> Result<Advance> {
        let stepped = self.step();
        if stepped.is_err() {
            self.rows = None;
            self.slices.clear();
        }
        stepped
    }

    /// The clustering ordered bytes of the row it stands on; empty before the first and past the end.
    #[must_use]
    pub fn clustering(&self) -> &[u8] {
        self.rows.as_ref().map_or(&[], |rows| clustering_part(rows.key(), self.prefix.len()))
    }

    /// The encoded row it stands on; dead and expired cells are gone.
    #[must_use]
    pub fn row(&self) -> &[u8] {
        self.rows.as_ref().map_or(&[], LiveRows::row)
    }

    /// Goes on to the next live row, to keep; `None` at the end.
    ///
    /// # Errors
    /// As [`PartitionCursor::advance`].
    pub fn next_row(&mut self) -> Result<Option<RowEntry>> {
        loop {
            match self.advance()? {
                Advance::Row => break,
                Advance::Pause => {}
                Advance::End => return Ok(None),
            }
        }
        let clustering = Bytes::copy_from_slice(self.clustering());
        Ok(self.rows.as_ref().map(|rows| RowEntry { clustering, row: rows.shared_row() }))
    }

    fn step(&mut self) -> Result<Advance> {
        self.reading.tick()?;
        loop {
            if let Some(rows) = &mut self.rows {
                let advance = rows.advance()?;
                if advance != Advance::End {
                    return Ok(advance);
                }
                self.rows = None;
            }
            let Some((start, end)) = self.slices.pop_front() else { return Ok(Advance::End) };
            self.rows = Some(self.begin_slice(&start, &end)?);
        }
    }

    fn begin_slice(&self, start: &[u8], end: &[u8]) -> Result<LiveRows<'static>> {
        let row = [EntryKind::Row.to_byte()];
        let first = [self.prefix.as_ref(), &row, start].concat();
        let last = if end.is_empty() {
            [self.prefix.as_ref(), &[AFTER_ALL_KINDS]].concat()
        } else {
            [self.prefix.as_ref(), &row, end].concat()
        };
        let view = &self.reading.view;
        let sources =
            view.sources((&first, &last), Some(self.token), self.direction, Caching::Fill)?;
        let tombstones = view.tombstones(self.token, &self.partition_key)?;
        let rows = LiveRows::new(Merge::new(sources, self.direction), self.reading.now_seconds);
        Ok(rows.with_tombstones(self.prefix.clone(), tombstones))
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
    /// Some dead rows were passed.
    Pause,
}

/// The live rows of a table in token order.
pub struct ScanCursor {
    reading: Reading,
    rows: LiveRows<'static>,
    /// What no entry key reaches; empty for no bound.
    end: Vec<u8>,
    /// Prefix of the partition that was begun last.
    prefix: Bytes,
    /// The partition the scan resumed in: its static row lies before the start.
    resumed: Option<Bytes>,
    /// The row that follows the partition that was just begun.
    held: Option<RowEntry>,
    skipping: bool,
}

impl ScanCursor {
    pub(crate) fn new(
        store: Arc<TableStore>,
        clock: Arc<dyn Clock>,
        range: &ScanRange<'_>,
        now_seconds: u32,
    ) -> Result<Self> {
        let view = store.view_owned();
        let end = match range.last.0.checked_add(1) {
            Some(after) => Token(after).to_ordered_bytes().to_vec(),
            None => Vec::new(),
        };
        let mut start = range.first.to_ordered_bytes().to_vec();
        let mut resumed = None;
        if let Some(after) = &range.after {
            let (key, prefix) = after_position(after);
            if key > start {
                start = key;
                resumed = after.clustering.is_some().then_some((after, prefix));
            }
        }
        let mut rows = scan_rows(&view, &start, &end, now_seconds)?;
        if let Some((after, prefix)) = &resumed {
            let tombstones = view.tombstones(after.token, after.partition_key)?;
            rows = rows.with_tombstones(prefix.clone(), tombstones);
        }
        Ok(Self {
            reading: Reading { store, view, clock, now_seconds, until_check: LEASE_CHECK_ROWS },
            rows,
            end,
            prefix: Bytes::new(),
            resumed: resumed.map(|(_, prefix)| prefix),
            held: None,
            skipping: false,
        })
    }

    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// `Tampered`, `Io`, or `KeyUnavailable` when the key was revoked meanwhile. The cursor is of no
    /// use afterwards.
    pub fn next_item(&mut self) -> Result<Option<ScanItem>> {
        self.reading.tick()?;
        if let Some(row) = self.held.take() {
            return Ok(Some(ScanItem::Row(row)));
        }
        let mut skipped = 0;
        loop {
            match self.rows.advance()? {
                Advance::Row => {}
                Advance::Pause => {
                    if self.skipping {
                        self.jump_over_partition()?;
                    }
                    return Ok(Some(ScanItem::Pause));
                }
                Advance::End => return Ok(None),
            }
            let key = self.rows.key();
            let (prefix, suffix) = entry_key::split(key)?;
            let is_static = suffix.first() == Some(&EntryKind::StaticRow.to_byte());
            if prefix != self.prefix.as_ref() {
                let row = self.entry(prefix.len());
                let prefix = Bytes::copy_from_slice(prefix);
                return self.begin_partition(prefix, is_static, row).map(Some);
            }
            if !self.skipping {
                return Ok(Some(ScanItem::Row(self.entry(prefix.len()))));
            }
            skipped += 1;
            if skipped == SKIP_WALK_ROWS {
                self.jump_over_partition()?;
            }
        }
    }

    /// Starts anew behind the partition that began last.
    fn jump_over_partition(&mut self) -> Result<()> {
        let start = [self.prefix.as_ref(), &[AFTER_ALL_KINDS]].concat();
        self.rows = scan_rows(&self.reading.view, &start, &self.end, self.reading.now_seconds)?;
        Ok(())
    }

    fn entry(&self, prefix_length: usize) -> RowEntry {
        let clustering = Bytes::copy_from_slice(clustering_part(self.rows.key(), prefix_length));
        RowEntry { clustering, row: self.rows.shared_row() }
    }

    fn begin_partition(
        &mut self,
        prefix: Bytes,
        is_static: bool,
        row: RowEntry,
    ) -> Result<ScanItem> {
        self.skipping = false;
        let first = [prefix.as_ref(), &[EntryKind::StaticRow.to_byte()]].concat();
        let key = EntryKey::decode(&first)?;
        let partition_key = prefix.slice(prefix.len() - key.partition_key.len()..);
        let static_row = if is_static {
            Some(row.row)
        } else {
            self.held = Some(row);
            self.resumed_static_row(&prefix, &key)?
        };
        let token = key.token;
        self.prefix = prefix;
        Ok(ScanItem::Partition { partition_key, token, static_row })
    }

    fn resumed_static_row(&mut self, prefix: &Bytes, key: &EntryKey<'_>) -> Result<Option<Bytes>> {
        if self.resumed.take().is_none_or(|resumed| resumed != *prefix) {
            return Ok(None);
        }
        let point = Point {
            token: key.token,
            partition_key: key.partition_key,
            kind: EntryKind::StaticRow,
            clustering: &[],
        };
        self.reading.view.row(&point, self.reading.now_seconds)
    }

    /// Skips the remaining rows of the partition that began last.
    pub fn skip_partition(&mut self) {
        self.held = None;
        self.skipping = true;
    }
}

/// What follows partition and kind in an entry key.
fn clustering_part(key: &[u8], prefix_length: usize) -> &[u8] {
    key.get(prefix_length + 1..).unwrap_or_default()
}

/// The first entry key after a position, and the partition's prefix.
fn after_position(after: &ScanPosition<'_>) -> (Vec<u8>, Bytes) {
    let mut key = Vec::with_capacity(32 + after.partition_key.len());
    entry_key::encode_partition_prefix(after.token, after.partition_key, &mut key);
    let prefix = Bytes::copy_from_slice(&key);
    match after.clustering {
        None => key.push(AFTER_ALL_KINDS),
        Some(clustering) => {
            key.push(EntryKind::Row.to_byte());
            key.extend_from_slice(clustering);
            key.push(0);
        }
    }
    (key, prefix)
}

fn scan_rows(view: &View, start: &[u8], end: &[u8], now_seconds: u32) -> Result<LiveRows<'static>> {
    let sources = view.sources((start, end), None, Direction::Forward, Caching::Bypass)?;
    Ok(LiveRows::new(Merge::new(sources, Direction::Forward), now_seconds))
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
