//! Responses as a client reads them.

use bytes::Bytes;
use uuid::Uuid;

use super::error::ErrorBody;
use super::event::{Event, SchemaChange};
use super::prepared::ReceivedPrepared;
use super::result;
use super::rows::ReceivedRows;
use crate::compression::Compression;
use crate::error::{ProtocolError, Result};
use crate::frame::{Frame, FrameFlags, Opcode};
use crate::reader::Reader;

/// The message of a response.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is its type or the specification's own name")]
pub enum ReceivedBody {
    Ready,
    Authenticate { class: String },
    AuthChallenge { token: Option<Bytes> },
    AuthSuccess { token: Option<Bytes> },
    Supported(Vec<(String, Vec<String>)>),
    Void,
    Rows(ReceivedRows),
    SetKeyspace(String),
    Prepared(ReceivedPrepared),
    SchemaChange(SchemaChange),
    Event(Event),
    Error(ErrorBody),
}

/// A response with what surrounds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Stream of the request, -1 for events.
    pub stream: i16,
    /// Tracing session.
    pub tracing_id: Option<Uuid>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Custom payload.
    pub custom_payload: Vec<(String, Option<Bytes>)>,
    /// The message.
    pub body: ReceivedBody,
}

impl Received {
    /// Reads a response frame.
    ///
    /// # Errors
    /// Any [`ProtocolError`].
    pub fn decode(
        frame: &Frame,
        compression: Option<Compression>,
        body_bytes_max: u32,
    ) -> Result<Self> {
        if !frame.header.is_response {
            return Err(ProtocolError::WrongDirection(frame.header.opcode));
        }
        let flags = frame.header.flags;
        let body = match (flags.has(FrameFlags::COMPRESSED), compression) {
            (true, Some(compression)) => compression.decompress(&frame.body, body_bytes_max)?,
            (true, None) => return Err(ProtocolError::NoCompression),
            (false, _) => frame.body.clone(),
        };
        let reader = &mut Reader::new(body);
        let tracing_id = if flags.has(FrameFlags::TRACING) { Some(reader.uuid()?) } else { None };
        let warnings =
            if flags.has(FrameFlags::WARNING) { owned(reader.string_list()?) } else { Vec::new() };
        let custom_payload = if flags.has(FrameFlags::CUSTOM_PAYLOAD) {
            reader.bytes_map()?.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
        } else {
            Vec::new()
        };
        let body = ReceivedBody::decode(Opcode::from_code(frame.header.opcode)?, reader)?;
        match reader.remaining() {
            0 => {
                Ok(Self { stream: frame.header.stream, tracing_id, warnings, custom_payload, body })
            }
            left => Err(ProtocolError::TrailingBytes(left)),
        }
    }
}

fn owned(list: Vec<crate::text::Text>) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

impl ReceivedBody {
    fn decode(opcode: Opcode, reader: &mut Reader) -> Result<Self> {
        Ok(match opcode {
            Opcode::Ready => Self::Ready,
            Opcode::Authenticate => Self::Authenticate { class: reader.string()?.to_string() },
            Opcode::AuthChallenge => Self::AuthChallenge { token: reader.bytes()? },
            Opcode::AuthSuccess => Self::AuthSuccess { token: reader.bytes()? },
            Opcode::Supported => {
                let options = reader.string_multimap()?.into_iter();
                let options = options.map(|(key, values)| (key.to_string(), owned(values)));
                Self::Supported(options.collect())
            }
            Opcode::Result => Self::decode_result(reader)?,
            Opcode::Event => Self::Event(Event::decode(reader)?),
            Opcode::Error => Self::Error(ErrorBody::decode(reader)?),
            Opcode::Startup
            | Opcode::Options
            | Opcode::Query
            | Opcode::Prepare
            | Opcode::Execute
            | Opcode::Register
            | Opcode::Batch
            | Opcode::AuthResponse => return Err(ProtocolError::WrongDirection(opcode.code())),
        })
    }

    fn decode_result(reader: &mut Reader) -> Result<Self> {
        Ok(match reader.int()? {
            result::VOID => Self::Void,
            result::ROWS => Self::Rows(ReceivedRows::decode(reader)?),
            result::SET_KEYSPACE => Self::SetKeyspace(reader.string()?.to_string()),
            result::PREPARED => Self::Prepared(ReceivedPrepared::decode(reader)?),
            result::SCHEMA_CHANGE => Self::SchemaChange(SchemaChange::decode(reader)?),
            kind => {
                return Err(ProtocolError::UnknownCode { what: "result", code: i64::from(kind) });
            }
        })
    }
}
