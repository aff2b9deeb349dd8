//! Keys: making, describing, listing, switching on and off, deleting; their policies.

use super::{Tag, request, shape};
use serde::{Deserialize, Serialize};
use std::fmt;

/// State of a key.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum KeyState {
    #[default]
    Enabled,
    Disabled,
    PendingImport,
    PendingDeletion,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

shape!(KeyMetadata {
    #[serde(rename = "AWSAccountId")]
    pub aws_account_id: String,
    pub arn: String,
    pub creation_date: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_key_material_id: Option<String>,
    pub customer_master_key_spec: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_date: Option<f64>,
    pub description: String,
    pub enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub encryption_algorithms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_model: Option<String>,
    pub key_id: String,
    pub key_manager: String,
    pub key_spec: String,
    pub key_state: KeyState,
    pub key_usage: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mac_algorithms: Vec<String>,
    pub multi_region: bool,
    pub origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_deletion_window_in_days: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub signing_algorithms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<f64>,
});

request!("CreateKey", CreateKeyRequest {
    pub policy: Option<String>,
    pub description: Option<String>,
    pub key_usage: Option<String>,
    pub customer_master_key_spec: Option<String>,
    pub key_spec: Option<String>,
    pub origin: Option<String>,
    pub custom_key_store_id: Option<String>,
    pub xks_key_id: Option<String>,
    pub bypass_policy_lockout_safety_check: Option<bool>,
    pub tags: Vec<Tag>,
    pub multi_region: Option<bool>,
    /// The ARN to have instead of one with a random id; not in AWS's API.
    #[serde(skip)]
    pub arn: Option<String>,
    /// A first alias, with or without `alias/`; not in AWS's API.
    #[serde(skip)]
    pub alias: Option<String>,
} -> KeyResponse);

shape!(KeyResponse {
    pub key_metadata: KeyMetadata,
});

request!("DescribeKey", DescribeKeyRequest {
    pub key_id: String,
    #[serde(skip_serializing)]
    pub grant_tokens: Vec<String>,
} -> KeyResponse);

request!("ListKeys", ListKeysRequest {
    pub limit: Option<i64>,
    pub marker: Option<String>,
} -> ListKeysResponse);

shape!(ListKeysResponse {
    pub keys: Vec<KeyListEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    pub truncated: bool,
});

shape!(KeyListEntry {
    pub key_id: String,
    pub key_arn: String,
});

request!("EnableKey", EnableKeyRequest {
    pub key_id: String,
} -> ());

request!("DisableKey", DisableKeyRequest {
    pub key_id: String,
} -> ());

request!("ScheduleKeyDeletion", ScheduleKeyDeletionRequest {
    pub key_id: String,
    pub pending_window_in_days: Option<i64>,
} -> ScheduleKeyDeletionResponse);

shape!(ScheduleKeyDeletionResponse {
    pub key_id: String,
    pub deletion_date: f64,
    pub key_state: KeyState,
    pub pending_window_in_days: u32,
});

request!("CancelKeyDeletion", CancelKeyDeletionRequest {
    pub key_id: String,
} -> KeyIdResponse);

shape!(KeyIdResponse {
    pub key_id: String,
});

request!("UpdateKeyDescription", UpdateKeyDescriptionRequest {
    pub key_id: String,
    pub description: Option<String>,
} -> ());

request!("GetKeyPolicy", GetKeyPolicyRequest {
    pub key_id: String,
    pub policy_name: Option<String>,
} -> GetKeyPolicyResponse);

shape!(GetKeyPolicyResponse {
    pub policy: String,
    pub policy_name: String,
});

request!("PutKeyPolicy", PutKeyPolicyRequest {
    pub key_id: String,
    pub policy_name: Option<String>,
    pub policy: String,
    pub bypass_policy_lockout_safety_check: Option<bool>,
} -> ());

request!("ListKeyPolicies", ListKeyPoliciesRequest {
    pub key_id: String,
    pub limit: Option<i64>,
    pub marker: Option<String>,
} -> ListKeyPoliciesResponse);

shape!(ListKeyPoliciesResponse {
    pub policy_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    pub truncated: bool,
});
