//! Unmodified cqlsh and the Python driver, from PyPI in a virtual environment below the target folder.

use std::{fs, process::Command};

use cql_tests::{
    Client, PythonDriver, Result, Server, ServerBuilder, dump,
    python::{environment, folder, run},
};
use tempfile::TempDir;

#[test]
fn cqlsh_and_the_python_driver_work_unmodified() -> Result<()> {
    let bin = environment("requirements.txt")?;
    let server = Server::start()?;
    let (host, port) = (server.address().ip().to_string(), server.address().port().to_string());
    let arn = server.kms(&["create-key"])?;

    let driver = run(Command::new(bin.join("python"))
        .arg(folder().join("driver.py"))
        .args([&host, &port, &arn]))?;
    assert!(String::from_utf8(driver.stdout)?.contains("found everything"));

    let shell = Command::new(bin.join("cqlsh"))
        .args(["--no-color", &host, &port, "--file"])
        .arg(folder().join("session.cql"))
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .output()?;
    let (out, err) = (String::from_utf8(shell.stdout)?, String::from_utf8(shell.stderr)?);
    for wanted in [
        "  1 |  first | {'a', 'b'}",
        "(2 rows)",
        "CREATE TABLE shell.items (",
        "CREATE KEYSPACE shell WITH replication",
        "Partitioner: Murmur3Partitioner",
        "Consistency level set to QUORUM",
        "system_schema",
    ] {
        assert!(out.contains(wanted), "cqlsh did not print {wanted}:\n{out}\n{err}");
    }
    assert!(err.contains("Undefined column name nope"), "{err}");
    assert!(!server.log()?.contains(" ERROR "), "{}", server.log()?);
    Ok(())
}

#[test]
fn cqlsh_and_the_python_driver_work_unmodified_over_tls() -> Result<()> {
    let bin = environment("requirements.txt")?;
    let temporary = TempDir::new()?;
    let signed =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let (cert, key) = (temporary.path().join("cert.pem"), temporary.path().join("key.pem"));
    fs::write(&cert, signed.cert.pem())?;
    fs::write(&key, signed.signing_key.serialize_pem())?;
    let (cert, key) = (cert.to_str().ok_or("path")?, key.to_str().ok_or("path")?);
    let server =
        ServerBuilder::default().arguments(&["--tls-cert", cert, "--tls-key", key]).start()?;
    let (host, port) = (server.address().ip().to_string(), server.address().port().to_string());
    let arn = server.kms(&["create-key"])?;

    let driver = run(Command::new(bin.join("python"))
        .arg(folder().join("driver.py"))
        .args([&host, &port, &arn, cert]))?;
    assert!(String::from_utf8(driver.stdout)?.contains("found everything"));

    let shell = |more: &[&str]| {
        Command::new(bin.join("cqlsh"))
            .args(["--no-color", &host, &port, "--execute", "SELECT key FROM system.local"])
            .args(more)
            .env("HOME", env!("CARGO_TARGET_TMPDIR"))
            .env("SSL_CERTFILE", cert)
            .output()
    };
    let output = shell(&["--ssl"])?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(out.contains("local") && out.contains("(1 rows)"), "{out}{err}");
    let output = shell(&[])?;
    assert!(!output.status.success(), "a plain connection was accepted");
    Ok(())
}

/// What tests compare whole tables with sees the least change, and none where there is none.
#[test]
fn a_dump_of_a_whole_table_is_the_same_after_a_kill_and_other_after_a_change() -> Result<()> {
    let mut server = Server::start()?;
    let mut driver = PythonDriver::start(server.address())?;
    driver.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    driver.create_everything("ks.t", "")?;
    driver.fill_everything("ks.t", 120)?;
    let before = driver.dump("ks.t")?;
    let cells = dump::table(&mut Client::connect(server.address())?, "ks", "t")?;
    assert!(before.rows.len() > 80 && before.rows.len() == cells.1.len(), "{}", before.rows.len());
    assert!(before.expires.iter().flatten().any(Option::is_some), "no cell expires");
    server.kill()?;
    server.restart()?;
    let mut driver = PythonDriver::start(server.address())?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(before.difference(&driver.dump("ks.t")?), None);
    assert!(cells == dump::table(&mut client, "ks", "t")?, "cells differ after a restart");
    // The same value again, with another time of writing.
    driver.execute("INSERT INTO ks.t (p, q, owner) VALUES (1000, 'only static', 'nobody')")?;
    assert!(before.difference(&driver.dump("ks.t")?).is_some(), "a change is not seen");
    assert!(cells != dump::table(&mut client, "ks", "t")?, "a change is not seen");
    Ok(())
}
