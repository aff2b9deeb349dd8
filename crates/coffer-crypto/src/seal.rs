//! Sealing and opening of blocks, and why no nonce repeats.
//!
//! Nonce (96 bits) = number of the component (4 bytes) and counter (8 bytes), big endian. The
//! counter is the block's number in its component. A [`Sealer`] is made from a data key that never
//! sealed anything, consumes it, and counts up; a number is consumed even when the seal or the
//! write after it fails. A data key from a header cannot become a sealer.

use crate::{
    DataKey, Error, NewDataKey, Result,
    identity::{BlockAad, Component, FileIdentity, Place},
    secret::Secret,
};
use aes_gcm::{Aes256Gcm, KeyInit, aead::AeadInOut};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;

/// Most blocks of one component under one data key. AES-GCM with 2^48 blocks of 16 bytes under one
/// key keeps an attacker's advantage below 2^-32; at 64 KiB a block that is 2^36 blocks.
pub const SEALS_PER_COMPONENT_MAX: u64 = 1 << 36;

/// Which implementation of AES-256-GCM does the work. All give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Backend {
    /// `ring`: assembly, the default.
    #[default]
    Ring,
    /// `aes-gcm`: portable, the reference the others are tested against.
    Reference,
}

#[derive(Clone)]
enum Cipher {
    Ring(Box<LessSafeKey>),
    Reference(Box<Aes256Gcm>),
    #[cfg(any(feature = "bench-null-cipher", feature = "test-plaintext"))]
    Skipped,
}

impl Cipher {
    fn new(key: &Secret, backend: Backend) -> Result<Self> {
        Ok(match backend {
            Backend::Ring => {
                let malformed = |_| Error::Malformed { what: "key" };
                let key = UnboundKey::new(&AES_256_GCM, key.bytes()).map_err(malformed)?;
                Self::Ring(Box::new(LessSafeKey::new(key)))
            }
            Backend::Reference => Self::Reference(Box::new(Aes256Gcm::new(key.bytes().into()))),
        })
    }

    /// The cipher of a file.
    fn for_file(key: &Secret, backend: Backend, identity: &FileIdentity) -> Result<Self> {
        #[cfg(any(feature = "bench-null-cipher", feature = "test-plaintext"))]
        if crate::danger::is_sealing_skipped(identity) {
            return Ok(Self::Skipped);
        }
        #[cfg(not(any(feature = "bench-null-cipher", feature = "test-plaintext")))]
        let _ = identity;
        Self::new(key, backend)
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN]> {
        match self {
            Self::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
                    .map_err(|_| Error::SealLimit)?;
                tag.as_ref().try_into().map_err(|_| Error::Malformed { what: "tag" })
            }
            Self::Reference(cipher) => cipher
                .encrypt_inout_detached(&nonce.into(), aad, text.into())
                .map(Into::into)
                .map_err(|_| Error::SealLimit),
            #[cfg(any(feature = "bench-null-cipher", feature = "test-plaintext"))]
            Self::Skipped => Ok([0; TAG_LEN]),
        }
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &mut [u8]) -> Result<()> {
        match self {
            Self::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(aad), sealed).map_err(|_| Error::Tampered)?;
            }
            Self::Reference(cipher) => {
                let (text, tag) =
                    sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(Error::Tampered)?;
                cipher
                    .decrypt_inout_detached(&nonce.into(), aad, text.into(), &(*tag).into())
                    .map_err(|_| Error::Tampered)?;
            }
            #[cfg(any(feature = "bench-null-cipher", feature = "test-plaintext"))]
            Self::Skipped if sealed.ends_with(&[0; TAG_LEN]) => {}
            #[cfg(any(feature = "bench-null-cipher", feature = "test-plaintext"))]
            Self::Skipped => return Err(Error::Tampered),
        }
        Ok(())
    }
}

fn nonce(component: Component, block: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (number, counter) = nonce.split_at_mut(4);
    number.copy_from_slice(&component.number().to_be_bytes());
    counter.copy_from_slice(&block.to_be_bytes());
    nonce
}

/// Seals the blocks of one new file, and owns the nonces of its data key.
pub struct Sealer {
    cipher: Cipher,
    identity: [u8; FileIdentity::LEN],
    next_block: [u64; Component::END],
}

impl Sealer {
    /// The only sealer that `key` will ever have.
    ///
    /// # Errors
    /// None in practice; the backend may refuse a key.
    pub fn new(key: NewDataKey, identity: &FileIdentity) -> Result<Self> {
        Self::with_backend(key, identity, Backend::default())
    }

    /// As [`Self::new`], through a chosen backend.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[expect(clippy::needless_pass_by_value, reason = "the key is consumed: it seals once")]
    pub fn with_backend(
        key: NewDataKey,
        identity: &FileIdentity,
        backend: Backend,
    ) -> Result<Self> {
        Ok(Self {
            cipher: Cipher::for_file(&key.0, backend, identity)?,
            identity: identity.to_bytes(),
            next_block: [0; Component::END],
        })
    }

    /// The number that the next block of `component` will have.
    #[must_use]
    pub fn next_block(&self, component: Component) -> u64 {
        self.next_block.get(component as usize).copied().unwrap_or(SEALS_PER_COMPONENT_MAX)
    }

    /// Seals `buffer[start..]` where it stands and appends the tag. `extra` (at most 89 bytes) is
    /// authenticated as well, for what stands in the clear next to the block. Returns the number of
    /// the block, which is needed to open it.
    ///
    /// # Errors
    /// [`Error::SealLimit`] past the limits of one key; the number is consumed and the buffer must
    /// not be written.
    pub fn seal_in_place(
        &mut self,
        component: Component,
        place: Place,
        extra: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) -> Result<u64> {
        let block = self.consume(component)?;
        let text = buffer.get_mut(start..).ok_or(Error::Malformed { what: "block" })?;
        let len = text.len() as u64;
        let aad = BlockAad::new(&self.identity, component, block, place, len, extra)?;
        let tag = self.cipher.seal(nonce(component, block), aad.as_slice(), text)?;
        buffer.extend_from_slice(&tag);
        Ok(block)
    }

    /// Opens blocks of the file that is being written, for its readers.
    #[must_use]
    pub fn opener(&self) -> Opener {
        Opener { cipher: self.cipher.clone(), identity: self.identity }
    }

    /// Takes the next number of `component` for good.
    fn consume(&mut self, component: Component) -> Result<u64> {
        let next = self.next_block.get_mut(component as usize).ok_or(Error::SealLimit)?;
        let block = *next;
        if block >= SEALS_PER_COMPONENT_MAX {
            return Err(Error::SealLimit);
        }
        *next = block + 1;
        Ok(block)
    }
}

/// Opens the blocks of one file.
pub struct Opener {
    cipher: Cipher,
    identity: [u8; FileIdentity::LEN],
}

impl Opener {
    /// For the file born as `identity`.
    ///
    /// # Errors
    /// None in practice; the backend may refuse a key.
    pub fn new(key: &DataKey, identity: &FileIdentity) -> Result<Self> {
        Self::with_backend(key, identity, Backend::default())
    }

    /// As [`Self::new`], through a chosen backend.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_backend(key: &DataKey, identity: &FileIdentity, backend: Backend) -> Result<Self> {
        Ok(Self {
            cipher: Cipher::for_file(&key.0, backend, identity)?,
            identity: identity.to_bytes(),
        })
    }

    /// Verifies and opens `sealed` (ciphertext and tag) where it stands; returns the plaintext, a
    /// part of `sealed`. Component, block, place and `extra` are what it was sealed with.
    ///
    /// # Errors
    /// [`Error::Tampered`], for whatever reason it does not authenticate; `sealed` then holds
    /// nothing of use.
    pub fn open_in_place<'a>(
        &self,
        component: Component,
        block: u64,
        place: Place,
        extra: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8]> {
        let len = sealed.len().checked_sub(TAG_LEN).ok_or(Error::Tampered)?;
        let aad = BlockAad::new(&self.identity, component, block, place, len as u64, extra)?;
        self.cipher.open(nonce(component, block), aad.as_slice(), sealed)?;
        sealed.get_mut(..len).ok_or(Error::Tampered)
    }
}

#[cfg(test)]
mod tests;
