//! What can go wrong in the engine, one variant for each way a caller reacts.

use std::path::PathBuf;

use coffer_crypto::KeyUnavailable;
use coffer_model::TableId;

/// The result of an engine operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an engine operation failed. Messages name files and tables, never rows, columns or keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The table exists but is not open: [`crate::Engine::open_table`] first, then again.
    #[error("table is not open, table={0}")]
    TableNotOpen(TableId),
    /// There is no such table in the catalog.
    #[error("no such table, table={0}")]
    NoSuchTable(TableId),
    /// The table's key is away: nothing was read or written.
    #[error(transparent)]
    KeyUnavailable(#[from] KeyUnavailable),
    /// A memory or log limit is reached: wait for room, or tell the client to try again.
    #[error("engine has no room, limit={0}")]
    Overloaded(&'static str),
    /// One mutation or batch is larger than the named limit, in bytes.
    #[error("mutation or batch is too large, bytes={bytes} limit={limit}")]
    TooLarge {
        /// The size that was asked for.
        bytes: u64,
        /// The configured limit.
        limit: u64,
    },
    /// A log write or sync failed earlier: writes are refused until a restart, reads go on.
    #[error("engine stopped accepting writes until restart, cause={0}")]
    Poisoned(String),
    /// The file does not say what was written into it: changed, cut, swapped or rolled back.
    #[error("file was changed outside the database: {what}, file={}", file.display())]
    Tampered {
        /// The file in question.
        file: PathBuf,
        /// What does not fit, and where.
        what: String,
    },
    /// Stored bytes that authenticate do not decode: damaged before they were sealed, or a format of the future.
    #[error("stored bytes do not decode")]
    Corrupt(#[from] coffer_model::Error),
    /// The file is authentic but does not decode: written by a broken or a newer Coffer.
    #[error("file does not decode: {what}, file={}", file.display())]
    CorruptFile {
        /// The file in question.
        file: PathBuf,
        /// What was expected, and where.
        what: String,
    },
    /// The file is whole but belongs to another key: not damage, a wrong key file.
    #[error("file is sealed under another key, file={}", file.display())]
    WrongKey {
        /// The file in question.
        file: PathBuf,
    },
    /// Another process has the data directory open.
    #[error("data directory is in use by another server, directory={}", directory.display())]
    Locked {
        /// The data directory.
        directory: PathBuf,
    },
    /// The operating system refused; `action` says what was being done.
    #[error("{action}, file={}", file.display())]
    Io {
        /// What was being done, for example `sync log`.
        action: &'static str,
        /// The file in question.
        file: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The table cannot be restored to that moment (times: milliseconds since 1970).
    #[error("{}", not_restorable(*.at_millis, *.restorable))]
    NotRestorable {
        /// The table.
        table: TableId,
        /// The moment that was asked for.
        at_millis: i64,
        /// The earliest and the latest moment it can be restored to; `None` when there is none.
        restorable: Option<(i64, i64)>,
    },
    /// A caller of [`crate::Engine::update_catalog`] refused the change.
    #[error("catalog change refused: {0}")]
    Refused(String),
    /// A background job was told to stop; it published nothing.
    #[error("job was cancelled")]
    Cancelled,
    /// The engine was shut down.
    #[error("engine is shut down")]
    ShutDown,
    /// A broken invariant of our own.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// The error with its causes, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }

    /// An operating system error while doing `action` on `file`.
    pub(crate) fn io(
        action: &'static str,
        file: impl Into<PathBuf>,
        source: std::io::Error,
    ) -> Self {
        Error::Io { action, file: file.into(), source }
    }

    /// What a refusal of the cipher means for `file`; `what` names the part that was opened or written.
    pub(crate) fn sealed(
        file: impl Into<PathBuf>,
        what: impl Into<String>,
        error: coffer_crypto::Error,
    ) -> Self {
        use coffer_crypto::Error as Sealed;
        match error {
            Sealed::KeyUnavailable(unavailable) => Error::KeyUnavailable(unavailable),
            Sealed::WrongKey | Sealed::UnknownTableKey(_) => Error::WrongKey { file: file.into() },
            Sealed::Tampered | Sealed::Malformed { .. } | Sealed::UnknownVersion { .. } => {
                Error::tampered(file, what)
            }
            other => Error::Internal(format!("{}: {other}", what.into())),
        }
    }

    /// `file` is authentic but does not decode.
    pub(crate) fn corrupt(file: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Error::CorruptFile { file: file.into(), what: what.into() }
    }

    /// `file` does not say what was written into it.
    pub(crate) fn tampered(file: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Error::Tampered { file: file.into(), what: what.into() }
    }
}

fn not_restorable(at_millis: i64, restorable: Option<(i64, i64)>) -> String {
    match restorable {
        None => "no history of the table is kept, enable point_in_time_recovery".into(),
        Some((earliest, latest)) => format!(
            "the table cannot be restored to {at_millis}: earliest is {earliest}, latest {latest} (milliseconds since 1970)"
        ),
    }
}
