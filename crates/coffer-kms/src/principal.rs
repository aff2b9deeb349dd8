//! Who calls the KMS, and from where.

use std::net::IpAddr;

/// Who calls. Everybody belongs to the account of the KMS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The account itself: all rights of IAM, in force where a key policy gives them to the account.
    Root,
    /// A user with an access key.
    User {
        /// Without path.
        name: String,
    },
    /// A role that was assumed.
    Role {
        /// Without path.
        name: String,
    },
}

/// The role that describes keys, and makes and retires grants for Coffer's tables.
pub const CONTROL_ROLE: &str = "coffer";
/// The role that uses keys for Coffer's tables; it has no rights but what grants and key policies
/// give it.
pub const DATA_ROLE: &str = "coffer-data";

impl Principal {
    /// Coffer's control identity.
    #[must_use]
    pub fn control() -> Self {
        Self::Role { name: CONTROL_ROLE.to_owned() }
    }

    /// Coffer's data identity.
    #[must_use]
    pub fn data() -> Self {
        Self::Role { name: DATA_ROLE.to_owned() }
    }

    /// `arn:aws:iam::ACCOUNT:root`, `:user/NAME` or `:role/NAME`.
    #[must_use]
    pub fn arn(&self, account: &str) -> String {
        match self {
            Self::Root => format!("arn:aws:iam::{account}:root"),
            Self::User { name } => format!("arn:aws:iam::{account}:user/{name}"),
            Self::Role { name } => format!("arn:aws:iam::{account}:role/{name}"),
        }
    }

    /// The principal of an ARN of this account; `None` for any other.
    #[must_use]
    pub fn of_arn(arn: &str, account: &str) -> Option<Self> {
        let rest = arn.strip_prefix("arn:aws:iam::")?.strip_prefix(account)?.strip_prefix(':')?;
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        match rest.split_once('/') {
            None if rest == "root" => Some(Self::Root),
            Some(("user", name)) => named(name).map(|name| Self::User { name }),
            Some(("role", name)) => named(name).map(|name| Self::Role { name }),
            _ => None,
        }
    }
}

/// Where a call comes from; for the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallSource {
    /// Address of the peer; `None` for a call from inside the process.
    pub ip: Option<IpAddr>,
    /// As the client says.
    pub user_agent: Option<String>,
    /// Version and cipher of the connection.
    pub tls: Option<TlsDetails>,
    /// The access key that signed the request.
    pub access_key_id: Option<String>,
    /// Names the call in answer and audit log; made up when not given.
    pub request_id: Option<String>,
}

/// What is known of an encrypted connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsDetails {
    /// As `TLSv1.3`.
    pub version: String,
    /// As `TLS_AES_256_GCM_SHA384`.
    pub cipher_suite: String,
    /// The `Host` header.
    pub host: String,
}

/// On whose behalf an operation is performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// The service that makes the call for the principal: the condition key `kms:ViaService`.
    pub via_service: Option<String>,
    /// For the audit log.
    pub source: CallSource,
}

impl Caller {
    /// A call from inside the process.
    #[must_use]
    pub fn internal(principal: Principal, via_service: Option<String>) -> Self {
        Self { principal, via_service, source: CallSource::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_comes_back_from_its_arn() {
        for principal in [
            Principal::Root,
            Principal::User { name: "ann".to_owned() },
            Principal::control(),
            Principal::data(),
        ] {
            let arn = principal.arn("000000000000");
            assert_eq!(Principal::of_arn(&arn, "000000000000"), Some(principal));
            assert_eq!(Principal::of_arn(&arn, "111122223333"), None);
        }
        for arn in ["arn:aws:iam::000000000000:user/", "arn:aws:iam::000000000000:group/a", ""] {
            assert_eq!(Principal::of_arn(arn, "000000000000"), None, "{arn}");
        }
    }
}
