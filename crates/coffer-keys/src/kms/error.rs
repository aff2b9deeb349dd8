//! What a KMS says when it does not do what it was asked.

use crate::{KeyState, KmsOperation};

/// How Coffer reacts to a KMS error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// A refusal: cached keys are dropped at once.
    Definitive,
    /// Try again; cached keys serve up to their maximum age.
    Transient,
    /// The blob is damaged or swapped.
    Integrity,
    /// The request cannot work as it is.
    Configuration,
}

/// An exception of a KMS, with the KMS's own name and text. Never holds key bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} in {operation}: {message}")]
pub struct KmsError {
    operation: KmsOperation,
    name: String,
    message: String,
    class: ErrorClass,
}

impl KmsError {
    /// The exception `name` with its text, classified by both.
    #[must_use]
    pub fn new(
        operation: KmsOperation,
        name: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (name, message) = (name.into(), message.into());
        let class = classify(&name, &message);
        Self { operation, name, message, class }
    }

    /// The exception of a key whose state does not allow `operation`; `None` for a usable one.
    #[must_use]
    pub fn of_state(operation: KmsOperation, arn: &str, state: KeyState) -> Option<Self> {
        let (name, what) = match state {
            KeyState::Enabled | KeyState::Updating => return None,
            KeyState::Disabled => ("DisabledException", "is disabled."),
            KeyState::PendingDeletion => ("KMSInvalidStateException", "is pending deletion."),
            KeyState::PendingImport => ("KMSInvalidStateException", "is pending import."),
            KeyState::Unavailable => ("KMSInvalidStateException", "is unavailable."),
            KeyState::Creating => ("KMSInvalidStateException", "is creating."),
        };
        Some(Self::new(operation, name, format!("{arn} {what}")))
    }

    /// The call did not answer in time.
    #[must_use]
    pub fn timeout(operation: KmsOperation, millis: u128) -> Self {
        Self::new(operation, "RequestTimeout", format!("no answer within {millis} ms"))
    }

    /// The call that failed.
    #[must_use]
    pub fn operation(&self) -> KmsOperation {
        self.operation
    }

    /// The exception's name, as `DisabledException`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The KMS's text; may be empty.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How to react.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.class
    }
}

/// An exception nobody knows is transient: it must never drop a key for good.
fn classify(name: &str, message: &str) -> ErrorClass {
    match name {
        "DisabledException" | "NotFoundException" | "AccessDeniedException" => {
            ErrorClass::Definitive
        }
        "KMSInvalidStateException" if message.contains("is not pending") => {
            ErrorClass::Configuration
        }
        "KMSInvalidStateException"
            if message.contains("pending deletion")
                || message.contains("pending replica deletion")
                || message.contains("pending import") =>
        {
            ErrorClass::Definitive
        }
        "InvalidCiphertextException" | "IncorrectKeyException" => ErrorClass::Integrity,
        "InvalidKeyUsageException"
        | "UnsupportedOperationException"
        | "InvalidArnException"
        | "InvalidGrantTokenException"
        | "InvalidAliasNameException"
        | "AlreadyExistsException"
        | "ValidationException"
        | "ValidationError"
        | "LimitExceededException" => ErrorClass::Configuration,
        _ => ErrorClass::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_exception_has_its_class() {
        use ErrorClass::{Configuration, Definitive, Integrity, Transient};
        let table = [
            ("DisabledException", "arn is disabled.", Definitive),
            ("DisabledException", "arn is pending deletion.", Definitive),
            ("NotFoundException", "Key 'arn' does not exist", Definitive),
            ("AccessDeniedException", "", Definitive),
            ("KMSInvalidStateException", "arn is pending deletion.", Definitive),
            ("KMSInvalidStateException", "arn is pending import because", Definitive),
            ("KMSInvalidStateException", "arn is unavailable.", Transient),
            ("KMSInvalidStateException", "arn is creating.", Transient),
            ("KMSInvalidStateException", "arn is updating.", Transient),
            ("KMSInvalidStateException", "arn is not pending deletion.", Configuration),
            ("KeyUnavailableException", "", Transient),
            ("DependencyTimeoutException", "", Transient),
            ("KMSInternalException", "", Transient),
            ("ThrottlingException", "", Transient),
            ("RequestTimeout", "", Transient),
            ("ExpiredTokenException", "", Transient),
            ("SignatureDoesNotMatch", "", Transient),
            ("NeverHeardOfException", "arn is pending deletion.", Transient),
            ("InvalidCiphertextException", "", Integrity),
            ("IncorrectKeyException", "", Integrity),
            ("InvalidKeyUsageException", "", Configuration),
            ("UnsupportedOperationException", "", Configuration),
            ("InvalidArnException", "", Configuration),
            ("InvalidGrantTokenException", "", Configuration),
            ("ValidationException", "", Configuration),
            ("LimitExceededException", "", Configuration),
        ];
        for (name, message, class) in table {
            let error = KmsError::new(KmsOperation::Decrypt, name, message);
            assert_eq!(error.class(), class, "{name}: {message}");
        }
    }

    #[test]
    fn states_that_can_encrypt_give_no_error() {
        let of_state = |state| KmsError::of_state(KmsOperation::Decrypt, "arn", state);
        assert!(of_state(KeyState::Enabled).is_none() && of_state(KeyState::Updating).is_none());
        assert_eq!(of_state(KeyState::Disabled).unwrap().message(), "arn is disabled.");
        let pending = of_state(KeyState::PendingDeletion).unwrap();
        assert_eq!(pending.name(), "KMSInvalidStateException");
        assert_eq!(pending.class(), ErrorClass::Definitive);
    }
}
