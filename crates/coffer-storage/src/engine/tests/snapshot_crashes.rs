//! Snapshots on disks that fail and machines that crash, at every operation on a file.

use super::snapshots::{C, dump, fill, request, restore, without_a};
use super::*;
use crate::SnapshotKind;
use crate::ids::SnapshotId;

type Rows = Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>;

/// What there is before the action.
struct Before {
    rows: Rows,
    snapshot: Option<SnapshotId>,
}

/// Every file of tables and snapshots is one that the catalog names.
fn assert_no_leftovers(house: &House, engine: &Engine, when: &str) {
    let catalog = engine.catalog();
    let data = house.directory.path().join("data");
    let mut named = Vec::new();
    let mut name =
        |directory: PathBuf, segments: &[crate::SegmentEntry], tails: &[crate::TailRecord]| {
            named.extend(segments.iter().map(|file| file.path(&directory)));
            named.extend(tails.iter().map(|file| file.path(&directory)));
        };
    for (id, entry) in &catalog.tables {
        name(data.join("tables").join(id.to_string()), &entry.segments, &entry.tails);
    }
    for snapshot in catalog.snapshots.values() {
        name(snapshot.directory(&data), &snapshot.segments, &snapshot.tails);
    }
    named.sort();
    let mut found = house.files("tables", "");
    found.extend(house.files("snapshots", ""));
    found.sort();
    assert_eq!(found, named, "{when}");
}

/// The snapshot is whole, and a table made of it has these rows.
fn assert_restorable(house: &House, engine: &Engine, id: SnapshotId, rows: &Rows, when: &str) {
    engine.verify_snapshot(id).unwrap_or_else(|error| panic!("{when}: {error}"));
    let source = engine.snapshot_source(id).unwrap();
    restore(house, engine, &source, C).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(dump(engine, C), *rows, "{when}");
    engine.drop_table(C).unwrap();
}

/// Has the disk fail at each operation of `act` in turn, crashes, starts again, and looks.
fn at_every_operation(
    prepare: impl Fn(&House, &Engine) -> Option<SnapshotId>,
    act: impl Fn(&House, &Engine, &Before) -> Result<()>,
    check: impl Fn(&House, &Engine, &Before, bool, &str),
) {
    for loss in [CrashLoss::Nothing, CrashLoss::Everything, CrashLoss::Random(7)] {
        for number in 1.. {
            let vfs = FaultVfs::new();
            let house = House::on(Arc::new(vfs.clone()));
            let engine = house.with_tables();
            fill(&house, &engine);
            let rows = dump(&engine, A);
            let before = Before { snapshot: prepare(&house, &engine), rows };
            let start = vfs.operations();
            vfs.fail_from(start + number, Fault::Error(std::io::ErrorKind::StorageFull));
            let is_done = act(&house, &engine, &before).is_ok();
            let used = vfs.operations() - start;
            vfs.fail_from(vfs.operations() + 1, Fault::Error(std::io::ErrorKind::Other));
            drop(engine);
            let loss = match loss {
                CrashLoss::Random(seed) => CrashLoss::Random(seed * 1000 + number),
                other => other,
            };
            vfs.crash(loss).unwrap();
            let when = format!("operation {number} of {used}, {loss:?}, done: {is_done}");
            let engine = house.open().unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_no_leftovers(&house, &engine, &when);
            check(&house, &engine, &before, is_done, &when);
            assert!(number < 400, "{when}");
            if is_done && used < number {
                break;
            }
        }
    }
}

fn assert_alive(engine: &Engine, rows: &Rows, when: &str) {
    engine.open_table(A).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(dump(engine, A), *rows, "{when}");
}

fn snapshot(engine: &Engine) -> Option<SnapshotId> {
    Some(engine.take_snapshot(A, &request(SnapshotKind::Manual)).unwrap().id)
}

#[test]
fn a_snapshot_is_there_whole_or_not_at_all() {
    at_every_operation(
        |_, engine| {
            // second names alone, and no file that is written
            engine.flush(A).unwrap();
            None
        },
        |_, engine, _| engine.take_snapshot(A, &request(SnapshotKind::Manual)).map(drop),
        |house, engine, before, is_done, when| {
            let found: Vec<_> = engine.catalog().snapshots.keys().copied().collect();
            assert!(found.len() == 1 || found.is_empty() && !is_done, "{when}");
            assert_alive(engine, &before.rows, when);
            for id in found {
                assert_restorable(house, engine, id, &before.rows, when);
            }
        },
    );
}

#[test]
fn a_table_is_there_or_its_verified_snapshot_is() {
    at_every_operation(
        |_, _| None,
        |house, engine, _| {
            house.keys.take_away(A.0);
            engine.forget_key(A);
            let keep = [(A, request(SnapshotKind::KeyLoss))];
            let dropped = engine.drop_tables_keeping(&keep, &mut without_a);
            house.keys.bring_back(A.0);
            dropped.map(drop)
        },
        |house, engine, before, is_done, when| {
            let catalog = engine.catalog();
            if catalog.tables.contains_key(&A) {
                assert!(!is_done && catalog.snapshots.is_empty(), "{when}");
                assert!(catalog.dropped.is_empty(), "{when}");
                return assert_alive(engine, &before.rows, when);
            }
            assert!(catalog.dropped.contains_key(&A), "{when}");
            let snapshot = catalog.snapshots.values().next().unwrap_or_else(|| panic!("{when}"));
            assert!(snapshot.verified_at_millis.is_some(), "{when}");
            assert_restorable(house, engine, snapshot.id, &before.rows, when);
        },
    );
}

#[test]
fn a_failed_verification_leaves_the_snapshot_as_it_was() {
    at_every_operation(
        |_, engine| snapshot(engine),
        |_, engine, before| engine.verify_snapshot(before.snapshot.unwrap()).map(drop),
        |house, engine, before, is_done, when| {
            let id = before.snapshot.unwrap();
            let verified = engine.catalog().snapshots[&id].verified_at_millis.is_some();
            assert!(verified || !is_done, "{when}");
            assert_restorable(house, engine, id, &before.rows, when);
            assert_alive(engine, &before.rows, when);
        },
    );
}

#[test]
fn an_erased_snapshot_takes_its_keys_with_it_or_stays_whole() {
    at_every_operation(
        |_, engine| {
            let id = snapshot(engine);
            engine.drop_table(A).unwrap();
            id
        },
        |_, engine, before| engine.erase_snapshot(before.snapshot.unwrap()).map(drop),
        |house, engine, before, is_done, when| {
            let catalog = engine.catalog();
            let id = before.snapshot.unwrap();
            if catalog.snapshots.contains_key(&id) {
                assert!(!is_done && catalog.dropped.contains_key(&A), "{when}");
                return assert_restorable(house, engine, id, &before.rows, when);
            }
            assert!(catalog.dropped.is_empty(), "{when}");
            assert!(house.files("snapshots", "").is_empty(), "{when}");
        },
    );
}

#[test]
fn a_restored_table_is_there_whole_or_not_at_all() {
    at_every_operation(
        |_, engine| snapshot(engine),
        |house, engine, before| {
            let source = engine.snapshot_source(before.snapshot.unwrap())?;
            restore(house, engine, &source, C)
        },
        |house, engine, before, is_done, when| {
            if engine.catalog().tables.contains_key(&C) {
                engine.open_table(C).unwrap_or_else(|error| panic!("{when}: {error}"));
                assert_eq!(dump(engine, C), before.rows, "{when}");
                engine.drop_table(C).unwrap();
            } else {
                assert!(!is_done, "{when}");
            }
            assert_alive(engine, &before.rows, when);
            assert_restorable(house, engine, before.snapshot.unwrap(), &before.rows, when);
        },
    );
}
