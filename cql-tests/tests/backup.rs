//! `coffer backup`: a table goes from one server to another through a directory and through an
//! S3-compatible store, under the KMS that both use; nothing of it is in the clear on the way.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cql_tests::{
    Client, KeyScript, KmsService, ProxiedKms, Result, Server, WITH_OWNED_KEY,
    backup::{backup, good, text},
    executable,
    files::files_that_end,
    poll::until,
    python, with_key,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const CANARY: &str = "qzcanaryqzcanaryqz";
const ROWS: i32 = 400;
const WITHIN: Duration = Duration::from_secs(60);
const KEYSPACE: &str = "CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}";

/// Two servers with data directories of their own under one KMS.
struct Pair {
    kms: ProxiedKms,
    from: Server,
    to: Server,
    _scripts: [KeyScript; 2],
}

impl Pair {
    fn start() -> Result<Self> {
        let kms = ProxiedKms::of(KmsService::start::<&str>(&[], &[])?)?;
        let scripts = [KeyScript::new()?, KeyScript::new()?];
        let small = ["--memtable-flush-bytes", "64KiB"];
        let from = kms.server(&scripts[0], "127.0.0.1")?.arguments(&small).start()?;
        let to = kms.server(&scripts[1], "127.0.0.1")?.start()?;
        Client::connect(to.address())?.execute(KEYSPACE)?;
        Client::connect(from.address())?.execute(KEYSPACE)?;
        Ok(Self { kms, from, to, _scripts: scripts })
    }

    /// A table with a user type, rows in segments and in the log, and an older table key.
    fn fill(&mut self, key: &str) -> Result<()> {
        let older = self.kms.create_key()?;
        let padding = "x".repeat(400);
        let mut client = Client::connect(self.from.address())?;
        client.execute("CREATE TYPE ks.pair (a int, b text)")?;
        client.execute(&format!(
            "CREATE TABLE ks.t (k int, c int, v text, u frozen<pair>, s text STATIC, PRIMARY KEY (k, c)) {}",
            with_key(&older)
        ))?;
        for k in 0..ROWS {
            client.execute(&format!(
                "INSERT INTO ks.t (k, c, v, u, s) VALUES ({}, {k}, '{CANARY} {k} {padding}', {{a: {k}, b: '{CANARY}'}}, 's')",
                k % 7
            ))?;
        }
        until(WITHIN, "a segment", || {
            let segments = files_that_end(&self.from.directory().join("tables"), ".segment")?;
            Ok(if segments.is_empty() { Err("none".to_owned()) } else { Ok(()) })
        })?;
        client.execute(&format!("ALTER TABLE ks.t {}", with_key(key)))?;
        client.execute("DELETE FROM ks.t WHERE k = 3 AND c < 100")?;
        client.execute(&format!("INSERT INTO ks.t (k, c, v) VALUES (1000, 0, '{CANARY} log')"))?;
        Ok(())
    }
}

/// All rows, with what the tests compare.
fn rows(server: &Server, table: &str) -> Result<Vec<String>> {
    let mut client = Client::connect(server.address())?;
    let all = format!("SELECT k, c, v, u, s, writetime(v) FROM {table}");
    let mut rows: Vec<String> =
        client.rows(&all)?.rows.iter().map(|row| format!("{row:?}")).collect();
    rows.sort();
    Ok(rows)
}

/// The bytes of every file below a directory, and their paths.
fn scan(directory: &Path, found: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            scan(&path, found)?;
        } else {
            found.push((path.to_string_lossy().into_owned(), fs::read(&path)?));
        }
    }
    Ok(())
}

fn assert_nothing_in_the_clear(directory: &Path) -> Result<()> {
    let mut found = Vec::new();
    scan(directory, &mut found)?;
    assert!(found.len() >= 4, "key, manifest, a segment and a tail");
    for (path, bytes) in found {
        for word in [CANARY.as_bytes(), b"pair", b"\"ks\"", b"ks.t"] {
            let is_in = bytes.windows(word.len()).any(|window| window == word);
            assert!(!is_in, "{} is in {path}", String::from_utf8_lossy(word));
        }
    }
    Ok(())
}

#[test]
fn a_table_goes_to_another_server_through_a_directory() -> Result<()> {
    let mut pair = Pair::start()?;
    let (key, other) = (pair.kms.create_key()?, pair.kms.create_key()?);
    pair.fill(&key)?;
    let wanted = rows(&pair.from, "ks.t")?;
    let folder = TempDir::new()?;
    let place = folder.path().join("backups");
    let place = place.to_str().ok_or("path")?;
    let exported = good(&backup(&pair.from, &["export", "ks.t", "--to", place], &[])?)?;
    assert_eq!((&exported["kms_key"], &exported["is_resumed"]), (&json!(key), &json!(false)));
    assert_nothing_in_the_clear(Path::new(place))?;
    let snapshots = pair.from.coffer(&["snapshot", "list", "--json"])?;
    assert_eq!(serde_json::from_slice::<Value>(&snapshots.stdout)?, json!([]), "it left nothing");

    let listed = good(&backup(&pair.to, &["list", "--from", place], &[])?)?;
    assert_eq!(listed[0]["backup"], exported["backup"]);
    assert_eq!(listed[0]["is_complete"], true);
    let verified = good(&backup(&pair.to, &["verify", "--from", place], &[])?)?;
    assert_eq!((&verified["result"], &verified["table"]), (&json!("good"), &json!("t")));

    good(&backup(&pair.to, &["import", "--from", place, "--as", "ks.copy"], &[])?)?;
    assert_eq!(rows(&pair.to, "ks.copy")?, wanted);
    let refused = backup(&pair.to, &["import", "--from", place, "--as", "ks.copy"], &[])?;
    assert!(text(&refused).contains("copy") && !refused.status.success(), "{}", text(&refused));
    let flags = ["import", "--from", place, "--as", "ks.again", "--kms-key", &other];
    good(&backup(&pair.to, &flags, &[])?)?;
    assert_eq!(rows(&pair.to, "ks.again")?, wanted);

    // it is a table like any other: it is written, and comes back
    let mut client = Client::connect(pair.to.address())?;
    client.execute("INSERT INTO ks.copy (k, c, v) VALUES (-1, 0, 'new')")?;
    pair.kms.boto.call("DisableKey", json!({"KeyId": key}))?;
    drop(client);
    pair.to.stop()?;
    pair.to.restart()?;
    assert_eq!(rows(&pair.to, "ks.again")?, wanted, "it is under the other key alone");
    let flags = ["import", "--from", place, "--as", "ks.third", "--kms-key", &other];
    let refused = backup(&pair.to, &flags, &[])?;
    assert!(!refused.status.success() && text(&refused).contains(&key), "{}", text(&refused));
    pair.kms.boto.call("EnableKey", json!({"KeyId": key}))?;
    assert_eq!(rows(&pair.to, "ks.copy")?.len(), wanted.len() + 1);
    let import = pair.to.directory().join("import");
    let left: Vec<_> = fs::read_dir(import)?.collect();
    assert!(left.is_empty(), "nothing is left, of the refused ones neither: {left:?}");
    Ok(())
}

#[test]
fn a_snapshot_goes_too_and_the_owned_key_stays_at_home() -> Result<()> {
    let mut pair = Pair::start()?;
    let key = pair.kms.create_key()?;
    let mut client = Client::connect(pair.from.address())?;
    client.execute(&format!("CREATE TABLE ks.o (k int PRIMARY KEY, v text) {WITH_OWNED_KEY}"))?;
    client.execute("INSERT INTO ks.o (k, v) VALUES (1, 'kept')")?;
    let taken = pair.from.coffer(&["snapshot", "create", "ks.o", "--json"])?;
    let taken: Value = serde_json::from_slice(&taken.stdout)?;
    client.execute("INSERT INTO ks.o (k, v) VALUES (2, 'later')")?;
    let folder = TempDir::new()?;
    let place = folder.path().to_str().ok_or("path")?;
    let refused = backup(&pair.from, &["export", "ks.o", "--to", place], &[])?;
    assert!(
        !refused.status.success() && text(&refused).contains("--kms-key"),
        "{}",
        text(&refused)
    );
    let id = taken[0]["id"].as_str().ok_or("no id")?;
    let flags = ["export", "--snapshot", id, "--to", place, "--kms-key", &key];
    good(&backup(&pair.from, &flags, &[])?)?;
    good(&backup(&pair.to, &["import", "--from", place, "--as", "ks.o"], &[])?)?;
    let mut client = Client::connect(pair.to.address())?;
    assert_eq!(client.rows("SELECT k, v FROM ks.o")?.rows.len(), 1, "as of the snapshot");
    let listed = pair.from.coffer(&["snapshot", "list", "--json"])?;
    assert!(String::from_utf8_lossy(&listed.stdout).contains(id), "the snapshot stays");
    Ok(())
}

#[test]
fn who_may_not_use_the_key_imports_nothing() -> Result<()> {
    let mut pair = Pair::start()?;
    let key = pair.kms.create_key()?;
    pair.fill(&key)?;
    let folder = TempDir::new()?;
    let place = folder.path().to_str().ok_or("path")?;
    good(&backup(&pair.from, &["export", "ks.t", "--to", place], &[])?)?;
    let (principal, credentials, _) = pair.kms.service.user("stranger")?;
    let script = KeyScript::new()?;
    let config = script.folder().join("stranger.toml");
    let host = pair.kms.service.address().to_string();
    fs::write(&config, pair.kms.service.provider(&host, &principal))?;
    let stranger = script
        .server()
        .environment("AWS_SHARED_CREDENTIALS_FILE", &credentials.to_string_lossy())
        .environment("AWS_PROFILE", "stranger")
        .environment("AWS_EC2_METADATA_DISABLED", "true")
        .arguments(&["--config", &config.to_string_lossy()])
        .start()?;
    Client::connect(stranger.address())?.execute(KEYSPACE)?;
    let refused = backup(&stranger, &["import", "--from", place, "--as", "ks.t"], &[])?;
    let told = text(&refused);
    assert!(!refused.status.success() && told.contains(&key), "{told}");
    assert!(told.contains("AccessDenied") || told.contains("not authorized"), "{told}");
    Ok(())
}

#[test]
fn a_changed_backup_is_named_and_makes_no_table() -> Result<()> {
    let mut pair = Pair::start()?;
    let key = pair.kms.create_key()?;
    pair.fill(&key)?;
    let folder = TempDir::new()?;
    let place = folder.path().to_str().ok_or("path")?;
    let exported = good(&backup(&pair.from, &["export", "ks.t", "--to", place], &[])?)?;
    let id = exported["backup"].as_str().ok_or("no id")?.to_owned();
    let mut found = Vec::new();
    scan(folder.path(), &mut found)?;
    for (path, bytes) in found {
        let mut changed = bytes.clone();
        let middle = bytes.len() / 2;
        changed[middle] ^= 1;
        fs::write(&path, &changed)?;
        for flags in [
            vec!["verify", "--from", place, "--backup", &id],
            vec!["import", "--from", place, "--as", "ks.bad", "--backup", &id],
        ] {
            let refused = backup(&pair.to, &flags, &[])?;
            assert!(!refused.status.success(), "{path}: {}", text(&refused));
            // an ARN that was changed in the key object is only one that nobody knows
            let code = refused.status.code();
            assert!(path.ends_with("/key") || code == Some(4), "{path}: {}", text(&refused));
        }
        fs::write(&path, &bytes)?;
    }
    let mut client = Client::connect(pair.to.address())?;
    assert!(client.error("SELECT k FROM ks.bad").is_ok(), "no table was made");
    good(&backup(&pair.to, &["import", "--from", place, "--as", "ks.good"], &[])?)?;
    Ok(())
}

#[test]
fn an_interrupted_export_and_import_go_on() -> Result<()> {
    let mut pair = Pair::start()?;
    let key = pair.kms.create_key()?;
    pair.fill(&key)?;
    let wanted = rows(&pair.from, "ks.t")?;
    let folder = TempDir::new()?;
    let place = folder.path().join("place");
    fs::create_dir(&place)?;
    let text_of = place.to_str().ok_or("path")?;
    // a killed one: whatever it had done by then
    let mut child = Command::new(executable()?)
        .args(["backup", "export", "ks.t", "--to", text_of, "--data-dir"])
        .arg(pair.from.directory())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = until(WITHIN, "the export writes its key", || {
        let folders: Vec<_> = fs::read_dir(&place)?.collect();
        match folders.first() {
            Some(Ok(folder)) if folder.path().join("key").exists() => Ok(Ok(folder.path())),
            _ => Ok(Err("no key yet".to_owned())),
        }
    })?;
    child.kill()?;
    child.wait()?;
    // as if it had been killed before the end, wherever it was
    let _ = fs::remove_file(begun.join("manifest"));
    let listed = good(&backup(&pair.from, &["list", "--from", text_of], &[])?)?;
    assert_eq!(listed[0]["is_complete"], false, "{listed}");
    let refused = backup(&pair.to, &["import", "--from", text_of, "--as", "ks.t"], &[])?;
    assert!(text(&refused).contains("no complete backup"), "{}", text(&refused));

    // one that could not write its tails, then was run again
    let second = folder.path().join("second");
    fs::create_dir(&second)?;
    let second_text = second.to_str().ok_or("path")?;
    let mut client = Client::connect(pair.from.address())?;
    client.execute("INSERT INTO ks.t (k, c, v) VALUES (1000, 0, 'again')")?;
    let exported = good(&backup(&pair.from, &["export", "ks.t", "--to", second_text], &[])?)?;
    let copied = exported["files_copied"].as_u64().ok_or("no count")?;
    assert!(copied >= 2, "{exported}");

    let resumed = good(&backup(&pair.from, &["export", "ks.t", "--to", text_of], &[])?)?;
    let name = begun.file_name().ok_or("no name")?.to_string_lossy().into_owned();
    if resumed["is_resumed"] == true {
        assert_eq!(resumed["backup"], name.as_str(), "the same backup goes on");
    }
    let id = resumed["backup"].as_str().ok_or("no id")?;
    // an import whose first file was cut
    let import = pair.to.directory().join("import").join(id);
    fs::create_dir_all(&import)?;
    let segment = fs::read_dir(place.join(id).join("segments"))?.next().ok_or("no segment")??;
    let staged = import.join(format!("{}.segment", segment.file_name().to_string_lossy()));
    fs::write(staged, &fs::read(segment.path())?[..100])?;
    let flags = ["import", "--from", text_of, "--as", "ks.t", "--backup", id];
    good(&backup(&pair.to, &flags, &[])?)?;
    let imported = rows(&pair.to, "ks.t")?;
    assert_eq!(imported.len(), wanted.len());
    if resumed["is_resumed"] == true {
        assert_eq!(imported, wanted, "as of the time the export began");
    }
    Ok(())
}

/// moto's S3. Ends when dropped.
struct S3 {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl S3 {
    fn start() -> Result<Self> {
        let bin = python::environment("kms-requirements.txt")?;
        let folder = TempDir::new()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = folder.path().join("log");
        fs::write(&path, b"")?;
        let log = fs::OpenOptions::new().append(true).open(&path)?;
        let child = Command::new(bin.join("moto_server"))
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let server = Self { child, address, folder };
        until(WITHIN, "moto listens", || {
            Ok(TcpStream::connect(address).map(drop).map_err(|error| error.to_string()))
        })?;
        let created = cql_tests::exchange(
            address,
            b"PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            Duration::from_secs(20),
        )?;
        let created = String::from_utf8_lossy(&created).into_owned();
        assert!(created.contains("200"), "{created}");
        Ok(server)
    }

    fn environment(&self) -> [(&'static str, &'static str); 4] {
        assert!(self.folder.path().exists());
        [
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        if self.child.kill().is_ok() && self.child.wait().is_err() {}
    }
}

#[test]
fn a_table_goes_to_another_server_through_s3() -> Result<()> {
    let s3 = S3::start()?;
    let mut pair = Pair::start()?;
    let (key, other) = (pair.kms.create_key()?, pair.kms.create_key()?);
    pair.fill(&key)?;
    let wanted = rows(&pair.from, "ks.t")?;
    let endpoint = format!("http://{}", s3.address);
    let place = "s3://bucket/of/backups";
    let flags =
        ["export", "ks.t", "--to", place, "--endpoint", &endpoint, "--kms-key", other.as_str()];
    let exported = good(&backup(&pair.from, &flags, &s3.environment())?)?;
    assert_eq!(exported["kms_key"], other.as_str(), "re-wrapped for another key");
    let flags = ["verify", "--from", place, "--endpoint", &endpoint];
    good(&backup(&pair.to, &flags, &s3.environment())?)?;
    pair.kms.boto.call("DisableKey", json!({"KeyId": key}))?;
    let flags = ["import", "--from", place, "--endpoint", &endpoint, "--as", "ks.t"];
    good(&backup(&pair.to, &flags, &s3.environment())?)?;
    assert_eq!(rows(&pair.to, "ks.t")?, wanted, "the key of the source is not needed");
    let flags = ["list", "--from", "s3://nosuch", "--endpoint", &endpoint];
    let refused = backup(&pair.to, &flags, &s3.environment())?;
    assert!(!refused.status.success() && text(&refused).contains("nosuch"), "{}", text(&refused));
    Ok(())
}
