//! The `<query_parameters>` that QUERY and EXECUTE share.

use bytes::Bytes;
use cql_types::BoundValue;

use crate::consistency::Consistency;
use crate::error::{ProtocolError, Result};
use crate::reader::Reader;
use crate::text::Text;
use crate::writer::Writer;

const VALUES: u8 = 0x01;
const SKIP_METADATA: u8 = 0x02;
const PAGE_SIZE: u8 = 0x04;
const PAGING_STATE: u8 = 0x08;
const SERIAL_CONSISTENCY: u8 = 0x10;
const DEFAULT_TIMESTAMP: u8 = 0x20;
const NAMES: u8 = 0x40;
const KNOWN: u8 = 0x7f;

/// Values of the bind markers.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// In the order of the markers.
    Positional(Vec<BoundValue>),
    /// By the markers' names.
    Named(Vec<(Text, BoundValue)>),
}

impl Values {
    /// No values.
    pub const NONE: Self = Self::Positional(Vec::new());

    pub(crate) fn decode(reader: &mut Reader, named: bool) -> Result<Self> {
        if named {
            let count = reader.short_count(6)?;
            let values = (0..count).map(|_| Ok((reader.string()?, reader.value()?)));
            return Ok(Self::Named(values.collect::<Result<_>>()?));
        }
        let count = reader.short_count(4)?;
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(reader.value()?);
        }
        Ok(Self::Positional(values))
    }

    pub(crate) fn encode(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Positional(values) => {
                writer.short_length(values.len());
                for value in values {
                    writer.value(value);
                }
            }
            Self::Named(values) => {
                writer.short_length(values.len());
                for (name, value) in values {
                    writer.string(name);
                    writer.value(value);
                }
            }
        }
    }

    fn flags(&self) -> u8 {
        match self {
            Self::Positional(values) if values.is_empty() => 0,
            Self::Positional(_) => VALUES,
            Self::Named(_) => VALUES | NAMES,
        }
    }
}

/// What accompanies a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryParameters {
    /// Consistency level.
    pub consistency: Consistency,
    /// Bind values.
    pub values: Values,
    /// The client knows the result's columns: leave them out.
    pub skip_metadata: bool,
    /// Rows per page wanted.
    pub page_size: Option<i32>,
    /// Where the page before ended.
    pub paging_state: Option<Bytes>,
    /// SERIAL or LOCAL_SERIAL, for conditional updates.
    pub serial_consistency: Option<Consistency>,
    /// Write timestamp in microseconds.
    pub default_timestamp: Option<i64>,
}

impl Default for QueryParameters {
    fn default() -> Self {
        Self {
            consistency: Consistency::One,
            values: Values::NONE,
            skip_metadata: false,
            page_size: None,
            paging_state: None,
            serial_consistency: None,
            default_timestamp: None,
        }
    }
}

pub(crate) fn check_serial(consistency: Consistency) -> Result<Consistency> {
    if consistency.is_serial() {
        Ok(consistency)
    } else {
        Err(ProtocolError::UnknownCode {
            what: "serial consistency level",
            code: i64::from(consistency.code()),
        })
    }
}

impl QueryParameters {
    pub(crate) fn decode(reader: &mut Reader) -> Result<Self> {
        let consistency = reader.consistency()?;
        let flags = reader.byte()?;
        if flags & !KNOWN != 0 {
            return Err(ProtocolError::UnknownFlags {
                flags: u32::from(flags & !KNOWN),
                place: "query parameters",
            });
        }
        let has = |bit| flags & bit != 0;
        if has(NAMES) && !has(VALUES) {
            return Err(ProtocolError::UnknownFlags {
                flags: u32::from(NAMES),
                place: "query parameters without values",
            });
        }
        Ok(Self {
            consistency,
            values: if has(VALUES) { Values::decode(reader, has(NAMES))? } else { Values::NONE },
            skip_metadata: has(SKIP_METADATA),
            page_size: if has(PAGE_SIZE) { Some(reader.int()?) } else { None },
            paging_state: if has(PAGING_STATE) { reader.bytes()? } else { None },
            serial_consistency: if has(SERIAL_CONSISTENCY) {
                Some(check_serial(reader.consistency()?)?)
            } else {
                None
            },
            default_timestamp: if has(DEFAULT_TIMESTAMP) { Some(reader.long()?) } else { None },
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer<'_>) {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        writer.consistency(self.consistency);
        writer.byte(
            self.values.flags()
                | bit(self.skip_metadata, SKIP_METADATA)
                | bit(self.page_size.is_some(), PAGE_SIZE)
                | bit(self.paging_state.is_some(), PAGING_STATE)
                | bit(self.serial_consistency.is_some(), SERIAL_CONSISTENCY)
                | bit(self.default_timestamp.is_some(), DEFAULT_TIMESTAMP),
        );
        if self.values.flags() != 0 {
            self.values.encode(writer);
        }
        if let Some(page_size) = self.page_size {
            writer.int(page_size);
        }
        if let Some(state) = &self.paging_state {
            writer.bytes(Some(state));
        }
        if let Some(serial) = self.serial_consistency {
            writer.consistency(serial);
        }
        if let Some(timestamp) = self.default_timestamp {
            writer.long(timestamp);
        }
    }
}
