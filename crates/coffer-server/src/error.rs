//! Why a command ends without success.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

use crate::config::ConfigError;

/// Exit code: something is not as it was written.
pub(crate) const EXIT_TAMPERED: u8 = 4;

/// Result of a command.
pub type Result<T> = std::result::Result<T, CommandError>;

/// Why a command ends without success; the text is for whoever typed it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process uses the data directory.
    #[error(
        "data directory {} is in use by another coffer server{owner}; \
         stop it, or give another --data-dir", directory.display()
    )]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// `, process N` where known.
        owner: String,
    },
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was being done, with the name of the thing.
        action: String,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The data directory lost its root key.
    #[error(
        "the root key {} is missing but the data directory holds files that need it; put it back, \
         or name it with --root-key-file", file.display()
    )]
    RootKeyMissing {
        /// Where it is expected.
        file: PathBuf,
    },
    /// Keys or the KMS.
    #[error(transparent)]
    Keys(#[from] coffer_keys::KeyError),
    /// Randomness or key files.
    #[error(transparent)]
    Crypto(#[from] coffer_crypto::Error),
    /// An audit log.
    #[error(transparent)]
    Audit(#[from] coffer_kms::audit::AuditError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] coffer_storage::Error),
    /// The schema in the catalog.
    #[error(transparent)]
    Query(#[from] coffer_query::Error),
    /// Something was asked for that this version lacks, or that needs a permission not given.
    #[error("{0}")]
    Refused(String),
    /// Standard output is full or closed.
    #[error(
        "write to standard output: {0}; what was asked for may be done (coffer audit --json shows it, with the \
         certificate of what was erased)"
    )]
    Unsaid(io::Error),
    /// What was looked at is not as it was written.
    #[error("{0}")]
    Tampered(String),
}

impl CommandError {
    /// The exit code of a command that ends so.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Tampered(_) => ExitCode::from(EXIT_TAMPERED),
            _ => ExitCode::FAILURE,
        }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
