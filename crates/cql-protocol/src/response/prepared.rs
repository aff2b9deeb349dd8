//! RESULT/Prepared, with the partition-key indexes of version 4.

use bytes::Bytes;

use super::result;
use super::rows::{EncodedColumns, ReceivedColumn, decode_columns};
use crate::error::Result;
use crate::reader::Reader;
use crate::writer::Writer;

const NO_METADATA: i32 = 0x0004;

/// A statement that was prepared.
#[derive(Debug, Clone, Copy)]
pub struct Prepared<'a> {
    /// Its id.
    pub id: &'a [u8],
    /// Bind markers.
    pub bind: &'a EncodedColumns,
    /// For each component of the partition key, the marker that holds it.
    pub partition_key_indexes: &'a [u16],
    /// Result columns; `None` when the statement returns no rows.
    pub result: Option<&'a EncodedColumns>,
}

impl Prepared<'_> {
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.int(result::PREPARED);
        writer.short_bytes(self.id);
        writer.int(self.bind.flags());
        writer.int(self.bind.count());
        writer.length(self.partition_key_indexes.len());
        for &index in self.partition_key_indexes {
            writer.short(index);
        }
        writer.raw(self.bind.specs());
        match self.result {
            Some(columns) => {
                writer.int(columns.flags());
                writer.int(columns.count());
                writer.raw(columns.specs());
            }
            None => {
                writer.int(NO_METADATA);
                writer.int(0);
            }
        }
    }
}

/// A prepared statement as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPrepared {
    /// Its id.
    pub id: Bytes,
    /// Bind markers.
    pub bind: Vec<ReceivedColumn>,
    /// For each component of the partition key, the marker that holds it.
    pub partition_key_indexes: Vec<u16>,
    /// Result columns.
    pub result: Vec<ReceivedColumn>,
}

impl ReceivedPrepared {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let id = reader.short_bytes()?;
        let flags = reader.int()?;
        let count = reader.count(0)?;
        let keys = reader.count(2)?;
        let partition_key_indexes = (0..keys).map(|_| reader.short()).collect::<Result<_>>()?;
        let bind = decode_columns(reader, flags, count)?;
        let flags = reader.int()?;
        let count = reader.count(0)?;
        let result = if flags & NO_METADATA != 0 {
            Vec::new()
        } else {
            decode_columns(reader, flags, count)?
        };
        Ok(Self { id, bind, partition_key_indexes, result })
    }
}
