//! AES-256-GCM sealing of data and wrapping of keys; home of every type that holds key bytes.
//!
//! Three levels of keys: a KMS key or the [`RootKey`] wraps a [`TableKey`]; a table key wraps data
//! keys; a data key seals the blocks of exactly one file. A fresh data key ([`NewDataKey`]) can be
//! turned into one [`Sealer`] and nothing else, a key read back from a header ([`DataKey`]) into
//! [`Opener`]s only. So no nonce can repeat under one key: the sealer owns the counters.
//!
//! The crate knows no files, no KMS and no async; the one exception is [`clock::OffsetClock`], which
//! reads the file of `--test-clock`.
#![forbid(unsafe_code)]

mod commitment;
mod data_key;
mod document;
mod error;
mod identity;
mod journal;
mod key_record;
mod key_source;
mod password;
mod random;
mod root_key;
mod root_keys;
mod seal;
mod secret;
mod signature;
mod table_key;
mod wrap;

pub mod clock;
#[cfg(any(feature = "bench-null-cipher", feature = "test-plaintext"))]
pub mod danger;

pub use data_key::{DataKey, NewDataKey, WrappedDataKey};
pub use document::{DocumentKind, OpenedDocument, SealedDocument};
pub use error::{Error, Result};
pub use identity::{Component, FORMAT_VERSION, FileIdentity, Place};
pub use journal::{
    JOURNAL_HEADER_LEN, JOURNAL_RECORD_LEN_MAX, JournalEnd, JournalKind, JournalLink,
    JournalReader, JournalWriter, rewrap_header,
};
pub use key_record::{EncryptionType, HexBytes, KeyGrant, KeyRecord, OlderTableKey};
pub use key_source::{DataKeySource, KeyLease, KeyUnavailable, UnavailableReason};
pub use password::PasswordHash;
pub use random::{fill_random, random_array};
pub use root_key::RootKey;
pub use root_keys::RootKeys;
pub use seal::{Backend, Opener, SEALS_PER_COMPONENT_MAX, Sealer, TAG_LEN};
pub use signature::{SigningKey, is_signed_by};
pub use table_key::{TableKey, TableKeyId};
pub use wrap::{WRAP_OVERHEAD, WRAPS_PER_KEY_MAX, WrappingKey};
