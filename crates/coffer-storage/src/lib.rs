//! The LSM engine: commit log, memtable, segments, compaction, block cache.
