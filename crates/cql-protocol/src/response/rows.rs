//! RESULT/Rows. The cells come encoded already; the columns can be encoded once and kept.

use bytes::{Bytes, BytesMut};
use cql_types::CqlType;

use super::result;
use crate::column_type::{decode_type, encode_type};
use crate::error::{ProtocolError, Result};
use crate::reader::Reader;
use crate::writer::Writer;

pub(super) const GLOBAL_TABLE: i32 = 0x0001;
const HAS_MORE_PAGES: i32 = 0x0002;
const NO_METADATA: i32 = 0x0004;
const KNOWN: i32 = 0x0007;

/// One column as clients are told about it.
#[derive(Debug, Clone, Copy)]
pub struct ColumnSpec<'a> {
    /// Keyspace of the table.
    pub keyspace: &'a str,
    /// Table.
    pub table: &'a str,
    /// Name.
    pub name: &'a str,
    /// Type.
    pub ty: &'a CqlType,
}

/// Column specifications as they go on the wire, made once per prepared statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncodedColumns {
    is_global: bool,
    count: i32,
    specs: Bytes,
}

impl EncodedColumns {
    /// Encodes columns; keyspace and table are told once when they are the same for all.
    pub fn new<'a>(columns: impl ExactSizeIterator<Item = ColumnSpec<'a>> + Clone) -> Self {
        let count = i32::try_from(columns.len()).unwrap_or(i32::MAX);
        let first = columns.clone().next();
        let is_global = first.is_some_and(|first| {
            columns
                .clone()
                .all(|column| column.keyspace == first.keyspace && column.table == first.table)
        });
        let mut specs = BytesMut::new();
        let writer = &mut Writer::new(&mut specs);
        if is_global && let Some(first) = first {
            writer.string(first.keyspace);
            writer.string(first.table);
        }
        for column in columns {
            if !is_global {
                writer.string(column.keyspace);
                writer.string(column.table);
            }
            writer.string(column.name);
            encode_type(writer, column.ty);
        }
        Self { is_global, count, specs: specs.freeze() }
    }

    /// Number of columns.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    pub(super) fn flags(&self) -> i32 {
        if self.is_global { GLOBAL_TABLE } else { 0 }
    }

    pub(super) fn specs(&self) -> &[u8] {
        &self.specs
    }
}

/// Whether the columns are told.
#[derive(Debug, Clone, Copy)]
pub enum RowsMetadata<'a> {
    /// Told.
    Columns(&'a EncodedColumns),
    /// The client asked to leave them out; their number is told all the same.
    Skipped {
        /// Number of columns.
        columns: i32,
    },
}

/// One page of rows.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Columns.
    pub metadata: RowsMetadata<'a>,
    /// Where to go on, when there is more.
    pub paging_state: Option<&'a [u8]>,
    /// Number of rows in `content`.
    pub count: u32,
    /// All cells row by row, each as `[bytes]`.
    pub content: &'a [u8],
}

impl Rows<'_> {
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.int(result::ROWS);
        let (flags, columns) = match self.metadata {
            RowsMetadata::Columns(columns) => (columns.flags(), columns.count()),
            RowsMetadata::Skipped { columns } => (NO_METADATA, columns),
        };
        let more = if self.paging_state.is_some() { HAS_MORE_PAGES } else { 0 };
        writer.int(flags | more);
        writer.int(columns);
        if let Some(state) = self.paging_state {
            writer.bytes(Some(state));
        }
        if let RowsMetadata::Columns(columns) = self.metadata {
            writer.raw(columns.specs());
        }
        writer.int(i32::try_from(self.count).unwrap_or(i32::MAX));
        writer.raw(self.content);
    }
}

/// A column as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedColumn {
    /// Keyspace of the table.
    pub keyspace: String,
    /// Table.
    pub table: String,
    /// Name.
    pub name: String,
    /// Type.
    pub ty: CqlType,
}

pub(super) fn decode_columns(
    reader: &mut Reader,
    flags: i32,
    count: usize,
) -> Result<Vec<ReceivedColumn>> {
    let global = if flags & GLOBAL_TABLE != 0 {
        Some((reader.string()?.to_string(), reader.string()?.to_string()))
    } else {
        None
    };
    let mut columns = Vec::new();
    for _ in 0..count {
        let (keyspace, table) = match &global {
            Some((keyspace, table)) => (keyspace.clone(), table.clone()),
            None => (reader.string()?.to_string(), reader.string()?.to_string()),
        };
        let name = reader.string()?.to_string();
        columns.push(ReceivedColumn { keyspace, table, name, ty: decode_type(reader)? });
    }
    Ok(columns)
}

/// A page of rows as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedRows {
    /// Columns; empty when they were left out.
    pub columns: Vec<ReceivedColumn>,
    /// Number of columns.
    pub column_count: usize,
    /// Where to go on, when there is more.
    pub paging_state: Option<Bytes>,
    /// Cells of each row; `None` is null.
    pub rows: Vec<Vec<Option<Bytes>>>,
}

impl ReceivedRows {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let flags = reader.int()?;
        if flags & !KNOWN != 0 {
            return Err(ProtocolError::UnknownFlags {
                flags: flags.cast_unsigned(),
                place: "rows metadata",
            });
        }
        let column_count = reader.count(0)?;
        let paging_state = if flags & HAS_MORE_PAGES != 0 { reader.bytes()? } else { None };
        let columns = if flags & NO_METADATA != 0 {
            Vec::new()
        } else {
            decode_columns(reader, flags, column_count)?
        };
        let row_bytes_min = column_count.saturating_mul(4);
        let row_count = reader.count(row_bytes_min)?;
        // a result without columns says nothing about its rows: reading them would cost time
        // without a bound
        if column_count == 0 && row_count > 0 {
            return Err(ProtocolError::InvalidLength(i64::try_from(row_count).unwrap_or(i64::MAX)));
        }
        let mut rows = Vec::new();
        for _ in 0..row_count {
            rows.push((0..column_count).map(|_| reader.bytes()).collect::<Result<_>>()?);
        }
        Ok(Self { columns, column_count, paging_state, rows })
    }
}
