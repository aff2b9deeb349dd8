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
    let mut unsaid = None;
    let result = perform(&command, &mut |text| {
        if let Err(error) = say(text) {
            unsaid = Some(error);
        }
    });
    let result = match (unsaid, result) {
        // a closed standard output does not stop a server
        (Some(error), Ok(_)) if !is_server(&command) => Err(CommandError::Unsaid(error)),
        (_, result) => result,
    };
    result.unwrap_or_else(|error| {
        // nowhere to say it if standard error is closed
        let _ = writeln!(stderr(), "coffer: {error}");
        error.exit_code()
    })
}

fn perform(command: &CommandKind, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    match command {
        CommandKind::Serve(flags) => serve::run(flags, say).map(|()| ExitCode::SUCCESS),
        CommandKind::Kms(command) => run_kms(command, say),
        CommandKind::Keys(command) => kms_command::run_keys(command, say),
        CommandKind::RootKey(command) => kms_command::run_root_key(command, say),
        CommandKind::Audit(command) => audit_command::run(command, say),
        CommandKind::Notify(command) => kms_command::run_notify(command, say),
        CommandKind::Inspect(command) => inspect::run(command, say),
        CommandKind::Snapshot(command) => snapshot_command::run(command, say),
        CommandKind::Backup(command) => backup_command::run(command, say),
        CommandKind::Verify(command) => verify::run(command, &mut stdout()),
        CommandKind::HashPassword => hash_password().map(|text| {
            say(&text);
            ExitCode::SUCCESS
        }),
    }
}

fn is_server(command: &CommandKind) -> bool {
    let serves_kms = |command: &Kms| matches!(command.command, KmsCommand::Serve(_));
    match command {
        CommandKind::Serve(_) => true,
        CommandKind::Kms(command) => serves_kms(command),
        _ => false,
    }
}

fn run_kms(command: &Kms, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    match &command.command {
        KmsCommand::Serve(flags) => kms_serve::run(command, flags, say)?,
        KmsCommand::Operation(operation) => say(&kms_command::run(command, operation)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
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
