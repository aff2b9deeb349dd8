//! The key hierarchy: KMS providers, table keys, the key swap.
//!
//! A KMS key (or the service's root key) wraps a table key, which wraps the data keys of the
//! table's files. [`Keyring`] caches table keys, and is the engine's
//! [`DataKeySource`](coffer_crypto::DataKeySource); it reaches a KMS through [`KmsProvider`] only.
//! [`EmbeddedKms`] is a KMS inside this process. What happens when is in `docs/KEYS.md`.
#![forbid(unsafe_code)]

mod durable;
mod error;
mod keyring;
mod kms;
mod root_key_file;
mod specification;
mod table_name;

pub use coffer_kms::KmsOptions as EmbeddedKmsOptions;
pub use error::{KeyChangeError, KeyError, Refusal, Result};
pub use keyring::{
    CallTimes, CheckResult, DropReason, GrantNames, KeySource, Keyring, KeyringOptions,
    KeyringStatistics, KmsCalls, NewKeys, OnDropped, OnRevoked, PreparedKeys, Probe, RequestCount,
    SourceAccess, SourceKeys, TableKeyStatistics,
};
pub use kms::{
    CreateGrantRequest, CreatedGrant, DecryptRequest, DecryptedKey, EmbeddedKms, EncryptionContext,
    ErrorClass, GenerateDataKeyRequest, GeneratedDataKey, GrantKind, HookedKms, KeyMetadata,
    KeyState, KmsError, KmsFuture, KmsHook, KmsOperation, KmsProvider, NewKey, ProviderScope,
    Providers, ReEncryptRequest, ReEncrypted, SameScope, check_extra_context, encryption_context,
    encryption_context_with, failure,
};
pub use root_key_file::{
    begin_root_key_rotation, create_root_key, finish_root_key_rotation, load_root_key,
    load_root_keys,
};
pub use specification::{EncryptionSpecification, KeyArn, SpecificationError};
pub use table_name::TableName;
