//! Data keys: 32 random bytes that seal one file, and their wrapped form in the file's header.

use crate::{Error, Result, TableKeyId, secret::Secret, wrap::SEALED_KEY_LEN};

/// A data key that has sealed nothing yet. Becomes one [`crate::Sealer`], which owns its nonces.
pub struct NewDataKey(pub(crate) Secret);

impl NewDataKey {
    /// 32 fresh random bytes.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn generate() -> Result<Self> {
        Secret::generate().map(Self)
    }
}

/// A data key read back from a file's header: it can open, never seal, so that a file cannot be
/// reopened for append.
pub struct DataKey(pub(crate) Secret);

/// A data key under a table key, as it stands in a header.
///
/// Bytes: table key id (16), nonce (12), sealed key and tag (48), commitment (32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedDataKey {
    /// The table key it is wrapped with.
    pub table_key_id: TableKeyId,
    /// Nonce, sealed key and tag.
    pub(crate) sealed: [u8; SEALED_KEY_LEN],
    /// Commitment of the data key in this header.
    pub(crate) commitment: [u8; 32],
}

impl WrappedDataKey {
    /// Length of [`Self::to_bytes`].
    pub const LEN: usize = 16 + SEALED_KEY_LEN + 32;

    /// The bytes for the header.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (id, rest) = bytes.split_at_mut(16);
        let (sealed, commitment) = rest.split_at_mut(SEALED_KEY_LEN);
        id.copy_from_slice(&self.table_key_id.0);
        sealed.copy_from_slice(&self.sealed);
        commitment.copy_from_slice(&self.commitment);
        bytes
    }

    /// Reads the bytes of a header.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length; the contents are checked when the key is unwrapped.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::Malformed { what: "wrapped data key" };
        let (id, rest) = bytes.split_first_chunk::<16>().ok_or_else(malformed)?;
        let (sealed, rest) = rest.split_first_chunk::<SEALED_KEY_LEN>().ok_or_else(malformed)?;
        let commitment = <[u8; 32]>::try_from(rest).map_err(|_| malformed())?;
        Ok(Self { table_key_id: TableKeyId(*id), sealed: *sealed, commitment })
    }
}
