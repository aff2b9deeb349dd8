//! Grant tokens: no secrets. Grants are in force at once here, so a token is needed only to name a
//! grant when it is retired.

use crate::KmsException;
use base64::{Engine, engine::general_purpose::STANDARD};
use coffer_crypto::random_array;

const MAGIC: &str = "coffer-grant-1";
const TEXT_LEN_MAX: usize = 8192;

/// What a token names.
pub(crate) struct GrantToken {
    /// Makes the tokens of one grant differ.
    salt: String,
    pub(crate) key_arn: String,
    pub(crate) grant_id: String,
}

impl GrantToken {
    pub(crate) fn new(key_arn: &str, grant_id: &str) -> Result<Self, KmsException> {
        let salt = random_array::<16>().map_err(|_| KmsException::internal("no randomness"))?;
        Ok(Self {
            salt: hex::encode(salt),
            key_arn: key_arn.to_owned(),
            grant_id: grant_id.to_owned(),
        })
    }

    pub(crate) fn to_text(&self) -> String {
        STANDARD.encode(format!("{MAGIC} {} {} {}", self.salt, self.grant_id, self.key_arn))
    }

    /// # Errors
    /// `InvalidGrantTokenException`.
    pub(crate) fn parse(text: &str) -> Result<Self, KmsException> {
        let parse = || {
            let bytes = STANDARD.decode(text.get(..text.len().min(TEXT_LEN_MAX))?).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let mut parts = text.splitn(4, ' ').map(str::to_owned);
            let (magic, salt) = (parts.next()?, parts.next()?);
            let token = Self { salt, grant_id: parts.next()?, key_arn: parts.next()? };
            (magic == MAGIC).then_some(token)
        };
        parse().ok_or_else(|| {
            KmsException::new("InvalidGrantTokenException", "The grant token is not valid.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_grant_and_anything_else_is_refused() {
        let token = GrantToken::new("arn:aws:kms:r:1:key/k", "id").unwrap();
        let parsed = GrantToken::parse(&token.to_text()).unwrap();
        assert_eq!((&*parsed.key_arn, &*parsed.grant_id), ("arn:aws:kms:r:1:key/k", "id"));
        for text in ["", "x", "é", &STANDARD.encode("coffer-grant-2 a b c")] {
            let error = GrantToken::parse(text).err().unwrap();
            assert_eq!(error.name(), "InvalidGrantTokenException");
        }
    }
}
