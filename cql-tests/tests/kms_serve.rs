//! `coffer kms serve` and `--kms-listen` as whoever runs them sees them: lines, files, users, commands,
//! TLS. What the endpoint speaks is tested with the clients of AWS.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use cql_tests::{Client, Result, Server, ServerBuilder, exchange, executable};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);

/// A `coffer kms serve` on a data directory. Dropping it kills it.
struct KmsServer {
    child: Child,
    ready: String,
    address: SocketAddr,
}

impl KmsServer {
    fn start(directory: &Path, more: &[&str]) -> Result<Self> {
        let mut command = Command::new(executable()?);
        command.args(["kms", "serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut ready = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut ready)?;
        let address = ready.split_whitespace().find_map(|word| word.parse().ok());
        let Some(address) = address else {
            let output = child.wait_with_output()?;
            return Err(text(&output).into());
        };
        Ok(Self { child, ready, address })
    }

    /// SIGTERM; whether the exit was clean.
    fn stop(mut self) -> Result<bool> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        Ok(self.child.wait()?.success())
    }
}

impl Drop for KmsServer {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        if self.child.kill().is_ok() && self.child.wait().is_err() {}
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// `coffer kms ARGUMENTS` on a directory: success and output.
fn kms(directory: &Path, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new(executable()?);
    let output = command.arg("kms").args(arguments).arg("--data-dir").arg(directory).output()?;
    Ok((output.status.success(), text(&output)))
}

fn unsigned(address: SocketAddr) -> Result<String> {
    let request = "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.ListKeys\r\n\
                   Content-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\
                   Connection: close\r\n\r\n{}";
    Ok(String::from_utf8_lossy(&exchange(address, request.as_bytes(), WITHIN)?).into_owned())
}

#[test]
fn it_prints_one_line_answers_there_and_ends_with_sigterm() -> Result<()> {
    let folder = TempDir::new()?;
    let directory = folder.path().join("data");
    let server = KmsServer::start(&directory, &[])?;
    assert!(server.ready.contains("ready") && server.ready.contains("(http)"), "{}", server.ready);
    assert_ne!(server.address.port(), 0);
    let answer = unsigned(server.address)?;
    assert!(answer.contains("400") && answer.contains("MissingAuthenticationToken"), "{answer}");
    for (name, wanted) in [
        ("kms/credentials", 0o600),
        ("kms/root.key", 0o600),
        ("admin.sock", 0o600),
        ("kms", 0o700),
        ("", 0o700),
    ] {
        let mode = fs::metadata(directory.join(name))?.permissions().mode() & 0o777;
        assert_eq!(mode, wanted, "{name} has mode {mode:o}");
    }
    let credentials = fs::read_to_string(directory.join("kms/credentials"))?;
    assert!(credentials.contains("[default]") && credentials.contains("aws_secret_access_key"));
    let address = server.address;
    assert!(server.stop()?, "SIGTERM is no failure");
    assert!(std::net::TcpStream::connect(address).is_err(), "it still listens");
    assert!(!directory.join("admin.sock").exists());
    let again = KmsServer::start(&directory, &[])?;
    assert_eq!(fs::read_to_string(directory.join("kms/credentials"))?, credentials);
    assert!(again.stop()?);
    Ok(())
}

#[test]
fn a_directory_has_one_server_of_either_kind() -> Result<()> {
    let folder = TempDir::new()?;
    let directory = folder.path().join("data");
    let server = KmsServer::start(&directory, &[])?;
    let refusal = KmsServer::start(&directory, &[]).err().ok_or("a second one")?.to_string();
    assert!(refusal.contains("in use"), "{refusal}");
    let refusal =
        ServerBuilder::default().directory(&directory).start().err().ok_or("a database")?;
    assert!(refusal.to_string().contains("in use"), "{refusal}");
    assert!(server.stop()?);
    let database = ServerBuilder::default().directory(&directory).start()?;
    assert!(KmsServer::start(&directory, &[]).is_err());
    drop(database);
    Ok(())
}

#[test]
fn keys_and_users_can_be_worked_on_while_it_runs_and_while_it_does_not() -> Result<()> {
    let folder = TempDir::new()?;
    let directory = folder.path().join("data");
    let policy = folder.path().join("policy.json");
    fs::write(
        &policy,
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#,
    )?;
    let policy = policy.to_str().ok_or("path")?;
    let mut server = Some(KmsServer::start(&directory, &[])?);
    for name in ["ann", "bob"] {
        let (success, arn) = kms(&directory, &["create-key"])?;
        assert!(success && arn.trim_end().starts_with("arn:aws:kms:"), "{arn}");
        let (success, section) = kms(&directory, &["create-user", name, "--policy", policy])?;
        assert!(success, "{section}");
        let lines: Vec<&str> = section.lines().collect();
        assert!(section.contains(&format!("# arn:aws:iam::000000000000:user/{name}")), "{section}");
        assert!(lines.contains(&format!("[{name}]").as_str()), "{section}");
        assert!(section.contains("aws_access_key_id = AKIA"), "{section}");
        let (success, refusal) = kms(&directory, &["create-user", name])?;
        assert!(!success && refusal.contains("already exists"), "{refusal}");
        for (operation, state) in [("disable-user", "Disabled"), ("enable-user", "Enabled")] {
            assert!(kms(&directory, &[operation, name])?.0);
            let (_, listed) = kms(&directory, &["list-users"])?;
            let line = listed.lines().find(|line| line.contains(&format!("user/{name}")));
            assert!(line.is_some_and(|line| line.ends_with(state)), "{operation}: {listed}");
        }
        let (_, json) = kms(&directory, &["list-users", "--json"])?;
        let users: serde_json::Value = serde_json::from_str(&json)?;
        assert!(!json.contains("Secret"), "a list shows secrets");
        assert!(
            users.as_array().is_some_and(|users| users.iter().any(|user| user["Name"] == name))
        );
        if let Some(server) = server.take() {
            assert!(server.stop()?);
        }
    }
    assert!(kms(&directory, &["delete-user", "ann"])?.0);
    let (_, listed) = kms(&directory, &["list-users"])?;
    assert!(!listed.contains("user/ann") && listed.contains("user/bob"), "{listed}");
    for wrong in [&["create-user", "a/b"][..], &["delete-user", "nobody"], &["disable-user", "ann"]]
    {
        let (success, refusal) = kms(&directory, wrong)?;
        assert!(!success && refusal.starts_with("coffer: "), "{wrong:?}: {refusal}");
    }
    fs::write(policy, "{}")?;
    let (success, refusal) = kms(&directory, &["create-user", "eve", "--policy", policy])?;
    assert!(!success && refusal.contains("MalformedPolicyDocument"), "{refusal}");
    Ok(())
}

#[test]
fn another_address_needs_tls_or_a_word_for_plaintext() -> Result<()> {
    let folder = TempDir::new()?;
    let directory = folder.path().join("never-made");
    let (success, refusal) = kms(&directory, &["serve", "--listen", "192.0.2.1:0"])?;
    assert!(!success && refusal.contains("--kms-tls-cert"), "{refusal}");
    assert!(refusal.contains("--allow-plaintext"), "{refusal}");
    let (success, refusal) = kms(&directory, &["serve"])?;
    assert!(!success && refusal.contains("--listen"), "{refusal}");
    for (flag, variable) in
        [("--test-clock", "COFFER_ALLOW_TEST_CLOCK"), ("--kms-fault", "COFFER_ALLOW_KMS_FAULTS")]
    {
        let (success, refusal) = kms(&directory, &["serve", "--listen", "127.0.0.1:0", flag, "f"])?;
        assert!(!success && refusal.contains(variable), "{refusal}");
    }
    assert!(!directory.exists(), "a refused start made files");
    Ok(())
}

#[test]
fn with_a_certificate_the_endpoint_speaks_tls_only() -> Result<()> {
    let folder = TempDir::new()?;
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, signed.cert.pem())?;
    fs::write(&key, signed.signing_key.serialize_pem())?;
    let (cert, key) = (cert.to_str().ok_or("path")?, key.to_str().ok_or("path")?);
    let directory = folder.path().join("data");
    let files = ["--kms-tls-cert", cert, "--kms-tls-key", key];
    let server = KmsServer::start(&directory, &files)?;
    assert!(server.ready.contains("(https)"), "{}", server.ready);
    let answer = unsigned(server.address)?;
    assert!(!answer.contains("HTTP/1.1"), "it spoke in the clear: {answer}");
    assert!(server.stop()?);
    Ok(())
}

#[test]
fn a_database_server_offers_its_kms_too() -> Result<()> {
    let folder = TempDir::new()?;
    let directory = folder.path().join("data");
    let mut command = Command::new(executable()?);
    command.args(["serve", "--listen", "127.0.0.1:0", "--kms-listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(&directory).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let mut printed = Vec::new();
    while !printed.last().is_some_and(|line: &String| line.contains("ready")) {
        printed.push(lines.next().ok_or("it ended")??);
    }
    let server = KmsServer { child, ready: String::new(), address: "127.0.0.1:0".parse()? };
    let all = printed.join("\n");
    let hint = printed.iter().find(|line| line.contains("AWS_SHARED_CREDENTIALS_FILE="));
    assert!(hint.is_some_and(|line| line.contains("--endpoint-url http://127.0.0.1:")), "{all}");
    let endpoint = printed.iter().find_map(|line| line.strip_prefix("KMS endpoint: http://"));
    let answer = unsigned(endpoint.ok_or("no endpoint")?.parse()?)?;
    assert!(answer.contains("MissingAuthenticationToken"), "{answer}");
    assert!(server.stop()?);
    Ok(())
}

#[test]
fn memory_is_not_dumped() -> Result<()> {
    let server = Server::start()?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.ok_or("no limit of core files")?.split_whitespace().collect();
    assert_eq!(core.get(4..6), Some(&["0", "0"][..]), "{core:?}");
    // A process that cannot be dumped has its files below /proc owned by root.
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!(
        "/proc/{}/environ",
        server.pid()
    ))?);
    assert_eq!(owner, 0);
    Client::connect(server.address())?;
    Ok(())
}
