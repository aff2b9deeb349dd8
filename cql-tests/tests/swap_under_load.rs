//! Fifty changes of a table's key, between two KMS keys and the owned key, under readers and writers: no
//! request fails, every acknowledged row is there, and the keys left behind are not needed any more.
#![expect(
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use cql_protocol::{BoundValue, QueryParameters, ReceivedBody, Values};
use cql_tests::{Client, KeyScript, Result, Server, WITH_OWNED_KEY, poll::until, with_key};
use cql_types::to_literal;

const WRITERS: i32 = 6;
const READERS: i32 = 4;
const SWAPS: usize = 50;
const UNPREPARED: i32 = 0x2500;
const INSERT: &str = "INSERT INTO ks.t (w, c, v) VALUES (?, ?, ?)";
const SELECT: &str = "SELECT v FROM ks.t WHERE w = ? AND c = ?";
/// Writes between two swaps: each swap meets flushes and compactions.
const WRITES_BETWEEN: u64 = 60;
const SMALL: [&str; 10] = [
    "--memtable-flush-bytes",
    "64KiB",
    "--memtable-total-bytes",
    "4MiB",
    "--log-file-bytes",
    "256KiB",
    "--log-total-bytes",
    "2MiB",
    "--compaction-segments-min",
    "2",
];

#[derive(Default)]
struct Load {
    /// Rows of each writer that were acknowledged: writer w writes (w, 0), (w, 1), ...
    acknowledged: Vec<AtomicI32>,
    writes: AtomicU64,
    reads: AtomicU64,
    is_ending: AtomicBool,
    failure: OnceLock<String>,
}

impl Load {
    fn new() -> Arc<Self> {
        let acknowledged = (0..WRITERS).map(|_| AtomicI32::new(0)).collect();
        Arc::new(Self { acknowledged, ..Self::default() })
    }

    fn of(&self, writer: i32) -> &AtomicI32 {
        &self.acknowledged[usize::try_from(writer).unwrap_or_default()]
    }

    /// Waits until so many writes and a read more were answered; a failed request ends the test.
    fn go_on(&self, writes: u64) -> Result<()> {
        let writes = self.writes.load(Ordering::SeqCst) + writes;
        let reads = self.reads.load(Ordering::SeqCst);
        until(Duration::from_secs(60), "the load goes on", || {
            if let Some(failure) = self.failure.get() {
                return Err(failure.as_str().into());
            }
            let (written, read) =
                (self.writes.load(Ordering::SeqCst), self.reads.load(Ordering::SeqCst));
            let enough = written >= writes && read > reads;
            Ok(if enough { Ok(()) } else { Err(format!("{written} writes, {read} reads")) })
        })
    }
}

fn value(writer: i32, row: i32) -> String {
    format!("{writer} wrote {row} and {}", "some more to fill the segments ".repeat(12))
}

fn int(value: i32) -> BoundValue {
    BoundValue::Value(Bytes::copy_from_slice(&value.to_be_bytes()))
}

/// Executes, and prepares again when told so, as every driver does.
fn execute(
    client: &mut Client,
    id: &mut Bytes,
    text: &str,
    values: Vec<BoundValue>,
) -> Result<ReceivedBody> {
    loop {
        let values = Values::Positional(values.clone());
        let parameters = QueryParameters { values, ..QueryParameters::default() };
        match client.execute_prepared(id, parameters)? {
            ReceivedBody::Error(error) if error.detail.code() == UNPREPARED => {
                *id = client.prepare(text)?.id;
            }
            body => return Ok(body),
        }
    }
}

fn write(address: SocketAddr, load: &Load, writer: i32) -> Result<()> {
    let mut client = Client::connect(address)?;
    let mut id = client.prepare(INSERT)?.id;
    while !load.is_ending.load(Ordering::Relaxed) {
        let row = load.of(writer).load(Ordering::SeqCst);
        let text = BoundValue::Value(Bytes::from(value(writer, row)));
        let values = vec![int(writer), int(row), text];
        match execute(&mut client, &mut id, INSERT, values)? {
            ReceivedBody::Void => {
                load.of(writer).fetch_add(1, Ordering::SeqCst);
                load.writes.fetch_add(1, Ordering::SeqCst);
            }
            other => return Err(format!("writer {writer}: {other:?}").into()),
        }
    }
    Ok(())
}

/// Reads a row that was acknowledged a moment ago, and one that was long ago.
fn read(address: SocketAddr, load: &Load, reader: i32) -> Result<()> {
    let mut client = Client::connect(address)?;
    let mut id = client.prepare(SELECT)?.id;
    let mut turn = reader;
    while !load.is_ending.load(Ordering::Relaxed) {
        turn = turn.wrapping_add(1) & 0xffff;
        let writer = turn % WRITERS;
        let done = load.of(writer).load(Ordering::SeqCst);
        for row in [done - 1, done / 2].into_iter().filter(|row| (0..done).contains(row)) {
            match execute(&mut client, &mut id, SELECT, vec![int(writer), int(row)])? {
                ReceivedBody::Rows(rows)
                    if rows.rows.first().and_then(|row| row[0].as_deref())
                        == Some(value(writer, row).as_bytes()) => {}
                other => {
                    return Err(format!("reader {reader} of ({writer}, {row}): {other:?}").into());
                }
            }
            load.reads.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn start(server: &Server, load: &Arc<Load>) -> Result<Vec<JoinHandle<()>>> {
    let address = server.address();
    let spawn = |number: i32, work: fn(SocketAddr, &Load, i32) -> Result<()>| {
        let load = Arc::clone(load);
        let thread = std::thread::Builder::new().name(format!("client-{number}"));
        thread.spawn(move || {
            if let Err(error) = work(address, &load, number) {
                load.failure.get_or_init(|| error.to_string());
            }
        })
    };
    let writers = (0..WRITERS).map(|writer| spawn(writer, write));
    let all = writers.chain((0..READERS).map(|reader| spawn(reader, read)));
    Ok(all.collect::<std::io::Result<_>>()?)
}

fn end(load: &Load, clients: Vec<JoinHandle<()>>) -> Result<()> {
    load.is_ending.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().map_err(|_| "a client panicked")?;
    }
    load.failure.get().map_or(Ok(()), |failure| Err(failure.as_str().into()))
}

/// Every acknowledged row with its value, and nothing else.
fn verify(server: &Server, load: &Load) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    for writer in 0..WRITERS {
        let rows = client.rows(&format!("SELECT c, v FROM ks.t WHERE w = {writer}"))?.rows;
        let done = load.of(writer).load(Ordering::SeqCst);
        assert_eq!(i32::try_from(rows.len())?, done, "rows of writer {writer}");
        for (row, cells) in (0..).zip(&rows) {
            assert_eq!(cells[0].as_deref(), Some(&i32::to_be_bytes(row)[..]));
            assert_eq!(cells[1].as_deref(), Some(value(writer, row).as_bytes()), "row {row}");
        }
    }
    Ok(())
}

fn shown(client: &mut Client) -> Result<String> {
    let rows = client.rows(
        "SELECT custom_properties FROM system_schema_mcs.tables WHERE keyspace_name = 'ks' AND table_name = 't'",
    )?;
    let cell = rows.rows[0][0].as_ref().ok_or("no properties")?;
    Ok(to_literal(&rows.columns[0].ty, cell)?)
}

#[test]
fn fifty_swaps_between_two_keys_and_the_owned_one_fail_no_request() -> Result<()> {
    let script = KeyScript::new()?;
    let mut server = script.server().arguments(&SMALL).start()?;
    let (a, b) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute(&format!(
        "CREATE TABLE ks.t (w int, c int, v text, PRIMARY KEY (w, c)) {}",
        with_key(&a)
    ))?;
    let load = Load::new();
    let clients = start(&server, &load)?;
    // The last is B, so that A is the key that is left behind.
    let ways = [None, Some(&b), Some(&a), Some(&b)];
    for swap in 0..SWAPS {
        load.go_on(WRITES_BETWEEN)?;
        let to = ways[swap % ways.len()];
        let target = to.map_or(WITH_OWNED_KEY.to_owned(), |arn| with_key(arn));
        client.execute(&format!("ALTER TABLE ks.t {target}"))?;
        let now = shown(&mut client)?;
        assert!(now.contains(to.map_or("AWS_OWNED_KMS_KEY", |arn| arn)), "swap {swap}: {now}");
    }
    server.kms(&["disable-key", &a])?;
    load.go_on(WRITES_BETWEEN)?;
    // No cached key outlives this: what is read from here on is read without A.
    script.set_clock(301)?;
    load.go_on(10 * WRITES_BETWEEN)?;
    end(&load, clients)?;
    verify(&server, &load)?;

    server.kill()?;
    server.restart()?;
    verify(&server, &load)?;
    // Off both keys; then neither is needed.
    let mut client = Client::connect(server.address())?;
    client.execute(&format!("ALTER TABLE ks.t {WITH_OWNED_KEY}"))?;
    server.kms(&["disable-key", &b])?;
    server.stop()?;
    server.restart()?;
    verify(&server, &load)?;
    let mut client = Client::connect(server.address())?;
    client.execute("INSERT INTO ks.t (w, c, v) VALUES (-1, 0, 'still serves')")?;
    let log = server.log()?;
    assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
    Ok(())
}

/// The test above proves nothing about the disabled key unless a key that is needed is missed.
#[test]
fn the_key_that_a_table_is_under_is_needed() -> Result<()> {
    let script = KeyScript::new()?;
    let mut server = script.server().start()?;
    let (a, b) = (server.kms(&["create-key"])?, server.kms(&["create-key"])?);
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY) {}", with_key(&a)))?;
    client.execute("INSERT INTO ks.t (k) VALUES (1)")?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&b)))?;
    server.kms(&["disable-key", &b])?;
    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    let (code, text) = client.error("SELECT * FROM ks.t")?;
    assert!(code == 0x2200 && text.contains(&b), "0x{code:04X} {text}");
    Ok(())
}
