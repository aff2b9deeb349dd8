//! One compaction: merges segments into one, purges what nothing needs any more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffer_crypto::DataKeySource;

use super::purge::{PurgeLimits, PurgedEntries};
use crate::error::{Error, Result};
use crate::merge::{Direction, EntrySource, Merge};
use crate::segment::{Caching, Segment, SegmentEntry, SegmentOptions, SegmentWriter};
use crate::vfs::Vfs;

/// Entries written from one look at the cancel flag to the next.
const CANCEL_CHECK_ENTRIES: u32 = 256;

/// A compaction to run.
#[derive(Debug)]
pub(crate) struct CompactionJob {
    /// The segments to merge.
    pub(crate) inputs: Vec<Arc<Segment>>,
    /// How the output is written.
    pub(crate) options: SegmentOptions,
    /// What may be purged.
    pub(crate) limits: PurgeLimits,
}

impl CompactionJob {
    /// Merges the inputs into one published segment, in bounded memory; `None` when nothing is left of them.
    /// The inputs stay as they are: the caller swaps the catalog's entries and unlinks them.
    ///
    /// # Errors
    /// `Cancelled` when `cancelled` became true; those of reading and writing. Nothing is published then.
    pub(crate) fn run(
        &self,
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        keys: &dyn DataKeySource,
        cancelled: &AtomicBool,
    ) -> Result<Option<SegmentEntry>> {
        let partitions_max = self
            .inputs
            .iter()
            .map(|input| input.statistics().partitions)
            .fold(0, u64::saturating_add);
        let mut writer =
            SegmentWriter::create(vfs, directory, &self.options, keys, partitions_max)?;
        let mut entries =
            PurgedEntries::new(Merge::new(self.sources()?, Direction::Forward), &self.limits);
        let mut until_check = 0_u32;
        while entries.advance()? {
            if until_check == 0 {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                until_check = CANCEL_CHECK_ENTRIES;
            }
            until_check -= 1;
            writer.add(entries.key(), entries.row())?;
        }
        writer.finish()
    }

    fn sources(&self) -> Result<Vec<Box<dyn EntrySource>>> {
        let mut sources: Vec<Box<dyn EntrySource>> = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            sources.push(Box::new(input.range(&[], None, Direction::Forward, Caching::Bypass)?));
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests;
