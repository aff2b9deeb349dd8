//! Checks of request members, with the texts of AWS: all that is wrong in one answer.

use crate::KmsException;
use std::fmt::Display;

type Result<T> = std::result::Result<T, KmsException>;

/// Collects what is wrong with a request.
#[derive(Default)]
pub(crate) struct Validation {
    errors: Vec<String>,
}

impl Validation {
    fn fail(mut self, value: &dyn Display, member: &str, constraint: &str) -> Self {
        self.errors.push(format!(
            "Value {value} at '{member}' failed to satisfy constraint: Member must {constraint}"
        ));
        self
    }

    /// A text that must be given, with at most `max` characters.
    pub(crate) fn text(self, member: &str, value: &str, max: usize) -> Self {
        if value.is_empty() {
            return self.fail(&"null", member, "not be null");
        }
        self.length(member, Some(value), 1, max)
    }

    /// `length`, of a text that may be missing.
    pub(crate) fn length(self, member: &str, value: Option<&str>, min: usize, max: usize) -> Self {
        let Some(value) = value else {
            return self;
        };
        let len = value.chars().count();
        let shown = format!("'{value}'");
        if len < min {
            self.fail(&shown, member, &format!("have length greater than or equal to {min}"))
        } else if len > max {
            self.fail(&shown, member, &format!("have length less than or equal to {max}"))
        } else {
            self
        }
    }

    /// Bytes, never shown.
    pub(crate) fn bytes(self, member: &str, value: &[u8], max: usize) -> Self {
        if value.is_empty() {
            self.fail(&"null", member, "not be null")
        } else if value.len() > max {
            let constraint = format!("have length less than or equal to {max}");
            self.fail(&"'java.nio.HeapByteBuffer'", member, &constraint)
        } else {
            self
        }
    }

    pub(crate) fn range(self, member: &str, value: Option<i64>, min: i64, max: i64) -> Self {
        let Some(value) = value else {
            return self;
        };
        let shown = format!("'{value}'");
        if value < min {
            self.fail(&shown, member, &format!("have value greater than or equal to {min}"))
        } else if value > max {
            self.fail(&shown, member, &format!("have value less than or equal to {max}"))
        } else {
            self
        }
    }

    pub(crate) fn one_of(self, member: &str, value: Option<&str>, set: &[&str]) -> Self {
        match value {
            Some(value) if !set.contains(&value) => {
                let constraint = format!("satisfy enum value set: [{}]", set.join(", "));
                self.fail(&format!("'{value}'"), member, &constraint)
            }
            _ => self,
        }
    }

    /// A list with at most `max` items.
    pub(crate) fn items(self, member: &str, len: usize, max: usize) -> Self {
        if len > max {
            let constraint = format!("have length less than or equal to {max}");
            return self.fail(&format!("'[{len} items]'"), member, &constraint);
        }
        self
    }

    pub(crate) fn pattern(self, member: &str, value: &str, is_good: bool, pattern: &str) -> Self {
        if is_good {
            return self;
        }
        let constraint = format!("satisfy regular expression pattern: {pattern}");
        self.fail(&format!("'{value}'"), member, &constraint)
    }

    pub(crate) fn key_id(self, member: &str, value: &str) -> Self {
        self.text(member, value, 2048)
    }

    pub(crate) fn grant_tokens(self, tokens: &[String]) -> Self {
        self.items("grantTokens", tokens.len(), 10)
    }

    /// # Errors
    /// `ValidationException` with everything that is wrong.
    pub(crate) fn finish(self) -> Result<()> {
        let count = self.errors.len();
        if count == 0 {
            return Ok(());
        }
        let s = if count == 1 { "" } else { "s" };
        Err(KmsException::validation(format!(
            "{count} validation error{s} detected: {}",
            self.errors.join("; ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let error = Validation::default()
            .key_id("keyId", "")
            .one_of("keySpec", Some("AES_512"), &["AES_256", "AES_128"])
            .range("limit", Some(0), 1, 100)
            .length("name", Some("ab"), 1, 2)
            .finish()
            .unwrap_err();
        assert_eq!(error.name(), "ValidationException");
        assert_eq!(
            error.message(),
            "3 validation errors detected: Value null at 'keyId' failed to satisfy constraint: \
             Member must not be null; Value 'AES_512' at 'keySpec' failed to satisfy constraint: \
             Member must satisfy enum value set: [AES_256, AES_128]; Value '0' at 'limit' failed \
             to satisfy constraint: Member must have value greater than or equal to 1"
        );
        assert!(Validation::default().key_id("keyId", "k").finish().is_ok());
    }
}
