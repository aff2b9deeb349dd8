//! What the KMS says when it does not do what it was asked, and why it cannot be opened.

use std::{fmt, path::PathBuf};

/// An exception of the KMS API: its name and its text. Never holds key bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsException {
    name: &'static str,
    message: String,
}

impl KmsException {
    /// The exception `name`, as `DisabledException`, with its text.
    #[must_use]
    pub fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into() }
    }

    /// `ValidationException`.
    #[must_use]
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// `KMSInternalException`: the KMS itself failed; the call may be made again.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("KMSInternalException", message)
    }

    /// `LimitExceededException`.
    #[must_use]
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its text; may be empty.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for KmsException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for KmsException {}

/// Why the KMS of a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {reason}", path.display())]
pub struct OpenError {
    /// What was tried.
    pub action: &'static str,
    /// The file or directory in question.
    pub path: PathBuf,
    /// Why it failed.
    pub reason: String,
}
