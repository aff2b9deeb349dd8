//! The one order of memtables and segments: `memcmp` of encoded entry keys.
//!
//! ```text
//! token (8, sign bit flipped, big endian) | partition key length (2, big endian) | partition key
//! | kind (1) | clustering ordered bytes
//! ```
//! What follows the partition key, kind and clustering, is called the *suffix*.

use crate::varint::{take, take_array};
use crate::{Error, Token};

/// What an entry of a partition is. The order of the values is the order on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Partition deletion and range tombstones; value is an encoded `PartitionTombstones`.
    Tombstones = 0x00,
    /// The static row.
    StaticRow = 0x01,
    /// A row.
    Row = 0x02,
}

impl EntryKind {
    /// The kind a byte stands for.
    ///
    /// # Errors
    /// [`Error::Malformed`] for any other byte.
    pub const fn from_byte(byte: u8) -> Result<Self, Error> {
        match byte {
            0x00 => Ok(Self::Tombstones),
            0x01 => Ok(Self::StaticRow),
            0x02 => Ok(Self::Row),
            _ => Err(Error::Malformed("entry kind")),
        }
    }

    /// The byte in the key.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self as u8
    }
}

/// An entry key taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryKey<'a> {
    /// Token of the partition key.
    pub token: Token,
    /// The partition key.
    pub partition_key: &'a [u8],
    /// What the entry is.
    pub kind: EntryKind,
    /// Ordered bytes of the clustering columns; empty unless `kind` is [`EntryKind::Row`].
    pub clustering: &'a [u8],
}

impl<'a> EntryKey<'a> {
    /// Appends the encoded key. The partition key must not be longer than 65535 bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        encode_partition_prefix(self.token, self.partition_key, out);
        out.push(self.kind.to_byte());
        out.extend_from_slice(self.clustering);
    }

    /// The encoded key.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(11 + self.partition_key.len() + self.clustering.len());
        self.encode_into(&mut out);
        out
    }

    /// Takes an encoded key apart.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is cut or its kind is unknown.
    pub fn decode(key: &'a [u8]) -> Result<Self, Error> {
        let mut rest = key;
        let token = Token::from_ordered_bytes(take_array(&mut rest)?);
        let length = u16::from_be_bytes(take_array(&mut rest)?);
        let partition_key = take(&mut rest, usize::from(length))?;
        let (&kind, clustering) = rest.split_first().ok_or(Error::Malformed("entry key"))?;
        let kind = EntryKind::from_byte(kind)?;
        Ok(Self { token, partition_key, kind, clustering })
    }
}

/// Appends what all entries of a partition begin with: token, length, partition key.
pub fn encode_partition_prefix(token: Token, partition_key: &[u8], out: &mut Vec<u8>) {
    debug_assert!(partition_key.len() <= usize::from(u16::MAX), "checked where keys are made");
    #[expect(clippy::cast_possible_truncation, reason = "limited to u16::MAX where keys are made")]
    let length = partition_key.len() as u16;
    out.extend_from_slice(&token.to_ordered_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(partition_key);
}

/// Splits an encoded key into partition prefix (as of [`encode_partition_prefix`]) and suffix.
///
/// # Errors
/// [`Error::Malformed`] when the key is cut.
pub fn split(key: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let (&length, _) = key
        .get(8..)
        .and_then(|rest| rest.split_first_chunk::<2>())
        .ok_or(Error::Malformed("entry key"))?;
    let (prefix, suffix) = key
        .split_at_checked(10 + usize::from(u16::from_be_bytes(length)))
        .ok_or(Error::Malformed("entry key"))?;
    if suffix.is_empty() { Err(Error::Malformed("entry key")) } else { Ok((prefix, suffix)) }
}
