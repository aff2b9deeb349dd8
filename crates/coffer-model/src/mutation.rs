//! A change to one partition of one table; what the log stores and the memtable takes.
//!
//! ```text
//! partition key length u16 BE, partition key
//! entry*    kind u8, clustering length varint, clustering, row length varint, row
//! ```
//! The row of a tombstones entry is an encoded [`PartitionTombstones`].

use bytes::Bytes;

use crate::varint::{read_bytes, take, take_array};
use crate::{EntryKind, Error, PartitionTombstones, RowBuilder, RowRef, TableId, Token, varint};

/// An encoded change to one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    table: TableId,
    token: Token,
    bytes: Bytes,
}

/// One entry of a mutation. The slices lie in [`Mutation::bytes`], so `slice_ref` makes them owned
/// without a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MutationEntry<'a> {
    /// What it changes.
    pub kind: EntryKind,
    /// Ordered bytes of the clustering columns; empty unless it is a row.
    pub clustering: &'a [u8],
    /// Encoded row, or encoded [`PartitionTombstones`].
    pub row: &'a [u8],
}

impl Mutation {
    /// Takes encoded bytes and checks the structure of all of them, rows included.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn decode(table: TableId, bytes: Bytes) -> Result<Self, Error> {
        let mut rest = bytes.as_ref();
        let partition_key = read_partition_key(&mut rest)?;
        let token = Token::of(partition_key);
        while !rest.is_empty() {
            let entry = read_entry(&mut rest)?;
            if entry.kind == EntryKind::Tombstones {
                PartitionTombstones::decode(entry.row)?;
            } else {
                RowRef::parse(entry.row)?;
            }
            if entry.kind != EntryKind::Row && !entry.clustering.is_empty() {
                return Err(Error::Malformed("mutation entry"));
            }
        }
        Ok(Self { table, token, bytes })
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> TableId {
        self.table
    }

    /// Token of the partition key.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// The encoded mutation, without table and token.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The partition key.
    #[must_use]
    pub fn partition_key(&self) -> &[u8] {
        read_partition_key(&mut self.bytes.as_ref()).unwrap_or_default()
    }

    /// The entries in the order they were added.
    #[must_use]
    pub fn entries(&self) -> MutationEntries<'_> {
        let mut rest = self.bytes.as_ref();
        if read_partition_key(&mut rest).is_err() {
            rest = &[];
        }
        MutationEntries { rest }
    }
}

/// Iterator over the entries of a mutation.
#[derive(Debug, Clone)]
pub struct MutationEntries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for MutationEntries<'a> {
    type Item = MutationEntry<'a>;

    #[inline]
    fn next(&mut self) -> Option<MutationEntry<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        read_entry(&mut self.rest).ok()
    }
}

fn read_partition_key<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = u16::from_be_bytes(take_array(input)?);
    take(input, usize::from(length))
}

fn read_entry<'a>(input: &mut &'a [u8]) -> Result<MutationEntry<'a>, Error> {
    let [kind] = take_array(input)?;
    let kind = EntryKind::from_byte(kind)?;
    let clustering = read_bytes(input)?;
    let row = read_bytes(input)?;
    Ok(MutationEntry { kind, clustering, row })
}

/// Builds a [`Mutation`] in one buffer.
#[derive(Debug, Clone)]
pub struct MutationBuilder {
    table: TableId,
    token: Token,
    bytes: Vec<u8>,
    header_bytes: usize,
}

impl MutationBuilder {
    /// A mutation of the partition with this key, without entries yet.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`] when the key is longer than 65535 bytes.
    pub fn new(table: TableId, partition_key: &[u8]) -> Result<Self, Error> {
        let length = u16::try_from(partition_key.len()).map_err(|_| Error::KeyTooLong {
            what: "partition key",
            length: partition_key.len(),
        })?;
        let mut bytes = Vec::with_capacity(192 + partition_key.len());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(partition_key);
        let header_bytes = bytes.len();
        Ok(Self { table, token: Token::of(partition_key), bytes, header_bytes })
    }

    /// Adds a row.
    pub fn row(&mut self, clustering: &[u8], row: RowBuilder) -> &mut Self {
        self.entry(EntryKind::Row, clustering, &row.into_vec())
    }

    /// Adds the static row.
    pub fn static_row(&mut self, row: RowBuilder) -> &mut Self {
        self.entry(EntryKind::StaticRow, &[], &row.into_vec())
    }

    /// Adds a partition deletion and range tombstones.
    pub fn tombstones(&mut self, tombstones: &PartitionTombstones) -> &mut Self {
        self.entry(EntryKind::Tombstones, &[], &tombstones.encode())
    }

    /// Adds an entry that is encoded already. Reading is lenient only about what was checked, so
    /// `row` must be an encoded row or `PartitionTombstones`, as `kind` says.
    pub fn entry(&mut self, kind: EntryKind, clustering: &[u8], row: &[u8]) -> &mut Self {
        self.bytes.push(kind.to_byte());
        varint::write_bytes(&mut self.bytes, clustering);
        varint::write_bytes(&mut self.bytes, row);
        self
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.header_bytes
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The mutation.
    #[must_use]
    pub fn finish(self) -> Mutation {
        Mutation { table: self.table, token: self.token, bytes: Bytes::from(self.bytes) }
    }
}

#[cfg(test)]
mod tests;
