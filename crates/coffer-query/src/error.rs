//! What can go wrong with a statement, by what the client should do about it.

use coffer_keys::KeyError;
use coffer_storage::Error as EngineError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error answered to the client; each variant is one CQL error class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not CQL (0x2000).
    #[error("{0}")]
    Syntax(String),
    /// The statement or its values are wrong (0x2200). The client should not repeat it.
    #[error("{0}")]
    Invalid(String),
    /// A property is wrong or impossible (0x2300).
    #[error("{0}")]
    Configuration(String),
    /// A keyspace, table, type exists already (0x2400); `table` is empty for a keyspace.
    #[error("{message}")]
    AlreadyExists {
        /// Keyspace.
        keyspace: String,
        /// Table or empty.
        table: String,
        /// Text for the client.
        message: String,
    },
    /// Not allowed (0x2100).
    #[error("{0}")]
    Unauthorized(String),
    /// Bytes of the request contradict the protocol, for example a paging state that is not ours
    /// (0x000A).
    #[error("{0}")]
    Protocol(String),
    /// Limits are reached; the client may try again (0x1001).
    #[error("{0}")]
    Overloaded(String),
    /// The key of a table is away for good: disabled, pending deletion, refused (0x2200). Names
    /// table, ARN and state.
    #[error("{0}")]
    KeyRefused(String),
    /// The KMS does not answer and no key is cached (0x1001).
    #[error("{0}")]
    KeyUnreachable(String),
    /// Stored data is damaged or was changed from outside (0x1300).
    #[error("{0}")]
    ReadFailure(String),
    /// The engine could not write and does not accept more (0x1500).
    #[error("{0}")]
    WriteFailure(String),
    /// A function failed on its arguments (0x1400).
    #[error("{message}")]
    FunctionFailure {
        /// Keyspace of the function.
        keyspace: String,
        /// Its name.
        function: String,
        /// CQL names of its argument types.
        argument_types: Vec<String>,
        /// Text for the client.
        message: String,
    },
    /// The prepared statement was made for another version of the schema: prepare again (0x2500).
    #[error("Prepared query with ID {} not found", hex(.0))]
    Unprepared([u8; 16]),
    /// Our own fault (0x0000).
    #[error("{0}")]
    Server(String),
}

fn hex(id: &[u8; 16]) -> String {
    use std::fmt::Write;
    id.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Error {
    /// An [`Error::Invalid`] from anything that reads as text.
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid(message.into())
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Error {
        let text = error.to_string();
        match error {
            KeyError::Definitive(_) => Error::KeyRefused(text),
            KeyError::Transient(_) | KeyError::Credentials(_) | KeyError::Ambiguous(_) => {
                Error::KeyUnreachable(text)
            }
            KeyError::Configuration(_) | KeyError::Specification(_) => Error::Invalid(text),
            KeyError::Integrity(_) | KeyError::WrongTableKey { .. } | KeyError::Damaged { .. } => {
                Error::ReadFailure(text)
            }
            KeyError::Superseded(_) => Error::Overloaded(text),
            _ => Error::Server(text),
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Error {
        let text = error.chain();
        match error {
            EngineError::KeyUnavailable(_) => Error::KeyUnreachable(text),
            EngineError::Overloaded(_) => Error::Overloaded(text),
            EngineError::TooLarge { .. } | EngineError::NoSuchTable(_) => Error::Invalid(text),
            EngineError::Poisoned(_) => Error::WriteFailure(text),
            EngineError::Tampered { .. }
            | EngineError::Corrupt(_)
            | EngineError::CorruptFile { .. }
            | EngineError::WrongKey { .. } => Error::ReadFailure(text),
            _ => Error::Server(text),
        }
    }
}
