//! HKDF-SHA-512: commitments to keys, and keys derived for one purpose.
//!
//! AES-GCM alone does not commit to its key: one ciphertext can be made that opens under two keys.
//! A header therefore carries a hash of its key; it also tells a wrong key from changed data.

use crate::secret::{KEY_LEN, Secret, without_trace};
use subtle::ConstantTimeEq;

const SALT: &[u8] = b"coffer-hkdf-v1";

struct Length(usize);

impl ring::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA-512 of `key` under `label` and `info`.
#[expect(clippy::expect_used, reason = "a key of zeros must never be returned instead")]
pub(crate) fn derive(key: &[u8; KEY_LEN], label: &[u8], info: &[u8], out: &mut [u8]) {
    let length = [u8::try_from(label.len()).unwrap_or(u8::MAX)];
    let info = [&length[..], label, info];
    without_trace(|| {
        let prk = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA512, SALT).extract(key);
        prk.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out))
    })
    .expect("every output here is at most one block of SHA-512, the limit is 255");
}

/// The public commitment to `key` in the header that `info` describes.
pub(crate) fn commitment(key: &Secret, label: &[u8], info: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    derive(key.bytes(), label, info, &mut out);
    out
}

/// Compares in time that does not depend on the contents.
pub(crate) fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}
