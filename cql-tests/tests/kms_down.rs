//! A server starts while its KMS is down: everything that needs no KMS is served as soon as otherwise.

use std::time::Duration;

use cql_tests::{
    Client, KeyScript, KmsService, ProxiedKms, Result, Server, Wire,
    poll::{timed, until},
    with_key,
};

/// From the launch to the first answer of each table that needs no KMS.
fn start(server: &mut Server, tables: usize) -> Result<Duration> {
    let ((), took) = timed(|| {
        server.restart()?;
        let mut client = Client::connect(server.address())?;
        for table in 0..tables {
            let rows = client.rows(&format!("SELECT v FROM ks.owned{table}"))?;
            assert_eq!(rows.rows.len(), 20, "table {table}");
        }
        Ok(())
    })?;
    Ok(took)
}

#[test]
fn other_tables_are_served_within_a_second_of_a_start_with_the_kms_up() -> Result<()> {
    let mut kms = ProxiedKms::of(KmsService::start::<&str>(&[], &[])?)?;
    let script = KeyScript::new()?;
    let arn = kms.create_key()?;
    let mut server = kms.server(&script, "127.0.0.1")?.start()?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    let owned: usize = 20;
    let customers = 10;
    for table in 0..owned + customers {
        let (name, key) = match table.checked_sub(owned) {
            None => (format!("owned{table}"), String::new()),
            Some(number) => (format!("customers{number}"), with_key(&arn)),
        };
        client.execute(&format!("CREATE TABLE ks.{name} (k int PRIMARY KEY, v text) {key}"))?;
        for row in 0..20 {
            client.execute(&format!("INSERT INTO ks.{name} (k, v) VALUES ({row}, 'x')"))?;
        }
    }
    server.kill()?;
    let with_kms = start(&mut server, owned)?;
    server.kill()?;
    kms.proxy.set(Wire::Refuse)?;
    let without = start(&mut server, owned)?;
    assert!(without < with_kms + Duration::from_secs(1), "{without:?}, but {with_kms:?} with it");

    let mut client = Client::connect(server.address())?;
    for table in 0..customers {
        let name = format!("ks.customers{table}");
        let (code, text) = client.error(&format!("SELECT v FROM {name}"))?;
        assert!(
            code == 0x1001 && text.contains(&arn) && text.contains(&name),
            "0x{code:04X} {text}"
        );
    }
    kms.proxy.set(Wire::Pass)?;
    until(Duration::from_secs(60), "the rest is served", || {
        for table in 0..customers {
            let name = format!("ks.customers{table}");
            match client.query(&format!("SELECT v FROM {name}"))? {
                cql_protocol::ReceivedBody::Rows(rows) => assert_eq!(rows.rows.len(), 20),
                other => return Ok(Err(format!("{name}: {other:?}"))),
            }
        }
        Ok(Ok(()))
    })
}
