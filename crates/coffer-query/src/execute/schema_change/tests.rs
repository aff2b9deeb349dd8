//! Schema changes through the database, on a real engine and the embedded KMS.

use std::path::Path;
use std::sync::Arc;

use coffer_crypto::RootKey;
use coffer_crypto::clock::{Clock, SystemClock};
use coffer_keys::{EmbeddedKms, EmbeddedKmsOptions, Keyring, KeyringOptions, NewKey};
use coffer_storage::vfs::OsVfs;
use coffer_storage::{Engine, EngineOptions};

use super::*;
use crate::database::{DatabaseOptions, QueryParameters};
use crate::table_source::{TableSource, VirtualRow};

struct Fixture {
    database: Database,
    kms: Arc<EmbeddedKms>,
    root: RootKey,
    session: Session,
    runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

fn open(directory: &Path, root: &RootKey, kms: &Arc<EmbeddedKms>) -> Database {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let kms: Arc<dyn coffer_keys::KmsProvider> = Arc::<EmbeddedKms>::clone(kms);
    let keyring =
        Keyring::new(kms, root.duplicate(), Arc::clone(&clock), KeyringOptions::default());
    let engine = Engine::open(
        directory,
        EngineOptions::default(),
        Arc::<Keyring>::clone(&keyring),
        Arc::new(root.duplicate()),
        Arc::new(OsVfs),
        Arc::clone(&clock),
    )
    .unwrap();
    let options = DatabaseOptions {
        cluster_name: "coffer".into(),
        data_center: "datacenter1".into(),
        rack: "rack1".into(),
        listen: ([127, 0, 0, 1], 9042).into(),
        page_rows_max: 5000,
        account: "000000000000".into(),
        encryption: crate::EncryptionOptions::default(),
        schema_audit: None,
        key_health: crate::KeyHealthOptions::default(),
        notification_channels: Vec::new(),
    };
    Database::open(Arc::new(engine), keyring, clock, options).unwrap()
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let root = RootKey::generate().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let options = EmbeddedKmsOptions::default();
        let kms = EmbeddedKms::open(&directory.path().join("kms"), &options, clock).unwrap();
        let database = open(directory.path(), &root, &kms);
        Fixture { database, kms, root, session: Session::default(), runtime, directory }
    }

    fn restarted(self) -> Fixture {
        let Fixture { database, kms, root, session, runtime, directory } = self;
        database.engine().shutdown();
        drop(database);
        let database = open(directory.path(), &root, &kms);
        Fixture { database, kms, root, session, runtime, directory }
    }

    fn key(&self) -> String {
        self.kms.create_key(NewKey::default()).unwrap().arn
    }

    fn run(&mut self, cql: &str) -> Result<Outcome> {
        let statement = cql_parser::parse_statement(cql)
            .map_err(|error| Error::Syntax(error.to_string()))?
            .kind;
        match &statement {
            StatementKind::Use(name) => use_keyspace(&self.database, name, &mut self.session),
            StatementKind::Describe(describe) => crate::describe::describe(
                &self.database,
                describe,
                &QueryParameters::default(),
                &self.session,
            ),
            other => {
                let plan = SchemaChangePlan::new(other, cql, &self.session)?;
                self.runtime.block_on(self.database.execute_schema_change(plan))
            }
        }
    }

    fn ok(&mut self, cql: &str) -> Outcome {
        self.run(cql).unwrap_or_else(|error| panic!("{cql}: {error}"))
    }

    fn rows(&self, keyspace: &str, table: &str) -> Vec<VirtualRow> {
        let schema = self.database.schema();
        let TableSource::Virtual(source) = &schema.table(keyspace, table).unwrap().source else {
            panic!("{keyspace}.{table} is not computed")
        };
        source.rows(&self.database, &self.session).unwrap()
    }

    /// All texts of one DESCRIBE, one string.
    fn described(&mut self, cql: &str) -> String {
        let OutcomeKind::Rows(rows) = self.ok(cql).kind else { panic!("no rows") };
        String::from_utf8_lossy(&rows.content).into_owned()
    }
}

const SIMPLE: &str = "WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";

fn with_key(arn: &str) -> String {
    format!(
        "WITH CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
         'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}}}"
    )
}

fn class(error: &Error) -> &'static str {
    match error {
        Error::Syntax(_) => "syntax",
        Error::Configuration(_) => "configuration",
        Error::Invalid(_) | Error::KeyRefused(_) => "invalid",
        Error::Unauthorized(_) => "unauthorized",
        Error::AlreadyExists { .. } => "already exists",
        _ => "other",
    }
}

#[test]
fn statements_answer_as_cassandra_5_did() {
    let mut fixture = Fixture::new();
    let mut differences = Vec::new();
    let mut lines = include_str!("statements.txt").lines();
    while let Some(cql) = lines.next() {
        if cql == "# new session" {
            fixture.session = Session::default();
            continue;
        }
        let expected = lines.next().unwrap().trim_start().trim_start_matches("-> ");
        let found = match fixture.run(cql) {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{}: {error}", class(&error)),
        };
        if found != expected {
            differences.push(format!("{cql}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn a_schema_is_there_again_after_a_restart() {
    let mut fixture = Fixture::new();
    fixture.ok(&format!("CREATE KEYSPACE k {SIMPLE}"));
    fixture.ok("CREATE TYPE k.ty (a int, b frozen<list<text>>)");
    fixture.ok("CREATE TABLE k.t (a int, b ty, c text, d int STATIC, PRIMARY KEY (a, c)) \
                WITH CLUSTERING ORDER BY (c DESC) AND comment = 'it''s'");
    fixture.ok("ALTER TABLE k.t ADD e map<text, frozen<ty>>");
    fixture.ok("ALTER TABLE k.t DROP d");
    let before = (
        fixture.described("DESCRIBE KEYSPACE k WITH INTERNALS"),
        fixture.database.schema().version,
    );
    let mut fixture = fixture.restarted();
    let after = (
        fixture.described("DESCRIBE KEYSPACE k WITH INTERNALS"),
        fixture.database.schema().version,
    );
    assert_eq!(before, after);
}

#[test]
fn a_table_whose_key_cannot_be_used_is_not_made() {
    let mut fixture = Fixture::new();
    fixture.ok(&format!("CREATE KEYSPACE k {SIMPLE}"));
    let (disabled, pending) = (fixture.key(), fixture.key());
    fixture.kms.disable_key(&disabled).unwrap();
    fixture.kms.schedule_key_deletion(&pending, None).unwrap();
    let missing = disabled.replace("key/", "key/0");
    for (arn, word) in
        [(disabled, "is disabled"), (pending, "pending deletion"), (missing, "does not exist")]
    {
        let error =
            fixture.run(&format!("CREATE TABLE k.t (a int PRIMARY KEY) {}", with_key(&arn)));
        let error = error.unwrap_err();
        let text = error.to_string();
        assert_eq!(class(&error), "invalid", "{text}");
        assert!(text.contains(&arn) && text.contains(word) && text.contains("k.t"), "{text}");
        assert!(fixture.database.engine().catalog().tables.is_empty());
        assert!(fixture.rows("system_schema_mcs", "tables_history").is_empty());
    }
}

#[test]
fn a_key_change_shows_the_new_key_and_frees_the_old_one() {
    let mut fixture = Fixture::new();
    fixture.ok(&format!("CREATE KEYSPACE k {SIMPLE}"));
    let (first, second) = (fixture.key(), fixture.key());
    fixture.ok(&format!("CREATE TABLE k.t (a int PRIMARY KEY) {}", with_key(&first)));
    fixture.ok(&format!("ALTER TABLE k.t {}", with_key(&second)));
    fixture.kms.disable_key(&first).unwrap();
    let text = fixture.described("DESCRIBE TABLE k.t");
    assert!(text.contains(&second) && !text.contains(&first), "{text}");
    assert_eq!(fixture.rows("system_schema_mcs", "tables_history").len(), 2);
    let mut fixture = fixture.restarted();
    let id = fixture.database.schema().table("k", "t").unwrap().schema.id;
    fixture.runtime.block_on(fixture.database.load_table_key(id)).unwrap();
    fixture.database.open_table(id).unwrap();
    fixture.ok("ALTER TABLE k.t WITH CUSTOM_PROPERTIES = {'encryption_specification': \
                {'encryption_type' : 'AWS_OWNED_KMS_KEY'}, 'ttl': {'status': 'enabled'}}");
    let text = fixture.described("DESCRIBE TABLE k.t");
    assert!(text.contains("AWS_OWNED_KMS_KEY") && text.contains("'ttl'"), "{text}");
}

#[test]
fn a_failed_key_change_leaves_the_table_as_it_was() {
    let mut fixture = Fixture::new();
    fixture.ok(&format!("CREATE KEYSPACE k {SIMPLE}"));
    let (first, second) = (fixture.key(), fixture.key());
    fixture.ok(&format!("CREATE TABLE k.t (a int PRIMARY KEY) {}", with_key(&first)));
    fixture.kms.disable_key(&second).unwrap();
    let before = fixture.described("DESCRIBE TABLE k.t");
    let change = format!("ALTER TABLE k.t {} AND comment = 'changed'", with_key(&second));
    assert!(matches!(fixture.run(&change), Err(Error::KeyRefused(_))));
    assert_eq!(fixture.described("DESCRIBE TABLE k.t"), before);
}

#[test]
fn a_table_is_dropped_without_its_key() {
    let mut fixture = Fixture::new();
    fixture.ok(&format!("CREATE KEYSPACE k {SIMPLE}"));
    let arn = fixture.key();
    for table in ["t", "u"] {
        fixture.ok(&format!("CREATE TABLE k.{table} (a int PRIMARY KEY) {}", with_key(&arn)));
    }
    fixture.kms.disable_key(&arn).unwrap();
    let mut fixture = fixture.restarted();
    fixture.ok("DROP TABLE k.t");
    let event = fixture.ok("DROP KEYSPACE k");
    assert!(matches!(event.kind, OutcomeKind::SchemaChange(event) if event.change == "DROPPED"));
    assert!(fixture.database.engine().catalog().tables.is_empty());
    assert_eq!(fixture.rows("system_schema_mcs", "tables_history").len(), 4);
}

#[test]
fn the_example_of_the_documentation_reads_back() {
    let mut fixture = Fixture::new();
    fixture.ok("CREATE KEYSPACE my_keyspace WITH REPLICATION = {'class': 'SingleRegionStrategy'} \
                and TAGS = {'key1':'val1', 'key2':'val2'}");
    let arn = "arn:aws:kms:eu-west-1:5555555555555:key/11111111-1111-111-1111-111111111111";
    fixture.kms.create_key(NewKey { arn: Some(arn.into()), ..NewKey::default() }).unwrap();
    let outcome = fixture.ok(&format!(
        "CREATE TABLE IF NOT EXISTS my_keyspace.my_table (id text, name text, region text, \
         division text, pay_scale int, vacation_hrs float, PRIMARY KEY (id,division)) \
         WITH CUSTOM_PROPERTIES={{'capacity_mode':{{'throughput_mode':'PROVISIONED', \
         'read_capacity_units':10,'write_capacity_units':20}}, \
         'point_in_time_recovery':{{'status':'enabled'}}, \
         'encryption_specification':{{'encryption_type':'CUSTOMER_MANAGED_KMS_KEY', \
         'kms_key_identifier':'{arn}'}}}} \
         AND CLUSTERING ORDER BY (division ASC) AND TAGS={{'key1':'val1', 'key2':'val2'}} \
         AND default_time_to_live = 3024000"
    ));
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    let text = fixture.described("DESCRIBE TABLE my_keyspace.my_table");
    for part in
        [arn, "'read_capacity_units': '10'", "default_time_to_live = 3024000", "TAGS = {'key1'"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(fixture.rows("system_schema_mcs", "tags").len(), 2);
    let again = text.split("CREATE TABLE").nth(1).unwrap().trim_end_matches(|last| last != ';');
    fixture.ok("DROP TABLE my_keyspace.my_table");
    fixture.ok(&format!("CREATE TABLE{again}"));
    assert_eq!(fixture.described("DESCRIBE TABLE my_keyspace.my_table"), text);
}

#[test]
fn what_was_enabled_for_good_stays_enabled() {
    let mut fixture = Fixture::new();
    fixture.ok(&format!("CREATE KEYSPACE k {SIMPLE}"));
    fixture.ok("CREATE TABLE k.t (a int PRIMARY KEY)");
    for name in ["ttl", "client_side_timestamps"] {
        let set = |status| {
            format!(
                "ALTER TABLE k.t WITH custom_properties = {{'{name}': {{'status': '{status}'}}}}"
            )
        };
        fixture.ok(&set("enabled"));
        assert!(matches!(fixture.run(&set("disabled")), Err(Error::Invalid(_))));
    }
}

#[test]
fn every_system_row_fits_its_table() {
    let mut fixture = Fixture::new();
    fixture.ok("CREATE KEYSPACE k WITH replication = \
                {'class': 'NetworkTopologyStrategy', 'us-east-1': 3, 'eu-west-1': 3} AND tags = {'a': 'b'}");
    fixture.ok("CREATE TYPE k.ty (a int)");
    fixture.ok("CREATE TABLE k.t (a int PRIMARY KEY, b ty, c text)");
    fixture.ok("ALTER TABLE k.t DROP c");
    let schema = fixture.database.schema();
    for keyspace in schema.keyspaces.values().filter(|keyspace| keyspace.is_system) {
        for (name, table) in &keyspace.tables {
            for row in fixture.rows(&keyspace.schema.name, name) {
                assert_eq!(row.len(), table.schema.columns.len(), "{name}");
                for (column, cell) in table.schema.columns.iter().zip(&row) {
                    match cell {
                        Some(bytes) => cql_types::validate(&column.ty, bytes)
                            .unwrap_or_else(|error| panic!("{name}.{}: {error}", column.name)),
                        None => assert!(!column.kind.is_primary_key(), "{name}.{}", column.name),
                    }
                }
            }
        }
    }
}
