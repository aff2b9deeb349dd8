//! Starts, stops and kills a real `coffer` process on a directory of its own.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Mutex, OnceLock,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Result;

/// How long a server may take to print its ready line. A machine under load is slow; a hang is longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The `coffer` executable, built once in the profile of the running test; `COFFER_TEST_PROGRAM` names
/// another one, a release for example.
///
/// # Errors
/// When cargo cannot build it.
pub fn executable() -> Result<&'static Path> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let given = || std::env::var_os("COFFER_TEST_PROGRAM").map(PathBuf::from);
    let find = || given().map_or_else(|| build(&[]).map_err(|error| error.to_string()), Ok);
    match BUILT.get_or_init(find) {
        Ok(path) => Ok(path),
        Err(text) => Err(text.clone().into()),
    }
}

/// `coffer ARGUMENTS DIRECTORY`; gives what it printed.
///
/// # Errors
/// When it fails; the text is what it printed.
pub fn run_coffer(arguments: &[&str], directory: &Path) -> Result<String> {
    let output = Command::new(executable()?).args(arguments).arg(directory).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("coffer {arguments:?}: {text}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Builds `coffer` with cargo features and puts the executable apart, so that builds with other features
/// do not take its place.
///
/// # Errors
/// When cargo cannot build it.
pub fn build(features: &[&str]) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let one_at_a_time = ONE_AT_A_TIME.lock().map_err(|_| "another build panicked")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "coffer-server", "--bin", "coffer"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if !features.is_empty() {
        cargo.args(["--features", &features.join(",")]);
    }
    // What cargo tells a test about its own package would make build scripts that read it run anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output()?;
    let built = output
        .stdout
        .lines()
        .map_while(io::Result::ok)
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
        .find_map(|message| {
            message.get("executable").and_then(|path| path.as_str()).map(PathBuf::from)
        });
    let built = built.filter(|_| output.status.success()).ok_or("cargo did not build coffer")?;
    let apart = built.with_file_name(format!("coffer-for-tests-{}", features.join("-")));
    // A server that runs from the file of an earlier copy keeps it.
    let copy = apart.with_extension(std::process::id().to_string());
    std::fs::copy(&built, &copy)?;
    rename(&copy, &apart)?;
    drop(one_at_a_time);
    Ok(apart)
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    address: SocketAddr,
    directory: Directory,
    how: How,
}

struct How {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    shell: Option<String>,
}

enum Directory {
    /// The data directory is below the temporary one, so that its log is removed with it.
    Temporary(#[expect(dead_code, reason = "removed when dropped")] TempDir, PathBuf),
    Given(PathBuf),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Directory::Temporary(_, path) | Directory::Given(path) => path,
        }
    }
}

/// How to start a server.
#[derive(Default)]
pub struct ServerBuilder {
    directory: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    program: Option<PathBuf>,
    shell: Option<String>,
}

impl ServerBuilder {
    /// Uses `directory` instead of a temporary one.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Adds arguments of `coffer serve`.
    #[must_use]
    pub fn arguments<S: AsRef<str>>(mut self, arguments: &[S]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable of the server.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs another build of `coffer`.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Runs this shell text before the server takes the shell's place: limits, ignored signals.
    #[must_use]
    pub fn shell(mut self, text: &str) -> Self {
        self.shell = Some(text.to_owned());
        self
    }

    /// Starts the server on a free port and waits for its ready line.
    ///
    /// # Errors
    /// When it ends, or prints no ready line in time; the text holds what it printed.
    pub fn start(self) -> Result<Server> {
        let program = match self.program {
            Some(program) => program,
            None => executable()?.to_owned(),
        };
        let directory = match self.directory {
            Some(path) => Directory::Given(path),
            None => {
                let temporary = TempDir::new()?;
                let path = temporary.path().join("data");
                Directory::Temporary(temporary, path)
            }
        };
        let how = How {
            program,
            arguments: self.arguments,
            environment: self.environment,
            shell: self.shell,
        };
        let (child, address) = launch(&how, directory.path())?;
        Ok(Server { child, address, directory, how })
    }
}

impl Server {
    /// A server with the defaults on a new temporary directory.
    ///
    /// # Errors
    /// See [`ServerBuilder::start`].
    pub fn start() -> Result<Self> {
        ServerBuilder::default().start()
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The data directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process has logged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let mut text = String::new();
        File::open(log_path(self.directory.path()))?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Kills the process at once, as a power cut of the process would.
    ///
    /// # Errors
    /// When the process cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to stop (SIGTERM) and waits; an exit status other than 0 is an error.
    ///
    /// # Errors
    /// When it ends with another status.
    pub fn stop(&mut self) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("stopped with {status}: {}", self.log()?).into())
        }
    }

    /// Starts again on the same directory with the same arguments, after `kill` or `stop`.
    ///
    /// # Errors
    /// See [`ServerBuilder::start`].
    pub fn restart(&mut self) -> Result<()> {
        let (child, address) = launch(&self.how, self.directory.path())?;
        self.child = child;
        self.address = address;
        Ok(())
    }

    /// From now on starts without shell text and with these arguments.
    ///
    /// # Errors
    /// See [`ServerBuilder::start`].
    pub fn restart_with<S: AsRef<str>>(&mut self, arguments: &[S]) -> Result<()> {
        self.how.shell = None;
        self.how.arguments =
            arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
        self.restart()
    }

    /// Largest resident size so far and the present one, in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_kib(&self) -> Result<(u64, u64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let line = line.ok_or("no such field of the process")?;
            Ok(line.trim().trim_end_matches("kB").trim().parse()?)
        };
        Ok((field("VmHWM:")?, field("VmRSS:")?))
    }

    /// Runs `coffer ARGUMENTS --data-dir DIR` beside the server.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn coffer<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut command = Command::new(&self.how.program);
        Ok(command.args(arguments).arg("--data-dir").arg(self.directory()).output()?)
    }

    /// `coffer kms ARGUMENTS`; gives what it printed, without the line's end.
    ///
    /// # Errors
    /// When it fails; the text is what it printed.
    pub fn kms(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["kms"];
        all.extend_from_slice(arguments);
        let output = self.coffer(&all)?;
        if !output.status.success() {
            return Err(format!("coffer kms: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended already is what is wanted.
        if self.child.kill().is_ok() && self.child.wait().is_err() {}
    }
}

#[expect(clippy::disallowed_methods, reason = "a test program is no file of the database")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

fn log_path(directory: &Path) -> PathBuf {
    directory.with_extension("log")
}

fn launch(how: &How, directory: &Path) -> Result<(Child, SocketAddr)> {
    let log = File::options().create(true).append(true).open(log_path(directory))?;
    let mut command = match &how.shell {
        None => Command::new(&how.program),
        Some(text) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("{text}; exec \"$0\" \"$@\"")]);
            shell.arg(&how.program);
            shell
        }
    };
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(directory)
        .args(["--listen", "127.0.0.1:0"])
        .args(&how.arguments);
    command.envs(how.environment.iter().map(|(name, value)| (name, value)));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
    let stdout = child.stdout.take().ok_or("no output")?;
    let (lines, ready) = mpsc::channel();
    std::thread::Builder::new().name("server-output".to_owned()).spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(io::Result::ok) {
            // After the ready line nobody listens, but the pipe must be kept empty.
            if lines.send(line).is_err() {}
        }
    })?;
    match ready_address(&ready) {
        Some(address) => Ok((child, address)),
        None => {
            child.kill()?;
            child.wait()?;
            let text = std::fs::read_to_string(log_path(directory))?;
            Err(format!("the server did not get ready: {text}").into())
        }
    }
}

/// The address in the ready line, the last word of the line that says clients can connect.
fn ready_address(lines: &Receiver<String>) -> Option<SocketAddr> {
    loop {
        let line = lines.recv_timeout(READY_WITHIN).ok()?;
        if line.contains("ready") {
            return line
                .split_whitespace()
                .find_map(|word| word.trim_end_matches(['.', ',']).parse().ok());
        }
    }
}
