//! What Coffer asks of a KMS, as a trait, in the KMS's own terms.

mod embedded;
mod error;
mod hooked;
mod providers;

pub use embedded::{EmbeddedKms, NewKey};
pub use error::{ErrorClass, KmsError, failure};
pub use hooked::{HookedKms, KmsHook};
pub use providers::{ProviderScope, Providers, SameScope};

use crate::{SpecificationError, TableName};
use serde::Serialize;
use std::{collections::BTreeMap, fmt, future::Future, pin::Pin};
use zeroize::Zeroizing;

/// Public names that a KMS binds to what it encrypts; the same are needed to decrypt.
pub type EncryptionContext = BTreeMap<String, String>;

/// What a call of a KMS returns: a future that can be sent between threads.
pub type KmsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KmsError>> + Send + 'a>>;

/// Most pairs that a table may add to its encryption context: a grant's constraint takes eight, and
/// three are always there.
const EXTRA_PAIRS_MAX: usize = 5;
/// Longest name or value of such a pair, in characters: the limit of a grant's constraint.
const PAIR_LEN_MAX: usize = 384;

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

/// As [`encryption_context`], with the pairs of the table's `kms_encryption_context`.
///
/// # Errors
/// [`SpecificationError::ExtraContext`] as [`check_extra_context`].
pub fn encryption_context_with(
    table: &TableName,
    subscriber: &str,
    extra: &BTreeMap<String, String>,
) -> Result<EncryptionContext, SpecificationError> {
    check_extra_context(extra)?;
    let mut context = encryption_context(table, subscriber);
    context.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(context)
}

/// Whether a table may have these pairs in its encryption context.
///
/// # Errors
/// [`SpecificationError::ExtraContext`] for a name that begins with `aws:` (reserved), an empty or
/// too long name or value, or too many pairs.
pub fn check_extra_context(extra: &BTreeMap<String, String>) -> Result<(), SpecificationError> {
    let refused = |reason: String| Err(SpecificationError::ExtraContext(reason));
    if extra.len() > EXTRA_PAIRS_MAX {
        return refused(format!("at most {EXTRA_PAIRS_MAX} pairs, found {}", extra.len()));
    }
    for (name, value) in extra {
        let is_reserved = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
        if is_reserved {
            return refused(format!("names that begin with aws: are reserved, found '{name}'"));
        }
        let fits = |text: &str| (1..=PAIR_LEN_MAX).contains(&text.chars().count());
        if !fits(name) || !fits(value) {
            let shown: String = name.chars().take(50).collect();
            return refused(format!(
                "names and values are 1 to {PAIR_LEN_MAX} characters long, pair '{shown}'"
            ));
        }
    }
    Ok(())
}

/// The only way Coffer reaches a KMS. Keys are named by ARN.
///
/// A provider makes its calls as one of two identities: the control identity describes keys and
/// makes and retires grants, the data identity uses them. Who they are is the provider's own matter.
pub trait KmsProvider: Send + Sync {
    /// `DescribeKey`, as the control identity.
    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata>;

    /// `CreateGrant`, as the control identity. With the name of a grant that is there already, that
    /// grant is the answer.
    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant>;

    /// `RetireGrant`, as the control identity. A grant that is gone is `NotFoundException`.
    fn retire_grant<'a>(&'a self, key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()>;

    /// `GenerateDataKey` with `KeySpec` `AES_256`, as the data identity: 32 bytes, in the clear and
    /// encrypted.
    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey>;

    /// `Decrypt`, as the data identity or [`DecryptRequest::principal`]. A blob of another key is
    /// refused.
    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey>;

    /// `Decrypt` as the control identity, which the snapshot grant of a table is for: the table is
    /// dropped, and its data grant retired. [`DecryptRequest::principal`] is not used.
    fn decrypt_as_control<'a>(&'a self, request: DecryptRequest<'a>)
    -> KmsFuture<'a, DecryptedKey>;

    /// Who is asked about this key, and as whom: provider, endpoint and caller as one text. The same
    /// text means that an answer can be compared with an earlier one. May ask who the caller is, never
    /// about the key.
    fn identity<'a>(&'a self, key: &'a str) -> KmsFuture<'a, String>;

    /// `ReEncrypt`, as the data identity.
    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted>;
}

/// The calls of [`KmsProvider`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the KMS")]
pub enum KmsOperation {
    CreateGrant,
    Decrypt,
    DescribeKey,
    GenerateDataKey,
    ReEncrypt,
    RetireGrant,
}

impl KmsOperation {
    /// The name of the KMS.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateGrant => "CreateGrant",
            Self::Decrypt => "Decrypt",
            Self::DescribeKey => "DescribeKey",
            Self::GenerateDataKey => "GenerateDataKey",
            Self::ReEncrypt => "ReEncrypt",
            Self::RetireGrant => "RetireGrant",
        }
    }
}

impl fmt::Display for KmsOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// Daily use: the data identity may describe the key, generate, encrypt, decrypt and re-encrypt
    /// with it. Retired when the table is dropped or leaves the key.
    Data,
    /// The snapshot that is taken when a key is lost: the control identity may decrypt and
    /// re-encrypt. Retired 42 days after the table was dropped or left the key.
    Snapshot,
}

/// Request of `CreateGrant`.
#[derive(Clone, Copy)]
pub struct CreateGrantRequest<'a> {
    /// ARN.
    pub key: &'a str,
    /// What it is for; decides grantee and operations. The control identity may retire it.
    pub kind: GrantKind,
    /// `EncryptionContextSubset`: the grant serves this table only.
    pub context: &'a EncryptionContext,
    /// Makes the call repeatable.
    pub name: &'a str,
}

/// Answer to `CreateGrant`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedGrant {
    /// Its id.
    pub grant_id: String,
    /// Makes the grant count before the KMS has spread it; no secret.
    pub grant_token: String,
}

/// Request of `GenerateDataKey`.
#[derive(Clone, Copy)]
pub struct GenerateDataKeyRequest<'a> {
    /// ARN.
    pub key: &'a str,
    /// What the blob is bound to.
    pub context: &'a EncryptionContext,
    /// Of grants made a moment ago.
    pub grant_tokens: &'a [String],
    /// Only asks whether it would be done: then the answer is `DryRunOperationException`.
    pub dry_run: bool,
}

/// Request of `Decrypt`.
#[derive(Clone, Copy)]
pub struct DecryptRequest<'a> {
    /// ARN of the key the blob is under.
    pub key: &'a str,
    /// What to decrypt.
    pub blob: &'a [u8],
    /// What the blob is bound to.
    pub context: &'a EncryptionContext,
    /// Of grants made a moment ago.
    pub grant_tokens: &'a [String],
    /// Only asks whether it would be done: then the answer is `DryRunOperationException`.
    pub dry_run: bool,
    /// ARN of whom to ask for, instead of the data identity.
    pub principal: Option<&'a str>,
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

/// Request of `ReEncrypt`.
#[derive(Clone, Copy)]
pub struct ReEncryptRequest<'a> {
    /// What to encrypt anew.
    pub blob: &'a [u8],
    /// ARN of the key it is under; a blob of another key is refused.
    pub source_key: &'a str,
    /// The context it is bound to.
    pub source_context: &'a EncryptionContext,
    /// ARN of the key it is to be under.
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
    /// Material of the destination key that was used.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_may_add_pairs_but_none_that_are_reserved() {
        let table = TableName::new([1; 16], "ks", "t");
        let with = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            encryption_context_with(&table, "1", &pairs.collect())
        };
        let context = with(&[("tenant", "acme"), ("class", "secret")]).unwrap();
        assert_eq!((context.len(), context["tenant"].as_str()), (5, "acme"));
        assert_eq!(with(&[]).unwrap(), encryption_context(&table, "1"));
        let long = "x".repeat(PAIR_LEN_MAX + 1);
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f"].iter().map(|name| (*name, "v")).collect();
        assert!(with(&many[..5]).is_ok());
        assert!(with(&[(&long[1..], &long[1..])]).is_ok());
        let bad: [&[(&str, &str)]; 7] = [
            &[("aws:cassandra:tableName", "other")],
            &[("AWS:x", "v")],
            &[("", "v")],
            &[("n", "")],
            &[(&long, "v")],
            &[("n", &long)],
            &many,
        ];
        for pairs in bad {
            let error = with(pairs).unwrap_err().to_string();
            assert!(error.contains("kms_encryption_context"), "{error}");
        }
    }
}
