//! Python programs that tests run, in virtual environments below the target folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::Result;

/// Where the tests' own programs lie.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Runs a command; what it printed is part of the error when it fails.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{command:?}: {}\n{out}\n{err}", output.status).into())
}

/// The `bin` folder of an environment with the packages of one of our lists; made once for each version of
/// the list, whichever test needs it first.
///
/// # Errors
/// When the packages cannot be installed.
pub fn environment(requirements: &str) -> Result<PathBuf> {
    let list = folder().join(requirements);
    let environments = executable_folder()?.join("python-environments");
    fs::create_dir_all(&environments)?;
    let environment = environments.join(requirements.trim_end_matches(".txt"));
    let lock = environment.with_extension("lock");
    let lock = File::options().create(true).append(true).open(lock)?;
    lock.lock()?;
    let done = environment.join(requirements);
    if fs::read(&done).ok() != Some(fs::read(&list)?) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let pip = environment.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--requirement"]).arg(&list))?;
        fs::copy(&list, &done)?;
    }
    Ok(environment.join("bin"))
}

/// `target/tmp`, as cargo calls it for tests.
fn executable_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).ok_or("a test lies below the target folder")?;
    Ok(target.join("tmp"))
}
