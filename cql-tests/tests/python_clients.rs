//! Unmodified cqlsh and the Python driver, from PyPI in a virtual environment below the target folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cql_tests::{Result, Server};

fn python_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Runs a command; what it printed is part of the error when it fails.
fn run(command: &mut Command) -> Result<Output> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{command:?}: {}\n{out}\n{err}", output.status).into())
}

/// The environment's `bin` folder; made once for each version of the requirements.
fn environment() -> Result<PathBuf> {
    let requirements = python_folder().join("requirements.txt");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let done = folder.join("requirements.txt");
    if fs::read(&done).ok() != Some(fs::read(&requirements)?) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(folder.join("bin/pip"))
            .args(["install", "--quiet", "--requirement"])
            .arg(&requirements))?;
        fs::copy(&requirements, &done)?;
    }
    Ok(folder.join("bin"))
}

#[test]
fn cqlsh_and_the_python_driver_work_unmodified() -> Result<()> {
    let bin = environment()?;
    let server = Server::start()?;
    let (host, port) = (server.address().ip().to_string(), server.address().port().to_string());
    let arn = server.kms(&["create-key"])?;

    let driver = run(Command::new(bin.join("python"))
        .arg(python_folder().join("driver.py"))
        .args([&host, &port, &arn]))?;
    assert!(String::from_utf8(driver.stdout)?.contains("found everything"));

    let shell = Command::new(bin.join("cqlsh"))
        .args(["--no-color", &host, &port, "--file"])
        .arg(python_folder().join("session.cql"))
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
