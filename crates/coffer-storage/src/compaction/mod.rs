//! Compaction: a pure decision which segments to merge, and the job that merges them.

mod job;
mod size_tiered;

pub use job::{CompactionJob, PurgeLimits};
pub use size_tiered::{CompactionOptions, SizeTiered, Candidate};
