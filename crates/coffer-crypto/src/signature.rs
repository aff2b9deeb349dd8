//! Ed25519 signatures of what the service says about itself: reports that others can check.

use crate::{
    Error, Result, RootKey,
    secret::{Secret, without_trace},
};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::fmt;
use zeroize::Zeroizing;

/// Purpose of the seed that is derived from the root key.
const PURPOSE: &[u8] = b"coffer-report-signing-v1";

/// Signs with Ed25519. Printed as its public key only.
pub struct SigningKey {
    seed: Secret,
    public: [u8; Self::PUBLIC_LEN],
}

impl SigningKey {
    /// Length of a public key.
    pub const PUBLIC_LEN: usize = 32;
    /// Length of a signature.
    pub const SIGNATURE_LEN: usize = 64;

    /// The installation's own key: the same one for as long as it has this root key.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the library refuses the seed, which it does for none.
    pub fn of_root_key(root: &RootKey) -> Result<Self> {
        Self::new(root.derive(PURPOSE, &[]).0)
    }

    /// The key whose seed is 64 hex digits, white space around them aside.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything else.
    pub fn from_hex_seed(text: &[u8]) -> Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), seed.as_mut_slice())
            .map_err(|_| Error::Malformed { what: "signing key" })?;
        Self::new(Secret::from_array(&seed))
    }

    fn new(seed: Secret) -> Result<Self> {
        let pair = Self::pair(&seed)?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| Error::Malformed { what: "signing key" })?;
        Ok(Self { seed, public })
    }

    fn pair(seed: &Secret) -> Result<Ed25519KeyPair> {
        without_trace(|| Ed25519KeyPair::from_seed_unchecked(seed.bytes()))
            .map_err(|_| Error::Malformed { what: "signing key" })
    }

    /// What a signature is checked with.
    #[must_use]
    pub fn public_key(&self) -> [u8; Self::PUBLIC_LEN] {
        self.public
    }

    /// The signature of a message.
    ///
    /// # Errors
    /// As [`Self::of_root_key`].
    pub fn sign(&self, message: &[u8]) -> Result<[u8; Self::SIGNATURE_LEN]> {
        let signature = Self::pair(&self.seed)?.sign(message);
        signature.as_ref().try_into().map_err(|_| Error::Malformed { what: "signature" })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", hex::encode(self.public))
    }
}

/// Whether whoever holds the key of `public` signed this message.
#[must_use]
pub fn is_signed_by(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_and_message_alone() {
        let root = RootKey::generate().unwrap();
        let key = SigningKey::of_root_key(&root).unwrap();
        let again = SigningKey::of_root_key(&root.duplicate()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        let signature = key.sign(b"all is well").unwrap();
        assert!(is_signed_by(&key.public_key(), b"all is well", &signature));
        assert!(!is_signed_by(&key.public_key(), b"all is not well", &signature));
        for bit in 0..signature.len() * 8 {
            let mut changed = signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_signed_by(&key.public_key(), b"all is well", &changed), "bit {bit}");
        }
        let other = SigningKey::of_root_key(&RootKey::generate().unwrap()).unwrap();
        assert!(!is_signed_by(&other.public_key(), b"all is well", &signature));
        assert!(!is_signed_by(b"short", b"all is well", &signature));
    }

    #[test]
    fn a_seed_of_rfc_8032_gives_its_key_and_signature() {
        let seed = b" 9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n";
        let key = SigningKey::from_hex_seed(seed).unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(key.public_key()), public);
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a\
                         33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(hex::encode(key.sign(b"").unwrap()), signature);
        assert!(!format!("{key:?}").contains("9d61b1"));
        assert!(SigningKey::from_hex_seed(b"12").is_err());
    }
}
