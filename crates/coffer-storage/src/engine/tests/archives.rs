//! Point-in-time recovery against models: what a table was at any moment.

use std::sync::atomic::{AtomicBool, AtomicU64};

use coffer_crypto::clock::ManualClock;

use super::crashes::{Action, Random, Rows, inserted, options, perform, reopened, seeds};
use super::snapshots::{C, restore, swap};
use super::*;

pub(super) const SECOND: i64 = 1000;
const DAY: i64 = 24 * 60 * 60 * SECOND;
/// When the tests begin.
pub(super) const START: i64 = 1_700_000_000_000;

/// A house whose clock stands still, and its clock.
pub(super) fn house_on(vfs: Arc<dyn Vfs>) -> (House, Arc<ManualClock>) {
    let clock = ManualClock::at(START);
    let mut house = House::on(vfs);
    house.clock = clock.clone();
    house.options = EngineOptions { archive_lag_bytes: 0, ..options() };
    (house, clock)
}

/// The rows of a table as it was at a moment, as those of the source.
pub(super) fn rows_at(
    house: &House,
    engine: &Engine,
    table: TableId,
    at: Option<i64>,
) -> Result<Rows> {
    let source = engine.restore_source(table, at)?;
    restore(house, engine, &source, C)?;
    let mut rows = Rows::new();
    let mut cursor = engine.scan(C, &ScanRange::all(), 1)?;
    let mut partition = 0;
    while let Some(item) = cursor.next_item()? {
        match item {
            ScanItem::Partition { partition_key, .. } => {
                partition = u32::from_be_bytes(partition_key.as_ref().try_into().unwrap());
            }
            ScanItem::Row(row) => {
                rows.insert((table, partition, row.clustering[0]), value_of(&row.row));
            }
            ScanItem::Pause => {}
        }
    }
    drop(cursor);
    engine.drop_table(C)?;
    Ok(rows)
}

pub(super) fn of_table(rows: &Rows, table: TableId) -> Rows {
    rows.iter().filter(|((of, _, _), _)| *of == table).map(|(k, v)| (*k, v.clone())).collect()
}

/// The state at a moment of a history: of the last change at or before it.
pub(super) fn state_at(history: &[(i64, Rows)], at: i64) -> &Rows {
    &history.iter().rev().find(|(time, _)| *time <= at).unwrap().1
}

#[test]
fn each_second_of_ten_overwrites_is_restored() {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    engine.start_archive(A).unwrap();
    for second in 0..10 {
        write(&engine, &[inserted(A, 0, 0, second + 1, 20)]).unwrap();
        match second {
            2 | 5 => engine.flush(A).unwrap(),
            7 => engine.core.archive_log(A).unwrap(),
            _ => {}
        }
        clock.advance(SECOND);
    }
    engine.compact(A).unwrap();
    for second in 0..10 {
        for millis in [0, 1, 999] {
            let at = START + second * SECOND + millis;
            let rows = rows_at(&house, &engine, A, Some(at)).unwrap();
            assert_eq!(rows[&(A, 0, 0)][..8], (second + 1).to_be_bytes(), "second {second}");
        }
    }
    assert_eq!(engine.restorable_millis(A), Some((START, START + 10 * SECOND)));
    for at in [START - 1, START + 10 * SECOND + 1] {
        let refused = engine.restore_source(A, Some(at)).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, Error::NotRestorable { table: A, .. }), "{text}");
        assert!(text.contains(&START.to_string()), "{text}");
    }
    let refused = engine.restore_source(B, Some(START)).unwrap_err();
    assert!(matches!(refused, Error::NotRestorable { restorable: None, .. }), "{refused}");
    assert!(matches!(engine.restore_source(C, Some(START)), Err(Error::NoSuchTable(C))));
}

#[test]
fn a_schema_is_restored_as_it_was_and_a_truncated_table_before_and_after() {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    clock.advance(SECOND);
    let mut alter = |old: &Catalog| {
        let mut new = old.clone();
        let entry = Arc::make_mut(new.tables.get_mut(&A).unwrap());
        Arc::make_mut(&mut entry.schema).options.comment = "altered".into();
        Ok(new)
    };
    engine.update_catalog(&mut alter).unwrap();
    write(&engine, &[inserted(A, 0, 1, 2, 20)]).unwrap();
    clock.advance(SECOND);
    engine.truncate(A).unwrap();
    clock.advance(SECOND);
    engine.open_table(A).unwrap();
    write(&engine, &[inserted(A, 0, 2, 3, 20)]).unwrap();
    for (second, comment, rows) in
        [(0, "", 1), (1, "altered", 2), (2, "altered", 0), (3, "altered", 1)]
    {
        let at = START + second * SECOND;
        let source = engine.restore_source(A, Some(at)).unwrap();
        assert_eq!(source.schema.options.comment, comment, "second {second}");
        assert_eq!(rows_at(&house, &engine, A, Some(at)).unwrap().len(), rows, "second {second}");
    }
}

#[test]
fn the_log_is_freed_when_it_is_archived_and_not_before() {
    let (mut house, _clock) = house_on(Arc::new(OsVfs));
    house.options.archive_lag_bytes = u64::MAX;
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    let oldest = || engine.core.log.index.lock().oldest().unwrap();
    let first = oldest();
    for number in 0..30 {
        let row = [insert(A, number, b"c", &[1; 6000])];
        while let Err(error) = write(&engine, &row) {
            assert!(matches!(error, Error::Overloaded(_)), "{error}");
            std::thread::yield_now();
        }
    }
    engine.flush(A).unwrap();
    engine.core.free_log().unwrap();
    // it is a limit of all the log that makes it archived before its lag
    assert!(oldest() == first || engine.archive_statistics(A).unwrap().log_files > 0);
    engine.core.archive_log(A).unwrap();
    engine.core.free_log().unwrap();
    assert!(oldest() > first);
    let statistics = engine.archive_statistics(A).unwrap();
    assert!(statistics.log_bytes > 30 * 6000, "{statistics:?}");
    assert_eq!(statistics.bases, 1);
    assert_eq!(house.files("archive", ".tail").len() as u64, statistics.log_files);
    let erased = engine.stop_archive(A).unwrap();
    assert_eq!(erased.unlinked.len() as u64, statistics.log_files);
    assert!(house.files("archive", "").is_empty() && house.files("snapshots", "").is_empty());
    assert_eq!(engine.archive_statistics(A), None);
    assert!(matches!(
        engine.restore_source(A, Some(START)),
        Err(Error::NotRestorable { restorable: None, .. })
    ));
}

#[test]
fn history_older_than_the_window_goes_and_a_dropped_table_keeps_its_own_that_long() {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    for day in 0..10_u8 {
        write(&engine, &[inserted(A, 0, day, i64::from(day) + 1, 20)]).unwrap();
        clock.advance(DAY);
        engine.keep_up_archives(3 * DAY).unwrap();
    }
    let statistics = engine.archive_statistics(A).unwrap();
    let earliest = statistics.earliest_restorable_millis.unwrap();
    // what the window needs is there, and nothing that is a day older than that
    assert!(earliest <= START + 7 * DAY && earliest > START + 5 * DAY, "{earliest}");
    assert!(statistics.bases <= 5, "{statistics:?}");
    for day in 7..10 {
        let rows = rows_at(&house, &engine, A, Some(START + day * DAY)).unwrap();
        assert_eq!(rows.len() as i64, day + 1);
    }
    assert!(engine.restore_source(A, Some(earliest - 1)).is_err());
    // nobody erases one of its bases
    let base = *engine.catalog().snapshots.keys().next().unwrap();
    assert!(matches!(engine.erase_snapshot(base), Err(Error::Refused(_))));
    write(&engine, &[inserted(A, 1, 0, 20, 20)]).unwrap();
    let dropped_at = clock.now_millis();
    engine.drop_table(A).unwrap();
    engine.keep_up_archives(3 * DAY).unwrap();
    assert_eq!(engine.restorable_millis(A).unwrap().1, dropped_at);
    clock.advance(2 * DAY);
    engine.keep_up_archives(3 * DAY).unwrap();
    for at in [None, Some(dropped_at)] {
        assert_eq!(rows_at(&house, &engine, A, at).unwrap().len(), 11);
    }
    assert!(engine.restore_source(A, Some(dropped_at + 1)).is_err());
    clock.advance(DAY);
    let key = engine.catalog().dropped[&A].key.table_key_id;
    let mut told = Vec::new();
    let note = &mut |new: &mut Catalog, erased: &Erased| {
        assert!(!new.dropped.contains_key(&A));
        told.push(erased.clone());
    };
    let (erased, done) = engine.keep_up_archives_with(3 * DAY, note);
    done.unwrap();
    assert!(matches!(&*erased, [last] if last.was_archive_erased && last.left.is_empty()));
    assert_eq!((&erased, &erased[0].destroyed_table_keys), (&told, &vec![key]));
    let catalog = engine.catalog();
    assert!(catalog.archives.is_empty() && catalog.dropped.is_empty());
    assert!(catalog.snapshots.is_empty());
    assert!(house.files("archive", "").is_empty() && house.files("snapshots", "").is_empty());
    assert!(matches!(engine.restore_source(A, None), Err(Error::NoSuchTable(A))));
}

#[test]
fn history_is_kept_while_the_key_is_away() {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    house.keys.take_away(A.0);
    engine.forget_key(A);
    engine.start_archive(A).unwrap();
    house.keys.bring_back(A.0);
    engine.open_table(A).unwrap();
    clock.advance(SECOND);
    write(&engine, &[inserted(A, 0, 1, 2, 20)]).unwrap();
    clock.advance(SECOND);
    house.keys.take_away(A.0);
    engine.forget_key(A);
    engine.core.set_aside(A).unwrap();
    engine.core.archive_log(A).unwrap();
    clock.advance(DAY);
    engine.keep_up_archives(10 * DAY).unwrap();
    engine.leave_previous_root_key().unwrap();
    engine.drop_table(A).unwrap();
    for (at, rows) in [(START, 1), (START + SECOND, 2), (START + DAY, 2)] {
        let source = engine.restore_source(A, Some(at)).unwrap();
        house.keys.bring_back(A.0);
        assert_eq!(rows_at(&house, &engine, A, Some(at)).unwrap().len(), rows);
        house.keys.take_away(A.0);
        assert_eq!(source.as_of_millis, at);
    }
}

#[test]
fn older_table_keys_stay_as_long_as_history_needs_them_and_go_with_it() {
    let (mut house, clock) = house_on(Arc::new(OsVfs));
    // nothing is archived but on demand
    house.options = EngineOptions { log_file_bytes: 64 * 1024, ..EngineOptions::default() };
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    engine.flush(A).unwrap();
    clock.advance(SECOND);
    let first = house.keys.wrapping_key(&A.0).unwrap().0;
    swap(&house, &engine);
    write(&engine, &[inserted(A, 0, 0, 2, 20)]).unwrap();
    engine.flush(A).unwrap();
    engine.compact(A).unwrap();
    let record = || Arc::clone(engine.catalog().key_record(A).unwrap());
    // only the log needs it, and nothing of the log is archived
    assert!(engine.catalog().tables[&A].segments.iter().all(|live| live.table_key != first));
    assert_eq!(engine.archive_statistics(A).unwrap().log_files, 0);
    assert!(record().holds(first));
    engine.drop_table(A).unwrap();
    assert!(record().holds(first));
    let value = |at| {
        let rows = rows_at(&house, &engine, A, Some(at)).unwrap();
        i64::from_be_bytes(rows[&(A, 0, 0)][..8].try_into().unwrap())
    };
    assert_eq!((value(START), value(START + SECOND)), (1, 2));
    assert_eq!(engine.archive_statistics(A).unwrap().log_files, 1);
    assert!(record().holds(first));
    let second = record().table_key_id;
    let erased = engine.stop_archive(A).unwrap();
    assert_eq!(erased.destroyed_table_keys, [second, first]);
    assert!(!erased.is_live && !erased.has_archive && erased.remaining_snapshots.is_empty());
    assert!(engine.catalog().key_record(A).is_none());
}

#[test]
fn history_that_is_forgotten_takes_the_older_keys_of_a_live_table_along() {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    write(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
    engine.flush(A).unwrap();
    clock.advance(DAY);
    engine.keep_up_archives(100 * DAY).unwrap();
    let first = house.keys.wrapping_key(&A.0).unwrap().0;
    swap(&house, &engine);
    engine.rewrite_segments_before(A, i64::MAX).unwrap();
    assert!(engine.catalog().tables[&A].key.holds(first));
    let statistics = engine.archive_statistics(A).unwrap();
    assert_eq!((statistics.bases, statistics.log_files), (2, 1));
    // the second base is older than the window, and needs the key as well
    clock.advance(DAY);
    engine.keep_up_archives(DAY / 2).unwrap();
    let statistics = engine.archive_statistics(A).unwrap();
    assert_eq!((statistics.bases, statistics.log_files), (1, 0));
    assert!(engine.catalog().tables[&A].key.holds(first));
    // the log goes on under the other key
    write(&engine, &[inserted(A, 0, 1, 2, 20)]).unwrap();
    assert_eq!(engine.stop_archive(A).unwrap().destroyed_table_keys, [first]);
    assert!(!engine.catalog().tables[&A].key.holds(first));
    engine.start_archive(A).unwrap();
    assert_eq!(engine.restorable_millis(A).unwrap().0, START + 2 * DAY);
    assert!(engine.restore_source(A, Some(START + DAY)).is_err());
}

#[test]
fn a_restored_table_has_a_history_of_its_own() {
    const D: TableId = TableId([0xd4; 16]);
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    for time in 1..4 {
        write(&engine, &[inserted(A, 0, 0, time, 20)]).unwrap();
        clock.advance(SECOND);
    }
    // the tail has records of a later time, which must not come back
    let source = engine.restore_source(A, Some(START + SECOND)).unwrap();
    assert!(source.tails.iter().any(|(_, tail)| tail.read_until_millis.is_some()));
    restore(&house, &engine, &source, D).unwrap();
    engine.start_archive(D).unwrap();
    engine.verify_snapshot(engine.catalog().archives[&D].bases[0].snapshot).unwrap();
    clock.advance(SECOND);
    write(&engine, &[inserted(D, 0, 1, 10, 20)]).unwrap();
    let restored = clock.now_millis();
    for (at, rows) in [(restored - SECOND, 1), (restored, 2)] {
        let found = rows_at(&house, &engine, D, Some(at)).unwrap();
        assert_eq!(found.len(), rows);
        assert_eq!(found[&(D, 0, 0)][..8], 2_i64.to_be_bytes());
    }
    drop(engine);
    let engine = house.open().unwrap();
    engine.open_table(D).unwrap();
    engine.flush(D).unwrap();
    assert_eq!(rows_of(&engine, D), 2);
}

const WRITERS: usize = 3;

/// The numbers of the rows of each writer, which are in the partition key with the writer's.
fn written_by(engine: &Engine, table: TableId) -> [Vec<u64>; WRITERS] {
    let mut found = [const { Vec::new() }; WRITERS];
    let mut cursor = engine.scan(table, &ScanRange::all(), 1).unwrap();
    while let Some(item) = cursor.next_item().unwrap() {
        if let ScanItem::Partition { partition_key, .. } = item {
            let place = u32::from_be_bytes(partition_key.as_ref().try_into().unwrap());
            found[usize::try_from(place >> 24).unwrap()].push(u64::from(place & 0xff_ffff));
        }
    }
    found.iter_mut().for_each(|rows| rows.sort_unstable());
    found
}

#[test]
fn beside_writers_flushes_and_new_bases_no_write_is_on_the_wrong_side_of_a_moment() {
    let mut house = House::new();
    house.options = EngineOptions { archive_lag_bytes: 0, ..options() };
    let engine = house.with_tables();
    let clock = Arc::clone(&house.clock);
    let started: [AtomicU64; WRITERS] = Default::default();
    let acknowledged: [AtomicU64; WRITERS] = Default::default();
    let counts = |of: &[AtomicU64; WRITERS]| of.each_ref().map(|n| n.load(Ordering::SeqCst));
    let stopped = AtomicBool::new(false);
    let mut moments = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (engine, stopped) = (&engine, &stopped);
            let (started, acknowledged) = (&started[writer], &acknowledged[writer]);
            scope.spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    let number = u32::try_from(started.fetch_add(1, Ordering::SeqCst)).unwrap();
                    let place = u32::try_from(writer).unwrap() << 24 | number;
                    let row = [insert(A, place, b"c", &[7; 300])];
                    while let Err(error) = write(engine, &row) {
                        assert!(matches!(error, Error::Overloaded(_)), "{error}");
                        std::thread::yield_now();
                    }
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let written = || counts(&acknowledged).iter().sum::<u64>();
        for round in 0..12_u64 {
            while written() < 40 * (round + 1) {
                std::thread::yield_now();
            }
            match round % 4 {
                0 => {
                    engine.start_archive(A).unwrap();
                    let _archives = engine.core.archives.lock();
                    engine.core.archive_pending(A).unwrap();
                    engine.core.take_base(A).unwrap();
                }
                1 => engine.flush(A).unwrap(),
                2 => engine.core.archive_log(A).unwrap(),
                _ => engine.compact(A).unwrap(),
            }
            let before = counts(&acknowledged);
            let at = clock.now_millis();
            while clock.now_millis() == at {
                std::thread::yield_now();
            }
            moments.push((before, at, counts(&started)));
        }
        stopped.store(true, Ordering::SeqCst);
    });
    for (before, at, after) in moments {
        let source = engine.restore_source(A, Some(at)).unwrap();
        restore(&house, &engine, &source, C).unwrap();
        for (writer, rows) in written_by(&engine, C).iter().enumerate() {
            let count = rows.len() as u64;
            assert!(rows.iter().copied().eq(0..count), "a gap in {rows:?}");
            assert!(
                (before[writer]..=after[writer]).contains(&count),
                "{count} of {writer} at {at}"
            );
        }
        engine.drop_table(C).unwrap();
    }
}

#[test]
fn a_changed_file_of_an_archive_is_named_and_gives_no_rows() {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let engine = house.with_tables();
    engine.start_archive(A).unwrap();
    for time in 1..5 {
        write(&engine, &[inserted(A, 0, 0, time, 20)]).unwrap();
        clock.advance(SECOND);
    }
    engine.core.archive_log(A).unwrap();
    let path = house.files("archive", ".tail").remove(0);
    let whole = std::fs::read(&path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let refused = |what: &str| {
        let refused = rows_at(&house, &engine, A, Some(START + 2 * SECOND)).unwrap_err();
        assert!(matches!(refused, Error::Tampered { .. }), "{what}: {refused}");
        assert!(refused.to_string().contains(&name), "{what}: {refused}");
        engine.drop_table(C).unwrap();
    };
    for place in (0..whole.len()).step_by(29) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        refused(&format!("bit at {place}"));
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    refused("cut");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(rows_at(&house, &engine, A, Some(START + 2 * SECOND)).unwrap().len(), 1);
    std::fs::remove_file(&path).unwrap();
    let missing = rows_at(&house, &engine, A, Some(START)).unwrap_err();
    assert!(missing.to_string().contains(&name), "{missing}");
}

/// Performs random actions on two tables whose history is kept, and restores them to random moments.
fn run_against_model(seed: u64) {
    let (house, clock) = house_on(Arc::new(OsVfs));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut engine = Some(reopened(&house).unwrap());
    let mut rows = Rows::new();
    let mut history = vec![(START, rows.clone())];
    for table in [A, B] {
        engine.as_ref().unwrap().start_archive(table).unwrap();
    }
    for time in 1..70 {
        let action = Action::choose(&mut random);
        if matches!(action, Action::DropAndCreate(_)) {
            clock.advance(DAY);
            engine.as_ref().unwrap().keep_up_archives(4 * DAY).unwrap();
            continue;
        }
        let step = i64::try_from(random.below(3)).unwrap() * SECOND;
        // a truncation in the millisecond of a write counts as after it or before it
        clock.advance(if matches!(action, Action::Truncate(_)) { SECOND } else { step });
        perform(&house, &mut engine, action, time).unwrap();
        action.apply(&mut rows, time);
        history.push((clock.now_millis(), rows.clone()));
        clock.advance(if matches!(action, Action::Truncate(_)) { SECOND } else { 0 });
        if random.below(6) == 0 {
            engine.as_ref().unwrap().core.archive_log(A).unwrap();
        }
    }
    let engine = engine.unwrap();
    let now = clock.now_millis();
    for table in [A, B] {
        if random.below(2) == 0 {
            engine.drop_table(table).unwrap();
        }
        let (earliest, latest) = engine.restorable_millis(table).unwrap();
        assert!(earliest <= (now - 4 * DAY).max(START) && latest == now);
        let span = u64::try_from(latest - earliest).unwrap() / 1000 + 1;
        for round in 0..6 {
            // half of them at the moments of changes
            let at = match round % 2 {
                0 => earliest + i64::try_from(random.below(span)).unwrap() * SECOND,
                _ => history[usize::try_from(random.below(history.len() as u64)).unwrap()].0,
            };
            let at = at.max(earliest);
            let found = rows_at(&house, &engine, table, Some(at)).unwrap();
            let expected = of_table(state_at(&history, at), table);
            let keys = |rows: &Rows| rows.keys().copied().collect::<Vec<_>>();
            assert_eq!(keys(&found), keys(&expected), "seed {seed}, {table} at {}", at - START);
            assert_eq!(found, expected, "seed {seed}, {table} at {}", at - START);
        }
        assert_eq!(rows_at(&house, &engine, table, None).unwrap(), of_table(&rows, table));
    }
}

#[test]
fn whatever_is_done_to_a_table_it_is_restored_to_any_moment() {
    for seed in 0..seeds(6) {
        run_against_model(seed);
    }
}

/// The life of an archived table, until the disk fails. Each step notes what must be restored.
fn archived_life(
    house: &House,
    clock: &ManualClock,
    running: &mut Option<Engine>,
    history: &mut Vec<(i64, Rows)>,
) -> Result<()> {
    let mut rows = Rows::new();
    let engine = running.insert(house.open()?);
    create(engine, A)?;
    create(engine, B)?;
    engine.open_table(A)?;
    engine.start_archive(A)?;
    history.push((clock.now_millis(), rows.clone()));
    for time in 1..14 {
        clock.advance(SECOND);
        let action = match time {
            3 | 9 => Action::Flush(A),
            6 => Action::Compact(A),
            10 => Action::Truncate(A),
            _ => Action::Insert {
                table: A,
                partition: 0,
                clustering: u8::try_from(time).unwrap(),
                bytes: 6000,
            },
        };
        perform(house, running, action, time)?;
        action.apply(&mut rows, time);
        history.push((clock.now_millis(), rows.clone()));
        let Some(engine) = running else { return Ok(()) };
        match time {
            4 | 8 => engine.core.archive_log(A)?,
            7 | 12 => {
                clock.advance(DAY);
                engine.keep_up_archives(100 * DAY)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_any_operation_loses_no_history() {
    // all of them are tried when more seeds are asked for
    let stride = if std::env::var_os("COFFER_SEEDS").is_some() { 1 } else { 9 };
    let mut lost = 1;
    loop {
        let vfs = FaultVfs::new();
        let (house, clock) = house_on(Arc::new(vfs.clone()));
        let (mut engine, mut history) = (None, Vec::new());
        vfs.fail_from(lost, Fault::Error(std::io::ErrorKind::StorageFull));
        let lived = archived_life(&house, &clock, &mut engine, &mut history);
        vfs.fail_from(vfs.operations() + 1, Fault::Error(std::io::ErrorKind::Other));
        drop(engine);
        vfs.crash(if lost % 2 == 0 { CrashLoss::Everything } else { CrashLoss::Nothing }).unwrap();
        let opened = reopened(&house).unwrap_or_else(|error| panic!("operation {lost}: {error}"));
        opened.keep_up_archives(100 * DAY).unwrap();
        // the first, the last, and one between
        let places = [0, history.len() / 2, history.len().saturating_sub(1)];
        for (at, expected) in places.into_iter().filter_map(|place| history.get(place)) {
            let found = rows_at(&house, &opened, A, Some(*at))
                .unwrap_or_else(|error| panic!("operation {lost}, at {}: {error}", at - START));
            assert_eq!(found.len(), expected.len(), "operation {lost}, at {}", at - START);
            assert!(found == *expected, "operation {lost}, at {}", at - START);
        }
        let kept = opened.catalog().archives.get(&A).map_or(0, |archive| archive.log.len());
        assert_eq!(house.files("archive", ".tail").len(), kept, "operation {lost}");
        if lived.is_ok() {
            break;
        }
        lost += stride;
    }
    assert!(lost > 100, "{lost} operations");
}
