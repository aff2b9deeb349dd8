//! BATCH.

use bytes::Bytes;

use crate::consistency::Consistency;
use crate::error::{ProtocolError, Result};
use crate::query_parameters::{Values, check_serial};
use crate::reader::Reader;
use crate::text::Text;
use crate::writer::Writer;

const SERIAL_CONSISTENCY: u8 = 0x10;
const DEFAULT_TIMESTAMP: u8 = 0x20;
/// Named values cannot work in a batch (CASSANDRA-10246): the flag is refused, as Cassandra does.
const KNOWN: u8 = SERIAL_CONSISTENCY | DEFAULT_TIMESTAMP;

/// Kinds of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum BatchKind {
    Logged,
    Unlogged,
    Counter,
}

/// A text or a prepared id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// CQL text.
    Text(Text),
    /// Id from RESULT/Prepared.
    Prepared(Bytes),
}

/// One statement of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatement {
    /// What to run.
    pub statement: Statement,
    /// Its bind values; always positional.
    pub values: Values,
}

/// Several modifications in one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Kind.
    pub kind: BatchKind,
    /// Statements in order.
    pub statements: Vec<BatchStatement>,
    /// Consistency level.
    pub consistency: Consistency,
    /// SERIAL or LOCAL_SERIAL.
    pub serial_consistency: Option<Consistency>,
    /// Write timestamp in microseconds.
    pub default_timestamp: Option<i64>,
}

impl Batch {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let kind = match reader.byte()? {
            0 => BatchKind::Logged,
            1 => BatchKind::Unlogged,
            2 => BatchKind::Counter,
            code => {
                return Err(ProtocolError::UnknownCode { what: "batch type", code: code.into() });
            }
        };
        let count = reader.short_count(5)?;
        let mut statements = Vec::with_capacity(count);
        for _ in 0..count {
            statements.push(BatchStatement::decode(reader)?);
        }
        let consistency = reader.consistency()?;
        let flags = reader.byte()?;
        if flags & !KNOWN != 0 {
            return Err(ProtocolError::UnknownFlags {
                flags: u32::from(flags & !KNOWN),
                place: "batch",
            });
        }
        let has = |bit| flags & bit != 0;
        Ok(Self {
            kind,
            statements,
            consistency,
            serial_consistency: if has(SERIAL_CONSISTENCY) {
                Some(check_serial(reader.consistency()?)?)
            } else {
                None
            },
            default_timestamp: if has(DEFAULT_TIMESTAMP) { Some(reader.long()?) } else { None },
        })
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.byte(match self.kind {
            BatchKind::Logged => 0,
            BatchKind::Unlogged => 1,
            BatchKind::Counter => 2,
        });
        writer.short_length(self.statements.len());
        for statement in &self.statements {
            statement.encode(writer);
        }
        writer.consistency(self.consistency);
        let serial = if self.serial_consistency.is_some() { SERIAL_CONSISTENCY } else { 0 };
        let timestamp = if self.default_timestamp.is_some() { DEFAULT_TIMESTAMP } else { 0 };
        writer.byte(serial | timestamp);
        if let Some(serial) = self.serial_consistency {
            writer.consistency(serial);
        }
        if let Some(timestamp) = self.default_timestamp {
            writer.long(timestamp);
        }
    }
}

impl BatchStatement {
    fn decode(reader: &mut Reader) -> Result<Self> {
        let statement = match reader.byte()? {
            0 => Statement::Text(reader.long_string()?),
            1 => Statement::Prepared(reader.short_bytes()?),
            code => {
                return Err(ProtocolError::UnknownCode {
                    what: "batch statement kind",
                    code: code.into(),
                });
            }
        };
        Ok(Self { statement, values: Values::decode(reader, false)? })
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        match &self.statement {
            Statement::Text(text) => {
                writer.byte(0);
                writer.long_string(text);
            }
            Statement::Prepared(id) => {
                writer.byte(1);
                writer.short_bytes(id);
            }
        }
        self.values.encode(writer);
    }
}
