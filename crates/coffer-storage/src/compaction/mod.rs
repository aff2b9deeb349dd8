//! Compaction: a pure decision which segments to merge, and the job that merges them.

mod job;
mod purge;
mod size_tiered;

pub(crate) use job::CompactionJob;
pub(crate) use purge::PurgeLimits;
pub(crate) use size_tiered::{Candidate, CompactionOptions, SizeTiered};
