//! Tests of `mutation`.

use super::*;
use crate::test_random::Random;
use crate::{CellRef, ColumnId, DeletionTime, Liveness, RangeTombstone, WriteTimestamp};

const TABLE: TableId = TableId([7; 16]);

fn sample() -> Mutation {
    let timestamp = WriteTimestamp(5);
    let mut row = RowBuilder::new(Some(Liveness { timestamp, expiry: None }), None);
    row.push(&CellRef::live(ColumnId(3), timestamp, b"abc"));
    row.push(&CellRef::live(ColumnId(300), WriteTimestamp(6), b"").at(b"path"));
    let mut static_row = RowBuilder::new(None, None);
    static_row.push(&CellRef::tombstone(ColumnId(1), timestamp, 99));
    let range = RangeTombstone {
        start: vec![1],
        end: vec![2],
        deletion: DeletionTime { marked_at: timestamp, local_deletion_time: 99 },
    };
    let mut builder = MutationBuilder::new(TABLE, b"key").unwrap();
    builder
        .tombstones(&PartitionTombstones::of_range(range))
        .static_row(static_row)
        .row(b"\x03\x80", row);
    builder.finish()
}

#[test]
fn a_decoded_mutation_is_the_one_encoded() {
    let mutation = sample();
    let decoded = Mutation::decode(TABLE, mutation.bytes().clone()).unwrap();
    assert_eq!(decoded, mutation);
    assert_eq!(decoded.partition_key(), b"key");
    assert_eq!(decoded.token(), Token::of(b"key"));
    let kinds: Vec<_> = decoded.entries().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Tombstones, EntryKind::StaticRow, EntryKind::Row]);
    let last = decoded.entries().last().unwrap();
    assert_eq!(last.clustering, b"\x03\x80");
    let row = RowRef::parse(last.row).unwrap();
    assert!(row.is_plain());
    let values: Vec<_> = row
        .cells()
        .map(|cell| (cell.column.0, cell.timestamp.0, cell.path, cell.value()))
        .collect();
    assert_eq!(values, [(3, 5, &b""[..], Some(&b"abc"[..])), (300, 6, b"path", Some(b""))]);
}

#[test]
fn cut_or_changed_mutations_never_panic() {
    let bytes = sample().bytes().to_vec();
    let mut refused = 0;
    for length in 0..bytes.len() {
        refused += usize::from(Mutation::decode(TABLE, bytes[..length].to_vec().into()).is_err());
    }
    assert!(refused > bytes.len() - 5, "{refused} of {}", bytes.len());
    let mut random = Random::new(3);
    for _ in 0..5000 {
        let mut changed = bytes.clone();
        let place = random.below(changed.len());
        changed[place] = random.next().to_le_bytes()[0];
        if let Ok(mutation) = Mutation::decode(TABLE, changed.into()) {
            assert!(mutation.entries().count() <= bytes.len());
        }
    }
}

#[test]
fn a_key_longer_than_its_length_field_is_refused() {
    assert!(MutationBuilder::new(TABLE, &[0; 65_535]).is_ok());
    assert!(matches!(
        MutationBuilder::new(TABLE, &[0; 65_536]),
        Err(Error::KeyTooLong { length: 65_536, .. })
    ));
}

#[test]
fn entry_keys_sort_by_token_then_key_then_kind_then_clustering() {
    let key = |token, partition_key, kind, clustering| {
        let key = crate::EntryKey { token: Token(token), partition_key, kind, clustering };
        let bytes = key.to_vec();
        assert_eq!(crate::EntryKey::decode(&bytes), Ok(key));
        let (prefix, suffix) = crate::entry_key::split(&bytes).unwrap();
        assert_eq!(prefix.len(), 10 + partition_key.len());
        assert_eq!(suffix.len(), 1 + clustering.len());
        bytes
    };
    let keys = [
        key(-5, b"z", EntryKind::Row, b"\x03\x01"),
        key(1, b"a", EntryKind::Tombstones, b""),
        key(1, b"a", EntryKind::StaticRow, b""),
        key(1, b"a", EntryKind::Row, b""),
        key(1, b"a", EntryKind::Row, b"\x03\x01"),
        key(1, b"b", EntryKind::Row, b""),
        key(2, b"a", EntryKind::Row, b""),
    ];
    assert!(keys.is_sorted());
}
