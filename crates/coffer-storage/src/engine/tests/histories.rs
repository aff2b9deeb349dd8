//! History beside truncations, clocks that are set back, and tables that hold the log.

use coffer_crypto::clock::ManualClock;

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
fn what_was_gathered_while_a_truncation_began_is_not_listed_after_it() {
    let (_house, _clock, engine) = with_history();
    let core = &engine.core;
    let is_refused = |kept: &_| {
        let base = request(SnapshotKind::Base);
        let listed = core.update(|old| {
            let mut new = old.clone();
            core.list_snapshot(old, &mut new, A, kept, &base)?;
            Ok(new)
        });
        assert!(matches!(listed, Err(Error::Overloaded(_))), "{listed:?}");
    };
    // the log goes on with another table after this one was closed
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    core.close_to_truncate(A).unwrap();
    write(&engine, &[inserted(B, 0, 0, 2, 20)]).unwrap();
    let kept = core.keep_files(A).unwrap();
    let key_loss = engine.take_snapshot(A, &request(SnapshotKind::KeyLoss)).unwrap();
    engine.verify_snapshot(key_loss.id).unwrap();
    assert!(!kept.tails.is_empty() && !key_loss.tails.is_empty());
    core.truncate_closed(A).unwrap();
    is_refused(&kept);
    let refused = engine.drop_table_kept_by(key_loss.id, 1, &mut without_a);
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    engine.open_table(A).unwrap();
    // of a table without rows, which then has some until it is truncated
    let kept = core.keep_files(A).unwrap();
    write(&engine, &[inserted(A, 0, 1, 3, 20)]).unwrap();
    engine.truncate(A).unwrap();
    is_refused(&kept);
}

/// Both tables, open; the history of A is kept.
fn with_history() -> (House, Arc<ManualClock>, Engine) {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    (house, clock, engine)
}

#[test]
fn the_newest_state_of_a_dropped_table_is_the_one_in_which_it_was_dropped() {
    for kind in [SnapshotKind::Truncate, SnapshotKind::Drop, SnapshotKind::KeyLoss] {
        for has_history in [true, false] {
            let (house, clock, engine) = with_history();
            if !has_history {
                engine.stop_archive(A).unwrap();
            }
            write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
            let before = engine.take_snapshot(A, &request(kind)).unwrap().id;
            clock.advance(SECOND);
            engine.truncate(A).unwrap();
            engine.open_table(A).unwrap();
            write(&engine, &[inserted(A, 0, 1, 2, 20)]).unwrap();
            let at = clock.now_millis();
            clock.advance(SECOND);
            engine.drop_table(A).unwrap();
            let dropped = Arc::clone(&engine.catalog().dropped[&A]);
            assert_eq!((dropped.last, dropped.is_key_loss), (None, false));
            for at in [None, Some(at)] {
                let found = rows_at(&house, &engine, A, at);
                if has_history {
                    let found: Vec<_> = found.unwrap().into_keys().collect();
                    assert_eq!(found, [(A, 0, 1)], "{kind:?} at {at:?}");
                    continue;
                }
                let is_none = matches!(found, Err(Error::NotRestorable { restorable: None, .. }));
                assert!(is_none, "{kind:?} at {at:?}: {found:?}");
            }
            assert_eq!(engine.restorable_millis(A).is_some(), has_history);
            restore(&house, &engine, &engine.snapshot_source(before).unwrap(), C).unwrap();
            assert_eq!(dump(&engine, C).len(), 1);
        }
    }
}

#[test]
fn the_snapshot_of_a_drop_is_noted_until_it_is_erased() {
    let (house, clock, engine) = with_history();
    engine.stop_archive(A).unwrap();
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    let earlier = engine.take_snapshot(A, &request(SnapshotKind::Manual)).unwrap().id;
    clock.advance(SECOND);
    write(&engine, &[inserted(A, 0, 1, 2, 20)]).unwrap();
    let keep = [(A, request(SnapshotKind::Drop))];
    engine.drop_tables_keeping(&keep, &mut without_a).unwrap();
    drop(engine);
    let engine = house.open().unwrap();
    let last = engine.catalog().dropped[&A].last.unwrap();
    assert_ne!(last, earlier);
    assert_eq!(rows_at(&house, &engine, A, None).unwrap().len(), 2);
    engine.erase_snapshot(last).unwrap();
    assert_eq!(engine.catalog().dropped[&A].last, None);
    let refused = engine.restore_source(A, None).unwrap_err();
    assert!(matches!(refused, Error::NotRestorable { restorable: None, .. }), "{refused}");
}

#[test]
fn a_source_that_is_erased_before_it_is_attached_does_not_come_back() {
    // erased before its files are linked, or after
    for is_linked in [false, true] {
        for from in ["snapshot", "history", "live"] {
            let (house, clock, engine) = with_history();
            write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
            let at = clock.now_millis();
            clock.advance(SECOND);
            let id = engine.take_snapshot(A, &request(SnapshotKind::Manual)).unwrap().id;
            let source = match from {
                "snapshot" => engine.snapshot_source(id).unwrap(),
                "history" => engine.restore_source(A, Some(at)).unwrap(),
                _ => engine.live_source(A).unwrap(),
            };
            let files = source.segments.iter().map(|(path, _)| path);
            let files = files.chain(source.tails.iter().map(|(path, _)| path));
            let bytes: Vec<_> = files.map(|path| (path, std::fs::read(path).unwrap())).collect();
            assert!(!bytes.is_empty());
            engine.drop_table(A).unwrap();
            engine.stop_archive(A).unwrap();
            let erased = engine.erase_snapshot(id).unwrap();
            assert_eq!(erased.destroyed_table_keys.len(), 1);
            if is_linked {
                for (path, bytes) in &bytes {
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, bytes).unwrap();
                }
            }
            let refused = restore(&house, &engine, &source, C).unwrap_err();
            let text = refused.to_string();
            assert!(matches!(refused, Error::Refused(_)), "{from} {is_linked}: {text}");
            assert!(text.contains("erased meanwhile"), "{from} {is_linked}: {text}");
            assert!(!engine.catalog().tables.contains_key(&C));
            assert!(house.files(&format!("tables/{C}"), "").is_empty());
        }
    }
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
