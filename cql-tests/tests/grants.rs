//! The two grants of each table under a KMS key: made at CREATE, retired at DROP and 42 days later, never
//! doubled by a crash, and enough: who takes one away locks that table out, and no other.

use std::{collections::BTreeSet, time::Duration};

use cql_protocol::ReceivedBody;
use cql_tests::{
    Boto, Client, KeyScript, Result, Server, WITH_OWNED_KEY, free_address, key_status::status,
    poll::until, with_key,
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
const DAY: i64 = 86_400;
const DATA_OPERATIONS: [&str; 7] = [
    "Decrypt",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "ReEncryptFrom",
    "ReEncryptTo",
    "RetireGrant",
];
const CONTROL: &str = "arn:aws:iam::000000000000:role/coffer";
const DATA: &str = "arn:aws:iam::000000000000:role/coffer-data";
const ROOT: &str = "arn:aws:iam::000000000000:root";

/// A server whose embedded KMS has an endpoint, and that KMS's administrator.
struct World {
    script: KeyScript,
    server: Server,
    boto: Boto,
    endpoint: String,
}

impl World {
    fn start() -> Result<Self> {
        let script = KeyScript::new()?;
        let address = free_address()?.to_string();
        let server = script.server().arguments(&["--kms-listen", &address]).start()?;
        let endpoint = format!("http://{address}");
        let credentials = server.directory().join("kms/credentials");
        let boto = Boto::start(&endpoint, "us-east-1", &credentials, "default", None)?;
        Client::connect(server.address())?
            .execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
        Ok(Self { script, server, boto, endpoint })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.server.address())
    }

    /// A client of the KMS with a new user's rights, and the user's ARN.
    fn user(&self, name: &str) -> Result<(String, Boto)> {
        let section = self.server.kms(&["create-user", name])?;
        let file = self.script.folder().join(name);
        std::fs::write(&file, &section)?;
        let mut words = section.split_whitespace().map(|word| word.trim_matches(','));
        let arn = words.find(|word| word.starts_with("arn:")).ok_or("no ARN")?;
        let boto = Boto::start(&self.endpoint, "us-east-1", &file, name, None)?;
        Ok((arn.to_owned(), boto))
    }

    fn ids(&mut self, key: &str) -> Result<BTreeSet<String>> {
        let grants = self.boto.grants(key)?;
        Ok(grants.iter().filter_map(|grant| grant["GrantId"].as_str()).map(str::to_owned).collect())
    }

    /// Waits until the key has so many grants.
    fn wait_for(&mut self, key: &str, count: usize, when: &str) -> Result<()> {
        until(SOON, &format!("{count} grants {when}"), || {
            let ids = self.ids(key)?;
            Ok(if ids.len() == count { Ok(()) } else { Err(format!("{ids:?}")) })
        })
    }
}

fn create(name: &str, key: &str) -> String {
    format!("CREATE TABLE ks.{name} (k int PRIMARY KEY, v text) {}", with_key(key))
}

/// Reads until the table is refused for good.
fn locked_out(client: &mut Client, table: &str) -> Result<String> {
    until(SOON, &format!("{table} is locked out"), || {
        Ok(match client.query(&format!("SELECT v FROM ks.{table} WHERE k = 1"))? {
            ReceivedBody::Error(error) if error.detail.code() == 0x2200 => Ok(error.message),
            other => Err(format!("{other:?}")),
        })
    })
}

#[test]
fn each_table_has_two_grants_that_serve_it_alone_and_are_seen_in_cql() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let mut client = world.client()?;
    for table in ["a", "b", "c"] {
        client.execute(&create(table, &key))?;
    }
    let grants = world.boto.grants(&key)?;
    assert_eq!(grants.len(), 6, "{grants:#?}");
    let shown: BTreeSet<String> = ["a", "b", "c"]
        .into_iter()
        .flat_map(|table| ["data_grant", "snapshot_grant"].map(|column| (table, column)))
        .map(|(table, column)| status(&mut client, table, column))
        .collect::<Result<_>>()?;
    assert_eq!(shown, world.ids(&key)?, "ids in system_coffer.key_status");
    for table in ["a", "b", "c"] {
        let data = status(&mut client, table, "data_grant")?;
        let grant = grants.iter().find(|grant| grant["GrantId"] == json!(data));
        let grant = grant.ok_or("no data grant")?;
        let context = json!({
            "aws:cassandra:keyspaceName": "ks",
            "aws:cassandra:tableName": table,
            "aws:cassandra:subscriberId": "000000000000",
        });
        assert_eq!(grant["Constraints"]["EncryptionContextSubset"], context);
        assert_eq!(grant["GranteePrincipal"], json!(DATA));
        assert_eq!(grant["RetiringPrincipal"], json!(CONTROL));
        let operations: BTreeSet<&str> = grant["Operations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(operations, BTreeSet::from(DATA_OPERATIONS));
    }
    Ok(())
}

#[test]
fn the_first_grant_goes_with_the_table_and_the_second_42_days_later() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let mut client = world.client()?;
    client.execute(&create("t", &key))?;
    let snapshot = status(&mut client, "t", "snapshot_grant")?;
    assert_eq!(world.ids(&key)?.len(), 2);
    client.execute("DROP TABLE ks.t")?;
    world.wait_for(&key, 1, "after DROP")?;
    assert_eq!(world.ids(&key)?, BTreeSet::from([snapshot]), "the snapshot grant is left");

    // A table made and dropped meanwhile shows when the background has looked at what is due.
    let other = world.server.kms(&["create-key"])?;
    world.script.set_clock(41 * DAY)?;
    client.execute(&create("other", &other))?;
    client.execute("DROP TABLE ks.other")?;
    world.wait_for(&other, 1, "after another DROP")?;
    assert_eq!(world.ids(&key)?.len(), 1, "day 41");
    world.script.set_clock(43 * DAY)?;
    world.wait_for(&key, 0, "on day 43")?;
    Ok(())
}

#[test]
fn a_table_that_leaves_a_key_takes_its_grants_with_it() -> Result<()> {
    let mut world = World::start()?;
    let (a, b) = (world.server.kms(&["create-key"])?, world.server.kms(&["create-key"])?);
    let mut client = world.client()?;
    client.execute(&create("t", &a))?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&b)))?;
    world.wait_for(&b, 2, "on the key it came to")?;
    world.wait_for(&a, 1, "on the key it left")?;
    // The same key again changes nothing.
    let before = world.ids(&b)?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&b)))?;
    assert_eq!(world.ids(&b)?, before);
    client.execute(&format!("ALTER TABLE ks.t {WITH_OWNED_KEY}"))?;
    world.wait_for(&b, 1, "after the owned key was chosen")?;
    Ok(())
}

#[test]
fn dropping_needs_no_key_and_retires_when_the_key_is_back() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let mut client = world.client()?;
    for table in ["a", "b"] {
        client.execute(&create(table, &key))?;
    }
    world.server.kms(&["disable-key", &key])?;
    world.script.set_faults(&json!([{"operation": "*", "key": "*", "fault": "throttle"}]))?;
    client.execute("DROP TABLE ks.a")?;
    client.execute("DROP KEYSPACE ks")?;
    world.script.clear_faults()?;
    // RetireGrant works on a disabled key.
    world.wait_for(&key, 2, "of four")?;
    Ok(())
}

#[test]
fn who_revokes_a_data_grant_locks_out_that_table_and_no_other() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let mut client = world.client()?;
    for table in ["a", "b"] {
        client.execute(&create(table, &key))?;
        client.execute(&format!("INSERT INTO ks.{table} (k, v) VALUES (1, 'x')"))?;
    }
    let grant = status(&mut client, "a", "data_grant")?;
    world.boto.call("RevokeGrant", json!({"KeyId": key, "GrantId": grant}))?;
    world.script.set_clock(301)?;
    let text = locked_out(&mut client, "a")?;
    assert!(text.contains("KMS key access denied error") && text.contains("kms:Decrypt"), "{text}");
    assert!(text.contains("ks.a") && text.contains(&key), "{text}");
    assert_eq!(client.rows("SELECT v FROM ks.b WHERE k = 1")?.rows.len(), 1);
    client.execute("INSERT INTO ks.b (k, v) VALUES (2, 'x')")?;
    Ok(())
}

/// The server dies between CreateGrant and the publication of the table.
#[test]
fn a_create_that_died_half_way_leaves_two_grants_after_a_retry() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let held = json!([{"operation": "GenerateDataKey", "key": key, "fault": "blackhole"}]);
    world.script.set_faults(&held)?;
    let (address, statement) = (world.server.address(), create("t", &key));
    let creating = std::thread::Builder::new().name("create".to_owned()).spawn(move || {
        // It is never answered: the server dies.
        Client::connect(address).and_then(|mut client| client.query(&statement)).is_err()
    })?;
    world.wait_for(&key, 2, "before the table's key")?;
    let half_way = world.ids(&key)?;
    world.server.kill()?;
    assert!(creating.join().map_err(|_| "the client panicked")?, "an answer of a dead server");
    world.script.clear_faults()?;
    world.server.restart()?;
    let mut client = world.client()?;
    client.execute(&create("t", &key))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'x')")?;
    assert_eq!(world.ids(&key)?, half_way, "the same grants");
    Ok(())
}

#[test]
fn a_create_that_died_half_way_and_is_not_repeated_is_cleaned_up() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    world
        .script
        .set_faults(&json!([{"operation": "GenerateDataKey", "key": key, "fault": "blackhole"}]))?;
    let (address, statement) = (world.server.address(), create("t", &key));
    let creating = std::thread::Builder::new().name("create".to_owned()).spawn(move || {
        Client::connect(address).and_then(|mut client| client.query(&statement)).is_err()
    })?;
    world.wait_for(&key, 2, "before the table's key")?;
    world.server.kill()?;
    assert!(creating.join().map_err(|_| "the client panicked")?, "an answer of a dead server");
    world.script.clear_faults()?;
    world.server.restart()?;
    // What is left half made for long is nobody's any more.
    world.script.set_clock(DAY)?;
    world.wait_for(&key, 0, "in the end")?;
    Ok(())
}

#[test]
fn at_the_limit_of_grants_a_create_is_refused_and_leaves_nothing() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let mut client = world.client()?;
    for after in [0, 1] {
        // The second time one grant is made before the limit is met.
        let mut rules = vec![json!({"operation": "CreateGrant", "key": key, "fault": "error",
            "error": "LimitExceededException"})];
        if after == 1 {
            rules.insert(
                0,
                json!({"operation": "CreateGrant", "key": key, "fault": "delay", "millis": 1, "count": 1}),
            );
        }
        world.script.set_faults(&Value::Array(rules))?;
        let (code, text) = client.error(&create("t", &key))?;
        assert_eq!(code, 0x2200, "{text}");
        assert!(text.contains("ks.t") && text.contains(&key), "{text}");
        assert!(text.contains("LimitExceededException"), "{text}");
        let rows = client.rows("SELECT * FROM system_schema.tables WHERE keyspace_name = 'ks'")?;
        assert_eq!(rows.rows.len(), 0, "a refused table is there");
        world.script.clear_faults()?;
        world.wait_for(&key, 0, "after the refusal")?;
    }
    client.execute(&create("t", &key))?;
    Ok(())
}

/// A policy under which the account's administrator manages the key, and `principals` may do `actions`.
fn policy(principals: &[&str], actions: &[&str], condition: Option<Value>) -> String {
    let mut uses = json!({"Effect": "Allow", "Principal": {"AWS": principals}, "Action": actions,
        "Resource": "*"});
    if let (Some(condition), Some(fields)) = (condition, uses.as_object_mut()) {
        fields.insert("Condition".to_owned(), condition);
    }
    let administers = json!({"Effect": "Allow", "Principal": {"AWS": ROOT}, "Resource": "*",
        "Action": ["kms:PutKeyPolicy", "kms:GetKeyPolicy", "kms:ListGrants", "kms:RevokeGrant",
            "kms:EnableKey", "kms:DisableKey"]});
    json!({"Version": "2012-10-17", "Statement": [administers, uses]}).to_string()
}

/// KC-6: what the documentation names is enough; what Coffer needs of it is missed by name.
#[test]
fn the_documented_permissions_are_enough_and_each_that_is_needed_is_missed_by_name() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let all = [
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:ReEncrypt*",
        "kms:GenerateDataKey*",
        "kms:DescribeKey",
        "kms:CreateGrant",
    ];
    let mut client = world.client()?;
    let put = |boto: &mut Boto, actions: &[&str]| {
        let policy = policy(&[CONTROL], actions, None);
        boto.call("PutKeyPolicy", json!({"KeyId": key, "PolicyName": "default", "Policy": policy}))
    };
    for dropped in ["kms:DescribeKey", "kms:CreateGrant"] {
        let rest: Vec<&str> = all.into_iter().filter(|action| *action != dropped).collect();
        put(&mut world.boto, &rest)?;
        let (code, text) = client.error(&create("t", &key))?;
        assert_eq!(code, 0x2200, "{text}");
        assert!(text.contains(dropped) && text.contains(&key) && text.contains("ks.t"), "{text}");
        world.wait_for(&key, 0, "of a refused table")?;
    }
    // The data role uses the key by its grant, which the control role makes: it needs nothing of the policy.
    for enough in [&all[..], &["kms:DescribeKey", "kms:CreateGrant"][..]] {
        put(&mut world.boto, enough)?;
        client.execute(&create("t", &key))?;
        client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'x')")?;
        world.server.stop()?;
        world.server.restart()?;
        client = world.client()?;
        assert_eq!(client.rows("SELECT v FROM ks.t WHERE k = 1")?.rows.len(), 1);
        client.execute("DROP TABLE ks.t")?;
        until(SOON, "the data grant is retired", || {
            let grants = world.boto.grants(&key)?.into_iter();
            let left = grants.filter(|grant| grant["GranteePrincipal"] == json!(DATA)).count();
            Ok(if left == 0 { Ok(()) } else { Err(format!("{left} grants")) })
        })?;
    }
    Ok(())
}

/// KC-8: the documented Keyspaces policy lets principals use the key through the database, and not directly.
#[test]
fn under_the_documented_policy_a_key_is_used_through_the_database_only() -> Result<()> {
    let mut world = World::start()?;
    let key = world.server.kms(&["create-key"])?;
    let (user, mut direct) = world.user("app")?;
    let actions = [
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:ReEncrypt*",
        "kms:GenerateDataKey*",
        "kms:DescribeKey",
        "kms:CreateGrant",
    ];
    let principals = [CONTROL, DATA, user.as_str()];
    let via = json!({"StringLike": {"kms:ViaService": "cassandra.*.amazonaws.com"}});
    let put = |boto: &mut Boto, condition: Option<Value>| {
        let policy = policy(&principals, &actions, condition);
        boto.call("PutKeyPolicy", json!({"KeyId": key, "PolicyName": "default", "Policy": policy}))
    };
    put(&mut world.boto, Some(via))?;
    let mut client = world.client()?;
    client.execute(&create("t", &key))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'x')")?;
    let request = json!({"KeyId": key, "KeySpec": "AES_256"});
    let refused = direct.attempt("GenerateDataKey", request.clone())?;
    assert_eq!(refused.map_err(|refused| refused.code), Err("AccessDeniedException".to_owned()));
    world.script.set_clock(301)?;
    assert_eq!(client.rows("SELECT v FROM ks.t WHERE k = 1")?.rows.len(), 1);
    // Without the condition the same principal may: the refusal was the condition's.
    put(&mut world.boto, None)?;
    let blob = direct.call("GenerateDataKey", request)?["CiphertextBlob"].clone();
    direct.call("Decrypt", json!({"CiphertextBlob": blob}))?;
    Ok(())
}
