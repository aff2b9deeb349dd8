//! `--metrics-listen` as a scraper sees it.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use cql_tests::{Client, Result, Server, ServerBuilder, exchange};

/// A server with metrics at a port that was free a moment ago.
fn serve() -> Result<(Server, SocketAddr)> {
    let mut failure = None;
    for _ in 0..5 {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        match ServerBuilder::default()
            .arguments(&["--metrics-listen", &address.to_string()])
            .start()
        {
            Ok(server) => return Ok((server, address)),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.ok_or("no attempt")?)
}

/// Status line and body.
fn get(address: SocketAddr, request: &str) -> Result<(String, String)> {
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(exchange(address, text.as_bytes(), Duration::from_secs(30))?)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// The value of the line that begins with `name`.
fn value(body: &str, name: &str) -> Result<f64> {
    let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.ok_or_else(|| format!("no {name} in:\n{body}"))?.parse()?)
}

#[test]
fn a_scrape_gives_requests_errors_connections_tables_and_the_engine() -> Result<()> {
    let (server, address) = serve()?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute("CREATE TABLE ks.t (k int PRIMARY KEY)")?;
    for k in 0..10 {
        client.execute(&format!("INSERT INTO ks.t (k) VALUES ({k})"))?;
    }
    client.error("SELECT nothing FROM ks.t")?;
    client.error("SELEC")?;
    let (status, body) = get(address, "GET /metrics")?;
    assert!(status.contains("200"), "{status}");
    assert!(body.trim_end().ends_with("# EOF"), "{body}");
    for (name, wanted) in [
        ("coffer_cql_connections", 1.0),
        ("coffer_cql_connections_accepted_total", 1.0),
        ("coffer_cql_requests_total{kind=\"query\"}", 14.0),
        ("coffer_cql_request_seconds_count{kind=\"query\"}", 14.0),
        ("coffer_cql_request_seconds_bucket{le=\"+Inf\",kind=\"query\"}", 14.0),
        ("coffer_cql_requests_total{kind=\"execute\"}", 0.0),
        ("coffer_cql_errors_total{code=\"0x2200\"}", 1.0),
        ("coffer_cql_errors_total{code=\"0x2000\"}", 1.0),
        ("coffer_table_segments{keyspace=\"ks\",table=\"t\"}", 0.0),
    ] {
        let found = value(&body, name)?;
        assert!((found - wanted).abs() < f64::EPSILON, "{name} is {found}, {wanted} was wanted");
    }
    assert!(value(&body, "coffer_cql_request_seconds_sum{kind=\"query\"}")? > 0.0);
    assert!(value(&body, "coffer_engine_log_syncs_total")? >= 10.0);
    assert!(value(&body, "coffer_engine_memtable_bytes")? > 0.0);
    assert!(value(&body, "coffer_table_memtable_bytes{keyspace=\"ks\",table=\"t\"}")? > 0.0);
    assert!(value(&body, "coffer_table_key_age_seconds{keyspace=\"ks\",table=\"t\"}")? < 600.0);

    drop(client);
    let (_, body) = get(address, "GET /metrics")?;
    assert!(value(&body, "coffer_cql_connections_accepted_total")? >= 1.0);
    Ok(())
}

#[test]
fn nothing_else_is_served_there() -> Result<()> {
    let (server, address) = serve()?;
    assert!(get(address, "GET /")?.0.contains("404"));
    assert!(get(address, "GET /metrics/x")?.0.contains("404"));
    assert!(get(address, "POST /metrics")?.0.contains("405"));
    let long = format!("GET /metrics?{}", "x".repeat(64 << 10));
    let refused = get(address, &long).map_or(true, |(status, _)| !status.contains("200"));
    assert!(refused, "a header without end was read");
    assert_eq!(
        Client::connect(server.address())?.rows("SELECT key FROM system.local")?.rows.len(),
        1
    );
    Ok(())
}
