//! The life of a table's key as the audit log tells it: what was asked in which order and for which table,
//! what clients changed, never what they wrote; and a log that was changed says so.

use std::{fs, path::PathBuf};

use cql_tests::{
    Client, KeyScript, Result, Server, files::files_below, key_status::trail, poll::until, with_key,
};
use serde_json::{Value, json};

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
        // The end of the newest file is what a crash may leave: a cut there is not told from one.
        let is_newest = !successor(file);
        let ways = [("changed", changed), ("cut", cut)];
        for (how, bytes) in ways.into_iter().take(if is_newest { 1 } else { 2 }) {
            fs::write(file, bytes)?;
            assert_eq!(verify(&server)?, Some(4), "{} {how}", file.display());
        }
        fs::write(file, &content)?;
        assert_eq!(verify(&server)?, Some(0), "{} restored", file.display());
    }
    Ok(())
}

fn contains(content: &[u8], needle: &[u8]) -> bool {
    content.windows(needle.len()).any(|window| window == needle)
}
