//! `[role_principals]` of the configuration file: which principal of the KMS a CQL role stands for.

use std::collections::BTreeMap;

use super::ConfigError;

/// Name of the table.
pub(super) const TABLE: &str = "role_principals";
/// What may be given, for messages.
const ALLOWED: &str =
    "a table [role_principals] with lines ROLE = \"arn:aws:iam::ACCOUNT:user/NAME\" (or :role/)";

/// Reads the value of `role_principals`.
pub(super) fn parse(
    value: &toml::Value,
    source: &str,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let wrong = |problem: String| ConfigError::Value {
        name: TABLE,
        source_name: source.to_owned(),
        problem,
        allowed: ALLOWED,
    };
    let table = value.as_table().ok_or_else(|| wrong("it is no table".to_owned()))?;
    let is_principal =
        |arn: &str| arn.starts_with("arn:") && (arn.contains(":user/") || arn.contains(":role/"));
    table
        .iter()
        .map(|(role, arn)| match arn.as_str().filter(|arn| is_principal(arn)) {
            Some(arn) => Ok((role.clone(), arn.to_owned())),
            None => Err(wrong(format!("the value of {role} is no ARN of a user or role"))),
        })
        .collect()
}
