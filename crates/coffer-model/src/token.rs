//! The partitioner: Cassandra's Murmur3, 128 bits, of which the first 64 are the token.

use std::fmt;

/// Place of a partition on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i64);

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

impl Token {
    /// The smallest value; no partition has it.
    pub const MIN: Self = Self(i64::MIN);
    /// The largest value.
    pub const MAX: Self = Self(i64::MAX);

    /// Token of a partition key. As in Cassandra, an empty key has [`Token::MIN`] and a hash of
    /// `i64::MIN` becomes `i64::MAX`.
    #[must_use]
    pub fn of(partition_key: &[u8]) -> Self {
        if partition_key.is_empty() {
            return Self::MIN;
        }
        match murmur3(partition_key) {
            i64::MIN => Self::MAX,
            hash => Self(hash),
        }
    }

    /// Eight bytes whose unsigned order is the order of tokens.
    #[must_use]
    pub const fn to_ordered_bytes(self) -> [u8; 8] {
        (self.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
    }

    /// Inverse of [`Token::to_ordered_bytes`].
    #[must_use]
    pub const fn from_ordered_bytes(bytes: [u8; 8]) -> Self {
        Self((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// First half of x64_128 Murmur3 with seed 0. Cassandra's differs from the original: bytes of the
/// tail are taken as signed.
fn murmur3(key: &[u8]) -> i64 {
    let mut h1 = 0u64;
    let mut h2 = 0u64;
    let (blocks, tail) = key.as_chunks::<16>();
    for block in blocks {
        let block = u128::from_le_bytes(*block);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the block")]
        let (k1, k2) = (block as u64, (block >> 64) as u64);
        h1 ^= mix_k1(k1);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix_k2(k2);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low, high) = tail.split_at(tail.len().min(8));
    if !high.is_empty() {
        h2 ^= mix_k2(signed_tail(high));
    }
    if !low.is_empty() {
        h1 ^= mix_k1(signed_tail(low));
    }
    h1 ^= key.len() as u64;
    h2 ^= key.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    fmix(h1).wrapping_add(fmix(h2)).cast_signed()
}

/// Up to eight bytes, little endian, each sign-extended before it is shifted and xored in.
fn signed_tail(bytes: &[u8]) -> u64 {
    bytes.iter().enumerate().fold(0, |sum, (place, byte)| {
        let extended = i64::from(byte.cast_signed()).cast_unsigned();
        sum ^ (extended << (8 * place))
    })
}

const fn mix_k1(k1: u64) -> u64 {
    k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

const fn mix_k2(k2: u64) -> u64 {
    k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

const fn fmix(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

#[cfg(test)]
mod tests;
