//! Who may connect: everybody, or one user with a password (SASL PLAIN).

use std::num::NonZeroU32;

use ring::pbkdf2;

use crate::config::{AuthenticatorKind, Config};

const ALGORITHM: &str = "pbkdf2-sha256";
const ITERATIONS: u32 = 100_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Longest SASL token; user and password are far shorter.
const TOKEN_BYTES_MAX: usize = 4096;

/// The name that AUTHENTICATE tells; drivers know it and answer with SASL PLAIN.
pub(crate) const PASSWORD_AUTHENTICATOR: &str = "org.apache.cassandra.auth.PasswordAuthenticator";

/// A salted, stretched password.
pub(crate) struct PasswordHash {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl PasswordHash {
    /// Reads `pbkdf2-sha256$ITERATIONS$SALT$HASH`, the last two in hex.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
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
        Some(Self {
            iterations,
            salt,
            hash,
        })
    }

    /// Hashes a password with a random salt.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(crate) fn new(password: &[u8]) -> coffer_crypto::Result<Self> {
        let salt: [u8; SALT_BYTES] = coffer_crypto::random_array()?;
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let mut hash = vec![0; HASH_BYTES];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            password,
            &mut hash,
        );
        Ok(Self {
            iterations,
            salt: salt.to_vec(),
            hash,
        })
    }

    /// The line that [`PasswordHash::parse`] reads.
    #[must_use]
    pub(crate) fn to_text(&self) -> String {
        let (salt, hash) = (hex::encode(&self.salt), hex::encode(&self.hash));
        format!("{ALGORITHM}${}${salt}${hash}", self.iterations)
    }

    fn verify(&self, password: &[u8]) -> bool {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::verify(algorithm, self.iterations, &self.salt, password, &self.hash).is_ok()
    }
}

/// Decides who may connect.
pub(crate) enum Authenticator {
    /// Everybody.
    None,
    /// One user.
    Password { user: String, hash: PasswordHash },
}

impl Authenticator {
    /// As configured; without a hash the password is `cassandra`, as drivers and tools expect of a
    /// fresh Cassandra.
    pub(crate) fn new(config: &Config) -> coffer_crypto::Result<Self> {
        match config.authenticator {
            AuthenticatorKind::None => Ok(Self::None),
            AuthenticatorKind::Password => {
                let configured = config
                    .password_hash
                    .as_deref()
                    .and_then(PasswordHash::parse);
                let hash = match configured {
                    Some(hash) => hash,
                    None => PasswordHash::new(b"cassandra")?,
                };
                Ok(Self::Password {
                    user: config.user.clone(),
                    hash,
                })
            }
        }
    }

    pub(crate) fn is_required(&self) -> bool {
        matches!(self, Self::Password { .. })
    }

    /// The user whom a SASL PLAIN token proves, or the text for the client. Takes tens of
    /// milliseconds of CPU, on purpose.
    pub(crate) fn authenticate(&self, token: &[u8]) -> Result<String, String> {
        let Self::Password {
            user: expected,
            hash,
        } = self
        else {
            return Err("authentication is not configured".to_owned());
        };
        if token.len() > TOKEN_BYTES_MAX {
            return Err("SASL token is too long".to_owned());
        }
        let mut parts = token.splitn(3, |byte| *byte == 0);
        let (Some(_), Some(user), Some(password)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("Unable to parse the SASL PLAIN token".to_owned());
        };
        if user.is_empty() || password.is_empty() {
            return Err("Username and password must not be empty".to_owned());
        }
        // the hash is computed for an unknown user too: both take the same time
        let is_password = hash.verify(password);
        if is_password && user == expected.as_bytes() {
            Ok(expected.clone())
        } else {
            let user = String::from_utf8_lossy(user);
            Err(format!(
                "Provided username {user} and/or password are incorrect"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> Authenticator {
        let config = Config {
            authenticator: AuthenticatorKind::Password,
            ..Config::default()
        };
        Authenticator::new(&config).unwrap()
    }

    #[test]
    fn default_user_is_let_in_and_wrong_ones_are_not() {
        let authenticator = password();
        assert_eq!(
            authenticator
                .authenticate(b"\0cassandra\0cassandra")
                .unwrap(),
            "cassandra"
        );
        for wrong in [
            &b"\0cassandra\0Cassandra"[..],
            b"\0other\0cassandra",
            b"\0cassandra\0",
            b"\0\0cassandra",
            b"cassandra",
            b"",
        ] {
            assert!(authenticator.authenticate(wrong).is_err(), "{wrong:?}");
        }
        assert!(
            authenticator
                .authenticate(&[0; TOKEN_BYTES_MAX + 1])
                .is_err()
        );
    }

    #[test]
    fn hash_survives_its_text() {
        let hash = PasswordHash::new(b"secret").unwrap();
        let read = PasswordHash::parse(&hash.to_text()).unwrap();
        assert!(read.verify(b"secret"));
        assert!(!read.verify(b"Secret"));
        for wrong in [
            "",
            "secret",
            "pbkdf2-sha256$0$aa$bb",
            "md5$1$aa$bb",
            "pbkdf2-sha256$1$zz$00",
        ] {
            assert!(PasswordHash::parse(wrong).is_none(), "{wrong}");
        }
    }
}
