//! One open table: its memtables and segments, published as a [`View`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use coffer_crypto::{KeyLease, KeyUnavailable, UnavailableReason};
use coffer_model::{EntryKey, EntryKind, Mutation, TableId, entry_key};
use parking_lot::Mutex;

use crate::Lsn;
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::memtable::{MemoryUse, Memtable};
use crate::segment::Segment;
use crate::view::View;

/// The open tables by id.
pub(crate) type TableMap = HashMap<TableId, Arc<TableStore>, BuildHasherDefault<IdHasher>>;

/// Table ids are random already: their first bytes are the hash.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// An open table. Locks, in order: `flushing`, `compacting`, the catalog's, `changing`.
pub(crate) struct TableStore {
    pub(crate) id: TableId,
    pub(crate) directory: PathBuf,
    lease: Arc<KeyLease>,
    /// Set under the log's lock; nothing is appended, flushed or compacted after it.
    closed: AtomicBool,
    view: ArcSwap<View>,
    memory: Arc<MemoryUse>,
    /// Guards changes of the view, and keeps a frame from being applied across a freeze.
    changing: Mutex<()>,
    /// One flush of the table at a time.
    pub(crate) flushing: Mutex<()>,
    /// One compaction of the table at a time.
    pub(crate) compacting: Mutex<()>,
    /// Stops a compaction under way when the table closes.
    pub(crate) cancelled: AtomicBool,
    /// When the last flush failed, in monotonic milliseconds; `i64::MIN` when it did not.
    flush_failed_at: AtomicI64,
}

impl TableStore {
    pub(crate) fn new(
        id: TableId,
        directory: PathBuf,
        lease: Arc<KeyLease>,
        segments: Vec<Arc<Segment>>,
        memory: &Arc<MemoryUse>,
    ) -> Self {
        let active = Arc::new(Memtable::new(Arc::clone(memory)));
        Self {
            id,
            directory,
            lease,
            closed: AtomicBool::new(false),
            view: ArcSwap::from_pointee(View { active, frozen: Vec::new(), segments }),
            memory: Arc::clone(memory),
            changing: Mutex::new(()),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
            cancelled: AtomicBool::new(false),
            flush_failed_at: AtomicI64::new(i64::MIN),
        }
    }

    /// Whether the key may be used now.
    pub(crate) fn check_lease(&self, key_now_millis: i64) -> Result<()> {
        if self.lease.is_valid(key_now_millis) {
            return Ok(());
        }
        let revoked = self.lease.is_revoked();
        let reason = if revoked { UnavailableReason::Revoked } else { UnavailableReason::Expired };
        Err(Error::KeyUnavailable(KeyUnavailable { table: self.id.0, reason }))
    }

    /// Whether a mutation may be appended; asked under the log's lock.
    pub(crate) fn check_writable(&self, key_now_millis: i64) -> Result<()> {
        if self.is_closed() {
            return Err(Error::TableNotOpen(self.id));
        }
        self.check_lease(key_now_millis)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.cancelled.store(true, Ordering::Release);
    }

    /// Notes how the last flush came out: when it failed, if it did.
    pub(crate) fn note_flush(&self, failed_at: Option<i64>) {
        self.flush_failed_at.store(failed_at.unwrap_or(i64::MIN), Ordering::Release);
    }

    /// Whether the last flush failed, and after that moment.
    pub(crate) fn flush_failed_after(&self, monotonic_millis: i64) -> bool {
        self.flush_failed_at.load(Ordering::Acquire) > monotonic_millis
    }

    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    pub(crate) fn view_owned(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Takes the mutations of one frame into the active memtable. Called by the log thread and by
    /// replay, and by nobody else.
    pub(crate) fn apply(&self, lsn: Lsn, records: &Bytes) -> Result<()> {
        let _changing = self.changing.lock();
        let view = self.view.load();
        let memtable = &view.active;
        memtable.adopt(records.len() as u64);
        let mut key = Vec::with_capacity(64);
        let mut rest = records.as_ref();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let malformed = coffer_model::Error::Malformed("log record");
            let (record, after) = after.split_at_checked(length).ok_or(malformed)?;
            let mutation = Mutation::decode(self.id, records.slice_ref(record))?;
            key.clear();
            entry_key::encode_partition_prefix(
                mutation.token(),
                mutation.partition_key(),
                &mut key,
            );
            let prefix = key.len();
            for entry in mutation.entries() {
                key.truncate(prefix);
                key.push(entry.kind.to_byte());
                key.extend_from_slice(entry.clustering);
                memtable.insert(entry.kind, &key, records.slice_ref(entry.row))?;
            }
            rest = after;
        }
        memtable.advance(lsn);
        Ok(())
    }

    /// Notes that a tail file was replayed whole.
    pub(crate) fn note_tail(&self, tail: [u8; 16]) {
        let _changing = self.changing.lock();
        self.view.load().active.note_tail(tail);
    }

    /// Puts an empty memtable in place of the active one, if that holds anything.
    pub(crate) fn freeze(&self) {
        let _changing = self.changing.lock();
        let old = self.view.load_full();
        if old.active.is_empty() {
            return;
        }
        let mut new = View::clone(&old);
        let fresh = Arc::new(Memtable::new(Arc::clone(&self.memory)));
        let frozen = std::mem::replace(&mut new.active, fresh);
        new.frozen.push(frozen);
        self.view.store(Arc::new(new));
    }

    /// Puts a segment in place of the oldest frozen memtable.
    pub(crate) fn replace_frozen(&self, memtable: &Arc<Memtable>, segment: Option<Arc<Segment>>) {
        self.change(|view| {
            view.frozen.retain(|frozen| !Arc::ptr_eq(frozen, memtable));
            view.segments.extend(segment);
        });
    }

    /// Puts a segment in place of those it was compacted from.
    pub(crate) fn replace_segments(&self, inputs: &[SegmentId], output: Option<Arc<Segment>>) {
        self.change(|view| {
            view.segments.retain(|segment| !inputs.contains(&segment.entry().id));
            view.segments.extend(output);
        });
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        let _changing = self.changing.lock();
        let mut new = View::clone(&self.view.load());
        change(&mut new);
        self.view.store(Arc::new(new));
    }

    pub(crate) fn memtable_bytes(&self) -> u64 {
        let view = self.view.load();
        view.active.bytes() + view.frozen.iter().map(|frozen| frozen.bytes()).sum::<u64>()
    }

    pub(crate) fn active_bytes(&self) -> u64 {
        self.view.load().active.bytes()
    }
}

/// The entry key of something in a partition.
pub(crate) fn encode_key(key: &EntryKey<'_>, out: &mut Vec<u8>) {
    out.clear();
    key.encode_into(out);
}

/// An entry key of a partition, to be filled in by [`encode_key`].
pub(crate) fn key_of<'a>(
    token: coffer_model::Token,
    partition_key: &'a [u8],
    kind: EntryKind,
    clustering: &'a [u8],
) -> EntryKey<'a> {
    EntryKey { token, partition_key, kind, clustering }
}
