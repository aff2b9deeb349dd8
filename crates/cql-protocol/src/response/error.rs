//! ERROR: code, text, and the fields that belong to the code (section 9).

use bytes::Bytes;

use crate::consistency::Consistency;
use crate::error::{ProtocolError, Result};
use crate::reader::Reader;
use crate::writer::Writer;

/// What kind of write timed out or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum WriteType {
    Simple,
    Batch,
    UnloggedBatch,
    Counter,
    BatchLog,
    Cas,
    View,
    Cdc,
}

impl WriteType {
    const ALL: [Self; 8] = [
        Self::Simple,
        Self::Batch,
        Self::UnloggedBatch,
        Self::Counter,
        Self::BatchLog,
        Self::Cas,
        Self::View,
        Self::Cdc,
    ];

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "SIMPLE",
            Self::Batch => "BATCH",
            Self::UnloggedBatch => "UNLOGGED_BATCH",
            Self::Counter => "COUNTER",
            Self::BatchLog => "BATCH_LOG",
            Self::Cas => "CAS",
            Self::View => "VIEW",
            Self::Cdc => "CDC",
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self> {
        let name = reader.string()?;
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name.as_str());
        found.ok_or(ProtocolError::UnknownCode { what: "write type", code: -1 })
    }
}

/// Code and fields of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own names and fields")]
pub enum ErrorDetail {
    Server,
    Protocol,
    BadCredentials,
    Unavailable {
        consistency: Consistency,
        required: i32,
        alive: i32,
    },
    Overloaded,
    Bootstrapping,
    Truncate,
    WriteTimeout {
        consistency: Consistency,
        received: i32,
        block_for: i32,
        kind: WriteType,
    },
    ReadTimeout {
        consistency: Consistency,
        received: i32,
        block_for: i32,
        data_present: bool,
    },
    ReadFailure {
        consistency: Consistency,
        received: i32,
        block_for: i32,
        failures: i32,
        data_present: bool,
    },
    FunctionFailure {
        keyspace: String,
        function: String,
        argument_types: Vec<String>,
    },
    WriteFailure {
        consistency: Consistency,
        received: i32,
        block_for: i32,
        failures: i32,
        kind: WriteType,
    },
    Syntax,
    Unauthorized,
    Invalid,
    Config,
    AlreadyExists {
        keyspace: String,
        table: String,
    },
    Unprepared {
        id: Bytes,
    },
}

impl ErrorDetail {
    /// The error code.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Server => 0x0000,
            Self::Protocol => 0x000A,
            Self::BadCredentials => 0x0100,
            Self::Unavailable { .. } => 0x1000,
            Self::Overloaded => 0x1001,
            Self::Bootstrapping => 0x1002,
            Self::Truncate => 0x1003,
            Self::WriteTimeout { .. } => 0x1100,
            Self::ReadTimeout { .. } => 0x1200,
            Self::ReadFailure { .. } => 0x1300,
            Self::FunctionFailure { .. } => 0x1400,
            Self::WriteFailure { .. } => 0x1500,
            Self::Syntax => 0x2000,
            Self::Unauthorized => 0x2100,
            Self::Invalid => 0x2200,
            Self::Config => 0x2300,
            Self::AlreadyExists { .. } => 0x2400,
            Self::Unprepared { .. } => 0x2500,
        }
    }

    fn encode_fields(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Server
            | Self::Protocol
            | Self::BadCredentials
            | Self::Overloaded
            | Self::Bootstrapping
            | Self::Truncate
            | Self::Syntax
            | Self::Unauthorized
            | Self::Invalid
            | Self::Config => {}
            Self::Unavailable { consistency, required, alive } => {
                writer.consistency(*consistency);
                writer.int(*required);
                writer.int(*alive);
            }
            Self::WriteTimeout { consistency, received, block_for, kind } => {
                Self::encode_replicas(writer, *consistency, &[*received, *block_for]);
                writer.string(kind.name());
            }
            Self::ReadTimeout { consistency, received, block_for, data_present } => {
                Self::encode_replicas(writer, *consistency, &[*received, *block_for]);
                writer.byte(u8::from(*data_present));
            }
            Self::ReadFailure { consistency, received, block_for, failures, data_present } => {
                Self::encode_replicas(writer, *consistency, &[*received, *block_for, *failures]);
                writer.byte(u8::from(*data_present));
            }
            Self::WriteFailure { consistency, received, block_for, failures, kind } => {
                Self::encode_replicas(writer, *consistency, &[*received, *block_for, *failures]);
                writer.string(kind.name());
            }
            Self::FunctionFailure { keyspace, function, argument_types } => {
                writer.string(keyspace);
                writer.string(function);
                writer.string_list(argument_types);
            }
            Self::AlreadyExists { keyspace, table } => {
                writer.string(keyspace);
                writer.string(table);
            }
            Self::Unprepared { id } => writer.short_bytes(id),
        }
    }

    fn encode_replicas(writer: &mut Writer<'_>, consistency: Consistency, counts: &[i32]) {
        writer.consistency(consistency);
        counts.iter().for_each(|count| writer.int(*count));
    }

    fn decode(reader: &mut Reader, code: i32) -> Result<Self> {
        Ok(match code {
            0x0000 => Self::Server,
            0x000A => Self::Protocol,
            0x0100 => Self::BadCredentials,
            0x1001 => Self::Overloaded,
            0x1002 => Self::Bootstrapping,
            0x1003 => Self::Truncate,
            0x2000 => Self::Syntax,
            0x2100 => Self::Unauthorized,
            0x2200 => Self::Invalid,
            0x2300 => Self::Config,
            0x1000 => Self::Unavailable {
                consistency: reader.consistency()?,
                required: reader.int()?,
                alive: reader.int()?,
            },
            0x1100 => Self::WriteTimeout {
                consistency: reader.consistency()?,
                received: reader.int()?,
                block_for: reader.int()?,
                kind: WriteType::decode(reader)?,
            },
            0x1200 => Self::ReadTimeout {
                consistency: reader.consistency()?,
                received: reader.int()?,
                block_for: reader.int()?,
                data_present: reader.byte()? != 0,
            },
            0x1300 => Self::ReadFailure {
                consistency: reader.consistency()?,
                received: reader.int()?,
                block_for: reader.int()?,
                failures: reader.int()?,
                data_present: reader.byte()? != 0,
            },
            0x1400 => Self::FunctionFailure {
                keyspace: reader.string()?.to_string(),
                function: reader.string()?.to_string(),
                argument_types: reader.string_list()?.iter().map(ToString::to_string).collect(),
            },
            0x1500 => Self::WriteFailure {
                consistency: reader.consistency()?,
                received: reader.int()?,
                block_for: reader.int()?,
                failures: reader.int()?,
                kind: WriteType::decode(reader)?,
            },
            0x2400 => Self::AlreadyExists {
                keyspace: reader.string()?.to_string(),
                table: reader.string()?.to_string(),
            },
            0x2500 => Self::Unprepared { id: reader.short_bytes()? },
            code => {
                return Err(ProtocolError::UnknownCode { what: "error", code: i64::from(code) });
            }
        })
    }
}

/// An error for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// Code and fields.
    pub detail: ErrorDetail,
    /// Text for people.
    pub message: String,
}

impl ErrorBody {
    /// An error.
    #[must_use]
    pub fn new(detail: ErrorDetail, message: impl Into<String>) -> Self {
        Self { detail, message: message.into() }
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.int(self.detail.code());
        writer.string(&self.message);
        self.detail.encode_fields(writer);
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        let code = reader.int()?;
        let message = reader.string()?.to_string();
        Ok(Self { detail: ErrorDetail::decode(reader, code)?, message })
    }
}
