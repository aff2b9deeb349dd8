//! Size-tiered choice: segments of like size are merged once there are enough of them.
//!
//! Segments sorted by size fall into buckets: one joins a bucket when its size is within `bucket_low` and
//! `bucket_high` times the bucket's average, or when it and the average are below `min_segment_bytes`. Of the
//! buckets with at least `min_threshold` segments the one with the smallest segments goes first: merging those costs
//! least for each segment that goes away.

use std::collections::BTreeMap;

use crate::ids::SegmentId;

/// What the choice looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The segment.
    pub(crate) id: SegmentId,
    /// Its length in bytes.
    pub(crate) bytes: u64,
}

/// Options of a table's compaction, with Cassandra's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CompactionOptions {
    /// `min_threshold`: fewest segments merged at once; at least 2.
    pub(crate) min_threshold: usize,
    /// `max_threshold`: most segments merged at once; at least `min_threshold`.
    pub(crate) max_threshold: usize,
    /// `min_sstable_size`: smaller segments count as of one size, in bytes.
    pub(crate) min_segment_bytes: u64,
    /// `bucket_low`: least share of a bucket's average size.
    pub(crate) bucket_low: f64,
    /// `bucket_high`: largest share of a bucket's average size.
    pub(crate) bucket_high: f64,
    /// `enabled`.
    pub(crate) enabled: bool,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            min_threshold: 4,
            max_threshold: 32,
            min_segment_bytes: 50 << 20,
            bucket_low: 0.5,
            bucket_high: 1.5,
            enabled: true,
        }
    }
}

impl CompactionOptions {
    /// Reads a table's `compaction` map; what is missing or does not parse has its default (statements that set it
    /// are checked where they are executed).
    #[must_use]
    pub(crate) fn from_map(options: &BTreeMap<String, String>) -> Self {
        let default = Self::default();
        let min_threshold =
            number(options, "min_threshold").unwrap_or(default.min_threshold).max(2);
        let max_threshold = number(options, "max_threshold").unwrap_or(default.max_threshold);
        Self {
            min_threshold,
            max_threshold: max_threshold.max(min_threshold),
            min_segment_bytes: number(options, "min_sstable_size")
                .unwrap_or(default.min_segment_bytes),
            bucket_low: number(options, "bucket_low").unwrap_or(default.bucket_low),
            bucket_high: number(options, "bucket_high").unwrap_or(default.bucket_high),
            enabled: options
                .get("enabled")
                .is_none_or(|enabled| !enabled.eq_ignore_ascii_case("false")),
        }
    }
}

fn number<N: std::str::FromStr>(options: &BTreeMap<String, String>, name: &str) -> Option<N> {
    options.get(name)?.trim().parse().ok()
}

/// The size-tiered strategy.
#[derive(Debug, Clone, Default)]
pub(crate) struct SizeTiered {
    /// Its options.
    pub(crate) options: CompactionOptions,
}

/// Segments of like size.
#[derive(Debug, Default)]
struct Bucket {
    segments: Vec<SegmentId>,
    bytes: u64,
}

impl Bucket {
    #[expect(clippy::cast_precision_loss, reason = "sizes are compared roughly")]
    fn average(&self) -> f64 {
        self.bytes as f64 / self.segments.len().max(1) as f64
    }
}

impl SizeTiered {
    /// The segments to merge now, if any, the smallest first.
    #[must_use]
    pub(crate) fn choose(&self, candidates: &[Candidate]) -> Option<Vec<SegmentId>> {
        if !self.options.enabled {
            return None;
        }
        let mut full: Vec<Bucket> = self.buckets(candidates);
        full.retain(|bucket| bucket.segments.len() >= self.options.min_threshold);
        let chosen =
            full.into_iter().min_by(|left, right| left.average().total_cmp(&right.average()))?;
        let mut segments = chosen.segments;
        segments.truncate(self.options.max_threshold);
        Some(segments)
    }

    fn buckets(&self, candidates: &[Candidate]) -> Vec<Bucket> {
        let mut sorted: Vec<&Candidate> = candidates.iter().collect();
        sorted.sort_by_key(|candidate| (candidate.bytes, candidate.id));
        let mut buckets: Vec<Bucket> = Vec::new();
        for candidate in sorted {
            let fits = buckets.last().is_some_and(|bucket| self.fits(bucket, candidate.bytes));
            if !fits {
                buckets.push(Bucket::default());
            }
            if let Some(bucket) = buckets.last_mut() {
                bucket.segments.push(candidate.id);
                bucket.bytes = bucket.bytes.saturating_add(candidate.bytes);
            }
        }
        buckets
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes are compared roughly")]
    fn fits(&self, bucket: &Bucket, bytes: u64) -> bool {
        let (average, bytes, small) =
            (bucket.average(), bytes as f64, self.options.min_segment_bytes as f64);
        let alike = bytes >= average * self.options.bucket_low
            && bytes <= average * self.options.bucket_high;
        alike || (bytes < small && average < small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(mebibytes: &[u64]) -> Vec<Candidate> {
        let mut number = 0_u8;
        let mut next = |mebibytes: &u64| {
            number += 1;
            Candidate { id: SegmentId([number; 16]), bytes: mebibytes << 20 }
        };
        mebibytes.iter().map(&mut next).collect()
    }

    fn chosen(mebibytes: &[u64]) -> Option<Vec<u8>> {
        let ids = SizeTiered::default().choose(&candidates(mebibytes))?;
        Some(ids.iter().map(|id| id.0[0]).collect())
    }

    #[test]
    fn fewer_than_the_threshold_are_left_alone() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[100, 100, 100]), None);
        assert_eq!(chosen(&[60, 100, 200, 400, 900]), None);
    }

    #[test]
    fn segments_of_like_size_are_chosen() {
        assert_eq!(chosen(&[100, 5000, 110, 90, 105, 9000]), Some(vec![4, 1, 5, 3]));
    }

    #[test]
    fn small_segments_count_as_of_one_size() {
        assert_eq!(chosen(&[1, 2, 10, 40]), Some(vec![1, 2, 3, 4]));
    }

    #[test]
    fn of_two_full_buckets_the_smaller_goes_first() {
        assert_eq!(chosen(&[1000, 1000, 1000, 1000, 100, 100, 100, 100]), Some(vec![5, 6, 7, 8]));
    }

    #[test]
    fn at_most_the_largest_number_is_merged() {
        assert_eq!(chosen(&[1; 50]).map(|chosen| chosen.len()), Some(32));
    }

    #[test]
    fn a_table_may_set_or_disable_it() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let options =
            CompactionOptions::from_map(&map(&[("min_threshold", "2"), ("max_threshold", "x")]));
        assert_eq!((options.min_threshold, options.max_threshold), (2, 32));
        let strategy = SizeTiered { options };
        assert!(strategy.choose(&candidates(&[1, 1])).is_some());
        let options = CompactionOptions::from_map(&map(&[("enabled", "FALSE")]));
        assert!(SizeTiered { options }.choose(&candidates(&[1; 9])).is_none());
    }
}
