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
    /// The KMS does not accept Coffer's own credentials, or there are none: says nothing about the
    /// key. As transient.
    Credentials,
    /// An exception nobody knows: as transient, and never taken for a refusal.
    Ambiguous,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Definitive,
        Self::Transient,
        Self::Integrity,
        Self::Configuration,
        Self::Credentials,
        Self::Ambiguous,
    ];

    /// Its name in system tables and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Definitive => "definitive",
            Self::Transient => "transient",
            Self::Integrity => "integrity",
            Self::Configuration => "configuration",
            Self::Credentials => "credentials",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// Names of failures that no KMS answered: what providers call them.
pub mod failure {
    /// No answer in time.
    pub const TIMEOUT: &str = "RequestTimeout";
    /// No connection: refused, reset, no such host, TLS.
    pub const CONNECTION: &str = "ConnectionFailure";
    /// An answer that cannot be read.
    pub const RESPONSE: &str = "InvalidResponse";
    /// An answer with this status (5xx) and no exception in it.
    pub const SERVER: &str = "InternalFailure";
    /// The provider has no credentials to sign with.
    pub const NO_CREDENTIALS: &str = "MissingCredentials";
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
        Self::new(operation, failure::TIMEOUT, format!("no answer within {millis} ms"))
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

    /// The permission that was missing, as `kms:Decrypt`, where the KMS names it.
    #[must_use]
    pub fn missing_permission(&self) -> Option<&str> {
        let (_, rest) = self.message.split_once("not authorized to perform: ")?;
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == ':'));
        let action = rest.get(..end.unwrap_or(rest.len()))?;
        action.starts_with("kms:").then_some(action)
    }

    /// The same with more said at the end of the text.
    #[must_use]
    pub fn with_note(mut self, note: &str) -> Self {
        if !self.message.is_empty() {
            self.message.push_str("; ");
        }
        self.message.push_str(note);
        self
    }

    /// How to react.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.class
    }
}

/// By spec: which exceptions say that the key is gone for Coffer, and which do not.
fn classify(name: &str, message: &str) -> ErrorClass {
    match name {
        "DisabledException" | "NotFoundException" | "AccessDeniedException" => {
            ErrorClass::Definitive
        }
        "KMSInvalidStateException" => classify_state(message),
        "InvalidCiphertextException" | "IncorrectKeyException" => ErrorClass::Integrity,
        "InvalidKeyUsageException"
        | "UnsupportedOperationException"
        | "InvalidArnException"
        | "InvalidGrantIdException"
        | "InvalidGrantTokenException"
        | "InvalidAliasNameException"
        | "AlreadyExistsException"
        | "MalformedPolicyDocumentException"
        | "DryRunOperationException"
        | "ValidationException"
        | "ValidationError"
        | "LimitExceededException" => ErrorClass::Configuration,
        "KeyUnavailableException"
        | "DependencyTimeoutException"
        | "KMSInternalException"
        | "ConflictException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "RequestTimeoutException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "InternalError"
        | "InternalException"
        | "InternalServerError"
        | failure::SERVER
        | failure::TIMEOUT
        | failure::CONNECTION
        | failure::RESPONSE => ErrorClass::Transient,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClient"
        | "UnrecognizedClientException"
        | failure::NO_CREDENTIALS => ErrorClass::Credentials,
        _ => ErrorClass::Ambiguous,
    }
}

/// `KMSInvalidStateException` is many things; which one stands in its text only.
fn classify_state(message: &str) -> ErrorClass {
    let says = |what: &str| message.contains(what);
    if says("is not pending") {
        ErrorClass::Configuration
    } else if says("pending deletion") || says("pending replica deletion") || says("pending import")
    {
        ErrorClass::Definitive
    } else if says("is unavailable") || says("is creating") || says("is updating") {
        ErrorClass::Transient
    } else {
        ErrorClass::Ambiguous
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_exception_has_its_class() {
        use ErrorClass::{Ambiguous, Configuration, Credentials, Definitive, Integrity, Transient};
        let table = [
            ("DisabledException", "arn is disabled.", Definitive),
            ("DisabledException", "arn is pending deletion.", Definitive),
            ("NotFoundException", "Key 'arn' does not exist", Definitive),
            ("AccessDeniedException", "", Definitive),
            ("KMSInvalidStateException", "arn is pending deletion.", Definitive),
            ("KMSInvalidStateException", "arn is pending replica deletion.", Definitive),
            ("KMSInvalidStateException", "arn is pending import because", Definitive),
            ("KMSInvalidStateException", "arn is unavailable.", Transient),
            ("KMSInvalidStateException", "arn is creating.", Transient),
            ("KMSInvalidStateException", "arn is updating.", Transient),
            ("KMSInvalidStateException", "arn is not pending deletion.", Configuration),
            ("KMSInvalidStateException", "arn is in a state of the future.", Ambiguous),
            ("KeyUnavailableException", "", Transient),
            ("DependencyTimeoutException", "", Transient),
            ("KMSInternalException", "", Transient),
            ("ConflictException", "", Transient),
            ("ThrottlingException", "", Transient),
            ("Throttling", "", Transient),
            ("RequestLimitExceeded", "", Transient),
            ("TooManyRequestsException", "", Transient),
            ("ServiceUnavailable", "", Transient),
            ("ServiceUnavailableException", "", Transient),
            ("InternalFailure", "", Transient),
            ("RequestTimeout", "", Transient),
            ("ConnectionFailure", "", Transient),
            ("InvalidResponse", "", Transient),
            ("ExpiredTokenException", "", Credentials),
            ("ExpiredToken", "", Credentials),
            ("UnrecognizedClientException", "", Credentials),
            ("UnrecognizedClient", "", Credentials),
            ("InvalidClientTokenId", "", Credentials),
            ("SignatureDoesNotMatch", "", Credentials),
            ("InvalidSignatureException", "", Credentials),
            ("IncompleteSignature", "", Credentials),
            ("MissingAuthenticationToken", "", Credentials),
            ("MissingCredentials", "", Credentials),
            ("NeverHeardOfException", "arn is pending deletion.", Ambiguous),
            ("", "", Ambiguous),
            ("disabledexception", "arn is disabled.", Ambiguous),
            ("InvalidCiphertextException", "", Integrity),
            ("IncorrectKeyException", "", Integrity),
            ("InvalidKeyUsageException", "", Configuration),
            ("UnsupportedOperationException", "", Configuration),
            ("InvalidArnException", "", Configuration),
            ("InvalidGrantTokenException", "", Configuration),
            ("InvalidGrantIdException", "", Configuration),
            ("DryRunOperationException", "", Configuration),
            ("ValidationException", "", Configuration),
            ("ValidationError", "", Configuration),
            ("LimitExceededException", "", Configuration),
        ];
        for (name, message, class) in table {
            let error = KmsError::new(KmsOperation::Decrypt, name, message);
            assert_eq!(error.class(), class, "{name}: {message}");
        }
    }

    #[test]
    fn the_missing_permission_is_read_from_the_text() {
        let permission = |message: &str| {
            let error = KmsError::new(KmsOperation::Decrypt, "AccessDeniedException", message);
            error.missing_permission().map(str::to_owned)
        };
        let text = "User: arn:aws:iam::1:role/coffer-data is not authorized to perform: \
                    kms:Decrypt on resource: arn because no resource-based policy allows it";
        assert_eq!(permission(text).as_deref(), Some("kms:Decrypt"));
        assert_eq!(permission("not authorized to perform: kms:X").as_deref(), Some("kms:X"));
        for other in ["", "no", "not authorized to perform: ", "not authorized to perform: s3:Get"]
        {
            assert_eq!(permission(other), None);
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
