//! Responses: one file per opcode, both directions.

mod error;
mod event;
mod prepared;
mod received;
mod result;
mod rows;
mod supported;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

pub use error::{ErrorBody, ErrorDetail, WriteType};
pub use event::{ChangeKind, ChangeTarget, Event, SchemaChange};
pub use prepared::{Prepared, ReceivedPrepared};
pub use received::{Received, ReceivedBody};
pub use rows::{ColumnSpec, EncodedColumns, ReceivedColumn, ReceivedRows, Rows, RowsMetadata};

use crate::compression::Compression;
use crate::frame::{FrameFlags, FrameHeader, HEADER_BYTES, Opcode, VERSION};
use crate::writer::Writer;

/// What surrounds a response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Envelope<'a> {
    /// The request's stream; -1 for events.
    pub stream: i16,
    /// Tracing session, for a traced request.
    pub tracing_id: Option<Uuid>,
    /// Warnings.
    pub warnings: &'a [String],
    /// Custom payload.
    pub custom_payload: &'a [(String, Option<Bytes>)],
    /// Compression agreed in STARTUP.
    pub compression: Option<Compression>,
}

/// Compressing less than this costs more than it saves; clients read the header's flag.
const COMPRESS_BYTES_MIN: usize = 512;

/// A response of any kind, borrowing what it tells.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each variant is its type or the specification's own name")]
pub enum Response<'a> {
    Ready,
    Authenticate { class: &'a str },
    AuthChallenge { token: Option<&'a [u8]> },
    AuthSuccess { token: Option<&'a [u8]> },
    Supported(&'a [(&'a str, &'a [&'a str])]),
    Void,
    Rows(Rows<'a>),
    SetKeyspace(&'a str),
    Prepared(Prepared<'a>),
    SchemaChange(&'a SchemaChange),
    Event(&'a Event),
    Error(&'a ErrorBody),
}

impl Response<'_> {
    /// Its opcode.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        match self {
            Self::Ready => Opcode::Ready,
            Self::Authenticate { .. } => Opcode::Authenticate,
            Self::AuthChallenge { .. } => Opcode::AuthChallenge,
            Self::AuthSuccess { .. } => Opcode::AuthSuccess,
            Self::Supported(_) => Opcode::Supported,
            Self::Void
            | Self::Rows(_)
            | Self::SetKeyspace(_)
            | Self::Prepared(_)
            | Self::SchemaChange(_) => Opcode::Result,
            Self::Event(_) => Opcode::Event,
            Self::Error(_) => Opcode::Error,
        }
    }

    fn encode_body(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Ready => {}
            Self::Authenticate { class } => writer.string(class),
            Self::AuthChallenge { token } | Self::AuthSuccess { token } => writer.bytes(*token),
            Self::Supported(options) => supported::encode(options, writer),
            Self::Void => writer.int(result::VOID),
            Self::Rows(rows) => rows.encode(writer),
            Self::SetKeyspace(keyspace) => {
                writer.int(result::SET_KEYSPACE);
                writer.string(keyspace);
            }
            Self::Prepared(prepared) => prepared.encode(writer),
            Self::SchemaChange(change) => {
                writer.int(result::SCHEMA_CHANGE);
                change.encode(writer);
            }
            Self::Event(event) => event.encode(writer),
            Self::Error(error) => error.encode(writer),
        }
    }
}

/// Appends one response frame to `out`, header and all, without a buffer in between (but for
/// compression).
pub fn encode_response(out: &mut BytesMut, envelope: &Envelope<'_>, response: &Response<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let body_start = out.len();
    let mut flags = encode_prefix(envelope, &mut Writer::new(out));
    response.encode_body(&mut Writer::new(out));

    let body_bytes = out.len().saturating_sub(body_start);
    if let Some(compression) = envelope.compression
        && body_bytes >= COMPRESS_BYTES_MIN
    {
        let body = out.split_off(body_start);
        if compression.compress(&body, out) {
            flags.0 |= FrameFlags::COMPRESSED;
        } else {
            out.unsplit(body);
        }
    }
    let header = FrameHeader {
        version: VERSION,
        is_response: true,
        flags,
        stream: envelope.stream,
        opcode: response.opcode().code(),
        body_bytes: u32::try_from(out.len().saturating_sub(body_start)).unwrap_or(u32::MAX),
    };
    if let Some(place) = out.get_mut(start..body_start) {
        place.copy_from_slice(&header.encode());
    }
}

fn encode_prefix(envelope: &Envelope<'_>, writer: &mut Writer<'_>) -> FrameFlags {
    let mut flags = FrameFlags::default();
    if let Some(id) = envelope.tracing_id {
        flags.0 |= FrameFlags::TRACING;
        writer.uuid(id);
    }
    if !envelope.warnings.is_empty() {
        flags.0 |= FrameFlags::WARNING;
        writer.string_list(envelope.warnings);
    }
    if !envelope.custom_payload.is_empty() {
        flags.0 |= FrameFlags::CUSTOM_PAYLOAD;
        writer.short_length(envelope.custom_payload.len());
        for (key, value) in envelope.custom_payload {
            writer.string(key);
            writer.bytes(value.as_deref());
        }
    }
    flags
}
