//! The event of a call of the KMS: what of request and answer goes into it, operation by operation.

use super::event::{AuditEvent, INTERNAL};
use crate::{Caller, KmsException, Principal};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Serialize,
    de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fmt;
use time::{OffsetDateTime, macros::format_description};
use zeroize::Zeroizing;

/// Members of requests and answers that are never looked at: key bytes, ciphertexts, tokens.
const NEVER: [&str; 9] = [
    "Plaintext",
    "CiphertextBlob",
    "EncryptedKeyMaterial",
    "ImportToken",
    "GrantToken",
    "GrantTokens",
    "PublicKey",
    "CiphertextForRecipient",
    "Recipient",
];

/// A request or answer without its secret members: what conditions of policies and audit records
/// may see. Empty and missing members are left out.
pub struct Parameters(Value);

impl Parameters {
    /// Of a JSON body; nothing for what is no JSON object.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(Public(members)) => Self(Value::Object(members)),
            Err(_) => Self(json!({})),
        }
    }

    /// Of a typed request or answer. The JSON it passes through is wiped.
    #[must_use]
    pub fn of<T: Serialize>(message: &T) -> Self {
        // longer than any message with a secret in it, so that none is left behind by growing
        let mut json = Zeroizing::new(Vec::with_capacity(32 << 10));
        match serde_json::to_writer(&mut *json, message) {
            Ok(()) => Self::of_body(&json),
            Err(_) => Self(json!({})),
        }
    }

    /// The members, in the names of the API.
    #[must_use]
    pub fn as_json(&self) -> &Value {
        &self.0
    }

    fn text(&self, member: &str) -> Option<&str> {
        self.0.get(member).and_then(Value::as_str)
    }
}

/// The members of a JSON object that are not secret.
struct Public(Map<String, Value>);

impl<'de> Deserialize<'de> for Public {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PublicVisitor)
    }
}

struct PublicVisitor;

impl<'de> Visitor<'de> for PublicVisitor {
    type Value = Public;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Public, A::Error> {
        let mut members = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if NEVER.contains(&name.as_str()) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = entries.next_value()?;
            let is_empty = match &value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(items) => items.is_empty(),
                _ => false,
            };
            if !is_empty {
                members.insert(name, value);
            }
        }
        Ok(Public(members))
    }
}

/// A call that was answered.
pub struct KmsCall<'a> {
    /// As `GenerateDataKey`.
    pub operation: &'a str,
    /// Who called.
    pub caller: &'a Caller,
    /// The account of the KMS.
    pub account: &'a str,
    /// What was asked.
    pub parameters: &'a Parameters,
    /// What was answered.
    pub outcome: Result<&'a Parameters, &'a KmsException>,
    /// ARNs of the keys it was about, as far as they are known; for ReEncrypt the source first.
    pub key_arns: &'a [String],
    /// The id that the client was told.
    pub request_id: &'a str,
    /// More of `additionalEventData`, as `grantId` for RetireGrant.
    pub additional: &'a [(&'a str, String)],
}

/// Whether an operation changes something; its record must be on disk before it is answered.
#[must_use]
pub fn is_mutating(operation: &str) -> bool {
    let is_reading =
        ["Describe", "List", "Get", "Generate"].iter().any(|prefix| operation.starts_with(prefix));
    !(is_reading || matches!(operation, "Encrypt" | "Decrypt" | "ReEncrypt"))
}

impl From<KmsCall<'_>> for AuditEvent {
    fn from(call: KmsCall<'_>) -> Self {
        let source = &call.caller.source;
        let internal = || INTERNAL.to_owned();
        let mut additional = Map::new();
        if let Ok(answer) = call.outcome {
            for member in ["KeyMaterialId", "SourceKeyMaterialId", "DestinationKeyMaterialId"] {
                if let Some(id) = answer.text(member).filter(|_| !is_mutating(call.operation)) {
                    additional.insert(camel_case(member), json!(id));
                }
            }
        }
        for (name, value) in call.additional {
            additional.insert((*name).to_owned(), json!(value));
        }
        Self {
            source: "kms.amazonaws.com",
            name: call.operation.to_owned(),
            user_identity: user_identity(call.caller, call.account),
            source_ip_address: source.ip.map_or_else(internal, |ip| ip.to_canonical().to_string()),
            user_agent: match (&source.user_agent, source.ip) {
                (Some(agent), _) => agent.clone(),
                (None, Some(_)) => String::new(),
                (None, None) => internal(),
            },
            request_parameters: request_parameters(call.operation, call.parameters),
            response_elements: response_elements(&call),
            additional_event_data: additional,
            service_event_details: Value::Null,
            error: call
                .outcome
                .err()
                .map(|error| (error.name().to_owned(), error.message().to_owned())),
            is_read_only: !is_mutating(call.operation),
            resources: call.key_arns.iter().map(|arn| ("AWS::KMS::Key", arn.clone())).collect(),
            tls: source.tls.clone(),
            request_id: Some(call.request_id.to_owned()),
            api_version: None,
        }
    }
}

fn request_parameters(operation: &str, parameters: &Parameters) -> Value {
    if operation == "RetireGrant" {
        return Value::Null;
    }
    let Value::Object(mut members) = renamed(parameters.as_json()) else {
        return Value::Null;
    };
    let algorithms: &[&str] = match operation {
        "Encrypt" | "Decrypt" => &["encryptionAlgorithm"],
        "ReEncrypt" => &["sourceEncryptionAlgorithm", "destinationEncryptionAlgorithm"],
        _ => &[],
    };
    for name in algorithms {
        members.entry(*name).or_insert(json!("SYMMETRIC_DEFAULT"));
    }
    if operation == "ScheduleKeyDeletion" {
        members.entry("pendingWindowInDays").or_insert(json!(30));
    }
    if members.is_empty() { Value::Null } else { Value::Object(members) }
}

/// What the records of CloudTrail tell of an answer: for changes, the key and what came to be.
fn response_elements(call: &KmsCall<'_>) -> Value {
    let Ok(answer) = call.outcome else {
        return Value::Null;
    };
    if !is_mutating(call.operation) || call.operation == "RetireGrant" {
        return Value::Null;
    }
    let mut elements = match renamed(answer.as_json()) {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    if call.operation == "ScheduleKeyDeletion"
        && let Some(date) = answer.as_json().get("DeletionDate").and_then(Value::as_f64)
    {
        elements.insert("deletionDate".to_owned(), json!(long_date(date)));
    }
    if call.operation != "CreateKey"
        && let Some(arn) = call.key_arns.first()
    {
        elements.insert("keyId".to_owned(), json!(arn));
    }
    if elements.is_empty() { Value::Null } else { Value::Object(elements) }
}

/// As `Apr 12, 2021, 6:58:30 PM`.
fn long_date(seconds: f64) -> String {
    let format = format_description!(
        "[month repr:short] [day padding:none], [year], [hour repr:12 padding:none]:[minute]:[second] [period]"
    );
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let date = OffsetDateTime::from_unix_timestamp(seconds as i64);
    date.ok().and_then(|date| date.format(&format).ok()).unwrap_or_default()
}

/// The names of the API as CloudTrail writes them. Pairs of an encryption context keep theirs.
fn renamed(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let renamed_member = |(name, value): (&String, &Value)| {
                let is_pairs = name.contains("EncryptionContext");
                (camel_case(name), if is_pairs { value.clone() } else { renamed(value) })
            };
            Value::Object(members.iter().map(renamed_member).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(renamed).collect()),
        other => other.clone(),
    }
}

fn camel_case(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("AWS") {
        return format!("aws{rest}");
    }
    let mut characters = name.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

fn user_identity(caller: &Caller, account: &str) -> Value {
    let arn = caller.principal.arn(account);
    let mut identity = match &caller.principal {
        Principal::Root => json!({"type": "Root", "principalId": account, "arn": arn}),
        Principal::User { name } => json!({
            "type": "IAMUser", "principalId": unique_id("AIDA", &arn), "arn": arn, "userName": name,
        }),
        Principal::Role { name } => {
            let id = unique_id("AROA", &arn);
            json!({
                "type": "AssumedRole",
                "principalId": format!("{id}:{name}"),
                "arn": format!("arn:aws:sts::{account}:assumed-role/{name}/{name}"),
                "sessionContext": {"sessionIssuer": {
                    "type": "Role", "principalId": id, "arn": arn, "accountId": account,
                    "userName": name,
                }},
            })
        }
    };
    if let Some(members) = identity.as_object_mut() {
        members.insert("accountId".to_owned(), json!(account));
        if let Some(id) = &caller.source.access_key_id {
            members.insert("accessKeyId".to_owned(), json!(id));
        }
        if caller.source.ip.is_none() {
            members.insert("invokedBy".to_owned(), json!(INTERNAL));
        }
    }
    identity
}

/// 21 characters in the form of IAM's ids, always the same for one ARN.
fn unique_id(prefix: &str, arn: &str) -> String {
    let digest = STANDARD.encode(Sha256::digest(arn.as_bytes()));
    let letters = digest.chars().filter(char::is_ascii_alphanumeric).take(17);
    prefix.chars().chain(letters.map(|letter| letter.to_ascii_uppercase())).collect()
}
