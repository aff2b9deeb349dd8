//! Builds the plaintext of a block: entries in key order, keys without what they share with the one before.
//!
//! See `block.rs` for the layout.

use coffer_model::varint;

use super::block::RESTART_INTERVAL;

/// A block being filled. Keys must rise strictly.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    last_key: Vec<u8>,
    entries: usize,
}

impl BlockBuilder {
    /// Adds an entry. The writer limits the sizes, so that all positions fit 32 bits.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        let shared = if self.entries.is_multiple_of(RESTART_INTERVAL) {
            self.restarts.push(narrow(self.bytes.len()));
            0
        } else {
            shared_length(&self.last_key, key)
        };
        let suffix = key.get(shared..).unwrap_or_default();
        varint::write(&mut self.bytes, narrow(shared));
        varint::write(&mut self.bytes, narrow(suffix.len()));
        varint::write(&mut self.bytes, narrow(value.len()));
        self.bytes.extend_from_slice(suffix);
        self.bytes.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(suffix);
        self.entries = self.entries.saturating_add(1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes the finished block will have.
    pub(super) fn length(&self) -> usize {
        self.bytes.len().saturating_add(self.restarts.len().saturating_mul(4)).saturating_add(4)
    }

    /// The key added last.
    pub(super) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Appends the finished block to `out` and starts an empty one; allocations and the last key are kept.
    pub(super) fn finish_into(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        for restart in &self.restarts {
            out.extend_from_slice(&restart.to_be_bytes());
        }
        out.extend_from_slice(&narrow(self.restarts.len()).to_be_bytes());
        self.bytes.clear();
        self.restarts.clear();
        self.entries = 0;
    }
}

/// How many bytes two keys have in common at their start.
pub(super) fn shared_length(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

/// The writer refuses entries long before a position needs more than 32 bits.
#[expect(clippy::expect_used, reason = "limited by ENTRY_BYTES_MAX before anything is added")]
fn narrow(length: usize) -> u32 {
    u32::try_from(length).expect("a block is shorter than 4 GiB")
}
