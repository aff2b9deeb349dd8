//! Who asks, and the `Principal` element that names who may.

use super::{MalformedPolicy, json::Json};

/// The principal of a request, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    arn: String,
    account: String,
    kind: RequesterKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RequesterKind {
    Root,
    User { name: String },
    Role,
    AssumedRole { role_arn: String },
    Service,
}

impl Requester {
    /// From `arn:aws:iam::ACCOUNT:root`, `…:user/NAME`, `…:role/NAME`,
    /// `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`, or the name of a service
    /// (`cassandra.amazonaws.com`). `None` for anything else.
    #[must_use]
    pub fn parse(principal: &str) -> Option<Self> {
        let requester = |account: &str, kind| Self {
            arn: principal.to_owned(),
            account: account.to_owned(),
            kind,
        };
        if !principal.starts_with("arn:") {
            return is_service_name(principal).then(|| requester("", RequesterKind::Service));
        }
        let arn = PrincipalArn::parse(principal)?;
        let kind = match (arn.service, arn.resource.split_once('/')) {
            ("iam", None) if arn.resource == "root" => RequesterKind::Root,
            ("iam", Some(("user", path))) => {
                let name = path.rsplit('/').next().unwrap_or(path).to_owned();
                RequesterKind::User { name }
            }
            ("iam", Some(("role", _))) => RequesterKind::Role,
            ("sts", Some(("assumed-role", rest))) => {
                let (role, _session) = rest.split_once('/')?;
                let role_arn = format!("arn:{}:iam::{}:role/{role}", arn.partition, arn.account);
                RequesterKind::AssumedRole { role_arn }
            }
            _ => return None,
        };
        Some(requester(arn.account, kind))
    }

    /// The ARN, or the name of the service.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The account it belongs to; empty for a service.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Whether it is the root user of its account.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.kind == RequesterKind::Root
    }

    /// The value of `aws:PrincipalType`.
    pub(super) fn type_name(&self) -> &'static str {
        match self.kind {
            RequesterKind::Root => "Account",
            RequesterKind::User { .. } => "User",
            RequesterKind::Role | RequesterKind::AssumedRole { .. } => "AssumedRole",
            RequesterKind::Service => "Service",
        }
    }

    /// The value of `aws:PrincipalArn`: for a session, the ARN of its role.
    pub(super) fn principal_arn(&self) -> &str {
        match &self.kind {
            RequesterKind::AssumedRole { role_arn } => role_arn,
            _ => &self.arn,
        }
    }

    /// The value of `aws:username`: users only.
    pub(super) fn user_name(&self) -> Option<&str> {
        match &self.kind {
            RequesterKind::User { name } => Some(name),
            _ => None,
        }
    }

    fn is_service(&self) -> bool {
        self.kind == RequesterKind::Service
    }
}

/// The parts of `arn:PARTITION:iam|sts::ACCOUNT:RESOURCE`.
struct PrincipalArn<'a> {
    partition: &'a str,
    service: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> PrincipalArn<'a> {
    fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (scheme, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let is_good = scheme == "arn"
            && !partition.is_empty()
            && matches!(service, "iam" | "sts")
            && region.is_empty()
            && is_account(account)
            && !resource.ends_with('/')
            && !resource.contains(['*', '?', ' ']);
        is_good.then_some(Self { partition, service, account, resource })
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `NAME.amazonaws.com` and the like; also Coffer's own `coffer.internal`.
fn is_service_name(text: &str) -> bool {
    text.contains('.')
        && !text.starts_with('.')
        && !text.ends_with('.')
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
        })
}

/// One principal that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamedPrincipal {
    /// `*`: anybody.
    Anyone,
    /// An account, by its number or its root ARN: the root user, and all others by delegation.
    Account(String),
    /// A user, role or session.
    Identity(String),
    /// A service.
    Service(String),
}

impl NamedPrincipal {
    /// The names in a `Principal` or `NotPrincipal` element.
    pub(super) fn parse_element(element: &str, json: &Json) -> Result<Vec<Self>, MalformedPolicy> {
        let members = match json {
            Json::String(text) if text == "*" => return Ok(vec![Self::Anyone]),
            Json::Object(members) if !members.is_empty() => members,
            _ => {
                return Err(MalformedPolicy::new(format!(
                    "{element} must be \"*\" or an object such as {{\"AWS\": \"arn:…\"}}"
                )));
            }
        };
        let mut names = Vec::new();
        for (kind, values) in members {
            for value in super::document::strings(&format!("{element} {kind}"), values)? {
                names.push(Self::parse(element, kind, value)?);
            }
        }
        Ok(names)
    }

    fn parse(element: &str, kind: &str, value: &str) -> Result<Self, MalformedPolicy> {
        let invalid = || {
            MalformedPolicy::new(format!(
                "Policy contains a statement with one or more invalid principals: \
                 {element} {kind} {value:?}"
            ))
        };
        match kind {
            "AWS" if value == "*" => Ok(Self::Anyone),
            "AWS" if is_account(value) => Ok(Self::Account(value.to_owned())),
            "AWS" => {
                let arn = PrincipalArn::parse(value).ok_or_else(invalid)?;
                match (arn.service, arn.resource.split_once('/')) {
                    ("iam", None) if arn.resource == "root" => {
                        Ok(Self::Account(arn.account.to_owned()))
                    }
                    ("iam", Some(("user" | "role", _))) => Ok(Self::Identity(value.to_owned())),
                    ("sts", Some(("assumed-role", rest))) if rest.contains('/') => {
                        Ok(Self::Identity(value.to_owned()))
                    }
                    _ => Err(invalid()),
                }
            }
            "Service" if is_service_name(value) => Ok(Self::Service(value.to_owned())),
            _ => Err(invalid()),
        }
    }

    /// How far this name reaches the requester.
    pub(super) fn reach(&self, requester: &Requester) -> Reach {
        let direct = |is_direct| if is_direct { Reach::Direct } else { Reach::None };
        match self {
            Self::Anyone => Reach::Direct,
            Self::Account(account) if requester.is_service() || *account != requester.account => {
                Reach::None
            }
            Self::Account(_) if requester.is_root() => Reach::Direct,
            Self::Account(_) => Reach::ThroughAccount,
            Self::Identity(arn) => {
                direct(*arn == requester.arn || *arn == *requester.principal_arn())
            }
            Self::Service(name) => direct(requester.is_service() && *name == requester.arn),
        }
    }

    /// Whether `NotPrincipal` with these names leaves the requester out. As AWS documents it, each
    /// name the requester goes by must be listed: its session, its role, its account.
    pub(super) fn all_name(names: &[Self], requester: &Requester) -> bool {
        if names.contains(&Self::Anyone) {
            return true;
        }
        let has = |name: &Self| names.contains(name);
        if requester.is_service() {
            return has(&Self::Service(requester.arn.clone()));
        }
        let has_account = has(&Self::Account(requester.account.clone()));
        let has_identity = requester.is_root() || has(&Self::Identity(requester.arn.clone()));
        let has_role = match &requester.kind {
            RequesterKind::AssumedRole { role_arn } => has(&Self::Identity(role_arn.clone())),
            _ => true,
        };
        has_account && has_identity && has_role
    }
}

/// How a named principal covers a requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Not at all.
    None,
    /// It names the account: a denial holds, an allowance leaves it to identity policies.
    ThroughAccount,
    /// It names the requester.
    Direct,
}
