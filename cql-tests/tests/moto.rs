//! Interoperation: a server under keys of moto's KMS, for what moto does as AWS does: make a table, write, read,
//! swap, restart. What moto gets wrong (key states, grants, permissions) is tested with our own.

use cql_tests::{Client, KeyScript, KmsService, ProxiedKms, Result, WITH_OWNED_KEY, with_key};

#[test]
fn a_table_lives_under_the_keys_of_moto() -> Result<()> {
    let mut kms = ProxiedKms::of(KmsService::moto()?)?;
    let (a, b) = (kms.create_key()?, kms.create_key()?);
    let script = KeyScript::new()?;
    let mut server = kms.server(&script, "127.0.0.1")?.start()?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&a)))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'under a')")?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&b)))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (2, 'under b')")?;
    server.kill()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(client.rows("SELECT v FROM ks.t")?.rows.len(), 2);
    client.execute(&format!("ALTER TABLE ks.t {WITH_OWNED_KEY}"))?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&a)))?;
    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(client.rows("SELECT v FROM ks.t")?.rows.len(), 2);
    client.execute("DROP TABLE ks.t")?;

    let calls = kms.proxy.calls();
    let asked = |operation: &str| calls.iter().filter(|call| call.operation == operation).count();
    assert_eq!((asked("GenerateDataKey"), asked("CreateGrant")), (3, 6));
    for call in &calls {
        let header = |name: &str| call.headers.iter().find(|(other, _)| other == name);
        let agent = header("user-agent").map(|(_, value)| value.to_lowercase());
        assert!(agent.is_some_and(|agent| agent.contains("coffer")), "{:?}", call.headers);
        assert!(
            header("authorization").is_some_and(|(_, value)| value.contains("/kms/aws4_request"))
        );
        let context = &call.request["EncryptionContext"];
        if ["GenerateDataKey", "Decrypt"].contains(&call.operation.as_str()) {
            assert_eq!(context["aws:cassandra:tableName"], "t", "{call:?}");
            // the account of the server, whoever owns the key
            assert_eq!(context["aws:cassandra:subscriberId"], "000000000000");
            assert!(call.request["KeyId"].is_string(), "the key is named");
        }
    }
    Ok(())
}
