//! The engine's limits and choices, each with its default.

/// One mebibyte, in bytes.
const MIB: u64 = 1 << 20;

/// When an acknowledged write is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A write is acknowledged after `fdatasync`: it survives a power cut.
    Synced,
    /// A write is acknowledged once written to the file, and synced every so many milliseconds:
    /// the weaker one. The last interval's writes survive `kill -9` but not a power cut.
    Periodic {
        /// Longest time between two syncs.
        sync_interval_millis: u64,
    },
}

/// Limits and choices of an [`crate::Engine`]. Byte counts are bytes of memory or of disk as named.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Memory for all memtables, active and frozen; beyond it appends get `Overloaded`.
    pub memtable_total_bytes: u64,
    /// One table's memtable is flushed at this size.
    pub memtable_flush_bytes: u64,
    /// Memory for decrypted, decompressed blocks.
    pub block_cache_bytes: u64,
    /// Disk for the shared commit log; tables that hold it back are flushed before it is reached.
    pub log_total_bytes: u64,
    /// Disk for commit log that nothing needs but an archive, before it is archived.
    pub archive_lag_bytes: u64,
    /// Size of one commit log file.
    pub log_file_bytes: u64,
    /// Largest batch of mutations in one append.
    pub mutation_max_bytes: u64,
    /// Plaintext bytes of one segment block.
    pub block_bytes: u32,
    /// Whether blocks are compressed with LZ4 before sealing.
    pub compression: bool,
    /// Number of segments of similar size that are compacted into one.
    pub compaction_segments_min: usize,
    /// When an acknowledged write is on disk.
    pub durability: Durability,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memtable_total_bytes: 256 * MIB,
            memtable_flush_bytes: 64 * MIB,
            block_cache_bytes: 256 * MIB,
            log_total_bytes: 512 * MIB,
            archive_lag_bytes: 64 * MIB,
            log_file_bytes: 32 * MIB,
            mutation_max_bytes: 16 * MIB,
            block_bytes: 4096,
            compression: true,
            compaction_segments_min: 4,
            durability: Durability::Synced,
        }
    }
}
