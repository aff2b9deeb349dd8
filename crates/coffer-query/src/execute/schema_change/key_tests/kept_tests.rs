//! What is kept of tables: how long, whether it is whole, whether its key is there, and what a DROP that
//! is beside other changes keeps.

use super::health_tests::{DAY, MINUTE, ROUND, flip, lost, until_deadline};
use super::restore_tests::{RESTORE, is_invalid, take};
use super::*;
use crate::EventKind;

impl Running {
    /// `restorable` of the one snapshot there is.
    fn is_restorable(&self) -> Option<bool> {
        let OutcomeKind::Rows(rows) =
            self.ok("SELECT restorable FROM system_coffer.snapshots").kind
        else {
            panic!("no rows")
        };
        match *rows.content {
            [0, 0, 0, 1, value] => Some(value == 1),
            [0xFF, 0xFF, 0xFF, 0xFF] => None,
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn while_a_snapshot_is_read_the_keys_of_other_tables_are_watched() {
    let files = Arc::new(SlowFiles::new("", "/snapshots/"));
    let house = House::on(files.clone());
    let (running, _) = lost(&house);
    let other = house.key();
    running.ok(&format!("CREATE TABLE k.second (a int PRIMARY KEY, b int) {}", with_key(&other)));
    running.watch(&house, ROUND);
    files.is_held.store(true, Ordering::SeqCst);
    running.watch(&house, until_deadline(&running) + MINUTE);
    let was_read = files.waiting.load(Ordering::SeqCst);
    house.kms.disable_key(&other).unwrap();
    for _ in 0..4 {
        running.watch(&house, ROUND);
    }
    let (state, has_table) = (running.condition("second").state, running.has_table());
    // a failed assertion must not leave the reader waiting
    files.is_held.store(false, Ordering::SeqCst);
    assert_eq!((was_read, state, has_table), (1, "INACCESSIBLE", true));
    until("the drop", || {
        running.watch(&house, ROUND);
        !running.has_table()
    });
    let kinds = running.kinds();
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::SnapshotTaken).count(), 1);
}

#[test]
fn a_snapshot_that_is_gone_before_it_is_read_is_taken_again_and_nobody_is_alarmed() {
    let files = Arc::new(SlowFiles::new("", "/snapshots/"));
    let house = House::on(files.clone());
    let (running, _) = lost(&house);
    files.is_held.store(true, Ordering::SeqCst);
    running.watch(&house, until_deadline(&running) + MINUTE);
    let catalog = running.database.engine().catalog();
    let erased = catalog.snapshots.keys().map(|id| running.database.erase_snapshot(*id));
    let erased: Vec<_> = erased.collect();
    files.is_held.store(false, Ordering::SeqCst);
    assert!(erased.len() == 1 && erased[0].is_ok(), "{erased:?}");
    until("the drop", || {
        running.watch(&house, ROUND);
        !running.has_table()
    });
    assert!(!running.kinds().contains(&EventKind::DropBlocked), "{:?}", running.kinds());
}

#[test]
fn a_key_that_is_back_is_not_told_with_what_it_was_refused_with() {
    let house = House::new();
    let (running, key) = lost(&house);
    assert!(running.told(EventKind::KeyLost).detail.contains("disabled"));
    house.kms.enable_key(&key).unwrap();
    running.watch(&house, ROUND);
    assert_eq!(running.told(EventKind::Recovered).detail, "");
}

#[test]
fn whether_a_dropped_table_can_be_restored_is_what_its_kms_said_last() {
    let house = House::new();
    let (running, key) = lost(&house);
    running.ok("DROP TABLE k.t");
    assert_eq!(running.is_restorable(), None, "nobody asked since");
    running.watch(&house, ROUND);
    running.watch(&house, ROUND);
    assert_eq!(running.is_restorable(), Some(false));
    house.kms.enable_key(&key).unwrap();
    running.watch(&house, ROUND);
    assert_eq!(running.is_restorable(), Some(true));
    running.stop();
    let running = house.start();
    running.watch(&house, 0);
    assert_eq!(running.kms_calls(), KmsCalls::default(), "a start asks nothing");
    assert_eq!(running.is_restorable(), None);
}

#[test]
fn the_newest_state_is_what_times_and_warnings_are_about() {
    let house = House::new();
    let (running, key) = house.with_tables();
    take(&running, "t", "for ever");
    house.clock.advance(1_000);
    running.fill("t");
    house.kms.disable_key(&key).unwrap();
    running.ok("DROP TABLE k.t");
    let history = "SELECT custom_properties FROM system_schema_mcs.tables_history WHERE \
                   keyspace_name = 'k' AND table_name = 't'";
    // 35 days later, though an older state is kept for ever
    assert!(running.text(history).unwrap().contains("2023-12-19T22:13:21.000Z"));
    house.kms.enable_key(&key).unwrap();
    let created = running.ok(&format!("CREATE TABLE k.t (a int PRIMARY KEY) {}", with_key(&key)));
    let [warning] = created.warnings.as_slice() else { panic!("{:?}", created.warnings) };
    assert!(warning.contains("until 2023-12-19"), "{warning}");
    running.watch(&house, 35 * DAY + MINUTE);
    assert!(!running.text(history).unwrap().contains("restorable_until_time"), "no end is set");
}

#[test]
fn a_damaged_snapshot_is_restored_only_when_that_is_meant() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    let catalog = running.database.engine().catalog();
    let snapshot = catalog.snapshots.values().next().unwrap();
    let directory = house.data().join("snapshots").join(snapshot.id.to_string());
    let segment = snapshot.segments[0].path(&directory);
    flip(&segment);
    let Err(Error::ReadFailure(text)) = running.run(RESTORE) else { panic!("restored") };
    let file = segment.file_name().unwrap().to_str().unwrap();
    for needle in ["k.t", file, "'damaged': 'allow'"] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
    assert!(running.status("r").is_none());
    let with = |damaged: &str| {
        format!(
            "{RESTORE} WITH custom_properties = {{'snapshot': {{'id': '{}'{damaged}}}}}",
            snapshot.id
        )
    };
    assert!(matches!(running.run(&with("")), Err(Error::ReadFailure(_))));
    is_invalid(&running.run(&with(", 'damaged': 'perhaps'")), &["refuse", "allow"]);
    running.ok(&with(", 'damaged': 'allow'"));
    let read: Vec<bool> = (0..10)
        .map(|number| running.run(&format!("SELECT b FROM k.r WHERE a = {number}")).is_ok())
        .collect();
    assert!(read.contains(&true), "rows that are not in the damaged block are read: {read:?}");
}

#[test]
fn a_drop_keeps_what_a_change_says_that_came_while_the_kms_was_asked() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    house.gate.hold(KmsOperation::Decrypt);
    std::thread::scope(|scope| {
        let dropped = scope.spawn(|| running.ok("DROP TABLE k.t"));
        until("the held call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
        running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
        running.insert("t", 10);
        house.gate.let_through();
        dropped.join().unwrap();
    });
    running.ok(RESTORE);
    assert_eq!(running.count("r"), 11);
}

#[test]
fn a_drop_that_meets_another_table_of_the_name_keeps_what_that_one_says() {
    let house = House::new();
    let (running, key) = house.with_tables();
    house.gate.hold(KmsOperation::Decrypt);
    std::thread::scope(|scope| {
        let dropped = scope.spawn(|| running.ok("DROP TABLE k.t"));
        until("the held call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
        // the others are not held
        *house.gate.held.lock() = None;
        running.ok("DROP TABLE k.t");
        running.ok(&format!(
            "CREATE TABLE k.t (a int PRIMARY KEY, b int) {}",
            with_key(&key).replace("}}", "}, 'auto_snapshot': true}")
        ));
        running.insert("t", 7);
        house.gate.let_through();
        dropped.join().unwrap();
    });
    running.ok(RESTORE);
    assert_eq!(running.count("r"), 1);
}

#[test]
fn a_snapshot_that_cannot_be_taken_says_why_and_keeps_the_table() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    std::fs::write(house.data().join("snapshots"), "in the way").unwrap();
    let Err(Error::Server(text)) = running.run("DROP TABLE k.t") else { panic!("dropped") };
    for needle in ["nothing was dropped", "snapshots", "os error"] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
    assert_eq!(running.count("t"), 10);
}

#[test]
fn what_was_written_while_the_clock_is_held_is_restored_by_the_time_it_has() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.ok(
        "ALTER TABLE k.t WITH custom_properties = {'point_in_time_recovery': {'status': 'enabled'}}",
    );
    running.insert("t", 1);
    let engine = running.database.engine();
    let before = engine.write_clock_millis();
    house.clock.advance(-60_000);
    running.insert("t", 2);
    assert_eq!(engine.write_clock_millis(), before, "held");
    let at = cql_types::time::format_timestamp(before);
    running.ok(&format!("{RESTORE} WITH restore_timestamp = '{at}'"));
    assert_eq!(running.count("r"), 2);
}

#[test]
fn a_certificate_that_the_audit_log_refuses_is_kept_until_it_is_in_it() {
    let house = House::new();
    let (running, _) = lost(&house);
    running.watch(&house, until_deadline(&running) + MINUTE);
    let is_audited =
        || house.audit.0.lock().iter().filter(|event| event.name == "PurgeSnapshot").count();
    house.audit.refuse(true);
    running.watch(&house, 35 * DAY + MINUTE);
    running.watch(&house, ROUND);
    assert!(running.kinds().contains(&EventKind::Purged));
    assert_eq!(is_audited(), 0);
    house.audit.refuse(false);
    running.watch(&house, ROUND);
    running.watch(&house, ROUND);
    assert_eq!(is_audited(), 1);
    let properties = &running.database.engine().catalog().properties;
    assert!(!properties.keys().any(|name| name.starts_with("purged/")));
}

#[test]
fn an_export_ends_with_its_snapshot_and_gives_its_grants_back() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.insert("t", 1);
    take(&running, "t", "exported");
    let engine = running.database.engine();
    let id = *engine.catalog().snapshots.keys().next().unwrap();
    let note = serde_json::json!({"snapshot": id.to_string(), "record": &*running.record()});
    let grants = running.record().grants.len();
    engine
        .update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            let properties = Arc::make_mut(&mut next.properties);
            properties.insert(format!("{}00ff", crate::EXPORT_PREFIX), note.to_string());
            Ok(next)
        })
        .unwrap();
    running.database.erase_snapshot(id).unwrap();
    let catalog = engine.catalog();
    assert!(!catalog.properties.keys().any(|name| name.starts_with(crate::EXPORT_PREFIX)));
    assert_eq!((grants, catalog.retiring_grants.len()), (2, 2));
}
