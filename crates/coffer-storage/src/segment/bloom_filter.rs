//! A bloom filter over the partitions of a segment, in blocks of one cache line.
//!
//! A partition's token is a hash already; mixed once more it picks one block of 512 bits and all the bits in it, so
//! that a look-up touches one cache line.
//!
//! ```text
//! probes u8 | words u64*, eight to a block
//! ```

use coffer_model::Token;

/// Words of a block.
const BLOCK_WORDS: usize = 8;
/// Most bits set for a partition.
const PROBES_MAX: u8 = 16;

/// The set of a segment's partitions, with false positives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BloomFilter {
    probes: u8,
    words: Vec<u64>,
}

impl BloomFilter {
    /// An empty filter for at most `partitions` with the wanted rate of false positives; `None` when no filter is
    /// wanted (a rate of 1 or more).
    pub(super) fn new(partitions: u64, fp_chance: f64) -> Option<Self> {
        if fp_chance.is_nan() || fp_chance >= 1.0 {
            return None;
        }
        let chance = fp_chance.max(1e-6);
        // bits of a plain filter, and a part more since a block of 512 bits fills unevenly
        let bits_per_partition = -chance.ln() / (std::f64::consts::LN_2 * std::f64::consts::LN_2);
        let spread = if chance < 0.001 { 1.5 } else { 1.2 };
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let bits = partitions.max(1) as f64 * bits_per_partition * spread;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and neither value is negative"
        )]
        let (blocks, probes) = ((bits / 512.0).ceil() as usize, (-chance.log2()).round() as u8);
        let words = blocks.clamp(1, 1 << 27).saturating_mul(BLOCK_WORDS);
        Some(Self { probes: probes.clamp(1, PROBES_MAX), words: vec![0; words] })
    }

    pub(super) fn insert(&mut self, token: Token) {
        let (block, mut hash) = self.locate(token);
        for _ in 0..self.probes {
            let (word, bit) = next_bit(&mut hash);
            if let Some(word) = self.words.get_mut(block.saturating_add(word)) {
                *word |= bit;
            }
        }
    }

    /// False only when the partition was never inserted.
    #[inline]
    pub(super) fn may_contain(&self, token: Token) -> bool {
        let (block, mut hash) = self.locate(token);
        (0..self.probes).all(|_| {
            let (word, bit) = next_bit(&mut hash);
            self.words.get(block.saturating_add(word)).is_none_or(|word| word & bit != 0)
        })
    }

    /// The first word of the partition's block, and the hash that gives the bits.
    #[inline]
    fn locate(&self, token: Token) -> (usize, u64) {
        let hash = mix(token.0.cast_unsigned());
        let blocks = (self.words.len() / BLOCK_WORDS) as u64;
        #[expect(clippy::cast_possible_truncation, reason = "below the number of blocks")]
        let block = (u128::from(hash).wrapping_mul(u128::from(blocks)) >> 64) as usize;
        (block.saturating_mul(BLOCK_WORDS), mix(hash))
    }

    /// Bytes it keeps in memory.
    pub(super) fn length(&self) -> usize {
        self.words.len().saturating_mul(8)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length().saturating_add(1));
        bytes.push(self.probes);
        for word in &self.words {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// `None` for bytes that are no filter.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&probes, rest) = bytes.split_first()?;
        let (words, []) = rest.as_chunks::<8>() else { return None };
        let whole = !words.is_empty() && words.len().is_multiple_of(BLOCK_WORDS);
        if !whole || probes == 0 || probes > PROBES_MAX {
            return None;
        }
        Some(Self { probes, words: words.iter().map(|word| u64::from_be_bytes(*word)).collect() })
    }
}

/// Tokens gathered before the filter is sized for the upper bound.
const TOKENS_MAX: usize = 1 << 20;

/// Makes the filter of a segment whose number of partitions is not known beforehand: gathers tokens (8 MiB of them
/// at most) and sizes the filter for their number at the end, or for the upper bound when there are more.
#[derive(Debug)]
pub(super) struct FilterBuilder {
    partitions_max: u64,
    fp_chance: f64,
    tokens: Vec<Token>,
    filter: Option<BloomFilter>,
}

impl FilterBuilder {
    pub(super) fn new(partitions_max: u64, fp_chance: f64) -> Self {
        Self { partitions_max, fp_chance, tokens: Vec::new(), filter: None }
    }

    pub(super) fn insert(&mut self, token: Token) {
        if let Some(filter) = &mut self.filter {
            filter.insert(token);
            return;
        }
        self.tokens.push(token);
        if self.tokens.len() >= TOKENS_MAX {
            self.filter = self.filter_of_tokens(self.partitions_max.max(TOKENS_MAX as u64));
            self.tokens.clear();
        }
    }

    /// The filter; `None` when none is wanted.
    pub(super) fn finish(&mut self) -> Option<BloomFilter> {
        self.filter.take().or_else(|| self.filter_of_tokens(self.tokens.len() as u64))
    }

    fn filter_of_tokens(&self, partitions: u64) -> Option<BloomFilter> {
        let mut filter = BloomFilter::new(partitions, self.fp_chance)?;
        self.tokens.iter().for_each(|token| filter.insert(*token));
        Some(filter)
    }
}

/// Takes nine bits off the hash: a word of the block and a bit of the word.
#[inline]
fn next_bit(hash: &mut u64) -> (usize, u64) {
    let bits = *hash >> 55;
    *hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let word = (bits >> 6) as usize;
    (word, 1 << (bits & 63))
}

/// The finalizer of SplitMix64.
#[inline]
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter_of(partitions: u64, fp_chance: f64) -> BloomFilter {
        let mut filter = BloomFilter::new(partitions, fp_chance).expect("a rate below one");
        for partition in 0..partitions {
            filter.insert(Token::of(&partition.to_be_bytes()));
        }
        filter
    }

    #[test]
    fn every_partition_that_was_inserted_is_found() {
        let filter = filter_of(20_000, 0.01);
        assert!(
            (0..20_000_u64)
                .all(|partition| filter.may_contain(Token::of(&partition.to_be_bytes())))
        );
    }

    #[test]
    fn false_positives_stay_at_the_wanted_rate() {
        for wanted in [0.1, 0.01, 0.001] {
            let filter = filter_of(50_000, wanted);
            let absent = 1_000_000..1_400_000_u64;
            let found =
                absent.filter(|key| filter.may_contain(Token::of(&key.to_be_bytes()))).count();
            let measured = f64::from(u32::try_from(found).expect("small")) / 400_000.0;
            assert!(measured <= wanted * 1.2, "wanted {wanted}, measured {measured}");
        }
    }

    #[test]
    fn a_filter_is_as_large_as_its_partitions_need_and_holds_all_of_them() {
        for (partitions, bytes_max) in [(1000_u64, 2000), (TOKENS_MAX as u64 + 5, 8 << 20)] {
            let mut builder = FilterBuilder::new(5_000_000, 0.01);
            (0..partitions)
                .for_each(|partition| builder.insert(Token::of(&partition.to_be_bytes())));
            let filter = builder.finish().expect("a filter");
            assert!(filter.length() <= bytes_max, "{} bytes", filter.length());
            assert!(
                (0..partitions)
                    .all(|partition| filter.may_contain(Token::of(&partition.to_be_bytes())))
            );
        }
        assert!(FilterBuilder::new(10, 1.0).finish().is_none());
    }

    #[test]
    fn an_encoded_filter_is_read_back_and_a_cut_one_refused() {
        let filter = filter_of(1000, 0.01);
        let bytes = filter.encode();
        assert_eq!(BloomFilter::decode(&bytes), Some(filter));
        assert_eq!(BloomFilter::decode(&bytes[..bytes.len() - 8]), None);
        assert_eq!(BloomFilter::decode(&[]), None);
        assert_eq!(BloomFilter::decode(&[0; 65]), None);
    }

    #[test]
    fn a_rate_of_one_wants_no_filter() {
        assert!(BloomFilter::new(10, 1.0).is_none());
        assert!(BloomFilter::new(10, f64::NAN).is_none());
    }
}
