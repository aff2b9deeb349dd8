//! What DROP keeps, and RESTORE TABLE from it.

use coffer_storage::{SnapshotKind, SnapshotRequest};

use super::*;

const DAY: i64 = 24 * 3_600 * 1_000;

pub(super) const RESTORE: &str = "RESTORE TABLE k.r FROM TABLE k.t";

pub(super) fn is_invalid(result: &Result<Outcome>, needles: &[&str]) {
    let Err(Error::Invalid(text)) = result else { panic!("not Invalid: {result:?}") };
    for needle in needles {
        assert!(text.contains(needle), "{needle}: {text}");
    }
}

fn is_refused(result: &Result<Outcome>, needles: &[&str]) {
    let Err(Error::KeyRefused(text)) = result else { panic!("not KeyRefused: {result:?}") };
    for needle in needles {
        assert!(text.contains(needle), "{needle}: {text}");
    }
}

impl Running {
    fn snapshots(&self) -> Vec<SnapshotKind> {
        let catalog = self.database.engine().catalog();
        catalog.snapshots.values().map(|snapshot| snapshot.kind).collect()
    }

    fn restored_record(&self) -> Arc<KeyRecord> {
        Arc::clone(&self.database.engine().catalog().table("k", "r").unwrap().key)
    }

    /// Ten rows, half of them in a segment.
    pub(super) fn fill(&self, table: &str) {
        for number in 0..10 {
            self.insert(table, number);
            if number == 4 {
                self.flush(table);
            }
        }
    }

    /// Nothing is left of a restore that failed.
    fn has_no_residue(&self, grants: usize) {
        let catalog = self.database.engine().catalog();
        assert!(catalog.key_changes.is_empty(), "{:?}", catalog.key_changes);
        assert!(catalog.table("k", "r").is_none());
        self.runtime.block_on(self.database.keep_up_keys());
        assert_eq!(self.grants_left(), grants);
    }

    fn grants_left(&self) -> usize {
        let catalog = self.database.engine().catalog();
        let live: usize = catalog.tables.values().map(|entry| entry.key.grants.len()).sum();
        live + catalog.retiring_grants.len()
    }
}

pub(super) fn take(running: &Running, table: &str, name: &str) {
    let request =
        SnapshotRequest { kind: SnapshotKind::Manual, name: name.to_owned(), keep_millis: None };
    running.database.engine().take_snapshot(running.id(table), &request).unwrap();
}

#[test]
fn a_table_whose_key_is_gone_can_be_dropped_and_comes_back_with_the_key() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.fill("t");
    house.kms.disable_key(&key).unwrap();
    let dropped = running.ok("DROP TABLE k.t");
    let [warning] = dropped.warnings.as_slice() else { panic!("{:?}", dropped.warnings) };
    assert!(warning.contains("k.t") && warning.contains(&key), "{warning}");
    assert_eq!(running.snapshots(), [SnapshotKind::Drop]);
    // the data grant is given back at once, the other one after 42 days
    running.runtime.block_on(running.database.keep_up_keys());
    assert_eq!(house.grants.left.lock().len(), 1);

    is_refused(&running.run(RESTORE), &[&key, "k.t", "DisabledException", "enable the key"]);
    running.has_no_residue(1);

    house.kms.enable_key(&key).unwrap();
    let restored = running.ok(RESTORE);
    let OutcomeKind::SchemaChange(event) = restored.kind else { panic!("no event") };
    assert_eq!((event.change, event.target, &*event.name), ("CREATED", "TABLE", "r"));
    assert_eq!(running.count("r"), 10);
    assert_eq!(running.status("r").as_deref(), Some("ACTIVE"));
    assert!(running.properties("r").unwrap().contains(&key));
    let record = running.restored_record();
    assert_eq!((record.grants.len(), record.older.len()), (2, 1));
    assert_eq!(record.encryption_context["aws:cassandra:tableName"], "r");
    let events = running.database.events();
    assert!(events.iter().any(|event| event.kind.as_str() == "restored" && event.table == "r"));
    let history = running.text(
        "SELECT event FROM system_schema_mcs.tables_history WHERE keyspace_name = 'k' AND \
         table_name = 'r'",
    );
    assert_eq!(history.as_deref(), Some("RESTORE"));

    running.insert("r", 10);
    running.flush("r");
    running.compact("r");
    assert_eq!(running.count("r"), 11);
    running.stop();
    let running = house.start();
    assert_eq!(running.count("r"), 11);
    // the restored table holds what it needs by itself
    assert_eq!(running.snapshots(), [SnapshotKind::Drop]);
}

#[test]
fn only_tables_that_may_come_back_leave_a_snapshot() {
    let house = House::new();
    let (running, key) = house.with_tables();
    let properties = |value: &str| format!("WITH custom_properties = {{'auto_snapshot': {value}}}");
    let cases = [
        ("", false),
        (&*properties("true"), true),
        (&properties("'true'"), true),
        (&properties("{'status': 'enabled'}"), true),
        (&properties("false"), false),
        (&properties("{'status': 'disabled'}"), false),
        ("WITH allow_auto_snapshot = false", false),
        (&format!("{} AND allow_auto_snapshot = false", properties("true")), false),
    ];
    for (with, is_kept) in cases {
        let before = running.snapshots().len();
        running.ok(&format!("CREATE TABLE k.d (a int PRIMARY KEY, b int) {with}"));
        running.insert("d", 1);
        running.ok("DROP TABLE k.d");
        assert_eq!(running.snapshots().len() - before, usize::from(is_kept), "{with}");
    }
    is_invalid(
        &running.run(&format!("CREATE TABLE k.d (a int PRIMARY KEY) {}", properties("'perhaps'"))),
        &["auto_snapshot", "perhaps"],
    );
    // also a key that is lost leaves none where it is forbidden; and none is needed while it is there
    let before = running.snapshots().len();
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': false}");
    house.kms.disable_key(&key).unwrap();
    running.ok("DROP TABLE k.t");
    assert_eq!(running.snapshots().len(), before);
    let other = house.key();
    running.ok(&format!("CREATE TABLE k.t (a int PRIMARY KEY, b int) {}", with_key(&other)));
    running.ok("DROP TABLE k.t");
    assert_eq!(running.snapshots().len(), before);
}

#[test]
fn a_kms_that_does_not_answer_holds_up_no_drop_and_loses_nothing() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    house.gate.fail(Some((KmsOperation::Decrypt, coffer_keys::failure::CONNECTION)));
    let dropped = running.ok("DROP KEYSPACE k");
    assert_eq!(dropped.warnings.len(), 1, "of the table under a KMS key");
    assert_eq!(running.snapshots(), [SnapshotKind::Drop]);
    house.gate.fail(None);
    running.ok(
        "CREATE KEYSPACE other WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    );
    running.ok("RESTORE TABLE other.t FROM TABLE k.t");
    let rows = running.ok("SELECT a FROM other.t");
    assert!(matches!(rows.kind, OutcomeKind::Rows(rows) if rows.count == 10));
}

#[test]
fn truncate_leaves_a_snapshot_where_the_table_asks_for_one() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    running.ok("TRUNCATE k.t");
    assert!(running.snapshots().is_empty());
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': {'status': 'enabled'}}");
    running.ok("TRUNCATE k.t");
    assert_eq!(running.snapshots(), [SnapshotKind::Truncate]);
    assert_eq!(running.count("t"), 0);
    let id = running.text("SELECT id FROM system_coffer.snapshots WHERE keyspace_name = 'k'");
    running.ok(&format!(
        "{RESTORE} WITH custom_properties = {{'snapshot': {{'id': '{}'}}}}",
        id.unwrap()
    ));
    assert_eq!(running.count("r"), 10);
}

#[test]
fn what_cannot_be_restored_is_refused_by_name() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    let exists = running.run("RESTORE TABLE k.other FROM TABLE k.t");
    let Err(Error::AlreadyExists { keyspace, table, .. }) = exists else { panic!("{exists:?}") };
    assert_eq!((&*keyspace, &*table), ("k", "other"));
    is_invalid(&running.run("RESTORE TABLE k.r FROM TABLE k.nosuch"), &["k.nosuch"]);
    is_invalid(&running.run("RESTORE TABLE nosuch.r FROM TABLE k.t"), &["nosuch"]);
    is_invalid(&running.run(RESTORE), &["point_in_time_recovery is not enabled", "k.t"]);
    let at = |time: &str| running.run(&format!("{RESTORE} WITH restore_timestamp = '{time}'"));
    // the clock stands in 2023
    is_invalid(&at("2030-06-30T04:05:00+0000"), &["has not come yet"]);
    is_invalid(&at("yesterday"), &["ISO 8601", "yesterday"]);
    let unknown = running.run(&format!("{RESTORE} WITH comment = 'x'"));
    assert!(matches!(&unknown, Err(Error::Syntax(text)) if text.contains("'comment'")));
    is_invalid(
        &running
            .run(&format!("{RESTORE} WITH custom_properties = {{'snapshot': {{'name': 'x'}}}}")),
        &["no snapshot 'x'", "k.t"],
    );
    is_invalid(
        &running.run("ALTER TABLE k.t WITH custom_properties = {'snapshot': {'name': 'x'}}"),
        &["RESTORE TABLE"],
    );

    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    let latest = "latest 2023-11-14T22:13:20.000Z";
    is_invalid(
        &at("2023-11-14T00:00:00+0000"),
        &["outside", "earliest 2023-11-14T22:13:19.999Z", latest],
    );
    house.clock.advance(5_000);
    is_invalid(&at("2023-11-14T22:13:24.500Z"), &["outside", latest]);
    // the same moment in all spellings
    for (number, time) in
        ["2023-11-14T22:13:20+0000", "2023-11-14T22:13:20.000Z", "2023-11-14T23:13:20+01:00"]
            .iter()
            .enumerate()
    {
        let with = format!("WITH restore_timestamp = '{time}'");
        running.ok(&format!("RESTORE TABLE k.r{number} FROM TABLE k.t {with}"));
        assert_eq!(running.count(&format!("r{number}")), 10, "{time}");
    }
}

#[test]
fn encryption_is_inherited_or_chosen_and_only_the_last_key_of_the_source_is_needed() {
    for from_cmk in [false, true] {
        for to_cmk in [false, true] {
            for is_accessible in [true, false] {
                let house = House::new();
                let (running, old) = house.with_tables();
                running.fill("t");
                running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
                let owned = "WITH custom_properties = {'encryption_specification': \
                             {'encryption_type': 'AWS_OWNED_KMS_KEY'}}";
                // data under a key that is not the last one
                let last = if from_cmk { Some(house.key()) } else { None };
                let with = last.as_ref().map_or(owned.to_owned(), |last| with_key(last));
                running.ok(&format!("ALTER TABLE k.t {with}"));
                house.kms.disable_key(&old).unwrap();
                running.ok("DROP TABLE k.t");
                if let (Some(last), false) = (&last, is_accessible) {
                    house.kms.disable_key(last).unwrap();
                }
                let target = house.key();
                let with = if to_cmk { with_key(&target) } else { owned.to_owned() };
                let restored = running.run(&format!("{RESTORE} {with}"));
                match (&last, is_accessible) {
                    (Some(last), false) => {
                        is_refused(&restored, &[last, "k.t", "DisabledException"]);
                        running.runtime.block_on(running.database.keep_up_keys());
                        assert!(running.status("r").is_none());
                        assert!(running.database.engine().catalog().key_changes.is_empty());
                    }
                    _ => {
                        restored.unwrap();
                        if let Some(last) = &last {
                            house.kms.disable_key(last).unwrap();
                        }
                        assert_eq!(running.count("r"), 10, "{from_cmk} {to_cmk}");
                        let arn = running.restored_record().kms_key_arn.clone();
                        assert_eq!(arn.as_deref(), to_cmk.then_some(&*target));
                        running.stop();
                        assert_eq!(house.start().count("r"), 10, "{from_cmk} {to_cmk}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_target_key_that_cannot_be_used_leaves_nothing_behind() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    running.runtime.block_on(running.database.keep_up_keys());
    let grants = running.grants_left();
    let target = house.key();
    house.kms.disable_key(&target).unwrap();
    let restore = format!("{RESTORE} {}", with_key(&target));
    is_refused(&running.run(&restore), &[&target, "k.r", "DisabledException"]);
    running.has_no_residue(grants);
    house.kms.enable_key(&target).unwrap();
    house.gate.fail(Some((KmsOperation::GenerateDataKey, "AccessDeniedException")));
    is_refused(&running.run(&restore), &[&target, "k.r"]);
    running.has_no_residue(grants);
    house.gate.fail(None);
    running.ok(&restore);
    assert_eq!(running.count("r"), 10);
}

#[test]
fn without_the_snapshot_grant_a_temporary_one_opens_the_source() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    running.runtime.block_on(running.database.keep_up_keys());
    let snapshot = house.grants.left.lock().iter().next().unwrap().clone();
    running.runtime.block_on(async {
        let table = coffer_keys::TableName::new([0; 16], "k", "t");
        running.database.keyring().retire_grant(&table, &key, &snapshot).await.unwrap();
    });
    // one that cannot be given back at once is found again by what was announced
    house.gate.fail(Some((KmsOperation::RetireGrant, "KMSInternalException")));
    assert!(running.run(RESTORE).is_err());
    assert_eq!(house.grants.left.lock().len(), 1, "the temporary one");
    let catalog = running.database.engine().catalog();
    assert_eq!(catalog.key_changes.values().next().unwrap().source_arn.as_ref(), Some(&key));
    house.gate.fail(None);
    running.stop();
    let running = house.start();
    running.runtime.block_on(running.database.keep_up_keys());
    assert_eq!(house.grants.left.lock().len(), 0);
    assert!(running.database.engine().catalog().key_changes.is_empty());

    running.ok(RESTORE);
    assert_eq!(running.count("r"), 10);
    assert_eq!(house.grants.left.lock().len(), 2, "the two of the new table");
}

#[test]
fn a_manual_snapshot_is_restored_by_name_with_the_new_key_only() {
    let house = House::new();
    let (running, old) = house.with_tables();
    running.fill("t");
    take(&running, "t", "before");
    running.ok("DELETE FROM k.t WHERE a = 1");
    let new = house.key();
    running.ok(&alter(&new));
    house.kms.disable_key(&old).unwrap();
    running.ok("ALTER TABLE k.t WITH custom_properties = {'key_loss': {'delete_after': '9d'}}");
    running.ok("ALTER TABLE k.t ADD TAGS {'team': 'red'}");
    running.ok(&format!(
        "{RESTORE} WITH custom_properties = {{'snapshot': {{'name': 'before'}}, 'capacity_mode': \
         {{'throughput_mode': 'PROVISIONED', 'read_capacity_units': 10, 'write_capacity_units': 20}}}} \
         AND TAGS = {{'key1': 'val1'}}"
    ));
    assert_eq!((running.count("t"), running.count("r")), (9, 10));
    assert_eq!(running.restored_record().kms_key_arn.as_deref(), Some(&*new));
    let properties = running.properties("r").unwrap();
    assert!(properties.contains("PROVISIONED") && properties.contains("9d"), "{properties}");
    let tags = running.text(
        "SELECT tags FROM system_schema_mcs.tags WHERE keyspace_name = 'k' AND resource_name = 'r' \
         ALLOW FILTERING",
    );
    let tags = tags.unwrap();
    assert!(tags.contains("val1") && !tags.contains("red"), "{tags:?}");
    running.stop();
    assert_eq!(house.start().count("r"), 10);
}

#[test]
fn user_types_come_back_and_another_type_of_the_name_is_in_the_way() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.ok("CREATE TYPE k.inner (x int)");
    running.ok("CREATE TYPE k.outer (i frozen<inner>, y text)");
    running.ok(
        "CREATE TABLE k.u (a int PRIMARY KEY, b int, o frozen<outer>, l list<frozen<inner>>) WITH \
         custom_properties = {'auto_snapshot': true}",
    );
    running.ok("INSERT INTO k.u (a, b, o, l) VALUES (1, 1, {i: {x: 5}, y: 'z'}, [{x: 7}])");
    running.ok("DROP TABLE k.u");
    running.ok("DROP TYPE k.outer");
    running.ok("DROP TYPE k.inner");
    running.ok("CREATE TYPE k.inner (x text)");
    let restore = "RESTORE TABLE k.r FROM TABLE k.u";
    is_invalid(&running.run(restore), &["user type k.inner", "not the one"]);
    assert!(running.status("r").is_none());
    running.ok("DROP TYPE k.inner");
    running.ok(restore);
    let y = "SELECT o.y FROM k.r WHERE a = 1";
    assert_eq!(running.text(y).as_deref(), Some("z"));
    // a type that got a field since serves too; into another keyspace they come along
    running.ok("ALTER TYPE k.inner ADD more int");
    running.ok("RESTORE TABLE k.again FROM TABLE k.u");
    running.ok(
        "CREATE KEYSPACE q WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    );
    running.ok("RESTORE TABLE q.u FROM TABLE k.u");
    running.ok("INSERT INTO q.u (a, o) VALUES (2, {i: {x: 6}, y: 'w'})");
    running.stop();
    let running = house.start();
    assert_eq!(running.text("SELECT o.y FROM q.u WHERE a = 2").as_deref(), Some("w"));
    assert_eq!(running.text("SELECT o.y FROM q.u WHERE a = 1").as_deref(), Some("z"));
    is_invalid(&running.run("DROP TYPE q.inner"), &["still used"]);
}

#[test]
fn a_name_that_is_used_again_means_the_new_table_and_the_warning_says_how_to_reach_the_old_one() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    let until = running.text(
        "SELECT custom_properties FROM system_schema_mcs.tables_history WHERE keyspace_name = 'k' \
         AND table_name = 't'",
    );
    // 35 days later
    assert!(until.unwrap().contains("2023-12-19T22:13:20.000Z"));
    let create = format!("CREATE TABLE k.t (a int PRIMARY KEY, b int) {}", with_key(&key));
    let created = running.ok(&create);
    let [warning] = created.warnings.as_slice() else { panic!("{:?}", created.warnings) };
    assert!(warning.contains("2023-12-19"), "{warning}");
    let id = warning.split("'id': '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    is_invalid(&running.run(RESTORE), &["point_in_time_recovery is not enabled"]);
    running.ok(&format!("{RESTORE} WITH custom_properties = {{'snapshot': {{'id': '{id}'}}}}"));
    assert_eq!(running.count("r"), 10);
    assert!(running.ok("CREATE TABLE k.fresh (a int PRIMARY KEY)").warnings.is_empty());
}

#[test]
fn the_rules_of_the_keyspace_hold_for_restored_tables() {
    let mut house = House::new();
    let (running, key) = house.with_tables();
    running.fill("other");
    running.ok("ALTER TABLE k.other WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.other");
    running.stop();
    house.encryption.require_cmk = true;
    let running = house.start();
    let refused = running.run("RESTORE TABLE k.r FROM TABLE k.other");
    is_invalid(&refused, &["require_cmk"]);
    assert!(running.status("r").is_none());
    running.ok(&format!("RESTORE TABLE k.r FROM TABLE k.other {}", with_key(&key)));
    assert_eq!(running.count("r"), 10);
}

#[test]
fn while_it_is_made_the_table_is_restoring() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    house.gate.hold(KmsOperation::GenerateDataKey);
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| running.ok(RESTORE));
        until("the held call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
        assert_eq!(running.status("r").as_deref(), Some("RESTORING"));
        let progress = "SELECT progress FROM system_coffer.key_status WHERE keyspace_name = 'k' AND \
                        table_name = 'r'";
        assert!(running.text(progress).unwrap().starts_with("RESTORING"));
        assert!(running.run("SELECT a FROM k.r").is_err());
        house.gate.let_through();
        restore.join().unwrap();
    });
    assert_eq!(running.status("r").as_deref(), Some("ACTIVE"));
    assert_eq!(running.count("r"), 10);
}

#[test]
fn a_crash_at_any_step_of_a_restore_leaves_the_whole_table_or_nothing() {
    let faultless = FaultVfs::new();
    let operations = {
        let (house, running) = with_dropped(&faultless);
        let before = faultless.operations();
        running.ok(RESTORE);
        running.stop();
        drop(house);
        faultless.operations() - before
    };
    assert!(operations >= 8, "two catalogs, links, directory: {operations}");
    let mut outcomes = BTreeSet::new();
    for number in 1..=operations + 1 {
        for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
            outcomes.insert(crash_in_restore(number, loss));
        }
    }
    assert_eq!(outcomes.len(), 2, "some crashes leave the table and some leave none");
}

fn with_dropped(vfs: &FaultVfs) -> (House, Running) {
    let house = House::on(Arc::new(vfs.clone()));
    let (running, _) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    running.runtime.block_on(running.database.keep_up_keys());
    (house, running)
}

fn crash_in_restore(number: u64, loss: CrashLoss) -> bool {
    let vfs = FaultVfs::new();
    let (house, running) = with_dropped(&vfs);
    vfs.fail_from(vfs.operations() + number, Fault::Error(std::io::ErrorKind::Other));
    let is_acknowledged = running.run(RESTORE).is_ok();
    vfs.crash(loss).unwrap();
    drop(running);

    let running = house.start();
    let is_there = running.status("r").is_some();
    assert!(is_there || !is_acknowledged, "{number} {loss:?}");
    if is_there {
        assert_eq!(running.count("r"), 10, "{number} {loss:?}");
        assert_eq!(running.status("r").as_deref(), Some("ACTIVE"));
    }
    // what the other try made at the KMS is found and retired; then it can be made again
    running.runtime.block_on(running.database.keep_up_keys());
    house.clock.advance(DAY / 24);
    running.runtime.block_on(running.database.keep_up_keys());
    let kept = if is_there { 3 } else { 1 };
    assert_eq!(house.grants.left.lock().len(), kept, "{number} {loss:?}: grants");
    let restored = running.run("RESTORE TABLE k.second FROM TABLE k.t");
    restored.unwrap_or_else(|error| panic!("{number} {loss:?}: {error}"));
    assert_eq!(running.count("second"), 10, "{number} {loss:?}");
    is_there
}

const WITH_HISTORY: &str =
    "ALTER TABLE k.t WITH custom_properties = {'point_in_time_recovery': {'status': 'enabled'}}";

impl Running {
    fn now(&self) -> String {
        cql_types::time::format_timestamp(self.database.clock().now_millis())
    }

    fn b_of(&self, table: &str, a: usize) -> Option<i32> {
        let OutcomeKind::Rows(rows) =
            self.ok(&format!("SELECT b FROM k.{table} WHERE a = {a}")).kind
        else {
            panic!("no rows")
        };
        let cell = rows.content.get(4..8)?;
        Some(i32::from_be_bytes(cell.try_into().unwrap()))
    }
}

fn restore_at(table: &str, time: &str) -> String {
    format!("RESTORE TABLE k.{table} FROM TABLE k.t WITH restore_timestamp = '{time}'")
}

#[test]
fn each_second_of_ten_can_be_restored_also_after_a_swap_and_after_the_drop() {
    let house = House::new();
    let (running, old) = house.with_tables();
    running.fill("t");
    running.ok(WITH_HISTORY);
    let shown = running.properties("t").unwrap();
    assert!(
        shown.contains("earliest_restorable_timestamp") && shown.contains("2023-11-14T22:13:20")
    );
    let mut times = Vec::new();
    for second in 0..10 {
        house.clock.advance(1_000);
        running.ok(&format!("INSERT INTO k.t (a, b) VALUES (3, {second})"));
        times.push(running.now());
        if second % 4 == 1 {
            running.flush("t");
        }
        if second == 5 {
            running.compact("t");
        }
        if second == 7 {
            running.ok(&alter(&house.key()));
            house.kms.disable_key(&old).unwrap();
        }
    }
    let is_whole = |running: &Running, prefix: &str| {
        for (second, time) in times.iter().enumerate() {
            let table = format!("{prefix}{second}");
            running.ok(&restore_at(&table, time));
            assert_eq!(running.b_of(&table, 3), i32::try_from(second).ok(), "{prefix} {time}");
            assert_eq!(running.count(&table), 10);
            // now and then only, it costs
            if second % 5 == 0 {
                running.flush(&table);
                running.compact(&table);
                assert_eq!(running.b_of(&table, 3), i32::try_from(second).ok(), "{prefix} {time}");
            }
        }
    };
    is_whole(&running, "live");
    running.ok(RESTORE);
    assert_eq!(running.b_of("r", 3), Some(9), "without a time it is now");
    assert!(
        running.properties("r").unwrap().contains("earliest_restorable_timestamp"),
        "inherited"
    );
    is_invalid(&running.run(&restore_at("early", "2023-11-14T22:13:00Z")), &["outside", "latest"]);

    house.clock.advance(1_000);
    running.ok("DROP TABLE k.t");
    is_whole(&running, "dropped");
    house.clock.advance(60_000);
    let late = running.now();
    is_invalid(
        &running.run(&restore_at("late", &late)),
        &["outside", "latest 2023-11-14T22:13:31"],
    );
    running.stop();
    let running = house.start();
    is_whole(&running, "restarted");
    assert_eq!(running.b_of("live4", 3), Some(4));
}

#[test]
fn schema_and_ttl_are_of_the_time_and_settings_of_now() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.ok(WITH_HISTORY);
    running.fill("t");
    house.clock.advance(1_000);
    let before = running.now();
    house.clock.advance(1_000);
    running.ok("ALTER TABLE k.t ADD c text");
    running.ok("ALTER TABLE k.t WITH default_time_to_live = 77");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'key_loss': {'delete_after': '9d'}}");
    running.ok("INSERT INTO k.t (a, b, c) VALUES (1, 1, 'c')");
    running.ok(&restore_at("r", &before));
    assert!(running.run("SELECT c FROM k.r").is_err());
    assert_eq!(running.count("r"), 10);
    let ttl = "SELECT default_time_to_live FROM system_schema_mcs.tables WHERE keyspace_name = 'k' \
               AND table_name = 'r'";
    assert_eq!(running.text(ttl).as_deref(), Some("\0\0\0\0"));
    assert!(running.properties("r").unwrap().contains("9d"));
}

#[test]
fn switching_the_history_off_erases_it_and_on_begins_anew() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.ok(WITH_HISTORY);
    running.fill("t");
    house.clock.advance(1_000);
    let before = running.now();
    house.clock.advance(1_000);
    running.ok(&WITH_HISTORY.replace("enabled", "disabled"));
    assert!(running.snapshots().is_empty());
    is_invalid(&running.run(&restore_at("r", &before)), &["not enabled"]);
    assert!(!running.properties("t").unwrap().contains("earliest"));
    running.ok(WITH_HISTORY);
    is_invalid(
        &running.run(&restore_at("r", &before)),
        &["outside", "earliest 2023-11-14T22:13:2"],
    );
    // a restore may say otherwise than its source
    house.clock.advance(1_000);
    running.ok(&format!(
        "{RESTORE} WITH custom_properties = {{'point_in_time_recovery': {{'status': 'disabled'}}}}"
    ));
    assert!(!running.properties("r").unwrap().contains("earliest"));
    assert_eq!(running.count("r"), 10);
}

#[test]
fn a_history_that_a_crash_left_undone_is_begun_by_the_background() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    let id = running.id("t");
    running.ok(WITH_HISTORY);
    running.database.engine().stop_archive(id).unwrap();
    is_invalid(&running.run(RESTORE), &["not kept yet"]);
    running.database.keep_up_archives();
    running.ok(RESTORE);
    assert_eq!(running.count("r"), 10);
}

#[test]
fn a_table_that_was_truncated_comes_back_as_it_was_dropped() {
    for has_history in [true, false] {
        let house = House::new();
        let (running, _) = house.with_tables();
        running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
        if has_history {
            running.ok(WITH_HISTORY);
        }
        running.fill("t");
        house.clock.advance(1_000);
        running.ok("TRUNCATE k.t");
        house.clock.advance(1_000);
        running.insert("t", 50);
        house.clock.advance(1_000);
        let before = running.now();
        house.clock.advance(1_000);
        running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': false}");
        running.ok("DROP TABLE k.t");
        let [last, earlier] = [RESTORE.to_owned(), restore_at("before", &before)];
        if has_history {
            running.ok(&last);
            running.ok(&earlier);
            for table in ["r", "before"] {
                assert_eq!((running.count(table), running.b_of(table, 50)), (1, Some(50)));
            }
        } else {
            assert_eq!(running.snapshots(), [SnapshotKind::Truncate]);
            for refused in [last, earlier] {
                is_invalid(&running.run(&refused), &["no snapshot was kept", "'snapshot'", "'id'"]);
            }
        }
        let id = running.text(
            "SELECT id FROM system_coffer.snapshots WHERE keyspace_name = 'k' AND kind = 'truncate' \
             ALLOW FILTERING",
        );
        let named = format!("{{'snapshot': {{'id': '{}'}}}}", id.unwrap());
        running.ok(&format!(
            "RESTORE TABLE k.truncated FROM TABLE k.t WITH custom_properties = {named}"
        ));
        assert_eq!(running.count("truncated"), 10);
    }
}

#[test]
fn what_is_erased_while_it_is_restored_does_not_come_back() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.fill("t");
    running.ok("ALTER TABLE k.t WITH custom_properties = {'auto_snapshot': true}");
    running.ok("DROP TABLE k.t");
    let id = *running.database.engine().catalog().snapshots.keys().next().unwrap();
    house.gate.hold(KmsOperation::GenerateDataKey);
    let restored = std::thread::scope(|scope| {
        let restore = scope.spawn(|| running.run(RESTORE));
        until("the held call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
        let erased = running.database.erase_snapshot(id);
        house.gate.let_through();
        let certificate = erased.unwrap();
        assert_eq!(certificate["destroyed_table_keys"].as_array().unwrap().len(), 1);
        restore.join().unwrap()
    });
    is_invalid(&restored, &["k.t", "erased meanwhile", "system_coffer.snapshots"]);
    let catalog = running.database.engine().catalog();
    assert!(catalog.key_changes.is_empty() && catalog.table("k", "r").is_none());
}
