//! No file holds a byte of plaintext: random markers go in wherever a client can put them, and no file in
//! the data directory, nor the server's log, holds one. The same scan finds all of them when a test-only
//! build of the real writer leaves the sealing out.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{collections::BTreeSet, fs, path::Path};

use cql_protocol::ReceivedBody;
use cql_tests::{Client, Result, Server, ServerBuilder, build, files::files_below};

/// Markers of each kind; ten kinds make 1,000.
const MARKERS_OF_A_KIND: usize = 100;
const KINDS: [&str; 10] = [
    "partition",
    "clustering",
    "static",
    "cell",
    "list",
    "set",
    "map",
    "column",
    "comment",
    "failed",
];

/// A marker is 24 letters that name nothing; its first letters are the same everywhere, so that one scan
/// for the prefix cannot miss a marker that was cut.
fn markers(kind: usize) -> Vec<String> {
    let mut bytes = vec![0_u8; MARKERS_OF_A_KIND * 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the system has randomness");
    bytes
        .chunks(16)
        .map(|chunk| {
            let letters: String = chunk.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
            format!("q{}{letters}", char::from(b'a' + u8::try_from(kind).expect("ten kinds")))
        })
        .collect()
}

/// Puts every marker where its kind belongs, in memtables, segments and logs.
fn fill(server: &Server, all: &[Vec<String>]) -> Result<()> {
    let [partition, clustering, statics, cells, lists, sets, maps, columns, comments, failed] = all
    else {
        return Err("ten kinds".into());
    };
    let key = server.kms(&["create-key"])?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")?;
    client.execute(&format!(
        "CREATE TABLE ks.t (p text, c text, s text STATIC, v text, l list<text>, e set<text>, m map<text, text>, \
         PRIMARY KEY (p, c)) WITH CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
         'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{key}'}}}}"
    ))?;
    for i in 0..MARKERS_OF_A_KIND {
        client.execute(&format!(
            "INSERT INTO ks.t (p, c, s, v, l, e, m) VALUES ('{}', '{}', '{}', '{}', ['{}'], {{'{}'}}, {{'{}': 'x'}})",
            partition[i], clustering[i], statics[i], cells[i], lists[i], sets[i], maps[i]
        ))?;
        client.execute(&format!(
            "CREATE TABLE ks.n{i} (k int PRIMARY KEY, {} int) WITH comment = '{}'",
            columns[i], comments[i]
        ))?;
        let answer = client
            .query(&format!("INSERT INTO ks.t (p, c, nope) VALUES ('{}', 'x', 1)", failed[i]))?;
        assert!(
            matches!(answer, ReceivedBody::Error(_)),
            "a failed statement was wanted, not {answer:?}"
        );
        if i == MARKERS_OF_A_KIND / 2 {
            // A restart makes the first half go through replay; deletions put tombstones with keys.
            client.execute(&format!(
                "DELETE FROM ks.t WHERE p = '{}' AND c > '{}'",
                partition[0], clustering[0]
            ))?;
        }
    }
    Ok(())
}

/// The markers that some file below `directory` (or its log) holds.
fn found(directory: &Path, all: &[Vec<String>]) -> Result<BTreeSet<String>> {
    let mut files = files_below(directory)?;
    files.push(directory.with_extension("log"));
    let wanted: BTreeSet<&[u8]> = all.iter().flatten().map(|marker| marker.as_bytes()).collect();
    let mut found = BTreeSet::new();
    for file in files {
        let content = fs::read(&file)?;
        for window in content.windows(18).filter(|window| window[0] == b'q') {
            if wanted.contains(window) {
                found.insert(String::from_utf8(window.to_vec())?);
            }
        }
    }
    Ok(found)
}

fn scan(mut server: Server) -> Result<(usize, BTreeSet<String>)> {
    let all: Vec<Vec<String>> = (0..KINDS.len()).map(markers).collect();
    fill(&server, &all)?;
    let mut seen = found(server.directory(), &all)?;
    server.kill()?;
    seen.extend(found(server.directory(), &all)?);
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(
        client.rows("SELECT p FROM ks.t")?.rows.len(),
        MARKERS_OF_A_KIND,
        "rows after the restart"
    );
    server.stop()?;
    seen.extend(found(server.directory(), &all)?);
    Ok((all.iter().map(Vec::len).sum(), seen))
}

#[test]
fn no_file_holds_a_marker() -> Result<()> {
    let (count, seen) = scan(Server::start()?)?;
    assert_eq!(count, 1000);
    assert_eq!(seen, BTreeSet::new(), "plaintext in a file");
    Ok(())
}

#[test]
fn the_scan_finds_every_stored_marker_when_sealing_is_left_out() -> Result<()> {
    let program = build(&["test-plaintext"])?;
    let (count, seen) = scan(
        ServerBuilder::default()
            .program(&program)
            .environment("COFFER_TEST_PLAINTEXT", "1")
            .start()?,
    )?;
    // Failed statements are stored nowhere, sealed or not.
    let failed = char::from(b'a' + 9);
    assert_eq!(seen.iter().filter(|marker| marker.chars().nth(1) == Some(failed)).count(), 0);
    assert_eq!(seen.len(), count - MARKERS_OF_A_KIND, "the scan misses what is there");
    Ok(())
}
