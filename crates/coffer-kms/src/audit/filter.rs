//! Which records somebody wants to see.

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Iso8601};

/// Conditions that all must hold; what is `None` holds for every record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// As `Decrypt`; blind to case.
    pub event: Option<String>,
    /// A user's or role's name, or an ARN.
    pub user: Option<String>,
    /// A key's ARN or id.
    pub key: Option<String>,
    /// Keyspace and table: as the encryption context or the statement names them.
    pub table: Option<(String, String)>,
    /// The earliest time, milliseconds since 1970.
    pub since_millis: Option<i64>,
    /// The latest time, milliseconds since 1970.
    pub until_millis: Option<i64>,
}

/// Milliseconds since 1970 of `2026-11-22T06:00:00Z` or `2026-11-22` (midnight UTC); `None` for
/// anything else.
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    if text.len() > 40 {
        return None;
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let date = OffsetDateTime::parse(&whole, &Iso8601::DEFAULT).ok()?;
    i64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok()
}

impl AuditFilter {
    pub(super) fn matches(&self, record: &Value) -> bool {
        let event = || record.get("eventName").and_then(Value::as_str).unwrap_or_default();
        self.event.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(event()))
            && self.user.as_deref().is_none_or(|user| has_user(record, user))
            && self.key.as_deref().is_none_or(|key| has_key(record, key))
            && self.table.as_ref().is_none_or(|(ks, table)| has_table(record, ks, table))
            && self.is_in_time(record)
    }

    fn is_in_time(&self, record: &Value) -> bool {
        if self.since_millis.is_none() && self.until_millis.is_none() {
            return true;
        }
        let time = record.get("eventTime").and_then(Value::as_str).and_then(parse_time);
        time.is_some_and(|time| {
            // the time of a record has whole seconds
            self.since_millis.is_none_or(|since| time >= since - since.rem_euclid(1000))
                && self.until_millis.is_none_or(|until| time <= until)
        })
    }
}

fn has_user(record: &Value, user: &str) -> bool {
    let Some(identity) = record.get("userIdentity") else {
        return false;
    };
    let issuer = identity.pointer("/sessionContext/sessionIssuer");
    let is_root = identity.get("type").and_then(Value::as_str) == Some("Root");
    (is_root && user == "root")
        || [Some(identity), issuer].into_iter().flatten().any(|who| {
            ["userName", "arn", "accessKeyId", "principalId"]
                .iter()
                .any(|member| who.get(*member).and_then(Value::as_str) == Some(user))
        })
}

fn has_key(record: &Value, key: &str) -> bool {
    let is_it =
        |found: &str| found == key || found.rsplit_once('/').is_some_and(|(_, id)| id == key);
    let resources = record.get("resources").and_then(Value::as_array);
    let in_resources = resources
        .into_iter()
        .flatten()
        .any(|resource| resource.get("ARN").and_then(Value::as_str).is_some_and(is_it));
    let parameters = record.get("requestParameters");
    in_resources
        || ["keyId", "sourceKeyId", "destinationKeyId", "targetKeyId"].iter().any(|member| {
            let named = parameters.and_then(|all| all.get(*member)).and_then(Value::as_str);
            named.is_some_and(is_it)
        })
}

fn has_table(record: &Value, keyspace: &str, table: &str) -> bool {
    let Some(parameters) = record.get("requestParameters") else {
        return false;
    };
    let names = |pairs: Option<&Value>, keyspace_name: &str, table_name: &str| {
        let text = |name: &str| pairs.and_then(|all| all.get(name)).and_then(Value::as_str);
        text(keyspace_name) == Some(keyspace) && text(table_name) == Some(table)
    };
    let contexts = [
        "/encryptionContext",
        "/sourceEncryptionContext",
        "/destinationEncryptionContext",
        "/constraints/encryptionContextSubset",
        "/constraints/encryptionContextEquals",
    ];
    names(Some(parameters), "keyspaceName", "tableName")
        || contexts.iter().any(|pointer| {
            let context = parameters.pointer(pointer);
            names(context, "aws:cassandra:keyspaceName", "aws:cassandra:tableName")
        })
}
