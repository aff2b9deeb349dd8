//! Why a backup cannot be made or used.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a backup cannot be made or used. Never holds key bytes or plaintext.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A place that is none.
    #[error("{location}: {what}")]
    Location {
        /// As it was given.
        location: String,
        /// What is wrong with it.
        what: String,
    },
    /// The object store refused.
    #[error("{action} {object}: {source}")]
    Store {
        /// What was being done.
        action: &'static str,
        /// The object.
        object: String,
        /// The store's answer.
        #[source]
        source: object_store::Error,
    },
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// An object or a file is not what was written.
    #[error("{object}: {what}")]
    Tampered {
        /// Which one.
        object: String,
        /// What does not fit.
        what: String,
    },
    /// Keys or seals.
    #[error(transparent)]
    Crypto(#[from] coffer_crypto::Error),
    /// The description of the table does not decode.
    #[error(transparent)]
    Storage(#[from] coffer_storage::Error),
}

impl Error {
    pub(crate) fn tampered(object: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Tampered { object: object.into(), what: what.into() }
    }

    pub(crate) fn store(
        action: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(object_store::Error) -> Self {
        let object = object.into();
        move |source| Self::Store { action, object, source }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
