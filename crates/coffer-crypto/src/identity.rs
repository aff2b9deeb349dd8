//! What a sealed block is bound to: the additional data of every seal.

use crate::{Error, Result};

/// Version of the sealed formats of this program; part of all additional data.
pub const FORMAT_VERSION: u16 = 1;

/// Birth identity of one sealed file. It stays with the file wherever the file is attached later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Version of the format the file was written in.
    pub format_version: u16,
    /// The cluster (data directory) the file was born in.
    pub cluster_id: [u8; 16],
    /// The table the file was born in.
    pub table_id: [u8; 16],
    /// The segment or log file; unique in the cluster.
    pub file_id: [u8; 16],
}

impl FileIdentity {
    /// Length of [`Self::to_bytes`].
    pub const LEN: usize = 50;

    /// Version, cluster, table and file id, big endian, in this order.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (version, ids) = bytes.split_at_mut(2);
        version.copy_from_slice(&self.format_version.to_be_bytes());
        for (to, from) in ids.chunks_mut(16).zip([self.cluster_id, self.table_id, self.file_id]) {
            to.copy_from_slice(&from);
        }
        bytes
    }

    /// The identity whose [`Self::to_bytes`] these are.
    ///
    /// # Errors
    /// [`Error::Malformed`] for another length, [`Error::UnknownVersion`] for another format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let malformed = Error::Malformed { what: "file identity" };
        let Some((version, ids)) = bytes.split_first_chunk::<2>() else {
            return Err(malformed);
        };
        let ([cluster_id, table_id, file_id], []) = ids.as_chunks::<16>() else {
            return Err(malformed);
        };
        let format_version = u16::from_be_bytes(*version);
        if format_version != FORMAT_VERSION {
            return Err(Error::UnknownVersion { version: format_version });
        }
        let (cluster_id, table_id, file_id) = (*cluster_id, *table_id, *file_id);
        Ok(Self { format_version, cluster_id, table_id, file_id })
    }
}

/// The parts of a sealed file. Each has its own run of nonces; the number is the nonce's first
/// four bytes and must never be given to another part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Component {
    /// Rows of a segment.
    Data = 1,
    /// Index of a segment.
    Index = 2,
    /// Bloom filter of a segment.
    Filter = 3,
    /// Statistics of a segment.
    Statistics = 4,
    /// Footer of a segment.
    Footer = 5,
    /// Records of a commit log file.
    Log = 6,
    /// Body of a [`crate::SealedDocument`].
    Document = 7,
    /// Heads of the records of a journal.
    JournalHead = 8,
    /// Records of a journal.
    JournalRecord = 9,
}

impl Component {
    /// One more than the highest number.
    pub(crate) const END: usize = 10;

    /// The number that is part of nonce and additional data.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// Whether a block is the last of its component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// More blocks follow (always so in a commit log file).
    Inner,
    /// Nothing follows: a file cut after an earlier block is noticed.
    Last,
}

/// Additional data of one block: on the stack, since the commit log builds it for every record.
pub(crate) struct BlockAad {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl BlockAad {
    const FIXED: usize = FileIdentity::LEN + 4 + 8 + 1 + 8;
    const CAPACITY: usize = 160;
    /// Most bytes a caller may add.
    pub(crate) const EXTRA_MAX: usize = Self::CAPACITY - Self::FIXED;

    pub(crate) fn new(
        identity: &[u8; FileIdentity::LEN],
        component: Component,
        block: u64,
        place: Place,
        plaintext_len: u64,
        extra: &[u8],
    ) -> Result<Self> {
        if extra.len() > Self::EXTRA_MAX {
            return Err(Error::Malformed { what: "additional data" });
        }
        let mut aad = Self { bytes: [0; Self::CAPACITY], len: 0 };
        aad.push(identity);
        aad.push(&component.number().to_be_bytes());
        aad.push(&block.to_be_bytes());
        aad.push(&[u8::from(place == Place::Last)]);
        aad.push(&plaintext_len.to_be_bytes());
        aad.push(extra);
        Ok(aad)
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        if let Some(to) = self.bytes.get_mut(self.len..end) {
            to.copy_from_slice(part);
            self.len = end;
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_comes_back_from_its_bytes() {
        let identity = FileIdentity {
            format_version: FORMAT_VERSION,
            cluster_id: [1; 16],
            table_id: [2; 16],
            file_id: [3; 16],
        };
        let bytes = identity.to_bytes();
        assert_eq!(FileIdentity::from_bytes(&bytes).unwrap(), identity);
        assert!(FileIdentity::from_bytes(&bytes[1..]).is_err());
        let mut later = bytes;
        later[1] = 9;
        let read = FileIdentity::from_bytes(&later);
        assert!(matches!(read, Err(Error::UnknownVersion { version: 9 })));
    }
}
