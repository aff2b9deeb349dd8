//! Merging of sources in memory. With segments and compaction: `compaction/job/tests.rs`.

use std::collections::BTreeMap;

use coffer_model::{
    CellRef, ColumnId, DeletionTime, EntryKey, Liveness, RangeTombstone, RowBuilder, Token,
    WriteTimestamp,
};

use super::*;

/// A sorted list as a source.
struct List {
    entries: Vec<(Vec<u8>, Bytes)>,
    place: usize,
}

impl EntrySource for List {
    fn key(&self) -> Option<&[u8]> {
        self.entries.get(self.place).map(|(key, _)| key.as_slice())
    }

    fn row(&self) -> &[u8] {
        self.entries.get(self.place).map(|(_, row)| row.as_ref()).unwrap_or_default()
    }

    fn shared_row(&self) -> Bytes {
        self.entries.get(self.place).map(|(_, row)| row.clone()).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<()> {
        self.place += 1;
        Ok(())
    }
}

fn source(mut entries: Vec<(Vec<u8>, Bytes)>, direction: Direction) -> Box<dyn EntrySource> {
    entries.sort();
    if direction == Direction::Reversed {
        entries.reverse();
    }
    Box::new(List { entries, place: 0 })
}

fn key(kind: EntryKind, clustering: &[u8]) -> Vec<u8> {
    let partition_key = b"p";
    EntryKey { token: Token::of(partition_key), partition_key, kind, clustering }.to_vec()
}

fn partition() -> Bytes {
    let key = key(EntryKind::Row, b"");
    Bytes::copy_from_slice(&key[..key.len() - 1])
}

fn row(timestamp: i64, value: &[u8]) -> Bytes {
    let timestamp = WriteTimestamp(timestamp);
    let mut row = RowBuilder::new(Some(Liveness { timestamp, expiry: None }), None);
    row.push(&CellRef::live(ColumnId(1), timestamp, value));
    row.finish()
}

fn deletion(timestamp: i64) -> DeletionTime {
    DeletionTime { marked_at: WriteTimestamp(timestamp), local_deletion_time: 10 }
}

fn range(start: &[u8], end: &[u8], timestamp: i64) -> Bytes {
    let range =
        RangeTombstone { start: start.to_vec(), end: end.to_vec(), deletion: deletion(timestamp) };
    PartitionTombstones::of_range(range).encode().into()
}

fn value_of(row: &[u8]) -> Vec<u8> {
    let row = RowRef::parse(row).expect("a row");
    row.cells().filter_map(|cell| cell.value()).flatten().copied().collect()
}

#[test]
fn many_sources_give_one_order_and_the_newest_row() {
    for direction in [Direction::Forward, Direction::Reversed] {
        let mut model: BTreeMap<Vec<u8>, (i64, Vec<u8>)> = BTreeMap::new();
        let mut sources = Vec::new();
        for number in 0..33_u32 {
            let mut entries = BTreeMap::new();
            for step in 0..50_u32 {
                let place = (number * 31 + step * step * 7) % 400;
                let timestamp = i64::from((number * 17) % 33);
                let value = format!("{number}").into_bytes();
                let key = key(EntryKind::Row, &place.to_be_bytes());
                entries.insert(key.clone(), row(timestamp, &value));
                let newest = model.entry(key).or_insert((-1, Vec::new()));
                if timestamp > newest.0 {
                    *newest = (timestamp, value);
                }
            }
            sources.push(source(entries.into_iter().collect(), direction));
        }
        sources.push(source(Vec::new(), direction));
        let mut merge = Merge::new(sources, direction);
        let mut merged = Vec::new();
        while merge.advance().expect("merges") {
            assert_eq!(merge.row(), merge.shared_row());
            merged.push((merge.key().to_vec(), value_of(merge.row())));
        }
        let mut expected: Vec<_> =
            model.into_iter().map(|(key, (_, value))| (key, value)).collect();
        if direction == Direction::Reversed {
            expected.reverse();
        }
        assert_eq!(merged, expected);
    }
}

fn live(
    sources: Vec<Vec<(Vec<u8>, Bytes)>>,
    direction: Direction,
    given: &[Bytes],
) -> Vec<Vec<u8>> {
    let sources = sources.into_iter().map(|entries| source(entries, direction)).collect();
    let tombstones = merge_tombstones(given).expect("tombstones");
    let mut rows =
        LiveRows::new(Merge::new(sources, direction), 100).with_tombstones(partition(), tombstones);
    let mut found = Vec::new();
    loop {
        match rows.advance().expect("reads") {
            Advance::Row => {
                assert_eq!(rows.row(), rows.shared_row());
                found.push(value_of(rows.row()));
            }
            Advance::Pause => {}
            Advance::End => return found,
        }
    }
}

#[test]
fn a_range_tombstone_of_one_source_hides_rows_of_another() {
    let rows = vec![
        (key(EntryKind::StaticRow, b""), row(5, b"static")),
        (key(EntryKind::Row, b"a"), row(5, b"a")),
        (key(EntryKind::Row, b"b"), row(5, b"b")),
        (key(EntryKind::Row, b"c"), row(9, b"c")),
        (key(EntryKind::Row, b"d"), row(5, b"d")),
    ];
    let tombstones = range(b"b", b"d", 7);
    let deletions = vec![(key(EntryKind::Tombstones, b""), tombstones.clone())];
    let forward = live(vec![rows.clone(), deletions.clone()], Direction::Forward, &[]);
    assert_eq!(forward, [&b"static"[..], b"a", b"c", b"d"]);
    let reversed = live(vec![rows, deletions], Direction::Reversed, &[tombstones]);
    assert_eq!(reversed, [&b"d"[..], b"c", b"a", b"static"]);
}

#[test]
fn a_partition_deletion_hides_the_static_row_too() {
    let rows = vec![
        (key(EntryKind::StaticRow, b""), row(5, b"static")),
        (key(EntryKind::Row, b"a"), row(5, b"a")),
        (key(EntryKind::Row, b"b"), row(8, b"b")),
    ];
    let tombstones: Bytes = PartitionTombstones::of_partition(deletion(7)).encode().into();
    assert_eq!(live(vec![rows], Direction::Forward, &[tombstones]), [b"b"]);
}

#[test]
fn a_point_is_reconciled_with_its_partitions_tombstones() {
    let versions = [row(3, b"old"), row(6, b"new")];
    let read = |versions: &[Bytes], tombstones: &[Bytes]| {
        merge_point(versions, tombstones, Some(b"c"), 100).expect("reads").map(|row| value_of(&row))
    };
    assert_eq!(read(&versions, &[]), Some(b"new".to_vec()));
    assert_eq!(read(&versions[..1], &[range(b"a", b"c", 9)]), Some(b"old".to_vec()));
    assert_eq!(read(&versions, &[range(b"a", b"d", 5)]), Some(b"new".to_vec()));
    assert_eq!(read(&versions, &[range(b"a", b"d", 5), range(b"c", b"cc", 6)]), None);
    assert_eq!(read(&[], &[]), None);
    assert!(merge_point(&[Bytes::from_static(b"\xff")], &[], None, 0).is_err());
}
