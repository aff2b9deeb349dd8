//! 32 secret bytes: on the heap at one address, wiped when dropped, never copied or printed.

use crate::{Error, Result, random::fill_random};
use zeroize::Zeroizing;

/// Length of every key in bytes.
pub(crate) const KEY_LEN: usize = 32;

/// The bytes of one key. Neither `Clone` nor `Debug`, so they leave this crate only on purpose.
pub(crate) struct Secret(Box<Zeroizing<[u8; KEY_LEN]>>);

impl Secret {
    pub(crate) fn generate() -> Result<Self> {
        let mut secret = Self(Box::new(Zeroizing::new([0; KEY_LEN])));
        fill_random(secret.0.as_mut_slice())?;
        Ok(secret)
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map_err(|_| Error::Malformed { what: "key" })?;
        Ok(Self::from_array(bytes))
    }

    pub(crate) fn from_array(bytes: &[u8; KEY_LEN]) -> Self {
        let mut secret = Self(Box::new(Zeroizing::new([0; KEY_LEN])));
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// Another owner of the same bytes, for the few places inside this crate that need one.
    pub(crate) fn duplicate(&self) -> Self {
        Self::from_array(self.bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}
