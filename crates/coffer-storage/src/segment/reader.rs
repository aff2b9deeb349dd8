//! Reads a segment: bloom filter, index, blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use coffer_crypto::{
    Component, DataKeySource, FORMAT_VERSION, FileIdentity, Opener, Place, TAG_LEN,
};
use coffer_model::{TableId, Token};

use super::block::{Block, BlockCursor};
use super::bloom_filter::BloomFilter;
use super::format::{
    BLOCK_BYTES_MAX, CODEC_LZ4, CODEC_RAW, Extent, FILTER_PIECE_BYTES, Footer, HEADER_LEN, Handle,
    Header,
};
use super::iter::{Caching, SegmentCursor};
use super::{SegmentEntry, SegmentStatistics};
use crate::block_cache::{BlockCache, CacheOwner};
use crate::error::{Error, Result};
use crate::merge::Direction;
use crate::mmap::FileMap;
use crate::vfs::Vfs;

/// An open segment. Its blocks leave the cache when it is dropped.
pub(crate) struct Segment {
    file: SegmentFile,
    entry: SegmentEntry,
    footer: Footer,
    statistics: SegmentStatistics,
    filter: Option<BloomFilter>,
    top: Block,
    owner: CacheOwner,
}

/// The mapped file and the cipher of its data key.
struct SegmentFile {
    path: PathBuf,
    map: Arc<FileMap>,
    cache: Arc<BlockCache>,
    opener: Opener,
}

impl Segment {
    /// Opens the segment that the catalog describes, as one of `table` (which it may not have been born for): checks
    /// length and identity, unwraps its data key, loads statistics, filter and top of the index.
    ///
    /// # Errors
    /// `Io`, `KeyUnavailable`, `WrongKey`, `Tampered`, `CorruptFile`.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        directory: &Path,
        table: TableId,
        entry: &SegmentEntry,
        keys: &dyn DataKeySource,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Self>> {
        Self::open_file(vfs, &entry.path(directory), table, entry, keys, cache)
    }

    /// As [`Segment::open`], whatever the file is called.
    pub(crate) fn open_file(
        vfs: &dyn Vfs,
        path: &Path,
        table: TableId,
        entry: &SegmentEntry,
        keys: &dyn DataKeySource,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<Self>> {
        let map = vfs.map(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::tampered(path, "file is missing"),
            _ => Error::io("map segment", path, error),
        })?;
        let opener = unlock(path, &map, table, entry, keys)?;
        let map = Arc::new(map);
        cache.maps().register(&map);
        let file = SegmentFile { path: path.to_path_buf(), map, cache: Arc::clone(cache), opener };
        let footer = file.footer()?;
        let statistics = file.open_extent(Component::Statistics, &footer.statistics, 0)?;
        let statistics = SegmentStatistics::decode(&statistics)
            .map_err(|_| Error::corrupt(&file.path, "statistics of a segment"))?;
        let filter = file.filter(&footer.filter)?;
        let top_number = footer.top.blocks.saturating_sub(1);
        let top = file.open_extent(Component::Index, &footer.top, top_number)?;
        let top = file.decode_block(top)?;
        Ok(Arc::new(Self {
            file,
            entry: entry.clone(),
            footer,
            statistics,
            filter,
            top,
            owner: cache.register(table),
        }))
    }

    /// The catalog's line.
    #[must_use]
    pub(crate) fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    /// Counts and bounds.
    #[must_use]
    pub(crate) fn statistics(&self) -> &SegmentStatistics {
        &self.statistics
    }

    /// Takes no more blocks into the cache and drops those that are there, as when the table's key is revoked.
    /// Reads that are under way end as they began.
    pub(crate) fn close(&self) {
        self.file.cache.close(&self.owner);
    }

    /// False only when no partition with this token is in the segment.
    #[must_use]
    #[inline]
    pub(crate) fn may_contain(&self, token: Token) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_contain(token))
    }

    /// The row under exactly this entry key. Does not ask the bloom filter: see [`Segment::may_contain`].
    ///
    /// # Errors
    /// `Tampered`, `CorruptFile`.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let Some((handle, _)) = self.decoded(self.top.lower_bound(key))? else { return Ok(None) };
        let index = self.index_block(&handle)?;
        let Some((handle, _)) = self.decoded(index.lower_bound(key))? else { return Ok(None) };
        let block = self.data_block(&handle, Caching::Fill)?;
        let found = self.decoded(block.lower_bound(key))?;
        Ok(found.and_then(|(row, exact)| exact.then_some(row)))
    }

    /// A cursor over the entries with `start <= key < end`; `end` `None` for all that follow.
    ///
    /// Compaction and whole-table scans pass [`Caching::Bypass`] so that they do not drive out what point reads use.
    ///
    /// # Errors
    /// `Tampered`, `CorruptFile`.
    pub(crate) fn range(
        self: &Arc<Self>,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
        caching: Caching,
    ) -> Result<SegmentCursor> {
        SegmentCursor::open(Arc::clone(self), start, end, direction, caching)
    }

    /// Opens every unit and checks that they fill the file without a gap, so that any changed byte is found.
    /// Returns the number of units.
    ///
    /// # Errors
    /// `Tampered`, `CorruptFile`.
    pub(crate) fn verify(&self) -> Result<u64> {
        let footer = &self.footer;
        let mut at = footer.body.offset;
        let (mut data, mut index) = (0_u64, 0_u64);
        let mut top = BlockCursor::new(self.top.clone());
        self.decoded(top.first())?;
        while top.is_valid() {
            let handle = self.decoded(Handle::decode(top.value()))?;
            let mut listed = BlockCursor::new(self.read_index_block(&handle)?);
            self.decoded(listed.first())?;
            while listed.is_valid() {
                let rows = self.decoded(Handle::decode(listed.value()))?;
                at = self.follow(at, &rows, data)?;
                self.read_data_block(&rows)?;
                data = data.saturating_add(1);
                self.decoded(listed.next())?;
            }
            at = self.follow(at, &handle, index)?;
            index = index.saturating_add(1);
            self.decoded(top.next())?;
        }
        let counted = data == footer.body.blocks && index.saturating_add(1) == footer.top.blocks;
        if Some(at) != footer.body.end() || !counted {
            return Err(self.gap(at));
        }
        Ok(data
            .saturating_add(footer.top.blocks)
            .saturating_add(footer.filter.blocks)
            .saturating_add(2))
    }

    /// Where the unit ends, which must start at `at` and have the number `block`.
    fn follow(&self, at: u64, handle: &Handle, block: u64) -> Result<u64> {
        if handle.offset != at || handle.block != block {
            return Err(self.gap(at));
        }
        Ok(at.saturating_add(u64::from(handle.length)))
    }

    fn gap(&self, at: u64) -> Error {
        Error::corrupt(&self.file.path, format!("units without a gap, offset={at}"))
    }

    pub(super) fn top(&self) -> &Block {
        &self.top
    }

    /// Names the file in the error of a block that does not decode.
    #[inline]
    pub(super) fn decoded<T>(
        &self,
        result: std::result::Result<T, coffer_model::Error>,
    ) -> Result<T> {
        result.map_err(|_| Error::corrupt(&self.file.path, "entries of a block"))
    }

    /// An index block. Always through the cache: even a scan comes back to it.
    pub(super) fn index_block(&self, handle: &[u8]) -> Result<Block> {
        let handle = self.decoded(Handle::decode(handle))?;
        if let Some(block) = self.file.cache.get(&self.owner, handle.offset) {
            return Ok(block);
        }
        let block = self.read_index_block(&handle)?;
        self.file.cache.insert(&self.owner, handle.offset, &block);
        Ok(block)
    }

    /// A block of rows.
    pub(super) fn data_block(&self, handle: &[u8], caching: Caching) -> Result<Block> {
        let handle = self.decoded(Handle::decode(handle))?;
        if let Some(block) = self.file.cache.get(&self.owner, handle.offset) {
            return Ok(block);
        }
        let block = self.read_data_block(&handle)?;
        if caching == Caching::Fill {
            self.file.cache.insert(&self.owner, handle.offset, &block);
        }
        Ok(block)
    }

    fn read_index_block(&self, handle: &Handle) -> Result<Block> {
        let plaintext = self.file.open_unit(Component::Index, Place::Inner, handle)?;
        self.file.decode_block(plaintext)
    }

    fn read_data_block(&self, handle: &Handle) -> Result<Block> {
        let last = handle.block.saturating_add(1) == self.footer.body.blocks;
        let place = if last { Place::Last } else { Place::Inner };
        let plaintext = self.file.open_unit(Component::Data, place, handle)?;
        self.file.decode_block(plaintext)
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Segment").field("id", &self.entry.id).finish_non_exhaustive()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.file.cache.close(&self.owner);
    }
}

/// Checks the header against the catalog and unwraps the data key.
fn unlock(
    path: &Path,
    map: &FileMap,
    table: TableId,
    entry: &SegmentEntry,
    keys: &dyn DataKeySource,
) -> Result<Opener> {
    let length = map.length();
    if length != entry.length {
        return Err(Error::tampered(
            path,
            format!("length is {length}, expected {}", entry.length),
        ));
    }
    let header = map.copy(0, HEADER_LEN).unwrap_or_default();
    let header = Header::decode(&header).map_err(|what| Error::tampered(path, what))?;
    let birth = FileIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: entry.cluster.0,
        table_id: entry.table.0,
        file_id: entry.id.0,
    };
    if header.identity != birth {
        return Err(Error::tampered(path, "header is of another segment"));
    }
    if header.wrapped.table_key_id != entry.table_key {
        return Err(Error::tampered(path, "header names another table key"));
    }
    keys.unwrap_data_key(&table.0, &header.wrapped, &birth)
        .and_then(|key| Opener::new(&key, &birth))
        .map_err(|error| Error::sealed(path, "header does not authenticate", error))
}

impl SegmentFile {
    fn footer(&self) -> Result<Footer> {
        let cut = || Error::tampered(&self.path, "file ends in its footer");
        let sealed = Footer::LEN.saturating_add(TAG_LEN);
        let offset = self.map.length().checked_sub(sealed as u64).ok_or_else(cut)?;
        let length = u32::try_from(sealed).map_err(|_| cut())?;
        let handle = Handle { block: 0, offset, length };
        let plaintext = self.open_unit(Component::Footer, Place::Last, &handle)?;
        Footer::decode(&plaintext, offset)
            .map_err(|_| Error::corrupt(&self.path, "footer of a segment"))
    }

    fn filter(&self, extent: &Extent) -> Result<Option<BloomFilter>> {
        if extent.blocks == 0 && extent.length == 0 {
            return Ok(None);
        }
        let corrupt = || Error::corrupt(&self.path, "bloom filter of a segment");
        let end = extent.end().ok_or_else(corrupt)?;
        let piece_length = FILTER_PIECE_BYTES.saturating_add(TAG_LEN) as u64;
        let mut bytes = Vec::new();
        let mut at = extent.offset;
        for block in 0..extent.blocks {
            let last = block.saturating_add(1) == extent.blocks;
            let length = end.saturating_sub(at).min(piece_length);
            let length = u32::try_from(length).map_err(|_| corrupt())?;
            let place = if last { Place::Last } else { Place::Inner };
            let handle = Handle { block, offset: at, length };
            bytes.extend_from_slice(&self.open_unit(Component::Filter, place, &handle)?);
            at = at.saturating_add(u64::from(length));
        }
        if at != end {
            return Err(corrupt());
        }
        BloomFilter::decode(&bytes).map(Some).ok_or_else(corrupt)
    }

    /// Opens a part of one unit, the last of its component.
    fn open_extent(&self, component: Component, extent: &Extent, block: u64) -> Result<Vec<u8>> {
        let length = u32::try_from(extent.length)
            .map_err(|_| Error::corrupt(&self.path, "length of a part of a segment"))?;
        self.open_unit(component, Place::Last, &Handle { block, offset: extent.offset, length })
    }

    /// Copies a unit out of the map and opens the copy.
    fn open_unit(&self, component: Component, place: Place, handle: &Handle) -> Result<Vec<u8>> {
        let Handle { block, offset, length } = *handle;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut unit = self.map.copy(offset, length).ok_or_else(|| {
            Error::corrupt(&self.path, format!("place of a unit, offset={offset}"))
        })?;
        self.cache.maps().touch(&self.map, offset, length);
        let opened = self
            .opener
            .open_in_place(component, block, place, &[], &mut unit)
            .map(|text| text.len());
        let length = opened.map_err(|error| {
            let what = format!("{component:?} unit {block} does not authenticate, offset={offset}");
            Error::sealed(&self.path, what, error)
        })?;
        unit.truncate(length);
        Ok(unit)
    }

    /// Takes a block out of a unit's plaintext.
    fn decode_block(&self, plaintext: Vec<u8>) -> Result<Block> {
        let corrupt = || Error::corrupt(&self.path, "block of a segment");
        let bytes = match plaintext.split_first() {
            Some((&CODEC_RAW, _)) => Bytes::from(plaintext).slice(1..),
            Some((&CODEC_LZ4, rest)) => {
                let (length, compressed) = rest.split_first_chunk::<4>().ok_or_else(corrupt)?;
                let length = u32::from_be_bytes(*length);
                if u64::from(length) > BLOCK_BYTES_MAX {
                    return Err(corrupt());
                }
                let length = usize::try_from(length).map_err(|_| corrupt())?;
                let block =
                    lz4_flex::block::decompress(compressed, length).map_err(|_| corrupt())?;
                if block.len() != length {
                    return Err(corrupt());
                }
                Bytes::from(block)
            }
            _ => return Err(corrupt()),
        };
        Block::parse(bytes).map_err(|_| corrupt())
    }
}
