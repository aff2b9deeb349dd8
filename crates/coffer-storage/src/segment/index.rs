//! The two-level index: which block holds a key.
//!
//! An index block maps separators to units: a separator is at or above the last key of its block and below the first
//! key of the next. The top maps the last separator of each index block to that block, and stays in memory.

use super::block_builder::{BlockBuilder, shared_length};
use super::format::{Handle, INDEX_BLOCK_BYTES};

/// The shortest convenient key that is not below `last` and below `next`.
pub(super) fn separator<'a>(last: &'a [u8], next: &'a [u8]) -> &'a [u8] {
    let shared = shared_length(last, next);
    match next.get(..shared.saturating_add(1)) {
        // a true prefix of `next` that is above `last`
        Some(prefix) if prefix.len() < next.len() && prefix.len() < last.len() => prefix,
        _ => last,
    }
}

/// The index block being filled, and the top.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    block: BlockBuilder,
    top: BlockBuilder,
}

impl IndexBuilder {
    /// Lists a block of rows. Separators rise strictly.
    pub(super) fn add(&mut self, separator: &[u8], handle: Handle) {
        self.block.add(separator, &handle.encode());
    }

    /// Whether the index block should be written now.
    pub(super) fn is_full(&self) -> bool {
        self.block.length() >= INDEX_BLOCK_BYTES
    }

    /// Whether the index block lists nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Appends the index block to `out`; [`IndexBuilder::list`] must follow once it is sealed.
    pub(super) fn take_block(&mut self, out: &mut Vec<u8>) {
        self.block.finish_into(out);
    }

    /// Lists in the top the index block that was taken last.
    pub(super) fn list(&mut self, handle: Handle) {
        self.top.add(self.block.last_key(), &handle.encode());
    }

    /// Appends the top to `out`.
    pub(super) fn take_top(&mut self, out: &mut Vec<u8>) {
        self.top.finish_into(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_lies_between_two_keys() {
        let keys: [&[u8]; 9] =
            [b"", b"a", b"a\0", b"aa", b"aab", b"ab", b"abcdef", b"b\xff\xff", b"c"];
        for (place, last) in keys.iter().enumerate() {
            for next in &keys[place + 1..] {
                let separator = separator(last, next);
                assert!(*last <= separator && separator < *next, "{last:?} {separator:?} {next:?}");
            }
        }
    }
}
