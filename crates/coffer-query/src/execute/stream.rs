//! Rows in the order they are read: of listed partitions, of a scan, or of a computed table.

use std::collections::VecDeque;

use bytes::Bytes;
use coffer_model::{RowBuilder, TableId, Token, WriteTimestamp, partition_key};
use coffer_storage::{
    Advance, PartitionCursor, PartitionRead, RowEntry, ScanCursor, ScanItem, ScanPosition,
    ScanRange,
};

use super::interrupt::Interrupt;
use super::keys::{Slice, is_inside, push_clustering};
use super::write::cells::push_value;
use crate::database::{Database, Session};
use crate::error::Result;
use crate::plan::select::SelectPlan;
use crate::table_source::VirtualTable;

/// What comes next.
pub(crate) enum Item {
    Partition {
        key: Bytes,
        static_row: Option<Bytes>,
    },
    /// A row, to be had from [`Stream::row`].
    Row,
    /// Nothing to show; the reading of dead rows took a while.
    Pause,
}

/// A source of rows.
pub(crate) enum Stream {
    /// Listed partitions, one after the other.
    Keys(Box<KeyStream>),
    /// A range of tokens.
    Scan(Box<ScanStream>),
    /// A computed table.
    Memory(MemoryStream),
}

impl Default for Stream {
    /// No rows at all.
    fn default() -> Self {
        Stream::Memory(MemoryStream::default())
    }
}

/// Rows of a range of tokens.
pub(crate) struct ScanStream {
    cursor: ScanCursor,
    row: Option<RowEntry>,
}

/// Rows of a computed table.
#[derive(Default)]
pub(crate) struct MemoryStream {
    items: VecDeque<MemoryItem>,
    row: Option<RowEntry>,
}

enum MemoryItem {
    Partition(Bytes),
    Row(RowEntry),
}

/// Rows of listed partitions.
pub(crate) struct KeyStream {
    pub(crate) table: TableId,
    pub(crate) keys: VecDeque<Bytes>,
    pub(crate) slices: Vec<Slice>,
    pub(crate) reversed: bool,
    pub(crate) statics: bool,
    pub(crate) now: u32,
    /// Where the first partition goes on.
    pub(crate) resume: Option<Bytes>,
    pub(crate) cursor: Option<PartitionCursor>,
}

impl Stream {
    /// The next partition or row.
    pub(crate) fn next(&mut self, database: &Database) -> Result<Option<Item>, Interrupt> {
        match self {
            Stream::Keys(keys) => keys.next(database),
            Stream::Scan(scan) => Ok(match scan.cursor.next_item()? {
                Some(ScanItem::Partition { partition_key, static_row, .. }) => {
                    Some(Item::Partition { key: partition_key, static_row })
                }
                Some(ScanItem::Row(row)) => {
                    scan.row = Some(row);
                    Some(Item::Row)
                }
                Some(ScanItem::Pause) => Some(Item::Pause),
                None => None,
            }),
            Stream::Memory(memory) => Ok(match memory.items.pop_front() {
                Some(MemoryItem::Partition(key)) => Some(Item::Partition { key, static_row: None }),
                Some(MemoryItem::Row(row)) => {
                    memory.row = Some(row);
                    Some(Item::Row)
                }
                None => None,
            }),
        }
    }

    /// Clustering bytes and encoded cells of the row that [`Item::Row`] told of.
    pub(crate) fn row(&self) -> (&[u8], &[u8]) {
        let entry = match self {
            Stream::Keys(keys) => {
                return keys
                    .cursor
                    .as_ref()
                    .map_or((&[], &[]), |cursor| (cursor.clustering(), cursor.row()));
            }
            Stream::Scan(scan) => &scan.row,
            Stream::Memory(memory) => &memory.row,
        };
        entry.as_ref().map_or((&[], &[]), |entry| (&entry.clustering, &entry.row))
    }

    /// Leaves out the rest of the partition that began last.
    pub(crate) fn skip_partition(&mut self) {
        match self {
            Stream::Keys(keys) => keys.cursor = None,
            Stream::Scan(scan) => scan.cursor.skip_partition(),
            Stream::Memory(memory) => {
                while matches!(memory.items.front(), Some(MemoryItem::Row(_))) {
                    memory.items.pop_front();
                }
            }
        }
    }
}

impl KeyStream {
    fn next(&mut self, database: &Database) -> Result<Option<Item>, Interrupt> {
        if let Some(cursor) = &mut self.cursor {
            match cursor.advance()? {
                Advance::Row => return Ok(Some(Item::Row)),
                Advance::Pause => return Ok(Some(Item::Pause)),
                Advance::End => self.cursor = None,
            }
        }
        let Some(key) = self.keys.front() else { return Ok(None) };
        let trimmed;
        let slices = match self.resume.take() {
            Some(last) => {
                trimmed = trim(&self.slices, &last, self.reversed);
                &trimmed
            }
            None => &self.slices,
        };
        let read = PartitionRead {
            partition_key: key,
            token: Token::of(key),
            slices,
            reversed: self.reversed,
            statics: self.statics,
        };
        let cursor = database.engine().read_partition(self.table, &read, self.now)?;
        let static_row = cursor.static_row().cloned();
        self.cursor = Some(cursor);
        Ok(self.keys.pop_front().map(|key| Item::Partition { key, static_row }))
    }
}

/// The slices after a row.
fn trim(slices: &[Slice], last: &[u8], reversed: bool) -> Vec<Slice> {
    let mut out = Vec::with_capacity(slices.len());
    for (start, end) in slices {
        if reversed {
            let end = if end.is_empty() || end.as_slice() > last { last } else { end };
            if start.as_slice() < end {
                out.push((start.clone(), end.to_vec()));
            }
        } else {
            // Clustering bytes are prefix-free, so this lies before every later row.
            let after = [last, &[0x00]].concat();
            let start = if *start > after { start.clone() } else { after };
            if end.is_empty() || start < *end {
                out.push((start, end.clone()));
            }
        }
    }
    out
}

/// A scan of a range of tokens.
pub(crate) fn scan(
    database: &Database,
    table: TableId,
    (first, last): (Token, Token),
    resume: Option<(&Bytes, Option<&Bytes>)>,
    now: u32,
) -> Result<Stream, Interrupt> {
    let after = resume.map(|(key, clustering)| ScanPosition {
        partition_key: key,
        token: Token::of(key),
        clustering: clustering.map(|bytes| &bytes[..]),
    });
    let range = ScanRange { first, last, after };
    let cursor = database.engine().scan(table, &range, now)?;
    Ok(Stream::Scan(Box::new(ScanStream { cursor, row: None })))
}

struct MemoryRow {
    token: Token,
    key: Bytes,
    clustering: Bytes,
    row: Bytes,
}

/// The rows of a computed table as if they were stored.
pub(crate) fn memory(
    database: &Database,
    session: &Session,
    table: &dyn VirtualTable,
    plan: &SelectPlan,
    select: &MemorySelect<'_>,
) -> Result<Stream> {
    let mut rows = Vec::new();
    for values in table.rows(database, session)? {
        let row = memory_row(plan, &values)?;
        if select.accepts(&row, plan.reversed) {
            rows.push(row);
        }
    }
    rows.sort_by(|left, right| {
        let clustering = left.clustering.cmp(&right.clustering);
        let clustering = if plan.reversed { clustering.reverse() } else { clustering };
        (left.token, &left.key).cmp(&(right.token, &right.key)).then(clustering)
    });
    let mut items = VecDeque::with_capacity(rows.len() * 2);
    let mut last: Option<Bytes> = None;
    for row in rows {
        if last.as_ref() != Some(&row.key) {
            items.push_back(MemoryItem::Partition(row.key.clone()));
            last = Some(row.key);
        }
        items.push_back(MemoryItem::Row(RowEntry { clustering: row.clustering, row: row.row }));
    }
    Ok(Stream::Memory(MemoryStream { items, row: None }))
}

/// Which rows of a computed table are wanted.
pub(crate) struct MemorySelect<'a> {
    pub(crate) keys: Option<&'a [Bytes]>,
    pub(crate) tokens: (Token, Token),
    pub(crate) slices: &'a [Slice],
    pub(crate) resume: Option<(&'a Bytes, Option<&'a Bytes>)>,
}

impl MemorySelect<'_> {
    fn accepts(&self, row: &MemoryRow, reversed: bool) -> bool {
        let after = self.resume.is_none_or(|(key, clustering)| {
            let place = (row.token, &row.key).cmp(&(Token::of(key), key));
            let within = clustering.is_some_and(|last| {
                if reversed { row.clustering < *last } else { row.clustering > *last }
            });
            place.is_gt() || (place.is_eq() && within)
        });
        after
            && (self.tokens.0..=self.tokens.1).contains(&row.token)
            && self.keys.is_none_or(|keys| keys.contains(&row.key))
            && is_inside(self.slices, &row.clustering)
    }
}

fn memory_row(plan: &SelectPlan, values: &[Option<Bytes>]) -> Result<MemoryRow> {
    let schema = &plan.table.schema;
    let value = |name: &str| {
        let place = schema.columns.iter().position(|column| column.name == name);
        place.and_then(|place| values.get(place)).and_then(Option::as_ref)
    };
    let components: Vec<&[u8]> = plan
        .partition_columns
        .iter()
        .map(|column| value(&column.name).map_or(&[][..], |bytes| &bytes[..]))
        .collect();
    let key = partition_key::encode(&components)
        .map_err(|error| crate::error::Error::Server(error.to_string()))?;
    let mut clustering = Vec::new();
    for column in &plan.clustering_columns {
        let bytes = value(&column.name).map_or(&[][..], |bytes| &bytes[..]);
        push_clustering(column, bytes, &mut clustering)?;
    }
    let timestamp = WriteTimestamp(0);
    let mut row = RowBuilder::new(None, None);
    let mut columns: Vec<_> =
        schema.columns.iter().filter(|column| !column.kind.is_primary_key()).collect();
    columns.sort_by_key(|column| column.id);
    for column in columns {
        if let Some(bytes) = value(&column.name) {
            push_value(&mut row, column, bytes, timestamp, None)?;
        }
    }
    let clustering = Bytes::from(clustering);
    Ok(MemoryRow { token: Token::of(&key), key, clustering, row: row.finish() })
}
