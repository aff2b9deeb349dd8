//! Opened and decompressed blocks of all segments, bounded in bytes; the least recently used go first.

use coffer_model::TableId;

/// A sharded cache of blocks.
#[derive(Debug)]
pub struct BlockCache {
    capacity_bytes: u64,
}

impl BlockCache {
    /// A cache of at most `capacity_bytes` (0 keeps nothing).
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self { capacity_bytes }
    }

    /// Forgets every block of a table.
    pub fn evict_table(&self, table: TableId) {
        let _ = (table, self.capacity_bytes);
        todo!()
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }
}
