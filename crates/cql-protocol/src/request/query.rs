//! QUERY: a statement as text.

use crate::error::Result;
use crate::query_parameters::QueryParameters;
use crate::reader::Reader;
use crate::text::Text;
use crate::writer::Writer;

/// A statement with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// CQL text.
    pub statement: Text,
    /// Parameters.
    pub parameters: QueryParameters,
}

impl Query {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        Ok(Self { statement: reader.long_string()?, parameters: QueryParameters::decode(reader)? })
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.long_string(&self.statement);
        self.parameters.encode(writer);
    }
}
