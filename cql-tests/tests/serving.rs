//! The program `coffer` as whoever runs it sees it: defaults, ready line, signals, configuration, the
//! `kms` and `inspect` commands, file modes.
#![expect(clippy::indexing_slicing, reason = "a panic fails the test")]

use std::{
    fs,
    io::Read,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use cql_tests::{Client, Result, Server, ServerBuilder, executable};
use cql_types::to_literal;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// `coffer ARGUMENTS` in a folder of its own, without variables of this process.
fn coffer(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Command> {
    let mut command = Command::new(executable()?);
    command.args(arguments).current_dir(folder);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COFFER_")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    Ok(command)
}

fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<(bool, String)> {
    let output = coffer(folder, arguments, variables)?.output()?;
    Ok((output.status.success(), text(&output)))
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A `coffer serve` whose standard output is read to its end after a stop.
struct Printed(Child);

impl Printed {
    fn start(folder: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = coffer(folder, arguments, &[])?;
        Ok(Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?))
    }

    /// Reads up to the ready line; what was printed.
    fn until_ready(&mut self) -> Result<String> {
        let (mut printed, mut byte) = (Vec::new(), [0]);
        let out = self.0.stdout.as_mut().ok_or("no output")?;
        while !(printed.ends_with(b"\n") && String::from_utf8_lossy(&printed).contains("ready")) {
            if out.read(&mut byte)? == 0 {
                return Err(format!("ended: {}", String::from_utf8_lossy(&printed)).into());
            }
            printed.extend_from_slice(&byte);
        }
        Ok(String::from_utf8(printed)?)
    }

    /// SIGTERM; what was printed since, and whether the exit was clean.
    fn stop(mut self) -> Result<(String, bool)> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        let mut rest = String::new();
        self.0.stdout.as_mut().ok_or("no output")?.read_to_string(&mut rest)?;
        Ok((rest, self.0.wait()?.success()))
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        if self.0.kill().is_ok() && self.0.wait().is_err() {}
    }
}

#[test]
fn without_arguments_it_serves_on_9042_from_coffer_data() -> Result<()> {
    let folder = TempDir::new()?;
    let mut server = Printed::start(folder.path(), &[])?;
    // The port may be taken on the machine of the test: then the refusal names it.
    match server.until_ready() {
        Ok(printed) => assert!(printed.contains("127.0.0.1:9042"), "{printed}"),
        Err(_) => {
            drop(server);
            let (success, printed) = run(folder.path(), &[], &[])?;
            assert!(!success && printed.contains("listen on 127.0.0.1:9042"), "{printed}");
        }
    }
    assert!(folder.path().join("coffer-data").join("root.key").exists());
    Ok(())
}

#[test]
fn the_first_start_says_what_it_made_and_later_ones_print_one_line() -> Result<()> {
    let folder = TempDir::new()?;
    let arguments = ["serve", "--data-dir", "here", "--listen", "127.0.0.1:0"];
    let mut first = Printed::start(folder.path(), &arguments)?;
    let printed = first.until_ready()?;
    for wanted in ["here", "root.key", "cqlsh 127.0.0.1 ", "coffer kms create-key", "is ready"] {
        assert!(printed.contains(wanted), "{wanted} is missing in: {printed}");
    }
    let address = printed
        .split_whitespace()
        .filter_map(|word| word.parse::<std::net::SocketAddr>().ok())
        .next_back()
        .ok_or("no address in the ready line")?;
    assert_ne!(address.port(), 0, "port 0 stands for a free one, which is printed");
    let mut client = Client::connect(address)?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY)")?;
    client.execute("INSERT INTO ks.t (k) VALUES (1)")?;
    let (rest, is_clean) = first.stop()?;
    assert!(is_clean, "SIGTERM is no failure");
    assert_eq!(rest, "", "nothing more is printed on standard output");
    assert!(TcpStream::connect(address).is_err(), "it still listens");

    let mut second = Printed::start(folder.path(), &arguments)?;
    let printed = second.until_ready()?;
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let address = printed
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .ok_or("no address in the ready line")?;
    assert_eq!(Client::connect(address)?.rows("SELECT * FROM ks.t")?.rows.len(), 1);
    assert!(second.stop()?.1);
    Ok(())
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_by_name() -> Result<()> {
    let server = Server::start()?;
    let directory = server.directory().to_str().ok_or("path")?;
    let arguments = ["serve", "--data-dir", directory, "--listen", "127.0.0.1:0"];
    let (success, printed) = run(Path::new("/"), &arguments, &[])?;
    assert!(!success, "{printed}");
    assert!(printed.contains(directory) && printed.contains("in use"), "{printed}");
    assert!(printed.contains(&server.pid().to_string()), "{printed}");
    assert_eq!(
        Client::connect(server.address())?.rows("SELECT key FROM system.local")?.rows.len(),
        1
    );
    Ok(())
}

fn cluster_name(server: &Server) -> Result<String> {
    let rows = Client::connect(server.address())?.rows("SELECT cluster_name FROM system.local")?;
    let cell = rows.rows[0][0].as_ref().ok_or("no name")?;
    Ok(to_literal(&rows.columns[0].ty, cell)?)
}

#[test]
fn a_flag_goes_before_a_variable_and_a_variable_before_the_file() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("coffer.toml");
    fs::write(&file, "cluster_name = \"of the file\"\nrack = \"of the file\"\n")?;
    let file = file.to_str().ok_or("path")?;
    let of_file = || ServerBuilder::default().arguments(&["--config", file]);
    let of_variable = || of_file().environment("COFFER_CLUSTER_NAME", "of the variable");
    let of_flag = || of_variable().arguments(&["--cluster-name", "of the flag"]);
    assert_eq!(cluster_name(&Server::start()?)?, "'Coffer'");
    assert_eq!(cluster_name(&of_file().start()?)?, "'of the file'");
    assert_eq!(cluster_name(&of_variable().start()?)?, "'of the variable'");
    assert_eq!(cluster_name(&of_flag().start()?)?, "'of the flag'");
    Ok(())
}

#[test]
fn a_wrong_option_is_refused_with_its_name_and_what_is_allowed() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("wrong.toml");
    fs::write(&file, "page_rows_max = 0\n")?;
    let unknown = folder.path().join("unknown.toml");
    fs::write(&unknown, "page_rows_maximum = 5\n")?;
    let table = folder.path().join("table.toml");
    fs::write(&table, "[page_rows_max]\n")?;
    let (file, unknown) = (file.to_str().ok_or("path")?, unknown.to_str().ok_or("path")?);
    let table = table.to_str().ok_or("path")?;
    let none: &[(&str, &str)] = &[];
    for (arguments, variables, wanted) in [
        (vec!["--durability", "never"], none, &["durability", "never", "synced, periodic"][..]),
        (vec!["--connections-max", "0"], none, &["connections_max", "1 to 100000"]),
        (vec!["--listen", "nowhere"], none, &["listen", "HOST:PORT"]),
        (vec!["--nonsense", "1"], none, &["--nonsense"]),
        (vec!["--block-bytes", "5000"], none, &["block_bytes", "4096, 16384, 65536"]),
        (
            vec![],
            &[("COFFER_FRAME_BYTES_MAX", "12 parsecs")],
            &["frame_bytes_max", "COFFER_FRAME_BYTES_MAX", "4KiB to 256MiB"],
        ),
        (
            vec![],
            &[("COFFER_FRAME_BITES", "1")],
            &["frame_bites", "COFFER_FRAME_BITES", "frame_bytes_max"],
        ),
        (vec!["--config", file], none, &["page_rows_max", "wrong.toml", "1 to 1000000"]),
        (vec!["--config", table], none, &["page_rows_max", "table.toml", "1 to 1000000"]),
        (vec!["--config", unknown], none, &["page_rows_maximum", "unknown.toml", "page_rows_max,"]),
        (vec!["--config", "no-such.toml"], none, &["no-such.toml"]),
        (vec!["--listen", "0.0.0.0:0"], none, &["listen", "allow-plaintext"]),
        (vec!["--test-clock", "clock"], none, &["COFFER_ALLOW_TEST_CLOCK"]),
    ] {
        let all = [&["serve", "--data-dir", "never-made"], arguments.as_slice()].concat();
        let (success, printed) = run(folder.path(), &all, variables)?;
        assert!(!success, "{all:?} {variables:?} was accepted: {printed}");
        for part in wanted {
            assert!(printed.contains(part), "{all:?}: {part} is missing in: {printed}");
        }
    }
    assert!(!folder.path().join("never-made").exists(), "a refused start made files");
    Ok(())
}

#[test]
fn the_kms_commands_work_with_and_without_a_server() -> Result<()> {
    let mut server = Server::start()?;
    for is_running in [true, false] {
        let alias = if is_running { "with" } else { "without" };
        let arn = server.kms(&["create-key", "--description", "one", "--alias", alias])?;
        assert!(arn.starts_with("arn:aws:kms:us-east-1:000000000000:key/"), "{arn}");
        assert_eq!(arn.lines().count(), 1, "create-key prints the ARN alone");
        let id = arn.rsplit('/').next().ok_or("no id")?;
        let listed = server.kms(&["list-keys"])?;
        assert!(listed.contains(&arn) && listed.contains(alias), "{listed}");
        for (operation, name, state) in [
            ("disable-key", arn.as_str(), "Disabled"),
            ("enable-key", id, "Enabled"),
            ("schedule-key-deletion", alias, "PendingDeletion"),
            ("cancel-key-deletion", arn.as_str(), "Disabled"),
        ] {
            server.kms(&[operation, name])?;
            let described = server.kms(&["describe-key", name])?;
            assert!(
                described.contains(&arn) && described.contains(state),
                "{operation}: {described}"
            );
            let json = server.kms(&["describe-key", name, "--json"])?;
            let json: serde_json::Value = serde_json::from_str(&json)?;
            assert_eq!(json["Arn"], arn.as_str(), "{json}");
            assert_eq!(json["KeyState"], state, "{json}");
        }
        let json: serde_json::Value = serde_json::from_str(&server.kms(&["list-keys", "--json"])?)?;
        assert!(
            json.as_array().is_some_and(|keys| keys.iter().any(|key| key["Arn"] == arn.as_str()))
        );
        let json: serde_json::Value =
            serde_json::from_str(&server.kms(&["create-key", "--json"])?)?;
        assert!(json["Arn"].as_str().is_some_and(|arn| arn.starts_with("arn:")), "{json}");
        let error = server.kms(&["describe-key", "nobody"]).err().ok_or("no error")?.to_string();
        assert!(error.contains("nobody") && error.contains("does not exist"), "{error}");
        let error = server.kms(&["create-key", "--arn", &arn]).err().ok_or("no error")?.to_string();
        assert!(error.contains(&arn), "{error}");
        if is_running {
            server.stop()?;
        }
    }
    Ok(())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            files.push(path);
        }
    }
    Ok(files)
}

/// A stopped server with one table in a segment and one in the log.
fn with_files() -> Result<Server> {
    let mut server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'quokkas')")?;
    server.kms(&["create-key"])?;
    server.stop()?;
    server.restart()?;
    Client::connect(server.address())?.execute("INSERT INTO ks.t (k, v) VALUES (2, 'wombats')")?;
    Ok(server)
}

#[test]
fn every_file_is_its_owners_alone() -> Result<()> {
    let server = with_files()?;
    let paths = files_below(server.directory())?;
    for wanted in ["root.key", "kms/root.key", "admin.sock", "catalog", "log", "tables"] {
        let path = server.directory().join(wanted);
        assert!(paths.contains(&path), "{wanted} is missing in {paths:?}");
    }
    for path in paths {
        let metadata = fs::symlink_metadata(&path)?;
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        let mode = metadata.permissions().mode() & 0o7777;
        assert_eq!(mode, wanted, "{} has mode {mode:o}", path.display());
    }
    let mode = fs::metadata(server.directory())?.permissions().mode() & 0o7777;
    assert_eq!(mode, 0o700);
    Ok(())
}

#[test]
fn a_root_key_that_others_may_read_or_that_is_gone_is_refused_by_name() -> Result<()> {
    let mut server = with_files()?;
    server.stop()?;
    for name in ["root.key", "kms/root.key"] {
        let key = server.directory().join(name);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
        let error = server.restart().err().ok_or("it started")?.to_string();
        assert!(error.contains(name) && error.contains("0644"), "{error}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let content = fs::read(&key)?;
        fs::remove_file(&key)?;
        let error = server.restart().err().ok_or("it started without its key")?.to_string();
        assert!(error.contains("root.key"), "{error}");
        assert!(!key.exists(), "a lost {name} must not be replaced by a new one");
        fs::write(&key, content)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    }
    server.restart()?;
    assert_eq!(Client::connect(server.address())?.rows("SELECT * FROM ks.t")?.rows.len(), 2);
    Ok(())
}

/// Exit code and output of `coffer inspect`.
fn inspect(file: &Path, more: &[&str]) -> Result<(Option<i32>, String)> {
    let output = coffer(Path::new("/"), &["inspect"], &[])?.arg(file).args(more).output()?;
    Ok((output.status.code(), text(&output)))
}

#[test]
fn inspect_tells_whole_from_tampered_and_never_shows_plaintext() -> Result<()> {
    let mut server = with_files()?;
    let apart = TempDir::new()?;
    let mut kinds = 0;
    // It takes no lock: the server runs.
    let segment = files_below(server.directory())?
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "segment"))
        .ok_or("no segment")?;
    let (code, printed) = inspect(&segment, &[])?;
    assert_eq!(code, Some(0), "{printed}");
    // Other files come and go while it runs.
    server.kill()?;
    for path in files_below(server.directory())? {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !["segment", "log", "catalog", "keys"].contains(&ending) {
            continue;
        }
        kinds += 1;
        let (code, printed) = inspect(&path, &[])?;
        assert_eq!(code, Some(0), "{}: {printed}", path.display());
        let (code, json) = inspect(&path, &["--json"])?;
        assert_eq!(code, Some(0), "{json}");
        serde_json::from_str::<serde_json::Value>(&json)?;
        for secret in ["quokkas", "wombats", "\"v\""] {
            assert!(!printed.contains(secret) && !json.contains(secret), "{secret}: {printed}");
        }
        // Elsewhere, without any key: structure only.
        let copy = apart.path().join(path.file_name().ok_or("no name")?);
        fs::copy(&path, &copy)?;
        let (code, printed) = inspect(&copy, &[])?;
        assert_eq!(code, Some(3), "{}: {printed}", path.display());
        // With the keys of its directory, and a flipped bit.
        let directory = server.directory().to_str().ok_or("path")?;
        let (code, printed) = inspect(&copy, &["--data-dir", directory])?;
        assert_eq!(code, Some(0), "{}: {printed}", path.display());
        let mut content = fs::read(&copy)?;
        let middle = content.len().min(700) - 40;
        content[middle] ^= 4;
        fs::write(&copy, content)?;
        let (code, printed) = inspect(&copy, &["--data-dir", directory])?;
        assert_eq!(code, Some(4), "{}: {printed}", path.display());
    }
    assert!(kinds >= 4, "a segment, a log, a catalog and a KMS store were wanted");
    let (code, _) = inspect(Path::new("/no/such/file"), &[])?;
    assert_eq!(code, Some(1));
    Ok(())
}
