//! Segments: immutable sorted files of rows, every part of them sealed.
//!
//! The format is drawn in `docs/ON-DISK-FORMAT.md` and implemented in `format.rs`.

mod entry;
mod reader;
mod writer;
mod statistics;

pub use entry::SegmentEntry;
pub use reader::{Caching, Segment, SegmentCursor};
pub use statistics::SegmentStatistics;
pub use writer::{SegmentOptions, SegmentWriter};
