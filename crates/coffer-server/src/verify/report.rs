//! What was found, as JSON and as text, and the signature of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use coffer_crypto::{SigningKey, is_signed_by};
use serde::Serialize;
use serde_json::{Value, json};

use super::audit_logs::AuditLogReport;
use super::files::Finding;
use super::kinds::Kind;
use crate::error::{CommandError, Result};
use crate::printable::printable;

/// What a signature is over, before the report's JSON without white space, fields in order.
const SIGNED: &[u8] = b"coffer-verify-report-v1\n";
/// Longest report that is read.
const REPORT_BYTES_MAX: u64 = 128 << 20;

/// What is known of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Every byte is as it was written: authenticated, or compared with the catalog.
    Verified,
    /// In the clear on purpose, and nothing but what belongs there.
    Clear,
    /// As the catalog says as far as that can be told; a key is not at hand.
    StructureOnly,
    /// Sealed and whole, and nothing needs it.
    Unlisted,
    /// The operating system did not give its bytes.
    Unreadable,
    /// A writer had not finished it.
    Unfinished,
    /// No file of Coffer's.
    Foreign,
    /// The catalog wants it, and it is not there.
    Missing,
    /// Not as it was written.
    Tampered,
}

/// One file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileReport {
    pub(super) path: String,
    pub(super) kind: &'static str,
    pub(super) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// The table it belongs to now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_id: Option<String>,
    /// The table keys that wrap its data keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) table_keys: Vec<String>,
    pub(super) result: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// One table.
#[derive(Debug, Serialize)]
pub(super) struct TableReport {
    pub(super) table_id: String,
    pub(super) keyspace: String,
    pub(super) table: String,
    pub(super) is_dropped: bool,
    pub(super) encryption_type: &'static str,
    pub(super) kms_key_arn: Option<String>,
    pub(super) current_table_key: String,
    pub(super) older_table_keys: Vec<String>,
    /// `None` when it is at hand.
    pub(super) key_not_at_hand: Option<String>,
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) files_verified: usize,
}

impl FileReport {
    /// A file of which this is known and no more.
    pub(super) fn bare(path: &str, kind: Kind, (result, reason): Finding) -> Self {
        Self {
            path: path.to_owned(),
            kind: kind.as_str(),
            bytes: 0,
            sha256: None,
            table_id: None,
            table_keys: Vec::new(),
            result,
            reason,
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) format: &'static str,
    pub(super) program: String,
    pub(super) directory: String,
    pub(super) verified_at_millis: i64,
    pub(super) cluster: Option<String>,
    pub(super) catalog_version: Option<u64>,
    pub(super) root_key: Option<String>,
    /// Why the root key or the KMS could not be used.
    pub(super) keys_not_at_hand: Vec<String>,
    /// What is wrong beyond a single file.
    pub(super) tampered: Vec<String>,
    pub(super) audit_logs: Vec<AuditLogReport>,
    pub(super) tables: Vec<TableReport>,
    pub(super) files: Vec<FileReport>,
}

/// What it all comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    StructureOnly,
    Tampered,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::StructureOnly => "structure_only",
            Self::Tampered => "tampered",
        }
    }
}

impl Report {
    pub(super) fn outcome(&self) -> Outcome {
        let has = |states: &[State]| self.files.iter().any(|file| states.contains(&file.result));
        if !self.tampered.is_empty() || has(&[State::Tampered, State::Missing, State::Foreign]) {
            Outcome::Tampered
        } else if has(&[State::StructureOnly, State::Unreadable, State::Unfinished])
            || self.catalog_version.is_none()
        {
            Outcome::StructureOnly
        } else {
            Outcome::Good
        }
    }

    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for file in &self.files {
            *counts.entry(name(file.result)).or_default() += 1;
        }
        counts
    }

    /// The report with its signature. `key` is `None` when none is at hand.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(super) fn signed(&self, key: Option<&SigningKey>) -> Result<Value> {
        let unable = |error: serde_json::Error| CommandError::Refused(error.to_string());
        let mut report = serde_json::to_value(self).map_err(unable)?;
        if let Some(fields) = report.as_object_mut() {
            fields.insert("result".to_owned(), json!(self.outcome().as_str()));
            fields.insert("counts".to_owned(), json!(self.counts()));
        }
        let signature = match key {
            None => Value::Null,
            Some(key) => json!({
                "algorithm": "Ed25519",
                "public_key": hex::encode(key.public_key()),
                "fingerprint": fingerprint(&key.public_key()),
                "signature": hex::encode(key.sign(&message(&report)?)?),
            }),
        };
        Ok(json!({ "report": report, "signature": signature }))
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // writing to a String cannot fail
        let mut line = |line: String| {
            let _ = writeln!(text, "{}", printable(&line));
        };
        let bytes: u64 = self.files.iter().map(|file| file.bytes).sum();
        line(format!("{}: {} files, {bytes} bytes", self.directory, self.files.len()));
        for (state, count) in self.counts() {
            line(format!("  {}: {count}", state.replace('_', " ")));
        }
        for reason in &self.keys_not_at_hand {
            line(format!("key not at hand: {reason}"));
        }
        for table in &self.tables {
            let dropped = if table.is_dropped { " (dropped)" } else { "" };
            let key = table.kms_key_arn.as_deref().unwrap_or("the service's own key");
            let at_hand = match &table.key_not_at_hand {
                None => String::new(),
                Some(reason) => format!("; key not at hand: {reason}"),
            };
            line(format!(
                "table {}.{}{dropped}: under {key}, table key {}; {} of {} files verified, {} \
                 bytes{at_hand}",
                table.keyspace,
                table.table,
                table.current_table_key,
                table.files_verified,
                table.files,
                table.bytes,
            ));
        }
        for log in &self.audit_logs {
            line(log.text());
        }
        for problem in &self.tampered {
            line(format!("TAMPERED: {problem}"));
        }
        for file in &self.files {
            let word = match file.result {
                State::Verified | State::Clear => continue,
                State::StructureOnly => "structure only".to_owned(),
                state => name(state).to_uppercase(),
            };
            let reason = file.reason.as_deref().unwrap_or(file.kind);
            line(format!("{word} {}: {reason}", file.path));
        }
        line(format!("result: {}", self.outcome().as_str().replace('_', " ")));
        text
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::Verified => "verified",
        State::Clear => "clear",
        State::StructureOnly => "structure_only",
        State::Unlisted => "unlisted",
        State::Unreadable => "unreadable",
        State::Unfinished => "unfinished",
        State::Foreign => "foreign",
        State::Missing => "missing",
        State::Tampered => "tampered",
    }
}

/// What a public key is called by people: the beginning of it, in groups.
pub(super) fn fingerprint(public: &[u8; SigningKey::PUBLIC_LEN]) -> String {
    let digits = hex::encode(public);
    let groups: Vec<&str> = (0..4).filter_map(|n| digits.get(n * 8..n * 8 + 8)).collect();
    groups.join("-")
}

fn message(report: &Value) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(report);
    let json = json.map_err(|error| CommandError::Refused(error.to_string()))?;
    Ok([SIGNED, &json].concat())
}

/// What the signature of a report came to.
pub(super) enum Checked {
    /// By this public key.
    Holds { public_key: String, outcome: Outcome },
    /// Nobody signed it.
    Unsigned,
    /// Why it does not hold.
    Broken(String),
}

/// Verifies the signature of a report.
///
/// # Errors
/// When the file cannot be read, or the wanted key is none.
pub(super) fn check(path: &Path, public_key: Option<&str>) -> Result<Checked> {
    if let Some(wanted) = public_key
        && hex::decode(wanted.trim()).map_or(0, |key| key.len()) != SigningKey::PUBLIC_LEN
    {
        let digits = 2 * SigningKey::PUBLIC_LEN;
        return Err(CommandError::Refused(format!(
            "--public-key: {wanted} is no public key: the {digits} hex digits are wanted that `coffer \
             verify` tells of a report"
        )));
    }
    let failed = || CommandError::io(format!("read {}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed())?;
    file.take(REPORT_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed())?;
    let broken = |what: &str| Ok(Checked::Broken(what.to_owned()));
    if text.len() as u64 > REPORT_BYTES_MAX {
        return broken("it is longer than any report");
    }
    let Ok(envelope) = serde_json::from_str::<Value>(&text) else {
        return broken("it is not JSON");
    };
    let Some(report) = envelope.get("report") else {
        return broken("it is no report of coffer verify");
    };
    let Some(signature) = envelope.get("signature").filter(|signature| !signature.is_null()) else {
        return Ok(Checked::Unsigned);
    };
    let field = |name: &str| signature.get(name).and_then(Value::as_str).unwrap_or_default();
    let stated = field("public_key").to_owned();
    if let Some(wanted) = public_key
        && !wanted.trim().eq_ignore_ascii_case(&stated)
    {
        return Ok(Checked::Broken(format!("it is signed with another key, {stated}")));
    }
    let (Ok(public), Ok(bytes)) = (hex::decode(&stated), hex::decode(field("signature"))) else {
        return broken("key or signature are not hex digits");
    };
    if !is_signed_by(&public, &message(report)?, &bytes) {
        return broken("the report is not what was signed");
    }
    let result = report.get("result").and_then(Value::as_str).unwrap_or_default();
    let outcomes = [Outcome::Good, Outcome::StructureOnly, Outcome::Tampered];
    match outcomes.into_iter().find(|outcome| outcome.as_str() == result) {
        Some(outcome) => Ok(Checked::Holds { public_key: stated, outcome }),
        None => broken("its result is none that this version of coffer knows"),
    }
}
