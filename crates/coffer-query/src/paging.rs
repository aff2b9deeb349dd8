//! Paging state: where a page ended, as opaque bytes for the client.
//!
//! ```text
//! version u8 | first 4 bytes of the table id | rows left of LIMIT u32 | rows left of the partition u32
//! | flags u8 (1: inside the partition) | key length u16, partition key | clustering bytes
//! ```
//! It only names a place, so a forged one reads what its statement may read anyway; it is checked
//! for structure, table and size.

use bytes::Bytes;
use coffer_model::TableId;

use crate::error::{Error, Result};

const VERSION: u8 = 1;
const INSIDE: u8 = 1;
const HEAD_BYTES: usize = 16;
/// Longest paging state that is looked at.
const BYTES_MAX: usize = 256 * 1024;

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PagingState {
    /// Rows the statement may still return; `u32::MAX` without LIMIT.
    pub(crate) remaining: u32,
    /// Rows the partition may still return; `u32::MAX` without PER PARTITION LIMIT.
    pub(crate) partition_remaining: u32,
    /// The last partition seen.
    pub(crate) partition_key: Bytes,
    /// The last row seen; `None` when the partition is done.
    pub(crate) clustering: Option<Bytes>,
}

fn invalid() -> Error {
    Error::Protocol("Invalid value for the paging state".to_owned())
}

impl PagingState {
    /// Bytes for the client.
    pub(crate) fn encode(&self, table: TableId) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(table.0.first_chunk::<4>().unwrap_or(&[0; 4]));
        out.extend_from_slice(&self.remaining.to_be_bytes());
        out.extend_from_slice(&self.partition_remaining.to_be_bytes());
        out.push(if self.clustering.is_some() { INSIDE } else { 0 });
        let length = u16::try_from(self.partition_key.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.partition_key);
        out.extend_from_slice(self.clustering.as_deref().unwrap_or_default());
        out.into()
    }

    /// Reads what the client sent back.
    ///
    /// # Errors
    /// [`Error::Protocol`] when it is not a paging state of this table.
    pub(crate) fn decode(bytes: &[u8], table: TableId) -> Result<PagingState> {
        if bytes.len() > BYTES_MAX {
            return Err(invalid());
        }
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or_else(invalid)?;
        let [version, t0, t1, t2, t3, r0, r1, r2, r3, p0, p1, p2, p3, flags, k0, k1] = *head;
        if version != VERSION || !table.0.starts_with(&[t0, t1, t2, t3]) || flags > INSIDE {
            return Err(invalid());
        }
        let length = usize::from(u16::from_be_bytes([k0, k1]));
        let (key, clustering) = rest.split_at_checked(length).ok_or_else(invalid)?;
        if flags == 0 && !clustering.is_empty() {
            return Err(invalid());
        }
        Ok(PagingState {
            remaining: u32::from_be_bytes([r0, r1, r2, r3]),
            partition_remaining: u32::from_be_bytes([p0, p1, p2, p3]),
            partition_key: Bytes::copy_from_slice(key),
            clustering: (flags == INSIDE).then(|| Bytes::copy_from_slice(clustering)),
        })
    }
}
