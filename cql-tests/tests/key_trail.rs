//! The life of a table's key as the audit log tells it: what was asked in which order and for which table,
//! what clients changed, never what they wrote; and a log that was changed says so.

use std::{fs, path::PathBuf};

use cql_tests::{
    Client, KeyScript, Result, Server,
    files::files_below,
    key_loss::{KeyClock, keyspace_with_other, moment},
    key_status::trail,
    poll::until,
    with_key,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SOON: std::time::Duration = std::time::Duration::from_secs(30);
const ACCOUNT: &str = "111122223333";
const CANARY: &str = "qzcanaryliteralqz";

fn names(records: &[Value]) -> Vec<String> {
    records.iter().filter_map(|record| record["eventName"].as_str()).map(str::to_owned).collect()
}

/// A table's whole life under a key; the records of it.
fn live(server: &mut Server, key: &str) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(key)))?;
    client.execute(&format!("INSERT INTO ks.t (k, v) VALUES (1, '{CANARY}')"))?;
    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    client.rows(&format!("SELECT v FROM ks.t WHERE k = 1 AND v = '{CANARY}' ALLOW FILTERING"))?;
    client.execute("ALTER TABLE ks.t ADD w int")?;
    client.execute("DROP TABLE ks.t")?;
    until(SOON, "RetireGrant is in the log", || {
        let seen = names(&trail(server, &["--key", key])?);
        Ok(if seen.iter().any(|name| name == "RetireGrant") {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        })
    })
}

#[test]
fn a_tables_life_is_told_in_order_with_its_context_and_without_its_values() -> Result<()> {
    let mut server = KeyScript::new()?.server().arguments(&["--account", ACCOUNT]).start()?;
    let key = server.kms(&["create-key"])?;
    live(&mut server, &key)?;

    let of_key = trail(&server, &["--key", &key])?;
    let order = [
        "CreateKey",
        "DescribeKey",
        "CreateGrant",
        "CreateGrant",
        "GenerateDataKey",
        "Decrypt",
        // DROP asks whether the key is there: without it a snapshot is kept
        "Decrypt",
        "RetireGrant",
    ];
    assert_eq!(names(&of_key), order, "{of_key:#?}");
    let context = json!({
        "aws:cassandra:keyspaceName": "ks",
        "aws:cassandra:tableName": "t",
        "aws:cassandra:subscriberId": ACCOUNT,
    });
    for record in &of_key {
        let name = record["eventName"].as_str().unwrap_or_default();
        let parameters = &record["requestParameters"];
        match name {
            "GenerateDataKey" | "Decrypt" => assert_eq!(parameters["encryptionContext"], context),
            "CreateGrant" => {
                assert_eq!(parameters["constraints"]["encryptionContextSubset"], context);
            }
            "RetireGrant" => assert!(record["additionalEventData"]["grantId"].is_string()),
            _ => {}
        }
        let is_dry_run = record["errorCode"] == json!("DryRunOperationException");
        assert!(record["errorCode"].is_null() || is_dry_run, "{record:#}");
        assert_eq!(record["eventSource"], json!("kms.amazonaws.com"));
        assert!(record["responseElements"]["plaintext"].is_null());
    }
    // One filter at a time, and the statements of clients.
    let decrypts = names(&trail(&server, &["--event", "Decrypt", "--key", &key])?);
    assert_eq!(decrypts, ["Decrypt"; 2]);
    assert_eq!(
        trail(&server, &["--event", "Decrypt", "--until", "2020-01-01T00:00:00Z"])?.len(),
        0
    );
    let of_table = names(&trail(&server, &["--table", "ks.t"])?);
    for event in ["CreateTable", "AlterTable", "DropTable", "GenerateDataKey", "Decrypt"] {
        assert!(of_table.iter().any(|name| name == event), "no {event} in {of_table:?}");
    }
    let all = trail(&server, &[])?;
    assert!(names(&all).iter().any(|name| name == "CreateKeyspace"));
    let changes =
        all.iter().filter(|record| record["eventSource"] == json!("cassandra.amazonaws.com"));
    assert!(changes.count() >= 4);
    let text = serde_json::to_string(&all)?;
    assert!(!text.contains(CANARY), "a literal is in the log");
    Ok(())
}

/// Files of the audit log, wherever below the data directory they lie.
fn log_files(server: &Server) -> Result<Vec<PathBuf>> {
    let mut found = files_below(server.directory())?;
    found.retain(|path| path.to_string_lossy().contains("audit"));
    Ok(found)
}

#[test]
fn a_log_that_was_changed_or_cut_says_so() -> Result<()> {
    let mut server = KeyScript::new()?.server().start()?;
    let key = server.kms(&["create-key"])?;
    live(&mut server, &key)?;
    server.stop()?;
    let verify = |server: &Server| -> Result<Option<i32>> {
        Ok(server.coffer(&["audit", "--verify"])?.status.code())
    };
    assert_eq!(verify(&server)?, Some(0));
    let files = log_files(&server)?;
    let successor =
        |file: &PathBuf| files.iter().any(|other| other.parent() == file.parent() && other > file);
    assert!(files.iter().any(successor), "no log of two starts: {files:?}");
    for file in &files {
        let content = fs::read(file)?;
        assert!(!contains(&content, b"GenerateDataKey"), "{} is in the clear", file.display());
        let Some(middle) = content.len().checked_div(2).filter(|middle| *middle > 0) else {
            continue;
        };
        let mut changed = content.clone();
        if let Some(byte) = changed.get_mut(middle) {
            *byte ^= 1;
        }
        let cut = content.get(..middle).unwrap_or_default().to_vec();
        // The newest file too: the catalog knows how far it went when the server stopped.
        for (how, bytes) in [("changed", changed), ("cut", cut)] {
            fs::write(file, bytes)?;
            assert_eq!(verify(&server)?, Some(4), "{} {how}", file.display());
        }
        fs::remove_file(file)?;
        let is_oldest = !files.iter().any(|other| other.parent() == file.parent() && other < file);
        let wanted = if is_oldest && successor(file) { 0 } else { 4 };
        assert_eq!(verify(&server)?, Some(wanted), "{} removed", file.display());
        fs::write(file, &content)?;
        assert_eq!(verify(&server)?, Some(0), "{} restored", file.display());
    }
    Ok(())
}

/// The one record of this event of a table.
fn only(server: &Server, event: &str, table: &str) -> Result<Value> {
    let records = trail(server, &["--event", event, "--table", table])?;
    match records.as_slice() {
        [record] => Ok(record.clone()),
        _ => Err(format!("{event} of {table}: {records:#?}").into()),
    }
}

#[test]
fn what_operators_do_with_copies_of_a_table_is_told() -> Result<()> {
    let server = KeyScript::new()?.server().start()?;
    let key = server.kms(&["create-key"])?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&key)))?;
    client.execute(&format!("INSERT INTO ks.t (k, v) VALUES (1, '{CANARY}')"))?;
    let folder = TempDir::new()?;
    let place = folder.path().to_string_lossy().into_owned();
    let run =
        |arguments: &[&str]| -> Result<bool> { Ok(server.coffer(arguments)?.status.success()) };
    assert!(run(&["snapshot", "create", "ks.t", "--name", "before"])?);
    let taken = only(&server, "CreateSnapshot", "ks.t")?;
    let parameters = &taken["requestParameters"];
    assert_eq!(parameters["snapshotName"], "before");
    assert_eq!(parameters["snapshotId"].as_str().map(str::len), Some(32));
    assert_eq!(taken["resources"][1]["ARN"], json!(key));
    assert!(!run(&["snapshot", "create", "ks.away"])?);
    let refused = only(&server, "CreateSnapshot", "ks.away")?;
    assert!(refused["errorMessage"].is_string(), "{refused:#}");

    assert!(run(&["backup", "export", "ks.t", "--to", &place])?);
    let exported = only(&server, "ExportBackup", "ks.t")?;
    let parameters = &exported["requestParameters"];
    assert!(parameters["place"].as_str().is_some_and(|told| told.contains(&place)), "{exported:#}");
    assert_eq!(parameters["kmsKeyId"], json!(key));
    assert!(run(&["backup", "import", "--from", &place, "--as", "ks.copy"])?);
    let imported = only(&server, "ImportBackup", "ks.copy")?;
    assert_eq!(imported["requestParameters"]["backupId"], parameters["backupId"]);
    assert_eq!(imported["resources"][1]["ARN"], json!(key));
    assert!(!run(&["backup", "import", "--from", &place, "--as", "ks.copy"])?);
    let imports = trail(&server, &["--event", "ImportBackup", "--table", "ks.copy"])?;
    assert!(imports.iter().any(|record| record["errorMessage"].is_string()), "{imports:#?}");
    assert!(!serde_json::to_string(&trail(&server, &[])?)?.contains(CANARY));
    Ok(())
}

#[test]
fn the_drop_of_a_table_whose_key_is_lost_is_told() -> Result<()> {
    let mut clock = KeyClock::new()?;
    let server = clock.script.server().start()?;
    let key = server.kms(&["create-key"])?;
    let mut client = keyspace_with_other(&server)?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&key)))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'kept')")?;
    server.kms(&["disable-key", &key])?;
    clock.wait_for_event(&mut client, "t", "key_lost", 1)?;
    let deadline = moment(&mut client, "t", "deadline")?.ok_or("no deadline")?;
    clock.set_millis(deadline + 5_000)?;
    clock.wait_until_dropped(&mut client, "t")?;
    let dropped = until(SOON, "the drop is in the log", || {
        let dropped = trail(&server, &["--event", "DropTable", "--table", "ks.t"])?;
        Ok(dropped.into_iter().next().ok_or_else(|| "no record".to_owned()))
    })?;
    let parameters = &dropped["requestParameters"];
    assert_eq!(parameters["cause"], "key_loss");
    assert_eq!(parameters["incident"].as_str().map(str::len), Some(36));
    assert_eq!(parameters["snapshotId"].as_str().map(str::len), Some(32));
    assert_eq!(dropped["resources"][1]["ARN"], json!(key));
    assert_eq!(dropped["userIdentity"]["invokedBy"], "coffer.internal");
    Ok(())
}

fn contains(content: &[u8], needle: &[u8]) -> bool {
    content.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_logs_are_shown_beside_a_catalog_that_cannot_be_read() -> Result<()> {
    let mut server = KeyScript::new()?.server().start()?;
    let key = server.kms(&["create-key"])?;
    live(&mut server, &key)?;
    server.stop()?;
    for file in files_below(&server.directory().join("catalog"))? {
        fs::write(file, b"no catalog")?;
    }
    let output = server.coffer(&["audit", "--verify"])?;
    let (told, error) =
        (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(told.contains("CreateTable") && told.contains("DropTable"), "{told}");
    assert!(error.contains("catalog cannot be read"), "{error}");
    Ok(())
}
