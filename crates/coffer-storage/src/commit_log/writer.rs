//! The write side of the log: appends gather in a frame, one thread writes, syncs and applies it.
//!
//! Appenders copy their mutations into the pending frame, grouped by table, under one short lock,
//! and get the frame's number. The log thread takes the frame, seals each group once, writes it with
//! one `pwrite` into a file that was filled with zeros beforehand, syncs it once, applies it to the
//! memtables, publishes the number and wakes whoever waits. While it does so the next frame gathers:
//! the sync in flight is the batching window, there is no timer.
//!
//! Two invariants hold: the order of frames in the log is the order of their numbers, and a frame is
//! applied only after it and all earlier ones are in the file (and synced, unless
//! [`Durability::Periodic`]). The place of a frame in its file is fixed when its first mutation is
//! appended, so the data key of (file, table) is made there, while the appender can still be refused.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use coffer_crypto::{Component, DataKeySource as _, Place, Sealer, TAG_LEN, WrappedDataKey};
use coffer_model::{Mutation, TableId};
use parking_lot::Mutex;

use super::record::{
    Directory, FRAME_HEADER_LEN, FRAME_OVERHEAD, FileHeader, FrameHeader, FrameKind,
    GROUP_ENTRY_LEN, GroupEntry, HEADER_LEN, KEY_ENTRY_LEN, PADDING, SECTOR,
};
use super::{CommitLog, LogContext};
use crate::Lsn;
use crate::error::{Error, Result};
use crate::memtable::MemoryUse;
use crate::options::Durability;
use crate::table_store::{TableMap, TableStore};
use crate::vfs::{UnpublishedFile, WritableFile};

/// Zeros are written in pieces of this size: larger ones make the page cache use large folios, in
/// which small writes are slower.
const FILL_BYTES: usize = 64 * 1024;

/// A log file that is being written.
pub(super) struct LogFile {
    pub(super) header: FileHeader,
    pub(super) path: PathBuf,
    io: Mutex<LogFileIo>,
}

struct LogFileIo {
    file: Box<dyn WritableFile>,
    sealer: Sealer,
}

impl LogFile {
    /// Prepares file `number`: header, zeros up to `length`, synced, published.
    pub(super) fn create(context: &LogContext, number: u64, length: u64) -> Result<Arc<Self>> {
        let path = context.file_path(number);
        let refused = |error| Error::sealed(&path, "log key", error);
        let header = FileHeader {
            cluster: context.cluster,
            number,
            file_id: coffer_crypto::random_array().map_err(refused)?,
            length,
            periodic: context.options.durability != Durability::Synced,
        };
        let (bytes, sealer) = header.create(context.root_keys.read().current()).map_err(refused)?;
        let mut file = UnpublishedFile::create(&context.vfs, &path)?;
        file.append(&bytes)?;
        let zeros = vec![0; FILL_BYTES];
        while file.length() < length {
            let left = usize::try_from(length - file.length()).unwrap_or(FILL_BYTES);
            file.append(zeros.get(..left).unwrap_or(&zeros))?;
        }
        let file = file.publish_open()?.ok_or_else(|| Error::Internal("log file".into()))?;
        let io = Mutex::new(LogFileIo { file, sealer });
        Ok(Arc::new(Self { header, path, io }))
    }

    fn sync(&self) -> Result<()> {
        self.io.lock().file.sync().map_err(|error| Error::io("sync log", &self.path, error))
    }
}

/// The data key of one table in the file being filled. Only the log thread seals with it.
struct TableLogKey {
    sealer: Mutex<Sealer>,
    wrapped: WrappedDataKey,
}

struct Group {
    table: TableId,
    store: Arc<TableStore>,
    key: Arc<TableLogKey>,
    bytes: Vec<u8>,
    mutations: u32,
}

/// A frame: gathering, or waiting for the log thread.
pub(super) struct Frame {
    kind: FrameKind,
    pub(super) lsn: Lsn,
    file: Arc<LogFile>,
    offset: u64,
    number: u64,
    keys: Vec<(TableId, WrappedDataKey)>,
    groups: Vec<Group>,
    /// Bytes in the file, without padding.
    size: usize,
}

impl Frame {
    fn new(kind: FrameKind, lsn: Lsn, file: Arc<LogFile>, offset: u64, number: u64) -> Self {
        Self {
            kind,
            lsn,
            file,
            offset,
            number,
            keys: Vec::new(),
            groups: Vec::new(),
            size: FRAME_OVERHEAD,
        }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn extent(&self) -> u64 {
        (self.size as u64).next_multiple_of(SECTOR as u64)
    }
}

struct FileKey {
    key: Arc<TableLogKey>,
    /// Whether a frame carries the wrapped key.
    introduced: bool,
}

/// What gathers for the log thread.
pub(super) struct Pending {
    frame: Frame,
    ready: VecDeque<Frame>,
    /// Keys of the file that `frame` goes into.
    keys: HashMap<TableId, FileKey>,
    /// The next file, filled with zeros.
    spare: Option<Arc<LogFile>>,
    /// An append was refused for want of a spare file.
    pub(super) starved: bool,
    pub(super) stopped: bool,
    refusing: bool,
    pub(super) sync_requested: bool,
}

impl Pending {
    /// Starts with an empty file and the next frame's number.
    pub(super) fn new(file: Arc<LogFile>, lsn: Lsn) -> Self {
        Self {
            frame: Frame::new(FrameKind::Data, lsn, file, HEADER_LEN as u64, 0),
            ready: VecDeque::new(),
            keys: HashMap::new(),
            spare: None,
            starved: false,
            stopped: false,
            refusing: false,
            sync_requested: false,
        }
    }

    /// The number of the last frame that holds something.
    pub(super) fn last_assigned(&self) -> Lsn {
        if self.frame.is_empty() { Lsn(self.frame.lsn.0 - 1) } else { self.frame.lsn }
    }

    pub(super) fn needs_spare(&self) -> Option<u64> {
        self.spare.is_none().then(|| self.frame.file.header.number + 1)
    }

    pub(super) fn install_spare(&mut self, file: Arc<LogFile>) {
        self.spare = Some(file);
        self.starved = false;
    }

    /// The next frame for the log thread.
    pub(super) fn take(&mut self) -> Option<Frame> {
        if let Some(frame) = self.ready.pop_front() {
            return Some(frame);
        }
        (!self.frame.is_empty()).then(|| self.close_frame())
    }

    /// Puts an empty frame in place of the gathered one.
    fn close_frame(&mut self) -> Frame {
        let next = Frame::new(
            FrameKind::Data,
            Lsn(self.frame.lsn.0 + 1),
            Arc::clone(&self.frame.file),
            self.frame.offset + self.frame.extent(),
            self.frame.number + 1,
        );
        std::mem::replace(&mut self.frame, next)
    }

    /// Ends the log: nothing is appended after this.
    pub(super) fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.end_file(FrameKind::Stopped);
        }
    }

    /// Puts the version of the catalog into the log; false when there is no room for it now. A frame that
    /// is gathering says it anyway.
    pub(super) fn witness(&mut self) -> bool {
        if self.stopped {
            return false;
        }
        self.sync_requested = true;
        if !self.frame.is_empty() {
            return true;
        }
        if self.make_room(SECTOR).is_err() {
            return false;
        }
        let next = Frame::new(
            FrameKind::Data,
            self.frame.lsn,
            Arc::clone(&self.frame.file),
            self.frame.offset + self.frame.extent(),
            self.frame.number + 1,
        );
        let mut witness = std::mem::replace(&mut self.frame, next);
        witness.kind = FrameKind::Witness;
        witness.lsn = Lsn(witness.lsn.0 - 1);
        self.ready.push_back(witness);
        true
    }

    /// Nothing is appended after this; the log goes on until [`Pending::stop`].
    pub(super) fn refuse(&mut self) {
        self.refusing = true;
    }

    fn end_file(&mut self, kind: FrameKind) {
        if !self.frame.is_empty() {
            let frame = self.close_frame();
            self.ready.push_back(frame);
        }
        let current = &self.frame;
        let last = Lsn(current.lsn.0 - 1);
        let end = Frame::new(kind, last, Arc::clone(&current.file), current.offset, current.number);
        self.ready.push_back(end);
    }

    /// Goes on to the spare file; false when there is none yet.
    pub(super) fn end_current_file(&mut self) -> bool {
        let Some(spare) = self.spare.take() else { return false };
        self.go_on_in(spare);
        true
    }

    /// Whether nothing is to be appended any more.
    pub(super) fn is_ending(&self) -> bool {
        self.stopped || self.refusing
    }

    /// Number of the file that frames go into.
    pub(super) fn file_number(&self) -> u64 {
        self.frame.file.header.number
    }

    fn go_on_in(&mut self, spare: Arc<LogFile>) {
        self.end_file(FrameKind::Continued);
        self.frame = Frame::new(FrameKind::Data, self.frame.lsn, spare, HEADER_LEN as u64, 0);
        self.keys.clear();
    }

    /// Makes sure that `bytes` more fit into the frame, going on to the spare file if they do not.
    fn make_room(&mut self, bytes: usize) -> Result<()> {
        let end = self.frame.offset + ((self.frame.size + bytes) as u64) + 2 * SECTOR as u64;
        if end <= self.frame.file.header.length {
            return Ok(());
        }
        let Some(spare) = self.spare.take() else {
            self.starved = true;
            return Err(Error::Overloaded("commit log files"));
        };
        self.go_on_in(spare);
        Ok(())
    }

    /// Makes the data key of (file, table) if there is none yet.
    fn ensure_key(&mut self, log: &CommitLog, table: TableId) -> Result<()> {
        if self.keys.contains_key(&table) {
            return Ok(());
        }
        let file = &self.frame.file;
        let identity = file.header.table_identity(table);
        let refused = |error| Error::sealed(&file.path, "data key", error);
        // the index has the key before this goes
        let newborn = log.context.keys.newborn();
        let (key, wrapped) = newborn.create_data_key(&identity).map_err(refused)?;
        let sealer = Mutex::new(Sealer::new(key, &identity).map_err(refused)?);
        log.index.lock().announce_key(file.header.number, table, &wrapped);
        let key = Arc::new(TableLogKey { sealer, wrapped });
        self.keys.insert(table, FileKey { key, introduced: false });
        Ok(())
    }

    /// Takes up one mutation; its key exists and it fits.
    fn push(
        &mut self,
        memory: &MemoryUse,
        store: &Arc<TableStore>,
        mutation: &Mutation,
    ) -> Result<()> {
        let table = mutation.table();
        let bytes = mutation.bytes();
        let length = u32::try_from(bytes.len()).map_err(|_| Error::Internal("mutation".into()))?;
        let position = match self.frame.groups.iter().position(|group| group.table == table) {
            Some(position) => position,
            None => self.start_group(store, table)?,
        };
        let Some(group) = self.frame.groups.get_mut(position) else { return Ok(()) };
        group.bytes.reserve(4 + bytes.len());
        group.bytes.extend_from_slice(&length.to_be_bytes());
        group.bytes.extend_from_slice(bytes);
        group.mutations += 1;
        self.frame.size += 4 + bytes.len();
        memory.add(4 + bytes.len() as u64);
        Ok(())
    }

    fn start_group(&mut self, store: &Arc<TableStore>, table: TableId) -> Result<usize> {
        let file_key =
            self.keys.get_mut(&table).ok_or_else(|| Error::Internal("log key".into()))?;
        if !file_key.introduced {
            file_key.introduced = true;
            self.frame.keys.push((table, file_key.key.wrapped.clone()));
            self.frame.size += KEY_ENTRY_LEN;
        }
        self.frame.groups.push(Group {
            table,
            store: Arc::clone(store),
            key: Arc::clone(&file_key.key),
            bytes: Vec::new(),
            mutations: 0,
        });
        self.frame.size += GROUP_ENTRY_LEN + TAG_LEN;
        Ok(self.frame.groups.len() - 1)
    }

    /// Gives the table's next mutation a fresh data key.
    pub(super) fn forget_key(&mut self, table: TableId) {
        if self.frame.groups.iter().any(|group| group.table == table) {
            let frame = self.close_frame();
            self.ready.push_back(frame);
        }
        self.keys.remove(&table);
    }
}

/// Upper bound of what a mutation adds to a frame besides its bytes.
const MUTATION_OVERHEAD_MAX: usize = 4 + GROUP_ENTRY_LEN + TAG_LEN + KEY_ENTRY_LEN;

/// Puts a batch into the pending frame, whole or not at all.
pub(super) fn append(
    pending: &mut Pending,
    log: &CommitLog,
    tables: &TableMap,
    mutations: &[Mutation],
) -> Result<Lsn> {
    let context = &log.context;
    if pending.stopped || pending.refusing {
        return Err(Error::ShutDown);
    }
    let mut bytes = 0;
    let now = context.clock.key_now_millis();
    for mutation in mutations {
        let table = mutation.table();
        tables.get(&table).ok_or(Error::TableNotOpen(table))?.check_writable(now)?;
        bytes += mutation.bytes().len() + MUTATION_OVERHEAD_MAX;
    }
    check_size(bytes, context)?;
    pending.make_room(bytes)?;
    for mutation in mutations {
        pending.ensure_key(log, mutation.table())?;
    }
    for mutation in mutations {
        if let Some(store) = tables.get(&mutation.table()) {
            pending.push(&context.memory, store, mutation)?;
        }
    }
    Ok(pending.last_assigned())
}

fn check_size(bytes: usize, context: &LogContext) -> Result<()> {
    let file = context.options.log_file_bytes.saturating_sub((HEADER_LEN + 4 * SECTOR) as u64);
    let limit = context.options.mutation_max_bytes.min(file);
    let bytes = bytes as u64;
    if bytes > limit { Err(Error::TooLarge { bytes, limit }) } else { Ok(()) }
}

/// The log thread's own state.
pub(super) struct LogThread {
    buffer: Vec<u8>,
    /// The file with frames that are written and not synced.
    unsynced: Option<Arc<LogFile>>,
    written: Lsn,
    /// Version of the catalog that the last written frame says.
    catalog_version: u64,
}

impl LogThread {
    pub(super) fn new(committed: Lsn) -> Self {
        Self { buffer: Vec::new(), unsynced: None, written: committed, catalog_version: 0 }
    }

    pub(super) fn has_unsynced(&self) -> bool {
        self.unsynced.is_some()
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self, log: &CommitLog) -> Result<()> {
        if let Some(file) = self.unsynced.take() {
            file.sync()?;
            log.counters.log_syncs.add_one();
            log.set_durable(self.written, self.catalog_version);
        }
        Ok(())
    }

    /// Writes a frame, syncs it, applies it, publishes it: in this order, always.
    pub(super) fn commit(&mut self, log: &CommitLog, mut frame: Frame) -> Result<()> {
        let header = self.write(log, &mut frame)?;
        self.unsynced = Some(Arc::clone(&frame.file));
        self.catalog_version = header.catalog_version;
        if frame.kind != FrameKind::Data {
            self.sync(log)?;
            if frame.kind != FrameKind::Witness {
                log.index.lock().close_file(frame.file.header.number);
            }
            return Ok(());
        }
        self.written = frame.lsn;
        if log.context.options.durability == Durability::Synced {
            self.sync(log)?;
        }
        for group in frame.groups {
            let mut bytes = group.bytes;
            if bytes.capacity() > bytes.len() + bytes.len() / 4 {
                bytes.shrink_to_fit();
            }
            group.store.apply(header.lsn, &Bytes::from(bytes))?;
            log.flush_if_large(group.store.active_bytes());
        }
        log.publish(header.lsn);
        Ok(())
    }

    fn write(&mut self, log: &CommitLog, frame: &mut Frame) -> Result<FrameHeader> {
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.resize(FRAME_HEADER_LEN, 0);
        let mut directory = Directory {
            keys: std::mem::take(&mut frame.keys),
            groups: Vec::with_capacity(frame.groups.len()),
        };
        let mut offsets = Vec::with_capacity(frame.groups.len());
        for group in &frame.groups {
            offsets.push(frame.offset + buffer.len() as u64);
            let sealed = seal_group(buffer, group, frame.lsn);
            let refused = |error| Error::sealed(&frame.file.path, "group", error);
            directory.groups.push(sealed.map_err(refused)?);
        }
        let mut io = frame.file.io.lock();
        let too_long = |_| Error::Internal("frame".into());
        let header = FrameHeader {
            kind: frame.kind,
            directory_len: u32::try_from(directory.encoded_len()).map_err(too_long)?,
            body_len: u32::try_from(buffer.len() - FRAME_HEADER_LEN).map_err(too_long)?,
            lsn: frame.lsn,
            number: frame.number,
            commit_millis: log.stamp_millis(),
            durable: log.durable(),
            catalog_version: log.catalog_version.load(Ordering::Acquire),
        };
        let refused = |error| Error::sealed(&frame.file.path, "frame", error);
        let head = header.seal(&mut io.sealer).map_err(refused)?;
        if let Some(front) = buffer.get_mut(..FRAME_HEADER_LEN) {
            front.copy_from_slice(&head);
        }
        let start = buffer.len();
        directory.encode_into(buffer);
        let clear = header.encode();
        io.sealer
            .seal_in_place(Component::Log, Place::Inner, &clear, buffer, start)
            .map_err(refused)?;
        buffer.resize(buffer.len().next_multiple_of(SECTOR), PADDING);
        let wrote = io.file.write_at(frame.offset, buffer);
        wrote.map_err(|error| Error::io("write log", &frame.file.path, error))?;
        drop(io);
        log.index.lock().record(&frame.file.header, &header, &directory, &offsets);
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        Ok(header)
    }
}

fn seal_group(buffer: &mut Vec<u8>, group: &Group, lsn: Lsn) -> coffer_crypto::Result<GroupEntry> {
    let start = buffer.len();
    buffer.extend_from_slice(&group.bytes);
    let extra = lsn.0.to_be_bytes();
    let block = group.key.sealer.lock().seal_in_place(
        Component::Log,
        Place::Inner,
        &extra,
        buffer,
        start,
    )?;
    let mut tag = [0; TAG_LEN];
    if let Some(sealed) = buffer.last_chunk::<TAG_LEN>() {
        tag = *sealed;
    }
    Ok(GroupEntry {
        table: group.table,
        block,
        mutations: group.mutations,
        length: u32::try_from(group.bytes.len()).map_err(|_| coffer_crypto::Error::SealLimit)?,
        tag,
    })
}
