//! A key that is lost, with no client connected: noticed, waited for, and its table dropped with a
//! snapshot; and a KMS that is merely away, which costs nobody a table.

use std::time::Duration;

use cql_tests::{
    Client, KeyScript, Result, Server,
    key_status::{status, texts},
    poll::until,
    with_key,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(90);
const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

/// A server with one table of some rows under a key.
struct House {
    script: KeyScript,
    server: Server,
    arn: String,
    now: i64,
}

impl House {
    fn new() -> Result<House> {
        let script = KeyScript::new()?;
        let server = script.server().start()?;
        let arn = server.kms(&["create-key"])?;
        let mut client = Client::connect(server.address())?;
        client
            .execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
        let table = format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&arn));
        client.execute(&table)?;
        for row in 0..10 {
            client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({row}, 'x')"))?;
        }
        Ok(House { script, server, arn, now: 0 })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.server.address())
    }

    fn advance(&mut self, seconds: i64) -> Result<()> {
        self.now += seconds;
        self.script.set_clock(self.now)
    }

    /// Lets intervals pass until the table is in this state.
    fn until_state(&mut self, wanted: &str) -> Result<()> {
        let mut client = self.client()?;
        let (script, now) = (&self.script, &mut self.now);
        until(SOON, wanted, || {
            *now += 2 * MINUTE;
            script.set_clock(*now)?;
            let state = status(&mut client, "t", "state")?;
            Ok(if state == wanted { Ok(()) } else { Err(state) })
        })
    }

    fn has_table(&self) -> Result<bool> {
        let query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ks'";
        Ok(!texts(&mut self.client()?, query)?.is_empty())
    }

    fn told(&self) -> Result<Vec<String>> {
        let rows = texts(&mut self.client()?, "SELECT * FROM system_coffer.events")?;
        Ok(rows.into_iter().filter_map(|mut row| row.remove("kind")).collect())
    }

    fn until_told(&self, kind: &str) -> Result<()> {
        until(SOON, kind, || {
            let told = self.told()?;
            let is_told = told.iter().any(|other| other == kind);
            Ok(if is_told { Ok(()) } else { Err(format!("{told:?}")) })
        })
    }
}

#[test]
fn a_lost_key_costs_its_table_after_seven_days_and_not_before() -> Result<()> {
    let mut house = House::new()?;
    house.server.kms(&["disable-key", &house.arn])?;
    house.until_state("INACCESSIBLE")?;
    house.until_told("key_lost")?;
    let mut client = house.client()?;
    let deadline = status(&mut client, "t", "deadline")?;
    assert!(!deadline.is_empty() && !status(&mut client, "t", "inaccessible_since")?.is_empty());
    let (code, text) = client.error("SELECT v FROM ks.t WHERE k = 1")?;
    assert!(code == 0x2200 && text.contains(&house.arn), "0x{code:04X} {text}");

    // less than an hour has passed since the first refusal
    house.advance(7 * DAY - 60 * MINUTE)?;
    house.until_told("reminder")?;
    assert!(house.has_table()?);
    assert_eq!(status(&mut client, "t", "state")?, "INACCESSIBLE");
    house.server.stop()?;
    house.server.restart()?;
    assert!(house.has_table()?);
    house.advance(61 * MINUTE)?;
    house.until_told("dropped")?;
    assert!(!house.has_table()?);
    let told = house.told()?;
    for kind in ["key_lost", "snapshot_taken", "dropped"] {
        assert_eq!(told.iter().filter(|other| *other == kind).count(), 1, "{told:?}");
    }
    let history = texts(&mut house.client()?, "SELECT * FROM system_schema_mcs.tables_history")?;
    assert!(history.iter().any(|row| row.get("table_name").is_some_and(|name| name == "t")));
    Ok(())
}

#[test]
fn a_key_that_flaps_costs_nothing() -> Result<()> {
    let mut house = House::new()?;
    for _ in 0..3 {
        house.server.kms(&["disable-key", &house.arn])?;
        house.until_state("INACCESSIBLE")?;
        house.advance(4 * DAY)?;
        house.server.kms(&["enable-key", &house.arn])?;
        house.until_state("ACCESSIBLE")?;
    }
    assert!(house.has_table()?);
    house.client()?.rows("SELECT v FROM ks.t WHERE k = 1")?;
    let told = house.told()?;
    assert!(!told.iter().any(|kind| kind == "dropped" || kind == "snapshot_taken"), "{told:?}");
    Ok(())
}

#[test]
fn a_kms_that_is_away_for_eight_days_costs_nothing() -> Result<()> {
    let mut house = House::new()?;
    house.script.set_faults(
        &json!([{"operation": "*", "key": "*", "fault": "error", "error": "InternalFailure"}]),
    )?;
    for _ in 0..8 {
        house.advance(DAY)?;
        house.until_state("UNREACHABLE")?;
    }
    house.until_told("unreachable")?;
    assert!(house.has_table()?);
    house.script.clear_faults()?;
    house.until_state("ACCESSIBLE")?;
    house.client()?.rows("SELECT v FROM ks.t WHERE k = 1")?;
    let told = house.told()?;
    assert!(!told.iter().any(|kind| kind == "dropped" || kind == "key_lost"), "{told:?}");
    Ok(())
}
