//! EVENT, and the schema change that RESULT shares with it.

use std::net::SocketAddr;

use crate::error::{ProtocolError, Result};
use crate::reader::Reader;
use crate::request::EventKind;
use crate::writer::Writer;

/// What happened to a schema object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum ChangeKind {
    Created,
    Updated,
    Dropped,
}

impl ChangeKind {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Updated => "UPDATED",
            Self::Dropped => "DROPPED",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Created, Self::Updated, Self::Dropped].into_iter().find(|kind| kind.name() == name)
    }
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum ChangeTarget {
    Keyspace,
    Table(String),
    Type(String),
    Function { name: String, argument_types: Vec<String> },
    Aggregate { name: String, argument_types: Vec<String> },
}

/// A change of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// What happened.
    pub kind: ChangeKind,
    /// Keyspace.
    pub keyspace: String,
    /// To what.
    pub target: ChangeTarget,
}

impl SchemaChange {
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.string(self.kind.name());
        let (target, name, argument_types) = match &self.target {
            ChangeTarget::Keyspace => ("KEYSPACE", None, None),
            ChangeTarget::Table(name) => ("TABLE", Some(name), None),
            ChangeTarget::Type(name) => ("TYPE", Some(name), None),
            ChangeTarget::Function { name, argument_types } => {
                ("FUNCTION", Some(name), Some(argument_types))
            }
            ChangeTarget::Aggregate { name, argument_types } => {
                ("AGGREGATE", Some(name), Some(argument_types))
            }
        };
        writer.string(target);
        writer.string(&self.keyspace);
        if let Some(name) = name {
            writer.string(name);
        }
        if let Some(argument_types) = argument_types {
            writer.string_list(argument_types);
        }
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let unknown = |what| ProtocolError::UnknownCode { what, code: -1 };
        let kind = ChangeKind::from_name(&reader.string()?).ok_or(unknown("schema change kind"))?;
        let target = reader.string()?;
        let keyspace = reader.string()?.to_string();
        let target = match target.as_str() {
            "KEYSPACE" => ChangeTarget::Keyspace,
            "TABLE" => ChangeTarget::Table(reader.string()?.to_string()),
            "TYPE" => ChangeTarget::Type(reader.string()?.to_string()),
            "FUNCTION" => {
                let name = reader.string()?.to_string();
                ChangeTarget::Function { name, argument_types: argument_types(reader)? }
            }
            "AGGREGATE" => {
                let name = reader.string()?.to_string();
                ChangeTarget::Aggregate { name, argument_types: argument_types(reader)? }
            }
            _ => return Err(unknown("schema change target")),
        };
        Ok(Self { kind, keyspace, target })
    }
}

fn argument_types(reader: &mut Reader) -> Result<Vec<String>> {
    Ok(reader.string_list()?.iter().map(ToString::to_string).collect())
}

/// Something registered clients are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node joined, left or moved.
    TopologyChange {
        /// `NEW_NODE`, `REMOVED_NODE` or `MOVED_NODE`.
        change: String,
        /// The node.
        node: SocketAddr,
    },
    /// A node went up or down.
    StatusChange {
        /// `UP` or `DOWN`.
        change: String,
        /// The node.
        node: SocketAddr,
    },
    /// The schema changed.
    SchemaChange(SchemaChange),
}

impl Event {
    /// The kind to register for.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::TopologyChange { .. } => EventKind::TopologyChange,
            Self::StatusChange { .. } => EventKind::StatusChange,
            Self::SchemaChange(_) => EventKind::SchemaChange,
        }
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.string(self.kind().name());
        match self {
            Self::TopologyChange { change, node } | Self::StatusChange { change, node } => {
                writer.string(change);
                writer.inet(*node);
            }
            Self::SchemaChange(change) => change.encode(writer),
        }
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let kind = reader.string()?;
        Ok(match kind.as_str() {
            "TOPOLOGY_CHANGE" => {
                Self::TopologyChange { change: reader.string()?.to_string(), node: reader.inet()? }
            }
            "STATUS_CHANGE" => {
                Self::StatusChange { change: reader.string()?.to_string(), node: reader.inet()? }
            }
            "SCHEMA_CHANGE" => Self::SchemaChange(SchemaChange::decode(reader)?),
            _ => return Err(ProtocolError::UnknownEventType),
        })
    }
}
