//! The one message that all channels tell: as JSON, and as the text of a mail.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time in milliseconds since 1970; RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    fn of_utc(self) -> OffsetDateTime {
        let nanos = i128::from(self.0) * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// As `2026-11-22T08:00:00.5Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.of_utc().format(&Rfc3339).unwrap_or_default()
    }
}

/// As people read it: `2026-11-22 08:00:00 UTC`.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.of_utc();
        let (hour, minute, second) = at.to_hms();
        write!(f, "{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing needs to be done.
    Info,
    /// Something should be looked at.
    Warning,
    /// Data is lost unless something is done, or somebody's work failed.
    Critical,
}

impl Severity {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What is told. The documented JSON of webhooks and commands is this, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notification {
    /// Time UUID of the event, unique; the same in each repeat.
    pub id: String,
    /// UUID of the transition that it tells of; reminders have their own.
    pub incident: String,
    /// `key_lost`, `reminder`, `recovered`, and so on.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// When it happened.
    pub at: Moment,
    /// Name of the cluster.
    pub cluster: String,
    /// Keyspace of the table.
    pub keyspace: String,
    /// Name of the table.
    pub table: String,
    /// ARN of the KMS key; null for a key of the service.
    pub key_arn: Option<String>,
    /// State of the table's key.
    pub state: String,
    /// Since when.
    pub since: Option<Moment>,
    /// When the next thing happens that cannot be undone.
    pub deadline: Option<Moment>,
    /// One sentence.
    pub summary: String,
    /// What happens if nobody does anything.
    pub what_happens: String,
    /// What the operator should do.
    pub what_to_do: String,
    /// What was seen: the answer of the KMS, the name of a file.
    pub detail: String,
}

/// The envelope of an event of Amazon EventBridge.
#[derive(Serialize)]
struct EventBridgeEvent<'a> {
    version: &'static str,
    id: &'a str,
    #[serde(rename = "detail-type")]
    detail_type: &'static str,
    source: &'static str,
    account: &'a str,
    time: Moment,
    region: &'a str,
    resources: &'a [String],
    detail: &'a Notification,
}

impl Notification {
    /// The JSON document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // texts, numbers and options always serialize
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The document as `detail` of an event as Amazon EventBridge has them. Account and Region are those
    /// of the key's ARN, and empty for a key of the service.
    #[must_use]
    pub fn to_event_bridge(&self) -> Vec<u8> {
        let mut of_arn = self.key_arn.iter().flat_map(|arn| arn.split(':')).skip(3);
        let (region, account) = (of_arn.next().unwrap_or(""), of_arn.next().unwrap_or(""));
        let event = EventBridgeEvent {
            version: "0",
            id: &self.id,
            detail_type: "Coffer Key Health",
            source: "coffer",
            account,
            time: Moment(self.at.0.div_euclid(1000) * 1000),
            region,
            resources: self.key_arn.as_slice(),
            detail: self,
        };
        serde_json::to_vec(&event).unwrap_or_default()
    }

    /// Keyspace and table.
    #[must_use]
    pub fn qualified_table(&self) -> String {
        format!("{}.{}", self.keyspace, self.table)
    }

    /// Subject of a mail: names the table and the deadline.
    #[must_use]
    pub fn subject(&self) -> String {
        let mut subject = format!(
            "[{} {}] {}: {}",
            self.cluster,
            self.severity.as_str(),
            self.qualified_table(),
            self.kind.replace('_', " ")
        );
        if let Some(deadline) = self.deadline {
            // writing to a String cannot fail
            let _ = write!(subject, ", deadline {deadline}");
        }
        subject.retain(|letter| !letter.is_control());
        subject
    }

    /// Body of a mail.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![
            "Dear operator,".to_owned(),
            String::new(),
            format!("On {}, cluster {}: {}", self.at, self.cluster, self.summary),
            String::new(),
            format!("  Table:    {}", self.qualified_table()),
            format!("  Key:      {}", self.key_arn.as_deref().unwrap_or("AWS_OWNED_KMS_KEY")),
            format!("  State:    {}", self.state),
        ];
        if let Some(since) = self.since {
            lines.push(format!("  Since:    {since}"));
        }
        if let Some(deadline) = self.deadline {
            lines.push(format!("  Deadline: {deadline}"));
        }
        if !self.detail.is_empty() {
            lines.push(format!("  Detail:   {}", self.detail));
        }
        for (title, text) in
            [("What happens:", &self.what_happens), ("What to do:", &self.what_to_do)]
        {
            if !text.is_empty() {
                lines.extend([String::new(), title.to_owned(), format!("  {text}")]);
            }
        }
        lines.extend([
            String::new(),
            format!("Incident {}, event {} ({}).", self.incident, self.id, self.kind),
            "A message that comes twice has the same event id.".to_owned(),
        ]);
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Notification {
    Notification {
        id: "5f1e3c00-c77a-11f0-8001-020304050607".into(),
        incident: "07070707-0707-4707-8707-070707070707".into(),
        kind: "key_lost".into(),
        severity: Severity::Critical,
        at: Moment(1_795_305_600_000),
        cluster: "Coffer".into(),
        keyspace: "ks".into(),
        table: "t".into(),
        key_arn: Some("arn:aws:kms:us-east-1:000000000000:key/1".into()),
        state: "inaccessible".into(),
        since: Some(Moment(1_795_305_540_000)),
        deadline: Some(Moment(1_795_910_400_000)),
        summary: "Coffer has no access to the key of a table.".into(),
        what_happens: "The table is copied, still encrypted, and dropped.".into(),
        what_to_do: "Enable the key.".into(),
        detail: "DisabledException: it is disabled".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_names_table_key_cause_remedy_and_deadline() {
        let sample = sample();
        assert_eq!(
            sample.subject(),
            "[Coffer critical] ks.t: key lost, deadline 2026-11-29 00:00:00 UTC"
        );
        let text = sample.text();
        for wanted in [
            "On 2026-11-22 00:00:00 UTC, cluster Coffer: Coffer has no access",
            "  Table:    ks.t\n",
            "  Key:      arn:aws:kms:us-east-1:000000000000:key/1\n",
            "  State:    inaccessible\n",
            "  Since:    2026-11-21 23:59:00 UTC\n",
            "  Deadline: 2026-11-29 00:00:00 UTC\n",
            "  Detail:   DisabledException: it is disabled\n",
            "What happens:\n  The table is copied",
            "What to do:\n  Enable the key.",
            "Incident 07070707-0707-4707-8707-070707070707, event 5f1e3c00",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
        }
    }

    #[test]
    fn names_cannot_add_headers() {
        let sample = Notification { table: "t\r\nBcc: all@example.com".into(), ..sample() };
        assert!(!sample.subject().contains(['\r', '\n']));
    }

    #[test]
    fn json_has_the_documented_fields_and_times() {
        let document: serde_json::Value = serde_json::from_slice(&sample().to_json()).unwrap();
        let fields: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        let manual = include_str!("../../../docs/OPERATING.md");
        for field in &fields {
            assert!(manual.contains(&format!("\n| `{field}` | ")), "{field} is not documented");
        }
        assert_eq!(fields.len(), 16);
        assert_eq!(document["deadline"], "2026-11-29T00:00:00Z");
        assert_eq!(document["severity"], "critical");
    }
}
