//! The LSM engine: commit log, memtable, segments, compaction, block cache.
//!
//! A write goes to the commit log, is synced, applied to the memtable of its table and then seen by
//! reads. Memtables are flushed to immutable segments; compaction merges segments. Every file is
//! sealed; the engine gets data keys from a [`coffer_crypto::DataKeySource`] and never waits for a
//! KMS. Order of locks and the life of a write: `docs/ARCHITECTURE.md`; files: `docs/ON-DISK-FORMAT.md`.

#![deny(unsafe_code)]

mod background;
mod block_cache;
mod catalog;
mod commit_log;
mod compaction;
mod core;
mod engine;
mod error;
mod figures;
mod flush;
mod ids;
pub mod inspect;
mod key_use;
#[cfg(test)]
mod memory_keys;
mod memtable;
mod merge;
mod mmap;
mod options;
mod read;
mod segment;
mod table_store;
pub mod vfs;
mod view;

pub use catalog::{
    Age, Archive, ArchiveBase, ArchivedLog, Catalog, DroppedTable, KeyChange, LogRecord,
    RetiringGrant, SnapshotKind, SnapshotRecord, TableEntry, TailRecord, archive_directory,
};
pub use engine::{ArchiveStatistics, Engine, Erased, RestoreSource, SnapshotRequest, Told};
pub use error::{Error, Result};
pub use figures::EngineFigures;
pub use ids::{ClusterId, SegmentId, SnapshotId};
pub use merge::Advance;
pub use options::{Durability, EngineOptions};
pub use read::{
    PartitionCursor, PartitionRead, RowEntry, ScanCursor, ScanItem, ScanPosition, ScanRange,
    TableStatistics,
};
pub use segment::SegmentEntry;

/// Number of a commit log frame; rises by one with each, also across restarts. 0 is before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);
