//! The loss of a key from the last good write to the last restored row, as an application and an operator
//! see it: the unmodified Python driver, boto3, the clock of keys, and nothing else.

use std::{collections::BTreeSet, time::Duration};

use cql_tests::{
    Boto, Client, PythonDriver, Result, Server, dump,
    files::{files_below, files_that_end},
    free_address,
    key_loss::{DAY, KeyClock, Reader, events, keyspace_with_other, kinds, moment, tables},
    key_status::{status, texts},
    poll::until,
    with_key,
};
use serde_json::{Value, json};

/// So that a table of some hundred rows has segments.
const SMALL: [&str; 4] = ["--memtable-flush-bytes", "64KiB", "--log-file-bytes", "64KiB"];
const DAY_MILLIS: i64 = DAY * 1000;
/// What is read of a clock and shown of another differs by this at most.
const SLACK_MILLIS: i64 = 120_000;

/// A server whose embedded KMS has an endpoint, its administrator, and a table of all types under a key.
struct World {
    clock: KeyClock,
    server: Server,
    boto: Boto,
    key: String,
    before: cql_tests::DriverDump,
    cells: dump::Dump,
}

impl World {
    /// The table has rows in segments and, written last, in the log.
    fn start(more: &[&str]) -> Result<Self> {
        let clock = KeyClock::new()?;
        let address = free_address()?.to_string();
        let arguments = [&SMALL[..], &["--kms-listen", &address], more].concat();
        let mut server = clock.script.server().arguments(&arguments).start()?;
        let credentials = server.directory().join("kms/credentials");
        let boto =
            Boto::start(&format!("http://{address}"), "us-east-1", &credentials, "default", None)?;
        let key = server.kms(&["create-key"])?;
        let mut client = keyspace_with_other(&server)?;
        let mut driver = PythonDriver::start(server.address())?;
        driver.create_everything("ks.t", &with_key(&key).replacen("WITH", "AND", 1))?;
        driver.fill_everything("ks.t", 240)?;
        let second = server.kms(&["create-key"])?;
        client.execute(&format!(
            "CREATE TABLE ks.held (k int PRIMARY KEY, v text) {}",
            with_key(&second)
        ))?;
        client.execute("INSERT INTO ks.held (k, v) VALUES (1, 'served')")?;
        drop((driver, client));
        server.stop()?;
        server.restart()?;
        let (mut driver, mut client) =
            (PythonDriver::start(server.address())?, Client::connect(server.address())?);
        let segments: i32 = status(&mut client, "t", "segments")?.parse()?;
        assert!(segments > 0, "nothing was flushed");
        driver.execute(
            "INSERT INTO ks.t (p, q, c, d, c_text) VALUES (5, 'q1', 0, -1, 'the last good write')",
        )?;
        let before = driver.dump("ks.t")?;
        let cells = dump::table(&mut client, "ks", "t")?;
        assert!(before.rows.len() > 150, "{} rows", before.rows.len());
        Ok(Self { clock, server, boto, key, before, cells })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.server.address())
    }

    fn grants(&mut self) -> Result<Vec<String>> {
        let grants = self.boto.grants(&self.key)?;
        let ids = grants.iter().filter_map(|grant| grant.get("GrantId")?.as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    fn refuse(&mut self) -> Result<()> {
        self.boto.call("DisableKey", json!({"KeyId": self.key})).map(|_| ())
    }

    fn give_back(&mut self) -> Result<()> {
        self.boto.call("EnableKey", json!({"KeyId": self.key})).map(|_| ())
    }

    /// Every cell, through both clients.
    fn assert_whole(&self, table: &str) -> Result<()> {
        let mut driver = PythonDriver::start(self.server.address())?;
        let now = driver.dump(&format!("ks.{table}"))?;
        assert_eq!(self.before.difference(&now), None, "{table} is not as it was");
        let cells = dump::table(&mut self.client()?, "ks", table)?;
        assert!(self.cells == cells, "cells of {table} are not as they were");
        Ok(())
    }

    /// Disables the key and waits until that is known; gives the deadline.
    fn lose(&mut self) -> Result<i64> {
        let mut client = self.client()?;
        self.refuse()?;
        self.clock.wait_for_event(&mut client, "t", "key_lost", 1)?;
        moment(&mut client, "t", "deadline")?.ok_or_else(|| "no deadline".into())
    }

    /// Waits until the table is dropped, its time being over.
    fn lose_for_seven_days(&mut self) -> Result<()> {
        let deadline = self.lose()?;
        let mut client = self.client()?;
        self.clock.set_millis(deadline + 5_000)?;
        self.clock.wait_until_dropped(&mut client, "t")
    }

    fn assert_serves(&self, reader: Reader) -> Result<()> {
        let reads = reader.finish()?;
        assert!(reads > 10, "{reads} reads");
        let rows = self.client()?.rows("SELECT v FROM ks.held WHERE k = 1")?;
        assert_eq!(rows.rows.len(), 1, "a table under another key");
        Ok(())
    }
}

fn assert_near(seen: i64, expected: i64, slack: i64, what: &str) {
    assert!((seen - expected).abs() < slack, "{what}: {seen}, not {expected}");
}

/// `system_schema_mcs.tables_history` of ks.t as Python shows it, newest first.
fn history(driver: &mut PythonDriver) -> Result<Vec<Value>> {
    driver.execute(
        "SELECT event, event_time, custom_properties FROM system_schema_mcs.tables_history \
         WHERE keyspace_name = 'ks' AND table_name = 't'",
    )
}

/// A stop of three days counts as one; a crash is a stop.
fn stops_count_a_day(world: &mut World) -> Result<()> {
    let mut client = world.client()?;
    for is_clean in [true, false] {
        if is_clean {
            world.server.stop()?
        } else {
            world.server.kill()?
        }
        world.clock.advance(3 * DAY)?;
        world.server.restart()?;
        client = world.client()?;
        world.clock.wait_for_refusal(&mut client, "t")?;
        let shown = moment(&mut client, "t", "deadline")?.ok_or("no deadline")?;
        let left = shown - world.clock.now_millis();
        assert!(left > 4 * DAY_MILLIS, "{left} ms left");
        assert_eq!(kinds(&mut client, "t")?, ["key_lost"], "after a restart");
    }
    let left =
        moment(&mut client, "t", "deadline")?.ok_or("no deadline")? - world.clock.now_millis();
    assert_near(left, 5 * DAY_MILLIS, 2 * 3_600_000, "left after two stops");
    Ok(())
}

/// The loss is told once, with its beginning and its deadline, and clients are refused.
fn notices_the_loss(world: &mut World, disabled_at: i64) -> Result<()> {
    let deadline = world.lose()?;
    let mut client = world.client()?;
    let lost = events(&mut client)?;
    assert_eq!(lost.len(), 1, "{lost:#?}");
    let lost = lost.first().ok_or("no event")?;
    assert_eq!((lost.kind.as_str(), lost.key_arn.as_str()), ("key_lost", world.key.as_str()));
    assert_eq!(status(&mut client, "t", "state")?, "INACCESSIBLE");
    let since = moment(&mut client, "t", "inaccessible_since")?.ok_or("no beginning")?;
    assert!(since > disabled_at - 1000, "{since} is before {disabled_at}");
    assert_near(deadline, since + 7 * DAY_MILLIS, 2_000, "deadline");
    assert_near(
        lost.deadline.ok_or("no deadline")?,
        deadline,
        SLACK_MILLIS,
        "deadline of the event",
    );
    assert!(!lost.todo.is_empty() && !lost.incident.is_empty(), "{lost:?}");
    assert_eq!(status(&mut client, "held", "state")?, "ACCESSIBLE");
    let (code, text) = client.error("SELECT * FROM ks.t")?;
    assert!(
        code == 0x2200 && text.contains(&world.key) && text.contains("ks.t"),
        "{code:x} {text}"
    );
    Ok(())
}

#[test]
fn from_the_last_good_write_to_the_last_restored_row() -> Result<()> {
    let mut world = World::start(&[])?;
    let disabled_at = world.clock.now_millis();
    notices_the_loss(&mut world, disabled_at)?;
    stops_count_a_day(&mut world)?;
    let mut client = world.client()?;

    // From here on the server runs, and serves every other table.
    let reader = Reader::start(world.server.address(), "SELECT v FROM ks.other WHERE k = 1")?;
    let mut driver = PythonDriver::start(world.server.address())?;
    assert_eq!(driver.tables("ks")?, ["held", "other", "t"]);
    for (days, count) in [(3, 1), (1, 2)] {
        let deadline = moment(&mut client, "t", "deadline")?.ok_or("no deadline")?;
        world.clock.set_millis(deadline - days * DAY_MILLIS + 3_600_000)?;
        let reminder = world.clock.wait_for_event(&mut client, "t", "reminder", count)?;
        assert!(reminder.detail.contains("left"), "{reminder:?}");
    }
    let deadline = moment(&mut client, "t", "deadline")?.ok_or("no deadline")?;
    world.clock.set_millis(deadline - 900_000)?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    assert!(world.clock.now_millis() < deadline, "this machine is too slow for this test");
    assert!(tables(&mut client)?.contains("t"), "dropped before its time");
    world.clock.set_millis(deadline + 2_000)?;
    world.clock.wait_until_dropped(&mut client, "t")?;
    let told = kinds(&mut client, "t")?;
    assert_eq!(told, ["key_lost", "reminder", "reminder", "snapshot_taken", "dropped"]);
    let all = events(&mut client)?;
    let incidents: BTreeSet<&String> = all.iter().map(|event| &event.incident).collect();
    assert_eq!(incidents.len(), all.len(), "one id for each transition: {all:#?}");
    until(Duration::from_secs(30), "the driver is told", || {
        let known = driver.tables("ks")?;
        Ok(if known == ["held", "other"] { Ok(()) } else { Err(format!("{known:?}")) })
    })?;
    world.assert_serves(reader)?;
    assert!(!files_below(&world.server.directory().join("snapshots"))?.is_empty());

    let history = history(&mut driver)?;
    let newest = history.first().ok_or("no history")?;
    assert_eq!(newest.get("event"), Some(&json!("DROP")), "{history:?}");
    let shown = newest.to_string();
    assert!(shown.contains("restorable_until_time"), "{shown}");
    let (code, text) = driver.error("RESTORE TABLE ks.t2 FROM TABLE ks.t")?;
    assert!(code == 0x2200 && text.contains(&world.key), "0x{code:04X} {text}");
    world.give_back()?;
    driver.execute("RESTORE TABLE ks.t2 FROM TABLE ks.t")?;
    world.assert_whole("t2")?;
    let restored = world.clock.wait_for_event(&mut client, "t2", "restored", 1);
    let restored =
        restored.or_else(|_| world.clock.wait_for_event(&mut client, "t", "restored", 1))?;
    assert_eq!(restored.key_arn, world.key);
    client.execute("INSERT INTO ks.t2 (p, q, c, d, c_text) VALUES (1, 'q', 0, 0, 'new')")?;
    client.execute("DELETE FROM ks.t2 WHERE p = 1 AND q = 'q'")?;
    world.server.kill()?;
    world.server.restart()?;
    world.assert_whole("t2")?;
    // Under its first name too: nothing of that name is there.
    world.client()?.execute("RESTORE TABLE ks.t FROM TABLE ks.t")?;
    world.assert_whole("t")
}

#[test]
fn a_snapshot_lives_35_days_its_grant_42_and_a_restored_table_for_ever() -> Result<()> {
    let mut world = World::start(&[])?;
    let mut client = world.client()?;
    let grant = status(&mut client, "t", "snapshot_grant")?;
    world.lose_for_seven_days()?;
    let dropped_at = world.clock.now_millis();
    world.give_back()?;
    world.clock.set_millis(dropped_at + 34 * DAY_MILLIS)?;
    client = world.client()?;
    client.execute("RESTORE TABLE ks.day34 FROM TABLE ks.t")?;
    world.assert_whole("day34")?;
    assert!(!kinds(&mut client, "t")?.contains(&"purged".to_owned()), "purged on day 34");

    world.clock.set_millis(dropped_at + 36 * DAY_MILLIS)?;
    let purged = world.clock.wait_for_event(&mut client, "t", "purged", 1)?;
    assert!(purged.detail.to_lowercase().contains("destroyed"), "{purged:?}");
    let (code, text) = client.error("RESTORE TABLE ks.day36 FROM TABLE ks.t")?;
    assert!(code == 0x2200 && text.contains("ks.t"), "0x{code:04X} {text}");
    let left = files_that_end(&world.server.directory().join("snapshots"), "")?;
    assert!(left.is_empty(), "{left:?}");
    // What was restored is a table of its own.
    world.assert_whole("day34")?;

    world.clock.set_millis(dropped_at + 41 * DAY_MILLIS)?;
    world.clock.wait_for_state(&mut client, "day34", "ACCESSIBLE")?;
    assert!(world.grants()?.contains(&grant), "the snapshot grant is gone on day 41");
    world.clock.set_millis(dropped_at + 43 * DAY_MILLIS)?;
    let (key, boto) = (world.key.clone(), &mut world.boto);
    world.clock.nudge_until("the snapshot grant is retired", || {
        let grants = boto.grants(&key)?;
        let is_there = grants.iter().any(|one| one.get("GrantId") == Some(&json!(grant)));
        Ok(if is_there { Err(format!("{grants:?}")) } else { Ok(()) })
    })?;
    world.server.stop()?;
    world.server.restart()?;
    world.assert_whole("day34")
}

#[test]
fn a_key_that_comes_back_at_the_last_moment_costs_nothing() -> Result<()> {
    let mut world = World::start(&[])?;
    let deadline = world.lose()?;
    let mut client = world.client()?;
    world.clock.set_millis(deadline - 900_000)?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    world.give_back()?;
    let back = world.clock.wait_for_event(&mut client, "t", "recovered", 1)?;
    assert_eq!(back.incident.len(), 36, "{back:?}");
    world.clock.set_millis(deadline + DAY_MILLIS)?;
    world.clock.wait_for_state(&mut client, "t", "ACCESSIBLE")?;
    world.assert_whole("t")?;
    let told = kinds(&mut client, "t")?;
    assert!(!told.iter().any(|kind| kind == "dropped"), "{told:?}");
    assert_eq!(moment(&mut client, "t", "deadline")?, None);
    // Lost again it has seven days again, and another incident.
    let again = world.clock.now_millis();
    world.refuse()?;
    let lost = world.clock.wait_for_event(&mut client, "t", "key_lost", 2)?;
    let first = events(&mut client)?.into_iter().find(|event| event.kind == "key_lost");
    assert!(first.is_some_and(|first| first.incident != lost.incident));
    let deadline = moment(&mut client, "t", "deadline")?.ok_or("no deadline")?;
    assert!(deadline >= again + 7 * DAY_MILLIS - 1000, "{deadline} is too early");
    Ok(())
}

#[test]
fn a_table_whose_policy_is_never_is_never_dropped() -> Result<()> {
    let mut world = World::start(&[])?;
    world.client()?.execute(
        "ALTER TABLE ks.t WITH CUSTOM_PROPERTIES = {'key_loss': {'delete_after': 'never'}}",
    )?;
    let mut client = world.client()?;
    world.refuse()?;
    world.clock.wait_for_event(&mut client, "t", "key_lost", 1)?;
    assert_eq!(moment(&mut client, "t", "deadline")?, None, "a deadline");
    for _ in 0..3 {
        world.clock.advance(30 * DAY)?;
        world.clock.wait_for_refusal(&mut client, "t")?;
    }
    assert!(tables(&mut client)?.contains("t"), "{:?}", kinds(&mut client, "t")?);
    world.give_back()?;
    world.clock.wait_for_event(&mut client, "t", "recovered", 1)?;
    world.assert_whole("t")
}

#[test]
fn a_shorter_time_of_a_table_counts() -> Result<()> {
    let mut world = World::start(&[])?;
    world.client()?.execute(
        "ALTER TABLE ks.t WITH CUSTOM_PROPERTIES = {'key_loss': {'delete_after': '2d'}}",
    )?;
    let deadline = world.lose()?;
    let mut client = world.client()?;
    let since = moment(&mut client, "t", "inaccessible_since")?.ok_or("no beginning")?;
    assert_near(deadline, since + 2 * DAY_MILLIS, 2_000, "deadline");
    world.clock.set_millis(deadline + 2_000)?;
    world.clock.wait_until_dropped(&mut client, "t")?;
    world.give_back()?;
    client.execute("RESTORE TABLE ks.t FROM TABLE ks.t")?;
    world.assert_whole("t")
}

/// Whoever drops a dark table means it; a snapshot is kept unless the table says that none is wanted.
#[test]
fn a_dark_table_can_be_dropped_and_is_kept_unless_it_wants_no_snapshot() -> Result<()> {
    for wants_snapshot in [true, false] {
        let mut world = World::start(&[])?;
        if !wants_snapshot {
            let none = "ALTER TABLE ks.t WITH CUSTOM_PROPERTIES = {'auto_snapshot': {'status': 'disabled'}}";
            world.client()?.execute(none)?;
        }
        world.lose()?;
        let mut client = world.client()?;
        client.execute("DROP TABLE ks.t")?;
        let kept = files_that_end(&world.server.directory().join("snapshots"), "")?;
        assert_eq!(!kept.is_empty(), wants_snapshot, "{kept:?}");
        let (code, text) = client.error("RESTORE TABLE ks.t2 FROM TABLE ks.t")?;
        assert_eq!(code, 0x2200, "{text}");
        assert_eq!(text.contains(&world.key), wants_snapshot, "{text}");
        world.give_back()?;
        if wants_snapshot {
            client.execute("RESTORE TABLE ks.t2 FROM TABLE ks.t")?;
            world.assert_whole("t2")?;
        } else {
            client.error("RESTORE TABLE ks.t2 FROM TABLE ks.t")?;
        }
    }
    Ok(())
}

/// A snapshot outlives the key that the table had when it was taken, and needs the one it has now.
#[test]
fn a_swap_between_snapshot_and_restore_reaches_the_snapshot() -> Result<()> {
    let mut world = World::start(&[])?;
    let second = world.server.kms(&["create-key"])?;
    let output = world.server.coffer(&["snapshot", "create", "ks.t", "--name", "before"])?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut client = world.client()?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&second)))?;
    // What the table was under is not needed any more, for nothing.
    world.refuse()?;
    client.execute("DROP TABLE ks.t")?;
    let (code, text) = client.error("RESTORE TABLE ks.t2 FROM TABLE ks.t")?;
    assert!(code == 0x2200 && text.contains("'snapshot'"), "0x{code:04X} {text}");
    client.execute(
        "RESTORE TABLE ks.t2 FROM TABLE ks.t WITH custom_properties = {'snapshot': {'name': 'before'}}",
    )?;
    world.assert_whole("t2")?;
    assert_eq!(status(&mut client, "t2", "key_arn")?, second);
    let asks =
        "ALTER TABLE ks.t2 WITH CUSTOM_PROPERTIES = {'auto_snapshot': {'status': 'enabled'}}";
    client.execute(asks)?;
    client.execute("DROP TABLE ks.t2")?;
    world.server.kms(&["disable-key", &second])?;
    let (code, text) = client.error("RESTORE TABLE ks.t3 FROM TABLE ks.t2")?;
    assert!(code == 0x2200 && text.contains(&second), "0x{code:04X} {text}");
    let rows = texts(
        &mut client,
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ks'",
    )?;
    assert_eq!(rows.len(), 2, "a refused restore left something: {rows:?}");
    Ok(())
}
