//! One file: against the catalog, and against its own tags where the key is at hand.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use coffer_crypto::{RootKey, RootKeys};
use coffer_model::TableId;
use coffer_storage::inspect::{
    digest, inspect_log, inspect_segment, inspect_tail, verify_log, verify_segment, verify_tail,
};
use coffer_storage::vfs::OsVfs;
use coffer_storage::{Catalog, Error, SegmentEntry, TailRecord};

use super::expected::{Expected, expected, owners};
use super::kinds::Kind;
use super::report::{FileReport, State};
use crate::error::CommandError;
use crate::inspect::keys::{InspectKeys, Owner};
use crate::inspect::{Place, Proof, inspect_file};

/// Longest file that is in the clear on purpose.
const CLEAR_BYTES_MAX: u64 = 4096;
/// What stands in the file of credentials, in this order.
const CREDENTIALS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "region"];
/// Longest process id in a lock file, with its line end.
const PROCESS_BYTES_MAX: usize = 24;

/// What a file is compared with, and the keys.
pub(super) struct Subject {
    pub(super) directory: PathBuf,
    pub(super) place: Place,
    pub(super) roots: Option<RootKeys>,
    pub(super) catalog: Option<Catalog>,
    pub(super) expected: BTreeMap<String, Expected>,
    pub(super) owners: BTreeMap<TableId, Owner>,
    pub(super) keys: Option<InspectKeys>,
    /// Why there is no catalog, or are no keys.
    pub(super) reason: String,
    /// Links to one file are verified once.
    pub(super) seen: HashMap<Link, FileReport>,
}

/// What a verified file was: another link to it under another name, or one that the catalog expects
/// something else of, is a finding of its own.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    device: u64,
    inode: u64,
    table: TableId,
    name: String,
    sha256: [u8; 32],
}

impl Link {
    fn new(relative: &str, metadata: &std::fs::Metadata, expected: &Expected) -> Option<Self> {
        let (table, sha256) = match expected {
            Expected::Segment(table, entry) => (*table, entry.sha256),
            Expected::Tail(table, tail) => (*table, tail.sha256),
            Expected::Log | Expected::Catalog => return None,
        };
        let name = relative.rsplit('/').next().unwrap_or(relative).to_owned();
        Some(Self { device: metadata.dev(), inode: metadata.ino(), table, name, sha256 })
    }
}

/// A state and why.
pub(super) type Finding = (State, Option<String>);

fn tampered(what: impl Into<String>) -> Finding {
    (State::Tampered, Some(what.into()))
}

/// What the operating system does not give.
pub(super) fn unreadable(error: &dyn std::fmt::Display) -> Finding {
    (State::Unreadable, Some(format!("it could not be read: {error}")))
}

/// Whether the operating system did not give the bytes: that says nothing of what they are. A place
/// that the file itself names and that no file has is the file's fault.
fn is_refusal(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some() && error.kind() != std::io::ErrorKind::InvalidInput
}

fn structure_only(reason: impl Into<String>) -> Finding {
    (State::StructureOnly, Some(reason.into()))
}

/// What a file is that Coffer does not make.
pub(super) fn foreign() -> Finding {
    (State::Foreign, Some("Coffer makes no such file".to_owned()))
}

/// What an error of the engine says of a file; `None` for a file that went away.
fn finding_of(error: Error) -> Option<Finding> {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => None,
        Error::Io { ref source, .. } if is_refusal(source) => Some(unreadable(&error)),
        Error::Io { action, source, .. } => Some(tampered(format!("{action}: {source}"))),
        Error::WrongKey { .. } | Error::KeyUnavailable(_) => {
            Some(structure_only(error.to_string()))
        }
        other => Some(tampered(other.to_string())),
    }
}

impl Subject {
    /// Takes up a catalog.
    pub(super) fn set_catalog(&mut self, catalog: Catalog) {
        self.expected = expected(&catalog);
        self.owners = owners(&catalog);
        self.catalog = Some(catalog);
        self.seen.clear();
    }

    /// Makes the keys of a table usable.
    pub(super) fn unlock(&self, table: TableId) -> Result<(), String> {
        let keys = self.keys.as_ref().ok_or_else(|| self.reason.clone())?;
        let owner = self.owners.get(&table);
        let owner = owner.ok_or_else(|| format!("the catalog has no table {table}"))?;
        keys.unlock(owner)
    }

    /// Verifies the file of this path below the directory; `None` when there is none.
    pub(super) fn verify(&mut self, relative: &str) -> Option<FileReport> {
        let path = self.directory.join(relative);
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            // it went away: missing, when the catalog wants it
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                return Some(FileReport::bare(relative, Kind::of(relative), unreadable(&error)));
            }
        };
        let mut kind = Kind::of(relative);
        let is_socket = metadata.file_type().is_socket();
        if is_socket != (kind == Kind::Socket) || !(is_socket || metadata.is_file()) {
            kind = Kind::Foreign;
        }
        let table = match self.expected.get(relative) {
            Some(Expected::Segment(table, _) | Expected::Tail(table, _)) => Some(*table),
            _ => None,
        };
        let expected = self.expected.get(relative);
        let link = expected.and_then(|expected| Link::new(relative, &metadata, expected));
        if let Some(known) = link.as_ref().and_then(|link| self.seen.get(link)) {
            return Some(FileReport { path: relative.to_owned(), ..known.clone() });
        }
        let mut report = FileReport {
            bytes: metadata.len(),
            table_id: table.map(|table| table.to_string()),
            ..FileReport::bare(relative, kind, (State::Verified, None))
        };
        let (state, reason) = match kind {
            Kind::Segment => self.segment(&path, &mut report)?,
            Kind::Tail => self.tail(&path, &mut report)?,
            Kind::Log => self.log(&path, &mut report)?,
            Kind::Catalog | Kind::KmsStore | Kind::KmsJournal | Kind::KmsAudit | Kind::Audit => {
                self.document(&path, kind)?
            }
            Kind::RootKey | Kind::Credentials | Kind::Lock => clear(&path, kind)?,
            Kind::Socket => (State::Clear, None),
            Kind::Import => structure_only("an import is under way, or was broken off"),
            Kind::Unfinished => {
                let reason = "a writer had not finished it; a start removes it";
                (State::Unfinished, Some(reason.to_owned()))
            }
            Kind::Foreign => foreign(),
        };
        (report.result, report.reason) = (state, reason);
        if let Some(link) = link {
            self.seen.insert(link, report.clone());
        }
        Some(report)
    }

    fn segment(&self, path: &Path, report: &mut FileReport) -> Option<Finding> {
        let structure = match inspect_segment(&OsVfs, path) {
            Ok(structure) => structure,
            Err(error) => return finding_of(error),
        };
        report.sha256 = Some(hex::encode(structure.sha256));
        report.table_keys = vec![structure.table_key.to_string()];
        let own = structure.to_entry();
        if is_renamed(path, &own.path(Path::new(""))) {
            return Some(tampered("it is another segment under this name"));
        }
        if self.catalog.is_none() {
            report.table_id = Some(structure.table.to_string());
            return Some(structure_only(&self.reason));
        }
        let Some(Expected::Segment(table, entry)) = self.expected.get(&report.path) else {
            report.table_id = Some(structure.table.to_string());
            return self.unlisted_segment(path, &own);
        };
        if let Some(what) = difference(entry, &own) {
            return Some(tampered(what));
        }
        if let Err(reason) = self.unlock(*table) {
            return Some(structure_only(reason));
        }
        let keys = self.keys.as_ref()?;
        match verify_segment(&OsVfs, path, *table, entry, keys.keyring.as_ref()) {
            Ok(_) => Some((State::Verified, None)),
            Err(error) => finding_of(error),
        }
    }

    /// A segment that nothing needs is still to hold nothing in the clear.
    fn unlisted_segment(&self, path: &Path, own: &SegmentEntry) -> Option<Finding> {
        let nothing = "the catalog does not list it";
        if let Err(reason) = self.unlock(own.table) {
            return Some(structure_only(format!("{nothing}; {reason}")));
        }
        let keys = self.keys.as_ref()?;
        match verify_segment(&OsVfs, path, own.table, own, keys.keyring.as_ref()) {
            Ok(_) => Some((State::Unlisted, Some(nothing.to_owned()))),
            Err(error) => finding_of(error),
        }
    }

    fn tail(&self, path: &Path, report: &mut FileReport) -> Option<Finding> {
        let (length, sha256) = match digest(&OsVfs, path) {
            Ok(found) => found,
            Err(error) => return finding_of(error),
        };
        report.sha256 = Some(hex::encode(sha256));
        if let Some(Expected::Tail(_, tail)) = self.expected.get(&report.path)
            && (length, sha256) != (tail.length, tail.sha256)
        {
            return Some(tampered("length or SHA-256 is not the catalog's"));
        }
        let structure = match inspect_tail(&OsVfs, path) {
            Ok(structure) => structure,
            Err(error) => return finding_of(error),
        };
        report.table_keys = structure.groups.keys().map(ToString::to_string).collect();
        if self.catalog.is_none() {
            report.table_id = Some(structure.table.to_string());
            return Some(structure_only(&self.reason));
        }
        let directory = path.parent()?;
        let (table, tail, is_listed) = match self.expected.get(&report.path) {
            Some(Expected::Tail(table, tail)) => (*table, tail.clone(), true),
            _ => {
                report.table_id = Some(structure.table.to_string());
                let mut id = [0; 16];
                hex::decode_to_slice(path.file_stem()?.to_str()?, &mut id).ok()?;
                let tail = TailRecord {
                    id,
                    length,
                    sha256,
                    last: coffer_storage::Lsn(0),
                    table_keys: structure.groups.keys().copied().collect(),
                    table: structure.table,
                    committed_millis: (0, 0),
                    read_until_millis: None,
                };
                (structure.table, tail, false)
            }
        };
        if let Err(reason) = self.unlock(table) {
            return Some(structure_only(reason));
        }
        let keys = self.keys.as_ref()?;
        match verify_tail(&OsVfs, directory, table, &tail, keys.keyring.as_ref()) {
            Ok(()) if is_listed => Some((State::Verified, None)),
            Ok(()) => Some((State::Unlisted, Some("the catalog does not list it".to_owned()))),
            Err(error) => finding_of(error),
        }
    }

    fn log(&self, path: &Path, report: &mut FileReport) -> Option<Finding> {
        match digest(&OsVfs, path) {
            Ok((_, sha256)) => report.sha256 = Some(hex::encode(sha256)),
            Err(error) => return finding_of(error),
        }
        let (Some(roots), Some(catalog)) = (&self.roots, &self.catalog) else {
            return match inspect_log(&OsVfs, path, None) {
                Ok(_) => Some(structure_only(&self.reason)),
                Err(error) => finding_of(error),
            };
        };
        let (root, structure) =
            match under_one_of(roots, |root| inspect_log(&OsVfs, path, Some(root))) {
                Ok(found) => found,
                Err(error) => return finding_of(error),
            };
        if structure.cluster != catalog.cluster_id {
            return Some(tampered("it is the log of another cluster"));
        }
        if is_renamed(path, Path::new(&format!("{:016x}.log", structure.number))) {
            return Some(tampered("it is another file of the log under this name"));
        }
        let used: BTreeSet<_> =
            structure.frames.iter().flat_map(|frames| frames.tables.keys().copied()).collect();
        report.table_keys = used.iter().map(|(_, key)| key.to_string()).collect();
        let mut reasons = BTreeSet::new();
        for table in used.iter().map(|(table, _)| *table) {
            // of a table that is gone for good the keys are gone too: its records can be read by nobody
            if self.owners.contains_key(&table)
                && let Err(reason) = self.unlock(table)
            {
                reasons.insert(format!("records of table {table}: {reason}"));
            }
        }
        let Some(keys) = &self.keys else {
            return Some(structure_only(&self.reason));
        };
        match verify_log(&OsVfs, path, root, keys.keyring.as_ref()) {
            Ok(_) if reasons.is_empty() => Some((State::Verified, None)),
            Ok(_) => Some(structure_only(reasons.into_iter().collect::<Vec<_>>().join("; "))),
            Err(error) => finding_of(error),
        }
    }

    fn document(&self, path: &Path, kind: Kind) -> Option<Finding> {
        match inspect_file(path, &self.place) {
            Ok(report) => Some(match report.proof {
                _ if !is_of(kind, report.kind()) => tampered(format!("it is a {}", report.kind())),
                Proof::Verified => (State::Verified, None),
                Proof::NoKey(reason) => structure_only(reason),
                Proof::Tampered(what) => tampered(what),
            }),
            Err(CommandError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                None
            }
            Err(CommandError::Io { source, .. }) if is_refusal(&source) => {
                Some(unreadable(&source))
            }
            Err(CommandError::Engine(error)) => finding_of(error),
            // a directory of it that went away
            Err(_) if !path.exists() => None,
            Err(error) => Some(tampered(error.to_string())),
        }
    }
}

fn is_of(kind: Kind, found: &str) -> bool {
    kind.as_str() == found || (kind == Kind::Audit && found == "audit log of the database")
}

/// The first difference between what the catalog says and what the file says.
fn difference(entry: &SegmentEntry, own: &SegmentEntry) -> Option<String> {
    if own.length != entry.length {
        return Some(format!("length is {}, expected {}", own.length, entry.length));
    }
    if (own.id, own.cluster, own.table) != (entry.id, entry.cluster, entry.table) {
        return Some("it was born as another segment".to_owned());
    }
    if own.table_key != entry.table_key {
        return Some("its header names another table key".to_owned());
    }
    (own.sha256 != entry.sha256).then(|| "SHA-256 is not the catalog's".to_owned())
}

fn is_renamed(path: &Path, own: &Path) -> bool {
    path.file_name() != own.file_name()
}

/// What `inspect` finds with the root key that the file is under.
fn under_one_of<T>(
    roots: &RootKeys,
    inspect: impl Fn(&RootKey) -> coffer_storage::Result<T>,
) -> coffer_storage::Result<(&RootKey, T)> {
    match (inspect(roots.current()), roots.previous()) {
        (Err(Error::WrongKey { .. }), Some(previous)) => {
            inspect(previous).map(|found| (previous, found))
        }
        (found, _) => found.map(|found| (roots.current(), found)),
    }
}

/// Whether these are the lines of an AWS credentials file that the embedded KMS writes, and no others.
fn is_credentials(bytes: &[u8]) -> bool {
    let Some(lines) = std::str::from_utf8(bytes).ok().and_then(|text| text.strip_suffix('\n'))
    else {
        return false;
    };
    let lines: Vec<&str> = lines.split('\n').collect();
    let [principal, "[default]", fields @ ..] = lines.as_slice() else { return false };
    let is_principal = principal.strip_prefix("# arn:aws:iam::").is_some_and(is_word);
    let names = CREDENTIALS.iter().zip(fields);
    is_principal
        && fields.len() == CREDENTIALS.len()
        && names.into_iter().all(|(name, line)| {
            line.strip_prefix(name).and_then(|rest| rest.strip_prefix(" = ")).is_some_and(is_word)
        })
}

/// A word of a credentials file: of such characters, and no longer than any of them.
fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=:-_.".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(fits)
}

/// A file that is in the clear on purpose holds what it is for, and no more.
fn clear(path: &Path, kind: Kind) -> Option<Finding> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(unreadable(&error)),
    };
    if let Err(error) = file.take(CLEAR_BYTES_MAX + 1).read_to_end(&mut bytes) {
        return Some(unreadable(&error));
    }
    let is_good = match kind {
        Kind::RootKey => RootKey::from_file_bytes(&bytes).is_ok(),
        Kind::Lock => {
            bytes.len() <= PROCESS_BYTES_MAX
                && bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b'\n')
        }
        _ => bytes.len() as u64 <= CLEAR_BYTES_MAX && is_credentials(&bytes),
    };
    Some(if is_good {
        (State::Clear, None)
    } else {
        tampered(format!("it is not what a file called {} holds", kind.as_str()))
    })
}
