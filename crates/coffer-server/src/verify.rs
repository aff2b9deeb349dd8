//! `coffer verify`: every file of a data directory, offline. Takes no lock and changes nothing, so it
//! works beside a running server and on a copy.
//!
//! What a server does meanwhile can look like damage: whatever does not hold is looked at again, with
//! the newest catalog, before it is said.

mod audit_logs;
mod expected;
mod files;
mod kinds;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use coffer_crypto::clock::{Clock, SystemClock};
use coffer_crypto::{RootKeys, SigningKey};
use coffer_keys::load_root_keys;
use coffer_storage::inspect::{newest_catalog, verify_log_directory};
use coffer_storage::vfs::OsVfs;

use crate::cli::Verify;
use crate::error::{CommandError, Result};
use crate::inspect::Place;
use crate::inspect::keys::{InspectKeys, Owner};
use crate::printable::{printable, progress_bar};
use audit_logs::AuditLogReport;
use files::{Subject, unreadable};
use report::{Checked, FileReport, Outcome, Report, State, TableReport};

/// Exit code: some keys are not at hand, so not everything is proven.
const EXIT_STRUCTURE_ONLY: u8 = 3;
/// Exit code: something is not as it was written, missing, or no file of Coffer's.
const EXIT_TAMPERED: u8 = 4;
/// How often what does not hold is looked at again while a server runs.
const ROUNDS: usize = 8;
const ROUND_PAUSE: Duration = Duration::from_millis(250);
/// Longest file of a signing key.
const SIGNING_KEY_BYTES_MAX: usize = 256;

/// Runs the command.
///
/// # Errors
/// When the directory cannot be listed, files of the command line cannot be used, or what was found
/// cannot be told.
pub(crate) fn run(command: &Verify, out: &mut dyn Write) -> Result<ExitCode> {
    let say = &mut |text: &str| tell(out, text);
    if let Some(path) = &command.check {
        return check(path, command.public_key.as_deref(), say);
    }
    let mut verification = Verification::start(command)?;
    let signing_key = verification.signing_key(command)?;
    let report = verification.report()?;
    let is_json_alone = command.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = &command.json {
        let text = format!("{:#}\n", report.signed(signing_key.as_ref())?);
        if is_json_alone {
            say(&text)?;
        } else {
            write_new(path, text.as_bytes())?;
        }
    }
    if !is_json_alone {
        say(&report.text())?;
        match (&signing_key, &command.json) {
            (None, _) => say("unsigned: neither a root key nor a signing key is at hand\n")?,
            (Some(key), Some(path)) => say(&format!(
                "signed report {}: public key {}, fingerprint {}\n",
                path.display(),
                hex::encode(key.public_key()),
                report::fingerprint(&key.public_key()),
            ))?,
            (Some(_), None) => {}
        }
    }
    Ok(exit_code(report.outcome()))
}

/// Writes to where the report is wanted.
type Say<'a> = dyn FnMut(&str) -> Result<()> + 'a;

fn tell(out: &mut dyn Write, text: &str) -> Result<()> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(CommandError::io("write the report to standard output"))
}

fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Good => ExitCode::SUCCESS,
        Outcome::StructureOnly => ExitCode::from(EXIT_STRUCTURE_ONLY),
        Outcome::Tampered => ExitCode::from(EXIT_TAMPERED),
    }
}

fn check(path: &Path, public_key: Option<&str>, say: &mut Say<'_>) -> Result<ExitCode> {
    let path_text = path.display();
    Ok(match report::check(path, public_key)? {
        Checked::Holds { public_key: stated, outcome } => {
            let result = outcome.as_str().replace('_', " ");
            say(&format!("{path_text}: signed with {stated}; result: {result}\n"))?;
            if public_key.is_none() {
                say("compare the key with what you know: the report itself named it\n")?;
            }
            exit_code(outcome)
        }
        Checked::Unsigned if public_key.is_some() => {
            say(&format!("{path_text}: unsigned, and a signature is wanted\n"))?;
            ExitCode::from(EXIT_TAMPERED)
        }
        Checked::Unsigned => {
            say(&format!("{path_text}: unsigned\n"))?;
            ExitCode::from(EXIT_STRUCTURE_ONLY)
        }
        Checked::Broken(what) => {
            say(&printable(&format!("{path_text}: the signature does not hold: {what}")))?;
            say("\n")?;
            ExitCode::from(EXIT_TAMPERED)
        }
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || CommandError::io(format!("write {}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).and_then(|mut file| file.write_all(bytes)).map_err(failed())
}

struct Verification {
    subject: Subject,
    kms_root_key_file: Option<std::path::PathBuf>,
    files: BTreeMap<String, FileReport>,
    /// Files whose name is no text, and directories that cannot be listed: no path of the catalog, and
    /// none to look at again.
    unnamed: Vec<FileReport>,
    audit_logs: Vec<AuditLogReport>,
    tampered: Vec<String>,
    keys_not_at_hand: Vec<String>,
}

impl Verification {
    fn start(command: &Verify) -> Result<Self> {
        let directory = command.directory.clone();
        let root_key_file =
            command.root_key_file.clone().unwrap_or_else(|| directory.join("root.key"));
        let (roots, reason) = match load_root_keys(&root_key_file) {
            Ok(Some(roots)) => (Some(roots), String::new()),
            Ok(None) => (None, format!("there is no root key {}", root_key_file.display())),
            Err(error) => (None, error.to_string()),
        };
        let place = Place {
            data_dir: Some(directory.clone()),
            root_key_file: Some(root_key_file),
            kms_root_key_file: command.kms_root_key_file.clone(),
        };
        let subject = Subject {
            directory,
            place,
            roots,
            catalog: None,
            expected: BTreeMap::new(),
            owners: BTreeMap::new(),
            keys: None,
            reason,
            seen: HashMap::new(),
        };
        Ok(Self {
            subject,
            kms_root_key_file: command.kms_root_key_file.clone(),
            files: BTreeMap::new(),
            unnamed: Vec::new(),
            audit_logs: Vec::new(),
            tampered: Vec::new(),
            keys_not_at_hand: Vec::new(),
        })
    }

    fn signing_key(&self, command: &Verify) -> Result<Option<SigningKey>> {
        let Some(path) = &command.signing_key else {
            let root = self.subject.roots.as_ref().map(RootKeys::current);
            return Ok(root.map(SigningKey::of_root_key).transpose()?);
        };
        let failed = || CommandError::io(format!("read the signing key {}", path.display()));
        let file = std::fs::File::open(path).map_err(failed())?;
        let mode = file.metadata().map_err(failed())?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CommandError::Refused(format!(
                "{}: mode {mode:o} lets others read the signing key: chmod 600 it",
                path.display()
            )));
        }
        // of that size from the start, so that no copy is left behind when it grows
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(SIGNING_KEY_BYTES_MAX + 1));
        file.take(SIGNING_KEY_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(failed())?;
        let key = SigningKey::from_hex_seed(&bytes);
        key.map(Some).map_err(|_| {
            CommandError::Refused(format!("{} does not hold 64 hex digits", path.display()))
        })
    }

    /// Reads the catalog and makes keys usable, as far as they are at hand.
    fn load(&mut self) -> Result<()> {
        self.tampered.clear();
        self.keys_not_at_hand.clear();
        let subject = &mut self.subject;
        if let Some(roots) = subject.roots.as_ref().map(RootKeys::duplicate) {
            let directory = &subject.directory;
            match newest_catalog(&OsVfs, directory, roots.duplicate()) {
                Ok(Some(catalog)) => subject.set_catalog(catalog),
                Ok(None) => subject.reason = "there is no catalog".to_owned(),
                // its own line says the same, and the outcome follows from that one
                Err(error) => subject.reason = error.to_string(),
            }
            let kms_root = self.kms_root_key_file.as_deref();
            match InspectKeys::open(&subject.directory, kms_root, roots.duplicate())? {
                Ok(keys) => {
                    let has_kms_keys = subject.owners.values().any(|owner| {
                        owner.key.encryption_type != coffer_crypto::EncryptionType::AwsOwned
                    });
                    if let Some(reason) = keys.without_kms.as_ref().filter(|_| has_kms_keys) {
                        self.keys_not_at_hand.push(format!("embedded KMS: {reason}"));
                    }
                    subject.keys = Some(keys);
                }
                Err(reason) => {
                    self.keys_not_at_hand.push(format!("embedded KMS: {reason}"));
                    if subject.catalog.is_some() {
                        subject.reason = reason;
                    }
                }
            }
        }
        if subject.catalog.is_none() {
            self.keys_not_at_hand.push(subject.reason.clone());
        }
        Ok(())
    }

    /// What is beyond a single file: gaps in the log, audit logs that do not follow on.
    fn wholes(&mut self) {
        let subject = &self.subject;
        let (Some(roots), Some(catalog)) = (&subject.roots, &subject.catalog) else { return };
        if let Err(error) = verify_log_directory(&OsVfs, &subject.directory, roots, catalog) {
            self.tampered.push(error.to_string());
        }
        let kms_root = match &self.kms_root_key_file {
            Some(file) => file.clone(),
            None => subject.directory.join("kms").join("root.key"),
        };
        let found = audit_logs::verify(&subject.directory, roots, &kms_root, catalog);
        self.tampered.extend(found.tampered);
        self.keys_not_at_hand.extend(found.not_at_hand);
        self.audit_logs = found.reports;
    }

    fn all(&mut self) -> Result<()> {
        self.load()?;
        let Found { files: found, unnamed } = walk(&self.subject.directory)?;
        self.unnamed = unnamed;
        let progress = progress_bar(found.values().sum());
        for (path, length) in &found {
            progress.set_message(printable(path));
            if let Some(report) = self.subject.verify(path) {
                self.files.insert(path.clone(), report);
            }
            progress.inc(*length);
        }
        progress.finish_and_clear();
        self.note_missing();
        self.wholes();
        Ok(())
    }

    /// Files that were not found: missing, or in a directory that could not be listed.
    fn note_missing(&mut self) {
        for path in self.subject.expected.keys().cloned().collect::<Vec<_>>() {
            if !self.files.contains_key(&path) {
                let report = self.subject.verify(&path).unwrap_or_else(|| missing(&path));
                self.files.insert(path, report);
            }
        }
    }

    /// Whether something does not hold that a server at work can make look so.
    fn has_doubts(&self) -> bool {
        let in_doubt = |file: &FileReport| {
            matches!(
                file.result,
                State::Tampered | State::Missing | State::Unlisted | State::Unfinished
            ) || (file.result == State::StructureOnly && self.subject.keys.is_some())
        };
        !self.tampered.is_empty() || self.files.values().any(in_doubt)
    }

    /// Looks again at what did not hold.
    fn again(&mut self) -> Result<()> {
        self.load()?;
        let good = |file: &FileReport| matches!(file.result, State::Verified | State::Clear);
        let doubtful: Vec<String> = self
            .files
            .iter()
            .filter(|(_, file)| !good(file))
            .map(|(path, _)| path.clone())
            .collect();
        for path in doubtful {
            match self.subject.verify(&path) {
                Some(report) => drop(self.files.insert(path, report)),
                None => drop(self.files.remove(&path)),
            }
        }
        self.note_missing();
        self.wholes();
        Ok(())
    }

    fn report(&mut self) -> Result<Report> {
        self.all()?;
        let mut rounds = 0;
        let is_live = self.subject.directory.join("admin.sock").exists();
        while is_live && rounds < ROUNDS && self.has_doubts() {
            std::thread::sleep(ROUND_PAUSE);
            self.again()?;
            rounds += 1;
        }
        let subject = &self.subject;
        let catalog = subject.catalog.as_ref();
        Ok(Report {
            format: "coffer-verify-1",
            program: format!("coffer {}", env!("CARGO_PKG_VERSION")),
            directory: subject.directory.display().to_string(),
            verified_at_millis: SystemClock.key_wall_millis(),
            cluster: catalog.map(|catalog| catalog.cluster_id.to_string()),
            catalog_version: catalog.map(|catalog| catalog.version),
            root_key: subject.roots.as_ref().map(|roots| hex::encode(roots.current().id())),
            keys_not_at_hand: std::mem::take(&mut self.keys_not_at_hand),
            tampered: std::mem::take(&mut self.tampered),
            audit_logs: std::mem::take(&mut self.audit_logs),
            tables: tables(subject, &self.files),
            files: std::mem::take(&mut self.files)
                .into_values()
                .chain(std::mem::take(&mut self.unnamed))
                .collect(),
        })
    }
}

fn tables(subject: &Subject, files: &BTreeMap<String, FileReport>) -> Vec<TableReport> {
    let report = |(id, owner): (&coffer_model::TableId, &Owner)| {
        let id_text = id.to_string();
        let own: Vec<&FileReport> =
            files.values().filter(|file| file.table_id.as_ref() == Some(&id_text)).collect();
        TableReport {
            keyspace: owner.name.keyspace.to_string(),
            table: owner.name.name.to_string(),
            is_dropped: owner.is_dropped,
            encryption_type: owner.key.encryption_type.as_str(),
            kms_key_arn: owner.key.kms_key_arn.clone(),
            current_table_key: owner.key.table_key_id.to_string(),
            older_table_keys: owner.key.older.iter().map(|o| o.table_key_id.to_string()).collect(),
            key_not_at_hand: subject.unlock(*id).err(),
            files: own.len(),
            bytes: own.iter().map(|file| file.bytes).sum(),
            files_verified: own.iter().filter(|file| file.result == State::Verified).count(),
            table_id: id_text,
        }
    };
    subject.owners.iter().map(report).collect()
}

fn missing(path: &str) -> FileReport {
    let reason = "the catalog wants it and it is not there".to_owned();
    FileReport::bare(path, kinds::Kind::of(path), (State::Missing, Some(reason)))
}

/// What is below a directory.
#[derive(Default)]
struct Found {
    /// Lengths by path, with `/` between the parts.
    files: BTreeMap<String, u64>,
    /// Files whose path is no UTF-8, and directories that could not be listed.
    unnamed: Vec<FileReport>,
}

fn walk(directory: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut folders = vec![(directory.to_owned(), String::new(), true)];
    while let Some((folder, prefix, is_text)) = folders.pop() {
        let listed = std::fs::read_dir(&folder);
        let entries = match listed.and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) if prefix.is_empty() => {
                let folder = printable(&folder.to_string_lossy());
                return Err(CommandError::io(format!("list {folder}"))(error));
            }
            // a table's directory goes with the table
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let report = FileReport::bare(&prefix, kinds::Kind::Foreign, unreadable(&error));
                found.unnamed.push(FileReport { kind: "directory", ..report });
                continue;
            }
        };
        for entry in entries {
            let name = entry.file_name();
            let (part, is_text) = match name.to_str() {
                Some(name) => (name.to_owned(), is_text),
                None => (name.as_bytes().escape_ascii().to_string(), false),
            };
            let path = format!("{prefix}{part}");
            let metadata = entry.metadata();
            if metadata.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
                folders.push((entry.path(), format!("{path}/"), is_text));
            } else if is_text {
                // what cannot be looked at is a finding later
                found.files.insert(path, metadata.map_or(0, |metadata| metadata.len()));
            } else {
                let report = FileReport::bare(&path, kinds::Kind::Foreign, files::foreign());
                found.unnamed.push(report);
            }
        }
    }
    Ok(found)
}
