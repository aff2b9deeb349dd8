//! Snapshots and what is made of them.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::ids::SnapshotId;
use crate::{RestoreSource, SnapshotKind, SnapshotRequest};

pub(super) const C: TableId = TableId([0xc3; 16]);

pub(super) fn request(kind: SnapshotKind) -> SnapshotRequest {
    SnapshotRequest { kind, name: String::new(), keep_millis: None }
}

/// Partition, clustering, row.
type Row = (Vec<u8>, Vec<u8>, Vec<u8>);

/// All rows of a table.
pub(super) fn dump(engine: &Engine, table: TableId) -> Vec<Row> {
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
pub(super) fn restore(
    house: &House,
    engine: &Engine,
    source: &RestoreSource,
    table: TableId,
) -> Result<()> {
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
pub(super) fn fill(house: &House, engine: &Engine) {
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

/// Removes A from the catalog.
pub(super) fn without_a(old: &Catalog) -> Result<Catalog> {
    let mut new = old.clone();
    new.tables.remove(&A).ok_or(Error::NoSuchTable(A))?;
    Ok(new)
}

#[test]
fn a_table_whose_key_is_away_is_dropped_with_its_snapshot_and_restored() {
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let before = dump(&engine, A);
    drop(engine);
    house.keys.take_away(A.0);
    let engine = house.open().unwrap();
    assert!(matches!(engine.open_table(A), Err(Error::KeyUnavailable(_))));
    let keep = [(A, request(SnapshotKind::KeyLoss))];
    let catalog = engine.drop_tables_keeping(&keep, &mut without_a).unwrap();
    assert!(!catalog.tables.contains_key(&A));
    assert!(catalog.dropped[&A].is_key_loss);
    assert!(house.files(&format!("tables/{A}"), "").is_empty());
    let snapshot = Arc::clone(catalog.snapshots.values().next().unwrap());
    assert!(snapshot.verified_at_millis.is_some());
    drop(engine);
    let engine = house.open().unwrap();
    engine.verify_snapshot(snapshot.id).unwrap();
    let source = engine.snapshot_source(snapshot.id).unwrap();
    assert_eq!((source.table, source.bytes()), (A, snapshot.bytes()));
    house.keys.bring_back(A.0);
    restore(&house, &engine, &source, C).unwrap();
    assert_eq!(dump(&engine, C), before);
    // an id of which something is kept is not used again
    assert!(matches!(create(&engine, A), Err(Error::Refused(_))));
}

#[test]
fn a_table_is_dropped_for_an_earlier_snapshot_only_if_that_is_verified_and_has_its_last_write() {
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let is_refused = |id| {
        let refused = engine.drop_table_kept_by(id, 1000, &mut without_a);
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        engine.open_table(A).unwrap();
    };
    let first = snapshot_of(&engine);
    is_refused(first);
    engine.verify_snapshot(first).unwrap();
    write(&engine, &[insert(A, 700, b"c", b"later")]).unwrap();
    is_refused(first);
    engine.flush(A).unwrap();
    is_refused(first);
    let before = dump(&engine, A);
    let second = snapshot_of(&engine);
    engine.verify_snapshot(second).unwrap();
    write(&engine, &[insert(B, 700, b"c", b"of another table")]).unwrap();
    engine.flush(B).unwrap();
    engine.compact(A).unwrap();
    let dropped_from = engine.age_millis();
    engine.drop_table_kept_by(second, 1000, &mut without_a).unwrap();
    assert!(!engine.catalog().tables.contains_key(&A));
    // its time begins with the drop
    let expires = engine.catalog().snapshots[&second].expires_at_age.unwrap();
    assert!((dropped_from + 1000..=engine.age_millis() + 1000).contains(&expires), "{expires}");
    let source = engine.snapshot_source(second).unwrap();
    restore(&house, &engine, &source, C).unwrap();
    assert_eq!(dump(&engine, C), before);
}

#[test]
fn one_changed_byte_in_any_file_of_a_dark_table_blocks_its_drop() {
    let changes: [fn(&mut Vec<u8>) -> bool; 3] = [
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            true
        },
        |bytes| bytes.pop().is_some(),
        |_| false,
    ];
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let before = dump(&engine, A);
    house.keys.take_away(A.0);
    engine.forget_key(A);
    let mut files = house.files(&format!("tables/{A}"), ".segment");
    files.extend(house.files(&format!("tables/{A}"), ".tail"));
    assert!(files.len() >= 3);
    for (file, change) in files.iter().flat_map(|file| changes.iter().map(move |c| (file, c))) {
        let whole = std::fs::read(file).unwrap();
        let mut changed = whole.clone();
        if change(&mut changed) {
            std::fs::write(file, changed).unwrap();
        } else {
            std::fs::remove_file(file).unwrap();
        }
        let keep = [(A, request(SnapshotKind::KeyLoss))];
        let refused = engine.drop_tables_keeping(&keep, &mut without_a).unwrap_err();
        let Error::Tampered { file: named, .. } = &refused else { panic!("{refused}") };
        assert_eq!(named.file_name(), file.file_name());
        let catalog = engine.catalog();
        assert!(catalog.tables.contains_key(&A) && catalog.snapshots.is_empty());
        assert!(house.files("snapshots", "").is_empty(), "{file:?}");
        std::fs::write(file, whole).unwrap();
    }
    house.keys.bring_back(A.0);
    engine.open_table(A).unwrap();
    assert_eq!(dump(&engine, A), before);
    let id = snapshot_of(&engine);
    // the snapshot's own files, with and without the key
    for file in house.files(&format!("snapshots/{id}"), "") {
        let whole = std::fs::read(&file).unwrap();
        for change in changes {
            let mut changed = whole.clone();
            std::fs::remove_file(&file).unwrap();
            if change(&mut changed) {
                std::fs::write(&file, changed).unwrap();
            }
            let refused = engine.verify_snapshot(id).unwrap_err();
            assert!(matches!(&refused, Error::Tampered { file: named, .. } if *named == file));
            std::fs::write(&file, &whole).unwrap();
        }
    }
    assert!(engine.catalog().snapshots[&id].verified_at_millis.is_none());
    engine.verify_snapshot(id).unwrap();
}

#[test]
fn a_drop_that_keeps_nothing_leaves_nothing_and_one_with_a_snapshot_leaves_the_keys() {
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let id = snapshot_of(&engine);
    engine.drop_table(B).unwrap();
    engine.drop_table(A).unwrap();
    let catalog = engine.catalog();
    assert_eq!(catalog.dropped.keys().collect::<Vec<_>>(), [&A]);
    assert!(!catalog.dropped[&A].is_key_loss);
    engine.verify_snapshot(id).unwrap();
    // a change of the layers above does not reach it
    let mut forget = |old: &Catalog| {
        let mut new = old.clone();
        new.snapshots.clear();
        new.dropped.clear();
        new.age = crate::Age::default();
        Ok(new)
    };
    engine.update_catalog(&mut forget).unwrap();
    assert!(engine.catalog().snapshots.contains_key(&id));
    let listed = house.files(&format!("snapshots/{id}"), "").len();
    let erased = engine.erase_snapshot(id).unwrap();
    assert_eq!(erased.unlinked.len(), listed);
    let key = catalog.dropped[&A].key.table_key_id;
    assert_eq!((erased.destroyed_table_keys, erased.left), (vec![key], vec![]));
    assert!(!erased.is_live && erased.remaining_snapshots.is_empty() && !erased.has_archive);
    let catalog = engine.catalog();
    assert!(catalog.dropped.is_empty() && catalog.snapshots.is_empty());
    assert!(house.files("snapshots", "").is_empty());
    assert!(matches!(engine.erase_snapshot(id), Err(Error::Refused(_))));
    assert!(matches!(engine.verify_snapshot(id), Err(Error::Refused(_))));
}

/// A swap: another table key, and the older ones that are in use under it.
pub(super) fn swap(house: &House, engine: &Engine) {
    let needed = engine.table_keys_in_use(A).unwrap();
    let before = house.keys.wrapping_key(&A.0).unwrap().0;
    let id = house.keys.renew(A.0);
    let older: std::collections::BTreeSet<_> = needed.into_iter().chain([before]).collect();
    set_key(engine, id, &older.into_iter().collect::<Vec<_>>()).unwrap();
    engine.renew_log_key(A);
}

fn set_key(engine: &Engine, id: TableKeyId, older: &[TableKeyId]) -> Result<()> {
    let mut set = |old: &Catalog| {
        let mut new = old.clone();
        let entry = Arc::make_mut(new.tables.get_mut(&A).unwrap());
        let mut key = KeyRecord { table_key_id: id, ..(*entry.key).clone() };
        key.older = older
            .iter()
            .map(|id| coffer_crypto::OlderTableKey { table_key_id: *id, wrapped: HexBytes(vec![]) })
            .collect();
        entry.key = Arc::new(key);
        Ok(new)
    };
    engine.update_catalog(&mut set).map(drop)
}

#[test]
fn older_table_keys_stay_as_long_as_a_snapshot_needs_them_and_go_with_it() {
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let first = house.keys.wrapping_key(&A.0).unwrap().0;
    let before = dump(&engine, A);
    let id = snapshot_of(&engine);
    swap(&house, &engine);
    write(&engine, &[insert(A, 900, b"c", b"second")]).unwrap();
    engine.flush(A).unwrap();
    engine.compact(A).unwrap();
    let record = || Arc::clone(&engine.catalog().tables[&A].key);
    assert!(record().holds(first));
    assert!(engine.catalog().tables[&A].segments.iter().all(|live| live.table_key != first));
    assert!(engine.table_keys_in_use(A).unwrap().contains(&first));
    // a record that was made before the snapshot was known
    let refused = set_key(&engine, record().table_key_id, &[]);
    assert!(matches!(refused, Err(Error::Overloaded(_))));
    let source = engine.snapshot_source(id).unwrap();
    assert!(source.key.holds(first) && source.table_keys().contains(&first));
    restore(&house, &engine, &source, C).unwrap();
    assert_eq!(dump(&engine, C), before);
    let second = snapshot_of(&engine);
    let erased = engine.erase_snapshot(id).unwrap();
    // the table that was restored has it among its own
    let restored = &engine.catalog().tables[&C];
    assert!(restored.key.holds(first) && erased.destroyed_table_keys.is_empty());
    let name = format!("{}.{}", restored.schema.keyspace, restored.schema.name);
    assert_eq!(erased.still_held, [(first, name)]);
    assert_eq!((erased.is_live, erased.remaining_snapshots), (true, vec![second]));
    assert!(!record().holds(first));
    engine.drop_table(A).unwrap();
    assert!(engine.catalog().dropped[&A].key.older.is_empty());
    // what was restored lives on without the snapshot
    assert_eq!(dump(&engine, C), before);
}

#[test]
fn a_dropped_table_keeps_only_the_keys_that_its_snapshots_need() {
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let first = house.keys.wrapping_key(&A.0).unwrap().0;
    let old = snapshot_of(&engine);
    swap(&house, &engine);
    let second = house.keys.wrapping_key(&A.0).unwrap().0;
    write(&engine, &[insert(A, 900, b"c", b"second")]).unwrap();
    engine.flush(A).unwrap();
    engine.compact(A).unwrap();
    let keep = [(A, request(SnapshotKind::Drop))];
    engine.drop_tables_keeping(&keep, &mut without_a).unwrap();
    let dropped = || Arc::clone(&engine.catalog().dropped[&A].key);
    assert!(dropped().holds(first) && dropped().table_key_id == second);
    let other = KeyRecord { table_key_id: first, ..(*dropped()).clone() };
    assert!(!engine.rewrap_dropped_key(A, &other).unwrap());
    let rewrapped = KeyRecord { blob: HexBytes(vec![9]), ..(*dropped()).clone() };
    assert!(engine.rewrap_dropped_key(A, &rewrapped).unwrap());
    assert_eq!(dropped().blob, HexBytes(vec![9]));
    assert_eq!(engine.erase_snapshot(old).unwrap().destroyed_table_keys, [first]);
    assert!(!dropped().holds(first));
    let last = *engine.catalog().snapshots.keys().next().unwrap();
    let version = engine.catalog().version;
    let mut told = Vec::new();
    let erased = engine.erase_snapshot_with(last, &mut |new, erased| {
        Arc::make_mut(&mut new.properties).insert("told".into(), String::new());
        told.push(erased.clone());
    });
    let erased = erased.unwrap();
    assert_eq!(erased.destroyed_table_keys, [second]);
    assert!(erased.left.is_empty() && !erased.unlinked.is_empty());
    assert_eq!(told, [erased]);
    let catalog = engine.catalog();
    assert!(catalog.version == version + 1 && catalog.properties.contains_key("told"));
}

#[test]
fn a_snapshot_expires_when_the_directory_has_lived_so_long() {
    let house = House::new();
    let clock = ManualClock::at(1_700_000_000_000);
    let engine = house.open_at(&clock);
    create(&engine, A).unwrap();
    let kept = SnapshotRequest { keep_millis: Some(1000), ..request(SnapshotKind::Drop) };
    let id = engine.take_snapshot(A, &kept).unwrap().id;
    snapshot_of(&engine);
    clock.advance(999);
    assert!(engine.expired_snapshots().is_empty());
    clock.advance(1);
    assert_eq!(engine.expired_snapshots(), [id]);
}

#[test]
fn a_snapshot_beside_writers_flushes_and_compactions_has_all_that_was_acknowledged_before() {
    let mut house = House::new();
    house.options.memtable_flush_bytes = 16 * 1024;
    let engine = house.with_tables();
    let acknowledged = std::sync::atomic::AtomicU32::new(0);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !is_done.load(Ordering::Acquire) {
                match write(&engine, &[insert(A, number, b"c", &[1; 300])]) {
                    Ok(()) => {
                        number += 1;
                        acknowledged.store(number, Ordering::Release);
                    }
                    Err(Error::Overloaded(_)) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                engine.flush(A).unwrap();
                engine.compact(A).unwrap();
            }
        });
        for round in 0..12_u8 {
            let before = acknowledged.load(Ordering::Acquire);
            let id = snapshot_of(&engine);
            let after = engine.committed().0;
            engine.verify_snapshot(id).unwrap();
            let source = engine.snapshot_source(id).unwrap();
            let table = TableId([round + 1; 16]);
            restore(&house, &engine, &source, table).unwrap();
            let rows = u32::try_from(rows_of(&engine, table)).unwrap();
            assert!(rows >= before && u64::from(rows) <= after, "{before} {rows} {after}");
            for number in 0..rows {
                assert!(
                    read(&engine, table, number, b"c").unwrap().is_some(),
                    "{number} of {rows}"
                );
            }
        }
        is_done.store(true, Ordering::Release);
    });
}

#[test]
fn a_snapshot_beside_a_table_that_closes_and_opens_has_all_that_was_acknowledged_before() {
    let mut house = House::new();
    house.options.memtable_flush_bytes = 4 * 1024;
    let engine = house.with_tables();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                engine.forget_key(A);
                // replays what is in the log, and flushes on the way
                engine.open_table(A).unwrap();
            }
        });
        let mut acknowledged = 0;
        for round in 0..8_u8 {
            let until = acknowledged + 60;
            while acknowledged < until {
                match write(&engine, &[insert(A, acknowledged, b"c", &[1; 300])]) {
                    Ok(()) => acknowledged += 1,
                    Err(Error::TableNotOpen(_) | Error::Overloaded(_)) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            let source = engine.snapshot_source(snapshot_of(&engine)).unwrap();
            let table = TableId([round + 1; 16]);
            restore(&house, &engine, &source, table).unwrap();
            assert_eq!(rows_of(&engine, table), acknowledged as usize);
        }
        is_done.store(true, Ordering::Release);
    });
}

#[test]
fn the_files_of_a_live_table_are_held_until_they_are_attached() {
    let house = House::new();
    let engine = house.with_tables();
    fill(&house, &engine);
    let before = dump(&engine, A);
    let source = engine.live_source(A).unwrap();
    engine.truncate(A).unwrap();
    restore(&house, &engine, &source, C).unwrap();
    assert_eq!(dump(&engine, C), before);
    assert!(!house.files("snapshots", "").is_empty());
    drop(source);
    assert!(house.files("snapshots", "").is_empty() && engine.catalog().snapshots.is_empty());
    assert_eq!(dump(&engine, C), before);
}
