//! `coffer kms`: through the running server where there is one, else on the files themselves.
//! `coffer keys`, `coffer root-key`: through the running server.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use coffer_crypto::clock::SystemClock;
use coffer_keys::EmbeddedKmsOptions;
use serde_json::Value;

use crate::admin::{AdminAnswer, AdminRequest, Report, SocketPath, perform};
use crate::cli::{
    Keys, KeysCommand, Kms, KmsOperation, NotifyCommand, RootKeyCommand, RootKeyOperation,
};
use crate::data_directory::{DirectoryLock, open_kms};
use crate::error::{CommandError, Result};
use crate::key_policy;

/// How often the way is tried again while a server starts or stops.
const ATTEMPTS: u32 = 50;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);
/// The server gives up before.
const SERVER_MARGIN: Duration = Duration::from_secs(5);
/// Longest answer read: room for the manifest of a backup, in hex digits, and the list of its files.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Runs the command; gives what to print.
///
/// # Errors
/// What the KMS refused, or why it cannot be reached.
pub(crate) fn run(command: &Kms, operation: &KmsOperation) -> Result<String> {
    match request(command, operation)? {
        AdminAnswer::Keys(keys) => Ok(print(command.json, operation, &keys)),
        AdminAnswer::Error(error) | AdminAnswer::Tampered(error) => {
            Err(CommandError::Refused(error))
        }
        AdminAnswer::Report(_) => Err(CommandError::Refused("not an answer".to_owned())),
    }
}

/// Exit code of `coffer keys check`, `rewrap` and `coffer notify test` when something is wrong.
const FINDINGS: u8 = 2;

/// Runs `coffer keys`.
///
/// # Errors
/// No server runs, or it refused.
pub(crate) fn run_keys(command: &Keys, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    let operation = match &command.command {
        KeysCommand::Policy(flags) => {
            say(&key_policy::generate(flags)?);
            return Ok(ExitCode::SUCCESS);
        }
        KeysCommand::Operation(operation) => operation,
    };
    let report = report_of(&command.data_dir, &AdminRequest::Keys(operation.clone()))?;
    Ok(print_report(command.json, report, say))
}

/// Runs `coffer notify`.
///
/// # Errors
/// No server runs, or it has no channel.
pub(crate) fn run_notify(command: &NotifyCommand, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    let report = report_of(&command.data_dir, &AdminRequest::Notify(command.operation))?;
    Ok(print_report(command.json, report, say))
}

fn print_report(json: bool, report: Report, say: &mut dyn FnMut(&str)) -> ExitCode {
    if json {
        say(&format!("{:#}\n", Value::from(report.rows)));
    } else {
        report.rows.iter().for_each(|row| say(&report_line(row)));
    }
    if report.has_findings { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

/// Runs `coffer root-key`.
///
/// # Errors
/// No server runs, or it could not do it.
pub(crate) fn run_root_key(
    command: &RootKeyCommand,
    say: &mut dyn FnMut(&str),
) -> Result<ExitCode> {
    match command.operation {
        RootKeyOperation::Rotate => report_of(&command.data_dir, &AdminRequest::RotateRootKey)?,
    };
    say(
        "The root key is a new one: back it up now. Older backups need the root key of their time.\n",
    );
    Ok(ExitCode::SUCCESS)
}

/// What the running server answers.
pub(crate) fn report_of(data_dir: &Path, request: &AdminRequest) -> Result<Report> {
    let Some(stream) = connect(data_dir)? else {
        return Err(CommandError::Refused(format!(
            "no server runs on {}: this works on a running server only",
            data_dir.display()
        )));
    };
    report_over(stream, request)
}

/// What the running server at the other end answers.
pub(crate) fn report_over(stream: UnixStream, request: &AdminRequest) -> Result<Report> {
    match ask_server(stream, request).map_err(CommandError::io("ask the server"))? {
        AdminAnswer::Report(report) => Ok(report),
        AdminAnswer::Error(error) => Err(CommandError::Refused(error)),
        AdminAnswer::Tampered(error) => Err(CommandError::Tampered(error)),
        AdminAnswer::Keys(_) => Err(CommandError::Refused("not an answer".to_owned())),
    }
}

fn report_line(row: &Value) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    if let Some(flushed) = row.get("flushed") {
        return format!("{flushed} table keys left memory\n");
    }
    let message = match text("message") {
        "" => String::new(),
        message => format!(": {message}"),
    };
    format!("{} {} {}{message}\n", text("target"), text("operation"), text("outcome"))
}

fn request(command: &Kms, operation: &KmsOperation) -> Result<AdminAnswer> {
    let data_dir = command.data_dir();
    let mut attempt = 0;
    loop {
        if let Some(stream) = connect(&data_dir)? {
            return ask_server(stream, &AdminRequest::Kms(operation.clone()))
                .map_err(CommandError::io("ask the server"));
        }
        attempt += 1;
        match DirectoryLock::take(&data_dir) {
            Ok(_lock) => {
                let options = EmbeddedKmsOptions {
                    root_key_file: command.kms_root_key_file.clone(),
                    must_exist: data_dir.join("catalog").exists(),
                    ..EmbeddedKmsOptions::default()
                };
                let kms = open_kms(&data_dir, &options, Arc::new(SystemClock))?;
                return Ok(perform(&kms, operation.clone()));
            }
            // a server that starts or stops, or another command: soon one way or the other is free
            Err(CommandError::InUse { .. }) if attempt < ATTEMPTS => {
                std::thread::sleep(ATTEMPT_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A connection to the server; `None` when none listens.
pub(crate) fn connect(data_dir: &Path) -> Result<Option<UnixStream>> {
    let connected = SocketPath::new(data_dir).and_then(|path| UnixStream::connect(path.path()));
    match connected {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(CommandError::io("connect to the server's admin socket")(error)),
        },
    }
}

fn ask_server(mut stream: UnixStream, request: &AdminRequest) -> std::io::Result<AdminAnswer> {
    stream.set_read_timeout(Some(request.timeout().saturating_add(SERVER_MARGIN)))?;
    stream.set_write_timeout(Some(SERVER_MARGIN))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    let read = BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer);
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            let what = "no answer in time; it goes on in the server";
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, what));
        }
        Ok(0) => {
            let what = "the server ended the connection without an answer";
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, what));
        }
        read => read?,
    };
    if !answer.ends_with('\n') {
        let what = "the answer is cut: it is longer than any, or the server ended";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    }
    Ok(serde_json::from_str(&answer)?)
}

fn print(json: bool, operation: &KmsOperation, keys: &[Value]) -> String {
    let is_list = matches!(operation, KmsOperation::ListKeys | KmsOperation::ListUsers);
    if json {
        let all = Value::from(keys.to_vec());
        let value = if is_list { &all } else { keys.first().unwrap_or(&all) };
        return format!("{value:#}\n");
    }
    let text = |key: &Value, field: &str| match key.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let line = |key: &Value| match operation {
        KmsOperation::CreateKey { .. } => format!("{}\n", text(key, "Arn")),
        KmsOperation::CreateUser { .. } => text(key, "Credentials"),
        KmsOperation::DeleteUser { .. } => String::new(),
        KmsOperation::ListUsers
        | KmsOperation::DisableUser { .. }
        | KmsOperation::EnableUser { .. } => {
            format!("{} {}\n", ["Arn", "AccessKeyId"].map(|field| text(key, field)).join(" "), {
                if key.get("Enabled").and_then(Value::as_bool) == Some(true) {
                    "Enabled"
                } else {
                    "Disabled"
                }
            })
        }
        KmsOperation::DescribeKey { .. } => {
            let fields = key.as_object().into_iter().flatten();
            fields.map(|(name, _)| format!("{name}: {}\n", text(key, name))).collect()
        }
        _ => {
            let line = ["Arn", "KeyState", "Aliases"].map(|field| text(key, field)).join(" ");
            format!("{}\n", line.trim_end())
        }
    };
    keys.iter().map(line).collect()
}
