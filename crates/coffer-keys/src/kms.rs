//! What Coffer asks of a KMS, as a trait, in the KMS's own terms.

mod embedded;
mod error;
mod hooked;

pub use embedded::{EmbeddedKms, EmbeddedKmsOptions, NewKey};
pub use error::{ErrorClass, KmsError};
pub use hooked::{HookedKms, KmsHook};

use crate::TableName;
use serde::Serialize;
use std::{collections::BTreeMap, fmt, future::Future, pin::Pin};
use zeroize::Zeroizing;

/// Public names that a KMS binds to what it encrypts; the same are needed to decrypt.
pub type EncryptionContext = BTreeMap<String, String>;

/// What a call of a KMS returns: a future that can be sent between threads.
pub type KmsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KmsError>> + Send + 'a>>;

/// The encryption context of a table: the three pairs of the reference system, built here only.
#[must_use]
pub fn encryption_context(table: &TableName, subscriber: &str) -> EncryptionContext {
    [
        ("aws:cassandra:keyspaceName", &*table.keyspace),
        ("aws:cassandra:tableName", &*table.name),
        ("aws:cassandra:subscriberId", subscriber),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// The only way Coffer reaches a KMS. A key is named by id, ARN or alias; table keys always by ARN.
pub trait KmsProvider: Send + Sync {
    /// `GenerateDataKey` with `KeySpec` `AES_256`: 32 bytes, in the clear and encrypted.
    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> KmsFuture<'a, GeneratedDataKey>;

    /// `Decrypt`. With `key`, a blob of another key is refused.
    fn decrypt<'a>(
        &'a self,
        key: Option<&'a str>,
        blob: &'a [u8],
        context: &'a EncryptionContext,
    ) -> KmsFuture<'a, DecryptedKey>;

    /// `Encrypt` of 1 to 4,096 bytes.
    fn encrypt<'a>(
        &'a self,
        key: &'a str,
        plaintext: &'a [u8],
        context: &'a EncryptionContext,
    ) -> KmsFuture<'a, EncryptedBlob>;

    /// `ReEncrypt`.
    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted>;

    /// `DescribeKey`.
    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata>;
}

/// The calls of [`KmsProvider`] and of the embedded KMS's administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the KMS")]
pub enum KmsOperation {
    GenerateDataKey,
    Decrypt,
    Encrypt,
    ReEncrypt,
    DescribeKey,
    CreateKey,
    EnableKey,
    DisableKey,
    ScheduleKeyDeletion,
    CancelKeyDeletion,
}

impl fmt::Display for KmsOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Answer to `GenerateDataKey`. No `Debug`: it holds a key.
pub struct GeneratedDataKey {
    /// The key in the clear.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The key under the KMS key.
    pub blob: Vec<u8>,
    /// ARN of the KMS key.
    pub key_arn: String,
    /// The material of the KMS key that was used.
    pub key_material_id: Option<String>,
}

/// Answer to `Decrypt`. No `Debug`: it holds a key.
pub struct DecryptedKey {
    /// What was encrypted.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// ARN of the KMS key.
    pub key_arn: String,
    /// The material of the KMS key that was used.
    pub key_material_id: Option<String>,
}

/// Answer to `Encrypt`.
#[derive(Clone, Debug)]
pub struct EncryptedBlob {
    /// The ciphertext.
    pub blob: Vec<u8>,
    /// ARN of the KMS key.
    pub key_arn: String,
}

/// Request of `ReEncrypt`.
#[derive(Clone, Copy)]
pub struct ReEncryptRequest<'a> {
    /// What to encrypt anew.
    pub blob: &'a [u8],
    /// The key it is under; a blob of another key is refused.
    pub source_key: Option<&'a str>,
    /// The context it is bound to.
    pub source_context: &'a EncryptionContext,
    /// The key it is to be under.
    pub destination_key: &'a str,
    /// The context it is to be bound to.
    pub destination_context: &'a EncryptionContext,
}

/// Answer to `ReEncrypt`.
#[derive(Clone, Debug)]
pub struct ReEncrypted {
    /// The ciphertext under the destination key.
    pub blob: Vec<u8>,
    /// ARN of the source key.
    pub source_key_arn: String,
    /// ARN of the destination key.
    pub key_arn: String,
    /// Material of the destination key.
    pub key_material_id: Option<String>,
}

/// State of a KMS key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum KeyState {
    /// Usable.
    Enabled,
    /// Switched off by its administrator.
    Disabled,
    /// To be deleted at its deletion date.
    PendingDeletion,
    /// Its imported material is away.
    PendingImport,
    /// Its key store does not answer.
    Unavailable,
    /// Being made.
    Creating,
    /// Being moved to another Region.
    Updating,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Answer to `DescribeKey`; serialized with the KMS's names.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyMetadata {
    /// Account that owns the key.
    #[serde(rename = "AWSAccountId")]
    pub account: String,
    /// Its ARN.
    pub arn: String,
    /// Its id, the ARN's last part.
    pub key_id: String,
    /// Aliases that point to it, with `alias/`.
    pub aliases: Vec<String>,
    /// Seconds since 1970.
    pub creation_date: f64,
    /// What its administrator wrote.
    pub description: String,
    /// Whether it is usable.
    pub enabled: bool,
    /// Its state.
    pub key_state: KeyState,
    /// `ENCRYPT_DECRYPT` for a key that can encrypt.
    pub key_usage: String,
    /// `SYMMETRIC_DEFAULT` for a key Coffer can use.
    pub key_spec: String,
    /// Seconds since 1970; only when deletion is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_date: Option<f64>,
    /// Only when deletion is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_deletion_window_in_days: Option<u32>,
    /// The material that encrypts now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_key_material_id: Option<String>,
}
