//! `[[kms_provider]]` of the configuration file: KMS beside the embedded one.

use std::path::PathBuf;

use coffer_kms_aws::AwsKmsOptions;

use super::ConfigError;

/// Name of the array of tables.
pub(super) const TABLE: &str = "kms_provider";
/// What may be given, for messages.
const ALLOWED: &str = "tables [[kms_provider]] with kind = \"aws\" and region, and account, \
                       partition, endpoint, profile, assume_role_arn, control_role_arn, \
                       data_role_arn, principal_arn, ca_file where wanted, all of them texts";

/// A KMS beside the embedded one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KmsProviderOptions {
    /// AWS KMS, or what speaks its API.
    Aws(AwsProviderOptions),
}

/// AWS KMS, or what speaks its API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsProviderOptions {
    /// Account of its keys; any when missing.
    pub account: Option<String>,
    /// Partition of its keys; `aws` when missing.
    pub partition: Option<String>,
    /// How it is reached, and as whom; its Region is that of its keys.
    pub client: AwsKmsOptions,
}

fn wrong(source: &str, problem: String) -> ConfigError {
    ConfigError::Value { name: TABLE, source_name: source.to_owned(), problem, allowed: ALLOWED }
}

/// Reads the value of `kms_provider`.
pub(super) fn parse(
    value: &toml::Value,
    source: &str,
) -> Result<Vec<KmsProviderOptions>, ConfigError> {
    let tables =
        value.as_array().ok_or_else(|| wrong(source, "it is no array of tables".to_owned()))?;
    tables
        .iter()
        .map(|table| {
            let table = table
                .as_table()
                .ok_or_else(|| wrong(source, "one of its entries is no table".to_owned()))?;
            parse_one(table).map_err(|problem| wrong(source, problem))
        })
        .collect()
}

fn parse_one(table: &toml::Table) -> Result<KmsProviderOptions, String> {
    let mut kind = None;
    let mut options = AwsProviderOptions::default();
    for (name, value) in table {
        let text = value.as_str().filter(|text| is_plain(text));
        let text = text.ok_or_else(|| format!("{name} is not a text, empty, or too long"))?;
        let text = text.to_owned();
        match name.as_str() {
            "kind" => kind = Some(text),
            "region" => options.client.region = text,
            "account" if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                options.account = Some(text);
            }
            "account" => return Err(format!("account {text:?} is not 12 digits")),
            "partition" => options.partition = Some(text),
            "endpoint" if text.starts_with("https://") || text.starts_with("http://") => {
                options.client.endpoint = Some(text);
            }
            "endpoint" => {
                return Err(format!("endpoint {text:?} begins with neither https:// nor http://"));
            }
            "profile" => options.client.profile = Some(text),
            "assume_role_arn" => options.client.assume_role_arn = Some(role(name, text)?),
            "control_role_arn" => options.client.control_role_arn = Some(role(name, text)?),
            "data_role_arn" => options.client.data_role_arn = Some(role(name, text)?),
            "principal_arn" if text.starts_with("arn:") => {
                options.client.principal_arn = Some(text)
            }
            "principal_arn" => return Err(format!("principal_arn {text:?} is no ARN")),
            "ca_file" => options.client.ca_file = Some(PathBuf::from(text)),
            other => return Err(format!("it has no {other}")),
        }
    }
    match kind.as_deref() {
        Some("aws") => {}
        Some(other) => return Err(format!("kind {other:?} is not one that is there")),
        None => return Err("kind is missing".to_owned()),
    }
    if options.client.region.is_empty() {
        return Err("region is missing".to_owned());
    }
    Ok(KmsProviderOptions::Aws(options))
}

fn role(name: &str, text: String) -> Result<String, String> {
    if text.starts_with("arn:") && text.contains(":role/") {
        Ok(text)
    } else {
        Err(format!("{name} {text:?} is no ARN of a role"))
    }
}

/// Visible ASCII without spaces, of a length that names have.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic())
}
