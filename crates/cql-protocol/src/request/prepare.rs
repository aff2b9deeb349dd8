//! PREPARE.

use crate::error::Result;
use crate::reader::Reader;
use crate::text::Text;
use crate::writer::Writer;

/// A statement to prepare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// CQL text.
    pub statement: Text,
}

impl Prepare {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        Ok(Self { statement: reader.long_string()? })
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.long_string(&self.statement);
    }
}
