//! `encryption_specification` of `CUSTOM_PROPERTIES`: parsed once, then a valid value.

use coffer_crypto::EncryptionType;
use std::{collections::BTreeMap, fmt};

const ENCRYPTION_TYPE: &str = "encryption_type";
const KMS_KEY_IDENTIFIER: &str = "kms_key_identifier";
/// Longest ARN a KMS accepts.
const ARN_LEN_MAX: usize = 2048;

/// Which key a table is to be encrypted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncryptionSpecification {
    /// The service's own root key; the default.
    AwsOwned,
    /// This key of the KMS.
    CustomerManaged(KeyArn),
}

/// What is wrong with an `encryption_specification`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecificationError {
    /// A property that does not exist.
    #[error(
        "unknown property in encryption_specification: '{0}' (allowed: encryption_type, \
         kms_key_identifier)"
    )]
    UnknownProperty(String),
    /// The same property twice, in different letter case.
    #[error("property given twice in encryption_specification: {0}")]
    Repeated(&'static str),
    /// A type that does not exist.
    #[error(
        "invalid encryption_type: '{0}' (allowed: AWS_OWNED_KMS_KEY, CUSTOMER_MANAGED_KMS_KEY; \
         encryption at rest cannot be turned off)"
    )]
    UnknownType(String),
    /// A customer managed key without saying which.
    #[error("CUSTOMER_MANAGED_KMS_KEY needs kms_key_identifier, the ARN of a KMS key")]
    MissingKey,
    /// A key where the type takes none.
    #[error(
        "kms_key_identifier needs encryption_type CUSTOMER_MANAGED_KMS_KEY; AWS_OWNED_KMS_KEY \
         takes no key"
    )]
    UnexpectedKey,
    /// A key id, an alias or something else that is not the ARN of a key.
    #[error(
        "kms_key_identifier must be the ARN of a KMS key \
         (arn:aws:kms:REGION:ACCOUNT:key/ID), found '{0}'"
    )]
    NoArn(String),
    /// Pairs that a table cannot add to its encryption context.
    #[error("kms_encryption_context: {0}")]
    ExtraContext(String),
}

impl EncryptionSpecification {
    /// Reads the properties of `encryption_specification`; names in any letter case.
    ///
    /// # Errors
    /// A [`SpecificationError`] that names the property and the allowed values.
    pub fn parse<'a>(
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SpecificationError> {
        let (mut encryption_type, mut key) = (None, None);
        for (name, value) in properties {
            let (slot, canonical) = if name.eq_ignore_ascii_case(ENCRYPTION_TYPE) {
                (&mut encryption_type, ENCRYPTION_TYPE)
            } else if name.eq_ignore_ascii_case(KMS_KEY_IDENTIFIER) {
                (&mut key, KMS_KEY_IDENTIFIER)
            } else {
                return Err(SpecificationError::UnknownProperty(shown(name)));
            };
            if slot.replace(value).is_some() {
                return Err(SpecificationError::Repeated(canonical));
            }
        }
        match (encryption_type.unwrap_or(EncryptionType::AwsOwned.as_str()), key) {
            ("AWS_OWNED_KMS_KEY", None) => Ok(Self::AwsOwned),
            ("AWS_OWNED_KMS_KEY", Some(_)) => Err(SpecificationError::UnexpectedKey),
            ("CUSTOMER_MANAGED_KMS_KEY", Some(arn)) => {
                KeyArn::parse(arn).map(Self::CustomerManaged)
            }
            ("CUSTOMER_MANAGED_KMS_KEY", None) => Err(SpecificationError::MissingKey),
            (other, _) => Err(SpecificationError::UnknownType(shown(other))),
        }
    }

    /// The properties as system tables and DESCRIBE show them. No key id for an owned key.
    #[must_use]
    pub fn to_properties(&self) -> BTreeMap<String, String> {
        let mut properties = BTreeMap::new();
        properties.insert(ENCRYPTION_TYPE.to_owned(), self.encryption_type().as_str().to_owned());
        if let Self::CustomerManaged(arn) = self {
            properties.insert(KMS_KEY_IDENTIFIER.to_owned(), arn.as_str().to_owned());
        }
        properties
    }

    /// Who keeps the key.
    #[must_use]
    pub fn encryption_type(&self) -> EncryptionType {
        match self {
            Self::AwsOwned => EncryptionType::AwsOwned,
            Self::CustomerManaged(_) => EncryptionType::CustomerManaged,
        }
    }

    /// ARN of the KMS key, `None` for an owned key.
    #[must_use]
    pub fn arn(&self) -> Option<&str> {
        match self {
            Self::AwsOwned => None,
            Self::CustomerManaged(arn) => Some(arn.as_str()),
        }
    }
}

/// The ARN of a key, checked for its shape only: the reference documentation's own sample has an
/// account of 13 digits and an id that is no UUID. Whether the key exists the KMS says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyArn(String);

impl KeyArn {
    /// Accepts `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`.
    ///
    /// # Errors
    /// [`SpecificationError::NoArn`] for everything else.
    pub fn parse(text: &str) -> Result<Self, SpecificationError> {
        let no_arn = || SpecificationError::NoArn(shown(text));
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "kms", region, account, resource] = parts.as_slice() else {
            return Err(no_arn());
        };
        let id = resource.strip_prefix("key/").ok_or_else(no_arn)?;
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let is_account = !account.is_empty() && account.bytes().all(|b| b.is_ascii_digit());
        if text.len() > ARN_LEN_MAX
            || !(is_name(partition) && is_name(region) && is_account && is_name(id))
        {
            return Err(no_arn());
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after `key/`.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, id)| id)
    }

    /// The partition, as `aws`.
    #[must_use]
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or("")
    }

    /// The account that owns the key.
    #[must_use]
    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or("")
    }

    /// The Region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or("")
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// User's text as far as a message needs it.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str =
        "arn:aws:kms:eu-west-1:5555555555555:key/11111111-1111-111-1111-111111111111";

    fn parse(properties: &[(&str, &str)]) -> Result<EncryptionSpecification, SpecificationError> {
        EncryptionSpecification::parse(properties.iter().copied())
    }

    #[test]
    fn forms_of_the_documentation_are_accepted() {
        let arn = KeyArn::parse(SAMPLE).unwrap();
        assert_eq!((arn.region(), arn.key_id().len()), ("eu-west-1", 35));
        let customer = EncryptionSpecification::CustomerManaged(arn);
        let given =
            [("Encryption_Type", "CUSTOMER_MANAGED_KMS_KEY"), ("KMS_KEY_IDENTIFIER", SAMPLE)];
        assert_eq!(parse(&given).unwrap(), customer);
        let shown = customer.to_properties();
        let again = parse(&shown.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>());
        assert_eq!(again.unwrap(), customer);
        let owned = EncryptionSpecification::AwsOwned;
        assert_eq!(parse(&[]).unwrap(), owned);
        assert_eq!(parse(&[("encryption_type", "AWS_OWNED_KMS_KEY")]).unwrap(), owned);
        assert_eq!(owned.to_properties().len(), 1);
    }

    #[test]
    fn what_is_no_arn_is_refused_with_that_word() {
        let long = format!("{SAMPLE}{}", "1".repeat(ARN_LEN_MAX));
        let bad = [
            "",
            "11111111-1111-111-1111-111111111111",
            "alias/my-key",
            "arn:aws:kms:eu-west-1:555:alias/my-key",
            "arn:aws:kms:eu-west-1:555:key/",
            "arn:aws:kms::555:key/k",
            "arn:aws:kms:eu-west-1:abc:key/k",
            "arn:aws:s3:eu-west-1:555:key/k",
            "arn:aws:kms:eu-west-1:555:key/a b",
            &long,
        ];
        for text in bad {
            let given =
                [("encryption_type", "CUSTOMER_MANAGED_KMS_KEY"), ("kms_key_identifier", text)];
            let error = parse(&given).unwrap_err();
            assert!(matches!(error, SpecificationError::NoArn(_)), "{text}");
            assert!(error.to_string().contains("ARN"));
        }
        let missing = parse(&[("encryption_type", "CUSTOMER_MANAGED_KMS_KEY")]).unwrap_err();
        assert!(missing == SpecificationError::MissingKey && missing.to_string().contains("ARN"));
    }

    #[test]
    fn encryption_cannot_be_turned_off() {
        for value in ["NONE", "none", "", "AES_256", "aws_owned_kms_key"] {
            let error = parse(&[("encryption_type", value)]).unwrap_err();
            assert_eq!(error, SpecificationError::UnknownType(value.into()));
        }
    }

    #[test]
    fn unknown_repeated_and_contradicting_properties_are_refused() {
        let unknown = parse(&[("kms_key_id", SAMPLE)]);
        assert!(matches!(unknown, Err(SpecificationError::UnknownProperty(_))));
        let owned = "AWS_OWNED_KMS_KEY";
        let repeated = parse(&[("encryption_type", owned), ("ENCRYPTION_TYPE", owned)]);
        assert_eq!(repeated, Err(SpecificationError::Repeated("encryption_type")));
        let contradiction = parse(&[("kms_key_identifier", SAMPLE)]);
        assert_eq!(contradiction, Err(SpecificationError::UnexpectedKey));
    }
}
