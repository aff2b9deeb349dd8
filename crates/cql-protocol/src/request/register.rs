//! REGISTER: which events a client wants.

use crate::error::{ProtocolError, Result};
use crate::reader::Reader;
use crate::writer::Writer;

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum EventKind {
    TopologyChange,
    StatusChange,
    SchemaChange,
}

impl EventKind {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TopologyChange => "TOPOLOGY_CHANGE",
            Self::StatusChange => "STATUS_CHANGE",
            Self::SchemaChange => "SCHEMA_CHANGE",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::TopologyChange, Self::StatusChange, Self::SchemaChange]
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// Kinds of events wanted from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// As sent; repeats are possible.
    pub events: Vec<EventKind>,
}

impl Register {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let names = reader.string_list()?;
        let events = names
            .iter()
            .map(|name| EventKind::from_name(name).ok_or(ProtocolError::UnknownEventType));
        Ok(Self { events: events.collect::<Result<_>>()? })
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        let names: Vec<&str> = self.events.iter().map(|event| event.name()).collect();
        writer.string_list(&names);
    }
}
