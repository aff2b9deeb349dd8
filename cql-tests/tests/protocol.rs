//! The native protocol as a client sees it: negotiation, authentication, compression, events, answers out
//! of order, prepared statements, and the forms of bound values.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use bytes::Bytes;
use cql_protocol::{
    AuthResponse, Batch, BatchKind, BatchStatement, BoundValue, ChangeKind, ChangeTarget,
    Compression, Consistency, Event, EventKind, FrameFlags, Prepare, Query, QueryParameters,
    ReceivedBody, Register, Request, SchemaChange, Startup, Statement, Text, Values,
};
use cql_tests::{Client, Result, Server, ServerBuilder, executable};
use md5::{Digest, Md5};

const BAD_CREDENTIALS: i32 = 0x0100;
const INVALID: i32 = 0x2200;
const UNPREPARED: i32 = 0x2500;
const KEYSPACE: &str =
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";

fn started() -> Result<(Server, Client)> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    client.execute(KEYSPACE)?;
    Ok((server, client))
}

fn query(statement: &str) -> Request {
    Request::Query(Query {
        statement: Text::from(statement),
        parameters: QueryParameters::default(),
    })
}

fn values(values: Vec<BoundValue>) -> QueryParameters {
    QueryParameters { values: Values::Positional(values), ..QueryParameters::default() }
}

fn int(value: i32) -> BoundValue {
    BoundValue::Value(Bytes::copy_from_slice(&value.to_be_bytes()))
}

fn string(value: &str) -> BoundValue {
    BoundValue::Value(Bytes::copy_from_slice(value.as_bytes()))
}

/// The code of an answer that must be an error.
fn code(body: &ReceivedBody) -> Result<i32> {
    match body {
        ReceivedBody::Error(error) => Ok(error.detail.code()),
        other => Err(format!("no error but {other:?}").into()),
    }
}

#[test]
fn options_tell_what_is_supported_before_and_after_startup() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::raw(server.address())?;
    let before = client.request(&Request::Options)?.body;
    let after = Client::connect(server.address())?.request(&Request::Options)?.body;
    assert_eq!(before, after);
    let ReceivedBody::Supported(supported) = before else {
        return Err("SUPPORTED".into());
    };
    let option =
        |name: &str| supported.iter().find(|(key, _)| key == name).map(|(_, all)| all.clone());
    assert_eq!(option("PROTOCOL_VERSIONS"), Some(vec!["4/v4".to_owned()]));
    assert!(
        option("CQL_VERSION")
            .is_some_and(|all| all.iter().all(|version| version.starts_with("3.")))
    );
    let compression = option("COMPRESSION").ok_or("COMPRESSION")?;
    assert!(compression.contains(&"lz4".to_owned()) && compression.contains(&"snappy".to_owned()));
    Ok(())
}

#[test]
fn a_startup_with_what_is_not_supported_is_a_protocol_error() -> Result<()> {
    let server = Server::start()?;
    let version = ("CQL_VERSION", "3.0.0");
    for options in [
        vec![("CQL_VERSION", "2.0.0")],
        vec![version, ("COMPRESSION", "zip")],
        vec![("COMPRESSION", "lz4")],
    ] {
        let mut client = Client::raw(server.address())?;
        let options: Vec<_> =
            options.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect();
        let body = client.request(&Request::Startup(Startup { options: options.clone() }))?.body;
        assert_eq!(code(&body)?, 0x000A, "{options:?}");
    }
    Ok(())
}

#[test]
fn a_password_is_asked_for_and_a_wrong_one_is_refused() -> Result<()> {
    let mut hash = Command::new(executable()?)
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    hash.stdin.take().ok_or("no input")?.write_all(b"open sesame\n")?;
    let hash = String::from_utf8(hash.wait_with_output()?.stdout)?;
    assert!(!hash.contains("sesame"));
    let server = ServerBuilder::default()
        .arguments(&["--authenticator", "password", "--user", "alibaba"])
        .environment("COFFER_PASSWORD_HASH", hash.trim())
        .start()?;
    let attempt = |token: &[u8]| -> Result<(Client, ReceivedBody)> {
        let mut client = Client::raw(server.address())?;
        let options = vec![(Text::from("CQL_VERSION"), Text::from("3.0.0"))];
        let body = client.request(&Request::Startup(Startup { options }))?.body;
        let class = "org.apache.cassandra.auth.PasswordAuthenticator".to_owned();
        assert_eq!(body, ReceivedBody::Authenticate { class });
        let early = client.request(&query("SELECT key FROM system.local"))?.body;
        assert_eq!(code(&early)?, 0x000A, "a statement before authentication");
        let token = Some(Bytes::copy_from_slice(token));
        let body = client.request(&Request::AuthResponse(AuthResponse { token }))?.body;
        Ok((client, body))
    };
    for wrong in [
        &b"\0alibaba\0open barley"[..],
        b"\0cassandra\0cassandra",
        b"\0cassim\0open sesame",
        b"",
        b"x",
    ] {
        let (mut client, body) = attempt(wrong)?;
        assert_eq!(code(&body)?, BAD_CREDENTIALS, "{wrong:?}");
        // Whether it may try again or is cut off, it gets no rows.
        let after = client.request(&query("SELECT key FROM system.local"));
        assert!(!matches!(after, Ok(received) if matches!(received.body, ReceivedBody::Rows(_))));
    }
    let (mut client, body) = attempt(b"\0alibaba\0open sesame")?;
    assert!(matches!(body, ReceivedBody::AuthSuccess { .. }), "{body:?}");
    assert_eq!(client.rows("SELECT key FROM system.local")?.rows.len(), 1);
    assert!(!server.log()?.contains("barley"), "a password is in the log");
    Ok(())
}

#[test]
fn compressed_connections_carry_the_same_rows() -> Result<()> {
    let (server, mut client) = started()?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")?;
    let text = "the same again and ".repeat(5000);
    for (k, compression) in [(1, Compression::Lz4), (2, Compression::Snappy)] {
        let mut compressed = Client::with_compression(server.address(), Some(compression))?;
        let statement = format!("INSERT INTO ks.t (k, v) VALUES ({k}, '{text}')");
        assert_eq!(compressed.execute(&statement)?, ReceivedBody::Void);
        let select = format!("SELECT v FROM ks.t WHERE k = {k}");
        let rows = compressed.rows(&select)?.rows;
        assert_eq!(rows[0][0].as_deref(), Some(text.as_bytes()));
        assert_eq!(rows, client.rows(&select)?.rows);
        assert_eq!(compressed.error("SELECT nope FROM ks.t")?.0, INVALID);
    }
    Ok(())
}

#[test]
fn schema_events_reach_those_who_registered_and_nobody_else() -> Result<()> {
    let (server, mut client) = started()?;
    let mut listener = Client::connect(server.address())?;
    let events = vec![EventKind::SchemaChange, EventKind::StatusChange, EventKind::TopologyChange];
    assert_eq!(
        listener.request(&Request::Register(Register { events }))?.body,
        ReceivedBody::Ready
    );
    let mut stranger = Client::connect(server.address())?;
    let table = || ChangeTarget::Table("t".to_owned());
    for (statement, kind, target) in [
        ("CREATE TABLE ks.t (k int PRIMARY KEY)", ChangeKind::Created, table()),
        ("ALTER TABLE ks.t ADD v int", ChangeKind::Updated, table()),
        ("CREATE TYPE ks.u (a int)", ChangeKind::Created, ChangeTarget::Type("u".to_owned())),
        ("DROP TYPE ks.u", ChangeKind::Dropped, ChangeTarget::Type("u".to_owned())),
        ("DROP TABLE ks.t", ChangeKind::Dropped, table()),
        (
            "ALTER KEYSPACE ks WITH durable_writes = true",
            ChangeKind::Updated,
            ChangeTarget::Keyspace,
        ),
        ("DROP KEYSPACE ks", ChangeKind::Dropped, ChangeTarget::Keyspace),
    ] {
        let change = SchemaChange { kind, keyspace: "ks".to_owned(), target };
        assert_eq!(client.execute(statement)?, ReceivedBody::SchemaChange(change.clone()));
        let received = listener.receive()?;
        assert_eq!(received.stream, -1, "{statement}");
        assert_eq!(received.body, ReceivedBody::Event(Event::SchemaChange(change)), "{statement}");
    }
    // The next frame of one that did not register is the answer to its own request.
    assert_eq!(stranger.rows("SELECT key FROM system.local")?.rows.len(), 1);
    Ok(())
}

#[test]
fn a_slow_request_does_not_hold_up_the_ones_after_it() -> Result<()> {
    let (_server, mut client) = started()?;
    client.execute("CREATE TABLE ks.t (k int, c int, v text, PRIMARY KEY (k, c))")?;
    for k in 0..100 {
        let rows: String = (0..200)
            .map(|c| format!("INSERT INTO ks.t (k, c, v) VALUES ({k}, {c}, 'some text'); "))
            .collect();
        client.execute(&format!("BEGIN UNLOGGED BATCH {rows} APPLY BATCH"))?;
    }
    let slow = query("SELECT count(*) FROM ks.t");
    let quick = query("SELECT key FROM system.local");
    client.send_requests(&[slow, quick])?;
    let (first, second) = (client.receive()?, client.receive()?);
    assert_eq!((first.stream, second.stream), (1, 0), "answers came in the order of the requests");
    let ReceivedBody::Rows(count) = second.body else {
        return Err(format!("a count, not {:?}", second.body).into());
    };
    assert_eq!(count.rows[0][0].as_deref(), Some(&20_000_i64.to_be_bytes()[..]));
    Ok(())
}

fn md5(text: &str) -> Bytes {
    Bytes::copy_from_slice(&Md5::digest(text.as_bytes()))
}

#[test]
fn prepared_ids_are_cassandras_and_survive_a_restart_as_ids() -> Result<()> {
    let (mut server, mut client) = started()?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")?;
    let insert = "INSERT INTO ks.t (k, v) VALUES (?, ?)";
    let prepared = client.prepare(insert)?;
    assert_eq!(prepared.id, md5(insert));
    assert_eq!(prepared.partition_key_indexes, vec![0]);
    assert_eq!(Client::connect(server.address())?.prepare(insert)?.id, prepared.id);
    client.execute("USE ks")?;
    let select = "SELECT v FROM t WHERE k = ?";
    assert_eq!(client.prepare(select)?.id, md5(&format!("ks{select}")));

    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    let body = client.execute_prepared(&prepared.id, values(vec![int(1), string("x")]))?;
    let ReceivedBody::Error(error) = body else {
        return Err("UNPREPARED".into());
    };
    assert_eq!(error.detail.code(), UNPREPARED);
    assert_eq!(error.detail, cql_protocol::ErrorDetail::Unprepared { id: prepared.id.clone() });
    assert_eq!(client.prepare(insert)?.id, prepared.id);
    let body = client.execute_prepared(&prepared.id, values(vec![int(1), string("x")]))?;
    assert_eq!(body, ReceivedBody::Void);
    Ok(())
}

#[test]
fn a_schema_change_invalidates_what_was_prepared_for_the_table() -> Result<()> {
    let (_server, mut client) = started()?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")?;
    client.execute("CREATE TABLE ks.other (k int PRIMARY KEY)")?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'x')")?;
    let statement = "SELECT * FROM ks.t WHERE k = ?";
    let before = client.prepare(statement)?;
    assert_eq!(before.result.len(), 2);
    client.execute("ALTER TABLE ks.t ADD w int")?;
    let body = client.execute_prepared(&before.id, values(vec![int(1)]))?;
    assert_eq!(code(&body)?, UNPREPARED);
    let after = client.prepare(statement)?;
    assert_eq!((after.id.clone(), after.result.len()), (before.id, 3));
    let ReceivedBody::Rows(rows) = client.execute_prepared(&after.id, values(vec![int(1)]))? else {
        return Err("rows".into());
    };
    assert_eq!(rows.rows[0].len(), 3);

    // A column that is dropped and added again is another one.
    let insert = client.prepare("INSERT INTO ks.t (k, w) VALUES (?, ?)")?;
    client.execute_prepared(&insert.id, values(vec![int(1), int(7)]))?;
    client.execute("ALTER TABLE ks.t DROP w")?;
    client.execute("ALTER TABLE ks.t ADD w int")?;
    let body = client.execute_prepared(&insert.id, values(vec![int(2), int(8)]))?;
    assert_eq!(code(&body)?, UNPREPARED);
    assert_eq!(client.rows("SELECT w FROM ks.t WHERE k = 1")?.rows, vec![vec![None]]);

    // What is dropped cannot be prepared.
    client.execute("DROP TABLE ks.t")?;
    let body = client.execute_prepared(&after.id, values(vec![int(1)]))?;
    assert_eq!(code(&body)?, UNPREPARED);
    let body =
        client.request(&Request::Prepare(Prepare { statement: Text::from(statement) }))?.body;
    assert_eq!(code(&body)?, INVALID);
    Ok(())
}

#[test]
fn values_may_be_null_or_unset() -> Result<()> {
    let (_server, mut client) = started()?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text, w text)")?;
    let insert = client.prepare("INSERT INTO ks.t (k, v, w) VALUES (?, ?, ?)")?;
    let run = |client: &mut Client, bound: Vec<BoundValue>| {
        client.execute_prepared(&insert.id, values(bound))
    };
    run(&mut client, vec![int(1), string("v"), string("w")])?;
    run(&mut client, vec![int(1), BoundValue::Unset, BoundValue::Null])?;
    let cells = client.rows("SELECT v, w FROM ks.t WHERE k = 1")?.rows;
    assert_eq!(
        cells,
        vec![vec![Some(Bytes::from_static(b"v")), None]],
        "unset keeps, null deletes"
    );
    for wrong in [
        vec![BoundValue::Null, string("v"), string("w")],
        vec![BoundValue::Unset, string("v"), string("w")],
        vec![int(1), string("v")],
        vec![int(1), string("v"), string("w"), string("x")],
        vec![string("five!"), string("v"), string("w")],
        vec![int(1), BoundValue::Value(Bytes::from_static(b"\xff\xfe")), string("w")],
    ] {
        let body = run(&mut client, wrong.clone())?;
        let code = code(&body)?;
        assert!(code == INVALID || code == 0x000A, "0x{code:04X} for {wrong:?}");
    }
    Ok(())
}

#[test]
fn named_values_find_their_markers_in_any_order() -> Result<()> {
    let (_server, mut client) = started()?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text, w text)")?;
    let named = |pairs: Vec<(&str, BoundValue)>| QueryParameters {
        values: Values::Named(
            pairs.into_iter().map(|(name, value)| (Text::from(name), value)).collect(),
        ),
        ..QueryParameters::default()
    };
    let statement = Text::from("INSERT INTO ks.t (k, v, w) VALUES (:a, :b, :c)");
    let parameters = named(vec![("c", string("third")), ("a", int(2)), ("b", string("second"))]);
    let request = Request::Query(Query { statement: statement.clone(), parameters });
    assert_eq!(client.request(&request)?.body, ReceivedBody::Void);
    let cells = client.rows("SELECT v, w FROM ks.t WHERE k = 2")?.rows;
    let wanted = vec![Some(Bytes::from_static(b"second")), Some(Bytes::from_static(b"third"))];
    assert_eq!(cells, vec![wanted]);
    let parameters = named(vec![("a", int(2)), ("nope", string("second"))]);
    let request = Request::Query(Query { statement, parameters });
    assert_eq!(code(&client.request(&request)?.body)?, INVALID, "a name is missing");
    Ok(())
}

#[test]
fn the_flags_of_a_request_are_obeyed() -> Result<()> {
    let (_server, mut client) = started()?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY, v text)")?;
    let insert = client.prepare("INSERT INTO ks.t (k, v) VALUES (?, ?)")?;
    let at = |micros, value: &str| QueryParameters {
        default_timestamp: Some(micros),
        ..values(vec![int(1), string(value)])
    };
    client.execute_prepared(&insert.id, at(2000, "later"))?;
    client.execute_prepared(&insert.id, at(1000, "earlier"))?;
    let rows = client.rows("SELECT v, writetime(v) FROM ks.t")?.rows;
    assert_eq!(rows[0][0].as_deref(), Some(&b"later"[..]), "the default timestamp decides");
    assert_eq!(rows[0][1].as_deref(), Some(&2000_i64.to_be_bytes()[..]));

    let select = client.prepare("SELECT v FROM ks.t WHERE k = ?")?;
    let lean = QueryParameters { skip_metadata: true, ..values(vec![int(1)]) };
    let ReceivedBody::Rows(rows) = client.execute_prepared(&select.id, lean)? else {
        return Err("rows".into());
    };
    assert_eq!((rows.columns.len(), rows.column_count, rows.rows.len()), (0, 1, 1));

    let traced = client.traced(&query("SELECT v FROM ks.t"), FrameFlags(FrameFlags::TRACING))?;
    assert!(traced.tracing_id.is_some(), "a traced request gets the id of its trace");

    let batch = Request::Batch(Batch {
        kind: BatchKind::Logged,
        statements: vec![
            BatchStatement {
                statement: Statement::Prepared(insert.id.clone()),
                values: Values::Positional(vec![int(5), string("five")]),
            },
            BatchStatement {
                statement: Statement::Text(Text::from("INSERT INTO ks.t (k, v) VALUES (6, ?)")),
                values: Values::Positional(vec![string("six")]),
            },
        ],
        consistency: Consistency::Quorum,
        serial_consistency: None,
        default_timestamp: Some(77),
    });
    assert_eq!(client.request(&batch)?.body, ReceivedBody::Void);
    let rows = client.rows("SELECT writetime(v) FROM ks.t WHERE k IN (5, 6)")?.rows;
    let stamp = Some(Bytes::copy_from_slice(&77_i64.to_be_bytes()));
    assert_eq!(rows, vec![vec![stamp.clone()], vec![stamp]]);
    Ok(())
}
