//! What can be wrong with bytes or names handed to the model.

use cql_types::TypeError;

/// Errors of the data model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Encoded bytes do not have the structure they must have.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A key is longer than the 65535 bytes its length field can say.
    #[error("{what} is longer than 65535 bytes: {length}")]
    KeyTooLong {
        /// Which part was too long.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A value is not one of its CQL type.
    #[error(transparent)]
    Type(#[from] TypeError),
}
