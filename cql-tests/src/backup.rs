//! `coffer backup` beside a server, and what it says.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{Result, Server, executable};

/// `coffer backup ARGUMENTS` beside a server.
///
/// # Errors
/// When the program cannot be started.
pub fn backup(server: &Server, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(executable()?);
    command.arg("backup").args(arguments).args(["--json", "--data-dir"]).arg(server.directory());
    Ok(command.envs(environment.iter().copied()).output()?)
}

/// All that a command printed.
#[must_use]
pub fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// The JSON of a command that succeeded.
///
/// # Errors
/// What it printed when it did not.
pub fn good(output: &Output) -> Result<Value> {
    if !output.status.success() {
        return Err(text(output).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
