//! The errors of this crate, one variant per reaction of the caller.

use crate::{KeyUnavailable, TableKeyId};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a key or a sealed piece of data cannot be used. Never holds key bytes or plaintext.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key at hand is not the one the data was sealed or wrapped with.
    #[error("open sealed data: wrong key")]
    WrongKey,
    /// The data, its tag, its header or its place was changed after it was sealed.
    #[error("open sealed data: does not authenticate")]
    Tampered,
    /// Bytes that cannot be a value of this format.
    #[error("read sealed data: malformed {what}")]
    Malformed {
        /// What was being read.
        what: &'static str,
    },
    /// A format version that this program does not know.
    #[error("read sealed data: unknown format version, version={version}")]
    UnknownVersion {
        /// The version found.
        version: u16,
    },
    /// The table key was used for as many wraps as are safe; the table needs a new one.
    #[error("wrap key: limit of wraps under one key reached")]
    WrapLimit,
    /// A data key sealed as many blocks as are safe, or one block is too long for the cipher.
    #[error("seal: limit of one data key reached")]
    SealLimit,
    /// A header names a table key that the table's key record no longer holds.
    #[error("unwrap data key: table key is not in the key record, table_key={0}")]
    UnknownTableKey(TableKeyId),
    /// The table's key is not at hand: open it through the keyring, then try again.
    #[error(transparent)]
    KeyUnavailable(#[from] KeyUnavailable),
    /// The operating system gave no randomness.
    #[error("read randomness from the operating system")]
    Randomness,
}
