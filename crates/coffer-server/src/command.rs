//! From the command line to an exit code.

use std::io::{Read, Write, stderr, stdin, stdout};
use std::process::ExitCode;

use clap::Parser;
use coffer_crypto::PasswordHash;

use crate::cli::{Cli, CommandKind, Kms, KmsCommand};
use crate::error::{CommandError, Result};
use crate::{
    audit_command, backup_command, inspect, kms_command, kms_serve, serve, snapshot_command, verify,
};

/// Longest password read.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// Runs the program on the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let command = Cli::parse().command.unwrap_or_else(|| CommandKind::Serve(Box::default()));
    let result = match &command {
        CommandKind::Serve(flags) => serve::run(flags, &mut say).map(|()| ExitCode::SUCCESS),
        CommandKind::Kms(command) => run_kms(command),
        CommandKind::Keys(command) => kms_command::run_keys(command, &mut say),
        CommandKind::RootKey(command) => kms_command::run_root_key(command, &mut say),
        CommandKind::Audit(command) => audit_command::run(command, &mut say),
        CommandKind::Notify(command) => kms_command::run_notify(command, &mut say),
        CommandKind::Inspect(command) => inspect::run(command, &mut say),
        CommandKind::Snapshot(command) => snapshot_command::run(command, &mut say),
        CommandKind::Backup(command) => backup_command::run(command, &mut say),
        CommandKind::Verify(command) => verify::run(command, &mut stdout()),
        CommandKind::HashPassword => hash_password().map(|text| {
            say(&text);
            ExitCode::SUCCESS
        }),
    };
    result.unwrap_or_else(|error| {
        // nowhere to say it if standard error is closed
        let _ = writeln!(stderr(), "coffer: {error}");
        ExitCode::FAILURE
    })
}

fn run_kms(command: &Kms) -> Result<ExitCode> {
    match &command.command {
        KmsCommand::Serve(flags) => kms_serve::run(command, flags, &mut say)?,
        KmsCommand::Operation(operation) => say(&kms_command::run(command, operation)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) {
    let mut out = stdout().lock();
    // a closed standard output stops neither a server nor a command
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn hash_password() -> Result<String> {
    let mut password = String::new();
    stdin()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut password)
        .map_err(CommandError::io("read the password"))?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CommandError::Refused("the password on standard input is empty".to_owned()));
    }
    Ok(format!("{}\n", PasswordHash::new(password.as_bytes())?.to_text()))
}
