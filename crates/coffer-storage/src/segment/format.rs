//! The bytes of a segment: header, sealed units, footer. Drawn in `docs/ON-DISK-FORMAT.md`.
//!
//! ```text
//! header      magic (8) | birth identity (50) | wrapped data key (108)      in the clear, checked field by field
//! body        unit*   blocks of rows (component 1), and each index block (component 2) after the blocks it lists
//! top         unit    the index of the index blocks, last of component 2
//! filter      unit*   bloom filter in pieces of 1 MiB (component 3)
//! statistics  unit    counts and bounds (component 4)
//! footer      unit    where the parts lie and how many units they have (component 5)
//! ```
//! A unit is ciphertext and tag. The parts follow each other without gaps, so every byte of the file is either
//! compared or authenticated.

use coffer_crypto::{FileIdentity, WrappedDataKey};
use coffer_model::Error;

use super::SegmentStatistics;

/// First bytes of a segment.
pub(crate) const MAGIC: [u8; 8] = *b"cofferSG";
/// Length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 8 + FileIdentity::LEN + WrappedDataKey::LEN;
/// Plaintext of an index block aims at this size, in bytes.
pub(super) const INDEX_BLOCK_BYTES: usize = 8 << 10;
/// Plaintext of a piece of the filter, in bytes; the last one may be shorter.
pub(super) const FILTER_PIECE_BYTES: usize = 1 << 20;
/// Longest key and row of one entry together, in bytes.
pub(crate) const ENTRY_BYTES_MAX: u64 = 1 << 30;
/// Longest plaintext of a block: an entry of the longest size, and room for the rest of a usual block.
pub(super) const BLOCK_BYTES_MAX: u64 = ENTRY_BYTES_MAX + (1 << 20);

/// First byte of a data or index unit's plaintext: what follows is the block itself.
pub(super) const CODEC_RAW: u8 = 0;
/// First byte of a data unit's plaintext: what follows is the block's length (u32) and the block under LZ4.
pub(super) const CODEC_LZ4: u8 = 1;

/// The header, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Birth identity.
    pub(crate) identity: FileIdentity,
    /// The data key under a table key, and its commitment.
    pub(crate) wrapped: WrappedDataKey,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        [MAGIC.as_slice(), &self.identity.to_bytes(), &self.wrapped.to_bytes()].concat()
    }

    /// Reads the header from the front of a file.
    ///
    /// # Errors
    /// What is wrong: too short, another magic, an unknown version.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, &'static str> {
        let header = file.first_chunk::<HEADER_LEN>().ok_or("file ends in its header")?;
        let (magic, rest) = header.split_first_chunk::<8>().ok_or("file ends in its header")?;
        if *magic != MAGIC {
            return Err("header does not begin as a segment's");
        }
        let (identity, wrapped) =
            rest.split_first_chunk::<{ FileIdentity::LEN }>().ok_or("file ends in its header")?;
        let identity = FileIdentity::from_bytes(identity)
            .map_err(|_| "header is of an unknown format version")?;
        let wrapped =
            WrappedDataKey::from_bytes(wrapped).map_err(|_| "header holds no wrapped data key")?;
        Ok(Self { identity, wrapped })
    }
}

/// Where a sealed unit lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle {
    /// Number of the unit in its component.
    pub(super) block: u64,
    /// First byte of the ciphertext in the file.
    pub(super) offset: u64,
    /// Length of ciphertext and tag.
    pub(super) length: u32,
}

impl Handle {
    pub(super) const LEN: usize = 20;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (block, rest) = bytes.split_at_mut(8);
        let (offset, length) = rest.split_at_mut(8);
        block.copy_from_slice(&self.block.to_be_bytes());
        offset.copy_from_slice(&self.offset.to_be_bytes());
        length.copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader(bytes);
        let handle = Self { block: reader.u64()?, offset: reader.u64()?, length: reader.u32()? };
        reader.end()?;
        Ok(handle)
    }
}

/// Where a part of the file lies and how many units it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// First byte in the file.
    pub(super) offset: u64,
    /// Length in bytes, tags included.
    pub(super) length: u64,
    /// Number of units; for the top, of the whole index.
    pub(super) blocks: u64,
}

impl Extent {
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.length)
    }
}

/// The footer: the only part found by its place, the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    /// Blocks of rows and index blocks; counts the blocks of rows.
    pub(super) body: Extent,
    /// The top of the index; counts all units of the index, itself among them.
    pub(super) top: Extent,
    pub(super) filter: Extent,
    pub(super) statistics: Extent,
}

impl Footer {
    /// Length of the plaintext.
    pub(super) const LEN: usize = 4 * 24;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        for extent in [&self.body, &self.top, &self.filter, &self.statistics] {
            bytes.extend_from_slice(&extent.offset.to_be_bytes());
            bytes.extend_from_slice(&extent.length.to_be_bytes());
            bytes.extend_from_slice(&extent.blocks.to_be_bytes());
        }
        bytes
    }

    /// Reads the plaintext and checks that the parts follow each other from the header to `end`.
    pub(super) fn decode(bytes: &[u8], end: u64) -> Result<Self, Error> {
        let mut reader = Reader(bytes);
        let mut extent = || {
            Ok::<_, Error>(Extent {
                offset: reader.u64()?,
                length: reader.u64()?,
                blocks: reader.u64()?,
            })
        };
        let (body, top, filter, statistics) = (extent()?, extent()?, extent()?, extent()?);
        reader.end()?;
        let mut at = HEADER_LEN as u64;
        for extent in [&body, &top, &filter, &statistics] {
            if extent.offset != at {
                return Err(Error::Malformed("footer"));
            }
            at = extent.end().ok_or(Error::Malformed("footer"))?;
        }
        if at != end || body.blocks == 0 || top.blocks < 2 || statistics.blocks != 1 {
            return Err(Error::Malformed("footer"));
        }
        Ok(Self { body, top, filter, statistics })
    }
}

impl SegmentStatistics {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        for count in [
            self.rows,
            self.partitions,
            self.static_rows,
            self.partition_tombstones,
            self.tombstones,
        ] {
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        bytes.extend_from_slice(&self.min_timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.max_timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.min_deletion_secs.to_be_bytes());
        bytes.extend_from_slice(&self.max_deletion_secs.to_be_bytes());
        for key in [&self.min_key, &self.max_key] {
            coffer_model::varint::write_bytes(&mut bytes, key);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader(bytes);
        let statistics = Self {
            rows: reader.u64()?,
            partitions: reader.u64()?,
            static_rows: reader.u64()?,
            partition_tombstones: reader.u64()?,
            tombstones: reader.u64()?,
            min_timestamp: reader.u64()?.cast_signed(),
            max_timestamp: reader.u64()?.cast_signed(),
            min_deletion_secs: reader.u32()?,
            max_deletion_secs: reader.u32()?,
            min_key: coffer_model::varint::read_bytes(&mut reader.0)?.to_vec(),
            max_key: coffer_model::varint::read_bytes(&mut reader.0)?.to_vec(),
        };
        reader.end()?;
        Ok(statistics)
    }
}

/// Takes big-endian numbers off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u64(&mut self) -> Result<u64, Error> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Error::Malformed("segment"))?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Error::Malformed("segment"))?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed("segment")) }
    }
}

#[cfg(test)]
mod tests;
