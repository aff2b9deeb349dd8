//! The reading end of a log: verifies every file, record and link, and names what is wrong.

use super::{AuditError, AuditFilter, files};
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
}

impl AuditReader {
    /// For the log in `dir`; `roots` are the keys its files may be under.
    #[must_use]
    pub fn new(dir: &Path, kind: JournalKind, roots: Vec<RootKey>) -> Self {
        Self { dir: dir.to_owned(), kind, roots }
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
        let mut numbers = files::numbers(&self.dir)?;
        let mut summary =
            AuditSummary { first_file: numbers.first().copied(), ..AuditSummary::default() };
        let mut pass = Pass { reader: self, filter, show, summary: &mut summary, before: None };
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
        Ok(summary)
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
                    sha256 = Some(Sha256::digest(&record).into());
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
        let mut last = None;
        while bound != Some(journal.link()) {
            match journal.next_record() {
                Ok(Some(record)) => last = Some(Sha256::digest(&record).into()),
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
            tail.record_sha256 = sha256;
            break;
        }
        bound = Some(journal.previous());
    }
    Ok(tail)
}
