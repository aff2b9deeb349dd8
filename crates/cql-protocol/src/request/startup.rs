//! STARTUP: the first request of a connection.

use crate::error::{ProtocolError, Result};
use crate::reader::Reader;
use crate::text::Text;
use crate::writer::Writer;

/// Options of a connection. Keys are compared without letter case; unknown ones are kept and
/// ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// As sent.
    pub options: Vec<(Text, Text)>,
}

impl Startup {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let startup = Self { options: reader.string_map()? };
        if startup.option("CQL_VERSION").is_none() {
            return Err(ProtocolError::MissingOption("CQL_VERSION"));
        }
        Ok(startup)
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.string_map(self.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}
