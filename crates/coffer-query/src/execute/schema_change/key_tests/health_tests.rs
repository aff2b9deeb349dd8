//! The life of a table whose key is lost: noticed, told, snapshotted, dropped, purged; and all that
//! keeps it from being dropped.

use coffer_storage::SnapshotKind;

use super::*;
use crate::{Event, EventKind};

const SECOND: i64 = 1_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;
/// Longer than any pause between two questions.
pub(super) const ROUND: i64 = 80 * SECOND;

impl Running {
    /// Lets time pass, then the monitor.
    pub(super) fn watch(&self, house: &House, millis: i64) -> Vec<SchemaChangeEvent> {
        house.clock.advance(millis);
        self.runtime.block_on(self.database.watch_keys())
    }

    /// Until the loss is confirmed.
    fn confirm(&self, house: &House) {
        for _ in 0..4 {
            assert_eq!(self.watch(house, ROUND), []);
        }
        assert_eq!(self.condition("t").state, "INACCESSIBLE");
    }

    pub(super) fn condition(&self, table: &str) -> crate::KeyCondition {
        let catalog = self.database.engine().catalog();
        self.database.key_condition(catalog.table("k", table).unwrap())
    }

    pub(super) fn kinds(&self) -> Vec<EventKind> {
        self.database.events().iter().map(|event| event.kind).collect()
    }

    pub(super) fn told(&self, kind: EventKind) -> Event {
        let found = self.database.events().into_iter().rev().find(|event| event.kind == kind);
        found.unwrap_or_else(|| panic!("no {kind:?}"))
    }

    fn kept_snapshots(&self) -> Vec<SnapshotKind> {
        let catalog = self.database.engine().catalog();
        catalog.snapshots.values().map(|snapshot| snapshot.kind).collect()
    }

    pub(super) fn has_table(&self) -> bool {
        self.database.schema().table("k", "t").is_some()
    }
}

/// A table with rows in segments and in the log, seen by the monitor.
fn with_rows(house: &House) -> (Running, String) {
    let (running, key) = house.with_tables();
    for number in 0..20 {
        running.insert("t", number);
        if number == 10 {
            running.flush("t");
        }
    }
    running.watch(house, ROUND);
    assert_eq!(running.condition("t").state, "ACCESSIBLE");
    (running, key)
}

/// One with a key that is lost, and confirmed to be.
pub(super) fn lost(house: &House) -> (Running, String) {
    let (running, key) = with_rows(house);
    house.kms.disable_key(&key).unwrap();
    running.confirm(house);
    (running, key)
}

pub(super) fn until_deadline(running: &Running) -> i64 {
    running.condition("t").millis_left.unwrap()
}

#[test]
fn a_lost_key_is_told_the_table_dropped_after_seven_days_and_its_snapshot_purged_after_35() {
    let house = House::new();
    let (running, key) = with_rows(&house);
    house.kms.disable_key(&key).unwrap();
    assert_eq!(running.watch(&house, ROUND), []);
    let first = running.condition("t");
    let since = first.inaccessible_since.unwrap();
    assert_eq!(since, house.clock.key_wall_millis(), "the first refusal");
    assert_eq!(first.deadline, Some(since + 7 * DAY));
    running.confirm(&house);
    assert!(running.run("SELECT a FROM k.t").is_err());
    assert_eq!(running.status("t").as_deref(), Some("INACCESSIBLE_ENCRYPTION_CREDENTIALS"));
    let told = running.told(EventKind::KeyLost);
    assert_eq!(running.condition("t").incident, Some(told.incident.clone()));
    assert_eq!((&*told.table, told.key_arn.as_deref()), ("t", Some(&*key)));
    assert_eq!((told.since_millis, told.deadline_millis), (Some(since), Some(since + 7 * DAY)));
    assert!(told.detail.contains(&key) && told.detail.contains("disabled"), "{}", told.detail);
    assert!(running.kept_snapshots().is_empty());

    running.watch(&house, until_deadline(&running) - 60 * SECOND);
    assert!(running.has_table());
    let dropped = running.watch(&house, 120 * SECOND);
    assert_eq!(dropped.len(), 1);
    assert_eq!((dropped[0].change, &*dropped[0].name), ("DROPPED", "t"));
    assert!(!running.has_table());
    assert!(running.run("SELECT a FROM k.t").is_err());
    let expected =
        [EventKind::KeyLost, EventKind::Reminder, EventKind::SnapshotTaken, EventKind::Dropped];
    assert_eq!(running.kinds(), expected);
    assert_eq!(running.kept_snapshots(), [SnapshotKind::KeyLoss]);
    let event = running.text(
        "SELECT event FROM system_schema_mcs.tables_history WHERE keyspace_name = 'k' AND \
         table_name = 't' LIMIT 1",
    );
    assert!(event.is_some());
    running.ok("SELECT * FROM k.other");

    running.stop();
    let running = house.start();
    running.watch(&house, 35 * DAY - HOUR);
    assert_eq!(running.kept_snapshots(), [SnapshotKind::KeyLoss]);
    assert!(!running.has_table());
}

#[test]
fn a_snapshot_lives_35_days_and_what_its_end_destroyed_is_certified() {
    let house = House::new();
    let (running, _) = lost(&house);
    running.watch(&house, until_deadline(&running) + MINUTE);
    assert_eq!(running.kept_snapshots(), [SnapshotKind::KeyLoss]);
    running.watch(&house, 35 * DAY - MINUTE);
    assert_eq!(running.kept_snapshots(), [SnapshotKind::KeyLoss]);
    running.watch(&house, 2 * MINUTE);
    assert_eq!(running.kept_snapshots(), []);
    let certificate = running.told(EventKind::Purged).detail;
    let certificate: serde_json::Value = serde_json::from_str(&certificate).unwrap();
    assert_eq!(certificate["destroyed_table_keys"].as_array().unwrap().len(), 1);
    let files = certificate["unlinked"].as_array().unwrap();
    assert!(!files.is_empty());
    for file in files {
        assert!(file["bytes"].as_u64().unwrap() > 0);
        assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
        assert!(!house.data().join(file["file"].as_str().unwrap()).exists());
    }
    assert!(house.audit.0.lock().iter().any(|event| event.name == "PurgeSnapshot"));
}

#[test]
fn what_an_operator_erases_of_a_live_table_is_certified_too() {
    let house = House::new();
    let (running, key) = with_rows(&house);
    let table = running.database.engine().catalog().table("k", "t").unwrap().schema.id;
    let request = SnapshotRequest {
        kind: SnapshotKind::Manual,
        name: "by hand".to_owned(),
        keep_millis: None,
    };
    let snapshot = running.database.engine().take_snapshot(table, &request).unwrap();
    let certificate = running.database.erase_snapshot(snapshot.id).unwrap();
    let event = running.told(EventKind::Purged);
    assert_eq!((&*event.state, event.key_arn.as_deref()), ("ACTIVE", Some(&*key)));
    let told: serde_json::Value = serde_json::from_str(&event.detail).unwrap();
    assert_eq!(told, certificate);
    assert_eq!(told["erased_snapshots"][0], snapshot.id.to_string());
    assert_eq!(told["remains"]["table"], true);
    assert!(house.audit.0.lock().iter().any(|event| event.name == "PurgeSnapshot"));
    assert_eq!(running.count("t"), 20);
}

#[test]
fn a_history_that_is_switched_off_is_certified() {
    let house = House::new();
    let (running, _) = with_rows(&house);
    let switch = |status: &str| {
        running.ok(&format!(
            "ALTER TABLE k.t WITH CUSTOM_PROPERTIES = {{'point_in_time_recovery': {{'status': \
             '{status}'}}}}"
        ));
    };
    switch("enabled");
    running.insert("t", 100);
    assert!(!running.kinds().contains(&EventKind::Purged));
    switch("disabled");
    let told: serde_json::Value =
        serde_json::from_str(&running.told(EventKind::Purged).detail).unwrap();
    assert_eq!(told["was_history_erased"], true);
    assert_eq!(told["remains"]["history"], false);
}

#[test]
fn a_snapshot_of_no_more_use_is_certified_when_it_was_the_last_of_its_table() {
    for is_dropped in [false, true] {
        let house = House::new();
        let (running, key) = with_rows(&house);
        let engine = running.database.engine();
        let table = engine.catalog().table("k", "t").unwrap().schema.id;
        let request = SnapshotRequest {
            kind: SnapshotKind::Manual,
            name: "export".to_owned(),
            keep_millis: None,
        };
        let snapshot = engine.take_snapshot(table, &request).unwrap();
        if is_dropped {
            running.ok("DROP TABLE k.t");
        }
        running.database.erase_needless_snapshot(snapshot.id).unwrap();
        let is_told = running.kinds().contains(&EventKind::Purged);
        let audited = house.audit.0.lock().iter().filter(|e| e.name == "PurgeSnapshot").count();
        assert_eq!((is_told, audited), (is_dropped, usize::from(is_dropped)));
        if is_dropped {
            let event = running.told(EventKind::Purged);
            assert_eq!((&*event.state, event.key_arn.as_deref()), ("PURGED", Some(&*key)));
            let told: serde_json::Value = serde_json::from_str(&event.detail).unwrap();
            assert_eq!(told["destroyed_table_keys"].as_array().unwrap().len(), 1);
            assert_eq!(told["key_arn"], *key);
        }
    }
}

#[test]
fn a_file_that_was_gone_already_is_certified_as_missing() {
    let house = House::new();
    let (running, _) = with_rows(&house);
    let engine = running.database.engine();
    let table = engine.catalog().table("k", "t").unwrap().schema.id;
    let request = SnapshotRequest {
        kind: SnapshotKind::Manual,
        name: "by hand".to_owned(),
        keep_millis: None,
    };
    let snapshot = engine.take_snapshot(table, &request).unwrap();
    let file = snapshot.segments[0].path(&snapshot.directory(&house.data()));
    std::fs::remove_file(&file).unwrap();
    let certificate = running.database.erase_snapshot(snapshot.id).unwrap();
    let name = file.strip_prefix(house.data()).unwrap().to_str().unwrap();
    assert_eq!(certificate["missing"], serde_json::json!([name]));
    assert_eq!(certificate["unlinked_at_next_start"], serde_json::json!([]));
    let unlinked = certificate["unlinked"].as_array().unwrap();
    assert!(!unlinked.is_empty() && unlinked.iter().all(|file| file["file"] != name));
}

#[test]
fn a_certificate_that_a_crash_keeps_from_the_audit_log_is_there_after_the_start() {
    let request = SnapshotRequest {
        kind: SnapshotKind::Manual,
        name: "by hand".to_owned(),
        keep_millis: None,
    };
    let mut late = 0;
    for number in 1.. {
        let vfs = FaultVfs::new();
        let house = House::on(Arc::new(vfs.clone()));
        let (running, _) = with_rows(&house);
        let engine = running.database.engine();
        let table = engine.catalog().table("k", "t").unwrap().schema.id;
        let id = engine.take_snapshot(table, &request).unwrap().id;
        vfs.fail_from(vfs.operations() + number, Fault::Error(std::io::ErrorKind::Other));
        let was_told = running.database.erase_snapshot(id).is_ok();
        vfs.crash(CrashLoss::Nothing).unwrap();
        drop(running);
        house.audit.0.lock().clear();

        let running = house.start();
        running.watch(&house, ROUND);
        let catalog = running.database.engine().catalog();
        let is_gone = !catalog.snapshots.contains_key(&id);
        let audit = std::mem::take(&mut *house.audit.0.lock());
        let told: Vec<_> = audit.iter().filter(|event| event.name == "PurgeSnapshot").collect();
        assert!(is_gone || told.is_empty(), "{number}");
        match *told {
            [] if is_gone => {
                assert!(was_told, "{number}");
                break;
            }
            [] => {}
            [told] => {
                assert!(told.statement.contains(&id.to_string()), "{}", told.statement);
                assert_eq!((&*told.keyspace, told.table.as_deref()), ("k", Some("t")));
                late += 1;
            }
            _ => panic!("{told:?}"),
        }
        assert!(catalog.properties.keys().all(|name| !name.starts_with("purged/")), "{number}");
    }
    assert!(late > 0);
}

#[test]
fn a_key_that_comes_back_keeps_its_table_at_every_stage() {
    for days in [0, 1, 6] {
        let house = House::new();
        let (running, key) = lost(&house);
        running.watch(&house, days * DAY);
        house.kms.enable_key(&key).unwrap();
        running.watch(&house, ROUND);
        assert_eq!(running.condition("t").state, "ACCESSIBLE");
        assert_eq!(running.condition("t").deadline, None);
        assert_eq!(running.kinds().last(), Some(&EventKind::Recovered));
        assert_eq!(running.count("t"), 20);
        // flapping: the seven days begin anew
        house.kms.disable_key(&key).unwrap();
        running.watch(&house, ROUND);
        assert_eq!(until_deadline(&running), 7 * DAY);
    }
}

#[test]
fn a_key_that_flaps_each_day_never_costs_the_table() {
    let house = House::new();
    let (running, key) = with_rows(&house);
    for _ in 0..20 {
        house.kms.disable_key(&key).unwrap();
        for _ in 0..10 {
            running.watch(&house, 2 * HOUR);
        }
        house.kms.enable_key(&key).unwrap();
        running.watch(&house, ROUND);
    }
    assert!(running.has_table() && running.kept_snapshots().is_empty());
    assert_eq!(running.count("t"), 20);
}

#[test]
fn what_is_no_refusal_never_drops_and_warns_once() {
    for name in
        ["ThrottlingException", "ExpiredTokenException", "NobodyKnowsException", "RequestTimeout"]
    {
        let house = House::new();
        let (running, _) = with_rows(&house);
        house.gate.fail(Some((KmsOperation::Decrypt, name)));
        for _ in 0..40 {
            assert_eq!(running.watch(&house, 12 * HOUR), []);
        }
        assert_eq!(running.condition("t").state, "UNREACHABLE", "{name}");
        assert!(running.condition("t").unreachable_since.is_some());
        assert_eq!(running.kinds(), [EventKind::Unreachable], "{name}");
        house.gate.fail(None);
        running.watch(&house, ROUND);
        assert_eq!(running.kinds(), [EventKind::Unreachable, EventKind::Reachable]);
        assert_eq!(running.count("t"), 20);
    }
}

/// Flips a byte in a file.
pub(super) fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn one_flipped_byte_blocks_the_drop_and_says_so_once() {
    let house = House::new();
    let (running, _) = lost(&house);
    let segment = {
        let catalog = running.database.engine().catalog();
        let entry = catalog.table("k", "t").unwrap();
        let directory = house.data().join("tables").join(entry.schema.id.to_string());
        entry.segments[0].path(&directory)
    };
    flip(&segment);
    running.watch(&house, until_deadline(&running) + MINUTE);
    for _ in 0..5 {
        running.watch(&house, HOUR);
    }
    assert!(running.has_table());
    let blocked = running.told(EventKind::DropBlocked);
    let file = segment.file_name().unwrap().to_str().unwrap();
    assert!(blocked.detail.contains(file), "{}", blocked.detail);
    let kinds = running.kinds();
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::DropBlocked).count(), 1);
    assert_eq!(running.kept_snapshots(), [], "none that is not whole is left");
    flip(&segment);
    running.watch(&house, HOUR);
    assert!(!running.has_table());
    assert_eq!(running.kept_snapshots(), [SnapshotKind::KeyLoss]);
}

#[test]
fn a_restart_loses_and_shortens_nothing() {
    let house = House::new();
    let (mut running, key) = with_rows(&house);
    house.kms.disable_key(&key).unwrap();
    running.watch(&house, ROUND);
    let mut left = until_deadline(&running);
    for _ in 0..5 * 24 {
        running.watch(&house, HOUR);
        let before = until_deadline(&running);
        assert!(before <= left - HOUR);
        running.stop();
        running = house.start();
        running.watch(&house, 0);
        left = until_deadline(&running);
        assert_eq!(left, before, "no time passed");
    }
    // one that was down for long is credited a day
    running.stop();
    house.clock.advance(30 * DAY);
    running = house.start();
    running.watch(&house, 0);
    assert_eq!(until_deadline(&running), left - DAY);
    assert_eq!(left, 2 * DAY);
}

#[test]
fn a_start_asks_nothing_until_an_interval_is_over_and_drops_only_after_a_fresh_refusal() {
    let house = House::new();
    let (running, key) = with_rows(&house);
    running.stop();
    let running = house.start();
    running.watch(&house, 0);
    running.watch(&house, 40 * SECOND);
    assert_eq!(running.kms_calls(), KmsCalls::default());
    running.watch(&house, 40 * SECOND);
    assert_eq!((running.kms_calls().describe_key, running.kms_calls().decrypt), (1, 1));
    house.kms.disable_key(&key).unwrap();
    running.confirm(&house);
    let left = until_deadline(&running);
    running.watch(&house, left - HOUR);
    running.stop();
    // the key comes back while the server is down, past the deadline
    house.clock.advance(2 * HOUR);
    house.kms.enable_key(&key).unwrap();
    let running = house.start();
    running.watch(&house, 0);
    assert!(running.has_table());
    assert_eq!(running.kinds().last(), Some(&EventKind::Recovered));
    assert_eq!(running.count("t"), 20);
}

#[test]
fn never_is_never_and_a_table_rules_over_the_server() {
    let mut house = House::new();
    house.health.policy.delete_after_millis = Some(2 * DAY);
    let (running, key) = with_rows(&house);
    running.ok("ALTER TABLE k.t WITH CUSTOM_PROPERTIES = {'key_loss': {'delete_after': 'never'}}");
    house.kms.disable_key(&key).unwrap();
    running.confirm(&house);
    for _ in 0..60 {
        running.watch(&house, DAY);
    }
    assert!(running.has_table() && running.kept_snapshots().is_empty());
    assert_eq!(running.condition("t").deadline, None);
    assert_eq!(running.condition("t").delete_after, "never");
    running.ok("ALTER TABLE k.t WITH CUSTOM_PROPERTIES = {'key_loss': {'delete_after': '12h'}}");
    running.watch(&house, HOUR);
    assert!(running.has_table(), "who shortens has some time left");
    running.watch(&house, 12 * HOUR);
    running.watch(&house, ROUND);
    assert!(!running.has_table());
}

#[test]
fn clients_that_hammer_a_refused_table_confirm_nothing() {
    let house = House::new();
    let (running, key) = with_rows(&house);
    running.database.keyring().flush(None);
    house.kms.disable_key(&key).unwrap();
    for _ in 0..50 {
        assert!(running.run("SELECT a FROM k.t").is_err());
        house.clock.advance(10);
    }
    running.watch(&house, 0);
    assert_eq!(running.status("t").as_deref(), Some("INACCESSIBLE_ENCRYPTION_CREDENTIALS"));
    assert_eq!(running.kinds(), []);
    running.confirm(&house);
    assert_eq!(running.kinds(), [EventKind::KeyLost]);
}

#[test]
fn a_user_drops_a_lost_table_and_the_monitor_forgets_it() {
    let house = House::new();
    let (running, _) = lost(&house);
    running.ok("DROP TABLE k.t");
    running.watch(&house, ROUND);
    running.watch(&house, 8 * DAY);
    let kept = running.database.engine().catalog();
    assert!(!kept.properties.keys().any(|name| name.starts_with("health/")));
    assert_eq!(running.kinds(), [EventKind::KeyLost]);
}
