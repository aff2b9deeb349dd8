//! What the conditions of a policy look at.

use super::{
    Requester,
    keys::{ENCRYPTION_CONTEXT, KeyName},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Actions whose request has a parameter that conditions see: action, condition key, parameter and
/// what AWS takes when it is left out.
const PARAMETERS: [(&str, &str, &str, Option<&str>); 7] = [
    (
        "kms:CreateKey",
        "kms:BypassPolicyLockoutSafetyCheck",
        "BypassPolicyLockoutSafetyCheck",
        Some("false"),
    ),
    (
        "kms:PutKeyPolicy",
        "kms:BypassPolicyLockoutSafetyCheck",
        "BypassPolicyLockoutSafetyCheck",
        Some("false"),
    ),
    (
        "kms:ImportKeyMaterial",
        "kms:ExpirationModel",
        "ExpirationModel",
        Some("KEY_MATERIAL_EXPIRES"),
    ),
    ("kms:EnableKeyRotation", "kms:RotationPeriodInDays", "RotationPeriodInDays", Some("365")),
    (
        "kms:ScheduleKeyDeletion",
        "kms:ScheduleKeyDeletionPendingWindowInDays",
        "PendingWindowInDays",
        Some("30"),
    ),
    ("kms:GetParametersForImport", "kms:WrappingAlgorithm", "WrappingAlgorithm", None),
    ("kms:GetParametersForImport", "kms:WrappingKeySpec", "WrappingKeySpec", None),
];

/// Condition keys and their values for one request. A key that is not set is missing from the
/// request, as conditions see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    values: BTreeMap<KeyName, BTreeSet<String>>,
}

impl Context {
    /// What follows from who asks, through which service, from where and when: `kms:CallerAccount`,
    /// `kms:ViaService` and the `aws:` keys. `address` is `None` inside the process, where
    /// `aws:SourceIp` and `aws:SecureTransport` are missing.
    #[must_use]
    pub fn of_caller(
        requester: &Requester,
        via_service: Option<&str>,
        address: Option<(IpAddr, bool)>,
        now_millis: i64,
    ) -> Self {
        let mut context = Self::default();
        if !requester.account().is_empty() {
            context.add("kms:CallerAccount", requester.account());
            context.add("aws:PrincipalAccount", requester.account());
        }
        context.add("aws:PrincipalArn", requester.principal_arn());
        context.add("aws:PrincipalType", requester.type_name());
        if let Some(name) = requester.user_name() {
            context.add("aws:username", name);
        }
        if let Some(service) = via_service {
            context.add("kms:ViaService", service);
        }
        context.add("aws:ViaAWSService", &via_service.is_some().to_string());
        if let Some((ip, is_encrypted)) = address {
            context.add("aws:SourceIp", &ip.to_canonical().to_string());
            context.add("aws:SecureTransport", &is_encrypted.to_string());
        }
        let now = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now_millis) * 1_000_000);
        if let Some(now) = now.ok().and_then(|now| now.format(&Rfc3339).ok()) {
            context.add("aws:CurrentTime", &now);
        }
        context
    }

    /// Adds what follows from the request itself. `action` is as in [`super::Request::action`],
    /// `parameters` the request in the shape of the API, blobs left out.
    pub fn add_request(&mut self, action: &str, parameters: &Value) {
        let (pairs, algorithm) = match action {
            "kms:ReEncryptFrom" => ("SourceEncryptionContext", "SourceEncryptionAlgorithm"),
            "kms:ReEncryptTo" => ("DestinationEncryptionContext", "DestinationEncryptionAlgorithm"),
            _ => ("EncryptionContext", "EncryptionAlgorithm"),
        };
        self.add_encryption_context(parameters.get(pairs));
        if matches!(action, "kms:Encrypt" | "kms:Decrypt" | "kms:ReEncryptFrom" | "kms:ReEncryptTo")
        {
            let given = parameters.get(algorithm).and_then(Value::as_str);
            self.add("kms:EncryptionAlgorithm", given.unwrap_or("SYMMETRIC_DEFAULT"));
        }
        if action == "kms:CreateGrant" {
            self.add_grant(parameters);
        }
        for (of_action, key, member, default) in PARAMETERS {
            if action == of_action {
                // what the request leaves out has AWS's default
                let given = parameters.get(member).and_then(scalar);
                if let Some(value) = given.as_deref().or(default) {
                    self.add(key, value);
                }
            }
        }
    }

    /// Adds what is known of the key: `kms:KeySpec`, `kms:KeyUsage`, `kms:KeyOrigin`,
    /// `kms:MultiRegion`. For `kms:CreateKey` it is the key to be.
    pub fn add_key(&mut self, spec: &str, usage: &str, origin: &str, is_multi_region: bool) {
        self.add("kms:KeySpec", spec);
        self.add("kms:KeyUsage", usage);
        self.add("kms:KeyOrigin", origin);
        self.add("kms:MultiRegion", &is_multi_region.to_string());
    }

    /// Adds an alias of the key (`kms:ResourceAliases`), as `alias/name`.
    pub fn add_key_alias(&mut self, alias: &str) {
        self.add("kms:ResourceAliases", alias);
    }

    /// Notes the alias the request named the key by (`kms:RequestAlias`).
    pub fn add_request_alias(&mut self, alias: &str) {
        self.add("kms:RequestAlias", alias);
    }

    /// Notes whether a ReEncrypt keeps the key (`kms:ReEncryptOnSameKey`).
    pub fn add_same_key(&mut self, is_same: bool) {
        self.add("kms:ReEncryptOnSameKey", &is_same.to_string());
    }

    pub(super) fn values(&self, key: &KeyName) -> Vec<&str> {
        self.values.get(key).into_iter().flatten().map(String::as_str).collect()
    }

    fn add(&mut self, key: &str, value: &str) {
        self.values.entry(KeyName::new(key)).or_default().insert(value.to_owned());
    }

    fn add_encryption_context(&mut self, pairs: Option<&Value>) {
        for (name, value) in pairs.and_then(Value::as_object).into_iter().flatten() {
            self.add("kms:EncryptionContextKeys", name);
            self.add(&format!("{ENCRYPTION_CONTEXT}{name}"), value.as_str().unwrap_or_default());
        }
    }

    fn add_grant(&mut self, parameters: &Value) {
        let text = |member: &str| parameters.get(member).and_then(Value::as_str);
        for operation in
            parameters.get("Operations").and_then(Value::as_array).into_iter().flatten()
        {
            self.add("kms:GrantOperations", operation.as_str().unwrap_or_default());
        }
        for (key, member) in [
            ("kms:GranteePrincipal", "GranteePrincipal"),
            ("kms:RetiringPrincipal", "RetiringPrincipal"),
        ] {
            if let Some(principal) = text(member) {
                self.add(key, principal);
            }
        }
        // only services that AWS integrates may say true
        self.add("kms:GrantIsForAWSResource", "false");
        for kind in ["EncryptionContextEquals", "EncryptionContextSubset"] {
            if let Some(pairs) = parameters.get("Constraints").and_then(|all| all.get(kind)) {
                self.add("kms:GrantConstraintType", kind);
                self.add_encryption_context(Some(pairs));
            }
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}
