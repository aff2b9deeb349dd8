//! Every bound on clients, at the limit and one past it, and memory that stays within its options.
#![expect(
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use cql_protocol::{
    BoundValue, ErrorDetail, Prepare, Query, QueryParameters, ReceivedBody, Request, Text, Values,
};
use cql_tests::{Client, Result, Server, ServerBuilder};

const OVERLOADED: i32 = 0x1001;
const SYNTAX: i32 = 0x2000;
const INVALID: i32 = 0x2200;
const UNPREPARED: i32 = 0x2500;
/// How often something that a server does soon is asked for; each attempt is a round trip.
const ATTEMPTS: usize = 10_000;

fn started(options: &[&str]) -> Result<(Server, Client)> {
    let server = ServerBuilder::default().arguments(options).start()?;
    let mut client = Client::connect(server.address())?;
    client.execute(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v blob)")?;
    Ok((server, client))
}

fn query(statement: &str) -> Request {
    let statement = Text::from(statement);
    Request::Query(Query { statement, parameters: QueryParameters::default() })
}

fn code(body: &ReceivedBody) -> Option<i32> {
    match body {
        ReceivedBody::Error(error) => Some(error.detail.code()),
        _ => None,
    }
}

/// Whether the server answers on a new connection.
fn is_let_in(address: SocketAddr) -> bool {
    Client::connect(address)
        .is_ok_and(|mut client| client.rows("SELECT key FROM system.local").is_ok())
}

#[test]
fn as_many_connections_as_allowed_and_no_more() -> Result<()> {
    let server = ServerBuilder::default().arguments(&["--connections-max", "3"]).start()?;
    let mut open: Vec<Client> =
        (0..3).map(|_| Client::connect(server.address())).collect::<Result<_>>()?;
    assert!(!is_let_in(server.address()), "a fourth connection was let in");
    for client in &mut open {
        assert_eq!(client.rows("SELECT key FROM system.local")?.rows.len(), 1);
    }
    open.pop();
    let is_free = (0..ATTEMPTS).any(|_| is_let_in(server.address()));
    assert!(is_free, "a closed connection does not make room");
    Ok(())
}

/// Inserts sent in one write; how many were done, and the texts of those that were OVERLOADED.
fn pipelined(
    client: &mut Client,
    first: i32,
    count: i32,
    value: &str,
) -> Result<(Vec<i32>, Vec<String>)> {
    let requests: Vec<Request> = (first..first + count)
        .map(|k| query(&format!("INSERT INTO ks.t (k, v) VALUES ({k}, 0x{value})")))
        .collect();
    client.send_requests(&requests)?;
    let (mut done, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let received = client.receive()?;
        match received.body {
            ReceivedBody::Void => done.push(first + i32::from(received.stream)),
            ReceivedBody::Error(error) if error.detail.code() == OVERLOADED => {
                refused.push(error.message)
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok((done, refused))
}

/// At the limit all requests are done; with many more some are refused, and exactly those that were
/// acknowledged are there.
fn bounds_requests(option: &[&str], limit: i32, value: &str) -> Result<()> {
    let (_server, mut client) = started(option)?;
    let (done, refused) = pipelined(&mut client, 0, limit, value)?;
    assert_eq!(
        (done.len(), refused.len()),
        (usize::try_from(limit)?, 0),
        "{option:?} at the limit"
    );
    client.execute("TRUNCATE ks.t")?;
    let (mut all, mut texts) = (Vec::new(), Vec::new());
    for round in 0..200 {
        let (done, refused) = pipelined(&mut client, round * 60, 60, value)?;
        all.extend(done);
        texts.extend(refused);
        if !texts.is_empty() {
            break;
        }
    }
    let text = texts.first().ok_or_else(|| format!("{option:?}: nothing was refused"))?;
    assert!(text.contains("unanswered requests"), "{text}");
    let mut found: Vec<i32> = Vec::new();
    for row in client.rows("SELECT k FROM ks.t")?.rows {
        found.push(i32::from_be_bytes(row[0].as_deref().ok_or("no key")?.try_into()?));
    }
    found.sort_unstable();
    all.sort_unstable();
    assert_eq!(found, all, "what was refused must not be written, what was acknowledged must");
    Ok(())
}

#[test]
fn requests_in_flight_of_one_connection_are_bounded() -> Result<()> {
    bounds_requests(&["--connection-requests-max", "4"], 4, "00")
}

#[test]
fn requests_in_flight_of_all_connections_are_bounded() -> Result<()> {
    bounds_requests(&["--requests-max", "4"], 4, "00")
}

#[test]
fn bytes_in_flight_of_one_connection_are_bounded() -> Result<()> {
    let options = ["--frame-bytes-max", "4KiB", "--connection-request-bytes-max", "8KiB"];
    bounds_requests(&options, 2, &"00".repeat(1900))
}

#[test]
fn bytes_in_flight_of_all_connections_are_bounded() -> Result<()> {
    let options = ["--frame-bytes-max", "4KiB", "--request-bytes-max", "8KiB"];
    bounds_requests(&options, 2, &"00".repeat(1900))
}

#[test]
fn a_statement_is_as_long_as_allowed_and_no_longer() -> Result<()> {
    let (_server, mut client) = started(&["--statement-bytes-max", "1000"])?;
    let statement = |length: usize| format!("{:length$}", "SELECT k FROM ks.t");
    assert_eq!(client.rows(&statement(1000))?.rows.len(), 0);
    let (code, text) = client.error(&statement(1001))?;
    assert_eq!(code, INVALID);
    assert!(text.contains("1001") && text.contains("statement_bytes_max"), "{text}");
    let body = client
        .request(&Request::Prepare(Prepare { statement: Text::from(statement(1001).as_str()) }))?
        .body;
    assert_eq!(self::code(&body), Some(INVALID));
    Ok(())
}

#[test]
fn nesting_is_as_deep_as_allowed_and_no_deeper() -> Result<()> {
    let (_server, mut client) = started(&[])?;
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("INSERT INTO ks.t (k, v) VALUES (1, {open}1{close})")
    };
    // The deepest that parses is refused for its type, the next one for its depth.
    let mut deepest = None;
    for depth in 1..2000 {
        let (code, text) = client.error(&nested(depth))?;
        if code == SYNTAX {
            assert!(text.contains("nested deeper than"), "{text}");
            break;
        }
        assert_eq!(code, INVALID, "{text}");
        deepest = Some(depth);
    }
    assert!(deepest.is_some_and(|depth| (32..1000).contains(&depth)), "{deepest:?}");
    Ok(())
}

#[test]
fn a_page_has_as_many_rows_as_allowed_and_no_more() -> Result<()> {
    let (_server, mut client) = started(&["--page-rows-max", "10"])?;
    for k in 0..25 {
        client.execute(&format!("INSERT INTO ks.t (k) VALUES ({k})"))?;
    }
    for (size, wanted) in [(Some(9), 9), (Some(10), 10), (Some(11), 10), (Some(i32::MAX), 10)] {
        let ReceivedBody::Rows(rows) = client.page("SELECT k FROM ks.t", size, None)?.body else {
            return Err("rows".into());
        };
        assert_eq!(rows.rows.len(), wanted, "page size {size:?}");
        assert!(rows.paging_state.is_some(), "page size {size:?}");
    }
    // Without a page size there are no pages, as drivers expect of protocol v4.
    assert_eq!(client.rows("SELECT k FROM ks.t")?.rows.len(), 25);
    let (mut keys, mut state) = (Vec::new(), None);
    loop {
        let ReceivedBody::Rows(rows) = client.page("SELECT k FROM ks.t", Some(11), state)?.body
        else {
            return Err("rows".into());
        };
        keys.extend(rows.rows.into_iter().map(|row| row[0].clone()));
        state = rows.paging_state;
        if state.is_none() {
            break;
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 25, "each row once over all pages");
    Ok(())
}

#[test]
fn statements_unused_longest_leave_the_prepared_cache() -> Result<()> {
    let (_server, mut client) = started(&["--prepared-cache-bytes", "64KiB"])?;
    let statement = |number: usize| format!("SELECT v FROM ks.t WHERE k = ? LIMIT {}", number + 1);
    let first = client.prepare(&statement(0))?;
    let parameters = || QueryParameters {
        values: Values::Positional(vec![BoundValue::Value(Bytes::from_static(&[0, 0, 0, 1]))]),
        ..QueryParameters::default()
    };
    assert!(matches!(client.execute_prepared(&first.id, parameters())?, ReceivedBody::Rows(_)));
    let last =
        (1..2000).map(|number| client.prepare(&statement(number))).last().ok_or("none")??;
    let ReceivedBody::Error(error) = client.execute_prepared(&first.id, parameters())? else {
        return Err("2,000 statements fit into 64 KiB".into());
    };
    assert_eq!(error.detail, ErrorDetail::Unprepared { id: first.id.clone() });
    assert_eq!(error.detail.code(), UNPREPARED);
    assert!(
        matches!(client.execute_prepared(&last.id, parameters())?, ReceivedBody::Rows(_)),
        "the newest one stays"
    );
    assert_eq!(client.prepare(&statement(0))?.id, first.id, "the same id again");
    assert!(matches!(client.execute_prepared(&first.id, parameters())?, ReceivedBody::Rows(_)));
    Ok(())
}

#[test]
fn one_write_is_as_large_as_allowed_and_no_larger() -> Result<()> {
    let (_server, mut client) = started(&["--mutation-bytes-max", "64KiB"])?;
    let insert =
        |bytes: usize| format!("INSERT INTO ks.t (k, v) VALUES (1, 0x{})", "ab".repeat(bytes));
    client.execute(&insert(60 << 10))?;
    let (code, text) = client.error(&insert(64 << 10))?;
    assert_eq!(code, INVALID, "{text}");
    assert!(text.contains("65536"), "the limit is named: {text}");
    let rows = client.rows("SELECT v FROM ks.t")?.rows;
    assert_eq!(
        rows[0][0].as_ref().map(Bytes::len),
        Some(60 << 10),
        "the larger one left the smaller alone"
    );
    Ok(())
}

#[test]
fn a_client_that_does_not_read_takes_no_memory() -> Result<()> {
    let (server, mut client) = started(&["--write-backlog-bytes-max", "1MiB"])?;
    client.execute(&format!("INSERT INTO ks.t (k, v) VALUES (1, 0x{})", "ab".repeat(400 << 10)))?;
    let (before, _) = server.resident_kib()?;
    // 500 answers of 400 KiB are 200 MiB.
    let mut slow = Client::connect(server.address())?;
    let requests: Vec<Request> =
        (0..500).map(|_| query("SELECT v FROM ks.t WHERE k = 1")).collect();
    slow.send_requests(&requests)?;
    // Others are served meanwhile, often enough for all answers to have been made.
    for _ in 0..2000 {
        assert_eq!(client.rows("SELECT k FROM ks.t WHERE k = 1")?.rows.len(), 1);
    }
    let (largest, _) = server.resident_kib()?;
    assert!(largest < before + 50 * 1024, "from {before} to {largest} KiB");
    let mut streams: Vec<i16> = Vec::new();
    for _ in 0..500 {
        let received = slow.receive()?;
        let ReceivedBody::Rows(rows) = received.body else {
            return Err("rows".into());
        };
        assert_eq!(rows.rows[0][0].as_ref().map(Bytes::len), Some(400 << 10));
        streams.push(received.stream);
    }
    streams.sort_unstable();
    assert!(streams.into_iter().eq(0..500), "every request gets its answer once it is read");
    Ok(())
}

#[test]
fn a_client_that_never_starts_is_cut_off() -> Result<()> {
    let server =
        ServerBuilder::default().arguments(&["--startup-timeout-millis", "100"]).start()?;
    let mut silent = Client::raw(server.address())?;
    let mut started = Client::connect(server.address())?;
    assert!(silent.receive().is_err(), "it is still connected");
    assert_eq!(started.rows("SELECT key FROM system.local")?.rows.len(), 1);
    Ok(())
}

const MEMTABLES: u64 = 4;
const CACHE: u64 = 1;
const SLACK: u64 = 100;
/// Rows of 48 KiB: 240 MiB, more than limits and slack together.
const LARGE_ROWS: i32 = 5000;
const LARGE_ROW: usize = 48 << 10;

/// Bytes that do not compress, different for each row.
fn incompressible(row: i32) -> Bytes {
    let mut state = u64::try_from(row).unwrap_or_default().wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(LARGE_ROW);
    while bytes.len() < LARGE_ROW {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    Bytes::from(bytes)
}

fn insert_large(address: SocketAddr, rows: impl Iterator<Item = i32>) -> Result<()> {
    let mut client = Client::connect(address)?;
    let insert = client.prepare("INSERT INTO ks.t (k, v) VALUES (?, ?)")?;
    for row in rows {
        let key = BoundValue::Value(Bytes::copy_from_slice(&row.to_be_bytes()));
        let values = vec![key, BoundValue::Value(incompressible(row))];
        let parameters = || QueryParameters {
            values: Values::Positional(values.clone()),
            ..QueryParameters::default()
        };
        // Beyond the limits writers wait, then are told to come again.
        let answer = (0..ATTEMPTS)
            .map(|_| client.execute_prepared(&insert.id, parameters()))
            .find(|answer| !matches!(answer, Ok(body) if code(body) == Some(OVERLOADED)));
        match answer.ok_or("overloaded for ever")?? {
            ReceivedBody::Void => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}

#[test]
fn data_many_times_the_limits_load_compact_and_read_within_them() -> Result<()> {
    let (mut server, _client) = started(&[
        "--memtable-total-bytes",
        &format!("{MEMTABLES}MiB"),
        "--memtable-flush-bytes",
        "1MiB",
        "--block-cache-bytes",
        &format!("{CACHE}MiB"),
        "--log-total-bytes",
        "16MiB",
        "--log-file-bytes",
        "4MiB",
        "--room-timeout-millis",
        "20000",
    ])?;
    let address = server.address();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            std::thread::Builder::new()
                .name(format!("writer-{writer}"))
                .spawn(move || insert_large(address, (writer..LARGE_ROWS).step_by(4)))
        })
        .collect::<std::io::Result<_>>()?;
    for writer in writers {
        writer.join().map_err(|_| "a writer panicked")??;
    }
    let limit = (MEMTABLES + CACHE + SLACK) * 1024;
    let (loading, _) = server.resident_kib()?;
    assert!(loading <= limit, "{loading} KiB while loading, of {limit}");
    read_all(&server)?;
    let (reading, _) = server.resident_kib()?;
    assert!(reading <= limit, "{reading} KiB while reading, of {limit}");
    server.kill()?;
    server.restart()?;
    read_all(&server)?;
    let (recovered, _) = server.resident_kib()?;
    assert!(recovered <= limit, "{recovered} KiB after recovery, of {limit}");
    Ok(())
}

fn read_all(server: &Server) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    let (mut state, mut seen) = (None, 0);
    loop {
        let ReceivedBody::Rows(rows) = client.page("SELECT k, v FROM ks.t", Some(20), state)?.body
        else {
            return Err("rows".into());
        };
        for row in &rows.rows {
            let key = i32::from_be_bytes(row[0].as_deref().ok_or("no key")?.try_into()?);
            assert_eq!(row[1].as_ref(), Some(&incompressible(key)), "row {key} has another value");
            seen += 1;
        }
        state = rows.paging_state;
        if state.is_none() {
            break;
        }
    }
    assert_eq!(seen, LARGE_ROWS, "rows found");
    Ok(())
}

#[test]
fn point_reads_go_on_beside_a_scan() -> Result<()> {
    let (server, mut client) = started(&[])?;
    for k in 0..2000 {
        client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({k}, 0x{k:08x})"))?;
    }
    let alone = slowest(&mut client)?;
    let address = server.address();
    let scans =
        std::thread::Builder::new().name("scans".to_owned()).spawn(move || -> Result<()> {
            let mut client = Client::connect(address)?;
            for _ in 0..40 {
                client.rows("SELECT count(*) FROM ks.t")?;
            }
            Ok(())
        })?;
    let beside = slowest(&mut client)?;
    scans.join().map_err(|_| "the scans panicked")??;
    // Two processors, a debug build and other tests: three times is for the bench to show, a stall of
    // a whole scan is what this finds.
    assert!(
        beside < alone * 20 + Duration::from_millis(50),
        "{alone:?} alone, {beside:?} beside scans"
    );
    Ok(())
}

/// The 99th of 100 point reads, by time.
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn slowest(client: &mut Client) -> Result<Duration> {
    let mut times = Vec::new();
    for k in 0..300 {
        let begun = std::time::Instant::now();
        client.rows(&format!("SELECT v FROM ks.t WHERE k = {k}"))?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().ok_or_else(|| "no times".into())
}
