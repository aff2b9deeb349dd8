//! Whom a server tells what happens to keys: a mail server, an HTTP server, a command.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Result, poll, python};

/// What requests are signed with.
const SECRET: &str = "0123456789abcdef-secret";
/// Within this time a notification comes, also after some failures.
const WITHIN: Duration = Duration::from_secs(90);

/// Both servers in a process of their own, and the file a command writes. Ends when dropped.
pub struct Sinks {
    child: Child,
    folder: TempDir,
    smtp: u16,
    http: u16,
}

impl Sinks {
    /// A mail server that wants STARTTLS and a password, and an HTTP server.
    ///
    /// # Errors
    /// When the Python packages cannot be installed or the servers not started.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// As [`Sinks::start`], with a mail server that has no STARTTLS.
    ///
    /// # Errors
    /// As there.
    pub fn without_starttls() -> Result<Self> {
        Self::start_with(&["plain"])
    }

    fn start_with(arguments: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATING.md");
        let bin = python::environment("mail-requirements.txt")?;
        let mut command = Command::new(bin.join("python"));
        command
            .args(["-W", "ignore"])
            .arg(python::folder().join("sinks.py"))
            .arg(folder.path())
            .arg(manual);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let (smtp, http) = line.trim().split_once(' ').ok_or("the sinks ended")?;
        let (smtp, http) = (smtp.parse()?, http.parse()?);
        let sinks = Self { child, folder, smtp, http };
        sinks.secret("webhook.secret", SECRET)?;
        sinks.secret("smtp.password", "mail-password")?;
        Ok(sinks)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn secret(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), format!("{text}\n"))?;
        Ok(fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600))?)
    }

    /// Flags of `coffer serve` that make it tell all three; the command keeps what it gets.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn arguments(&self) -> Result<Vec<String>> {
        let kept = self.path("commands.jsonl");
        self.arguments_with(&format!("cat >> {0}; echo >> {0}", kept.display()))
    }

    /// As [`Sinks::arguments`], with another shell text for the command.
    ///
    /// # Errors
    /// As there.
    pub fn arguments_with(&self, command: &str) -> Result<Vec<String>> {
        let path = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "[notify.webhook]\nurl = \"http://127.0.0.1:{}/hook\"\nsecret_file = {:?}\n\n\
             [notify.smtp]\nhost = \"127.0.0.1\"\nport = {}\nfrom = \"Coffer <coffer@example.com>\"\n\
             to = [\"ops@example.com\", \"dba@example.com\"]\nuser = \"coffer\"\n\
             password_file = {:?}\nca_file = {:?}\n\n\
             [notify.command]\npath = \"/bin/sh\"\narguments = [\"-c\", {command:?}]\n",
            self.http,
            path("webhook.secret"),
            self.smtp,
            path("smtp.password"),
            path("ca.pem"),
        );
        fs::write(self.path("coffer.toml"), text)?;
        Ok(vec!["--config".to_owned(), path("coffer.toml")])
    }

    /// The HTTP server answers with these, then with `then`; the mail server refuses these recipients.
    ///
    /// # Errors
    /// When the script cannot be written.
    #[expect(clippy::disallowed_methods, reason = "a test's file is no file of the database")]
    pub fn script(&self, first: &[u16], then: u16, refused: &[&str]) -> Result<()> {
        let script = json!({"first": first, "then": then, "refused": refused});
        fs::write(self.path("script.new"), script.to_string())?;
        Ok(fs::rename(self.path("script.new"), self.path("script.json"))?)
    }

    fn lines(&self, name: &str) -> Result<Vec<Value>> {
        let text = match fs::read_to_string(self.path(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        // the last line may not be whole yet
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        let lines = whole.lines().filter(|line| !line.is_empty());
        Ok(lines.map(serde_json::from_str).collect::<serde_json::Result<_>>()?)
    }

    /// Requests so far: `path`, `headers`, `body`, the `status` they got, whether `genuine`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn posts(&self) -> Result<Vec<Value>> {
        self.lines("posts.jsonl")
    }

    /// Documents that got a status of success.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn documents(&self) -> Result<Vec<Value>> {
        let mut posts = self.posts()?;
        posts.retain(|post| {
            post.get("status").and_then(Value::as_u64).is_some_and(|s| (200..300).contains(&s))
        });
        Ok(posts.iter_mut().filter_map(|post| post.get_mut("body").map(Value::take)).collect())
    }

    /// Mails so far: `from`, `to`, `headers`, `text`, `tls`, `authenticated`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn mails(&self) -> Result<Vec<Value>> {
        self.lines("mails.jsonl")
    }

    /// Documents that the command got.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn commands(&self) -> Result<Vec<Value>> {
        self.lines("commands.jsonl")
    }

    /// Waits until `look` gives so many, and gives them.
    ///
    /// # Errors
    /// When they do not come, or are more.
    pub fn wait_for(
        &self,
        what: &str,
        count: usize,
        look: impl Fn(&Self) -> Result<Vec<Value>>,
    ) -> Result<Vec<Value>> {
        poll::until(WITHIN, what, || {
            let found = look(self)?;
            if found.len() > count {
                return Err(format!("{} {what} instead of {count}: {found:?}", found.len()).into());
            }
            Ok(if found.len() == count { Ok(found) } else { Err(format!("{found:?}")) })
        })
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {}
    }
}
