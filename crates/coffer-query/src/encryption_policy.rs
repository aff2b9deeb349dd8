//! Rules for the encryption of tables: those of the server and those of a keyspace.
//!
//! A keyspace adds to the rules of the server and takes none away. Keyspaces keep theirs in
//! `KeyspaceSchema::custom_properties`.

use std::collections::BTreeMap;

use coffer_keys::EncryptionSpecification;
use coffer_model::KeyspaceSchema;

use crate::custom_properties::{ENCRYPTION, encryption};
use crate::error::{Error, Result};

/// Custom property of a keyspace with its rules.
pub(crate) const POLICY: &str = "encryption_policy";

const REQUIRE_CMK: &str = "require_cmk";
const ALLOWED_KMS_KEYS: &str = "allowed_kms_keys";
const IMMUTABLE: &str = "immutable_encryption";
const DOUBLE_WRAPPING: &str = "double_wrapping";
const FIELDS: [&str; 4] = [REQUIRE_CMK, ALLOWED_KMS_KEYS, IMMUTABLE, DOUBLE_WRAPPING];

/// What the server's configuration says of the keys of tables.
#[derive(Debug, Clone, Default)]
pub struct EncryptionOptions {
    /// Tables must be under a customer managed key.
    pub require_cmk: bool,
    /// ARNs that may be chosen, `*` for any run of characters; empty means any key.
    pub allowed_kms_keys: Vec<String>,
    /// The key of a table cannot be changed once it is created.
    pub immutable_encryption: bool,
    /// A table key that a KMS wrapped is wrapped under the root key as well: both are needed.
    pub double_wrapping: bool,
    /// The key of tables whose statement and keyspace name none; `None` means an owned key.
    pub default_encryption: Option<EncryptionSpecification>,
    /// Days after which a table gets a new table key under the same KMS key; 0 means never.
    pub table_key_days_max: u32,
    /// Days after which segments are rewritten with a new data key; 0 means never.
    pub data_key_days_max: u32,
    /// Principals (ARNs) of the KMS by the CQL role they stand for; a mapped role reads and writes
    /// tables with a customer managed key only while its principal may use the key.
    pub role_principals: BTreeMap<String, String>,
}

/// The rules that hold for the tables of one keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncryptionPolicy<'a> {
    keyspace: &'a str,
    require_cmk: Option<Origin>,
    /// Each of the lists must allow a key.
    allowed: Vec<(Origin, Vec<&'a str>)>,
    immutable: Option<Origin>,
    /// Whether table keys are wrapped under the root key as well.
    pub double_wrapping: bool,
    default: Option<EncryptionSpecification>,
}

/// Who set a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Server,
    Keyspace,
}

impl<'a> EncryptionPolicy<'a> {
    /// The rules of the server together with those of the keyspace.
    pub(crate) fn of(options: &'a EncryptionOptions, keyspace: &'a KeyspaceSchema) -> Self {
        let none = BTreeMap::new();
        let rules = keyspace.custom_properties.get(POLICY);
        let is_set = |name: &str| {
            rules.unwrap_or(&none).get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let origin = |of_server: bool, name: &str| {
            let of_keyspace = is_set(name).then_some(Origin::Keyspace);
            if of_server { Some(Origin::Server) } else { of_keyspace }
        };
        let mut allowed = Vec::new();
        if !options.allowed_kms_keys.is_empty() {
            let patterns = options.allowed_kms_keys.iter().map(String::as_str).collect();
            allowed.push((Origin::Server, patterns));
        }
        if let Some(list) = rules.and_then(|rules| rules.get(ALLOWED_KMS_KEYS)) {
            allowed.push((Origin::Keyspace, patterns(list).collect()));
        }
        let default = keyspace.custom_properties.get(ENCRYPTION);
        let default = default.and_then(|fields| encryption(fields).ok());
        EncryptionPolicy {
            keyspace: &keyspace.name,
            require_cmk: origin(options.require_cmk, REQUIRE_CMK),
            allowed,
            immutable: origin(options.immutable_encryption, IMMUTABLE),
            double_wrapping: options.double_wrapping || is_set(DOUBLE_WRAPPING),
            default: default.or_else(|| options.default_encryption.clone()),
        }
    }

    /// The key of a new table: what its statement says, else the keyspace, else the server, else an
    /// owned key.
    pub(crate) fn chosen(
        &self,
        of_statement: Option<&EncryptionSpecification>,
    ) -> EncryptionSpecification {
        let chosen = of_statement.or(self.default.as_ref());
        chosen.cloned().unwrap_or(EncryptionSpecification::AwsOwned)
    }

    /// Whether a table may be under this key.
    ///
    /// # Errors
    /// Invalid, naming the option and who set it.
    pub(crate) fn check(&self, table: &str, chosen: &EncryptionSpecification) -> Result<()> {
        let Some(arn) = chosen.arn() else {
            return match self.require_cmk {
                None => Ok(()),
                Some(origin) => Err(Error::Invalid(format!(
                    "{REQUIRE_CMK} is set {}: table {}.{table} cannot be under \
                     AWS_OWNED_KMS_KEY; name a CUSTOMER_MANAGED_KMS_KEY in \
                     encryption_specification",
                    self.place(origin),
                    self.keyspace
                ))),
            };
        };
        let refusing =
            self.allowed.iter().find(|(_, list)| !list.iter().any(|pattern| matches(pattern, arn)));
        match refusing {
            None => Ok(()),
            Some((origin, list)) => Err(Error::Invalid(format!(
                "{ALLOWED_KMS_KEYS} is set {} and does not allow {arn} for table {}.{table}; \
                 allowed: {}",
                self.place(*origin),
                self.keyspace,
                list.join(", ")
            ))),
        }
    }

    /// Whether the key of a table may be changed.
    ///
    /// # Errors
    /// Invalid, naming the option and who set it.
    pub(crate) fn check_change(&self, table: &str) -> Result<()> {
        self.immutable.map_or(Ok(()), |origin| {
            Err(Error::Invalid(format!(
                "{IMMUTABLE} is set {}: the encryption of table {}.{table} cannot be changed after \
                 its creation",
                self.place(origin),
                self.keyspace
            )))
        })
    }

    fn place(&self, origin: Origin) -> String {
        match origin {
            Origin::Server => "in the configuration of the server".to_owned(),
            Origin::Keyspace => format!("in {POLICY} of keyspace {}", self.keyspace),
        }
    }
}

/// Checks the custom properties of a keyspace: `encryption_specification`, the default of its tables,
/// and `encryption_policy`, the rules for them.
///
/// # Errors
/// Invalid, naming the property and what it may be.
pub(crate) fn check_keyspace_properties(
    properties: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<()> {
    for (name, fields) in properties {
        match name.as_str() {
            ENCRYPTION => drop(encryption(fields)?),
            POLICY => fields.iter().try_for_each(|(field, value)| check_rule(field, value))?,
            _ => {
                return Err(Error::Invalid(format!(
                    "unknown custom property '{name}' of a keyspace: {ENCRYPTION}, {POLICY} are \
                     allowed"
                )));
            }
        }
    }
    Ok(())
}

fn check_rule(field: &str, value: &str) -> Result<()> {
    match field {
        REQUIRE_CMK | IMMUTABLE | DOUBLE_WRAPPING => {
            if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
                return Ok(());
            }
            Err(Error::Invalid(format!(
                "field '{field}' of custom property '{POLICY}' must be 'true' or 'false', got \
                 '{value}'"
            )))
        }
        ALLOWED_KMS_KEYS => match patterns(value).find(|pattern| !pattern.starts_with("arn:")) {
            None if patterns(value).next().is_some() => Ok(()),
            _ => Err(Error::Invalid(format!(
                "field '{field}' of custom property '{POLICY}' must be ARNs separated by commas, \
                 with * for any characters"
            ))),
        },
        _ => Err(Error::Invalid(format!(
            "unknown field '{field}' of custom property '{POLICY}': {} are allowed",
            FIELDS.join(", ")
        ))),
    }
}

fn patterns(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty())
}

/// Whether `text` is `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/1";

    fn keyspace(rules: &[(&str, &str)]) -> KeyspaceSchema {
        let rules = rules.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        KeyspaceSchema {
            name: "k".into(),
            replication: BTreeMap::new(),
            durable_writes: true,
            tags: BTreeMap::new(),
            custom_properties: BTreeMap::from([(POLICY.to_owned(), rules.collect())]),
            types: BTreeMap::new(),
        }
    }

    fn customer_managed(arn: &str) -> EncryptionSpecification {
        EncryptionSpecification::parse([
            ("encryption_type", "CUSTOMER_MANAGED_KMS_KEY"),
            ("kms_key_identifier", arn),
        ])
        .unwrap()
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a*a", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_keyspace_adds_rules_and_takes_none_away() {
        let mut options = EncryptionOptions { require_cmk: true, ..EncryptionOptions::default() };
        options.allowed_kms_keys = vec!["arn:aws:kms:us-east-1:*".into()];
        let keyspace =
            keyspace(&[(REQUIRE_CMK, "false"), (ALLOWED_KMS_KEYS, "arn:*:key/1, arn:*:key/2")]);
        let policy = EncryptionPolicy::of(&options, &keyspace);
        policy.check("t", &customer_managed(KEY)).unwrap();
        let refusal = policy.check("t", &EncryptionSpecification::AwsOwned).unwrap_err();
        assert!(refusal.to_string().contains("require_cmk is set in the configuration"));
        for other in ["us-east-1:000000000000:key/3", "us-west-1:000000000000:key/1"] {
            let other = customer_managed(&format!("arn:aws:kms:{other}"));
            let refusal = policy.check("t", &other).unwrap_err().to_string();
            assert!(refusal.contains("allowed_kms_keys"), "{refusal}");
        }
    }

    #[test]
    fn statement_then_keyspace_then_server_then_owned_is_the_order_of_defaults() {
        let mut options = EncryptionOptions::default();
        let mut keyspace = keyspace(&[]);
        let of_table = customer_managed("arn:aws:kms:us-east-1:000000000000:key/t");
        let chosen = |options: &EncryptionOptions, keyspace: &KeyspaceSchema| {
            EncryptionPolicy::of(options, keyspace).chosen(None)
        };
        assert_eq!(chosen(&options, &keyspace), EncryptionSpecification::AwsOwned);
        let of_server = customer_managed("arn:aws:kms:us-east-1:000000000000:key/s");
        options.default_encryption = Some(of_server.clone());
        assert_eq!(chosen(&options, &keyspace), of_server);
        keyspace
            .custom_properties
            .insert(ENCRYPTION.to_owned(), customer_managed(KEY).to_properties());
        assert_eq!(chosen(&options, &keyspace).arn(), Some(KEY));
        let policy = EncryptionPolicy::of(&options, &keyspace);
        assert_eq!(policy.chosen(Some(&of_table)), of_table);
        let owned = EncryptionSpecification::AwsOwned;
        assert_eq!(policy.chosen(Some(&owned)), owned);
    }
}
