//! Command: a program is run with the JSON document on its standard input.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr};

use crate::error::{DeliveryError, SetupError, printable};
use crate::message::{Moment, Notification};

/// How much of what it prints to standard error is told.
const STDERR_BYTES_MAX: u64 = 1024;
/// How long it is waited for what it printed when it has ended.
const PRINTING_MAX: Duration = Duration::from_secs(1);
/// Variables of the server that it gets; the others may hold secrets.
const VARIABLES: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// Settings of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOptions {
    /// The program; no shell is involved.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Time it has.
    pub timeout: Duration,
}

impl Default for CommandOptions {
    fn default() -> Self {
        Self { path: PathBuf::new(), arguments: Vec::new(), timeout: Duration::from_secs(30) }
    }
}

/// A command.
#[derive(Debug)]
pub struct Command {
    options: CommandOptions,
}

/// Ends the command and what it started; it is a process group of its own.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // none of it may be left
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Command {
    /// Starts nothing.
    ///
    /// # Errors
    /// When the path is not absolute or there is no such file.
    pub fn new(options: &CommandOptions) -> Result<Self, SetupError> {
        if !options.path.is_absolute() || !options.path.is_file() {
            return Err(SetupError::File {
                what: "path",
                path: options.path.clone(),
                problem: "it is not the absolute path of a program".to_owned(),
            });
        }
        Ok(Self { options: options.clone() })
    }

    pub(crate) async fn deliver(&self, notification: &Notification) -> Result<(), DeliveryError> {
        let failed = |error: std::io::Error| {
            DeliveryError::failed(format!("run {}: {error}", self.options.path.display()))
        };
        let mut command = tokio::process::Command::new(&self.options.path);
        command.args(&self.options.arguments).env_clear();
        command.envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(variables(notification));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group(group);
        let body = notification.to_json();
        let ended = tokio::time::timeout(self.options.timeout, run(&mut child, &body)).await;
        drop(group);
        match ended {
            Ok(Ok((status, _))) if status.success() => Ok(()),
            Ok(Ok((status, printed))) => {
                let printed = String::from_utf8_lossy(&printed);
                let text = format!("the command ended with {status}: {}", printed.trim());
                Err(DeliveryError::failed(printable(text.trim_end_matches([':', ' ']))))
            }
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(DeliveryError::failed(format!(
                "the command did not end within {} s and was killed",
                self.options.timeout.as_secs()
            ))),
        }
    }
}

async fn run(child: &mut Child, body: &[u8]) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    let (input, errors) = (child.stdin.take(), child.stderr.take());
    // its own task: what the command left running may hold the pipe open
    let reading = tokio::spawn(read(errors));
    let write = async {
        if let Some(mut input) = input {
            // a command that does not read it is one that needs the variables only
            let _ = input.write_all(body).await;
        }
    };
    let status = tokio::select! {
        status = child.wait() => status?,
        () = write => child.wait().await?,
    };
    let printed = tokio::time::timeout(PRINTING_MAX, reading).await;
    Ok((status, printed.ok().and_then(Result::ok).unwrap_or_default()))
}

async fn read(errors: Option<ChildStderr>) -> Vec<u8> {
    let mut printed = Vec::new();
    if let Some(mut errors) = errors {
        let mut start = (&mut errors).take(STDERR_BYTES_MAX);
        // the rest is read too: a full pipe would hold the command up
        if start.read_to_end(&mut printed).await.is_ok() {
            let _ = tokio::io::copy(&mut errors, &mut tokio::io::sink()).await;
        }
    }
    printed
}

fn variables(notification: &Notification) -> Vec<(&'static str, String)> {
    let moment = |moment: Option<Moment>| moment.map(Moment::rfc3339).unwrap_or_default();
    let mut all = vec![
        ("COFFER_EVENT", notification.id.clone()),
        ("COFFER_INCIDENT", notification.incident.clone()),
        ("COFFER_KIND", notification.kind.clone()),
        ("COFFER_SEVERITY", notification.severity.as_str().to_owned()),
        ("COFFER_AT", notification.at.rfc3339()),
        ("COFFER_CLUSTER", notification.cluster.clone()),
        ("COFFER_KEYSPACE", notification.keyspace.clone()),
        ("COFFER_TABLE", notification.table.clone()),
        ("COFFER_KEY_ARN", notification.key_arn.clone().unwrap_or_default()),
        ("COFFER_STATE", notification.state.clone()),
        ("COFFER_SINCE", moment(notification.since)),
        ("COFFER_DEADLINE", moment(notification.deadline)),
        ("COFFER_SUMMARY", notification.summary.clone()),
    ];
    // a variable with a NUL cannot be set
    all.iter_mut().for_each(|(_, text)| text.retain(|letter| letter != '\0'));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    fn shell(script: &str, timeout: Duration) -> Command {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Command::new(&CommandOptions { path: "/bin/sh".into(), arguments, timeout }).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_gets_the_document_and_the_variables_and_nothing_of_the_servers() {
        let directory = tempfile::tempdir().unwrap();
        let (document, variables) = (directory.path().join("in"), directory.path().join("env"));
        let script = format!("cat > {}; env > {}", document.display(), variables.display());
        shell(&script, LONG).deliver(&sample()).await.unwrap();
        assert_eq!(std::fs::read(document).unwrap(), sample().to_json());
        let variables = std::fs::read_to_string(variables).unwrap();
        assert!(variables.contains("COFFER_TABLE=t\n"), "{variables}");
        assert!(variables.contains("COFFER_DEADLINE=2026-11-29T00:00:00Z\n"), "{variables}");
        // cargo sets it for tests
        assert!(!variables.contains("CARGO_MANIFEST_DIR"), "{variables}");
    }

    #[tokio::test]
    async fn another_exit_code_is_a_failure_that_tells_what_was_printed() {
        let error = shell("echo no disk >&2; exit 3", LONG).deliver(&sample()).await.unwrap_err();
        assert!(error.reason.contains("3") && error.reason.contains("no disk"), "{error}");
        assert!(!error.is_refused);
    }

    #[tokio::test]
    async fn a_command_that_reads_nothing_is_told_by_its_exit_code() {
        let long = Notification { detail: "x".repeat(1 << 20), ..sample() };
        shell("exit 0", LONG).deliver(&long).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("alive");
        let script = format!("mkfifo {0}; (sleep 600 > {0}) & cat {0}", pipe.display());
        let hung = shell(&script, Duration::from_secs(1)).deliver(&sample()).await;
        let error = hung.unwrap_err();
        assert!(error.reason.contains("killed"), "{error}");
        // reading ends when no process has the other end open any more
        let read = tokio::process::Command::new("timeout")
            .arg("30")
            .arg("sh")
            .arg("-c")
            .arg(format!("exec 3<>{0}; exec 4<{0}; exec 3>&-; cat <&4", pipe.display()))
            .status()
            .await
            .unwrap();
        assert!(read.success(), "what it started goes on");
    }

    #[test]
    fn a_relative_path_is_refused() {
        let options = CommandOptions { path: "sh".into(), ..CommandOptions::default() };
        assert!(Command::new(&options).is_err());
    }
}
