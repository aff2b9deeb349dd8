//! CQL native protocol v4: bytes to requests, responses to bytes, and back (clients and tests).
//!
//! [`FrameCodec`] cuts a stream into frames without copying; [`Request::decode`] reads a body;
//! [`encode_response`] appends one whole frame to an output buffer. Nothing here does I/O and no
//! input makes it panic: all bytes are read through [`Reader`], which answers a [`ProtocolError`].
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod codec;
mod column_type;
mod compression;
mod consistency;
mod error;
mod frame;
mod query_parameters;
mod reader;
mod request;
mod response;
mod text;
mod writer;

pub use codec::{Cut, FrameCodec};
pub use column_type::{decode_type, encode_type};
pub use compression::Compression;
pub use consistency::Consistency;
pub use cql_types::BoundValue;
pub use error::{ProtocolError, Result};
pub use frame::{Frame, FrameFlags, FrameHeader, HEADER_BYTES, Opcode, VERSION};
pub use query_parameters::{QueryParameters, Values};
pub use reader::Reader;
pub use request::{
    AuthResponse, Batch, BatchKind, BatchStatement, EventKind, Execute, Prepare, Query, Register,
    Request, Startup, Statement, encode_request,
};
pub use response::{
    ChangeKind, ChangeTarget, ColumnSpec, EncodedColumns, Envelope, ErrorBody, ErrorDetail, Event,
    Prepared, Received, ReceivedBody, ReceivedColumn, ReceivedPrepared, ReceivedRows, Response,
    Rows, RowsMetadata, SchemaChange, WriteType, encode_response,
};
pub use text::Text;
pub use writer::Writer;
