//! Who may connect: everybody, or one user with a password (SASL PLAIN).

use coffer_crypto::PasswordHash;

use crate::config::{AuthenticatorKind, Config};

/// Longest SASL token; user and password are far shorter.
const TOKEN_BYTES_MAX: usize = 4096;

/// The name that AUTHENTICATE tells; drivers know it and answer with SASL PLAIN.
pub(crate) const PASSWORD_AUTHENTICATOR: &str = "org.apache.cassandra.auth.PasswordAuthenticator";

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
                let configured = config.password_hash.as_deref().and_then(PasswordHash::parse);
                let hash = match configured {
                    Some(hash) => hash,
                    None => PasswordHash::new(b"cassandra")?,
                };
                Ok(Self::Password { user: config.user.clone(), hash })
            }
        }
    }

    pub(crate) fn is_required(&self) -> bool {
        matches!(self, Self::Password { .. })
    }

    /// The user whom a SASL PLAIN token proves, or the text for the client. Takes tens of
    /// milliseconds of CPU, on purpose.
    pub(crate) fn authenticate(&self, token: &[u8]) -> Result<String, String> {
        let Self::Password { user: expected, hash } = self else {
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
            Err(format!("Provided username {user} and/or password are incorrect"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> Authenticator {
        let config = Config { authenticator: AuthenticatorKind::Password, ..Config::default() };
        Authenticator::new(&config).unwrap()
    }

    #[test]
    fn default_user_is_let_in_and_wrong_ones_are_not() {
        let authenticator = password();
        assert_eq!(authenticator.authenticate(b"\0cassandra\0cassandra").unwrap(), "cassandra");
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
        assert!(authenticator.authenticate(&[0; TOKEN_BYTES_MAX + 1]).is_err());
    }
}
