//! `coffer audit`: both audit logs of a data directory, merged by time, filtered and verified.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coffer_crypto::{JournalKind, RootKey};
use coffer_keys::{load_root_key, load_root_keys};
use coffer_kms::audit::{AuditFilter, AuditPosition, AuditReader, AuditSummary, parse_time};
use coffer_storage::Catalog;
use coffer_storage::inspect::newest_catalog;
use coffer_storage::vfs::OsVfs;
use serde_json::{Value, json};

use crate::audit_anchor::AuditedLog;

use crate::cli::Audit;
use crate::error::{CommandError, Result};

/// Exit code when a log is not as it was written.
const BROKEN: u8 = 4;

/// One log.
struct Log {
    which: AuditedLog,
    directory: PathBuf,
    kind: JournalKind,
    root_key: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Wrong flags; logs or keys that cannot be read.
pub(crate) fn run(flags: &Audit, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    let filter = filter(flags)?;
    let directory = &flags.data_dir;
    let in_directory =
        |file: &Option<PathBuf>, name: &str| file.clone().unwrap_or_else(|| directory.join(name));
    let logs = [
        Log {
            which: AuditedLog::Kms,
            directory: directory.join("kms").join("audit"),
            kind: JournalKind::KmsAudit,
            root_key: in_directory(&flags.kms_root_key_file, "kms/root.key"),
        },
        Log {
            which: AuditedLog::Database,
            directory: directory.join("audit"),
            kind: JournalKind::DatabaseAudit,
            root_key: in_directory(&flags.root_key_file, "root.key"),
        },
    ];
    // the logs can be read without it: all that is not known then is whether their ends are missing
    let (catalog, unread) =
        match catalog(directory, &in_directory(&flags.root_key_file, "root.key")) {
            Ok(catalog) => (catalog, None),
            Err(error) => (None, Some(error)),
        };
    let anchor = |log: &Log| log.which.anchor(catalog.as_ref()?);
    let is_wanted = |log: &&Log| log.directory.is_dir() || anchor(log).is_some();
    let present: Vec<&Log> = logs.iter().filter(is_wanted).collect();
    if present.is_empty() {
        let directory = directory.display();
        return Err(CommandError::Refused(format!("there is no audit log in {directory}")));
    }
    let mut records = Vec::new();
    let mut summaries = Vec::new();
    for log in present {
        let anchor = anchor(log);
        let reader = AuditReader::new(&log.directory, log.kind, root_keys(&log.root_key)?);
        let reader = reader.expecting(anchor);
        let mut show = |record: &coffer_kms::audit::AuditRecord| {
            records.push((text(&record.json, "/eventTime"), line(record, flags.json)));
        };
        let summary = reader
            .read(&filter, &mut show)
            .map_err(|error| CommandError::Refused(error.to_string()))?;
        summaries.push((log.which, anchor, summary));
    }
    // each log is in order already; the sort keeps that within a second
    records.sort_by(|(first, _), (second, _)| first.cmp(second));
    for (_, line) in &records {
        say(line);
    }
    for (log, anchor, summary) in &summaries {
        if flags.verify || !summary.problems.is_empty() {
            say(&verdict(*log, anchor.as_ref(), summary, flags.json));
        }
    }
    if summaries.iter().any(|(_, _, summary)| !summary.problems.is_empty()) {
        return Ok(ExitCode::from(BROKEN));
    }
    match unread {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(CommandError::Refused(format!(
            "the catalog cannot be read, so nobody knows whether records are missing at the ends of \
             the logs: {error}"
        ))),
    }
}

/// The catalog beside the logs; `None` where a KMS is served alone.
fn catalog(directory: &Path, root_key: &Path) -> Result<Option<Catalog>> {
    if !directory.join("catalog").is_dir() {
        return Ok(None);
    }
    let Some(roots) = load_root_keys(root_key)? else { return Ok(None) };
    Ok(newest_catalog(&OsVfs, directory, roots)?)
}

fn filter(flags: &Audit) -> Result<AuditFilter> {
    let refused = |flag: &str, value: &str, wanted: &str| {
        CommandError::Refused(format!("--{flag}: {value} is not {wanted}"))
    };
    let time = |flag: &str, value: &Option<String>| match value.as_deref() {
        None => Ok(None),
        Some(value) => parse_time(value)
            .map(Some)
            .ok_or_else(|| refused(flag, value, "a time as 2026-11-22T08:00:00Z or 2026-11-22")),
    };
    let table = match flags.table.as_deref() {
        None => None,
        Some(name) => {
            let (keyspace, table) =
                name.split_once('.').ok_or_else(|| refused("table", name, "KEYSPACE.TABLE"))?;
            Some((keyspace.to_owned(), table.to_owned()))
        }
    };
    Ok(AuditFilter {
        event: flags.event.clone(),
        user: flags.user.clone(),
        key: flags.key.clone(),
        table,
        since_millis: time("since", &flags.since)?,
        until_millis: time("until", &flags.until)?,
    })
}

/// The root keys of a file; during a rotation there are two.
fn root_keys(file: &Path) -> Result<Vec<RootKey>> {
    let missing = || CommandError::RootKeyMissing { file: file.to_owned() };
    if let Some(roots) = load_root_keys(file)? {
        let previous = roots.previous().map(RootKey::duplicate);
        return Ok([roots.current().duplicate()].into_iter().chain(previous).collect());
    }
    Ok(vec![load_root_key(file)?.ok_or_else(missing)?])
}

fn text(record: &Value, pointer: &str) -> String {
    record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A record as it is, or as one line for people: time, event, who, from where, what, outcome.
fn line(record: &coffer_kms::audit::AuditRecord, json: bool) -> String {
    if json {
        return format!("{}\n", record.line);
    }
    let json = &record.json;
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    let identity = |name: &str| text(json, &format!("/userIdentity/{name}"));
    let who = or(or(identity("arn"), &identity("invokedBy")), "-");
    let resource = or(text(json, "/resources/0/ARN"), &text(json, "/requestParameters/keyId"));
    let context = |name: &str| {
        text(json, &format!("/requestParameters/encryptionContext/aws:cassandra:{name}"))
    };
    let table = match (context("keyspaceName"), context("tableName")) {
        (keyspace, table) if !table.is_empty() => format!(" {keyspace}.{table}"),
        _ => String::new(),
    };
    let outcome = or(text(json, "/errorCode"), "ok");
    format!(
        "{} {} {} {} {}{table} {outcome}\n",
        text(json, "/eventTime"),
        text(json, "/eventName"),
        who,
        or(text(json, "/sourceIPAddress"), "-"),
        or(resource, "-"),
    )
}

fn verdict(
    log: AuditedLog,
    anchor: Option<&AuditPosition>,
    summary: &AuditSummary,
    json: bool,
) -> String {
    let name = log.as_str();
    let problems: Vec<String> = summary
        .problems
        .iter()
        .map(|problem| {
            let (path, good) = (problem.path.display(), problem.good_records);
            format!("{path}: {} (after {good} good records)", problem.what)
        })
        .collect();
    let is_whole = problems.is_empty();
    if json {
        return format!(
            "{}\n",
            json!({
                "log": name, "whole": is_whole, "records": summary.records,
                "files": summary.files, "firstFile": summary.first_file,
                "lastRecord": summary.last.map(|last| last.to_string()),
                "lastInCatalog": anchor.map(ToString::to_string),
                "endsInsideRecord": summary.is_torn, "problems": problems,
            })
        );
    }
    let first = summary.first_file.unwrap_or_default();
    let mut verdict = format!(
        "log {name}: {} records in {} files from number {first} on, {}: {}\n",
        summary.records,
        summary.files,
        match anchor {
            Some(known) =>
                format!("the catalog knows record {} of file {}", known.records, known.file),
            None => "of which the catalog knows none".to_owned(),
        },
        if is_whole { "whole" } else { "NOT AS WRITTEN" }
    );
    for problem in problems {
        verdict.push_str(&format!("  {problem}\n"));
    }
    verdict
}
