//! Tests of `reconcile`.

use super::*;
use crate::test_random::Random;
use crate::{ColumnId, Expiry};

const NOW: u32 = 50;

fn deletion(marked_at: i64, local_deletion_time: u32) -> DeletionTime {
    DeletionTime { marked_at: WriteTimestamp(marked_at), local_deletion_time }
}

fn random_expiry(random: &mut Random) -> Option<Expiry> {
    (random.below(3) == 0)
        .then(|| Expiry { ttl: *random.pick(&[10, 20]), expires_at: *random.pick(&[40, 60, 61]) })
}

fn random_deletion(random: &mut Random) -> DeletionTime {
    deletion(*random.pick(&[1, 2, 3]), *random.pick(&[30, 31]))
}

/// Columns 0 and 1 are simple, 2 and 3 multi-cell. Timestamps are few, so that ties happen.
fn random_row(random: &mut Random) -> Bytes {
    let timestamp = |random: &mut Random| WriteTimestamp(*random.pick(&[1, 2, 3, 4]));
    let liveness = (random.below(2) == 0)
        .then(|| Liveness { timestamp: timestamp(random), expiry: random_expiry(random) });
    let own = (random.below(4) == 0).then(|| random_deletion(random));
    let mut row = RowBuilder::new(liveness, own);
    for _ in 0..random.below(7) {
        let column = ColumnId(*random.pick(&[0, 1, 2, 3]));
        if column.0 >= 2 && random.below(4) == 0 {
            row.push(&CellRef::complex_deletion(column, random_deletion(random)));
            continue;
        }
        let path: &[u8] = if column.0 >= 2 { random.pick::<&[u8]>(&[b"a", b"b"]) } else { &[] };
        let cell = if random.below(3) == 0 {
            CellRef::tombstone(column, timestamp(random), *random.pick(&[30, 31]))
        } else {
            CellRef::live(column, timestamp(random), random.pick::<&[u8]>(&[b"", b"x", b"xy"]))
                .expiring(random_expiry(random))
        };
        row.push(&cell.at(path));
    }
    row.finish()
}

fn merge(rows: &[&Bytes]) -> Bytes {
    let rows: Vec<_> = rows.iter().map(|row| RowRef::parse(row).unwrap()).collect();
    merge_rows(&rows)
}

#[test]
fn merging_is_commutative_associative_and_idempotent() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let [a, b, c] = [(); 3].map(|()| random_row(&mut random));
        let (ab, bc) = (merge(&[&a, &b]), merge(&[&b, &c]));
        assert_eq!(ab, merge(&[&b, &a]), "seed {seed}");
        let all = merge(&[&a, &b, &c]);
        assert_eq!(merge(&[&ab, &c]), all, "seed {seed}");
        assert_eq!(merge(&[&a, &bc]), all, "seed {seed}");
        assert_eq!(merge(&[&c, &a, &b]), all, "seed {seed}");
        assert_eq!(merge(&[&ab, &ab]), ab, "seed {seed}");
        assert_eq!(merge(&[&ab]), ab, "seed {seed}");
    }
}

#[test]
fn a_purged_row_reads_as_before() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let row = merge(&[&random_row(&mut random), &random_row(&mut random)]);
        let limits = PurgeLimits {
            now_secs: NOW,
            gc_before_secs: *random.pick(&[0, 31, 100]),
            max_purgeable_timestamp: WriteTimestamp(*random.pick(&[0, 3, i64::MAX])),
        };
        let purged = purge(&RowRef::parse(&row).unwrap(), &limits);
        let read = |row: &Bytes| live(row.clone(), NOW).unwrap();
        assert_eq!(purged.as_ref().and_then(read), read(&row), "seed {seed}");
        if let Some(read) = read(&row) {
            let read = RowRef::parse(&read).unwrap();
            assert!(read.deletion().is_none() && read.cells().all(|cell| cell.is_live(NOW)));
        }
    }
}

/// What Apache Cassandra 5.0 answered for the same writes.
#[test]
fn ties_are_decided_as_in_cassandra() {
    let expiring = |ttl| Some(Expiry { ttl, expires_at: 1000 + ttl });
    let live = |value: &'static [u8], expiry| {
        CellRef::live(ColumnId(1), WriteTimestamp(100), value).expiring(expiry)
    };
    let dead = CellRef::tombstone(ColumnId(1), WriteTimestamp(100), 1000);
    let cases = [
        // winner, loser
        (live(&[0xff, 0xff, 0xff, 0xff], None), live(&[0, 0, 0, 1], None)),
        (live(b"ab", None), live(b"a", None)),
        (dead, live(b"a", None)),
        (live(b"a", expiring(1000)), live(b"z", None)),
        (live(b"a", expiring(2000)), live(b"z", expiring(1000))),
        (dead, live(b"a", expiring(5000))),
        (CellRef::live(ColumnId(1), WriteTimestamp(101), b""), dead),
    ];
    for (winner, loser) in cases {
        for (left, right) in [(winner, loser), (loser, winner)] {
            let [left, right] = [left, right].map(|cell| {
                let mut row = RowBuilder::new(None, None);
                row.push(&cell);
                row.finish()
            });
            let merged = merge(&[&left, &right]);
            let cells: Vec<_> = RowRef::parse(&merged).unwrap().cells().collect();
            assert_eq!(cells, [winner]);
        }
    }
}

#[test]
fn a_deletion_hides_what_is_as_old_as_it_and_nothing_newer() {
    let mut row = RowBuilder::new(None, None);
    row.push(&CellRef::live(ColumnId(1), WriteTimestamp(5), b"old"));
    row.push(&CellRef::live(ColumnId(2), WriteTimestamp(6), b"new"));
    let row = row.finish();
    let parsed = RowRef::parse(&row).unwrap();
    let kept = shadow(&parsed, deletion(5, 1)).unwrap();
    let columns: Vec<_> = RowRef::parse(&kept).unwrap().cells().map(|cell| cell.column.0).collect();
    assert_eq!(columns, [2]);
    assert_eq!(shadow(&parsed, deletion(6, 1)), None);
    let own = RowBuilder::new(None, Some(deletion(6, 1))).finish();
    assert_eq!(live(merge(&[&own, &row]), NOW), Ok(None));
}

#[test]
fn a_row_of_an_insert_is_there_without_cells_until_it_expires() {
    let liveness = |expiry| Some(Liveness { timestamp: WriteTimestamp(1), expiry });
    let plain = RowBuilder::new(liveness(None), None).finish();
    assert_eq!(live(plain.clone(), NOW), Ok(Some(plain)));
    let expiring = RowBuilder::new(liveness(Some(Expiry { ttl: 5, expires_at: NOW })), None);
    let expiring = expiring.finish();
    assert!(live(expiring.clone(), NOW - 1).unwrap().is_some());
    assert_eq!(live(expiring, NOW), Ok(None));
    assert_eq!(live(RowBuilder::new(None, None).finish(), NOW), Ok(None));
}

#[test]
fn cells_given_out_of_order_are_put_in_order() {
    let cell = |column, timestamp| CellRef::live(ColumnId(column), WriteTimestamp(timestamp), b"v");
    let mut row = RowBuilder::new(None, None);
    for cell in [cell(9, 1), cell(2, 1), cell(9, 3), cell(9, 2)] {
        row.push(&cell);
    }
    let row = row.finish();
    let cells: Vec<_> = RowRef::parse(&row).unwrap().cells().collect();
    assert_eq!(cells, [cell(2, 1), cell(9, 3)]);
}
