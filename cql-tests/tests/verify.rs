//! `coffer verify` as an auditor sees it: beside a running server, on a stopped one and on a copy; with
//! keys, without them; with one byte changed in each kind of file; and the signature of its report.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cql_tests::{
    Boto, Client, Result, Server, ServerBuilder, WITH_OWNED_KEY, executable,
    files::{copy_tree, files_below, files_that_end, relative},
    free_address,
    poll::until,
    with_key,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const GOOD: i32 = 0;
const STRUCTURE_ONLY: i32 = 3;
const TAMPERED: i32 = 4;
const ROWS: i32 = 300;
const WITHIN: Duration = Duration::from_secs(60);

/// Exit code and output.
fn verify<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<(i32, String)> {
    let output = Command::new(executable()?).arg("verify").args(arguments).output()?;
    let (out, err) = (&output.stdout, &output.stderr);
    let text = format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    Ok((output.status.code().ok_or("it was killed")?, text))
}

fn verify_directory(directory: &Path) -> Result<(i32, String)> {
    verify(&[directory.as_os_str()])
}

fn report(directory: &Path) -> Result<Value> {
    let output =
        Command::new(executable()?).args(["verify", "--json", "-"]).arg(directory).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A server with rows in segments and in the log, under a KMS key and under its own, an older key, and
/// a snapshot. Stopped, so that the files stay as they are.
fn filled() -> Result<Server> {
    let arguments = ["--memtable-flush-bytes", "64KiB"];
    let server = ServerBuilder::default().arguments(&arguments).start()?;
    let (first, second) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    let (first, second) = (first.trim(), second.trim());
    let padding = "x".repeat(400);
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    for (table, key) in [("managed", with_key(first)), ("owned", WITH_OWNED_KEY.to_owned())] {
        client.execute(&format!("CREATE TABLE ks.{table} (k int PRIMARY KEY, v text) {key}"))?;
        for k in 0..ROWS {
            let insert = format!("INSERT INTO ks.{table} (k, v) VALUES ({k}, 'row {k} {padding}')");
            client.execute(&insert)?;
        }
    }
    until(WITHIN, "segments of both tables", || {
        let segments = files_that_end(&server.directory().join("tables"), ".segment")?;
        let tables: BTreeSet<_> = segments.iter().filter_map(|path| path.parent()).collect();
        Ok(if tables.len() == 2 { Ok(()) } else { Err(format!("{segments:?}")) })
    })?;
    client.execute(&format!("ALTER TABLE ks.managed {}", with_key(second)))?;
    client.execute("INSERT INTO ks.managed (k, v) VALUES (-1, 'in the log')")?;
    let output = server.coffer(&["snapshot", "create", "ks.managed", "--name", "kept"])?;
    assert!(output.status.success(), "{output:?}");
    Ok(server)
}

/// Every file below a directory, by its path from there.
fn files(directory: &Path) -> Result<Vec<String>> {
    let found = files_below(directory)?;
    Ok(found.iter().map(|path| relative(directory, path)).collect())
}

#[test]
fn all_is_good_beside_a_running_server_on_a_stopped_one_and_on_a_copy() -> Result<()> {
    let mut server = filled()?;
    let (code, text) = verify_directory(server.directory())?;
    assert_eq!(code, GOOD, "{text}");
    server.stop()?;
    let (code, text) = verify_directory(server.directory())?;
    assert_eq!(code, GOOD, "{text}");
    let before = files(server.directory())?;
    let folder = TempDir::new()?;
    let away = folder.path().join("copy");
    copy_tree(server.directory(), &away)?;
    let (code, text) = verify_directory(&away)?;
    assert_eq!(code, GOOD, "{text}");
    assert_eq!(files(server.directory())?, before, "it changes nothing");
    assert_eq!(files(&away)?, before, "nor in the audit log of the KMS");

    let report = &report(&away)?["report"];
    assert_eq!(report["result"], "good");
    let tables = report["tables"].as_array().ok_or("no tables")?;
    assert_eq!(tables.len(), 2);
    for table in tables {
        assert_eq!(table["files"], table["files_verified"], "{table}");
        assert!(table["key_not_at_hand"].is_null(), "{table}");
        let is_managed = table["table"] == "managed";
        assert_eq!(table["kms_key_arn"].is_string(), is_managed, "{table}");
        assert_eq!(
            table["older_table_keys"].as_array().map(Vec::len),
            Some(usize::from(is_managed))
        );
    }
    let kinds: BTreeSet<&str> = report["files"]
        .as_array()
        .ok_or("no files")?
        .iter()
        .filter_map(|file| file["kind"].as_str())
        .collect();
    for kind in ["segment", "log tail", "commit log", "catalog", "store of the embedded KMS"] {
        assert!(kinds.contains(kind), "{kind} is missing in {kinds:?}");
    }
    Ok(())
}

#[test]
fn one_changed_byte_in_any_file_is_found_and_the_file_named() -> Result<()> {
    let mut server = filled()?;
    server.stop()?;
    let mut kinds = BTreeSet::new();
    for file in files(server.directory())? {
        let is_sealed = [".segment", ".tail", ".log", ".catalog", ".keys", ".journal", ".audit"]
            .iter()
            .any(|ending| file.ends_with(ending));
        if !is_sealed || file.starts_with("LOCK") {
            continue;
        }
        let path = server.directory().join(&file);
        let bytes = fs::read(&path)?;
        // the first frame of a log; a place in the middle of anything else
        let place = if file.ends_with(".log") { 600 } else { bytes.len() / 2 };
        if file.ends_with(".log") && bytes[512..1024].iter().all(|byte| *byte == 0) {
            continue;
        }
        kinds.insert(Path::new(&file).extension().map(|ending| ending.to_owned()));
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        fs::write(&path, &changed)?;
        let (code, text) = verify_directory(server.directory())?;
        // without its catalog nothing else can be judged; the file itself is what is named
        assert_eq!(code, TAMPERED, "{file}: {text}");
        let named = text
            .lines()
            .any(|line| line.to_uppercase().starts_with("TAMPERED") && line.contains(&file));
        assert!(named, "{file}: {text}");
        fs::write(&path, &bytes)?;
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert_eq!(verify_directory(server.directory())?.0, GOOD, "all of it is as it was");
    Ok(())
}

#[test]
fn missing_and_foreign_files_are_named() -> Result<()> {
    let mut server = filled()?;
    server.stop()?;
    let directory = server.directory();
    let plain = directory.join("tables").join("export.csv");
    fs::write(&plain, "1,row 1\n")?;
    let (code, text) = verify_directory(directory)?;
    assert_eq!(code, TAMPERED, "{text}");
    assert!(text.contains("FOREIGN tables/export.csv"), "{text}");
    fs::remove_file(&plain)?;
    for ending in [".segment", ".tail", ".log"] {
        let file = files(directory)?.into_iter().find(|file| file.ends_with(ending));
        let file = file.ok_or("no such file")?;
        let (path, kept) = (directory.join(&file), fs::read(directory.join(&file))?);
        fs::remove_file(&path)?;
        let (code, text) = verify_directory(directory)?;
        assert_eq!(code, TAMPERED, "{text}");
        let is_named = |line: &str| line.contains(&file) && line.to_lowercase().contains("missing");
        assert!(text.lines().any(is_named), "{file}: {text}");
        fs::write(&path, kept)?;
    }
    // plaintext under a name that fits is no segment
    let segments: Vec<String> =
        files(directory)?.into_iter().filter(|file| file.ends_with(".segment")).collect();
    let folder = Path::new(&segments[0]).parent().ok_or("no folder")?;
    let disguised = folder.join(format!("{}.segment", "0".repeat(32)));
    fs::write(directory.join(&disguised), "1,row 1\n")?;
    let (code, text) = verify_directory(directory)?;
    assert_eq!(code, TAMPERED, "{text}");
    assert!(text.contains(&format!("TAMPERED {}", disguised.display())), "{text}");
    Ok(())
}

#[test]
fn without_keys_the_structure_is_told_and_that_it_is_no_proof() -> Result<()> {
    let mut server = filled()?;
    server.stop()?;
    let folder = TempDir::new()?;
    let directory = server.directory();
    let kms_key = folder.path().join("kms.key");
    fs::copy(directory.join("kms/root.key"), &kms_key)?;
    fs::remove_file(directory.join("kms/root.key"))?;
    let (code, text) = verify_directory(directory)?;
    assert_eq!(code, STRUCTURE_ONLY, "{text}");
    assert!(text.contains("kms/root.key"), "{text}");
    let given =
        [Path::new("--kms-root-key-file"), kms_key.as_path(), directory].map(Path::as_os_str);
    let (code, text) = verify(&given)?;
    assert_eq!(code, GOOD, "{text}");

    let key = folder.path().join("service.key");
    fs::copy(directory.join("root.key"), &key)?;
    fs::remove_file(directory.join("root.key"))?;
    let (code, text) = verify_directory(directory)?;
    assert_eq!(code, STRUCTURE_ONLY, "{text}");
    assert!(text.contains("unsigned"), "{text}");
    let unsigned = report(directory)?;
    assert!(unsigned["signature"].is_null() && unsigned["report"]["result"] == "structure_only");
    let segment = unsigned["report"]["files"]
        .as_array()
        .and_then(|files| files.iter().find(|file| file["kind"] == "segment"))
        .ok_or("no segment")?;
    assert!(segment["table_keys"][0].is_string() && segment["sha256"].is_string(), "{segment}");
    Ok(())
}

#[test]
fn another_files_link_and_a_name_that_is_no_text_are_found() -> Result<()> {
    let mut server = filled()?;
    server.stop()?;
    let directory = server.directory();
    let segments = files_that_end(&directory.join("tables"), ".segment")?;
    let two = segments.iter().enumerate().find_map(|(place, first)| {
        let others = segments.iter().skip(place + 1);
        let second = others.into_iter().find(|second| second.parent() == first.parent())?;
        Some((first.clone(), second.clone()))
    });
    let (first, second) = two.ok_or("a table has one segment only")?;
    let kept = fs::read(&second)?;
    fs::remove_file(&second)?;
    fs::hard_link(&first, &second)?;
    let (code, text) = verify_directory(directory)?;
    assert_eq!(code, TAMPERED, "{text}");
    assert!(text.contains(&format!("TAMPERED {}", relative(directory, &second))), "{text}");
    fs::remove_file(&second)?;
    fs::write(&second, kept)?;
    assert_eq!(verify_directory(directory)?.0, GOOD);

    let hidden = directory.join("tables").join(std::ffi::OsStr::from_bytes(b"rows\xff\n.csv"));
    fs::write(&hidden, "1,row 1\n")?;
    let (code, text) = verify_directory(directory)?;
    assert_eq!(code, TAMPERED, "{text}");
    assert!(text.contains("FOREIGN tables/rows\\xff\\n.csv"), "{text}");
    Ok(())
}

/// Writes a report and gives its path.
fn written(folder: &Path, name: &str, report: &Value) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, serde_json::to_vec(report)?)?;
    Ok(path)
}

#[test]
fn a_signed_report_is_the_installations_own_and_breaks_when_it_is_edited() -> Result<()> {
    let mut server = filled()?;
    server.stop()?;
    let folder = TempDir::new()?;
    let path = folder.path().join("report.json");
    let flags = [Path::new("--json"), path.as_path(), server.directory()].map(Path::as_os_str);
    let (code, text) = verify(&flags)?;
    assert_eq!(code, GOOD, "{text}");
    let signed: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let public_key = signed["signature"]["public_key"].as_str().ok_or("no key")?.to_owned();
    assert!(text.contains(&public_key), "{text}");
    let check = |path: &Path, public_key: &str| {
        let path = path.to_string_lossy().into_owned();
        verify(&["--check", path.as_str(), "--public-key", public_key])
    };
    let (code, text) = check(&path, &public_key)?;
    assert_eq!(code, GOOD, "{text}");
    let again = report(server.directory())?;
    assert_eq!(again["signature"]["public_key"], public_key.as_str(), "the same key each time");

    // formatting is not what is signed
    let (code, text) = check(&written(folder.path(), "compact", &signed)?, &public_key)?;
    assert_eq!(code, GOOD, "{text}");
    let mut edited = signed.clone();
    edited["report"]["files"][0]["bytes"] = Value::from(1);
    let (code, text) = check(&written(folder.path(), "edited", &edited)?, &public_key)?;
    assert_eq!(code, TAMPERED, "{text}");
    let mut moved = signed;
    moved["signature"]["signature"] = again["signature"]["signature"].clone();
    let (code, text) = check(&written(folder.path(), "moved", &moved)?, &public_key)?;
    assert_eq!(code, TAMPERED, "{text}");
    let (code, text) = check(&path, &"0".repeat(64))?;
    assert_eq!(code, TAMPERED, "another key: {text}");

    // a report of damage is signed too, and says so
    let foreign = server.directory().join("rows.csv");
    fs::write(&foreign, "1,row 1\n")?;
    let bad = report(server.directory())?;
    let (code, text) = check(&written(folder.path(), "bad", &bad)?, &public_key)?;
    assert_eq!(code, TAMPERED, "{text}");
    fs::remove_file(&foreign)?;
    let mut unsigned = again;
    unsigned["signature"] = Value::Null;
    let (code, text) = check(&written(folder.path(), "unsigned", &unsigned)?, &public_key)?;
    assert_eq!(code, TAMPERED, "{text}");

    let seed = folder.path().join("seed");
    fs::write(&seed, format!("{}\n", "7".repeat(64)))?;
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o644))?;
    let with_seed = [Path::new("--signing-key"), seed.as_path(), server.directory()];
    let (code, text) = verify(&with_seed.map(Path::as_os_str))?;
    assert!(code == 1 && text.contains("chmod 600"), "{text}");
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o600))?;
    let (json, signing_key) = (Path::new("--json"), Path::new("--signing-key"));
    let flags = [json, path.as_path(), signing_key, seed.as_path(), server.directory()];
    let (code, _) = verify(&flags.map(Path::as_os_str))?;
    assert_eq!(code, GOOD);
    let other: Value = serde_json::from_slice(&fs::read(&path)?)?;
    assert_ne!(other["signature"]["public_key"], public_key.as_str());
    Ok(())
}

/// Leaves no file in a directory.
fn empty(folder: &Path) -> Result<()> {
    for file in files_below(folder)? {
        fs::remove_file(file)?;
    }
    Ok(())
}

#[test]
fn an_audit_log_that_is_gone_or_cut_is_no_good_one() -> Result<()> {
    let mut server = filled()?;
    server.stop()?;
    let directory = server.directory().to_owned();
    let folder = TempDir::new()?;
    let kept = folder.path().join("kept");
    copy_tree(&directory, &kept)?;
    let logs = report(&directory)?["report"]["audit_logs"].clone();
    for log in logs.as_array().ok_or("no logs")? {
        assert_eq!(log["last_record"], log["last_in_catalog"], "{log}");
        assert!(log["records"].as_u64() > Some(2) && log["first_file"] == 1, "{log}");
    }
    for (log, away) in
        [("audit", true), ("audit", false), ("kms/audit", true), ("kms/audit", false)]
    {
        if away {
            fs::remove_dir_all(directory.join(log))?;
        } else {
            empty(&directory.join(log))?;
        }
        let (code, text) = verify_directory(&directory)?;
        assert_eq!(code, TAMPERED, "{log} away={away}: {text}");
        assert!(text.contains(&format!("{log}/0000000001.audit: records are missing")), "{text}");
        let told = server.coffer(&["audit", "--verify"])?;
        assert_eq!(told.status.code(), Some(TAMPERED), "{told:?}");
        copy_tree(&kept.join(log), &directory.join(log))?;
        assert_eq!(verify_directory(&directory)?.0, GOOD, "{log} is back");

        let newest = files_that_end(&directory.join(log), ".audit")?;
        let newest = newest.iter().max().ok_or("no file")?;
        let bytes = fs::read(newest)?;
        fs::write(newest, &bytes[..bytes.len() / 2])?;
        let (code, text) = verify_directory(&directory)?;
        assert_eq!(code, TAMPERED, "{log} cut: {text}");
        fs::write(newest, bytes)?;
    }
    // a start does not make good what is gone
    fs::remove_dir_all(directory.join("audit"))?;
    server.restart()?;
    server.stop()?;
    let (code, text) = verify_directory(&directory)?;
    assert_eq!(code, TAMPERED, "{text}");
    assert!(text.contains("records before it were missing when the log was opened"), "{text}");
    Ok(())
}

#[test]
fn a_server_that_is_killed_leaves_audit_logs_that_are_whole() -> Result<()> {
    let mut server = ServerBuilder::default().start()?;
    for round in 0..3 {
        let mut client = Client::connect(server.address())?;
        let key = server.kms(&["create-key"])?;
        client.execute(&format!(
            "CREATE KEYSPACE k{round} WITH replication = {{'class': 'SingleRegionStrategy'}}"
        ))?;
        client.execute(&format!(
            "CREATE TABLE k{round}.t (k int PRIMARY KEY, v text) {}",
            with_key(key.trim())
        ))?;
        server.kill()?;
        let (code, text) = verify_directory(server.directory())?;
        assert_ne!(code, TAMPERED, "{text}");
        server.restart()?;
    }
    server.stop()?;
    let (code, text) = verify_directory(server.directory())?;
    assert_eq!(code, GOOD, "{text}");
    Ok(())
}

#[test]
fn what_is_kept_of_a_dropped_table_is_verified_as_long_as_its_key_is_enabled() -> Result<()> {
    let address = free_address()?.to_string();
    let mut server = ServerBuilder::default().arguments(&["--kms-listen", &address]).start()?;
    let key = server.kms(&["create-key"])?.trim().to_owned();
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&key)))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'kept')")?;
    assert!(server.coffer(&["snapshot", "create", "ks.t"])?.status.success());
    client.execute("DROP TABLE ks.t")?;
    let credentials = server.directory().join("kms/credentials");
    let mut boto =
        Boto::start(&format!("http://{address}"), "us-east-1", &credentials, "default", None)?;
    until(WITHIN, "the data grant is retired", || {
        let grants = boto.grants(&key)?;
        Ok(if grants.len() == 1 { Ok(()) } else { Err(format!("{grants:?}")) })
    })?;
    let verified = |server: &Server| -> Result<()> {
        let (code, text) = verify_directory(server.directory())?;
        assert_eq!(code, GOOD, "{text}");
        assert!(text.contains("table ks.t (dropped)"), "{text}");
        Ok(())
    };
    verified(&server)?;
    for grant in boto.grants(&key)? {
        boto.call("RevokeGrant", json!({"KeyId": key, "GrantId": grant["GrantId"]}))?;
    }
    verified(&server)?;
    server.kms(&["disable-key", &key])?;
    server.stop()?;
    let (code, text) = verify_directory(server.directory())?;
    assert_eq!(code, STRUCTURE_ONLY, "{text}");
    assert!(text.contains("disabled"), "{text}");
    Ok(())
}

#[test]
fn what_cannot_be_listed_told_or_compared_is_not_said_to_be_good() -> Result<()> {
    let mut server = ServerBuilder::default().start()?;
    server.stop()?;
    let directory = server.directory();
    // so deep that no path leads there
    let deeper =
        "d=$(printf %0200d 0); for _ in $(seq 25); do mkdir $d && cd -P $d || exit 1; done";
    let made = Command::new("bash").args(["-c", deeper]).current_dir(directory).status()?;
    assert!(made.success());
    let (code, text) = verify_directory(directory)?;
    assert_eq!(code, STRUCTURE_ONLY, "{text}");
    assert!(text.contains("UNREADABLE 0000") && text.contains("result: structure only"), "{text}");

    let path = directory.to_string_lossy().into_owned();
    for arguments in [vec!["--json", "-", &*path], vec![&*path]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
        let output =
            Command::new(executable()?).arg("verify").args(arguments).stdout(full).output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("write the report"), "{told}");
    }
    let file = TempDir::new()?;
    let signed = written(file.path(), "report.json", &report(directory)?)?;
    let signed = signed.to_string_lossy().into_owned();
    for key in ["zz", "00"] {
        let (code, text) = verify(&["--check", &signed, "--public-key", key])?;
        assert!(code == 1 && text.contains("is no public key"), "{code}: {text}");
    }
    Ok(())
}
