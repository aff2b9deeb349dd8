//! Counts of what the engine has done since it was opened.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;

/// Counts of what the engine's threads have done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: Counter,
    pub(crate) compactions: Counter,
    pub(crate) log_syncs: Counter,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The engine as a whole, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineFigures {
    /// Bytes of all memtables.
    pub memtable_bytes: u64,
    /// Bytes of opened blocks that are kept.
    pub block_cache_bytes: u64,
    /// Bytes of the commit log's files.
    pub log_bytes: u64,
    /// Memtables written to segments since the start.
    pub flushes: u64,
    /// Compactions since the start.
    pub compactions: u64,
    /// Syncs of the commit log since the start.
    pub log_syncs: u64,
}

impl Engine {
    /// The engine as a whole, at this moment.
    #[must_use]
    pub fn figures(&self) -> EngineFigures {
        let counters = &self.core.log.counters;
        EngineFigures {
            memtable_bytes: self.core.memory.bytes(),
            block_cache_bytes: self.core.cache.bytes(),
            log_bytes: self.core.log.file_bytes(),
            flushes: counters.flushes.get(),
            compactions: counters.compactions.get(),
            log_syncs: counters.log_syncs.get(),
        }
    }
}
