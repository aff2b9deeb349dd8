//! Passwords of CQL users, salted and stretched (PBKDF2 with HMAC-SHA-256).

use std::num::NonZeroU32;

use ring::pbkdf2;

use crate::{Result, random_array};

const ALGORITHM: &str = "pbkdf2-sha256";
const ITERATIONS: u32 = 100_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A salted, stretched password.
pub struct PasswordHash {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl PasswordHash {
    /// Reads `pbkdf2-sha256$ITERATIONS$SALT$HASH`, the last two in hex.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('$');
        if parts.next()? != ALGORITHM {
            return None;
        }
        let iterations: NonZeroU32 = parts.next()?.parse().ok()?;
        let salt = hex::decode(parts.next()?).ok()?;
        let hash = hex::decode(parts.next()?).ok()?;
        let fits = iterations.get() <= 10_000_000 && salt.len() >= 8 && hash.len() == HASH_BYTES;
        if parts.next().is_some() || !fits {
            return None;
        }
        Some(Self { iterations, salt, hash })
    }

    /// Hashes a password with a random salt.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn new(password: &[u8]) -> Result<Self> {
        let salt: [u8; SALT_BYTES] = random_array()?;
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let mut hash = vec![0; HASH_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut hash);
        Ok(Self { iterations, salt: salt.to_vec(), hash })
    }

    /// The line that [`PasswordHash::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (salt, hash) = (hex::encode(&self.salt), hex::encode(&self.hash));
        format!("{ALGORITHM}${}${salt}${hash}", self.iterations)
    }

    /// Whether this is the password; as slow as making the hash, on purpose.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::verify(algorithm, self.iterations, &self.salt, password, &self.hash).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_survives_its_text() {
        let hash = PasswordHash::new(b"secret").unwrap();
        let read = PasswordHash::parse(&hash.to_text()).unwrap();
        assert!(read.verify(b"secret"));
        assert!(!read.verify(b"Secret"));
        for wrong in ["", "secret", "pbkdf2-sha256$0$aa$bb", "md5$1$aa$bb", "pbkdf2-sha256$1$zz$00"]
        {
            assert!(PasswordHash::parse(wrong).is_none(), "{wrong}");
        }
    }
}
