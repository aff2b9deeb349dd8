//! Compaction: a pure decision which segments to merge, and the job that merges them.

mod job;
mod purge;
mod size_tiered;

pub use job::CompactionJob;
pub use purge::PurgeLimits;
pub use size_tiered::{Candidate, CompactionOptions, SizeTiered};
