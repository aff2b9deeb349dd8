//! The one place where errors become CQL error codes; `docs/CQL.md` has the table.

use bytes::Bytes;
use coffer_query::Error;
use cql_protocol::{Consistency, ErrorBody, ErrorDetail, ProtocolError, WriteType};

/// The error body for a failed statement. `consistency` is the request's own, which some bodies
/// repeat.
pub(crate) fn of_query(error: Error, consistency: Consistency) -> ErrorBody {
    let message = error.to_string();
    let detail = match error {
        Error::Syntax(_) => ErrorDetail::Syntax,
        Error::Invalid(_) | Error::KeyRefused(_) => ErrorDetail::Invalid,
        Error::Configuration(_) => ErrorDetail::Config,
        Error::AlreadyExists { keyspace, table, .. } => {
            ErrorDetail::AlreadyExists { keyspace, table }
        }
        Error::Unauthorized(_) => ErrorDetail::Unauthorized,
        Error::Protocol(_) => ErrorDetail::Protocol,
        Error::Overloaded(_) | Error::KeyUnreachable(_) => ErrorDetail::Overloaded,
        Error::ReadFailure(_) => ErrorDetail::ReadFailure {
            consistency,
            received: 0,
            block_for: 1,
            failures: 1,
            data_present: false,
        },
        Error::WriteFailure(_) => ErrorDetail::WriteFailure {
            consistency,
            received: 0,
            block_for: 1,
            failures: 1,
            kind: WriteType::Simple,
        },
        Error::FunctionFailure { keyspace, function, argument_types, .. } => {
            ErrorDetail::FunctionFailure { keyspace, function, argument_types }
        }
        Error::Unprepared(id) => ErrorDetail::Unprepared { id: Bytes::copy_from_slice(&id) },
        Error::Server(_) => {
            tracing::error!(%message, "internal error");
            ErrorDetail::Server
        }
        // the enum may grow: an error without a class of its own is the server's
        _ => ErrorDetail::Server,
    };
    ErrorBody::new(detail, message)
}

/// The error body for a body that does not decode.
pub(crate) fn of_protocol(error: &ProtocolError) -> ErrorBody {
    let detail = match error {
        // the frame is whole, only too long once decompressed: Invalid, as Cassandra answers, for
        // drivers give up a connection that answers a protocol error
        ProtocolError::TooLarge { .. } => ErrorDetail::Invalid,
        _ => ErrorDetail::Protocol,
    };
    ErrorBody::new(detail, error.to_string())
}

/// The answer to a frame of another protocol version, in the words that drivers look for.
pub(crate) fn unsupported_version(version: u8) -> ErrorBody {
    ErrorBody::new(
        ErrorDetail::Protocol,
        format!(
            "Invalid or unsupported protocol version ({version}); supported versions are (4/v4)"
        ),
    )
}

/// More requests are unanswered than the limits allow.
pub(crate) fn overloaded() -> ErrorBody {
    ErrorBody::new(
        ErrorDetail::Overloaded,
        "too many unanswered requests, or too many bytes in them; try again later",
    )
}
