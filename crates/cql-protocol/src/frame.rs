//! The nine header bytes, flags and opcodes (section 2 of the specification).

use bytes::Bytes;

use crate::error::{ProtocolError, Result};

/// The only version spoken.
pub const VERSION: u8 = 4;
/// Length of a frame header from version 3 on.
pub const HEADER_BYTES: usize = 9;

const DIRECTION_BIT: u8 = 0x80;

/// Flag bits of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameFlags(pub u8);

impl FrameFlags {
    /// The body is compressed.
    pub const COMPRESSED: u8 = 0x01;
    /// Request: trace it. Response: a tracing id comes first.
    pub const TRACING: u8 = 0x02;
    /// A custom payload precedes the message.
    pub const CUSTOM_PAYLOAD: u8 = 0x04;
    /// Response: warnings precede the message.
    pub const WARNING: u8 = 0x08;
    /// The sender uses a beta version of the protocol.
    pub const BETA: u8 = 0x10;

    /// Whether the bit is set.
    #[must_use]
    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// A frame header, as it was sent; the opcode is not checked yet, because a frame of another
/// version must be answered before its opcode means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Protocol version, without the direction bit.
    pub version: u8,
    /// Whether the direction bit says response.
    pub is_response: bool,
    /// Flag bits.
    pub flags: FrameFlags,
    /// Chosen by the client, echoed in the answer; -1 for events.
    pub stream: i16,
    /// Opcode byte.
    pub opcode: u8,
    /// Length of the body in bytes.
    pub body_bytes: u32,
}

impl FrameHeader {
    /// Reads a header.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [version, flags, stream_high, stream_low, opcode, length @ ..] = *bytes;
        Self {
            version: version & !DIRECTION_BIT,
            is_response: version & DIRECTION_BIT != 0,
            flags: FrameFlags(flags),
            stream: i16::from_be_bytes([stream_high, stream_low]),
            opcode,
            body_bytes: u32::from_be_bytes(length),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let direction = if self.is_response { DIRECTION_BIT } else { 0 };
        let [stream_high, stream_low] = self.stream.to_be_bytes();
        let [a, b, c, d] = self.body_bytes.to_be_bytes();
        [self.version | direction, self.flags.0, stream_high, stream_low, self.opcode, a, b, c, d]
    }
}

/// One frame; the body shares the read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Header.
    pub header: FrameHeader,
    /// Body, still compressed if the header says so.
    pub body: Bytes,
}

/// Message kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum Opcode {
    Error = 0x00,
    Startup = 0x01,
    Ready = 0x02,
    Authenticate = 0x03,
    Options = 0x05,
    Supported = 0x06,
    Query = 0x07,
    Result = 0x08,
    Prepare = 0x09,
    Execute = 0x0A,
    Register = 0x0B,
    Event = 0x0C,
    Batch = 0x0D,
    AuthChallenge = 0x0E,
    AuthResponse = 0x0F,
    AuthSuccess = 0x10,
}

impl Opcode {
    /// The opcode with this code.
    ///
    /// # Errors
    /// [`ProtocolError::UnknownOpcode`].
    pub fn from_code(code: u8) -> Result<Self> {
        Ok(match code {
            0x00 => Self::Error,
            0x01 => Self::Startup,
            0x02 => Self::Ready,
            0x03 => Self::Authenticate,
            0x05 => Self::Options,
            0x06 => Self::Supported,
            0x07 => Self::Query,
            0x08 => Self::Result,
            0x09 => Self::Prepare,
            0x0A => Self::Execute,
            0x0B => Self::Register,
            0x0C => Self::Event,
            0x0D => Self::Batch,
            0x0E => Self::AuthChallenge,
            0x0F => Self::AuthResponse,
            0x10 => Self::AuthSuccess,
            _ => return Err(ProtocolError::UnknownOpcode(code)),
        })
    }

    /// Its code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}
