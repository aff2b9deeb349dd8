//! Syntax errors: they read as Cassandra's do, so that people and tools find what they know.

use thiserror::Error;

/// The text is not CQL; answered with error class 0x2000.
///
/// The message starts with `line L:C` (lines from 1, columns from 0, in characters; `line 0:-1` at the end of the input)
/// and quotes the statement around the place: it belongs in the answer to its client and in no log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct SyntaxError {
    message: String,
}

impl SyntaxError {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }

    /// The message for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}
