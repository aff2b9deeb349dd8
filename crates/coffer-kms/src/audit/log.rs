//! The writing end of a log: a queue, and one thread that seals, writes and syncs what is in it.

use super::{
    AuditError, AuditEvent, AuditPosition, FILE_LEN_MAX, ServiceEvent,
    event::Stamp,
    files,
    reader::{RECORDS_MISSING, Tail, has_record, read_tail},
};
use coffer_crypto::{JournalKind, JournalLink, JournalWriter, RootKey, clock::Clock};
use parking_lot::{Condvar, Mutex};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::Write,
    mem,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How long a record that changes nothing may wait for others before it is written.
const GATHER: Duration = Duration::from_millis(500);
/// From here on a record waits until it is on disk, whatever it says.
const QUEUE_LEN_MAX: usize = 16 << 10;
/// How long nothing is tried after a failure.
const RETRY_MILLIS: i64 = 1_000;

/// Where a log is and what its records say of the place.
pub struct AuditOptions {
    /// The directory of its files; made if missing.
    pub dir: PathBuf,
    /// [`JournalKind::KmsAudit`] or [`JournalKind::DatabaseAudit`].
    pub kind: JournalKind,
    /// Seals new files.
    pub root: RootKey,
    /// Root keys that older files may still be under.
    pub older_roots: Vec<RootKey>,
    /// Account of the records.
    pub account: String,
    /// Region of the records.
    pub region: String,
}

/// A log that records can be added to. Dropping it writes what is left and closes the file.
pub struct AuditLog {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// The last record that is on disk.
    position: Mutex<Option<AuditPosition>>,
}

#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    /// Why the last batch could not be written, until one could.
    broken: Option<AuditError>,
    is_closing: bool,
}

struct Item {
    work: Work,
    reply: Option<SyncSender<Result<(), AuditError>>>,
}

enum Work {
    Record { event: Box<AuditEvent>, wall_millis: i64 },
    Flush,
    Expect(AuditPosition),
    ReplaceRoot(RootKey),
}

impl AuditLog {
    /// Opens the log of a directory. Nothing is written before the first record.
    ///
    /// # Errors
    /// When the directory cannot be made or read, or its newest file is under another root key. A
    /// damaged file is logged and left to [`super::AuditReader`].
    pub fn open(options: AuditOptions, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        files::create_dir(&options.dir)?;
        let mut roots = vec![options.root];
        roots.extend(options.older_roots);
        let tail = read_tail(&options.dir, options.kind, &roots)?;
        let mut writer = Writer {
            dir: options.dir.clone(),
            kind: options.kind,
            roots,
            account: options.account,
            region: options.region,
            clock: clock.clone(),
            file: None,
            tail,
            lost: 0,
            retry_at_millis: i64::MIN,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            position: Mutex::new(writer.tail.position),
        });
        let of_thread = shared.clone();
        let thread = Builder::new()
            .name("coffer-audit".to_owned())
            .spawn(move || writer.run(&of_thread))
            .map_err(|error| AuditError::new("start audit thread", &options.dir, error))?;
        Ok(Self { shared, clock, thread: Some(thread) })
    }

    /// Adds a record. For an event that changes something it is on disk when this returns; others
    /// follow within a second.
    ///
    /// # Errors
    /// Only for events that change something, when the record could not be written: the call must
    /// fail. What is lost of other events is logged and counted in the log itself.
    pub fn record(&self, event: impl Into<AuditEvent>) -> Result<(), AuditError> {
        let event: Box<AuditEvent> = Box::new(event.into());
        let is_read_only = event.is_read_only();
        let work = Work::Record { event, wall_millis: self.clock.now_millis() };
        match self.push(work, !is_read_only) {
            Some(answer) if is_read_only => {
                // it waited because the queue was full, not for the answer
                answer.recv().ok();
                Ok(())
            }
            Some(answer) => wait(&answer),
            None => Ok(()),
        }
    }

    /// Whether the log could be written when it was tried last. Ask before changing anything: a
    /// change that cannot be recorded must not happen. A log that is broken is tried again here.
    ///
    /// # Errors
    /// Why it could not.
    pub fn check(&self) -> Result<(), AuditError> {
        if self.shared.queue.lock().broken.is_none() {
            return Ok(());
        }
        self.flush()
    }

    /// Waits until all records so far are on disk.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn flush(&self) -> Result<(), AuditError> {
        self.push(Work::Flush, true).map_or(Ok(()), |answer| wait(&answer))
    }

    /// The last record that is on disk; `None` for a log without records.
    #[must_use]
    pub fn position(&self) -> Option<AuditPosition> {
        *self.shared.position.lock()
    }

    /// Says that the log once had this record. When it has it no more, and its oldest files were not
    /// removed past it, the log goes on in a file after that one, with a record of what is missing.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub fn expect(&self, position: AuditPosition) -> Result<(), AuditError> {
        self.push(Work::Expect(position), true).map_or(Ok(()), |answer| wait(&answer))
    }

    /// Puts all files under `root`, which seals new files from now on. May be repeated after a
    /// failure or a crash; open the log with both keys then.
    ///
    /// # Errors
    /// When a file cannot be read or replaced.
    pub fn replace_root_key(&self, root: RootKey) -> Result<(), AuditError> {
        self.push(Work::ReplaceRoot(root), true).map_or(Ok(()), |answer| wait(&answer))
    }

    fn push(&self, work: Work, is_urgent: bool) -> Option<Receiver<Result<(), AuditError>>> {
        let mut queue = self.shared.queue.lock();
        let must_wait = is_urgent || queue.items.len() >= QUEUE_LEN_MAX;
        let (reply, answer) = match must_wait {
            true => {
                let (reply, answer) = sync_channel(1);
                (Some(reply), Some(answer))
            }
            false => (None, None),
        };
        if must_wait || queue.items.is_empty() {
            self.shared.wake.notify_one();
        }
        queue.items.push(Item { work, reply });
        answer
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.shared.queue.lock().is_closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the audit thread panicked");
        }
    }
}

fn wait(answer: &Receiver<Result<(), AuditError>>) -> Result<(), AuditError> {
    let gone = |_| Err(AuditError::new("write audit record", "".as_ref(), "the log is closed"));
    answer.recv().unwrap_or_else(gone)
}

/// What the thread owns.
struct Writer {
    dir: PathBuf,
    kind: JournalKind,
    /// The first seals new files.
    roots: Vec<RootKey>,
    account: String,
    region: String,
    clock: Arc<dyn Clock>,
    file: Option<OpenFile>,
    tail: Tail,
    /// Records that were dropped since the log could be written last.
    lost: u64,
    retry_at_millis: i64,
}

struct OpenFile {
    file: File,
    journal: JournalWriter,
    len: u64,
    records: u64,
}

struct Line<'a> {
    event: &'a AuditEvent,
    wall_millis: i64,
}

impl Writer {
    fn run(&mut self, shared: &Shared) {
        loop {
            let (items, is_closing) = next_batch(shared);
            if items.is_empty() && is_closing {
                self.close_file();
                return;
            }
            let result = self.write_items(&items);
            shared.queue.lock().broken = result.as_ref().err().cloned();
            *shared.position.lock() = self.tail.position;
            for item in items {
                let result = match item.work {
                    Work::ReplaceRoot(root) => self.replace_root(root),
                    Work::Expect(position) => {
                        let result = self.expect(&position);
                        *shared.position.lock() = self.tail.position;
                        result
                    }
                    _ => result.clone(),
                };
                if let Some(reply) = item.reply {
                    // whoever asked may have gone
                    reply.send(result).ok();
                }
            }
        }
    }

    fn write_items(&mut self, items: &[Item]) -> Result<(), AuditError> {
        let lines: Vec<Line<'_>> = items
            .iter()
            .filter_map(|item| match &item.work {
                Work::Record { event, wall_millis } => {
                    Some(Line { event, wall_millis: *wall_millis })
                }
                _ => None,
            })
            .collect();
        if self.clock.monotonic_millis() < self.retry_at_millis {
            self.lost = self.lost.saturating_add(lines.len() as u64);
            let reason = "the last write failed a moment ago";
            return Err(AuditError::new("write audit record", &self.dir, reason));
        }
        if lines.is_empty() && self.retry_at_millis == i64::MIN {
            return Ok(());
        }
        // a file that failed once is never touched again: the records go to a new one
        let result = self.write(&lines).or_else(|_| self.write(&lines));
        match &result {
            Ok(()) => self.retry_at_millis = i64::MIN,
            Err(error) => {
                self.lost = self.lost.saturating_add(lines.len() as u64);
                self.retry_at_millis = self.clock.monotonic_millis().saturating_add(RETRY_MILLIS);
                tracing::error!(%error, records = lines.len(), "audit records are lost");
            }
        }
        result
    }

    fn write(&mut self, lines: &[Line<'_>]) -> Result<(), AuditError> {
        let mut open = match self.file.take() {
            Some(open) => open,
            None => self.new_file()?,
        };
        let number = open.journal.number();
        let failed = |error: &dyn ToString| {
            let path = files::path_of(&self.dir, number);
            AuditError::new("write audit record", &path, error.to_string())
        };
        let gap = (self.lost > 0).then(|| self.gap_event());
        let now = self.clock.now_millis();
        let gap = gap.iter().map(|event| Line { event, wall_millis: now });
        let mut bytes = Vec::new();
        let mut previous = self.tail.record_sha256;
        let mut link = open.journal.link();
        let mut records = open.records;
        for line in gap.chain(lines.iter().map(|l| Line { event: l.event, ..*l })) {
            let json = self.json_of(&line, &previous);
            previous = Sha256::digest(&json).into();
            link = open.journal.append(&json, &mut bytes).map_err(|error| failed(&error))?;
            records = records.saturating_add(1);
        }
        let written = open.file.write_all(&bytes).and_then(|()| open.file.sync_data());
        written.map_err(|error| failed(&error))?;
        open.len = open.len.saturating_add(bytes.len() as u64);
        self.tail.link = link;
        self.tail.record_sha256 = previous;
        if records > open.records {
            self.tail.position = Some(AuditPosition { file: number, records, sha256: previous });
        }
        open.records = records;
        self.lost = 0;
        let is_full = open.len >= FILE_LEN_MAX;
        self.file = Some(open);
        if is_full {
            self.close_file();
        }
        Ok(())
    }

    fn json_of(&self, line: &Line<'_>, previous: &[u8; 32]) -> Vec<u8> {
        let seconds = line.wall_millis.div_euclid(1000);
        let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
        line.event.to_json(&Stamp {
            time: &time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default(),
            event_id: &uuid::Uuid::new_v4().to_string(),
            region: &self.region,
            account: &self.account,
            previous_sha256: &hex::encode(previous),
        })
    }

    fn gap_event(&self) -> AuditEvent {
        self.event_of_log("AuditRecordsLost", [("lostRecords", json!(self.lost))])
    }

    /// An event of the log itself.
    fn event_of_log<const N: usize>(
        &self,
        name: &str,
        details: [(&str, serde_json::Value); N],
    ) -> AuditEvent {
        let details = details.map(|(name, value)| (name.to_owned(), value));
        let details = Map::from_iter(details);
        ServiceEvent { name, account: &self.account, key_arn: "", details }.into()
    }

    fn expect(&mut self, position: &AuditPosition) -> Result<(), AuditError> {
        if has_record(&self.dir, self.kind, &self.roots, position)? {
            return Ok(());
        }
        let directory = self.dir.display();
        tracing::error!(%directory, %position, "records of the audit log are missing");
        // their numbers are not given to other files
        self.close_file();
        let after = position.file.saturating_add(1);
        self.tail.next_number = self.tail.next_number.max(after);
        let event = self.event_of_log(
            RECORDS_MISSING,
            [
                ("file", json!(position.file)),
                ("records", json!(position.records)),
                ("lastRecordSha256", json!(hex::encode(position.sha256))),
            ],
        );
        self.write(&[Line { event: &event, wall_millis: self.clock.now_millis() }])
    }

    fn new_file(&mut self) -> Result<OpenFile, AuditError> {
        let number = self.tail.next_number;
        let path = files::path_of(&self.dir, number);
        let failed =
            |error: &dyn ToString| AuditError::new("create audit file", &path, error.to_string());
        let root = self.roots.first().ok_or_else(|| failed(&"no root key"))?;
        let created = JournalWriter::create(root, self.kind, number, self.tail.link);
        let (journal, header) = created.map_err(|error| failed(&error))?;
        let file = files::create(&self.dir, number, &header).map_err(|error| failed(&error))?;
        self.tail.next_number = number.saturating_add(1);
        self.tail.link = journal.link();
        Ok(OpenFile { file, journal, len: header.len() as u64, records: 0 })
    }

    /// Ends the file with its last record. If that fails the file looks as after a crash.
    fn close_file(&mut self) {
        let Some(mut open) = self.file.take() else {
            return;
        };
        let mut bytes = Vec::new();
        let closed = match open.journal.close(&mut bytes) {
            Ok(link) => {
                open.file.write_all(&bytes).and_then(|()| open.file.sync_data()).map(|()| link)
            }
            Err(error) => Err(std::io::Error::other(error)),
        };
        match closed {
            Ok(link) => self.tail.link = link,
            Err(error) => tracing::warn!(%error, "close audit file"),
        }
    }

    fn replace_root(&mut self, root: RootKey) -> Result<(), AuditError> {
        self.close_file();
        for number in files::numbers(&self.dir)? {
            files::rewrap(&self.dir, number, self.kind, &self.roots, &root)?;
        }
        self.roots = vec![root];
        Ok(())
    }
}

/// Waits for work. Records that nobody waits for are gathered for a while.
fn next_batch(shared: &Shared) -> (Vec<Item>, bool) {
    let mut queue = shared.queue.lock();
    while queue.items.is_empty() && !queue.is_closing {
        shared.wake.wait(&mut queue);
    }
    let is_pressing =
        |queue: &Queue| queue.is_closing || queue.items.iter().any(|item| item.reply.is_some());
    while !is_pressing(&queue) {
        if shared.wake.wait_for(&mut queue, GATHER).timed_out() {
            break;
        }
    }
    (mem::take(&mut queue.items), queue.is_closing)
}

/// The end of an empty log.
impl Default for Tail {
    fn default() -> Self {
        Self { next_number: 1, link: JournalLink::NONE, record_sha256: [0; 32], position: None }
    }
}
