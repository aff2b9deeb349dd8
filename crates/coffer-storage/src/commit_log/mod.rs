//! The commit log: what is acknowledged is here first, for all tables, in files of fixed length.
//!
//! [`writer`] gathers, seals, writes and syncs; [`reader`] checks the structure of the files at the
//! start; [`replay`] knows where each table's records are, hands them to a table that opens, and
//! tells which files nobody needs any more; [`tail`] sets records aside for a table whose key is
//! away; [`record`] is the format.

pub(crate) mod inspect;
mod reader;
mod record;
mod replay;
mod tail;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use coffer_crypto::clock::Clock;
use coffer_model::{Mutation, TableId};
use parking_lot::{Condvar, Mutex};

pub(crate) use reader::{LogScan, check, scan};
pub(crate) use replay::{LogIndex, replay};
pub(crate) use tail::{read_tail, write_tail};
use writer::{LogFile, LogThread, Pending};

use crate::Lsn;
use crate::background::Signal;
use crate::catalog::SharedRootKeys;
use crate::error::{Error, Result};
use crate::figures::Counters;
use crate::ids::ClusterId;
use crate::key_use::KeyUse;
use crate::memtable::MemoryUse;
use crate::options::{Durability, EngineOptions};
use crate::table_store::TableMap;
use crate::vfs::Vfs;

/// Length of the file that a start makes before it serves; the ones after it have full length.
const FIRST_FILE_BYTES: u64 = 1 << 20;

/// Steps back of the clock up to this leave no mark in the times of frames.
const STEP_BACK_MILLIS_MAX: i64 = 10 * 60 * 1000;

/// What the log needs of the engine.
pub(crate) struct LogContext {
    pub(crate) directory: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) root_keys: SharedRootKeys,
    pub(crate) keys: Arc<KeyUse>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cluster: ClusterId,
    pub(crate) options: EngineOptions,
    pub(crate) memory: Arc<MemoryUse>,
}

impl LogContext {
    /// The file of that number.
    pub(crate) fn file_path(&self, number: u64) -> PathBuf {
        file_path(&self.directory, number)
    }
}

/// The name of log file `number` in the log's directory.
pub(crate) fn file_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.log"))
}

/// The running commit log. Locks, in order: `preparing`, `pending`, `index`; `waiters` and `progress` alone.
pub(crate) struct CommitLog {
    pub(crate) context: LogContext,
    pub(crate) counters: Counters,
    pending: Mutex<Pending>,
    work: Condvar,
    pub(crate) index: Mutex<LogIndex>,
    committed: AtomicU64,
    durable: AtomicU64,
    /// Version of the catalog that is published, and the one that the log durably says.
    catalog_version: AtomicU64,
    witnessed: AtomicU64,
    /// Disk that the files take.
    file_bytes: AtomicU64,
    /// The last time that was given.
    stamped_millis: AtomicI64,
    waiters: Mutex<Vec<(Lsn, Waker)>>,
    room_waiters: Mutex<Vec<Waker>>,
    progress: Mutex<()>,
    /// Held while the next file is made.
    preparing: Mutex<()>,
    progressed: Condvar,
    poison: OnceLock<String>,
    /// Asks for a spare file and for freeing files.
    housekeeping: Arc<Signal>,
    /// Asks for flushing.
    flushing: Arc<Signal>,
}

impl CommitLog {
    /// Starts a new file after what `scan` found. Nothing is written into older files.
    pub(crate) fn start(
        context: LogContext,
        scan: LogScan,
        housekeeping: Arc<Signal>,
        flushing: Arc<Signal>,
    ) -> Result<Self> {
        let length = context.options.log_file_bytes.min(FIRST_FILE_BYTES);
        let file = LogFile::create(&context, scan.next_number, length)?;
        let mut index = scan.index;
        index.open_file(&file.header, file.path.clone());
        let file_bytes = index.bytes();
        let stamped = index.last_commit_millis().unwrap_or_default();
        Ok(Self {
            pending: Mutex::new(Pending::new(file, Lsn(scan.last.0 + 1))),
            work: Condvar::new(),
            index: Mutex::new(index),
            committed: AtomicU64::new(scan.last.0),
            durable: AtomicU64::new(scan.last.0),
            catalog_version: AtomicU64::new(scan.catalog_version),
            witnessed: AtomicU64::new(scan.catalog_version),
            counters: Counters::default(),
            file_bytes: AtomicU64::new(file_bytes),
            stamped_millis: AtomicI64::new(stamped),
            waiters: Mutex::new(Vec::new()),
            room_waiters: Mutex::new(Vec::new()),
            progress: Mutex::new(()),
            preparing: Mutex::new(()),
            progressed: Condvar::new(),
            poison: OnceLock::new(),
            housekeeping,
            flushing,
            context,
        })
    }

    /// Hands a batch to the log thread, whole or not at all; returns the number of its frame.
    pub(crate) fn append(&self, tables: &TableMap, mutations: &[Mutation]) -> Result<Lsn> {
        self.check_poison()?;
        let mut pending = self.pending.lock();
        let appended = writer::append(&mut pending, self, tables, mutations);
        let needs_spare = pending.needs_spare().is_some();
        drop(pending);
        if needs_spare {
            self.housekeeping.notify();
        }
        if appended.is_ok() {
            self.work.notify_one();
        }
        appended
    }

    /// Runs `close` while nothing can be appended, and returns the number of the last frame before.
    pub(crate) fn fence(&self, table: TableId, close: impl FnOnce()) -> Lsn {
        let mut pending = self.pending.lock();
        close();
        pending.forget_key(table);
        pending.last_assigned()
    }

    /// The time of what is committed, taken or dropped now, milliseconds since 1970: never before one
    /// that was given, where the clock is set back by minutes. After a larger step back it was wrong
    /// before, and all would get one time until it has caught up.
    pub(crate) fn stamp_millis(&self) -> i64 {
        let now = self.context.clock.now_millis();
        let of = |last: i64| {
            let is_held = last > now && last.saturating_sub(now) <= STEP_BACK_MILLIS_MAX;
            if is_held { last } else { now }
        };
        let before =
            self.stamped_millis
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(of(last)));
        before.map_or(now, of)
    }

    /// The last frame to which something was appended.
    pub(crate) fn last_assigned(&self) -> Lsn {
        self.pending.lock().last_assigned()
    }

    pub(crate) fn committed(&self) -> Lsn {
        Lsn(self.committed.load(Ordering::Acquire))
    }

    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned(cause.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn wake_at(&self, lsn: Lsn, waker: &Waker) -> bool {
        let mut waiters = self.waiters.lock();
        if self.committed() >= lsn || self.poison.get().is_some() {
            return true;
        }
        let known = |(at, other): &(Lsn, Waker)| *at >= lsn && other.will_wake(waker);
        if !waiters.last().is_some_and(known) {
            waiters.push((lsn, waker.clone()));
        }
        false
    }

    /// Registers for [`CommitLog::wake_room`].
    pub(crate) fn wait_for_room(&self, waker: &Waker) {
        let mut waiters = self.room_waiters.lock();
        if !waiters.iter().any(|other| other.will_wake(waker)) {
            waiters.push(waker.clone());
        }
    }

    /// Whether an append was refused for want of a file, and still would be.
    pub(crate) fn is_starved(&self) -> bool {
        self.pending.lock().starved
    }

    /// Wakes everybody who waits for memory or log space.
    pub(crate) fn wake_room(&self) {
        let waiters = std::mem::take(&mut *self.room_waiters.lock());
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Blocks until the frame is visible.
    pub(crate) fn wait_committed(&self, lsn: Lsn) -> Result<()> {
        let mut progress = self.progress.lock();
        while self.committed() < lsn {
            self.check_poison()?;
            self.progressed.wait(&mut progress);
        }
        Ok(())
    }

    /// Blocks until the frame is synced; at once unless syncs are periodic.
    pub(crate) fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        if self.durable() >= lsn {
            return Ok(());
        }
        self.pending.lock().sync_requested = true;
        self.work.notify_one();
        let mut progress = self.progress.lock();
        while self.durable() < lsn {
            self.check_poison()?;
            self.progressed.wait(&mut progress);
        }
        Ok(())
    }

    /// Has the log say which version of the catalog is published, and blocks until it durably does, so
    /// that an older one is refused at the start. When the log is ending, or out of files, its next
    /// frame will say it.
    pub(crate) fn witness(&self, version: u64) {
        self.catalog_version.fetch_max(version, Ordering::AcqRel);
        let mut pending = self.pending.lock();
        let witnessed = pending.witness();
        let needs_spare = pending.needs_spare().is_some();
        drop(pending);
        if needs_spare {
            self.housekeeping.notify();
        }
        if !witnessed {
            return;
        }
        self.work.notify_one();
        let mut progress = self.progress.lock();
        while self.witnessed.load(Ordering::Acquire) < version && self.check_poison().is_ok() {
            self.progressed.wait(&mut progress);
        }
    }

    fn set_durable(&self, lsn: Lsn, catalog_version: u64) {
        self.durable.fetch_max(lsn.0, Ordering::AcqRel);
        self.witnessed.fetch_max(catalog_version, Ordering::AcqRel);
        drop(self.progress.lock());
        self.progressed.notify_all();
    }

    /// Asks for a flush when a memtable or all of them are large.
    fn flush_if_large(&self, active_bytes: u64) {
        let options = &self.context.options;
        if active_bytes >= options.memtable_flush_bytes
            || self.context.memory.bytes() > options.memtable_total_bytes / 2
        {
            self.flushing.notify();
        }
    }

    /// Makes frames up to `lsn` visible and wakes whoever waits for them, once each.
    fn publish(&self, lsn: Lsn) {
        self.committed.store(lsn.0, Ordering::Release);
        self.wake(lsn);
    }

    fn wake(&self, lsn: Lsn) {
        let mut due = Vec::new();
        let mut waiters = self.waiters.lock();
        if waiters.iter().all(|(at, _)| *at <= lsn) {
            std::mem::swap(&mut due, &mut waiters);
        } else {
            due.extend(waiters.extract_if(.., |(at, _)| *at <= lsn));
        }
        drop(waiters);
        due.into_iter().for_each(|(_, waker)| waker.wake());
        drop(self.progress.lock());
        self.progressed.notify_all();
    }

    /// Stops accepting writes for good: what could not be written is unknown territory.
    pub(crate) fn poison(&self, cause: &str) {
        if self.poison.set(cause.to_owned()).is_ok() {
            tracing::error!(cause, "the engine stops accepting writes until a restart");
        }
        self.wake(Lsn(u64::MAX));
        self.wake_room();
        self.housekeeping.notify();
    }

    /// The body of the log thread; ends when the log is stopped or poisoned.
    pub(crate) fn run(&self) {
        let mut thread = LogThread::new(self.committed());
        let mut last_sync = self.context.clock.monotonic_millis();
        loop {
            let mut pending = self.pending.lock();
            let frame = pending.take();
            if frame.is_none() && pending.stopped {
                drop(pending);
                break;
            }
            let requested = std::mem::take(&mut pending.sync_requested);
            let elapsed = self.context.clock.monotonic_millis().saturating_sub(last_sync);
            let due = self.sync_due(&thread, requested, elapsed);
            if frame.is_none() && due != Some(Duration::ZERO) {
                match due {
                    Some(wait) => drop(self.work.wait_for(&mut pending, wait)),
                    None => self.work.wait(&mut pending),
                }
                continue;
            }
            drop(pending);
            let committed = frame.map_or(Ok(()), |frame| thread.commit(self, frame));
            let synced = committed.and_then(|()| {
                if due == Some(Duration::ZERO) {
                    last_sync = self.context.clock.monotonic_millis();
                    return thread.sync(self);
                }
                Ok(())
            });
            if let Err(error) = synced {
                self.poison(&error.chain());
                return;
            }
        }
        if let Err(error) = thread.sync(self) {
            self.poison(&error.chain());
        }
    }

    /// How long until written frames must be synced; `None` when there are none (or they are
    /// synced one by one).
    fn sync_due(
        &self,
        thread: &LogThread,
        requested: bool,
        elapsed_millis: i64,
    ) -> Option<Duration> {
        let Durability::Periodic { sync_interval_millis } = self.context.options.durability else {
            return None;
        };
        if !thread.has_unsynced() {
            return None;
        }
        if requested {
            return Some(Duration::ZERO);
        }
        let elapsed = u64::try_from(elapsed_millis).unwrap_or(0);
        Some(Duration::from_millis(sync_interval_millis.saturating_sub(elapsed)))
    }

    /// Makes the next file ready if there is none.
    pub(crate) fn prepare_spare(&self) -> Result<()> {
        let _preparing = self.preparing.lock();
        let Some(number) = self.pending.lock().needs_spare() else { return Ok(()) };
        let file = LogFile::create(&self.context, number, self.context.options.log_file_bytes)?;
        let mut index = self.index.lock();
        index.open_file(&file.header, file.path.clone());
        self.file_bytes.store(index.bytes(), Ordering::Release);
        drop(index);
        let mut pending = self.pending.lock();
        let starved = pending.starved;
        pending.install_spare(file);
        drop(pending);
        if starved {
            self.wake_room();
        }
        Ok(())
    }

    /// Number of the file that is being written.
    pub(crate) fn file_number(&self) -> u64 {
        self.pending.lock().file_number()
    }

    /// Ends the file that is being written and goes on in the next one.
    pub(crate) fn end_current_file(&self) -> Result<()> {
        loop {
            self.check_poison()?;
            let last = {
                let mut pending = self.pending.lock();
                if pending.is_ending() {
                    return Err(Error::ShutDown);
                }
                pending.end_current_file().then(|| pending.last_assigned())
            };
            if let Some(last) = last {
                self.work.notify_one();
                self.housekeeping.notify();
                return self.wait_durable(last);
            }
            self.prepare_spare()?;
        }
    }

    /// Disk that the log's files take.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Acquire)
    }

    /// Forgets a file that is about to be unlinked.
    pub(crate) fn remove_file(&self, number: u64) {
        let mut index = self.index.lock();
        index.remove(number);
        self.file_bytes.store(index.bytes(), Ordering::Release);
    }

    /// Accepts nothing any more; returns when all that was accepted is durable.
    pub(crate) fn refuse(&self) -> Result<()> {
        let mut pending = self.pending.lock();
        pending.refuse();
        let last = pending.last_assigned();
        drop(pending);
        self.wait_durable(last)
    }

    /// Ends the log: what is pending is committed, an end is written, the log thread returns.
    pub(crate) fn stop(&self) {
        self.pending.lock().stop();
        self.work.notify_one();
    }
}
