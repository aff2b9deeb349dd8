//! Segments: immutable sorted files of rows, every part of them sealed.
//!
//! A segment is written once by [`SegmentWriter`], published, and read by [`Segment`]. Entries are in the order of
//! their entry keys (`coffer_model::entry_key`). The format is implemented in `format.rs` and drawn in
//! `docs/ON-DISK-FORMAT.md`.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod block;
mod block_builder;
mod bloom_filter;
mod entry;
pub(crate) mod format;
mod index;
mod iter;
mod reader;
mod statistics;
mod writer;

pub(crate) use block::Block;
pub use entry::SegmentEntry;
pub(crate) use iter::Caching;
pub(crate) use reader::Segment;
pub(crate) use statistics::SegmentStatistics;
pub(crate) use writer::{SegmentOptions, SegmentWriter};

#[cfg(test)]
mod tests;
