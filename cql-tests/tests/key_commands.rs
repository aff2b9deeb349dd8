//! `coffer keys` and `coffer audit` beside a running server.
#![expect(clippy::disallowed_methods, reason = "polls end at a deadline in real time")]

use std::time::{Duration, Instant};

use cql_tests::{Client, Result, Server};
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(30);
const KEYSPACE: &str = "CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}";

/// Exit code and output of `coffer ARGUMENTS`.
fn coffer(server: &Server, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = server.coffer(arguments)?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(printed)?))
}

/// A server with one table under a key and one under the service's.
fn with_tables() -> Result<(Server, Client, String)> {
    let server = Server::start()?;
    let arn = server.kms(&["create-key"])?;
    let mut client = Client::connect(server.address())?;
    client.execute(KEYSPACE)?;
    client.execute("CREATE TABLE ks.owned (k int PRIMARY KEY)")?;
    client.execute(&format!(
        "CREATE TABLE ks.t (k int PRIMARY KEY) WITH CUSTOM_PROPERTIES = {{'encryption_specification': \
         {{'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}}}"
    ))?;
    client.execute("INSERT INTO ks.t (k) VALUES (1)")?;
    Ok((server, client, arn))
}

#[test]
fn check_names_what_is_wrong_and_its_exit_code_tells() -> Result<()> {
    let (server, _client, arn) = with_tables()?;
    let (code, printed) = coffer(&server, &["keys", "check"])?;
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("ks.t DescribeKey ok") && printed.contains("ks.t Decrypt ok"),
        "{printed}"
    );
    assert!(printed.contains("ks.owned none ok"), "{printed}");
    let (code, printed) = coffer(&server, &["keys", "check", &arn])?;
    assert_eq!(code, Some(0), "{printed}");

    server.kms(&["disable-key", &arn])?;
    for target in ["ks.t", arn.as_str()] {
        let (code, printed) = coffer(&server, &["keys", "check", target, "--json"])?;
        assert_eq!(code, Some(2), "{printed}");
        let rows: Value = serde_json::from_str(&printed)?;
        let failed = rows.as_array().into_iter().flatten().find(|row| row["outcome"] == "failed");
        let failed = failed.ok_or_else(|| format!("nothing failed: {rows}"))?;
        assert_eq!(failed["class"], "definitive", "{failed}");
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(message.contains(&arn) && message.contains("disabled"), "{message}");
    }
    let (code, printed) = coffer(&server, &["keys", "check", "ks.owned"])?;
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = coffer(&server, &["keys", "check", "ks.nothing"])?;
    assert!(code == Some(1) && printed.contains("ks.nothing"), "{printed}");
    Ok(())
}

#[test]
fn flush_makes_the_next_use_ask_the_kms() -> Result<()> {
    let (server, mut client, arn) = with_tables()?;
    let (code, printed) = coffer(&server, &["keys", "flush", "ks.t"])?;
    assert!(code == Some(0) && printed.starts_with('1'), "{printed}");
    assert_eq!(client.rows("SELECT * FROM ks.t")?.rows.len(), 1);
    server.kms(&["disable-key", &arn])?;
    let (code, _) = coffer(&server, &["keys", "flush"])?;
    assert_eq!(code, Some(0));
    let (error, message) = client.error("SELECT * FROM ks.t")?;
    assert!(error == 0x2200 && message.contains(&arn), "0x{error:04X} {message}");
    assert_eq!(client.rows("SELECT * FROM ks.owned")?.rows.len(), 0);
    server.kms(&["enable-key", &arn])?;
    assert_eq!(client.rows("SELECT * FROM ks.t")?.rows.len(), 1);
    Ok(())
}

#[test]
fn rewrap_puts_a_new_blob_in_place_and_rows_stay() -> Result<()> {
    let (mut server, mut client, _) = with_tables()?;
    let (code, printed) = coffer(&server, &["keys", "rewrap"])?;
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(printed.lines().count(), 1, "owned tables have nothing to rewrap: {printed}");
    assert!(printed.contains("ks.t ReEncrypt ok"), "{printed}");
    assert_eq!(client.rows("SELECT * FROM ks.t")?.rows.len(), 1);
    server.kill()?;
    server.restart()?;
    assert_eq!(Client::connect(server.address())?.rows("SELECT * FROM ks.t")?.rows.len(), 1);
    Ok(())
}

#[test]
fn without_a_server_the_commands_say_so_and_the_policy_needs_none() -> Result<()> {
    let (mut server, client, _) = with_tables()?;
    drop(client);
    server.stop()?;
    for arguments in [["keys", "check"], ["keys", "flush"], ["keys", "rewrap"]] {
        let (code, printed) = coffer(&server, &arguments)?;
        assert!(code == Some(1) && printed.contains("no server runs"), "{printed}");
    }
    let role = "arn:aws:iam::111122223333:role/Coffer";
    let (code, printed) = coffer(&server, &["keys", "policy", "--role", role])?;
    assert_eq!(code, Some(0), "{printed}");
    let policy: Value = serde_json::from_str(&printed)?;
    assert_eq!(policy["Version"], "2012-10-17");
    let (code, printed) = coffer(&server, &["keys", "policy", "--role", "Coffer"])?;
    assert!(code == Some(1) && printed.contains("--role"), "{printed}");
    Ok(())
}

#[test]
fn the_audit_shows_who_did_what_and_verifies() -> Result<()> {
    let (mut server, mut client, arn) = with_tables()?;
    client.execute("DROP TABLE ks.owned")?;
    for is_running in [true, false] {
        if !is_running {
            server.stop()?;
        }
        let audit = |more: &[&str]| coffer(&server, &[&["audit", "--json"], more].concat());
        let (code, printed) = audit(&["--event", "CreateTable"])?;
        assert_eq!(code, Some(0), "{printed}");
        let events: Vec<Value> =
            printed.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
        assert_eq!(events.len(), 2, "{printed}");
        assert_eq!(events[1]["eventSource"], "cassandra.amazonaws.com");
        let query = &events[1]["requestParameters"]["rawQuery"];
        assert!(query.as_str().is_some_and(|query| query.contains(&arn)), "{query}");
        let (_, printed) = audit(&["--key", &arn, "--event", "CreateKey"])?;
        assert_eq!(printed.lines().count(), 1, "{printed}");
        // What changes nothing is in the log within a second.
        let until = Instant::now() + WITHIN;
        loop {
            let (_, printed) = audit(&["--table", "ks.t", "--event", "GenerateDataKey"])?;
            if printed.lines().count() == 1 {
                break;
            }
            assert!(Instant::now() < until, "{printed}");
        }
        let (_, printed) = audit(&["--until", "2001-01-01"])?;
        assert_eq!(printed, "");
        let (code, printed) = coffer(&server, &["audit", "--verify", "--event", "DropTable"])?;
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains("DropTable") && printed.contains("whole"), "{printed}");
        let (code, printed) = coffer(&server, &["audit", "--since", "yesterday"])?;
        assert!(code == Some(1) && printed.contains("--since"), "{printed}");
    }
    // One flipped bit in the middle of a log.
    let folder = server.directory().join("kms").join("audit");
    let file = std::fs::read_dir(folder)?.next().ok_or("no audit log")??.path();
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes)?;
    let (code, printed) = coffer(&server, &["audit", "--verify"])?;
    assert_eq!(code, Some(4), "{printed}");
    assert!(printed.contains("NOT AS WRITTEN"), "{printed}");
    Ok(())
}

#[test]
fn a_new_root_key_takes_the_place_of_the_old_one_while_the_server_runs() -> Result<()> {
    let (mut server, mut client, _) = with_tables()?;
    client.execute("INSERT INTO ks.owned (k) VALUES (7)")?;
    let file = server.directory().join("root.key");
    let before = std::fs::read(&file)?;
    let (code, printed) = coffer(&server, &["root-key", "rotate"])?;
    assert!(code == Some(0) && printed.contains("back it up"), "{printed}");
    assert_ne!(std::fs::read(&file)?, before);
    assert!(!server.directory().join("root.key.next").exists());
    client.execute("INSERT INTO ks.owned (k) VALUES (8)")?;
    let (code, printed) = coffer(&server, &["audit", "--verify"])?;
    assert_eq!(code, Some(0), "{printed}");
    server.kill()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(client.rows("SELECT * FROM ks.owned")?.rows.len(), 2);
    assert_eq!(client.rows("SELECT * FROM ks.t")?.rows.len(), 1);
    drop(client);
    server.stop()?;
    let (code, printed) = coffer(&server, &["root-key", "rotate"])?;
    assert!(code == Some(1) && printed.contains("no server runs"), "{printed}");
    Ok(())
}
