//! A key that is lost, with no client connected: noticed, waited for, and its table dropped with a
//! snapshot; and a KMS that is merely away, which costs nobody a table.

use cql_tests::{
    Client, Result, Server,
    key_loss::{DAY, KeyClock, keyspace_with_other, kinds, moment, tables},
    key_status::texts,
    with_key,
};
use serde_json::json;

const HOUR: i64 = 60 * 60;

/// A server with a table `ks.t` of some rows under a key.
struct World {
    clock: KeyClock,
    server: Server,
    client: Client,
    key: String,
}

impl World {
    fn start() -> Result<Self> {
        let clock = KeyClock::new()?;
        let server = clock.script.server().start()?;
        let key = server.kms(&["create-key"])?;
        let mut client = keyspace_with_other(&server)?;
        client.execute(&format!(
            "CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}",
            with_key(&key)
        ))?;
        for row in 0..10 {
            client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({row}, 'x')"))?;
        }
        Ok(Self { clock, server, client, key })
    }

    fn wait_for_state(&mut self, state: &str) -> Result<()> {
        self.clock.wait_for_state(&mut self.client, "t", state)
    }

    fn wait_for_event(&mut self, kind: &str) -> Result<()> {
        self.clock.wait_for_event(&mut self.client, "t", kind, 1).map(drop)
    }

    /// Whether the table is there.
    fn has_table(&mut self) -> Result<bool> {
        Ok(tables(&mut self.client)?.contains("t"))
    }

    /// Whether its rows are read, and nothing was told of a kind among these.
    fn is_as_ever(&mut self, never: &[&str]) -> Result<()> {
        self.client.rows("SELECT v FROM ks.t WHERE k = 1")?;
        let told = kinds(&mut self.client, "t")?;
        let unwanted = told.iter().any(|kind| never.contains(&kind.as_str()));
        if unwanted { Err(format!("{told:?}").into()) } else { Ok(()) }
    }
}

#[test]
fn a_lost_key_costs_its_table_after_seven_days_and_not_before() -> Result<()> {
    let mut world = World::start()?;
    world.server.kms(&["disable-key", &world.key])?;
    world.wait_for_state("INACCESSIBLE")?;
    world.wait_for_event("key_lost")?;
    let since = moment(&mut world.client, "t", "inaccessible_since")?.ok_or("no first refusal")?;
    let deadline = moment(&mut world.client, "t", "deadline")?.ok_or("no deadline")?;
    // The deadline is reckoned by the age of the directory and shown by the clock: not to the millisecond.
    let wait = deadline - since;
    assert!((wait - 7 * DAY * 1000).abs() < 1000, "{wait} ms");
    let (code, text) = world.client.error("SELECT v FROM ks.t WHERE k = 1")?;
    assert!(code == 0x2200 && text.contains(&world.key), "0x{code:04X} {text}");

    world.clock.set_millis(deadline - HOUR * 1000)?;
    world.wait_for_event("reminder")?;
    assert!(world.has_table()?);
    world.server.stop()?;
    world.server.restart()?;
    world.client = Client::connect(world.server.address())?;
    assert!(world.has_table()?);
    world.wait_for_state("INACCESSIBLE")?;
    world.clock.advance(HOUR)?;
    world.wait_for_event("dropped")?;
    assert!(!world.has_table()?);
    let told = kinds(&mut world.client, "t")?;
    for kind in ["key_lost", "snapshot_taken", "dropped"] {
        assert_eq!(told.iter().filter(|other| *other == kind).count(), 1, "{told:?}");
    }
    let history = texts(&mut world.client, "SELECT * FROM system_schema_mcs.tables_history")?;
    assert!(history.iter().any(|row| row.get("table_name").is_some_and(|name| name == "t")));
    Ok(())
}

#[test]
fn a_key_that_flaps_costs_nothing() -> Result<()> {
    let mut world = World::start()?;
    for _ in 0..3 {
        world.server.kms(&["disable-key", &world.key])?;
        world.wait_for_state("INACCESSIBLE")?;
        world.clock.advance(4 * DAY)?;
        world.server.kms(&["enable-key", &world.key])?;
        world.wait_for_state("ACCESSIBLE")?;
    }
    assert!(world.has_table()?);
    world.is_as_ever(&["dropped", "snapshot_taken"])
}

#[test]
fn a_kms_that_is_away_for_eight_days_costs_nothing() -> Result<()> {
    let mut world = World::start()?;
    world.clock.script.set_faults(
        &json!([{"operation": "*", "key": "*", "fault": "error", "error": "InternalFailure"}]),
    )?;
    for _ in 0..8 {
        world.clock.advance(DAY)?;
        world.wait_for_state("UNREACHABLE")?;
    }
    world.wait_for_event("unreachable")?;
    assert!(world.has_table()?);
    world.clock.script.clear_faults()?;
    world.wait_for_state("ACCESSIBLE")?;
    world.is_as_ever(&["dropped", "key_lost"])
}
