//! What one read sees: the memtables and segments of a table at one moment.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{EntryKind, PartitionTombstones, Token};

use crate::error::Result;
use crate::memtable::Memtable;
use crate::merge::{Direction, EntrySource, merge_point, merge_tombstones};
use crate::segment::{Caching, Segment};
use crate::table_store::{encode_key, key_of};

thread_local! {
    /// Where point reads build their entry key, so that they do not allocate.
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An immutable set of sources. Newest first: active, frozen from the back, segments in any order.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    /// Oldest first.
    pub(crate) frozen: Vec<Arc<Memtable>>,
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// One entry of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    pub(crate) token: Token,
    pub(crate) partition_key: &'a [u8],
    pub(crate) kind: EntryKind,
    pub(crate) clustering: &'a [u8],
}

impl View {
    fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev())
    }

    /// The live row at a point.
    pub(crate) fn row(&self, point: &Point<'_>, now_seconds: u32) -> Result<Option<Bytes>> {
        KEY.with_borrow_mut(|key| {
            let mut versions = Versions::default();
            self.versions(point, key, &mut versions)?;
            let Some(first) = versions.first.take() else { return Ok(None) };
            let tombstones = self.raw_tombstones(point, key)?;
            let clustering = (point.kind == EntryKind::Row).then_some(point.clustering);
            if versions.more.is_empty() {
                return merge_point(
                    std::slice::from_ref(&first),
                    &tombstones,
                    clustering,
                    now_seconds,
                );
            }
            versions.more.push(first);
            merge_point(&versions.more, &tombstones, clustering, now_seconds)
        })
    }

    /// The tombstones of a partition.
    pub(crate) fn tombstones(
        &self,
        token: Token,
        partition_key: &[u8],
    ) -> Result<PartitionTombstones> {
        let point = Point { token, partition_key, kind: EntryKind::Tombstones, clustering: &[] };
        let found = KEY.with_borrow_mut(|key| self.raw_tombstones(&point, key))?;
        merge_tombstones(&found)
    }

    fn versions(&self, point: &Point<'_>, key: &mut Vec<u8>, found: &mut Versions) -> Result<()> {
        encode_key(&key_of(point.token, point.partition_key, point.kind, point.clustering), key);
        for memtable in self.memtables() {
            if point.kind != EntryKind::StaticRow || memtable.has_statics() {
                found.take(memtable.get(key));
            }
        }
        for segment in &self.segments {
            let statics =
                point.kind != EntryKind::StaticRow || segment.statistics().has_static_rows();
            if statics && segment.may_contain(point.token) {
                found.take(segment.get(key)?);
            }
        }
        Ok(())
    }

    fn raw_tombstones(&self, point: &Point<'_>, key: &mut Vec<u8>) -> Result<Vec<Bytes>> {
        let mut found = Vec::new();
        if !self.memtables().any(|memtable| memtable.has_tombstones())
            && !self.segments.iter().any(|segment| segment.statistics().has_partition_tombstones())
        {
            return Ok(found);
        }
        encode_key(&key_of(point.token, point.partition_key, EntryKind::Tombstones, &[]), key);
        found.extend(
            self.memtables()
                .filter(|memtable| memtable.has_tombstones())
                .filter_map(|m| m.get(key)),
        );
        for segment in &self.segments {
            if segment.statistics().has_partition_tombstones() && segment.may_contain(point.token) {
                found.extend(segment.get(key)?);
            }
        }
        Ok(found)
    }

    /// Cursors over `start <= key < end` (an empty end has no bound) of all sources. With a token
    /// the range is of one partition, and sources without it are left out.
    pub(crate) fn sources(
        &self,
        bounds: (&[u8], &[u8]),
        token: Option<Token>,
        direction: Direction,
        caching: Caching,
    ) -> Result<Vec<Box<dyn EntrySource>>> {
        let (start, end) = bounds;
        let mut sources: Vec<Box<dyn EntrySource>> = Vec::new();
        for memtable in self.memtables().filter(|memtable| memtable.entries() > 0) {
            let cursor = memtable.range(start, end, direction);
            if cursor.key().is_some() {
                sources.push(Box::new(cursor));
            }
        }
        for segment in &self.segments {
            if token.is_none_or(|token| segment.may_contain(token)) {
                let end = (!end.is_empty()).then_some(end);
                let cursor = segment.range(start, end, direction, caching)?;
                if cursor.key().is_some() {
                    sources.push(Box::new(cursor));
                }
            }
        }
        Ok(sources)
    }
}

/// Versions of one entry; the first needs no allocation.
#[derive(Default)]
struct Versions {
    first: Option<Bytes>,
    more: Vec<Bytes>,
}

impl Versions {
    fn take(&mut self, version: Option<Bytes>) {
        match (version, &self.first) {
            (None, _) => {}
            (version, None) => self.first = version,
            (Some(version), Some(_)) => self.more.push(version),
        }
    }
}
