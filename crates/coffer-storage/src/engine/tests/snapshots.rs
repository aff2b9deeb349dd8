//! Snapshots and what is made of them.

use super::*;
use crate::ids::SnapshotId;
use crate::{RestoreSource, SnapshotKind, SnapshotRequest};

const C: TableId = TableId([0xc3; 16]);

fn request(kind: SnapshotKind) -> SnapshotRequest {
    SnapshotRequest { kind, name: String::new(), keep_millis: None }
}

/// All rows of a table: partition, clustering, value.
fn dump(engine: &Engine, table: TableId) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let mut cursor = engine.scan(table, &ScanRange::all(), 1).unwrap();
    let (mut rows, mut partition) = (Vec::new(), Vec::new());
    while let Some(item) = cursor.next_item().unwrap() {
        match item {
            ScanItem::Partition { partition_key, .. } => partition = partition_key.to_vec(),
            ScanItem::Row(row) => {
                rows.push((partition.clone(), row.clustering.to_vec(), row.row.to_vec()));
            }
            ScanItem::Pause => {}
        }
    }
    rows
}

/// Makes a table of the source; its key opens what the source's key opens.
fn restore(house: &House, engine: &Engine, source: &RestoreSource, table: TableId) -> Result<()> {
    house.keys.adopt(source.table.0, table.0);
    let mut add = |old: &Catalog| {
        let mut new = old.clone();
        let schema =
            TableSchema { id: table, name: format!("t{table}"), ..(*source.schema).clone() };
        let entry = TableEntry::new(Arc::new(schema), Arc::clone(&source.key));
        new.tables.insert(table, Arc::new(entry));
        Ok(new)
    };
    engine.attach_table(source, table, &mut add)?;
    engine.open_table(table)
}

/// A table with segments, a tail file of an earlier loss of its key, and rows in the log alone.
fn fill(house: &House, engine: &Engine) {
    for number in 0..40 {
        write(engine, &[insert(A, number, b"c", &[1; 500])]).unwrap();
        if number % 10 == 9 {
            engine.flush(A).unwrap();
        }
    }
    write(engine, &[insert(A, 100, b"c", b"tail"), insert(B, 100, b"c", b"b")]).unwrap();
    house.keys.take_away(A.0);
    engine.forget_key(A);
    engine.core.set_aside(A).unwrap();
    house.keys.bring_back(A.0);
    engine.open_table(A).unwrap();
    write(engine, &[insert(A, 101, b"c", b"log")]).unwrap();
    assert_eq!(engine.catalog().tables[&A].tails.len(), 1);
}

fn snapshot_of(engine: &Engine) -> SnapshotId {
    engine.take_snapshot(A, &request(SnapshotKind::Manual)).unwrap().id
}

#[test]
fn a_restored_table_has_the_rows_of_the_snapshot_whatever_became_of_the_table() {
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let before = dump(&engine, A);
    let id = snapshot_of(&engine);
    engine.verify_snapshot(id).unwrap();
    assert!(engine.catalog().snapshots[&id].verified_at_millis.is_some());
    write(&engine, &[insert(A, 5, b"c", b"later"), insert(A, 200, b"c", b"later")]).unwrap();
    engine.compact(A).unwrap();
    engine.truncate(A).unwrap();
    assert!(dump(&engine, B).len() == 1);
    let source = engine.snapshot_source(id).unwrap();
    restore(&house, &engine, &source, C).unwrap();
    assert_eq!(dump(&engine, C), before);
    engine.flush(C).unwrap();
    engine.compact(C).unwrap();
    write(&engine, &[insert(C, 300, b"c", b"new")]).unwrap();
    drop(engine);
    let engine = house.open().unwrap();
    engine.open_table(C).unwrap();
    assert_eq!(dump(&engine, C).len(), before.len() + 1);
    engine.verify_snapshot(id).unwrap();
}
