//! Tests of `tombstone`.

use super::*;
use crate::test_random::Random;

fn deletion(marked_at: i64) -> DeletionTime {
    DeletionTime { marked_at: WriteTimestamp(marked_at), local_deletion_time: 7 }
}

fn random_range(random: &mut Random) -> RangeTombstone {
    let bound = |random: &mut Random| vec![u8::try_from(random.below(10)).unwrap()];
    let (start, end) = (bound(random), bound(random));
    RangeTombstone { start, end, deletion: deletion(i64::try_from(random.below(5)).unwrap()) }
}

fn random_tombstones(random: &mut Random) -> PartitionTombstones {
    let mut tombstones = PartitionTombstones::new();
    for _ in 0..random.below(5) {
        tombstones.insert(random_range(random));
    }
    if random.below(3) == 0 {
        tombstones.delete_partition(deletion(i64::try_from(random.below(4)).unwrap()));
    }
    tombstones
}

fn merged(left: &PartitionTombstones, right: &PartitionTombstones) -> PartitionTombstones {
    let mut result = left.clone();
    result.merge(right);
    result
}

#[test]
fn inserted_ranges_cover_what_any_of_them_covers() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let ranges: Vec<_> = (0..6).map(|_| random_range(&mut random)).collect();
        let mut tombstones = PartitionTombstones::new();
        ranges.iter().for_each(|range| tombstones.insert(range.clone()));
        for point in 0..11u8 {
            let clustering = [point];
            let wanted = ranges
                .iter()
                .filter(|range| *range.start <= clustering[..] && clustering[..] < *range.end)
                .map(|range| range.deletion)
                .max();
            assert_eq!(tombstones.covering(&clustering), wanted, "seed {seed} at {point}");
        }
        let disjoint = tombstones.ranges().windows(2).all(|pair| {
            pair[0].end < pair[1].start
                || (pair[0].end == pair[1].start && pair[0].deletion != pair[1].deletion)
        });
        assert!(disjoint, "seed {seed}");
    }
}

#[test]
fn merging_is_commutative_associative_and_idempotent() {
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let [a, b, c] = [(); 3].map(|()| random_tombstones(&mut random));
        assert_eq!(merged(&a, &b), merged(&b, &a), "seed {seed}");
        assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)), "seed {seed}");
        assert_eq!(merged(&a, &a), a, "seed {seed}");
        let ab = merged(&a, &b);
        for point in 0..11u8 {
            let wanted = a.covering(&[point]).max(b.covering(&[point]));
            assert_eq!(ab.covering(&[point]), wanted, "seed {seed} at {point}");
        }
    }
}

#[test]
fn encoded_tombstones_come_back_and_cut_ones_are_refused() {
    for seed in 0..100 {
        let tombstones = random_tombstones(&mut Random::new(seed));
        let bytes = tombstones.encode();
        assert_eq!(PartitionTombstones::decode(&bytes), Ok(tombstones));
        for length in 0..bytes.len() {
            assert!(PartitionTombstones::decode(&bytes[..length]).is_err());
        }
    }
}

#[test]
fn purge_keeps_deletions_in_grace_and_those_that_may_hide_something() {
    let range = |start: u8, marked_at| RangeTombstone {
        start: vec![start],
        end: vec![start + 1],
        deletion: deletion(marked_at),
    };
    let mut tombstones = PartitionTombstones::of_partition(deletion(1));
    tombstones.insert(range(1, 5));
    tombstones.insert(range(3, 9));
    let mut in_grace = tombstones.clone();
    in_grace.purge(7, WriteTimestamp::MAX);
    assert_eq!(in_grace, tombstones);
    tombstones.purge(8, WriteTimestamp(9));
    assert_eq!(tombstones, PartitionTombstones::of_range(range(3, 9)));
}
