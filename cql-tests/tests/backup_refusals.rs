//! `coffer backup` and `coffer snapshot` where something is in the way: exports that were interrupted,
//! grants that are gone, damaged backups, keys that are not allowed, outputs that are full.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use cql_tests::{
    Boto, Client, KeyScript, Result, Server, WITH_OWNED_KEY,
    backup::{backup, good, text},
    executable, free_address,
    key_status::texts,
    poll::until,
    with_key,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
const DAY: i64 = 86_400;
const KEYSPACE: &str = "CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}";
/// Exit code: not as it was written.
const TAMPERED: Option<i32> = Some(4);

/// A server whose embedded KMS has an endpoint, and a folder for backups.
struct World {
    script: KeyScript,
    server: Server,
    boto: Boto,
    folder: TempDir,
}

impl World {
    fn start(arguments: &[&str]) -> Result<Self> {
        let script = KeyScript::new()?;
        let address = free_address()?.to_string();
        let server = script.server().arguments(&["--kms-listen", &address]);
        let server = server.arguments(arguments).start()?;
        let credentials = server.directory().join("kms/credentials");
        let endpoint = format!("http://{address}");
        let boto = Boto::start(&endpoint, "us-east-1", &credentials, "default", None)?;
        Client::connect(server.address())?.execute(KEYSPACE)?;
        Ok(Self { script, server, boto, folder: TempDir::new()? })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.server.address())
    }

    fn place(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    fn backup(&self, arguments: &[&str]) -> Result<Output> {
        backup(&self.server, arguments, &[])
    }

    /// An export that ends with the first byte that it writes to the place.
    fn broken_export(&self, arguments: &[&str]) -> Result<()> {
        let ended = Command::new("sh")
            .args(["-c", "ulimit -c 0; ulimit -f 0; exec \"$0\" backup export \"$@\""])
            .arg(executable()?)
            .args(arguments)
            .arg("--data-dir")
            .arg(self.server.directory())
            .stdin(Stdio::null())
            .output()?;
        assert!(!ended.status.success(), "{}", text(&ended));
        Ok(())
    }

    /// Waits until the key has so many grants.
    fn wait_for_grants(&mut self, key: &str, count: usize, when: &str) -> Result<()> {
        until(SOON, &format!("{count} grants {when}"), || {
            let grants = self.boto.grants(key)?;
            let names: Vec<_> = grants.iter().map(|grant| grant["Name"].to_string()).collect();
            Ok(if names.len() == count { Ok(()) } else { Err(format!("{names:?}")) })
        })
    }

    fn snapshot(&self, arguments: &[&str]) -> Result<Output> {
        let mut all = vec!["snapshot"];
        all.extend_from_slice(arguments);
        self.server.coffer(&all)
    }

    fn take(&self, table: &str) -> Result<String> {
        let taken = good(&self.snapshot(&["create", table, "--json"])?)?;
        let id = taken.pointer("/0/id").and_then(Value::as_str);
        Ok(id.ok_or("no id")?.to_owned())
    }

    /// What is in the directory of imports.
    fn imports(&self) -> Result<BTreeSet<String>> {
        let directory = self.server.directory().join("import");
        if !directory.exists() {
            return Ok(BTreeSet::new());
        }
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        Ok(fs::read_dir(directory)?.map(|entry| entry.map(name)).collect::<std::io::Result<_>>()?)
    }

    fn import(&self, backup: &Value, table: &str) -> Result<Output> {
        let id = backup["backup"].as_str().ok_or("no id")?;
        self.backup(&["import", "--from", &self.place(), "--as", table, "--backup", id])
    }
}

fn create(table: &str, key: &str) -> String {
    format!("CREATE TABLE {table} (k int PRIMARY KEY, v text) {}", with_key(key))
}

fn insert(client: &mut Client, table: &str, k: i32) -> Result<()> {
    client.execute(&format!("INSERT INTO {table} (k, v) VALUES ({k}, 'row {k}')")).map(drop)
}

fn keys_of(client: &mut Client, table: &str) -> Result<BTreeSet<String>> {
    let rows = texts(client, &format!("SELECT k FROM {table}"))?;
    Ok(rows.into_iter().filter_map(|mut row| row.remove("k")).collect())
}

fn refused(output: &Output, words: &[&str]) -> String {
    let told = text(output);
    assert!(!output.status.success(), "{told}");
    for word in words {
        assert!(told.contains(word), "{word} is not in {told}");
    }
    told
}

#[test]
fn an_interrupted_export_goes_on_only_with_the_same_table_and_key() -> Result<()> {
    let mut world = World::start(&[])?;
    let (first, second) = (world.server.kms(&["create-key"])?, world.server.kms(&["create-key"])?);
    let (mut client, place) = (world.client()?, world.place());
    let export = ["export", "ks.t", "--to", &place];

    // another table of the name, under another key
    client.execute(&create("ks.t", &first))?;
    insert(&mut client, "ks.t", 1)?;
    world.broken_export(&["ks.t", "--to", &place])?;
    client.execute("DROP TABLE ks.t")?;
    client.execute(&create("ks.t", &second))?;
    insert(&mut client, "ks.t", 2)?;
    let exported = good(&world.backup(&export)?)?;
    assert_eq!(exported["is_resumed"], false, "{exported}");
    assert_eq!(exported["kms_key"], second.as_str(), "{exported}");
    good(&world.import(&exported, "ks.second")?)?;
    assert_eq!(keys_of(&mut client, "ks.second")?, BTreeSet::from(["2".to_owned()]));
    let left = text(&world.snapshot(&["list"])?);
    assert!(!left.contains("export of backup"), "the old one was given up: {left}");

    // the same table under another key
    world.broken_export(&["ks.t", "--to", &place])?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&first)))?;
    let exported = good(&world.backup(&export)?)?;
    assert_eq!(exported["is_resumed"], false, "{exported}");
    assert_eq!(exported["kms_key"], first.as_str(), "{exported}");

    // nothing changed: it goes on, named key or not, as of the first attempt
    world.broken_export(&["ks.t", "--to", &place])?;
    insert(&mut client, "ks.t", 3)?;
    let named = [export.as_slice(), &["--kms-key", &first]].concat();
    let exported = good(&world.backup(&named)?)?;
    assert_eq!(exported["is_resumed"], true, "{exported}");
    let as_of = exported["as_of"].as_str().ok_or("not said since when")?;
    let written = texts(&mut client, "SELECT writetime(v) FROM ks.t WHERE k = 3")?;
    let micros: i64 = written[0]["writetime(v)"].parse()?;
    let written = cql_types::time::format_timestamp(micros / 1000);
    assert!(as_of <= written.as_str(), "{as_of} is before {written}");
    good(&world.import(&exported, "ks.resumed")?)?;
    assert_eq!(keys_of(&mut client, "ks.resumed")?, BTreeSet::from(["2".to_owned()]));
    let left = text(&world.snapshot(&["list"])?);
    assert!(!left.contains("export of backup"), "{left}");

    // one with a key that was named is not given up for one without
    world.broken_export(&["ks.t", "--to", &place, "--kms-key", &second])?;
    let exported = good(&world.backup(&export)?)?;
    assert_eq!(exported["is_resumed"], false, "{exported}");
    let exported = good(&world.backup(&[export.as_slice(), &["--kms-key", &second]].concat())?)?;
    assert_eq!(exported["is_resumed"], true, "{exported}");

    // no grant of a backup is left: two of ks.t, ks.second and ks.resumed, and one of each table that
    // left its key
    world.wait_for_grants(&first, 2 + 2 + 1, "on the first")?;
    world.wait_for_grants(&second, 2 + 1, "on the second")
}

#[test]
fn a_snapshot_of_a_dropped_table_is_exported_when_its_grants_are_gone() -> Result<()> {
    let mut world = World::start(&[])?;
    let (key, other) = (world.server.kms(&["create-key"])?, world.server.kms(&["create-key"])?);
    let mut client = world.client()?;
    client.execute(&create("ks.t", &key))?;
    insert(&mut client, "ks.t", 1)?;
    let id = world.take("ks.t")?;
    client.execute("DROP TABLE ks.t")?;
    world.script.set_clock(43 * DAY)?;
    world.wait_for_grants(&key, 0, "on day 43")?;
    let place = world.place();
    let export = ["export", "--snapshot", &id, "--to", &place, "--kms-key", &other];
    let exported = good(&world.backup(&export)?)?;
    world.wait_for_grants(&key, 0, "after the export")?;
    good(&world.import(&exported, "ks.back")?)?;
    assert_eq!(keys_of(&mut client, "ks.back")?.len(), 1);

    // a grant whose answer was lost, and one that could not be given back
    for operation in ["CreateGrant", "RetireGrant"] {
        let fault = if operation == "CreateGrant" { "drop" } else { "throttle" };
        world.script.set_faults(&json!([{"operation": operation, "key": key, "fault": fault}]))?;
        refused(&world.backup(&export)?, &[&key]);
        world.wait_for_grants(&key, 1, operation)?;
        world.script.clear_faults()?;
        world.wait_for_grants(&key, 0, "when the KMS answers again")?;
    }
    world.wait_for_grants(&other, 2, "of the imported table")
}

#[test]
fn what_is_refused_copies_nothing() -> Result<()> {
    let world = World::start(&[])?;
    let (key, other) = (world.server.kms(&["create-key"])?, world.server.kms(&["create-key"])?);
    let (mut client, place) = (world.client()?, world.place());
    client.execute(&create("ks.t", &key))?;
    insert(&mut client, "ks.t", 1)?;
    client.execute(&format!(
        "CREATE KEYSPACE pol WITH replication = {{'class': 'SingleRegionStrategy'}} AND \
         CUSTOM_PROPERTIES = {{'encryption_policy': {{'allowed_kms_keys': '{other}'}}}}"
    ))?;
    let exported = good(&world.backup(&["export", "ks.t", "--to", &place])?)?;
    for (table, word) in [
        ("bad", "KEYSPACE.TABLE"),
        ("ks.t", "t"),
        ("nosuch.t", "nosuch"),
        ("pol.t", "allowed_kms_keys"),
    ] {
        refused(&world.import(&exported, table)?, &[word]);
        assert_eq!(world.imports()?, BTreeSet::new(), "{table}");
    }
    world.server.kms(&["disable-key", &key])?;
    for flags in [
        ["import", "--from", &place, "--as", "ks.u"].as_slice(),
        &["import", "--from", &place, "--as", "pol.t", "--kms-key", &other],
        &["verify", "--from", &place],
    ] {
        refused(&world.backup(flags)?, &[&key, "isabled"]);
        assert_eq!(world.imports()?, BTreeSet::new(), "{flags:?}");
    }
    world.server.kms(&["enable-key", &key])?;
    let place_without = world.folder.path().join("unmounted/backups");
    let place_without = place_without.to_string_lossy();
    refused(
        &world.backup(&["export", "ks.t", "--to", &place_without])?,
        &["there is no directory", "unmounted"],
    );

    Ok(())
}

#[test]
fn nothing_stays_in_the_directory_of_imports_and_no_data_directory_is_made() -> Result<()> {
    let mut world = World::start(&[])?;
    let key = world.server.kms(&["create-key"])?;
    let (mut client, place) = (world.client()?, world.place());
    client.execute(&create("ks.t", &key))?;
    let exported = good(&world.backup(&["export", "ks.t", "--to", &place])?)?;
    let id = exported["backup"].as_str().ok_or("no id")?;
    world.server.stop()?;
    let nowhere = world.folder.path().join("nowhere");
    for directory in [world.server.directory(), &nowhere] {
        let was_there = directory.exists();
        for flags in
            [["verify", "--from", &place].as_slice(), &["import", "--from", &place, "--as", "ks.u"]]
        {
            let mut command = Command::new(executable()?);
            command.arg("backup").args(flags).arg("--data-dir").arg(directory);
            refused(&command.output()?, &["no server runs"]);
        }
        assert_eq!(directory.exists(), was_there);
        assert!(!directory.join("import").exists());
    }

    // what an attempt to verify left goes at the next start, an import after some days
    let import = world.server.directory().join("import");
    let attempt = "0".repeat(32);
    for (id, files) in [(attempt.as_str(), ["key", "manifest"]), (id, ["key", "a.segment"])] {
        fs::create_dir_all(import.join(id))?;
        for file in files {
            fs::write(import.join(id).join(file), "cut")?;
        }
    }
    world.server.restart()?;
    assert_eq!(world.imports()?, BTreeSet::from([id.to_owned()]), "it can go on");
    world.server.stop()?;
    world.script.set_clock(8 * DAY)?;
    world.server.restart()?;
    assert_eq!(world.imports()?, BTreeSet::new(), "after a week");
    good(&world.import(&exported, "ks.u")?)?;
    let mut client = world.client()?;
    let events = texts(&mut client, "SELECT * FROM system_coffer.events")?;
    let restored = events.iter().find(|event| event["kind"] == "restored").ok_or("no event")?;
    assert!(restored["detail"].contains(id), "named as everywhere: {restored:?}");
    Ok(())
}

#[test]
fn a_damaged_backup_is_named_and_hides_no_other() -> Result<()> {
    let world = World::start(&[])?;
    let key = world.server.kms(&["create-key"])?;
    let (mut client, place) = (world.client()?, world.place());
    client.execute(&create("ks.t", &key))?;
    insert(&mut client, "ks.t", 1)?;
    let exported = good(&world.backup(&["export", "ks.t", "--to", &place])?)?;
    let id = exported["backup"].as_str().ok_or("no id")?;
    let damaged = "0".repeat(32);
    let folder = world.folder.path().join(&damaged);
    fs::create_dir(&folder)?;
    let whole = fs::read(world.folder.path().join(id).join("key"))?;
    fs::write(folder.join("key"), &whole[..100])?;
    fs::write(folder.join("manifest"), "x")?;
    for name in [&b"\xff"[..], b"a\x1bb"] {
        fs::write(world.folder.path().join(OsStr::from_bytes(name)), "")?;
    }
    let listed = world.backup(&["list", "--from", &place])?;
    assert_eq!(listed.status.code(), TAMPERED, "{}", text(&listed));
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let seen: Vec<_> = [&listed[0], &listed[1]].map(|row| &row["backup"]).into_iter().collect();
    assert_eq!(seen, [&json!(id), &json!(damaged)], "{listed}");
    assert!(listed[0]["damaged"].is_null() && listed[0]["is_complete"] == true, "{listed}");
    let told = listed[1]["damaged"].as_str().ok_or("no reason")?;
    assert!(told.contains(&damaged) && told.contains("cut"), "{told}");
    good(&world.backup(&["verify", "--from", &place])?)?;
    for flags in [
        ["verify", "--from", &place, "--backup", &damaged].as_slice(),
        &["import", "--from", &place, "--as", "ks.u", "--backup", &damaged],
    ] {
        let output = world.backup(flags)?;
        refused(&output, &[&damaged, "cut"]);
        assert_eq!(output.status.code(), TAMPERED, "{flags:?}");
    }
    fs::write(world.folder.path().join(id).join("manifest"), "x")?;
    let output = world.backup(&["verify", "--from", &place, "--backup", id])?;
    refused(&output, &[id, "manifest"]);
    assert_eq!(output.status.code(), TAMPERED);
    Ok(())
}

#[test]
fn a_backup_is_under_a_key_that_its_table_may_be_under() -> Result<()> {
    let arn = |name: &str| format!("arn:aws:kms:us-east-1:000000000000:key/{name}");
    let pattern = arn("allowed-*");
    let world = World::start(&["--allowed-kms-keys", &pattern])?;
    let names = ["allowed-1", "allowed-2", "other"].map(arn);
    for name in &names {
        world.server.kms(&["create-key", "--arn", name])?;
    }
    let [first, second, other] = &names;
    let (mut client, place) = (world.client()?, world.place());
    client.execute(&format!(
        "CREATE KEYSPACE pol WITH replication = {{'class': 'SingleRegionStrategy'}} AND \
         CUSTOM_PROPERTIES = {{'encryption_policy': {{'allowed_kms_keys': '{first}'}}}}"
    ))?;
    client.execute(&create("pol.t", first))?;
    insert(&mut client, "pol.t", 1)?;
    let id = world.take("pol.t")?;
    let export = |subject: &[&str], key: &str| {
        let flags = ["--to", &place, "--kms-key", key];
        world.backup(&[["export"].as_slice(), subject, &flags].concat())
    };
    let of_keyspace = "encryption_policy of keyspace pol";
    refused(&export(&["pol.t"], second)?, &["allowed_kms_keys", of_keyspace, second]);
    refused(&export(&["pol.t"], other)?, &["allowed_kms_keys", "configuration of the server"]);
    good(&export(&["pol.t"], first)?)?;
    let snapshot = ["--snapshot", &id];
    refused(&export(&snapshot, second)?, &["allowed_kms_keys", of_keyspace]);
    client.execute("DROP TABLE pol.t")?;
    client.execute("DROP KEYSPACE pol")?;
    refused(&export(&snapshot, other)?, &["allowed_kms_keys", "configuration of the server"]);
    good(&export(&snapshot, second)?)?;
    Ok(())
}

/// The files of a snapshot.
fn files_of(server: &Server, id: &str) -> Result<Vec<PathBuf>> {
    let directory = fs::read_dir(server.directory().join("snapshots").join(id))?;
    Ok(directory.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?)
}

fn change(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    let mut changed = bytes.clone();
    let middle = bytes.len() / 2;
    *changed.get_mut(middle).ok_or("empty")? ^= 1;
    fs::write(path, changed)?;
    Ok(bytes)
}

#[test]
fn verifying_a_snapshot_says_what_was_done() -> Result<()> {
    let mut world = World::start(&[])?;
    let key = world.server.kms(&["create-key"])?;
    let mut client = world.client()?;
    client.execute(&create("ks.t", &key))?;
    insert(&mut client, "ks.t", 1)?;
    let id = world.take("ks.t")?;
    let verify = ["verify", id.as_str()];
    let verified = world.snapshot(&verify)?;
    let told = text(&verified);
    assert!(told.contains("ks.t: 1 file as it was taken; opened"), "{told}");
    let row = good(&world.snapshot(&["verify", &id, "--json"])?)?;
    assert_eq!((&row[0]["opened"], &row[0]["not_opened_because"]), (&json!(true), &json!(null)));
    // the key leaves memory, and is asked for
    world.server.coffer(&["keys", "flush"])?;
    let told = text(&world.snapshot(&verify)?);
    assert!(told.contains("; opened"), "{told}");
    world.server.kms(&["disable-key", &key])?;
    world.server.coffer(&["keys", "flush"])?;
    let told = text(&world.snapshot(&verify)?);
    assert!(
        told.contains("as it was taken; SHA-256 only, because") && told.contains(&key),
        "{told}"
    );
    world.server.kms(&["enable-key", &key])?;

    let files = files_of(&world.server, &id)?;
    let bytes = change(&files[0])?;
    let changed = world.snapshot(&verify)?;
    assert_eq!(changed.status.code(), TAMPERED, "{}", text(&changed));
    let flags = ["snapshot", "create", "ks.t", "--name", "two\nlines"];
    refused(&world.server.coffer(&flags)?, &["control characters"]);
    world.server.stop()?;
    let changed = world.snapshot(&verify)?;
    assert_eq!(changed.status.code(), TAMPERED, "{}", text(&changed));
    fs::remove_file(&files[0])?;
    assert_eq!(world.snapshot(&verify)?.status.code(), TAMPERED, "it is missing");
    fs::write(&files[0], bytes)?;
    let told = text(&world.snapshot(&verify)?);
    assert!(told.contains("as it was taken; SHA-256 only, because no server runs"), "{told}");
    world.server.restart()?;
    let mut client = world.client()?;
    client.execute("DROP TABLE ks.t")?;
    let told = text(&world.snapshot(&verify)?);
    assert!(told.contains("SHA-256 only, because the table was dropped"), "{told}");

    // a certificate that cannot be written is in the audit log
    let mut command = Command::new(executable()?);
    command.args(["snapshot", "drop", &id, "--data-dir"]).arg(world.server.directory());
    let full = command.stdout(File::options().write(true).open("/dev/full")?).output()?;
    assert_eq!(full.status.code(), Some(1), "{}", text(&full));
    refused(&full, &["standard output", "coffer audit --json"]);
    let audit = text(&world.server.coffer(&["audit", "--json"])?);
    assert!(audit.contains(&id), "{audit}");
    Ok(())
}

#[test]
fn names_of_snapshots_are_short_and_printable_and_lists_ask_once() -> Result<()> {
    let world = World::start(&[])?;
    let mut client = world.client()?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {WITH_OWNED_KEY}"))?;
    let long = "x".repeat(256);
    refused(&world.snapshot(&["create", "ks.t", "--name", &long])?, &["255 bytes"]);
    refused(&world.snapshot(&["create", "ks.t", "--name", "a\u{1b}[2J"])?, &["control characters"]);
    let all = world.snapshot(&["create", "ks.t", "--name", &long[..255]])?;
    assert!(all.status.success(), "{}", text(&all));
    // the server itself, whoever asks
    let ask = |request: &str| -> Result<String> {
        let mut stream = UnixStream::connect(world.server.directory().join("admin.sock"))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(answer)
    };
    let create_as = |name: &str| {
        let create = json!({"operation": "create", "table": "ks.t", "name": name, "keep": null});
        format!("{}\n", json!({ "snapshot": create }))
    };
    assert!(ask(&create_as(&long))?.contains("255 bytes"));
    assert!(ask(&create_as("a\u{1b}"))?.contains("control characters"));
    // as much as the server reads, without an end
    let answer = ask(&create_as(&"x".repeat(100_000))[..65_536])?;
    assert!(answer.contains("longer than 65536 bytes"), "{answer}");
    for _ in 0..10 {
        assert!(world.snapshot(&["list"])?.status.success());
    }
    let log = world.server.log()?;
    assert!(!log.contains("admin request failed"), "{log}");
    let nowhere = world.folder.path().join("nope");
    let mut command = Command::new(executable()?);
    command.args(["snapshot", "list", "--data-dir"]).arg(&nowhere);
    refused(&command.output()?, &["there is no data directory", "nope"]);
    assert!(!nowhere.exists());
    Ok(())
}
