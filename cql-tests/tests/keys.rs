//! Customer-managed keys as a client sees them: chosen at CREATE, changed by ALTER, taken away and given
//! back. The cache bound of 300 s passes by the test clock.
#![expect(
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{fs, path::PathBuf};

use cql_protocol::ReceivedBody;
use cql_tests::{Client, Result, Server, ServerBuilder};
use cql_types::to_literal;
use tempfile::TempDir;

const INVALID: i32 = 0x2200;

/// A server whose key ages follow a file.
struct Clocked {
    server: Server,
    clock: PathBuf,
    _directory: TempDir,
}

impl Clocked {
    fn start() -> Result<Self> {
        let directory = TempDir::new()?;
        let clock = directory.path().join("clock");
        let server = ServerBuilder::default()
            .environment("COFFER_ALLOW_TEST_CLOCK", "1")
            .arguments(&["--test-clock", clock.to_str().ok_or("path")?])
            .start()?;
        Ok(Self { server, clock, _directory: directory })
    }

    fn set_clock(&self, seconds: i64) -> Result<()> {
        Ok(fs::write(&self.clock, seconds.to_string())?)
    }
}

fn with_key(arn: &str) -> String {
    format!(
        "WITH CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
         'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}}}"
    )
}

fn keyspace(client: &mut Client) -> Result<()> {
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    Ok(())
}

fn literal(client: &mut Client, statement: &str) -> Result<String> {
    let rows = client.rows(statement)?;
    let bytes =
        rows.rows.first().and_then(|row| row.first()).and_then(Option::as_ref).ok_or("no value")?;
    Ok(to_literal(&rows.columns[0].ty, bytes)?)
}

fn custom_properties(client: &mut Client, table: &str) -> Result<String> {
    literal(
        client,
        &format!(
            "SELECT custom_properties FROM system_schema_mcs.tables WHERE keyspace_name = 'ks' AND table_name = '{table}'"
        ),
    )
}

/// Repeats a statement until it fails or succeeds as wanted; the monitor needs a moment after the clock moved.
fn until(
    client: &mut Client,
    statement: &str,
    wanted: impl Fn(&ReceivedBody) -> bool,
) -> Result<ReceivedBody> {
    for _ in 0..100_000 {
        let body = client.query(statement)?;
        if wanted(&body) {
            return Ok(body);
        }
    }
    Err(format!("never came: {statement}").into())
}

fn is_error(body: &ReceivedBody) -> bool {
    matches!(body, ReceivedBody::Error(_))
}

#[test]
fn the_documentations_own_statements_work() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    let sample = "arn:aws:kms:eu-west-1:5555555555555:key/11111111-1111-111-1111-111111111111";
    assert_eq!(server.kms(&["create-key", "--arn", sample])?, sample);
    client.execute("CREATE KEYSPACE my_keyspace WITH REPLICATION = {'class': 'SingleRegionStrategy'} and TAGS ={'key1':'val1', 'key2':'val2'}")?;
    client.execute(&format!(
        "CREATE TABLE my_keyspace.my_table(id bigint, name text, place text STATIC, PRIMARY KEY(id, name)) WITH CUSTOM_PROPERTIES = {{
        'encryption_specification':{{
                'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY',
                'kms_key_identifier':'{sample}'
            }}
    }};"
    ))?;
    client.execute("INSERT INTO my_keyspace.my_table (id, name, place) VALUES (1, 'n', 'p')")?;
    client.execute(
        "ALTER TABLE my_keyspace.my_table WITH CUSTOM_PROPERTIES = {
                'encryption_specification':{
                      'encryption_type' : 'AWS_OWNED_KMS_KEY'
                    }
         };",
    )?;
    client.execute(&format!("ALTER TABLE my_keyspace.my_table {}", with_key(sample)))?;
    assert_eq!(literal(&mut client, "SELECT place FROM my_keyspace.my_table WHERE id = 1")?, "'p'");
    let shown = literal(
        &mut client,
        "SELECT custom_properties FROM system_schema_mcs.tables WHERE keyspace_name = 'my_keyspace' AND table_name = 'my_table'",
    )?;
    assert!(
        shown.contains("'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY'") && shown.contains(sample),
        "{shown}"
    );
    Ok(())
}

#[test]
fn a_table_without_the_option_is_under_the_owned_key_and_shows_no_arn() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY)")?;
    let shown = custom_properties(&mut client, "t")?;
    assert!(
        shown.contains("'encryption_specification': {'encryption_type': 'AWS_OWNED_KMS_KEY'}"),
        "{shown}"
    );
    assert_eq!(server.kms(&["list-keys"])?, "", "the owned key is nobody's to list");
    Ok(())
}

#[test]
fn create_with_an_unusable_key_names_it_and_leaves_nothing_behind() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let disabled = server.kms(&["create-key"])?;
    server.kms(&["disable-key", &disabled])?;
    let pending = server.kms(&["create-key"])?;
    server.kms(&["schedule-key-deletion", &pending])?;
    let missing = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000";
    for (arn, wanted) in [
        (disabled.as_str(), "KMS key disabled error"),
        (pending.as_str(), "is pending deletion"),
        (missing, "does not exist"),
    ] {
        let (code, text) =
            client.error(&format!("CREATE TABLE ks.t (k int PRIMARY KEY) {}", with_key(arn)))?;
        assert_eq!(code, INVALID, "{text}");
        assert!(text.contains(arn) && text.contains(wanted) && text.contains("ks.t"), "{text}");
        assert_eq!(
            client
                .rows("SELECT * FROM system_schema.tables WHERE keyspace_name = 'ks'")?
                .rows
                .len(),
            0
        );
    }
    let tables = fs::read_dir(server.directory().join("tables")).map(Iterator::count).unwrap_or(0);
    assert_eq!(tables, 0, "a failed CREATE left files");
    Ok(())
}

#[test]
fn a_disabled_key_stops_only_its_table_and_comes_back_without_a_restart() -> Result<()> {
    let clocked = Clocked::start()?;
    let server = &clocked.server;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let (first, second) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    client
        .execute(&format!("CREATE TABLE ks.a (k int PRIMARY KEY, v text) {}", with_key(&first)))?;
    client
        .execute(&format!("CREATE TABLE ks.b (k int PRIMARY KEY, v text) {}", with_key(&second)))?;
    client.execute("CREATE TABLE ks.owned (k int PRIMARY KEY, v text)")?;
    for table in ["a", "b", "owned"] {
        client.execute(&format!("INSERT INTO ks.{table} (k, v) VALUES (1, 'before')"))?;
    }
    server.kms(&["disable-key", &first])?;
    clocked.set_clock(301)?;
    let body = until(&mut client, "SELECT v FROM ks.a WHERE k = 1", is_error)?;
    let ReceivedBody::Error(error) = body else {
        return Err("an error".into());
    };
    assert_eq!(error.detail.code(), INVALID, "{}", error.message);
    for part in ["ks.a", first.as_str(), "is disabled"] {
        assert!(error.message.contains(part), "{part} is missing in: {}", error.message);
    }
    assert_eq!(client.error("INSERT INTO ks.a (k, v) VALUES (2, 'x')")?.0, INVALID);
    for table in ["b", "owned"] {
        client.execute(&format!("INSERT INTO ks.{table} (k, v) VALUES (2, 'during')"))?;
        assert_eq!(client.rows(&format!("SELECT * FROM ks.{table}"))?.rows.len(), 2);
    }
    // A batch that touches it fails whole.
    let batch = "BEGIN BATCH INSERT INTO ks.b (k, v) VALUES (3, 'x'); INSERT INTO ks.a (k, v) VALUES (3, 'x'); APPLY BATCH";
    assert_eq!(client.error(batch)?.0, INVALID);
    assert_eq!(
        client.rows("SELECT * FROM ks.b WHERE k = 3")?.rows.len(),
        0,
        "half a batch was written"
    );

    server.kms(&["enable-key", &first])?;
    until(&mut client, "SELECT v FROM ks.a WHERE k = 1", |body| !is_error(body))?;
    assert_eq!(client.rows("SELECT * FROM ks.a")?.rows.len(), 1);
    client.execute("INSERT INTO ks.a (k, v) VALUES (2, 'after')")?;
    assert_eq!(client.rows("SELECT * FROM ks.a")?.rows.len(), 2);
    Ok(())
}

#[test]
fn a_server_starts_and_serves_the_rest_while_a_key_is_away() -> Result<()> {
    let mut server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let arn = server.kms(&["create-key"])?;
    client
        .execute(&format!("CREATE TABLE ks.away (k int PRIMARY KEY, v text) {}", with_key(&arn)))?;
    client.execute("CREATE TABLE ks.here (k int PRIMARY KEY, v text)")?;
    for k in 0..100 {
        client.execute(&format!("INSERT INTO ks.away (k, v) VALUES ({k}, 'logged')"))?;
        client.execute(&format!("INSERT INTO ks.here (k, v) VALUES ({k}, 'logged')"))?;
    }
    server.kill()?;
    server.kms(&["disable-key", &arn])?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(client.rows("SELECT * FROM ks.here")?.rows.len(), 100);
    let (code, text) = client.error("SELECT * FROM ks.away")?;
    assert!(
        code == INVALID && text.contains(&arn) && text.contains("disabled"),
        "0x{code:04X} {text}"
    );
    let described = client.rows("DESCRIBE TABLE ks.away")?;
    assert_eq!(described.rows.len(), 1, "a table whose key is away can be described");
    server.kms(&["enable-key", &arn])?;
    until(&mut client, "SELECT * FROM ks.away", |body| !is_error(body))?;
    assert_eq!(
        client.rows("SELECT * FROM ks.away")?.rows.len(),
        100,
        "rows that were only in the log"
    );

    server.kms(&["disable-key", &arn])?;
    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    client.execute("DROP TABLE ks.away")?;
    assert_eq!(client.error("SELECT * FROM ks.away")?.0, INVALID);
    assert_eq!(client.rows("SELECT * FROM ks.here")?.rows.len(), 100);
    Ok(())
}

#[test]
fn after_a_swap_the_old_key_is_not_needed_and_no_segment_was_touched() -> Result<()> {
    let mut server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let mut arn = server.kms(&["create-key"])?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&arn)))?;
    let mut untouched = Vec::new();
    for round in 0..10 {
        client
            .execute(&format!("INSERT INTO ks.t (k, v) VALUES ({round}, 'under {round} keys')"))?;
        server.stop()?; // a clean stop flushes
        server.restart()?;
        client = Client::connect(server.address())?;
        let before = segments(&server)?;
        assert!(!before.is_empty(), "a clean stop flushes");
        let next = server.kms(&["create-key"])?;
        client.execute(&format!("ALTER TABLE ks.t {}", with_key(&next)))?;
        server.kms(&["disable-key", &arn])?;
        let shown = custom_properties(&mut client, "t")?;
        assert!(shown.contains(&next) && !shown.contains(&arn), "{shown}");
        for (path, content) in &before {
            assert_eq!(&fs::read(path)?, content, "a swap touched {}", path.display());
        }
        untouched.push(before.len());
        arn = next;
        assert_eq!(client.rows("SELECT * FROM ks.t")?.rows.len(), round + 1);
    }
    server.kill()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(
        client.rows("SELECT * FROM ks.t")?.rows.len(),
        10,
        "all rows, under the last key alone"
    );
    assert_eq!(untouched.len(), 10);
    Ok(())
}

#[test]
fn an_alter_to_an_unusable_key_changes_nothing() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let (good, bad) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    server.kms(&["disable-key", &bad])?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY) {}", with_key(&good)))?;
    let (code, text) = client.error(&format!("ALTER TABLE ks.t {}", with_key(&bad)))?;
    assert!(code == INVALID && text.contains(&bad), "0x{code:04X} {text}");
    assert!(custom_properties(&mut client, "t")?.contains(&good));
    client.execute("INSERT INTO ks.t (k) VALUES (1)")?;
    // The same key again is no change, and no error.
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&good)))?;
    Ok(())
}

#[test]
fn every_swap_is_in_the_tables_history() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    keyspace(&mut client)?;
    let (first, second) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY) {}", with_key(&first)))?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&second)))?;
    client.execute("DROP TABLE ks.t")?;
    let rows = client.rows(
        "SELECT custom_properties FROM system_schema_mcs.tables_history WHERE keyspace_name = 'ks' AND table_name = 't'",
    )?;
    let shown: Vec<String> = rows
        .rows
        .iter()
        .filter_map(|row| row[0].as_ref())
        .map(|bytes| to_literal(&rows.columns[0].ty, bytes))
        .collect::<std::result::Result<_, _>>()?;
    assert!(
        shown.iter().any(|text| text.contains(&first))
            && shown.iter().any(|text| text.contains(&second)),
        "{shown:?}"
    );
    Ok(())
}

/// Path and content of every segment file.
fn segments(server: &Server) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for table in fs::read_dir(server.directory().join("tables"))? {
        for file in fs::read_dir(table?.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|ending| ending == "segment") {
                let content = fs::read(&path)?;
                found.push((path, content));
            }
        }
    }
    Ok(found)
}
