//! RESTORE TABLE over the wire: what is dropped comes back whole, history is exact to the second, and only
//! the last key of a table is needed for it.

use std::time::Duration;

use cql_tests::{
    Client, KeyScript, PythonDriver, Result, Server, WITH_OWNED_KEY,
    dump::{self, Dump},
    key_status::texts,
    poll::until,
    with_key,
};

const SOON: Duration = Duration::from_secs(30);
const INVALID: i32 = 0x2200;
const ALREADY_EXISTS: i32 = 0x2400;

fn keyspace(client: &mut Client) -> Result<()> {
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    Ok(())
}

fn column(client: &mut Client, table: &str, column: &str) -> Result<Option<String>> {
    let rows = texts(
        client,
        &format!(
            "SELECT {column} FROM system_schema_mcs.tables WHERE keyspace_name = 'ks' AND table_name = \
             '{table}'"
        ),
    )?;
    Ok(rows.into_iter().next().and_then(|mut row| row.remove(column)))
}

fn is_refused(client: &mut Client, statement: &str, code: i32, needles: &[&str]) -> Result<()> {
    let (seen, text) = client.error(statement)?;
    assert_eq!(seen, code, "{statement}: {text}");
    for needle in needles {
        assert!(text.contains(needle), "{statement}: no '{needle}' in: {text}");
    }
    Ok(())
}

fn fill(client: &mut Client, table: &str, rows: usize) -> Result<()> {
    for k in 0..rows {
        client.execute(&format!("INSERT INTO ks.{table} (k, v) VALUES ({k}, 'row {k}')"))?;
    }
    Ok(())
}

fn all(client: &mut Client, table: &str) -> Result<Dump> {
    dump::table(client, "ks", table)
}

#[test]
fn a_table_dropped_without_its_key_comes_back_bit_for_bit() -> Result<()> {
    let script = KeyScript::new()?;
    let flush = ["--memtable-flush-bytes", "64KiB", "--compaction-segments-min", "4"];
    let mut server = script.server().arguments(&flush).start()?;
    let (first, last) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let mut driver = PythonDriver::start(server.address())?;
    driver.create_everything("ks.t", &with_key(&first).replacen("WITH", "AND", 1))?;
    driver.fill_everything("ks.t", 240)?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&last)))?;
    server.kms(&["disable-key", &first])?;
    let before = driver.dump("ks.t")?;
    let bytes = all(&mut client, "t")?;

    server.kms(&["disable-key", &last])?;
    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    is_refused(&mut client, "SELECT * FROM ks.t LIMIT 1", INVALID, &[&last])?;
    client.execute("DROP TABLE ks.t")?;
    let kept = texts(&mut client, "SELECT * FROM system_coffer.snapshots")?;
    let [kept] = kept.as_slice() else { return Err(format!("{kept:?}").into()) };
    for (name, value) in [("kind", "drop"), ("is_dropped", "true"), ("key_arn_needed", &last)] {
        assert_eq!(kept.get(name).map(String::as_str), Some(value), "{name}: {kept:?}");
    }
    let history = texts(
        &mut client,
        "SELECT event, custom_properties FROM system_schema_mcs.tables_history WHERE keyspace_name = \
         'ks' AND table_name = 't'",
    )?;
    assert!(format!("{:?}", history.first()).contains("restorable_until_time"), "{history:?}");

    let restore = "RESTORE TABLE ks.r FROM TABLE ks.t WITH TAGS = {'key1': 'val1'}";
    is_refused(&mut client, restore, INVALID, &[&last, "DisabledException", "ks.t", "enable"])?;
    assert_eq!(column(&mut client, "r", "status")?, None, "nothing is left of it");
    server.kms(&["enable-key", &last])?;
    let mut driver = PythonDriver::start(server.address())?;
    client.execute(restore)?;
    assert_eq!(column(&mut client, "r", "status")?.as_deref(), Some("ACTIVE"));
    until(SOON, "the driver hears of the table", || {
        let tables = driver.tables("ks")?;
        Ok(if tables == ["r"] { Ok(()) } else { Err(format!("{tables:?}")) })
    })?;
    assert_eq!(before.difference(&driver.dump("ks.r")?), None);
    assert_eq!(all(&mut client, "r")?, bytes);

    // it has all it needs: after a power cut, and when compaction has rewritten its segments
    server.kill()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(all(&mut client, "r")?, bytes);
    let mut driver = PythonDriver::start(server.address())?;
    assert_eq!(before.difference(&driver.dump("ks.r")?), None);
    client.execute("RESTORE TABLE ks.again FROM TABLE ks.t")?;
    assert_eq!(all(&mut client, "again")?, bytes, "the snapshot stays as it is");
    Ok(())
}

/// The server's clock, milliseconds since 1970.
fn now(client: &mut Client) -> Result<i64> {
    let rows = texts(client, "SELECT toUnixTimestamp(now()) AS now FROM system.local")?;
    let now = rows.into_iter().next().and_then(|mut row| row.remove("now"));
    Ok(now.ok_or("no time")?.parse()?)
}

fn until_second(client: &mut Client, second: i64) -> Result<()> {
    until(SOON, "the next second", || {
        let seen = now(client)?;
        Ok(if seen >= second * 1000 { Ok(()) } else { Err(seen.to_string()) })
    })
}

fn value(client: &mut Client, table: &str) -> Result<Option<String>> {
    let rows = texts(client, &format!("SELECT v FROM ks.{table} WHERE k = 1"))?;
    Ok(rows.into_iter().next().and_then(|mut row| row.remove("v")))
}

#[test]
fn each_second_of_a_ten_second_overwrite_can_be_restored() -> Result<()> {
    let script = KeyScript::new()?;
    let mut server = script.server().start()?;
    let (first, second) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let with_both = with_key(&first).replacen(
        "{'encryption",
        "{'point_in_time_recovery': {'status': 'enabled'}, 'encryption",
        1,
    );
    assert_ne!(with_both, with_key(&first));
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {with_both}"))?;
    let shown = column(&mut client, "t", "custom_properties")?.unwrap_or_default();
    assert!(shown.contains("earliest_restorable_timestamp"), "{shown}");
    let begin = now(&mut client)?.div_euclid(1000) + 1;
    for number in 0..10_i64 {
        until_second(&mut client, begin + number)?;
        client.execute(&format!("INSERT INTO ks.t (k, v) VALUES (1, 'value {number}')"))?;
        if number == 5 {
            client.execute(&format!("ALTER TABLE ks.t {}", with_key(&second)))?;
            server.kms(&["disable-key", &first])?;
        }
    }
    until_second(&mut client, begin + 10)?;
    let restore = |client: &mut Client, prefix: &str, number: i64| -> Result<()> {
        // the last moment of that second, in the two spellings in turn
        let millis = (begin + number) * 1000 + 999;
        let time = cql_types::time::format_timestamp(millis);
        let time = if number % 2 == 0 { time.replace('Z', "+0000") } else { time };
        client.execute(&format!(
            "RESTORE TABLE ks.{prefix}{number} FROM TABLE ks.t WITH restore_timestamp = '{time}'"
        ))?;
        let seen = value(client, &format!("{prefix}{number}"))?;
        assert_eq!(seen, Some(format!("value {number}")), "{prefix} {time}");
        Ok(())
    };
    for number in 0..10 {
        restore(&mut client, "live", number)?;
    }
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'last')")?;
    client.execute("DROP TABLE ks.t")?;
    server.kill()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    for number in 0..10 {
        restore(&mut client, "dropped", number)?;
    }
    client.execute("RESTORE TABLE ks.newest FROM TABLE ks.t")?;
    assert_eq!(value(&mut client, "newest")?.as_deref(), Some("last"));
    for number in 0..10 {
        let seen = value(&mut client, &format!("live{number}"))?;
        assert_eq!(seen, Some(format!("value {number}")), "after a power cut");
    }
    let late = cql_types::time::format_timestamp(now(&mut client)?);
    let at = |time: &str| {
        format!("RESTORE TABLE ks.x FROM TABLE ks.t WITH restore_timestamp = '{time}'")
    };
    is_refused(&mut client, &at(&late), INVALID, &["outside", "earliest", "latest"])?;
    is_refused(&mut client, &at("2001-02-03T04:05:00+0000"), INVALID, &["outside", "earliest"])?;
    is_refused(&mut client, &at("2901-02-03T04:05:00+0000"), INVALID, &["has not come yet"])?;
    Ok(())
}

#[test]
fn the_matrix_of_keys_left_and_taken() -> Result<()> {
    let script = KeyScript::new()?;
    let server = script.server().start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let mut number = 0;
    for from_cmk in [false, true] {
        for to_cmk in [false, true] {
            for is_accessible in [true, false] {
                number += 1;
                let (source, target) = (format!("s{number}"), format!("r{number}"));
                let (from, to) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
                let of = |is_cmk: bool, arn: &str| {
                    if is_cmk { with_key(arn) } else { WITH_OWNED_KEY.to_owned() }
                };
                client.execute(&format!(
                    "CREATE TABLE ks.{source} (k int PRIMARY KEY, v text) {}",
                    of(from_cmk, &from)
                ))?;
                fill(&mut client, &source, 20)?;
                let bytes = all(&mut client, &source)?;
                client.execute(&format!(
                    "ALTER TABLE ks.{source} WITH CUSTOM_PROPERTIES = {{'auto_snapshot': 'true'}}"
                ))?;
                client.execute(&format!("DROP TABLE ks.{source}"))?;
                if !is_accessible {
                    server.kms(&["disable-key", &from])?;
                }
                let restore =
                    format!("RESTORE TABLE ks.{target} FROM TABLE ks.{source} {}", of(to_cmk, &to));
                if from_cmk && !is_accessible {
                    is_refused(&mut client, &restore, INVALID, &[&from, "Disabled"])?;
                    assert_eq!(column(&mut client, &target, "status")?, None);
                    continue;
                }
                client.execute(&restore)?;
                server.kms(&["disable-key", &from])?;
                assert_eq!(all(&mut client, &target)?, bytes, "{restore}");
                let shown = column(&mut client, &target, "custom_properties")?.unwrap_or_default();
                assert_eq!(shown.contains(&to), to_cmk, "{shown}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_restored_is_refused_with_a_code_and_a_reason() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")?;
    client.execute("CREATE TABLE ks.other (k int PRIMARY KEY, v text)")?;
    fill(&mut client, "t", 3)?;
    let cases: [(&str, i32, &[&str]); 5] = [
        ("RESTORE TABLE ks.other FROM TABLE ks.t", ALREADY_EXISTS, &["other"]),
        ("RESTORE TABLE ks.r FROM TABLE ks.nosuch", INVALID, &["ks.nosuch"]),
        ("RESTORE TABLE ks.r FROM TABLE ks.t", INVALID, &["point_in_time_recovery is not enabled"]),
        (
            "RESTORE TABLE ks.r FROM TABLE ks.t WITH restore_timestamp = 'noon'",
            INVALID,
            &["ISO 8601", "noon"],
        ),
        ("RESTORE TABLE ks.r FROM TABLE ks.t WITH comment = 'c'", 0x2000, &["comment"]),
    ];
    for (statement, code, needles) in cases {
        is_refused(&mut client, statement, code, needles)?;
    }
    // with a type of the same name that is another one
    client.execute("CREATE TYPE ks.point (x int, y int)")?;
    client.execute(
        "CREATE TABLE ks.u (k int PRIMARY KEY, v text, p frozen<point>) WITH CUSTOM_PROPERTIES = \
         {'auto_snapshot': {'status': 'enabled'}}",
    )?;
    client.execute("INSERT INTO ks.u (k, v, p) VALUES (1, 'one', {x: 4, y: 5})")?;
    client.execute("DROP TABLE ks.u")?;
    client.execute("DROP TYPE ks.point")?;
    client.execute("CREATE TYPE ks.point (x text)")?;
    let restore = "RESTORE TABLE ks.r FROM TABLE ks.u";
    is_refused(&mut client, restore, INVALID, &["ks.point"])?;
    client.execute("DROP TYPE ks.point")?;
    client.execute(restore)?;
    let rows = texts(&mut client, "SELECT p.y AS y FROM ks.r")?;
    assert_eq!(rows.first().and_then(|row| row.get("y")).map(String::as_str), Some("5"));
    Ok(())
}
