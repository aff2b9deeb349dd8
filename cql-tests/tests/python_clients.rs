//! Unmodified cqlsh and the Python driver, from PyPI in a virtual environment below the target folder.

use std::process::Command;

use cql_tests::{
    Result, Server,
    python::{environment, folder, run},
};

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
