//! Ciphertext blobs.
//!
//! ```text
//! version      1  1
//! ARN length   2  big endian
//! ARN
//! material    32  id of the key material
//! sealed          nonce (12), ciphertext, tag (16); AES-256-GCM
//! ```
//! Additional data: everything before `sealed`, and the encryption context in sorted order.

use crate::api::EncryptionContext;
use coffer_crypto::WrappingKey;
use zeroize::Zeroizing;

const VERSION: u8 = 1;

/// A blob taken apart; nothing of it is verified yet.
pub(crate) struct ParsedBlob<'a> {
    head: &'a [u8],
    pub(crate) arn: &'a str,
    pub(crate) material_id: [u8; 32],
    sealed: &'a [u8],
}

/// `None` when the operating system gives no randomness.
pub(crate) fn seal(
    arn: &str,
    material_id: &str,
    material: &WrappingKey,
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Option<Vec<u8>> {
    let mut blob = vec![VERSION];
    blob.extend_from_slice(&u16::try_from(arn.len()).ok()?.to_be_bytes());
    blob.extend_from_slice(arn.as_bytes());
    blob.extend_from_slice(&hex::decode(material_id).ok()?);
    let sealed = material.seal(&additional_data(&blob, context), plaintext).ok()?;
    blob.extend_from_slice(&sealed);
    Some(blob)
}

/// `None` for what is no blob of this KMS.
pub(crate) fn parse(blob: &[u8]) -> Option<ParsedBlob<'_>> {
    let (len, rest) = blob.strip_prefix(&[VERSION])?.split_first_chunk::<2>()?;
    let (arn, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let (material_id, sealed) = rest.split_first_chunk::<32>()?;
    let head = blob.get(..blob.len().checked_sub(sealed.len())?)?;
    let arn = std::str::from_utf8(arn).ok()?;
    Some(ParsedBlob { head, arn, material_id: *material_id, sealed })
}

/// `None` when blob, context or key do not fit.
pub(crate) fn open(
    blob: &ParsedBlob<'_>,
    material: &WrappingKey,
    context: &EncryptionContext,
) -> Option<Zeroizing<Vec<u8>>> {
    material.open(&additional_data(blob.head, context), blob.sealed).ok()
}

/// Every part with its length before it, so that no two contexts give the same bytes.
fn additional_data(head: &[u8], context: &EncryptionContext) -> Vec<u8> {
    let mut data = b"coffer-kms-v1".to_vec();
    let pairs = context.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    for part in std::iter::once(head).chain(pairs) {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}
