//! Tests of `memtable`.

use super::*;
use coffer_model::{EntryKey, Token};

fn key(token: i64, clustering: &[u8]) -> Vec<u8> {
    EntryKey { token: Token(token), partition_key: b"p", kind: EntryKind::Row, clustering }.to_vec()
}

fn filled(count: i64) -> Arc<Memtable> {
    let memtable = Arc::new(Memtable::new(Arc::default()));
    for token in 0..count {
        let place = (token - count / 2) * (i64::MAX / count);
        let row = coffer_model::RowBuilder::new(None, None).finish();
        memtable.insert(EntryKind::Row, &key(place, b"c"), row).unwrap();
    }
    memtable
}

fn walk(mut cursor: MemtableCursor) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    while let Some(key) = cursor.key() {
        keys.push(key.to_vec());
        cursor.advance().unwrap();
    }
    keys
}

#[test]
fn a_cursor_walks_all_shards_in_order_both_ways() {
    let memtable = filled(1000);
    let forward = walk(memtable.range(&[], &[], Direction::Forward));
    assert_eq!(forward.len(), 1000);
    assert!(forward.is_sorted());
    let mut backward = walk(memtable.range(&[], &[], Direction::Reversed));
    backward.reverse();
    assert_eq!(forward, backward);
}

#[test]
fn a_cursor_keeps_to_its_bounds() {
    let memtable = filled(1000);
    let all = walk(memtable.range(&[], &[], Direction::Forward));
    for direction in [Direction::Forward, Direction::Reversed] {
        let mut part = walk(memtable.range(&all[100], &all[900], direction));
        part.sort();
        assert_eq!(part, all[100..900]);
    }
    assert!(walk(memtable.range(&all[900], &all[100], Direction::Forward)).is_empty());
}

#[test]
fn memory_is_counted_and_given_back() {
    let memory = Arc::new(MemoryUse::default());
    let memtable = Memtable::new(Arc::clone(&memory));
    let row = coffer_model::RowBuilder::new(None, None).finish();
    memtable.insert(EntryKind::Row, &key(1, b"c"), row).unwrap();
    assert_eq!(memory.bytes(), memtable.bytes());
    assert!(memory.bytes() > 0);
    drop(memtable);
    assert_eq!(memory.bytes(), 0);
}
