//! Keys under keys, through the portable `aes-gcm` backend with random nonces.
//!
//! Random nonces bound how often one key may wrap: see [`WRAPS_PER_KEY_MAX`].

use crate::{
    Error, Result,
    random::random_array,
    secret::{Secret, without_trace},
};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag, aead::AeadInOut};
use zeroize::Zeroizing;

/// Most wraps under one key. NIST SP 800-38D allows 2^32 seals with random 96-bit nonces (a chance
/// of 2^-32 that one repeats); 2^28 leaves a factor of 16 for counts lost in a crash.
pub const WRAPS_PER_KEY_MAX: u64 = 1 << 28;

const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// What a wrap adds to the length of the plaintext: nonce and tag.
pub const WRAP_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Nonce, 32 sealed bytes, tag.
pub(crate) const SEALED_KEY_LEN: usize = 32 + WRAP_OVERHEAD;

/// A key that seals other keys and short messages with random nonces.
///
/// The caller counts the wraps and stops at [`WRAPS_PER_KEY_MAX`].
pub struct WrappingKey(pub(crate) Secret);

impl WrappingKey {
    /// 32 fresh random bytes.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn generate() -> Result<Self> {
        Secret::generate().map(Self)
    }

    /// The key of these 32 bytes. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`Error::Malformed`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        Secret::from_slice(bytes).map(Self)
    }

    /// The bytes themselves, to be stored inside something sealed.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 32] {
        self.0.bytes()
    }

    /// Nonce, ciphertext and tag of `plaintext`, bound to `aad`.
    ///
    /// # Errors
    /// [`Error::Randomness`]; [`Error::SealLimit`] for a plaintext too long for AES-GCM.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>> {
        let nonce = random_array::<NONCE_LEN>()?;
        let mut blob = Vec::with_capacity(plaintext.len() + WRAP_OVERHEAD);
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(plaintext);
        let body = blob.get_mut(NONCE_LEN..).unwrap_or_default();
        let sealed = without_trace(|| {
            self.cipher().encrypt_inout_detached(&Nonce::from(nonce), aad, body.into())
        });
        let tag = sealed.map_err(|_| Error::SealLimit)?;
        blob.extend_from_slice(&tag);
        Ok(blob)
    }

    /// The plaintext of what [`Self::seal`] made.
    ///
    /// # Errors
    /// [`Error::Tampered`] when `blob` or `aad` is not what was sealed, or under another key;
    /// [`Error::Malformed`] when it is too short.
    pub fn open(&self, aad: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let malformed = || Error::Malformed { what: "wrapped key" };
        let (nonce, rest) = blob.split_first_chunk::<NONCE_LEN>().ok_or_else(malformed)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or_else(malformed)?;
        let mut plaintext = Zeroizing::new(body.to_vec());
        let text = plaintext.as_mut_slice();
        let opened = without_trace(|| {
            let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
            self.cipher().decrypt_inout_detached(&nonce, aad, text.into(), &tag)
        });
        opened.map_err(|_| Error::Tampered)?;
        Ok(plaintext)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.0.bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_opens_with_the_same_key_and_aad_only() {
        let key = WrappingKey::generate().unwrap();
        let blob = key.seal(b"context", b"table key").unwrap();
        assert_eq!(blob.len(), 9 + WRAP_OVERHEAD);
        assert_eq!(*key.open(b"context", &blob).unwrap(), b"table key");
        assert!(matches!(key.open(b"other", &blob), Err(Error::Tampered)));
        let other = WrappingKey::generate().unwrap();
        assert!(matches!(other.open(b"context", &blob), Err(Error::Tampered)));
        for len in 0..WRAP_OVERHEAD {
            assert!(matches!(key.open(b"", &blob[..len]), Err(Error::Malformed { .. })));
        }
    }

    #[test]
    fn the_same_plaintext_never_wraps_to_the_same_bytes() {
        let key = WrappingKey::from_slice(&[4; 32]).unwrap();
        assert_ne!(key.seal(b"", b"x").unwrap(), key.seal(b"", b"x").unwrap());
        assert!(WrappingKey::from_slice(&[4; 31]).is_err());
    }
}
