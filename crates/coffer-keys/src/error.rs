//! The errors of this crate, one variant per reaction of the caller.

use crate::{ErrorClass, KmsError, SpecificationError, TableName};
use std::{fmt, path::PathBuf, sync::Arc};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, KeyError>;

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
    /// `encryption_specification` says nothing that can be done (CQL 0x2200).
    #[error(transparent)]
    Specification(#[from] SpecificationError),
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
        let refusal = Arc::new(Refusal { table: table.clone(), arn: arn.to_owned(), error });
        match class {
            ErrorClass::Definitive => Self::Definitive(refusal),
            ErrorClass::Transient => Self::Transient(refusal),
            ErrorClass::Integrity => Self::Integrity(refusal),
            ErrorClass::Configuration => Self::Configuration(refusal),
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
            | Self::Configuration(refusal) => Some(refusal),
            _ => None,
        }
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
    /// The KMS's answer.
    pub error: KmsError,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, remedy) = self.prefix_and_remedy();
        write!(f, "{prefix}: ")?;
        let message = self.error.message();
        if !message.contains(&self.arn) {
            write!(f, "{}", self.arn)?;
            f.write_str(if message.is_empty() { "" } else { ": " })?;
        }
        let name = self.error.name();
        write!(f, "{message} (table {}; KMS {name}; {remedy})", self.table)
    }
}

impl Refusal {
    /// The texts that clients of the reference system know, and what the user can do.
    fn prefix_and_remedy(&self) -> (&'static str, &'static str) {
        match self.error.name() {
            "DisabledException" => {
                ("KMS key disabled error", "enable the key in the KMS, the table needs no restart")
            }
            "AccessDeniedException" => {
                ("KMS key access denied error", "allow the operation in the key's policy or grants")
            }
            "NotFoundException" => (
                "KMS key not found error",
                "use the ARN of an existing key; data under a deleted key is lost",
            ),
            "KMSInvalidStateException" if self.error.message().contains("pending deletion") => {
                ("KMS validation error", "cancel the deletion, then enable the key")
            }
            _ => match self.error.class() {
                ErrorClass::Definitive | ErrorClass::Configuration => {
                    ("KMS validation error", "use an enabled symmetric key of this KMS")
                }
                ErrorClass::Transient => ("KMS unavailable error", "try again"),
                ErrorClass::Integrity => (
                    "KMS key blob error",
                    "the table's stored key is damaged or swapped, restore it from a backup",
                ),
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
        ];
        for (name, message, prefix) in cases {
            let text = text(name, &message);
            assert!(text.starts_with(prefix), "{text}");
            assert!(text.contains(ARN) && text.contains(&format!("(table ks.t; KMS {name}; ")));
        }
    }

    #[test]
    fn the_disabled_text_is_that_of_the_reference_system() {
        let text = text("DisabledException", &format!("{ARN} is disabled."));
        let start = format!("KMS key disabled error: {ARN} is disabled. (table ks.t; KMS Disabled");
        assert!(text.starts_with(&start), "{text}");
    }
}
