//! Policies: kept as the text that was given, evaluated as what it means.

use crate::policy::{Document, DocumentKind, MalformedPolicy};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The policy of a key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct KeyPolicy(Arc<(String, Document)>);

/// What IAM lets a user do.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct IdentityPolicy(Arc<(String, Document)>);

impl KeyPolicy {
    pub(crate) fn text(&self) -> &str {
        &self.0.0
    }

    pub(crate) fn document(&self) -> &Document {
        &self.0.1
    }
}

impl IdentityPolicy {
    pub(crate) fn document(&self) -> &Document {
        &self.0.1
    }
}

impl TryFrom<String> for KeyPolicy {
    type Error = MalformedPolicy;

    fn try_from(text: String) -> Result<Self, MalformedPolicy> {
        let document = Document::parse(&text, DocumentKind::Key)?;
        Ok(Self(Arc::new((text, document))))
    }
}

impl TryFrom<String> for IdentityPolicy {
    type Error = MalformedPolicy;

    fn try_from(text: String) -> Result<Self, MalformedPolicy> {
        let document = Document::parse(&text, DocumentKind::Identity)?;
        Ok(Self(Arc::new((text, document))))
    }
}

impl From<KeyPolicy> for String {
    fn from(policy: KeyPolicy) -> Self {
        policy.0.0.clone()
    }
}

impl From<IdentityPolicy> for String {
    fn from(policy: IdentityPolicy) -> Self {
        policy.0.0.clone()
    }
}
