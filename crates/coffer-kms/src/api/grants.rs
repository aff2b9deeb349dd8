//! Grants.

use super::{EncryptionContext, request, shape};

shape!(
#[derive(PartialEq, Eq)]
GrantConstraints {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encryption_context_subset: Option<EncryptionContext>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encryption_context_equals: Option<EncryptionContext>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_arn: Option<String>,
});

request!("CreateGrant", CreateGrantRequest {
    pub key_id: String,
    pub grantee_principal: Option<String>,
    pub retiring_principal: Option<String>,
    pub grantee_service_principal: Option<String>,
    pub retiring_service_principal: Option<String>,
    pub operations: Vec<String>,
    pub constraints: Option<GrantConstraints>,
    #[serde(skip_serializing)]
    pub grant_tokens: Vec<String>,
    pub name: Option<String>,
    pub dry_run: Option<bool>,
} -> CreateGrantResponse);

shape!(CreateGrantResponse {
    pub grant_id: String,
    pub grant_token: String,
});

shape!(GrantListEntry {
    pub key_id: String,
    pub grant_id: String,
    pub name: String,
    pub creation_date: f64,
    pub grantee_principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_principal: Option<String>,
    pub issuing_account: String,
    pub operations: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<GrantConstraints>,
});

shape!(ListGrantsResponse {
    pub grants: Vec<GrantListEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    pub truncated: bool,
});

request!("ListGrants", ListGrantsRequest {
    pub key_id: String,
    pub limit: Option<i64>,
    pub marker: Option<String>,
    pub grant_id: Option<String>,
    pub grantee_principal: Option<String>,
    pub grantee_service_principal: Option<String>,
} -> ListGrantsResponse);

request!("ListRetirableGrants", ListRetirableGrantsRequest {
    pub retiring_principal: Option<String>,
    pub retiring_service_principal: Option<String>,
    pub limit: Option<i64>,
    pub marker: Option<String>,
} -> ListGrantsResponse);

request!("RetireGrant", RetireGrantRequest {
    #[serde(skip_serializing)]
    pub grant_token: Option<String>,
    pub key_id: Option<String>,
    pub grant_id: Option<String>,
    pub dry_run: Option<bool>,
} -> ());

request!("RevokeGrant", RevokeGrantRequest {
    pub key_id: String,
    pub grant_id: String,
    pub dry_run: Option<bool>,
} -> ());
