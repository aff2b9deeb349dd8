//! History beside truncations, clocks that are set back, and tables that hold the log.

use super::archives::*;
use super::crashes::*;
use super::snapshots::*;
use super::*;
use crate::SnapshotKind;

#[test]
fn what_was_gathered_before_a_truncation_is_not_listed_after_it() {
    let (house, _clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    let core = &engine.core;
    let listed = |table, kept: &_| {
        let base = request(SnapshotKind::Base);
        core.update(|old| {
            let mut new = old.clone();
            core.list_snapshot(old, &mut new, table, kept, &base)?;
            Ok(new)
        })
    };
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    engine.flush(A).unwrap();
    let kept = core.keep_files(A).unwrap();
    let key_loss = engine.take_snapshot(A, &request(SnapshotKind::KeyLoss)).unwrap().id;
    engine.verify_snapshot(key_loss).unwrap();
    engine.truncate(A).unwrap();
    engine.open_table(A).unwrap();
    assert!(matches!(listed(A, &kept), Err(Error::Overloaded(_))));
    // the log had nothing since
    let refused = engine.drop_table_kept_by(key_loss, 1, &mut without_a);
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    engine.open_table(A).unwrap();
    // nothing is as good as truncated, and what was restored has files from its begin
    listed(A, &core.keep_files(A).unwrap()).unwrap();
    restore(&house, &engine, &engine.snapshot_source(key_loss).unwrap(), C).unwrap();
    assert_eq!(engine.catalog().tables[&C].truncated_at, engine.core.log.durable());
    let kept = core.keep_files(C).unwrap();
    listed(C, &kept).unwrap();
    engine.truncate(C).unwrap();
    engine.open_table(C).unwrap();
    assert!(matches!(listed(C, &kept), Err(Error::Overloaded(_))));
}

#[test]
fn a_clock_that_is_set_back_hides_no_write() {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    engine.start_archive(A).unwrap();
    clock.advance(60 * SECOND);
    write(&engine, &[inserted(A, 0, 1, 2, 20)]).unwrap();
    clock.advance(-30 * SECOND);
    write(&engine, &[inserted(A, 0, 2, 3, 20)]).unwrap();
    let stamped = START + 60 * SECOND;
    for (at, rows) in [(stamped - 1, 1), (stamped, 3)] {
        assert_eq!(rows_at(&house, &engine, A, Some(at)).unwrap().len(), rows, "{at}");
    }
    // the start knows the times of the log
    drop(engine);
    let engine = house.open().unwrap();
    assert_eq!(engine.core.log.stamp_millis(), stamped);
    // a step that no clock makes by itself: what was written before is still the last state
    clock.advance(-20 * 60 * SECOND);
    assert!(engine.core.log.stamp_millis() < START);
    engine.drop_table(A).unwrap();
    assert_eq!(rows_at(&house, &engine, A, None).unwrap().len(), 3);
}

#[test]
fn log_that_another_table_holds_is_nothing_to_archive() {
    let (mut house, _clock) = house_on(Arc::new(OsVfs));
    house.options = EngineOptions {
        archive_lag_bytes: 0,
        log_file_bytes: 64 * 1024,
        ..EngineOptions::default()
    };
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    write(&engine, &[inserted(B, 0, 0, 1, 20)]).unwrap();
    let first = engine.core.log.file_number();
    let mut number = 0;
    while engine.core.log.file_number() <= first + 1 {
        let _full = write(&engine, &[insert(A, number, b"c", &[1; 6000])]);
        number += 1;
    }
    engine.flush(A).unwrap();
    engine.core.archive_log(A).unwrap();
    engine.core.free_log().unwrap();
    assert!(engine.core.log.index.lock().closed_bytes() > 0);
    assert!(!engine.core.is_archiving_due());
}
