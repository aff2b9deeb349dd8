//! Writes a segment in one pass, in memory that does not grow with it (but for filter and top of the index, which
//! readers keep in memory as well).

use std::path::Path;
use std::sync::Arc;

use coffer_crypto::{Component, DataKeySource, FORMAT_VERSION, FileIdentity, Place, Sealer};
use coffer_model::{EntryKind, TableId, entry_key};
use sha2::{Digest as _, Sha256};

use super::block_builder::BlockBuilder;
use super::bloom_filter::FilterBuilder;
use super::format::{
    CODEC_LZ4, CODEC_RAW, ENTRY_BYTES_MAX, Extent, FILTER_PIECE_BYTES, Footer, HEADER_LEN, Handle,
    Header,
};
use super::index::{IndexBuilder, separator};
use super::{SegmentEntry, SegmentStatistics};
use crate::error::{Error, Result};
use crate::ids::{ClusterId, SegmentId};
use crate::vfs::{UnpublishedFile, Vfs};

/// Bytes gathered before they are written to the file.
const WRITE_BYTES: usize = 256 << 10;

/// How a table's segments are written.
#[derive(Debug, Clone)]
pub(crate) struct SegmentOptions {
    /// Birth identity: the cluster.
    pub(crate) cluster: ClusterId,
    /// Birth identity: the table.
    pub(crate) table: TableId,
    /// Target size of a block before compression, in bytes (4096, 16384 or 65536).
    pub(crate) block_bytes: u32,
    /// Whether blocks are compressed with LZ4 where that helps.
    pub(crate) compress: bool,
    /// Wanted rate of false positives of the bloom filter, in (0, 1]; 1 writes no filter.
    pub(crate) bloom_filter_fp_chance: f64,
}

/// A segment being written. Dropped before [`SegmentWriter::finish`] it leaves nothing.
pub(crate) struct SegmentWriter {
    output: Output,
    entry: SegmentEntry,
    block_bytes: usize,
    compress: bool,
    block: BlockBuilder,
    plaintext: Vec<u8>,
    index: IndexBuilder,
    filter: FilterBuilder,
    statistics: SegmentStatistics,
    /// What the keys of the current partition begin with.
    partition: Vec<u8>,
}

impl SegmentWriter {
    /// Starts a segment in `directory` under a fresh data key.
    ///
    /// `partitions_max` is an upper bound of the partitions to come; it sizes the bloom filter of a segment of more
    /// than a million partitions, and being wrong costs false positives or memory only.
    ///
    /// # Errors
    /// `KeyUnavailable`, `Io`.
    pub(crate) fn create(
        vfs: &Arc<dyn Vfs>,
        directory: &Path,
        options: &SegmentOptions,
        keys: &dyn DataKeySource,
        partitions_max: u64,
    ) -> Result<Self> {
        let refused = |error| Error::sealed(directory, "make a data key", error);
        let id = SegmentId(coffer_crypto::random_array().map_err(refused)?);
        let identity = FileIdentity {
            format_version: FORMAT_VERSION,
            cluster_id: options.cluster.0,
            table_id: options.table.0,
            file_id: id.0,
        };
        let (data_key, wrapped) = keys.create_data_key(&identity).map_err(refused)?;
        let entry = SegmentEntry {
            id,
            cluster: options.cluster,
            table: options.table,
            table_key: wrapped.table_key_id,
            length: 0,
            sha256: [0; 32],
            created_at_millis: 0,
        };
        let mut output = Output {
            file: UnpublishedFile::create(vfs, &entry.path(directory))?,
            sealer: Sealer::new(data_key, &identity).map_err(refused)?,
            digest: Sha256::new(),
            buffer: Vec::with_capacity(WRITE_BYTES.saturating_mul(2)),
            written: 0,
        };
        output.buffer.extend_from_slice(&Header { identity, wrapped }.encode());
        Ok(Self {
            output,
            entry,
            block_bytes: usize::try_from(options.block_bytes).unwrap_or(usize::MAX),
            compress: options.compress,
            block: BlockBuilder::default(),
            plaintext: Vec::new(),
            index: IndexBuilder::default(),
            filter: FilterBuilder::new(partitions_max, options.bloom_filter_fp_chance),
            statistics: SegmentStatistics::default(),
            partition: Vec::new(),
        })
    }

    /// Adds an entry; keys must rise strictly.
    ///
    /// # Errors
    /// `Io`; `TooLarge` for an entry of more than 1 GiB; `Corrupt` for a key or row that does not decode;
    /// `Internal` for a key that does not rise.
    pub(crate) fn add(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let bytes = (key.len() as u64).saturating_add(row.len() as u64);
        if bytes > ENTRY_BYTES_MAX {
            return Err(Error::TooLarge { bytes, limit: ENTRY_BYTES_MAX });
        }
        if !self.partition.is_empty() && self.block.last_key() >= key {
            return Err(Error::Internal("entries of a segment do not rise".to_owned()));
        }
        self.record(key, row)?;
        if !self.block.is_empty() && self.block.length() >= self.block_bytes {
            self.finish_block(Some(key))?;
        }
        self.block.add(key, row);
        Ok(())
    }

    fn record(&mut self, key: &[u8], row: &[u8]) -> Result<()> {
        let (partition, suffix) = entry_key::split(key)?;
        let kind = EntryKind::from_byte(suffix.first().copied().unwrap_or(u8::MAX))?;
        self.statistics.record(kind, row)?;
        if partition == self.partition.as_slice() {
            return Ok(());
        }
        if self.partition.is_empty() {
            self.statistics.min_key = key.to_vec();
        }
        self.statistics.partitions = self.statistics.partitions.saturating_add(1);
        self.filter.insert(entry_key::EntryKey::decode(key)?.token);
        self.partition.clear();
        self.partition.extend_from_slice(partition);
        Ok(())
    }

    /// Seals the block of rows. `next` is the key that follows; `None` for the last block.
    fn finish_block(&mut self, next: Option<&[u8]>) -> Result<()> {
        self.plaintext.clear();
        self.block.finish_into(&mut self.plaintext);
        let place = if next.is_some() { Place::Inner } else { Place::Last };
        let compress = self.compress;
        let plaintext = &self.plaintext;
        let handle = self
            .output
            .seal(Component::Data, place, |out| encode_block(plaintext, compress, out))?;
        let last = self.block.last_key();
        self.index.add(next.map_or(last, |next| separator(last, next)), handle);
        if next.is_none() || self.index.is_full() {
            self.finish_index_block()?;
        }
        Ok(())
    }

    fn finish_index_block(&mut self) -> Result<()> {
        if self.index.is_empty() {
            return Ok(());
        }
        let index = &mut self.index;
        let handle = self.output.seal(Component::Index, Place::Inner, |out| {
            out.push(CODEC_RAW);
            index.take_block(out);
        })?;
        self.index.list(handle);
        Ok(())
    }

    /// Writes index, filter, statistics and footer and publishes the file; `None` (and no file) when nothing was
    /// added.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(mut self) -> Result<Option<SegmentEntry>> {
        if self.block.is_empty() {
            return Ok(None);
        }
        self.statistics.max_key = self.block.last_key().to_vec();
        self.finish_block(None)?;
        let footer = self.finish_parts()?;
        self.output
            .seal(Component::Footer, Place::Last, |out| out.extend_from_slice(&footer.encode()))?;
        self.output.write()?;
        self.entry.length = self.output.written;
        self.entry.sha256 = self.output.digest.finalize().into();
        self.output.file.publish()?;
        Ok(Some(self.entry))
    }

    fn finish_parts(&mut self) -> Result<Footer> {
        let offset = HEADER_LEN as u64;
        let length = self.output.position().saturating_sub(offset);
        let body =
            Extent { offset, length, blocks: self.output.sealer.next_block(Component::Data) };
        let index = &mut self.index;
        let mut top = self.output.seal_part(Component::Index, |out| {
            out.push(CODEC_RAW);
            index.take_top(out);
        })?;
        top.blocks = self.output.sealer.next_block(Component::Index);
        let filter = self.filter.finish().map(|filter| filter.encode()).unwrap_or_default();
        let mut extent = Extent { offset: self.output.position(), length: 0, blocks: 0 };
        let mut pieces = filter.chunks(FILTER_PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let place = if pieces.peek().is_some() { Place::Inner } else { Place::Last };
            self.output.seal(Component::Filter, place, |out| out.extend_from_slice(piece))?;
        }
        extent.length = self.output.position().saturating_sub(extent.offset);
        extent.blocks = self.output.sealer.next_block(Component::Filter);
        let statistics = self.statistics.encode();
        let statistics = self
            .output
            .seal_part(Component::Statistics, |out| out.extend_from_slice(&statistics))?;
        Ok(Footer { body, top, filter: extent, statistics })
    }
}

impl std::fmt::Debug for SegmentWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SegmentWriter").field("id", &self.entry.id).finish_non_exhaustive()
    }
}

/// Appends a unit's plaintext: the block under LZ4 where that makes it smaller, else as it is.
fn encode_block(block: &[u8], compress: bool, out: &mut Vec<u8>) {
    let start = out.len();
    if let (true, Ok(length)) = (compress, u32::try_from(block.len())) {
        out.push(CODEC_LZ4);
        out.extend_from_slice(&length.to_be_bytes());
        let at = out.len();
        out.resize(at.saturating_add(lz4_flex::block::get_maximum_output_size(block.len())), 0);
        let space = out.get_mut(at..).unwrap_or_default();
        if let Ok(compressed) = lz4_flex::block::compress_into(block, space)
            && compressed.saturating_add(4) < block.len()
        {
            out.truncate(at.saturating_add(compressed));
            return;
        }
        out.truncate(start);
    }
    out.push(CODEC_RAW);
    out.extend_from_slice(block);
}

/// The file, and what stands between blocks and it.
struct Output {
    file: UnpublishedFile,
    sealer: Sealer,
    digest: Sha256,
    /// Sealed bytes that are not written yet.
    buffer: Vec<u8>,
    /// Bytes written to the file.
    written: u64,
}

impl Output {
    fn position(&self) -> u64 {
        self.written.saturating_add(self.buffer.len() as u64)
    }

    /// Seals what `fill` appends as the next unit of the component.
    fn seal(
        &mut self,
        component: Component,
        place: Place,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Handle> {
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        let offset = self.position();
        let start = self.buffer.len();
        fill(&mut self.buffer);
        let block = self
            .sealer
            .seal_in_place(component, place, &[], &mut self.buffer, start)
            .map_err(|error| Error::sealed(self.file.path(), "seal a block", error))?;
        let bytes = self.position().saturating_sub(offset);
        let length = u32::try_from(bytes)
            .map_err(|_| Error::TooLarge { bytes, limit: u64::from(u32::MAX) })?;
        Ok(Handle { block, offset, length })
    }

    /// Seals a part of one unit, the last of its component.
    fn seal_part(
        &mut self,
        component: Component,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Extent> {
        let handle = self.seal(component, Place::Last, fill)?;
        Ok(Extent { offset: handle.offset, length: u64::from(handle.length), blocks: 1 })
    }

    fn write(&mut self) -> Result<()> {
        self.digest.update(&self.buffer);
        self.file.append(&self.buffer)?;
        self.written = self.position();
        self.buffer.clear();
        Ok(())
    }
}
