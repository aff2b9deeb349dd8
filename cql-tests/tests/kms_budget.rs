//! How often a server asks its KMS: never for owned tables, never at the start, and once for each table key
//! and cache window, however many segments, rows and connections there are.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use cql_protocol::{BoundValue, QueryParameters, ReceivedBody, Request, Values};
use cql_tests::{
    Client, KeyScript, Result, Server,
    key_status::{requests, status},
    poll::until,
    with_key,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);
const WRITES: i32 = 12_000;
const CONNECTIONS: usize = 1_000;
const TINY: [&str; 10] = [
    "--memtable-flush-bytes",
    "64KiB",
    "--log-file-bytes",
    "256KiB",
    "--log-total-bytes",
    "2MiB",
    "--compaction-segments-min",
    "32",
    "--block-cache-bytes",
    "1MiB",
];

fn keyspace(client: &mut Client) -> Result<()> {
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    Ok(())
}

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// Writes rows 0 to `rows`, many in flight; each is acknowledged.
fn fill(client: &mut Client, table: &str, rows: i32) -> Result<()> {
    let insert = client.prepare(&format!("INSERT INTO ks.{table} (k, v) VALUES (?, ?)"))?;
    let text = Bytes::from("what fills a segment ".repeat(6));
    let requests: Vec<Request> = (0..rows)
        .map(|row| {
            let key = BoundValue::Value(Bytes::copy_from_slice(&row.to_be_bytes()));
            let values = Values::Positional(vec![key, BoundValue::Value(text.clone())]);
            let parameters = QueryParameters { values, ..QueryParameters::default() };
            Request::Execute(cql_protocol::Execute { id: insert.id.clone(), parameters })
        })
        .collect();
    for batch in requests.chunks(100) {
        client.send_requests(batch)?;
        for _ in batch {
            match client.receive()?.body {
                ReceivedBody::Void => {}
                other => return Err(format!("{other:?}").into()),
            }
        }
    }
    Ok(())
}

/// As an application with a connection for each request: all of them read one row.
fn connect_often(server: &Server, table: &str) -> Result<()> {
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(server.address())?;
        client.rows(&format!("SELECT v FROM ks.{table} WHERE k = 1"))?;
    }
    Ok(())
}

/// Sets the clock and waits until the server goes by it.
fn set_clock(script: &KeyScript, client: &mut Client, seconds: i64) -> Result<()> {
    script.set_clock(seconds)?;
    until(SOON, "the server sees its clock", || {
        let age: i64 = status(client, "t", "table_key_age_seconds")?.parse()?;
        Ok(if age >= seconds { Ok(()) } else { Err(format!("{age} s")) })
    })
}

#[test]
fn a_table_under_the_owned_key_never_asks_a_kms() -> Result<()> {
    let mut server = KeyScript::new()?.server().arguments(&TINY).start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")?;
    fill(&mut client, "t", WRITES)?;
    assert_eq!(requests(&mut client, None)?, counts(&[]));
    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    fill(&mut client, "t", 100)?;
    client.execute("DROP TABLE ks.t")?;
    assert_eq!(requests(&mut client, None)?, counts(&[]));
    Ok(())
}

#[test]
fn a_table_costs_five_calls_to_make_none_to_start_and_one_to_open() -> Result<()> {
    let script = KeyScript::new()?;
    let mut server = script.server().arguments(&TINY).start()?;
    let arn = server.kms(&["create-key"])?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&arn)))?;
    let made = counts(&[("CreateGrant", 2), ("DescribeKey", 1), ("GenerateDataKey", 1)]);
    assert_eq!(requests(&mut client, Some("t"))?, made, "CREATE TABLE");
    fill(&mut client, "t", WRITES)?;
    connect_often(&server, "t")?;
    let segments: u64 = status(&mut client, "t", "segments")?.parse()?;
    assert!(segments > 0, "nothing was flushed: the thresholds are too large for this test");
    assert_eq!(requests(&mut client, Some("t"))?, made, "writes and connections");

    for is_clean in [true, false] {
        if is_clean {
            server.stop()?
        } else {
            server.kill()?
        }
        server.restart()?;
        let mut client = Client::connect(server.address())?;
        assert_eq!(requests(&mut client, None)?, counts(&[]), "a start");
        connect_often(&server, "t")?;
        fill(&mut client, "t", WRITES / 2)?;
        client.rows("SELECT count(*) FROM ks.t")?;
        assert_eq!(requests(&mut client, None)?, counts(&[("Decrypt", 1)]), "first use");
    }

    let mut client = Client::connect(server.address())?;
    client.execute("DROP TABLE ks.t")?;
    until(SOON, "the grant is retired", || {
        let seen = requests(&mut client, None)?;
        let retired = seen.get("RetireGrant") == Some(&1);
        Ok(if retired { Ok(()) } else { Err(format!("{seen:?}")) })
    })
}

/// 299 s after the last call the key serves without the KMS, 301 s after it no more.
#[test]
fn a_cached_key_serves_299_seconds_and_not_301() -> Result<()> {
    let script = KeyScript::new()?;
    let server = script.server().start()?;
    let arn = server.kms(&["create-key"])?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&arn)))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'x')")?;
    script.set_faults(&json!([{"operation": "*", "key": "*", "fault": "throttle"}]))?;
    // The seconds this test has taken so far count too.
    set_clock(&script, &mut client, 290)?;
    client.rows("SELECT v FROM ks.t WHERE k = 1")?;
    set_clock(&script, &mut client, 301)?;
    let (code, text) = client.error("SELECT v FROM ks.t WHERE k = 1")?;
    assert!(code == 0x1001 && text.contains(&arn), "0x{code:04X} {text}");
    let before = requests(&mut client, Some("t"))?;
    script.clear_faults()?;
    until(SOON, "the table serves again", || {
        Ok(match client.query("SELECT v FROM ks.t WHERE k = 1")? {
            ReceivedBody::Rows(_) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })?;
    let after = requests(&mut client, Some("t"))?;
    let decrypts = |counts: &BTreeMap<String, u64>| counts.get("Decrypt").copied().unwrap_or(0);
    assert!(decrypts(&after) > decrypts(&before), "{before:?}, {after:?}");
    Ok(())
}

/// Under constant traffic each window of 300 s has one Decrypt, made ahead of its end; a key that is disabled
/// stops the table within 300 s, and one that is enabled serves within 60 s.
#[test]
fn under_constant_traffic_a_window_costs_one_decrypt_and_bounds_a_revocation() -> Result<()> {
    let script = KeyScript::new()?;
    let server = script.server().start()?;
    let arn = server.kms(&["create-key"])?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&arn)))?;
    let (step, steps) = (60, 30);
    for now in 1..=steps {
        set_clock(&script, &mut client, now * step)?;
        for row in 0..50 {
            client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({row}, 'x')"))?;
        }
    }
    let decrypts = requests(&mut client, Some("t"))?.get("Decrypt").copied().unwrap_or(0);
    // 1,800 s; a refresh comes 210 to 300 s after the one before.
    assert!((5..=9).contains(&decrypts), "{decrypts} Decrypts in {} s", step * steps);

    server.kms(&["disable-key", &arn])?;
    set_clock(&script, &mut client, steps * step + 301)?;
    let (code, text) = client.error("SELECT v FROM ks.t WHERE k = 1")?;
    assert!(code == 0x2200 && text.contains("is disabled"), "0x{code:04X} {text}");
    server.kms(&["enable-key", &arn])?;
    until(Duration::from_secs(60), "the table serves again", || {
        Ok(match client.query("SELECT v FROM ks.t WHERE k = 1")? {
            ReceivedBody::Rows(_) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
}
