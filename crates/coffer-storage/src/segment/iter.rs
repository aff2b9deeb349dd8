//! A cursor over a range of a segment, in either direction.

use std::sync::Arc;

use bytes::Bytes;

use super::block::BlockCursor;
use super::reader::Segment;
use crate::error::Result;
use crate::merge::{Direction, EntrySource};

/// Whether blocks that a cursor reads enter the block cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Blocks enter the cache.
    Fill,
    /// Blocks are taken from the cache where they are there, and do not enter it: for compaction and long scans.
    Bypass,
}

/// A cursor over a range of a segment. Holds one block of rows and one of the index.
#[derive(Debug)]
pub(crate) struct SegmentCursor {
    segment: Arc<Segment>,
    /// Where the walk ends: the first key past it forward, the last key in it reversed.
    bound: Option<Vec<u8>>,
    /// Whether all of the block of rows is known to lie before the bound.
    is_inside: bool,
    direction: Direction,
    caching: Caching,
    top: BlockCursor,
    index: Option<BlockCursor>,
    rows: Option<BlockCursor>,
}

impl SegmentCursor {
    pub(super) fn open(
        segment: Arc<Segment>,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
        caching: Caching,
    ) -> Result<Self> {
        let bound = match direction {
            Direction::Forward => end.map(<[u8]>::to_vec),
            Direction::Reversed => Some(start.to_vec()),
        };
        let top = BlockCursor::new(segment.top().clone());
        let mut cursor = Self {
            segment,
            bound,
            is_inside: false,
            direction,
            caching,
            top,
            index: None,
            rows: None,
        };
        match direction {
            Direction::Forward => cursor.seek_forward(start)?,
            Direction::Reversed => cursor.seek_reversed(end)?,
        }
        cursor.stop_at_bound();
        Ok(cursor)
    }

    fn seek_forward(&mut self, start: &[u8]) -> Result<()> {
        self.segment.decoded(self.top.seek(start))?;
        if self.load_index()? {
            let segment = Arc::clone(&self.segment);
            if let Some(index) = &mut self.index {
                segment.decoded(index.seek(start))?;
            }
            if self.load_rows()?
                && let Some(rows) = &mut self.rows
            {
                segment.decoded(rows.seek(start))?;
            }
        }
        // a separator may be above the last key of its block
        self.skip_forward()
    }

    fn seek_reversed(&mut self, end: Option<&[u8]>) -> Result<()> {
        let segment = Arc::clone(&self.segment);
        segment.decoded(seek_last_block(&mut self.top, end))?;
        if self.load_index()?
            && let Some(index) = &mut self.index
        {
            segment.decoded(seek_last_block(index, end))?;
        }
        if self.load_rows()?
            && let Some(rows) = &mut self.rows
        {
            segment.decoded(seek_last_before(rows, end))?;
        }
        self.skip_reversed()
    }

    /// Loads the index block under the top's place; false when that is nowhere.
    fn load_index(&mut self) -> Result<bool> {
        self.index = if self.top.is_valid() {
            Some(BlockCursor::new(self.segment.index_block(self.top.value())?))
        } else {
            None
        };
        Ok(self.index.is_some())
    }

    /// Loads the block of rows under the index's place; false when that is nowhere.
    fn load_rows(&mut self) -> Result<bool> {
        self.is_inside = false;
        self.rows = match &self.index {
            Some(index) if index.is_valid() => {
                // no key of a block is above its separator
                self.is_inside = self.direction == Direction::Forward
                    && self.bound.as_ref().is_none_or(|bound| index.key() < bound.as_slice());
                Some(BlockCursor::new(self.segment.data_block(index.value(), self.caching)?))
            }
            _ => None,
        };
        Ok(self.rows.is_some())
    }

    #[inline]
    fn stands_on_row(&self) -> bool {
        self.rows.as_ref().is_some_and(BlockCursor::is_valid)
    }

    /// Goes on to the first row of the next block until there is a row or the end.
    fn skip_forward(&mut self) -> Result<()> {
        let segment = Arc::clone(&self.segment);
        while !self.stands_on_row() {
            let Some(index) = &mut self.index else { return Ok(()) };
            segment.decoded(index.next())?;
            if !index.is_valid() {
                segment.decoded(self.top.next())?;
                if self.load_index()?
                    && let Some(index) = &mut self.index
                {
                    segment.decoded(index.first())?;
                }
            }
            if self.load_rows()?
                && let Some(rows) = &mut self.rows
            {
                segment.decoded(rows.first())?;
            }
        }
        Ok(())
    }

    /// Goes back to the last row of the block before until there is a row or the start.
    fn skip_reversed(&mut self) -> Result<()> {
        let segment = Arc::clone(&self.segment);
        while !self.stands_on_row() {
            let Some(index) = &mut self.index else { return Ok(()) };
            segment.decoded(index.prev())?;
            if !index.is_valid() {
                segment.decoded(self.top.prev())?;
                if self.load_index()?
                    && let Some(index) = &mut self.index
                {
                    segment.decoded(index.last())?;
                }
            }
            if self.load_rows()?
                && let Some(rows) = &mut self.rows
            {
                segment.decoded(rows.last())?;
            }
        }
        Ok(())
    }

    #[inline]
    fn stop_at_bound(&mut self) {
        if self.is_inside {
            return;
        }
        let (Some(rows), Some(bound)) = (&self.rows, &self.bound) else { return };
        let past = match self.direction {
            Direction::Forward => rows.key() >= bound.as_slice(),
            Direction::Reversed => rows.key() < bound.as_slice(),
        };
        if past {
            self.rows = None;
            self.index = None;
        }
    }
}

impl EntrySource for SegmentCursor {
    fn key(&self) -> Option<&[u8]> {
        self.rows.as_ref().filter(|rows| rows.is_valid()).map(BlockCursor::key)
    }

    fn row(&self) -> &[u8] {
        self.rows.as_ref().map(BlockCursor::value).unwrap_or_default()
    }

    fn shared_row(&self) -> Bytes {
        self.rows.as_ref().map(BlockCursor::shared_value).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<()> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        match self.direction {
            Direction::Forward => {
                self.segment.decoded(rows.next())?;
                if !self.stands_on_row() {
                    self.skip_forward()?;
                }
            }
            Direction::Reversed => {
                self.segment.decoded(rows.prev())?;
                if !self.stands_on_row() {
                    self.skip_reversed()?;
                }
            }
        }
        self.stop_at_bound();
        Ok(())
    }
}

/// In an index: the first separator at or above `end`, else the last one.
fn seek_last_block(
    cursor: &mut BlockCursor,
    end: Option<&[u8]>,
) -> std::result::Result<(), coffer_model::Error> {
    if let Some(end) = end {
        cursor.seek(end)?;
        if cursor.is_valid() {
            return Ok(());
        }
    }
    cursor.last()
}

/// In a block of rows: the last row below `end`; nowhere when there is none.
fn seek_last_before(
    cursor: &mut BlockCursor,
    end: Option<&[u8]>,
) -> std::result::Result<(), coffer_model::Error> {
    if let Some(end) = end {
        cursor.seek(end)?;
        if cursor.is_valid() {
            return cursor.prev();
        }
    }
    cursor.last()
}
