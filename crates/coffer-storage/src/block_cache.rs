//! Opened and decompressed blocks of all segments, bounded in bytes; the least recently used go first.
//!
//! Sharded by block, each shard under its own lock, which is held for one look-up or one insertion and never over
//! reading a file. A segment that was closed (its table's key is gone, or nobody needs it) puts nothing in any more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coffer_model::TableId;
use lru::LruCache;
use parking_lot::Mutex;

use crate::mmap::MapBudget;
use crate::segment::Block;

/// Number of shards; a power of two.
const SHARDS: usize = 16;
/// What an entry costs besides its block's bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// Most bytes of mapped files that reads keep resident, about.
const MAPPED_BYTES_MAX: u64 = 16 << 20;

/// A block: the number its segment was given when it was opened, and where the block starts in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BlockKey {
    segment: u64,
    offset: u64,
}

#[derive(Debug)]
struct Shard {
    blocks: LruCache<BlockKey, (TableId, Block)>,
    bytes: u64,
}

/// An open segment as the cache knows it.
#[derive(Debug)]
pub(crate) struct CacheOwner {
    number: u64,
    table: TableId,
    closed: AtomicBool,
}

/// A sharded cache of blocks.
#[derive(Debug)]
pub(crate) struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    shard_capacity_bytes: u64,
    next_owner: AtomicU64,
    maps: MapBudget,
}

impl BlockCache {
    /// A cache of at most `capacity_bytes` (0 keeps nothing).
    #[must_use]
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        let shard = || Mutex::new(Shard { blocks: LruCache::unbounded(), bytes: 0 });
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            shard_capacity_bytes: capacity_bytes / SHARDS as u64,
            next_owner: AtomicU64::new(0),
            maps: MapBudget::new(MAPPED_BYTES_MAX),
        }
    }

    /// Gives a newly opened segment its number. Numbers are not used again, so no block outlives its segment's
    /// opening.
    pub(crate) fn register(&self, table: TableId) -> CacheOwner {
        let number = self.next_owner.fetch_add(1, Ordering::Relaxed);
        CacheOwner { number, table, closed: AtomicBool::new(false) }
    }

    /// Bounds what the maps of the open segments keep resident.
    pub(crate) fn maps(&self) -> &MapBudget {
        &self.maps
    }

    fn shard(&self, key: BlockKey) -> Option<&Mutex<Shard>> {
        let hash = (key.offset ^ key.segment.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.shards.get((hash >> 60) as usize)
    }

    /// The block of a segment that starts at `offset`.
    #[inline]
    pub(crate) fn get(&self, owner: &CacheOwner, offset: u64) -> Option<Block> {
        let key = BlockKey { segment: owner.number, offset };
        self.shard(key)?.lock().blocks.get(&key).map(|(_, block)| block.clone())
    }

    /// Keeps a block, unless its segment was closed meanwhile or it alone is larger than a shard.
    pub(crate) fn insert(&self, owner: &CacheOwner, offset: u64, block: &Block) {
        let key = BlockKey { segment: owner.number, offset };
        let cost = cost_of(block);
        let Some(shard) = self.shard(key).filter(|_| cost <= self.shard_capacity_bytes) else {
            return;
        };
        let mut shard = shard.lock();
        // under the lock that `evict` takes after it set the flag
        if owner.closed.load(Ordering::SeqCst) {
            return;
        }
        if let Some((_, (_, replaced))) = shard.blocks.push(key, (owner.table, block.clone())) {
            shard.bytes = shard.bytes.saturating_sub(cost_of(&replaced));
        }
        shard.bytes = shard.bytes.saturating_add(cost);
        while shard.bytes > self.shard_capacity_bytes
            && let Some((_, (_, oldest))) = shard.blocks.pop_lru()
        {
            shard.bytes = shard.bytes.saturating_sub(cost_of(&oldest));
        }
    }

    /// Takes no more blocks of a segment and forgets those that are there.
    pub(crate) fn close(&self, owner: &CacheOwner) {
        owner.closed.store(true, Ordering::SeqCst);
        self.evict(|key, _| key.segment == owner.number);
    }

    /// Forgets every block of a table. Its segments must be closed for none to come back.
    pub(crate) fn evict_table(&self, table: TableId) {
        self.evict(|_, owner| owner == table);
    }

    fn evict(&self, chosen: impl Fn(&BlockKey, TableId) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let keys: Vec<BlockKey> = shard
                .blocks
                .iter()
                .filter(|(key, (table, _))| chosen(key, *table))
                .map(|(key, _)| *key)
                .collect();
            for key in keys {
                if let Some((_, block)) = shard.blocks.pop(&key) {
                    shard.bytes = shard.bytes.saturating_sub(cost_of(&block));
                }
            }
        }
    }

    /// Bytes held now.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }
}

fn cost_of(block: &Block) -> u64 {
    (block.length() as u64).saturating_add(ENTRY_OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId([1; 16]);
    const OTHER: TableId = TableId([2; 16]);

    #[test]
    fn the_cache_stays_within_its_bytes_and_drops_the_least_recently_used() {
        let cache = BlockCache::new(SHARDS as u64 * 16 * 1200);
        let owner = cache.register(TABLE);
        for offset in 0..10_000 {
            cache.insert(&owner, offset, &Block::of_length(1000));
            assert!(cache.get(&owner, offset).is_some());
            cache.get(&owner, 0);
        }
        assert!(cache.bytes() <= SHARDS as u64 * 16 * 1200);
        assert!(cache.bytes() > SHARDS as u64 * 15 * 1000);
        assert!(cache.get(&owner, 0).is_some(), "used all the time");
        assert!(cache.get(&owner, 1).is_none(), "used once, long ago");
    }

    #[test]
    fn a_block_that_is_inserted_again_is_counted_once() {
        let cache = BlockCache::new(1 << 20);
        let owner = cache.register(TABLE);
        cache.insert(&owner, 7, &Block::of_length(1000));
        let once = cache.bytes();
        cache.insert(&owner, 7, &Block::of_length(1000));
        assert_eq!(cache.bytes(), once);
    }

    #[test]
    fn evicting_a_table_leaves_the_others() {
        let cache = BlockCache::new(1 << 20);
        let (owner, other) = (cache.register(TABLE), cache.register(OTHER));
        cache.insert(&owner, 1, &Block::of_length(10));
        cache.insert(&other, 1, &Block::of_length(10));
        cache.evict_table(TABLE);
        assert!(cache.get(&owner, 1).is_none());
        assert!(cache.get(&other, 1).is_some());
    }

    #[test]
    fn a_closed_segment_puts_nothing_in() {
        let cache = BlockCache::new(1 << 20);
        let owner = cache.register(TABLE);
        cache.insert(&owner, 1, &Block::of_length(10));
        cache.close(&owner);
        cache.insert(&owner, 2, &Block::of_length(10));
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_cache_of_no_bytes_keeps_nothing() {
        let cache = BlockCache::new(0);
        let owner = cache.register(TABLE);
        cache.insert(&owner, 1, &Block::of_length(10));
        assert_eq!(cache.bytes(), 0);
    }
}
