//! Encoded rows, read without copying.
//!
//! ```text
//! row      flags u8
//!          [liveness: timestamp i64 [ttl u32, expires_at u32]]
//!          [row deletion: marked_at i64, local_deletion_time u32]
//!          cell*                                 sorted by column, complex deletion first, path
//! cell     column varint, flags u8
//!          [timestamp i64]                       absent when it is the liveness timestamp
//!          [ttl u32, expires_at u32]             expiring
//!          [local_deletion_time u32]             tombstone or complex deletion
//!          [path length varint, path]
//!          [value length varint, value]          absent when empty
//! ```
//! Fixed numbers are big endian; timestamps are microseconds, the other times seconds since 1970.

use crate::varint::{read, read_bytes, take_array};
use crate::{ColumnId, DeletionTime, Error, WriteTimestamp};

pub(crate) mod row_flag {
    pub(crate) const LIVENESS: u8 = 0x01;
    pub(crate) const LIVENESS_EXPIRES: u8 = 0x02;
    pub(crate) const DELETION: u8 = 0x04;
    /// Nothing in the row expires or deletes: it reads as it stands.
    pub(crate) const PLAIN: u8 = 0x08;
    pub(crate) const ALL: u8 = 0x0f;
}

pub(crate) mod cell_flag {
    pub(crate) const LIVENESS_TIMESTAMP: u8 = 0x01;
    pub(crate) const EXPIRING: u8 = 0x02;
    pub(crate) const TOMBSTONE: u8 = 0x04;
    pub(crate) const COMPLEX_DELETION: u8 = 0x08;
    pub(crate) const PATH: u8 = 0x10;
    pub(crate) const VALUE: u8 = 0x20;
    pub(crate) const ALL: u8 = 0x3f;
}

/// Time to live: `ttl` as asked for, and the second at which the content is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Seconds to live, as asked for.
    pub ttl: u32,
    /// First second since 1970 in which the content is no longer there.
    pub expires_at: u32,
}

impl Expiry {
    /// Whether the content is gone at `now_secs`.
    #[must_use]
    pub const fn is_expired(self, now_secs: u32) -> bool {
        self.expires_at <= now_secs
    }
}

/// What an INSERT leaves besides its cells: the row exists even with all other columns null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// When it was written.
    pub timestamp: WriteTimestamp,
    /// When it ends.
    pub expiry: Option<Expiry>,
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellContent<'a> {
    /// A value, for ever or until it expires.
    Live {
        /// Serialized value.
        value: &'a [u8],
        /// When it ends.
        expiry: Option<Expiry>,
    },
    /// The cell was deleted.
    Tombstone {
        /// Second since 1970 in which the deletion was made.
        local_deletion_time: u32,
    },
    /// All cells of this multi-cell column written at or before the cell's timestamp are deleted.
    /// Has an empty path.
    ComplexDeletion {
        /// Second since 1970 in which the deletion was made.
        local_deletion_time: u32,
    },
}

/// One cell of an encoded row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellRef<'a> {
    /// The column.
    pub column: ColumnId,
    /// Place within a multi-cell column; empty for any other column.
    ///
    /// Set element or map key as ordered bytes, list position as 16 bytes that sort as the
    /// position does, field of a user type as its index (2 bytes, big endian).
    pub path: &'a [u8],
    /// When it was written.
    pub timestamp: WriteTimestamp,
    /// Value or tombstone.
    pub content: CellContent<'a>,
}

impl<'a> CellRef<'a> {
    /// A value that does not expire.
    #[must_use]
    pub const fn live(column: ColumnId, timestamp: WriteTimestamp, value: &'a [u8]) -> Self {
        Self { column, path: &[], timestamp, content: CellContent::Live { value, expiry: None } }
    }

    /// A deleted cell.
    #[must_use]
    pub const fn tombstone(column: ColumnId, timestamp: WriteTimestamp, now_secs: u32) -> Self {
        let content = CellContent::Tombstone { local_deletion_time: now_secs };
        Self { column, path: &[], timestamp, content }
    }

    /// The deletion of everything a multi-cell column holds.
    #[must_use]
    pub const fn complex_deletion(column: ColumnId, deletion: DeletionTime) -> Self {
        let content =
            CellContent::ComplexDeletion { local_deletion_time: deletion.local_deletion_time };
        Self { column, path: &[], timestamp: deletion.marked_at, content }
    }

    /// The same cell at a place within a multi-cell column.
    #[must_use]
    pub const fn at(mut self, path: &'a [u8]) -> Self {
        self.path = path;
        self
    }

    /// The same cell with a time to live; a tombstone stays as it is.
    #[must_use]
    pub const fn expiring(mut self, expiry: Option<Expiry>) -> Self {
        if let CellContent::Live { value, .. } = self.content {
            self.content = CellContent::Live { value, expiry };
        }
        self
    }

    /// The value, expired or not; `None` for a tombstone.
    #[must_use]
    pub const fn value(&self) -> Option<&'a [u8]> {
        match self.content {
            CellContent::Live { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The time to live of a value that has one.
    #[must_use]
    pub const fn expiry(&self) -> Option<Expiry> {
        match self.content {
            CellContent::Live { expiry, .. } => expiry,
            _ => None,
        }
    }

    /// Whether the cell shows a value at `now_secs`.
    #[must_use]
    pub fn is_live(&self, now_secs: u32) -> bool {
        match self.content {
            CellContent::Live { expiry, .. } => {
                expiry.is_none_or(|expiry| !expiry.is_expired(now_secs))
            }
            _ => false,
        }
    }

    /// The deletion, if the cell is a complex deletion.
    #[must_use]
    pub const fn as_complex_deletion(&self) -> Option<DeletionTime> {
        match self.content {
            CellContent::ComplexDeletion { local_deletion_time } => {
                Some(DeletionTime { marked_at: self.timestamp, local_deletion_time })
            }
            _ => None,
        }
    }
}

/// An encoded row whose structure has been checked.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    bytes: &'a [u8],
    flags: u8,
    liveness: Option<Liveness>,
    deletion: Option<DeletionTime>,
    cells: &'a [u8],
}

impl<'a> RowRef<'a> {
    /// Checks the structure of the whole row.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let row = Self::parse_header(bytes)?;
        let mut cells = row.cells();
        while !cells.rest.is_empty() {
            cells.read_cell()?;
        }
        Ok(row)
    }

    /// As [`RowRef::parse`], and appends the cells to `out`.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse_cells(bytes: &'a [u8], out: &mut Vec<CellRef<'a>>) -> Result<Self, Error> {
        let row = Self::parse_header(bytes)?;
        let mut cells = row.cells();
        while !cells.rest.is_empty() {
            out.push(cells.read_cell()?);
        }
        Ok(row)
    }

    /// Reads what stands before the cells; these are not looked at.
    pub(crate) fn parse_header(bytes: &'a [u8]) -> Result<Self, Error> {
        let (&flags, mut rest) = bytes.split_first().ok_or(Error::Malformed("row"))?;
        if flags & !row_flag::ALL != 0 {
            return Err(Error::Malformed("row flags"));
        }
        let mut liveness = None;
        if flags & row_flag::LIVENESS != 0 {
            let timestamp = read_timestamp(&mut rest)?;
            let expiry = if flags & row_flag::LIVENESS_EXPIRES != 0 {
                Some(read_expiry(&mut rest)?)
            } else {
                None
            };
            liveness = Some(Liveness { timestamp, expiry });
        }
        let deletion = if flags & row_flag::DELETION != 0 {
            Some(DeletionTime::read(&mut rest)?)
        } else {
            None
        };
        Ok(Self { bytes, flags, liveness, deletion, cells: rest })
    }

    /// The bytes this was parsed from.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The row's own liveness.
    #[must_use]
    pub const fn liveness(&self) -> Option<Liveness> {
        self.liveness
    }

    /// The row deletion.
    #[must_use]
    pub const fn deletion(&self) -> Option<DeletionTime> {
        self.deletion
    }

    /// Whether nothing in it expires or deletes: it reads as it stands.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.flags & row_flag::PLAIN != 0
    }

    /// Whether it holds nothing at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.liveness.is_none() && self.deletion.is_none() && self.cells.is_empty()
    }

    /// The cells in order.
    #[must_use]
    pub fn cells(&self) -> Cells<'a> {
        Cells { rest: self.cells, liveness_timestamp: self.liveness.map(|live| live.timestamp) }
    }

    /// The cells of one column, in order of their paths.
    pub fn column(&self, column: ColumnId) -> impl Iterator<Item = CellRef<'a>> + use<'a> {
        self.cells()
            .skip_while(move |cell| cell.column < column)
            .take_while(move |cell| cell.column == column)
    }

    /// Smallest and largest timestamp of anything in the row, deletions included; `None` when empty.
    #[must_use]
    pub fn timestamp_range(&self) -> Option<(WriteTimestamp, WriteTimestamp)> {
        self.liveness
            .map(|liveness| liveness.timestamp)
            .into_iter()
            .chain(self.deletion.map(|deletion| deletion.marked_at))
            .chain(self.cells().map(|cell| cell.timestamp))
            .fold(None, |range, timestamp| {
                let (min, max) = range.unwrap_or((timestamp, timestamp));
                Some((min.min(timestamp), max.max(timestamp)))
            })
    }
}

/// Iterator over the cells of a row.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    rest: &'a [u8],
    liveness_timestamp: Option<WriteTimestamp>,
}

impl<'a> Cells<'a> {
    #[inline]
    fn read_cell(&mut self) -> Result<CellRef<'a>, Error> {
        let rest = &mut self.rest;
        let column = ColumnId(read(rest)?);
        let [flags] = take_array(rest)?;
        if flags & !cell_flag::ALL != 0 {
            return Err(Error::Malformed("cell flags"));
        }
        let timestamp = if flags & cell_flag::LIVENESS_TIMESTAMP != 0 {
            self.liveness_timestamp.ok_or(Error::Malformed("cell timestamp"))?
        } else {
            read_timestamp(rest)?
        };
        let mut expiry = None;
        let mut deleted = None;
        match flags & (cell_flag::EXPIRING | cell_flag::TOMBSTONE | cell_flag::COMPLEX_DELETION) {
            0 => {}
            cell_flag::EXPIRING => expiry = Some(read_expiry(rest)?),
            _ if flags & cell_flag::EXPIRING != 0 => return Err(Error::Malformed("cell flags")),
            _ => deleted = Some(u32::from_be_bytes(take_array(rest)?)),
        }
        let path = if flags & cell_flag::PATH != 0 { read_bytes(rest)? } else { &[] };
        let value = if flags & cell_flag::VALUE != 0 { read_bytes(rest)? } else { &[] };
        let content = match deleted {
            None => CellContent::Live { value, expiry },
            Some(_) if !value.is_empty() => return Err(Error::Malformed("tombstone")),
            Some(local_deletion_time) if flags & cell_flag::TOMBSTONE != 0 => {
                CellContent::Tombstone { local_deletion_time }
            }
            Some(_) if !path.is_empty() => return Err(Error::Malformed("complex deletion")),
            Some(local_deletion_time) => CellContent::ComplexDeletion { local_deletion_time },
        };
        Ok(CellRef { column, path, timestamp, content })
    }
}

impl<'a> Iterator for Cells<'a> {
    type Item = CellRef<'a>;

    /// The next cell. The structure was checked by [`RowRef::parse`], so an error cannot come here;
    /// it would end the iteration.
    #[inline]
    fn next(&mut self) -> Option<CellRef<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        self.read_cell().ok()
    }
}

#[inline]
fn read_timestamp(input: &mut &[u8]) -> Result<WriteTimestamp, Error> {
    Ok(WriteTimestamp(i64::from_be_bytes(take_array(input)?)))
}

fn read_expiry(input: &mut &[u8]) -> Result<Expiry, Error> {
    let ttl = u32::from_be_bytes(take_array(input)?);
    let expires_at = u32::from_be_bytes(take_array(input)?);
    Ok(Expiry { ttl, expires_at })
}
