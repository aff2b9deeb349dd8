//! The grants of tables from CREATE to 42 days after DROP, statuses, options, and events.

use super::*;
use crate::metadata::ResultMetadata;

const DAY: i64 = 24 * 3_600 * 1_000;

impl Grants {
    fn left(&self) -> usize {
        self.left.lock().len()
    }

    fn names(&self) -> usize {
        self.by_name.lock().len()
    }
}

impl Running {
    fn keep_up(&self) {
        self.runtime.block_on(self.database.keep_up_keys());
    }

    /// The first row's text in a column, `None` when there is no row or it is null.
    pub(super) fn text(&self, cql: &str) -> Option<String> {
        let OutcomeKind::Rows(rows) = self.ok(cql).kind else { panic!("{cql}: no rows") };
        assert_eq!(ResultMetadata::clone(&rows.metadata).columns.len(), 1, "{cql}");
        let length = rows.content.get(..4)?;
        let length = i32::from_be_bytes(length.try_into().unwrap());
        let length = usize::try_from(length).ok()?;
        Some(String::from_utf8_lossy(&rows.content[4..4 + length]).into_owned())
    }

    pub(super) fn status(&self, table: &str) -> Option<String> {
        self.text(&format!(
            "SELECT status FROM system_schema_mcs.tables WHERE keyspace_name = 'k' AND table_name = \
             '{table}'"
        ))
    }

    pub(super) fn properties(&self, table: &str) -> Option<String> {
        self.text(&format!(
            "SELECT custom_properties FROM system_schema_mcs.tables WHERE keyspace_name = 'k' AND \
             table_name = '{table}'"
        ))
    }

    fn retiring(&self) -> usize {
        self.database.engine().catalog().retiring_grants.len()
    }

    fn announced(&self) -> usize {
        self.database.engine().catalog().key_changes.len()
    }
}

fn create(table: &str, key: &str) -> String {
    format!("CREATE TABLE k.{table} (a int PRIMARY KEY, b int) {}", with_key(key))
}

#[test]
fn a_table_has_two_grants_and_the_second_outlives_it_by_42_days() {
    let house = House::new();
    let (running, _) = house.with_tables();
    assert_eq!((house.grants.left(), running.record().grants.len()), (2, 2));
    let kinds: Vec<_> = house.grants.by_name.lock().values().map(|grant| grant.1).collect();
    assert_eq!(kinds, [GrantKind::Data, GrantKind::Snapshot]);
    house.gate.fail(Some((KmsOperation::RetireGrant, "KMSInternalException")));
    let before = running.kms_calls();
    running.ok("DROP TABLE k.t");
    let asked = KmsCalls { decrypt: before.decrypt + 1, ..before };
    assert_eq!(running.kms_calls(), asked, "only whether the key is there");
    running.keep_up();
    assert_eq!(house.grants.left(), 2, "the KMS is away");
    house.gate.fail(None);
    running.keep_up();
    assert_eq!(house.grants.left(), 2, "not again so soon");
    house.clock.advance(10_000);
    running.keep_up();
    assert_eq!((house.grants.left(), running.retiring()), (1, 1));
    running.stop();
    let running = house.start();
    house.clock.advance(41 * DAY);
    running.keep_up();
    assert_eq!(house.grants.left(), 1);
    house.clock.advance(DAY);
    running.keep_up();
    assert_eq!((house.grants.left(), running.retiring()), (0, 0));
}

#[test]
fn leaving_a_key_retires_its_grants_and_a_grant_that_is_gone_is_no_error() {
    let house = House::new();
    let (running, _) = house.with_tables();
    let old: Vec<_> = house.grants.left.lock().iter().cloned().collect();
    running.ok(&alter(&house.key()));
    assert_eq!((house.grants.left(), running.retiring(), running.announced()), (4, 2, 0));
    // somebody was faster
    house.grants.left.lock().retain(|grant| !old.contains(grant));
    running.keep_up();
    assert_eq!((house.grants.left(), running.retiring()), (2, 1));
    running.ok("ALTER TABLE k.t WITH CUSTOM_PROPERTIES = {'encryption_specification': \
         {'encryption_type': 'AWS_OWNED_KMS_KEY'}}");
    assert!(running.record().grants.is_empty());
    house.clock.advance(43 * DAY);
    running.keep_up();
    assert_eq!((house.grants.left(), running.retiring()), (0, 0));
}

#[test]
fn a_keyspace_is_dropped_with_its_key_disabled_and_the_kms_away() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.ok(&create("u", &key));
    running.stop();
    house.kms.disable_key(&key).unwrap();
    let running = house.start();
    assert!(running.run("SELECT a FROM k.t").is_err());
    assert_eq!(running.status("t").as_deref(), Some("INACCESSIBLE_ENCRYPTION_CREDENTIALS"));
    let before = running.kms_calls();
    running.ok("DROP KEYSPACE k");
    assert_eq!(running.kms_calls(), before);
    running.keep_up();
    assert_eq!((house.grants.left(), running.retiring()), (2, 2), "of both tables the first");
}

#[test]
fn a_refused_create_leaves_no_table_no_intent_and_no_grant() {
    for failing in
        [KmsOperation::DescribeKey, KmsOperation::CreateGrant, KmsOperation::GenerateDataKey]
    {
        for error in ["AccessDeniedException", "KMSInternalException"] {
            let house = House::new();
            let (running, key) = house.with_tables();
            house.gate.fail(Some((failing, error)));
            running.run(&create("new", &key)).unwrap_err();
            assert!(running.database.engine().catalog().table("k", "new").is_none());
            assert_eq!(running.status("new"), None, "{failing} {error}");
            house.gate.fail(None);
            running.keep_up();
            running.keep_up();
            let left = (house.grants.left(), running.announced(), running.retiring());
            assert_eq!(left, (2, 0, 0), "{failing} {error}: those of k.t");
        }
    }
}

#[test]
fn while_a_table_is_made_it_shows_as_creating_and_a_swap_as_updating_with_the_old_key() {
    let house = House::new();
    let (running, key) = house.with_tables();
    let new = house.key();
    for (cql, table, status) in
        [(create("new", &key), "new", "CREATING"), (alter(&new), "t", "UPDATING")]
    {
        house.gate.hold(KmsOperation::GenerateDataKey);
        std::thread::scope(|scope| {
            let change = scope.spawn(|| running.ok(&cql));
            until("the held call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
            assert_eq!(running.status(table).as_deref(), Some(status));
            let properties = running.properties(table).unwrap();
            assert!(properties.contains(&key) && !properties.contains(&new), "{properties}");
            if status == "UPDATING" {
                running.insert("t", 1);
                let target = "SELECT change_target FROM system_coffer.key_status WHERE \
                              keyspace_name = 'k' AND table_name = 't'";
                assert_eq!(running.text(target).as_deref(), Some(&*new));
            }
            house.gate.let_through();
            change.join().unwrap();
        });
        assert_eq!(running.status(table).as_deref(), Some("ACTIVE"));
    }
    assert!(running.properties("t").unwrap().contains(&new));
}

#[test]
fn alter_to_the_same_key_asks_no_kms_and_says_so() {
    let house = House::new();
    let (running, key) = house.with_tables();
    let (before, record) = (running.kms_calls(), running.record());
    let outcome = running.ok(&alter(&key));
    assert!(outcome.warnings[0].contains("its key is not changed"), "{:?}", outcome.warnings);
    assert_eq!((running.kms_calls(), &running.record()), (before, &record));
}

#[test]
fn a_retry_after_a_crash_at_any_step_of_create_has_two_grants() {
    let faultless = FaultVfs::new();
    let house = House::on(Arc::new(faultless.clone()));
    let (running, key) = house.with_tables();
    let before = faultless.operations();
    running.ok(&create("new", &key));
    let operations = faultless.operations() - before;
    for number in 1..=operations + 1 {
        for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
            for is_retried in [true, false] {
                crash_in_create(number, loss, is_retried);
            }
        }
    }
}

fn crash_in_create(number: u64, loss: CrashLoss, is_retried: bool) {
    let vfs = FaultVfs::new();
    let house = House::on(Arc::new(vfs.clone()));
    let (running, key) = house.with_tables();
    vfs.fail_from(vfs.operations() + number, Fault::Error(std::io::ErrorKind::Other));
    let created = running.run(&create("new", &key)).is_ok();
    vfs.crash(loss).unwrap();
    drop(running);

    let running = house.start();
    let what = format!("{number} {loss:?} {is_retried}");
    let is_there = running.database.engine().catalog().table("k", "new").is_some();
    assert!(is_there || !created, "{what}");
    if is_retried && !is_there {
        running.ok(&create("new", &key));
    }
    running.keep_up();
    let expected = if is_there || is_retried { 4 } else { 2 };
    assert_eq!(running.announced(), 0, "{what}");
    house.clock.advance(50 * DAY);
    running.keep_up();
    assert_eq!((house.grants.left(), running.retiring()), (expected, 0), "{what}");
    if is_retried {
        assert!(house.grants.names() <= 4, "{what}: the retry has the names of the first try");
        running.insert("new", 1);
    }
}

#[test]
fn a_crash_at_any_step_of_a_swap_leaves_the_grants_of_one_key() {
    for number in 1..=16 {
        for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
            let vfs = FaultVfs::new();
            let house = House::on(Arc::new(vfs.clone()));
            let (running, _) = house.with_tables();
            let new = house.key();
            vfs.fail_from(vfs.operations() + number, Fault::Error(std::io::ErrorKind::Other));
            drop(running.run(&alter(&new)));
            vfs.crash(loss).unwrap();
            drop(running);
            let running = house.start();
            running.keep_up();
            house.clock.advance(50 * DAY);
            running.keep_up();
            let left: Vec<_> = house.grants.left.lock().iter().cloned().collect();
            let mut held: Vec<_> =
                running.record().grants.iter().map(|grant| grant.grant_id.clone()).collect();
            held.sort();
            assert_eq!((left, running.announced()), (held, 0), "{number} {loss:?}");
        }
    }
}

#[test]
fn a_crash_at_any_step_of_a_drop_keeps_the_table_or_retires_its_grants() {
    for number in 1..=12 {
        for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
            let vfs = FaultVfs::new();
            let house = House::on(Arc::new(vfs.clone()));
            let (running, key) = house.with_tables();
            vfs.fail_from(vfs.operations() + number, Fault::Error(std::io::ErrorKind::Other));
            let dropped = running.run("DROP TABLE k.t").is_ok();
            vfs.crash(loss).unwrap();
            drop(running);
            house.kms.disable_key(&key).unwrap();
            let running = house.start();
            let is_there = running.database.engine().catalog().table("k", "t").is_some();
            assert!(!(is_there && dropped), "{number} {loss:?}");
            house.clock.advance(50 * DAY);
            running.keep_up();
            let expected = if is_there { 2 } else { 0 };
            assert_eq!(house.grants.left(), expected, "{number} {loss:?}");
            if is_there {
                running.ok("DROP TABLE k.t");
            }
        }
    }
}

#[test]
fn every_refused_statement_names_the_option() {
    let mut house = House::new();
    let (running, key) = house.with_tables();
    drop(running);
    let region = "arn:aws:kms:*:000000000000:key/*";
    house.encryption.require_cmk = true;
    house.encryption.allowed_kms_keys = vec![region.into()];
    house.encryption.immutable_encryption = true;
    let running = house.start();
    let other = house.key();
    let elsewhere = "arn:aws:kms:us-east-1:111111111111:key/1";
    for (cql, option) in [
        ("CREATE TABLE k.n (a int PRIMARY KEY)".to_owned(), "require_cmk"),
        (create("n", elsewhere), "allowed_kms_keys"),
        (alter(&other), "immutable_encryption"),
    ] {
        let before = running.kms_calls();
        match running.run(&cql) {
            Err(Error::Invalid(text)) => assert!(text.contains(option), "{text}"),
            other => panic!("{cql}: {other:?}"),
        }
        assert_eq!(running.kms_calls(), before, "{cql}");
    }
    running.ok(&alter(&key));
    running.ok(&create("n", &other));
}

#[test]
fn a_keyspace_gives_its_tables_their_key_and_its_rules() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.ok(&format!(
        "CREATE KEYSPACE q WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}} \
         AND CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
         'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{key}'}}, 'encryption_policy': \
         {{'require_cmk': 'true', 'double_wrapping': 'true'}}}}"
    ));
    running.ok("CREATE TABLE q.t (a int PRIMARY KEY) WITH CUSTOM_PROPERTIES = \
         {'kms_encryption_context': {'Tenant': 'x'}}");
    let record = |running: &Running| {
        let catalog = running.database.engine().catalog();
        Arc::clone(&catalog.table("q", "t").unwrap().key)
    };
    let made = record(&running);
    assert_eq!((made.kms_key_arn.as_deref(), made.double_wrapped), (Some(&*key), true));
    assert_eq!(made.encryption_context.get("Tenant").map(String::as_str), Some("x"));
    let refused = running.run(
        "CREATE TABLE q.o (a int PRIMARY KEY) WITH CUSTOM_PROPERTIES = \
         {'encryption_specification': {'encryption_type': 'AWS_OWNED_KMS_KEY'}}",
    );
    assert!(refused.unwrap_err().to_string().contains("require_cmk is set in encryption_policy"));
    for context in ["{'aws:cassandra:tableName': 'x'}", "{'Tenant': 'y'}"] {
        let cql = format!(
            "ALTER TABLE q.t WITH CUSTOM_PROPERTIES = {{'kms_encryption_context': {context}}}"
        );
        assert!(matches!(running.run(&cql), Err(Error::Invalid(_))), "{cql}");
    }
    let described = running.text(
        "SELECT custom_properties FROM system_schema_mcs.tables WHERE \
                                  keyspace_name = 'q' AND table_name = 't'",
    );
    assert!(described.unwrap().contains("Tenant"));
    running.ok("INSERT INTO q.t (a) VALUES (1)");
    running.stop();
    let running = house.start();
    assert!(running.text("SELECT a FROM q.t").is_some());
    assert_eq!(record(&running).blob, made.blob);
}

#[test]
fn schema_statements_are_told_with_their_errors_and_rows_are_not() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.insert("t", 4711);
    running.run("DROP TABLE k.nothing").unwrap_err();
    let events = house.audit.0.lock();
    let names: Vec<_> = events.iter().map(|event| event.name).collect();
    assert_eq!(names, ["CreateKeyspace", "CreateTable", "CreateTable", "DropTable"]);
    assert_eq!(events[1].key_arn.as_deref(), Some(&*key));
    assert!(events[1].statement.starts_with("CREATE TABLE k.t"));
    assert_eq!(events[3].table.as_deref(), Some("nothing"));
    assert!(matches!(events[3].error, Some(Error::Invalid(_))));
    assert!(!format!("{events:?}").contains("4711"));
}

#[test]
fn old_table_keys_and_old_segments_are_renewed() {
    let mut house = House::new();
    house.encryption.table_key_days_max = 30;
    house.encryption.data_key_days_max = 10;
    let (running, _) = house.with_tables();
    running.insert("t", 1);
    running.flush("t");
    let entry = |running: &Running| {
        let catalog = running.database.engine().catalog();
        Arc::clone(catalog.table("k", "t").unwrap())
    };
    let first = entry(&running);
    running.keep_up();
    assert_eq!(entry(&running).segments, first.segments);
    house.clock.advance(11 * DAY);
    running.keep_up();
    let second = entry(&running);
    assert_ne!(second.segments[0].id, first.segments[0].id);
    assert_eq!(second.key.table_key_id, first.key.table_key_id);
    house.clock.advance(20 * DAY);
    running.keep_up();
    let third = entry(&running);
    assert_ne!(third.key.table_key_id, first.key.table_key_id);
    assert_eq!((third.key.grants.clone(), house.grants.left()), (first.key.grants.clone(), 2));
    assert_eq!(running.count("t"), 1);
    let progress = "SELECT progress FROM system_coffer.key_status WHERE keyspace_name = 'k' AND \
                    table_name = 't'";
    assert!(running.text(progress).unwrap().starts_with("100 %"));
}

#[test]
fn rewrapping_changes_the_blob_and_no_file() {
    let house = House::new();
    let (running, _) = house.with_tables();
    running.insert("t", 1);
    running.flush("t");
    let before = running.record();
    let table = running.id("t");
    assert!(running.runtime.block_on(running.database.rewrap_table_key(table)).unwrap());
    let after = running.record();
    assert_ne!(after.blob, before.blob);
    assert_eq!(after.table_key_id, before.table_key_id);
    let other = running.id("other");
    assert!(!running.runtime.block_on(running.database.rewrap_table_key(other)).unwrap());
    running.stop();
    assert_eq!(house.start().count("t"), 1);
}

#[test]
fn the_root_key_is_replaced_at_any_crash_and_every_table_opens() {
    for number in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let vfs = FaultVfs::new();
        let mut house = House::on(Arc::new(vfs.clone()));
        let file = house.directory.path().join("root.key");
        house.root = coffer_keys::create_root_key(&file).unwrap();
        house.encryption.double_wrapping = true;
        let (running, _) = house.with_tables();
        for table in ["t", "other"] {
            running.insert(table, 1);
            running.flush(table);
            running.insert(table, 2);
        }
        if number > 0 {
            let from = vfs.operations() + number;
            vfs.fail_from(from, Fault::Error(std::io::ErrorKind::Other));
        }
        let rotated = running.database.rotate_root_key(&file).is_ok();
        assert!(rotated || number > 0);
        vfs.crash(CrashLoss::Everything).unwrap();
        drop(running);
        let roots = coffer_keys::load_root_keys(&file).unwrap().unwrap();
        assert_eq!(roots.is_rotating(), !rotated, "{number}");
        let running = house.start_with(&roots);
        assert_eq!((running.count("t"), running.count("other")), (2, 2), "{number}");
        running.database.rotate_root_key(&file).unwrap();
        running.insert("t", 3);
        running.stop();
        let roots = coffer_keys::load_root_keys(&file).unwrap().unwrap();
        assert!(!roots.is_rotating());
        let running = house.start_with(&roots);
        assert_eq!((running.count("t"), running.count("other")), (3, 2), "{number}");
        assert!(running.record().double_wrapped);
    }
}

/// Runs the statements on 32 threads; returns the milliseconds it took.
fn in_parallel(running: &Running, statements: &[String]) -> i64 {
    let next = AtomicUsize::new(0);
    let start = SystemClock.monotonic_millis();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while let Some(cql) = statements.get(next.fetch_add(1, Ordering::SeqCst)) {
                    running.ok(cql);
                }
            });
        }
    });
    SystemClock.monotonic_millis() - start
}

#[test]
fn the_keys_of_a_thousand_tables_are_changed_in_seconds() {
    const TABLES: usize = 1_000;
    let mut house = House::new();
    house.keyring.background_calls_per_second_max = 1_000_000;
    let (running, key) = house.with_tables();
    let new = house.key();
    let creates: Vec<_> = (0..TABLES).map(|number| create(&format!("t{number}"), &key)).collect();
    let created = in_parallel(&running, &creates);
    let alters: Vec<_> =
        (0..TABLES).map(|number| format!("ALTER TABLE k.t{number} {}", with_key(&new))).collect();
    house.gate.delay_millis.store(1, Ordering::SeqCst);
    let version = running.database.engine().catalog().version;
    let took = in_parallel(&running, &alters);
    let versions = running.database.engine().catalog().version - version;
    let catalog = running.database.engine().catalog();
    let swapped =
        catalog.tables.values().filter(|entry| entry.key.kms_key_arn.as_ref() == Some(&new));
    assert_eq!(swapped.count(), TABLES);
    assert_eq!(catalog.retiring_grants.len(), 2 * TABLES);
    assert!(versions < 2 * TABLES as u64 / 4, "{versions}: changes share versions");
    assert!(took < 60_000, "CREATEs {created} ms, ALTERs {took} ms, versions {versions}");
}
