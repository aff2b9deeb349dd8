//! What compaction may drop.
//!
//! A tombstone goes when it is past its grace and nothing outside the compaction may be older than it: no other
//! segment that may hold the partition, and no memtable. What expired becomes a tombstone first. A deletion of a
//! partition or range removes what it covers at once, whatever its grace: that is inside the compaction.

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::reconcile;
use coffer_model::{EntryKind, PartitionTombstones, RowRef, WriteTimestamp, entry_key};

use crate::error::Result;
use crate::merge::{CurrentPartition, Merge};
use crate::segment::Segment;

/// What may be purged.
#[derive(Debug, Clone)]
pub(crate) struct PurgeLimits {
    /// Now, in seconds since the epoch: what expired before becomes a tombstone.
    pub(crate) now_secs: u32,
    /// Tombstones older than this go (now less `gc_grace_seconds`).
    pub(crate) gc_before_secs: u32,
    /// The table's other live segments: a tombstone stays while one of them may hold something it shadows.
    pub(crate) others: Vec<Arc<Segment>>,
    /// Smallest write timestamp in the table's memtables, active and frozen, taken before the job starts;
    /// `i64::MAX` when they are empty.
    pub(crate) memtable_min_timestamp: i64,
}

impl PurgeLimits {
    /// What may go in the partition that `key` belongs to.
    fn for_partition(&self, key: &[u8]) -> Result<reconcile::PurgeLimits> {
        let token = entry_key::EntryKey::decode(key)?.token;
        let oldest = self
            .others
            .iter()
            .filter(|segment| segment.may_contain(token))
            .map(|segment| segment.statistics().min_timestamp)
            .fold(self.memtable_min_timestamp, i64::min);
        Ok(reconcile::PurgeLimits {
            now_secs: self.now_secs,
            gc_before_secs: self.gc_before_secs,
            max_purgeable_timestamp: WriteTimestamp(oldest),
        })
    }
}

/// A merge without what is deleted and what nobody needs.
#[derive(Debug)]
pub(super) struct PurgedEntries<'a> {
    merge: Merge<'a>,
    limits: &'a PurgeLimits,
    current: CurrentPartition,
    /// Prefix of the partition that `partition_limits` is for.
    prefix: Vec<u8>,
    partition_limits: Option<reconcile::PurgeLimits>,
    /// What stays of the entry it stands on, when that is not all of it.
    rest: Option<Bytes>,
}

impl<'a> PurgedEntries<'a> {
    /// Takes a merge that walks forward over whole partitions.
    pub(super) fn new(merge: Merge<'a>, limits: &'a PurgeLimits) -> Self {
        Self {
            merge,
            limits,
            current: CurrentPartition::default(),
            prefix: Vec::new(),
            partition_limits: None,
            rest: None,
        }
    }

    /// The key of the entry that it stands on.
    pub(super) fn key(&self) -> &[u8] {
        self.merge.key()
    }

    /// Its row, or partition tombstones.
    pub(super) fn row(&self) -> &[u8] {
        self.rest.as_deref().unwrap_or_else(|| self.merge.row())
    }

    /// Goes to the next entry that stays; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool> {
        while self.merge.advance()? {
            if self.stays()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether something stays of the entry that the merge stands on.
    fn stays(&mut self) -> Result<bool> {
        let key = self.merge.key();
        let (prefix, suffix) = entry_key::split(key)?;
        if suffix.first() == Some(&EntryKind::Tombstones.to_byte()) {
            let mut tombstones = PartitionTombstones::decode(self.merge.row())?;
            self.current.enter(Bytes::copy_from_slice(prefix), tombstones.clone());
            let limits = self.limits()?;
            tombstones.purge(limits.gc_before_secs, limits.max_purgeable_timestamp);
            self.rest = (!tombstones.is_empty()).then(|| tombstones.encode().into());
            return Ok(self.rest.is_some());
        }
        self.rest = None;
        if self.current.hides_nothing() && reconcile::is_plain(self.merge.row())? {
            return Ok(true);
        }
        let Some(row) = self.current.shadow(key, self.merge.shared_row())? else {
            return Ok(false);
        };
        let limits = self.limits()?;
        self.rest = reconcile::purge(&RowRef::parse(&row)?, &limits);
        Ok(self.rest.is_some())
    }

    /// The limits of the current partition, asked for once.
    fn limits(&mut self) -> Result<reconcile::PurgeLimits> {
        let key = self.merge.key();
        let (prefix, _) = entry_key::split(key)?;
        if let Some(limits) = self.partition_limits
            && self.prefix.as_slice() == prefix
        {
            return Ok(limits);
        }
        let limits = self.limits.for_partition(key)?;
        self.partition_limits = Some(limits);
        self.prefix.clear();
        self.prefix.extend_from_slice(prefix);
        Ok(limits)
    }
}
