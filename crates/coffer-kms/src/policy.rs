//! Key policies and identity policies: parsed strictly, evaluated by the rules of IAM.
//!
//! No construct is ignored. Whatever [`Document::parse`] lets pass is evaluated; an operator,
//! condition key, element, version, variable or action that this program does not know makes the
//! policy malformed, and the error names it.
//!
//! [`authorize`] is pure: it sees the request's context, never the store. Grants are not its
//! business, but a [`Decision::DeniedExplicitly`] outweighs every grant.

mod actions;
mod condition;
mod context;
mod document;
mod json;
mod keys;
mod pattern;
mod principal;
mod values;

pub use context::Context;
pub use document::{Document, POLICY_LEN_MAX};
pub use principal::Requester;

use document::Statement;
use principal::{NamedPrincipal, Reach};

/// What a policy is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// To a key: statements name principals.
    Key,
    /// To a user or role: statements hold for that identity.
    Identity,
}

/// A policy that is refused: `MalformedPolicyDocumentException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MalformedPolicy {
    message: String,
}

impl MalformedPolicy {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// One action on one key, or on the account.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub requester: &'a Requester,
    /// As `kms:Decrypt`. A ReEncrypt is two: `kms:ReEncryptFrom` and `kms:ReEncryptTo`.
    pub action: &'a str,
    /// The key's ARN; `*` for operations on no key, as `kms:ListKeys`.
    pub resource_arn: &'a str,
    /// What conditions look at.
    pub context: &'a Context,
}

/// What the policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Some policy allows it and none denies it.
    Allowed,
    /// A statement of this policy denies it, whatever grants say.
    DeniedExplicitly(DocumentKind),
    /// No policy speaks of it; a grant may.
    NotAllowed {
        /// Whether the key policy leaves the decision to identity policies.
        is_delegated: bool,
    },
}

impl Decision {
    /// Whether the policies allow the request.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }

    /// The end of the sentence "User: … is not authorized to perform: … on resource: …".
    #[must_use]
    pub fn reason(self, action: &str) -> String {
        match self {
            Self::Allowed => String::new(),
            Self::DeniedExplicitly(DocumentKind::Key) => {
                "with an explicit deny in a resource-based policy".to_owned()
            }
            Self::DeniedExplicitly(DocumentKind::Identity) => {
                "with an explicit deny in an identity-based policy".to_owned()
            }
            Self::NotAllowed { is_delegated: true } => {
                format!("because no identity-based policy allows the {action} action")
            }
            Self::NotAllowed { is_delegated: false } => {
                format!("because no resource-based policy allows the {action} action")
            }
        }
    }
}

/// Evaluates a request within the account of the key, by the rules of IAM:
///
/// 1. A `Deny` that covers the request wins.
/// 2. An `Allow` of the key policy for the requester itself (or for `*`) suffices.
/// 3. An `Allow` of the key policy for the account delegates: the root user has the right, others
///    have it if their identity policy allows it too.
/// 4. Otherwise the request is not allowed.
///
/// `key_policy` is `None` for operations on no key: the account alone decides, so the root user may
/// and others need their identity policy.
#[must_use]
pub fn authorize(
    request: &Request<'_>,
    key_policy: Option<&Document>,
    identity_policy: Option<&Document>,
) -> Decision {
    for document in [key_policy, identity_policy].into_iter().flatten() {
        let mut denials = document.statements.iter().filter(|statement| !statement.is_allow);
        if denials.any(|statement| reach(statement, request) > Reach::None) {
            return Decision::DeniedExplicitly(document.kind);
        }
    }
    let reach_of_key = match key_policy {
        Some(document) => allowances(document, request).max().unwrap_or(Reach::None),
        None if request.requester.is_root() => Reach::Direct,
        None => Reach::ThroughAccount,
    };
    let is_delegated = reach_of_key == Reach::ThroughAccount;
    let identity_allows = identity_policy
        .is_some_and(|document| allowances(document, request).any(|reach| reach > Reach::None));
    if reach_of_key == Reach::Direct || (is_delegated && identity_allows) {
        return Decision::Allowed;
    }
    Decision::NotAllowed { is_delegated }
}

fn allowances<'a>(
    document: &'a Document,
    request: &'a Request<'_>,
) -> impl Iterator<Item = Reach> + 'a {
    let allowing = document.statements.iter().filter(|statement| statement.is_allow);
    allowing.map(|statement| reach(statement, request))
}

/// Whether the statement covers the request, and how directly it names the requester.
fn reach(statement: &Statement, request: &Request<'_>) -> Reach {
    let covers = statement.actions.covers(request.action)
        && statement.resources.covers(request.resource_arn);
    if !covers {
        return Reach::None;
    }
    let reach = match &statement.principals {
        None => Reach::Direct,
        Some(named) if named.is_negated => {
            match NamedPrincipal::all_name(&named.items, request.requester) {
                true => Reach::None,
                false => Reach::Direct,
            }
        }
        Some(named) => {
            let reaches = named.items.iter().map(|name| name.reach(request.requester));
            reaches.max().unwrap_or(Reach::None)
        }
    };
    let holds =
        |condition: &condition::Condition| condition.holds(request.context, statement.is_allow);
    if reach > Reach::None && statement.conditions.iter().all(holds) { reach } else { Reach::None }
}

#[cfg(test)]
mod tests;
