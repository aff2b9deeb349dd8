//! What can be wrong with bytes that a peer sent.

use thiserror::Error;

/// Result of reading protocol bytes.
pub type Result<T> = std::result::Result<T, ProtocolError>;

/// Every variant means: answer ERROR 0x000A on the stream; the connection stays usable, because
/// frame boundaries were intact. Messages hold no values that the client sent, only numbers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The body ended inside a field.
    #[error("body ends inside a field: {needed} more bytes needed, {left} left")]
    Truncated {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes follow the last field of the body.
    #[error("{0} bytes after the end of the message")]
    TrailingBytes(usize),
    /// A string is not UTF-8.
    #[error("string is not valid UTF-8")]
    InvalidUtf8,
    /// A length is negative or larger than what may follow it.
    #[error("invalid length {0}")]
    InvalidLength(i64),
    /// An opcode that the protocol does not have.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    /// An opcode that only the other side may send.
    #[error("opcode {0} is not valid in this direction")]
    WrongDirection(u8),
    /// Flag bits that version 4 does not define.
    #[error("unknown flags 0x{flags:02x} in {place}")]
    UnknownFlags {
        /// The bits that are not defined.
        flags: u32,
        /// Where they were.
        place: &'static str,
    },
    /// A code (consistency, batch kind, result kind, type) that version 4 does not define.
    #[error("unknown {what} code {code}")]
    UnknownCode {
        /// What the code stands for.
        what: &'static str,
        /// The code.
        code: i64,
    },
    /// An event type that cannot be registered for.
    #[error("unknown event type")]
    UnknownEventType,
    /// STARTUP misses a key it needs.
    #[error("missing value for mandatory option {0}")]
    MissingOption(&'static str),
    /// A frame is marked as compressed but no compression was agreed.
    #[error("compressed frame on a connection without compression")]
    NoCompression,
    /// A compressed body does not decompress.
    #[error("cannot decompress the body")]
    BadCompression,
    /// A body (after decompression) is larger than the limit.
    #[error("body of {length} bytes exceeds the maximum of {maximum} bytes")]
    TooLarge {
        /// Announced length.
        length: u64,
        /// The limit in force.
        maximum: u64,
    },
    /// Types are nested deeper than the decoder follows.
    #[error("type nested deeper than {0} levels")]
    TooDeep(u8),
}
