//! The errors of this crate, one variant per reaction of the caller.

use crate::{ErrorClass, KmsError, SpecificationError, TableName};
use coffer_crypto::KeyGrant;
use std::{fmt, path::PathBuf, sync::Arc};

/// Result of this crate.
pub type Result<T, E = KeyError> = std::result::Result<T, E>;

/// Why a table's key cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The KMS refused for good: until somebody changes the key, its policy or its grants, every
    /// further try gives the same (CQL 0x2200).
    #[error("{0}")]
    Definitive(Arc<Refusal>),
    /// The KMS did not answer or asked to come back later (CQL 0x1001).
    #[error("{0}")]
    Transient(Arc<Refusal>),
    /// The stored key blob is damaged, or belongs to another key or table (CQL 0x1300).
    #[error("{0}")]
    Integrity(Arc<Refusal>),
    /// The request itself cannot work: a key of the wrong kind, a malformed ARN (CQL 0x2200).
    #[error("{0}")]
    Configuration(Arc<Refusal>),
    /// The KMS does not accept Coffer's own credentials: as transient, an operator must look
    /// (CQL 0x1001).
    #[error("{0}")]
    Credentials(Arc<Refusal>),
    /// The KMS said something nobody knows: as transient (CQL 0x1001).
    #[error("{0}")]
    Ambiguous(Arc<Refusal>),
    /// `encryption_specification` says nothing that can be done (CQL 0x2200).
    #[error(transparent)]
    Specification(#[from] SpecificationError),
    /// The KMS answered with a key that is not the table's (CQL 0x1300).
    #[error(
        "KMS key blob error: {arn}: the KMS decrypts the table's key to another one (table {table}; \
         integrity; ask who runs the KMS, or restore the table's key record from a backup)"
    )]
    WrongTableKey {
        /// The table.
        table: TableName,
        /// ARN of the KMS key.
        arn: String,
    },
    /// Keys kept on this machine are damaged, or wrapped under another root key (CQL 0x1300).
    #[error("open keys of table {table}: {source}")]
    Damaged {
        /// The table.
        table: TableName,
        /// What did not fit.
        source: Arc<coffer_crypto::Error>,
    },
    /// The table's keys were replaced or forgotten while this request waited: try again.
    #[error("open key of table {0}: keys changed meanwhile, try again")]
    Superseded(TableName),
    /// A root key file or the store of the embedded KMS cannot be used. Stops the start.
    #[error("{action} {}: {reason}", path.display())]
    KeyFile {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
}

impl KeyError {
    /// `error` of a KMS call made for `table` with the key `arn`.
    #[must_use]
    pub fn from_kms(table: &TableName, arn: &str, error: KmsError) -> Self {
        let class = error.class();
        let refusal = Refusal { table: table.clone(), arn: arn.to_owned(), principal: None, error };
        Self::of_class(class, Arc::new(refusal))
    }

    /// As [`Self::from_kms`] for a call that was made as `principal`.
    #[must_use]
    pub fn from_kms_for(table: &TableName, arn: &str, principal: &str, error: KmsError) -> Self {
        let (class, principal) = (error.class(), Some(principal.to_owned()));
        let refusal = Refusal { table: table.clone(), arn: arn.to_owned(), principal, error };
        Self::of_class(class, Arc::new(refusal))
    }

    fn of_class(class: ErrorClass, refusal: Arc<Refusal>) -> Self {
        match class {
            ErrorClass::Definitive => Self::Definitive(refusal),
            ErrorClass::Transient => Self::Transient(refusal),
            ErrorClass::Integrity => Self::Integrity(refusal),
            ErrorClass::Configuration => Self::Configuration(refusal),
            ErrorClass::Credentials => Self::Credentials(refusal),
            ErrorClass::Ambiguous => Self::Ambiguous(refusal),
        }
    }

    pub(crate) fn damaged(table: &TableName, source: coffer_crypto::Error) -> Self {
        Self::Damaged { table: table.clone(), source: Arc::new(source) }
    }

    /// What the KMS said, where a KMS said something.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Definitive(refusal)
            | Self::Transient(refusal)
            | Self::Integrity(refusal)
            | Self::Configuration(refusal)
            | Self::Credentials(refusal)
            | Self::Ambiguous(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// How to react, in the terms of the KMS's errors.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Definitive(_) => ErrorClass::Definitive,
            Self::Transient(_) | Self::Superseded(_) => ErrorClass::Transient,
            Self::Integrity(_) | Self::WrongTableKey { .. } | Self::Damaged { .. } => {
                ErrorClass::Integrity
            }
            Self::Credentials(_) => ErrorClass::Credentials,
            Self::Ambiguous(_) => ErrorClass::Ambiguous,
            Self::Configuration(_) | Self::Specification(_) | Self::KeyFile { .. } => {
                ErrorClass::Configuration
            }
        }
    }
}

impl From<coffer_kms::OpenError> for KeyError {
    fn from(error: coffer_kms::OpenError) -> Self {
        let coffer_kms::OpenError { action, path, reason } = error;
        Self::KeyFile { action, path, reason }
    }
}

/// A key change that failed, with what it left behind in the KMS.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct KeyChangeError {
    /// Why.
    #[source]
    pub error: KeyError,
    /// Grants that were made before it failed: the caller retires them. A grant whose answer was
    /// lost is not among them; [`crate::Keyring::create_grants`] with the same names finds it.
    pub grants: Vec<KeyGrant>,
}

impl From<KeyError> for KeyChangeError {
    fn from(error: KeyError) -> Self {
        Self { error, grants: Vec::new() }
    }
}

impl From<SpecificationError> for KeyChangeError {
    fn from(error: SpecificationError) -> Self {
        KeyError::from(error).into()
    }
}

/// What a KMS said to a call for one table. Its text is what clients see; it names table, key, the
/// KMS's exception and what to do.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The table the call was made for.
    pub table: TableName,
    /// The KMS key.
    pub arn: String,
    /// As whom the call was made, where not as Coffer's data identity.
    pub principal: Option<String>,
    /// The KMS's answer.
    pub error: KmsError,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.prefix())?;
        let message = self.error.message();
        if !message.contains(&self.arn) {
            write!(f, "{}", self.arn)?;
            f.write_str(if message.is_empty() { "" } else { ": " })?;
        }
        write!(f, "{message} (table {}; KMS {}; ", self.table, self.error.name())?;
        if let Some(principal) = &self.principal {
            write!(f, "as {principal}; ")?;
        }
        if let Some(permission) = self.error.missing_permission() {
            write!(f, "missing permission {permission}; ")?;
        }
        write!(f, "{})", self.remedy())
    }
}

impl Refusal {
    /// The texts that clients of the reference system know.
    fn prefix(&self) -> &'static str {
        match self.error.name() {
            "DisabledException" => "KMS key disabled error",
            "AccessDeniedException" => "KMS key access denied error",
            "NotFoundException" => "KMS key not found error",
            _ => match self.error.class() {
                ErrorClass::Definitive | ErrorClass::Configuration => "KMS validation error",
                ErrorClass::Transient | ErrorClass::Ambiguous => "KMS unavailable error",
                ErrorClass::Credentials => "KMS credentials error",
                ErrorClass::Integrity => "KMS key blob error",
            },
        }
    }

    /// What the user can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        let says = |what: &str| self.error.message().contains(what);
        match self.error.name() {
            "DisabledException" if says("pending") => {
                "cancel the deletion, then enable the key, the table needs no restart"
            }
            "DisabledException" => "enable the key in the KMS, the table needs no restart",
            "AccessDeniedException" => {
                "allow the operation in the key's policy, an IAM policy or the table's grant"
            }
            "NotFoundException" if says("Invalid arn") || says("no KMS provider") => {
                "wrong Region or account: use the ARN of a key that a configured KMS holds"
            }
            "NotFoundException" => {
                "no such key: use the ARN of an existing key; data under a deleted key is lost"
            }
            "KMSInvalidStateException" if says("pending import") => {
                "import the same key material again"
            }
            "KMSInvalidStateException" if says("is unavailable") => {
                "connect the key store of the key again"
            }
            "KMSInvalidStateException" if says("pending deletion") => {
                "cancel the deletion, then enable the key"
            }
            "LimitExceededException" => "retire grants of the key, or use another key",
            _ => match self.error.class() {
                ErrorClass::Definitive | ErrorClass::Configuration => {
                    "use an enabled symmetric key of this KMS"
                }
                ErrorClass::Transient | ErrorClass::Ambiguous => "try again",
                ErrorClass::Credentials => {
                    "the operator must renew the server's own KMS credentials, then try again"
                }
                ErrorClass::Integrity => {
                    "the table's stored key is damaged or swapped, restore it from a backup"
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KmsOperation;

    const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/k";

    fn text(name: &str, message: &str) -> String {
        let error = KmsError::new(KmsOperation::Decrypt, name, message);
        KeyError::from_kms(&TableName::new([0; 16], "ks", "t"), ARN, error).to_string()
    }

    #[test]
    fn texts_begin_as_clients_know_them_and_name_table_key_and_exception() {
        let cases = [
            ("DisabledException", format!("{ARN} is disabled."), "KMS key disabled error: "),
            (
                "KMSInvalidStateException",
                format!("{ARN} is pending deletion."),
                "KMS validation error: ",
            ),
            (
                "NotFoundException",
                format!("Key '{ARN}' does not exist"),
                "KMS key not found error: ",
            ),
            ("AccessDeniedException", String::new(), "KMS key access denied error: "),
            ("InvalidCiphertextException", String::new(), "KMS key blob error: "),
            ("ThrottlingException", "slow down".into(), "KMS unavailable error: "),
            ("ExpiredTokenException", String::new(), "KMS credentials error: "),
            ("NobodyKnows", String::new(), "KMS unavailable error: "),
        ];
        for (name, message, prefix) in cases {
            let text = text(name, &message);
            assert!(text.starts_with(prefix), "{text}");
            assert!(text.contains(ARN) && text.contains(&format!("(table ks.t; KMS {name}; ")));
        }
    }

    #[test]
    fn what_is_wrong_and_what_to_do_differ_by_cause() {
        let denied = "User: arn:aws:iam::1:role/coffer-data is not authorized to perform: \
                      kms:Decrypt on resource: arn";
        let cases = [
            ("NotFoundException", "Key does not exist", "no such key"),
            ("NotFoundException", "Invalid arn eu-west-1", "wrong Region or account"),
            ("AccessDeniedException", denied, "missing permission kms:Decrypt; allow"),
            ("KMSInvalidStateException", "k is pending deletion.", "cancel the deletion"),
            ("DisabledException", "k is pending deletion.", "cancel the deletion, then enable"),
            ("KMSInvalidStateException", "k is pending import because", "import the same key"),
            ("SignatureDoesNotMatch", "", "the operator must renew the server's own"),
            ("LimitExceededException", "", "retire grants"),
        ];
        for (name, message, expected) in cases {
            let text = text(name, message);
            assert!(text.contains(expected), "{text}");
        }
        let error = KmsError::new(KmsOperation::Decrypt, "AccessDeniedException", denied);
        let table = TableName::new([0; 16], "ks", "t");
        let refused = KeyError::from_kms_for(&table, ARN, "arn:aws:iam::1:user/ann", error);
        assert!(matches!(refused, KeyError::Definitive(_)));
        assert!(refused.to_string().contains("; as arn:aws:iam::1:user/ann; "), "{refused}");
    }

    #[test]
    fn the_disabled_text_is_that_of_the_reference_system() {
        let text = text("DisabledException", &format!("{ARN} is disabled."));
        let start = format!("KMS key disabled error: {ARN} is disabled. (table ks.t; KMS Disabled");
        assert!(text.starts_with(&start), "{text}");
    }
}
