//! `coffer inspect`: what a file is, verified; never plaintext. Takes no lock.

use std::process::ExitCode;

use crate::cli::Inspect;
use crate::error::{CommandError, Result};

pub(crate) fn run(command: &Inspect, _say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    Err(CommandError::Refused(format!(
        "inspect {}: not yet",
        command.file.display()
    )))
}
