//! How an AWS KMS is reached, and as whom.

use std::path::PathBuf;

/// Options of an [`crate::AwsKms`]. Credentials come from the standard chain: environment, profile of
/// the shared files (`AWS_CONFIG_FILE`, `AWS_SHARED_CREDENTIALS_FILE`; also `credential_process`), web
/// identity, container, instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsKmsOptions {
    /// Region, as `eu-central-1`.
    pub region: String,
    /// URL of the KMS instead of AWS's own; `https`, or `http` on this machine only.
    pub endpoint: Option<String>,
    /// Profile of the shared files to take the credentials from, before everything else.
    pub profile: Option<String>,
    /// Role that is assumed before anything else.
    pub assume_role_arn: Option<String>,
    /// Role that describes keys and makes and retires grants; assumed with the credentials so far.
    /// The caller's own identity otherwise.
    pub control_role_arn: Option<String>,
    /// Role that uses keys; assumed with the credentials so far. The caller's own identity otherwise.
    pub data_role_arn: Option<String>,
    /// Who the credentials are, where no STS can be asked: grants need to name it.
    pub principal_arn: Option<String>,
    /// Certificates (PEM) to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
}

/// An option that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The endpoint is no URL, or not encrypted.
    #[error("KMS endpoint must be an https URL (or http on a loopback address), endpoint={0}")]
    Endpoint(String),
    /// No region.
    #[error("KMS provider needs a region")]
    NoRegion,
    /// Something that is no ARN of a role or another identity.
    #[error("not the ARN of an identity, {name}={arn}")]
    Principal {
        /// The option.
        name: &'static str,
        /// Its value.
        arn: String,
    },
    /// The file of certificates cannot be used.
    #[error("read certificates of KMS {}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The client could not be made.
    #[error("make client of KMS: {0}")]
    Client(String),
}

impl AwsKmsOptions {
    /// What can be seen without asking anybody.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        if self.region.is_empty() {
            return Err(OptionsError::NoRegion);
        }
        if let Some(endpoint) = self.endpoint.as_deref().filter(|url| !is_safe(url)) {
            return Err(OptionsError::Endpoint(endpoint.to_owned()));
        }
        let principals = [
            ("assume_role_arn", &self.assume_role_arn),
            ("control_role_arn", &self.control_role_arn),
            ("data_role_arn", &self.data_role_arn),
            ("principal_arn", &self.principal_arn),
        ];
        for (name, arn) in principals {
            if let Some(arn) = arn.as_deref().filter(|arn| !is_identity(arn)) {
                return Err(OptionsError::Principal { name, arn: arn.to_owned() });
            }
        }
        Ok(())
    }

    /// PEM of [`Self::ca_file`].
    pub(crate) fn certificates(&self) -> Result<Option<Vec<u8>>, OptionsError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let failed = |reason: String| OptionsError::Certificates { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let begin = b"-----BEGIN CERTIFICATE-----";
        if pem.windows(begin.len()).any(|window| window == begin) {
            Ok(Some(pem))
        } else {
            Err(failed("no certificate in it".to_owned()))
        }
    }
}

fn is_identity(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    matches!(parts.as_slice(), ["arn", partition, "iam" | "sts", "", account, name]
        if !partition.is_empty() && !account.is_empty() && !name.is_empty())
}

/// Keys travel over it: encrypted, or not over a network at all.
fn is_safe(url: &str) -> bool {
    if let Some(rest) = url.strip_prefix("https://") {
        return !rest.is_empty();
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: std::net::IpAddr| address.is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_travel_in_the_clear() {
        let with = |endpoint: &str| AwsKmsOptions {
            region: "r".into(),
            endpoint: Some(endpoint.into()),
            ..AwsKmsOptions::default()
        };
        for endpoint in
            ["https://kms.local:1", "http://127.0.0.1:8080", "http://[::1]:9/", "http://localhost"]
        {
            assert!(with(endpoint).check().is_ok(), "{endpoint}");
        }
        for endpoint in [
            "http://kms.local",
            "http://10.0.0.1:80",
            "http://localhost.evil.com",
            "http://127.0.0.1@evil.com",
            "kms",
            "",
            "https://",
        ] {
            assert!(with(endpoint).check().is_err(), "{endpoint}");
        }
    }

    #[test]
    fn roles_are_named_by_arn() {
        let with = |arn: &str| AwsKmsOptions {
            region: "r".into(),
            data_role_arn: Some(arn.into()),
            ..AwsKmsOptions::default()
        };
        assert!(with("arn:aws:iam::1:role/a").check().is_ok());
        for arn in ["a", "arn:aws:kms:r:1:key/k", "arn:aws:iam::1:", ""] {
            let error = with(arn).check().unwrap_err().to_string();
            assert!(error.contains("data_role_arn"), "{error}");
        }
        assert!(matches!(AwsKmsOptions::default().check(), Err(OptionsError::NoRegion)));
    }
}
