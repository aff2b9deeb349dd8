//! Requests: one file per opcode, both directions.

mod auth_response;
mod batch;
mod execute;
mod prepare;
mod query;
mod register;
mod startup;

use bytes::{Bytes, BytesMut};

pub use auth_response::AuthResponse;
pub use batch::{Batch, BatchKind, BatchStatement, Statement};
pub use execute::Execute;
pub use prepare::Prepare;
pub use query::Query;
pub use register::{EventKind, Register};
pub use startup::Startup;

use crate::compression::Compression;
use crate::error::{ProtocolError, Result};
use crate::frame::{FrameFlags, FrameHeader, HEADER_BYTES, Opcode, VERSION};
use crate::reader::Reader;
use crate::writer::Writer;

/// A request of any kind.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is its type")]
pub enum Request {
    Startup(Startup),
    Options,
    AuthResponse(AuthResponse),
    Query(Query),
    Prepare(Prepare),
    Execute(Execute),
    Batch(Batch),
    Register(Register),
}

impl Request {
    /// Reads a body that is already decompressed. A custom payload is read and dropped.
    ///
    /// # Errors
    /// Any [`ProtocolError`]; the frame's boundaries stay good.
    pub fn decode(opcode: u8, flags: FrameFlags, body: Bytes) -> Result<Self> {
        let opcode = Opcode::from_code(opcode)?;
        let mut reader = Reader::new(body);
        if flags.has(FrameFlags::CUSTOM_PAYLOAD) {
            reader.bytes_map()?;
        }
        let request = match opcode {
            Opcode::Startup => Self::Startup(Startup::decode(&mut reader)?),
            Opcode::Options => Self::Options,
            Opcode::AuthResponse => Self::AuthResponse(AuthResponse::decode(&mut reader)?),
            Opcode::Query => Self::Query(Query::decode(&mut reader)?),
            Opcode::Prepare => Self::Prepare(Prepare::decode(&mut reader)?),
            Opcode::Execute => Self::Execute(Execute::decode(&mut reader)?),
            Opcode::Batch => Self::Batch(Batch::decode(&mut reader)?),
            Opcode::Register => Self::Register(Register::decode(&mut reader)?),
            Opcode::Error
            | Opcode::Ready
            | Opcode::Authenticate
            | Opcode::Supported
            | Opcode::Result
            | Opcode::Event
            | Opcode::AuthChallenge
            | Opcode::AuthSuccess => return Err(ProtocolError::WrongDirection(opcode.code())),
        };
        reader.finish()?;
        Ok(request)
    }

    /// Its opcode.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        match self {
            Self::Startup(_) => Opcode::Startup,
            Self::Options => Opcode::Options,
            Self::AuthResponse(_) => Opcode::AuthResponse,
            Self::Query(_) => Opcode::Query,
            Self::Prepare(_) => Opcode::Prepare,
            Self::Execute(_) => Opcode::Execute,
            Self::Batch(_) => Opcode::Batch,
            Self::Register(_) => Opcode::Register,
        }
    }

    fn encode_body(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Startup(startup) => startup.encode(writer),
            Self::Options => {}
            Self::AuthResponse(response) => response.encode(writer),
            Self::Query(query) => query.encode(writer),
            Self::Prepare(prepare) => prepare.encode(writer),
            Self::Execute(execute) => execute.encode(writer),
            Self::Batch(batch) => batch.encode(writer),
            Self::Register(register) => register.encode(writer),
        }
    }
}

/// Appends one request frame, as a client sends it. `flags` may hold the tracing bit.
pub fn encode_request(
    out: &mut BytesMut,
    stream: i16,
    flags: FrameFlags,
    compression: Option<Compression>,
    request: &Request,
) {
    let mut body = BytesMut::new();
    request.encode_body(&mut Writer::new(&mut body));
    let mut flags = flags;
    if let Some(compression) = compression
        && request.opcode() != Opcode::Startup
    {
        let mut compressed = BytesMut::new();
        if compression.compress(&body, &mut compressed) {
            body = compressed;
            flags.0 |= FrameFlags::COMPRESSED;
        }
    }
    let header = FrameHeader {
        version: VERSION,
        is_response: false,
        flags,
        stream,
        opcode: request.opcode().code(),
        body_bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
    };
    out.reserve(body.len().saturating_add(HEADER_BYTES));
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&body);
}
