//! EXECUTE: a prepared statement.

use bytes::Bytes;

use crate::error::Result;
use crate::query_parameters::QueryParameters;
use crate::reader::Reader;
use crate::writer::Writer;

/// A prepared statement with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Execute {
    /// Id from RESULT/Prepared.
    pub id: Bytes,
    /// Parameters.
    pub parameters: QueryParameters,
}

impl Execute {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        Ok(Self { id: reader.short_bytes()?, parameters: QueryParameters::decode(reader)? })
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.short_bytes(&self.id);
        self.parameters.encode(writer);
    }
}
