//! The audit logs: whether they follow on, and go as far as the catalog knows.

use std::path::{Path, PathBuf};

use coffer_crypto::{JournalKind, RootKey, RootKeys};
use coffer_keys::load_root_keys;
use coffer_kms::audit::{AuditFilter, AuditPosition, AuditReader};
use coffer_storage::Catalog;
use serde::Serialize;

use crate::audit_anchor::AuditedLog;

/// What a log was when it was verified. Two reports tell whether it only grew.
#[derive(Debug, Serialize)]
pub(super) struct AuditLogReport {
    log: &'static str,
    /// Number of its first file; more than 1 when older ones were removed.
    first_file: Option<u64>,
    files: u64,
    /// Good ones.
    records: u64,
    last_record: Option<Record>,
    /// The last record that the catalog knows; the log must have it.
    last_in_catalog: Option<Record>,
    /// A crash, or it is being written.
    ends_inside_record: bool,
}

#[derive(Debug, Serialize)]
struct Record {
    file: u64,
    /// Its number in that file.
    record: u64,
    sha256: String,
}

impl From<AuditPosition> for Record {
    fn from(position: AuditPosition) -> Self {
        Self { file: position.file, record: position.records, sha256: hex::encode(position.sha256) }
    }
}

impl AuditLogReport {
    /// One line for people.
    pub(super) fn text(&self) -> String {
        let first = self.first_file.unwrap_or_default();
        let of = |record: &Record| format!("record {} of file {}", record.record, record.file);
        let last = self.last_record.as_ref().map_or_else(|| "none".to_owned(), of);
        let known = self.last_in_catalog.as_ref().map_or_else(|| "none".to_owned(), of);
        format!(
            "audit log {}: {} records in {} files from number {first} on; the last is {last}, the catalog \
             knows {known}",
            self.log, self.records, self.files
        )
    }
}

/// What both logs came to.
#[derive(Default)]
pub(super) struct AuditLogs {
    pub(super) reports: Vec<AuditLogReport>,
    pub(super) tampered: Vec<String>,
    pub(super) not_at_hand: Vec<String>,
}

/// Verifies both logs of a data directory. `kms_root_key_file` is where the KMS's root key is.
pub(super) fn verify(
    directory: &Path,
    roots: &RootKeys,
    kms_root_key_file: &Path,
    catalog: &Catalog,
) -> AuditLogs {
    let of_kms = load_root_keys(kms_root_key_file).ok().flatten();
    let mut found = AuditLogs::default();
    let kms = Log {
        which: AuditedLog::Kms,
        directory: directory.join("kms").join("audit"),
        kind: JournalKind::KmsAudit,
        roots: of_kms.as_ref(),
    };
    let database = Log {
        which: AuditedLog::Database,
        directory: directory.join("audit"),
        kind: JournalKind::DatabaseAudit,
        roots: Some(roots),
    };
    for log in [kms, database] {
        log.verify(catalog, &mut found);
    }
    found
}

struct Log<'a> {
    which: AuditedLog,
    directory: PathBuf,
    kind: JournalKind,
    roots: Option<&'a RootKeys>,
}

impl Log<'_> {
    fn verify(&self, catalog: &Catalog, found: &mut AuditLogs) {
        let anchor = self.which.anchor(catalog);
        let mut files = std::fs::read_dir(&self.directory).into_iter().flatten();
        let has_files = files.next().is_some();
        // without its key nothing can be told of what is there
        if (anchor.is_none() && !self.directory.is_dir()) || (self.roots.is_none() && has_files) {
            return;
        }
        let current = self.roots.map(|roots| roots.current().duplicate());
        let previous = self.roots.and_then(RootKeys::previous).map(RootKey::duplicate);
        let keys = current.into_iter().chain(previous).collect();
        let reader = AuditReader::new(&self.directory, self.kind, keys).expecting(anchor);
        let summary = match reader.read(&AuditFilter::default(), &mut |_| {}) {
            Ok(summary) => summary,
            Err(error) => return found.not_at_hand.push(error.to_string()),
        };
        let problems = summary.problems.into_iter();
        let said = problems.map(|problem| format!("{}: {}", problem.path.display(), problem.what));
        found.tampered.extend(said);
        found.reports.push(AuditLogReport {
            log: self.which.as_str(),
            first_file: summary.first_file,
            files: summary.files,
            records: summary.records,
            last_record: summary.last.map(Record::from),
            last_in_catalog: anchor.map(Record::from),
            ends_inside_record: summary.is_torn,
        });
    }
}
