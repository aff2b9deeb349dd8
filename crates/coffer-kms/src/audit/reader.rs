//! The reading end of a log: verifies every file, record and link, and names what is wrong.

use super::{AuditError, AuditFilter, AuditPosition, files};
use coffer_crypto::{
    Error as CryptoError, JOURNAL_HEADER_LEN, JournalEnd, JournalKind, JournalLink, JournalReader,
    RootKey,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The event that tells of records that were gone when the log was opened.
pub(super) const RECORDS_MISSING: &str = "AuditRecordsMissing";

/// One record of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// The file it stands in.
    pub file: u64,
    /// As it was written: one line of JSON.
    pub line: String,
    /// The same, parsed.
    pub json: Value,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditProblem {
    /// The file.
    pub path: PathBuf,
    /// How many records of it were good.
    pub good_records: u64,
    /// What is wrong.
    pub what: String,
}

/// What a reading came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSummary {
    /// Number of the first file; more than 1 when older ones were removed.
    pub first_file: Option<u64>,
    /// Files that were read.
    pub files: u64,
    /// Good records, matching or not.
    pub records: u64,
    /// Records that the filter let pass.
    pub matching: u64,
    /// The last good record.
    pub last: Option<AuditPosition>,
    /// Whether the newest file ends inside a record: a crash, or it is being written.
    pub is_torn: bool,
    /// Everything that is wrong; empty for a log that verifies.
    pub problems: Vec<AuditProblem>,
}

/// Reads a log, also while a server writes it.
pub struct AuditReader {
    dir: PathBuf,
    kind: JournalKind,
    roots: Vec<RootKey>,
    expected: Option<AuditPosition>,
}

impl AuditReader {
    /// For the log in `dir`; `roots` are the keys its files may be under.
    #[must_use]
    pub fn new(dir: &Path, kind: JournalKind, roots: Vec<RootKey>) -> Self {
        Self { dir: dir.to_owned(), kind, roots, expected: None }
    }

    /// That the log once had this record: unless its file was removed among the oldest, it is a
    /// problem when it is not there. With it a log whose directory is gone can be read too: as one
    /// without records.
    #[must_use]
    pub fn expecting(mut self, position: Option<AuditPosition>) -> Self {
        self.expected = position;
        self
    }

    /// Reads and verifies the whole log, oldest record first, and shows the matching records.
    /// Problems do not stop it: what is good after them is read.
    ///
    /// # Errors
    /// When the directory cannot be listed or a file cannot be read, or no file opens under these
    /// root keys.
    pub fn read(
        &self,
        filter: &AuditFilter,
        show: &mut dyn FnMut(&AuditRecord),
    ) -> Result<AuditSummary, AuditError> {
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut numbers =
            if self.expected.is_some() && fs::metadata(&self.dir).as_ref().is_err_and(is_gone) {
                Vec::new()
            } else {
                files::numbers(&self.dir)?
            };
        let mut summary =
            AuditSummary { first_file: numbers.first().copied(), ..AuditSummary::default() };
        let mut pass = Pass {
            reader: self,
            filter,
            show,
            summary: &mut summary,
            before: None,
            has_expected: false,
        };
        let mut index = 0;
        while let Some(&number) = numbers.get(index) {
            let next = numbers.get(index.saturating_add(1)).copied();
            if pass.read_file(number, next)? {
                index = index.saturating_add(1);
            } else {
                // it was the newest when it was listed; now it has a successor and is complete
                numbers = files::numbers(&self.dir)?;
            }
        }
        let has_expected = pass.has_expected;
        self.check_expected(has_expected, &mut summary);
        Ok(summary)
    }

    fn check_expected(&self, has_expected: bool, summary: &mut AuditSummary) {
        let Some(expected) = self.expected.filter(|_| !has_expected) else { return };
        let was_removed = summary.first_file.is_some_and(|first| first > expected.file);
        let problem = self.problem(expected.file, 0, "records that were there are missing");
        // what is wrong with its file was said
        if was_removed || summary.problems.iter().any(|other| other.path == problem.path) {
            return;
        }
        let of_file = summary.last.filter(|last| last.file == expected.file);
        let good_records = of_file.map_or(0, |last| last.records);
        let what = format!(
            "records are missing, or others than were written: it had at least {}",
            expected.records
        );
        summary.problems.push(AuditProblem { good_records, what, ..problem });
    }

    fn problem(&self, number: u64, good_records: u64, what: impl ToString) -> AuditProblem {
        let path = files::path_of(&self.dir, number);
        AuditProblem { path, good_records, what: what.to_string() }
    }
}

/// What the next file and record must continue.
#[derive(Clone, Copy)]
struct Before {
    number: u64,
    /// `None` after a damaged file, whose end is not known.
    record_sha256: Option<[u8; 32]>,
}

struct Pass<'a> {
    reader: &'a AuditReader,
    filter: &'a AuditFilter,
    show: &'a mut dyn FnMut(&AuditRecord),
    summary: &'a mut AuditSummary,
    before: Option<Before>,
    /// Whether the record that is expected was met.
    has_expected: bool,
}

impl Pass<'_> {
    /// Reads one file; `false` when it must be read again because it is no longer the newest.
    fn read_file(&mut self, number: u64, next: Option<u64>) -> Result<bool, AuditError> {
        let reader = self.reader;
        let path = files::path_of(&reader.dir, number);
        let failed = |error: io::Error| AuditError::new("read audit file", &path, error);
        let bytes = fs::read(&path).map_err(failed)?;
        if next.is_none() && files::numbers(&reader.dir)?.last() != Some(&number) {
            return Ok(false);
        }
        self.summary.files = self.summary.files.saturating_add(1);
        if let Some(before) = self.before
            && before.number.checked_add(1) != Some(number)
        {
            let what = format!("the file before it is missing, last={}", before.number);
            self.summary.problems.push(reader.problem(number, 0, what));
            self.before = None;
        }
        let mut journal = match open_journal(&reader.roots, reader.kind, &bytes) {
            Ok(journal) if journal.number() == number => journal,
            Ok(_) => return Ok(self.damaged(number, 0, "it is another file of this log")),
            Err(error) => return Ok(self.damaged(number, 0, error)),
        };
        let bound = match next {
            Some(next) => bound_link(reader, next)?,
            None => Bound::Newest,
        };
        self.read_records(number, &mut journal, bound);
        Ok(true)
    }

    fn read_records(&mut self, number: u64, journal: &mut JournalReader<'_>, bound: Bound) {
        let mut sha256 = self.before.and_then(|before| before.record_sha256);
        let is_first = self.before.is_none() && self.summary.files == 1 && number == 1;
        if is_first {
            sha256 = Some([0; 32]);
        }
        let mut good = 0_u64;
        // what follows the record that the next file continues was never confirmed to anybody and
        // stands there again; it must be whole or torn all the same
        let mut is_at_bound = bound == Bound::Link(journal.link());
        loop {
            match journal.next_record() {
                Ok(Some(_)) if is_at_bound => {}
                Ok(Some(record)) => {
                    good = good.saturating_add(1);
                    if !self.take(number, good, &record, sha256) {
                        return;
                    }
                    let digest = Sha256::digest(&record).into();
                    let position = AuditPosition { file: number, records: good, sha256: digest };
                    self.has_expected |= self.reader.expected == Some(position);
                    self.summary.last = Some(position);
                    sha256 = Some(digest);
                }
                Ok(None) => break,
                Err(error) => {
                    let what = format!("record {}: {error}", good.saturating_add(1));
                    self.damaged(number, good, what);
                    return;
                }
            }
            is_at_bound |= bound == Bound::Link(journal.link());
        }
        is_at_bound |= bound == Bound::Link(journal.link());
        if matches!(bound, Bound::Link(_)) && !is_at_bound {
            let what = "records at its end are missing: the next file continues others";
            self.damaged(number, good, what);
            return;
        }
        let is_torn = matches!(journal.end(), Some(JournalEnd::Torn { .. }));
        self.summary.is_torn |= bound == Bound::Newest && is_torn;
        self.before = Some(Before { number, record_sha256: sha256 });
    }

    /// Checks the chain, shows the record if it matches; `false` when it is no record.
    fn take(&mut self, number: u64, good: u64, record: &[u8], before: Option<[u8; 32]>) -> bool {
        let line = std::str::from_utf8(record).ok();
        let parsed = line.and_then(|line| Some((line, serde_json::from_str(line).ok()?)));
        let Some((line, json)) = parsed else {
            self.damaged(number, good, "a record is no JSON");
            return false;
        };
        let json: Value = json;
        let named = json.get("previousRecordSha256").and_then(Value::as_str);
        if before.is_some_and(|before| named != Some(&hex::encode(before))) {
            let what = format!("record {good} does not continue the record before it");
            self.summary.problems.push(self.reader.problem(number, good, what));
        }
        if json.get("eventName").and_then(Value::as_str) == Some(RECORDS_MISSING) {
            let at = json.get("eventTime").and_then(Value::as_str).unwrap_or_default();
            let what = format!("records before it were missing when the log was opened at {at}");
            self.summary.problems.push(self.reader.problem(number, good, what));
        }
        self.summary.records = self.summary.records.saturating_add(1);
        if self.filter.matches(&json) {
            self.summary.matching = self.summary.matching.saturating_add(1);
            (self.show)(&AuditRecord { file: number, line: line.to_owned(), json });
        }
        true
    }

    fn damaged(&mut self, number: u64, good: u64, what: impl ToString) -> bool {
        self.summary.problems.push(self.reader.problem(number, good, what));
        self.before = Some(Before { number, record_sha256: None });
        true
    }
}

/// What the file after one says of its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// There is none.
    Newest,
    Link(JournalLink),
    /// Its header cannot be read.
    Unknown,
}

fn bound_link(reader: &AuditReader, next: u64) -> Result<Bound, AuditError> {
    let path = files::path_of(&reader.dir, next);
    let failed = |error: io::Error| AuditError::new("read audit file", &path, error);
    let mut header = Vec::with_capacity(JOURNAL_HEADER_LEN);
    let file = File::open(&path).map_err(failed)?;
    file.take(JOURNAL_HEADER_LEN as u64).read_to_end(&mut header).map_err(failed)?;
    Ok(match open_journal(&reader.roots, reader.kind, &header) {
        Ok(journal) => Bound::Link(journal.previous()),
        Err(_) => Bound::Unknown,
    })
}

fn open_journal<'a>(
    roots: &[RootKey],
    kind: JournalKind,
    bytes: &'a [u8],
) -> Result<JournalReader<'a>, CryptoError> {
    let mut last = CryptoError::WrongKey;
    for root in roots {
        match JournalReader::open(root, kind, bytes) {
            Ok(journal) => return Ok(journal),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where a log goes on.
pub(super) struct Tail {
    pub(super) next_number: u64,
    pub(super) link: JournalLink,
    /// SHA-256 of the last record; zeros when there is none.
    pub(super) record_sha256: [u8; 32],
    /// Where that record is.
    pub(super) position: Option<AuditPosition>,
}

/// Whether the log in `dir` has this record, or its oldest files were removed past it.
pub(super) fn has_record(
    dir: &Path,
    kind: JournalKind,
    roots: &[RootKey],
    position: &AuditPosition,
) -> Result<bool, AuditError> {
    let numbers = files::numbers(dir)?;
    if numbers.first().is_some_and(|first| *first > position.file) {
        return Ok(true);
    }
    if !numbers.contains(&position.file) {
        return Ok(false);
    }
    let path = files::path_of(dir, position.file);
    let failed =
        |error: &dyn ToString| AuditError::new("read audit file", &path, error.to_string());
    let bytes = fs::read(&path).map_err(|error| failed(&error))?;
    let mut journal = match open_journal(roots, kind, &bytes) {
        Ok(journal) => journal,
        Err(error @ CryptoError::WrongKey) => return Err(failed(&error)),
        Err(_) => return Ok(false),
    };
    let mut records = 0;
    while let Ok(Some(record)) = journal.next_record() {
        records += 1;
        if records == position.records {
            return Ok(<[u8; 32]>::from(Sha256::digest(&record)) == position.sha256);
        }
    }
    Ok(false)
}

/// The end of the log in `dir`. Damage is logged, and the log continues what is good.
pub(super) fn read_tail(
    dir: &Path,
    kind: JournalKind,
    roots: &[RootKey],
) -> Result<Tail, AuditError> {
    let numbers = files::numbers(dir)?;
    let mut tail = Tail::default();
    let Some(&newest) = numbers.last() else {
        return Ok(tail);
    };
    tail.next_number = newest.saturating_add(1);
    let mut bound = None;
    for &number in numbers.iter().rev() {
        let path = files::path_of(dir, number);
        let failed =
            |error: &dyn ToString| AuditError::new("open audit file", &path, error.to_string());
        let bytes = fs::read(&path).map_err(|error| failed(&error))?;
        let mut journal = match open_journal(roots, kind, &bytes) {
            Ok(journal) => journal,
            Err(error @ CryptoError::WrongKey) => return Err(failed(&error)),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "audit file is damaged");
                continue;
            }
        };
        let (mut last, mut records) = (None, 0_u64);
        while bound != Some(journal.link()) {
            match journal.next_record() {
                Ok(Some(record)) => {
                    last = Some(Sha256::digest(&record).into());
                    records = records.saturating_add(1);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "audit file is damaged");
                    break;
                }
            }
        }
        if number == newest {
            tail.link = journal.link();
        }
        if let Some(sha256) = last {
            // what a process that was killed left may be in memory only
            File::open(&path).and_then(|file| file.sync_data()).map_err(|error| failed(&error))?;
            tail.record_sha256 = sha256;
            tail.position = Some(AuditPosition { file: number, records, sha256 });
            break;
        }
        bound = Some(journal.previous());
    }
    Ok(tail)
}
