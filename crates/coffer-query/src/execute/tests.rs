//! CQL scripts through the database, on a real engine: each statement with the rows, the metadata
//! or the error that Apache Cassandra 5 answers.

use std::fmt::Write;
use std::sync::Arc;

use coffer_crypto::RootKey;
use coffer_crypto::clock::{Clock, SystemClock};
use coffer_keys::{EmbeddedKms, EmbeddedKmsOptions, Keyring, KeyringOptions};
use coffer_storage::vfs::OsVfs;
use coffer_storage::{Engine, EngineOptions};
use cql_types::{BoundValue, collection, to_literal};

use crate::database::{
    BatchItem, BatchKind, BatchRequest, Database, DatabaseOptions, Outcome, OutcomeKind,
    QueryParameters, Session, Step,
};
use crate::error::{Error, Result};
use crate::prepare::Prepared;

struct Fixture {
    database: Database,
    session: Session,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let root = RootKey::generate().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let kms = EmbeddedKms::open(
            &directory.path().join("kms"),
            &EmbeddedKmsOptions::default(),
            Arc::clone(&clock),
        )
        .unwrap();
        let kms: Arc<dyn coffer_keys::KmsProvider> = kms;
        let keyring =
            Keyring::new(kms, root.duplicate(), Arc::clone(&clock), KeyringOptions::default());
        let engine = Engine::open(
            directory.path(),
            EngineOptions::default(),
            Arc::<Keyring>::clone(&keyring),
            Arc::new(root),
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
        let database = Database::open(Arc::new(engine), keyring, clock, options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut fixture =
            Fixture { database, session: Session::default(), runtime, _directory: directory };
        fixture
            .run("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
            .unwrap();
        fixture.run("USE k").unwrap();
        fixture
    }

    fn run(&mut self, cql: &str) -> Result<Outcome> {
        let prepared = self.database.parse_and_prepare(cql, &self.session)?;
        self.execute(&prepared, &QueryParameters::default())
    }

    fn execute(
        &mut self,
        prepared: &Prepared,
        parameters: &QueryParameters<'_>,
    ) -> Result<Outcome> {
        loop {
            let step = self.database.execute(prepared, parameters, &mut self.session)?;
            if let Some(outcome) = self.finish(step)? {
                return Ok(outcome);
            }
        }
    }

    /// Does what a step asks for; `None` to execute again.
    fn finish(&mut self, step: Step) -> Result<Option<Outcome>> {
        match step {
            Step::Done(outcome) => Ok(Some(outcome)),
            Step::Commit { lsn, outcome } => {
                self.database.engine().wait_committed(lsn).unwrap();
                Ok(Some(outcome))
            }
            Step::NeedsTable(table) => {
                self.runtime.block_on(self.database.load_table_key(table))?;
                self.database.open_table(table)?;
                Ok(None)
            }
            Step::NeedsAuthorization { table, principal } => {
                self.runtime.block_on(self.database.authorize(table, &principal))?;
                Ok(None)
            }
            Step::WaitForRoom => Err(Error::Overloaded("no room".to_owned())),
            Step::Continue(mut execution) => loop {
                if let Some(outcome) = execution.step(&self.database, 100)? {
                    return Ok(Some(outcome));
                }
            },
            Step::SchemaChange(plan) => {
                self.runtime.block_on(self.database.execute_schema_change(*plan)).map(Some)
            }
        }
    }

    /// The answer as lines: column names, then rows as literals; or the error.
    fn answer(&mut self, cql: &str) -> String {
        match self.run(cql) {
            Ok(outcome) => show(&outcome),
            Err(error) => format!("{error}\n"),
        }
    }
}

fn show(outcome: &Outcome) -> String {
    let OutcomeKind::Rows(rows) = &outcome.kind else { return String::new() };
    let columns = &rows.metadata.columns;
    let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    let mut text = format!("{}\n", names.join(" | "));
    let cells: Vec<_> = collection::fields(&rows.content).map(Result::unwrap).collect();
    assert_eq!(cells.len(), columns.len() * rows.count as usize, "cells of {text}");
    for row in cells.chunks(columns.len()) {
        let shown: Vec<String> = row
            .iter()
            .zip(columns)
            .map(|(cell, column)| match cell {
                Some(bytes) => to_literal(&column.ty, bytes).unwrap(),
                None => "null".to_owned(),
            })
            .collect();
        writeln!(text, "{}", shown.join(" | ")).unwrap();
    }
    text
}

/// Runs a script of `> statement` lines, each followed by the expected answer.
fn check_script(script: &str) {
    let mut fixture = Fixture::new();
    let mut actual = String::new();
    for line in script.lines() {
        if let Some(statement) = line.strip_prefix("> ") {
            writeln!(actual, "> {statement}").unwrap();
            actual.push_str(&fixture.answer(statement));
        }
    }
    if std::env::var_os("COFFER_SHOW_ANSWERS").is_some() {
        std::fs::write(std::env::temp_dir().join("coffer-query-answers.txt"), &actual).unwrap();
    }
    for (expected, actual) in script.lines().zip(actual.lines()) {
        assert_eq!(expected, actual);
    }
    assert_eq!(script.lines().count(), actual.lines().count());
}

#[test]
fn statements_answer_as_cassandra_does() {
    check_script(include_str!("tests/statements.txt"));
}

#[test]
fn wrong_statements_get_cassandras_errors() {
    check_script(include_str!("tests/wrong_statements.txt"));
}

fn int(value: i32) -> BoundValue {
    BoundValue::Value(value.to_be_bytes().to_vec().into())
}

#[test]
fn pages_give_every_row_once_in_both_directions_and_over_partitions() {
    let mut fixture = Fixture::new();
    fixture.run("CREATE TABLE t (p int, c int, s int static, PRIMARY KEY (p, c))").unwrap();
    let insert = "INSERT INTO t (p, c, s) VALUES (?, ?, 1)";
    let prepared = fixture.database.parse_and_prepare(insert, &fixture.session).unwrap();
    for p in 0..7 {
        for c in 0..p * 3 {
            let values = [int(p), int(c)];
            let parameters = QueryParameters { values: &values, ..Default::default() };
            fixture.execute(&prepared, &parameters).unwrap();
        }
    }
    fixture.run("INSERT INTO t (p, s) VALUES (77, 5)").unwrap();
    for (cql, expected) in [
        ("SELECT p, c FROM t", 64),
        ("SELECT p, c FROM t WHERE p IN (1, 2, 3, 6, 77)", 37),
        ("SELECT p, c FROM t WHERE p = 6 ORDER BY c DESC", 18),
        ("SELECT p, c FROM t PER PARTITION LIMIT 4", 24),
        ("SELECT p, c FROM t LIMIT 10", 10),
        ("SELECT DISTINCT p FROM t", 7),
    ] {
        let whole = show(&fixture.run(cql).unwrap());
        let select = fixture.database.parse_and_prepare(cql, &fixture.session).unwrap();
        let (mut paged, mut state, mut rows) = (String::new(), None, 0);
        loop {
            let parameters = QueryParameters {
                page_size: Some(3),
                paging_state: state.as_deref(),
                ..Default::default()
            };
            let outcome = fixture.execute(&select, &parameters).unwrap();
            let shown = show(&outcome);
            let skipped = if paged.is_empty() { 0 } else { shown.find('\n').unwrap() + 1 };
            paged.push_str(&shown[skipped..]);
            let OutcomeKind::Rows(page) = outcome.kind else { panic!("no rows: {cql}") };
            assert!(page.count <= 3, "{cql}");
            rows += page.count;
            state = page.paging_state;
            if state.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole, "{cql}");
        assert_eq!(rows, expected, "{cql}");
    }
}

#[test]
fn forged_paging_state_is_a_protocol_error() {
    let mut fixture = Fixture::new();
    fixture.run("CREATE TABLE t (p int PRIMARY KEY)").unwrap();
    let select = fixture.database.parse_and_prepare("SELECT * FROM t", &fixture.session).unwrap();
    for state in [&b""[..], b"x", &[1; 16], &[0xff; 400]] {
        let parameters =
            QueryParameters { page_size: Some(1), paging_state: Some(state), ..Default::default() };
        let error = fixture.execute(&select, &parameters).unwrap_err();
        assert_eq!(error, Error::Protocol("Invalid value for the paging state".to_owned()));
    }
}

#[test]
fn values_by_name_unset_and_of_wrong_number() {
    let mut fixture = Fixture::new();
    fixture.run("CREATE TABLE t (p int PRIMARY KEY, v int, w int)").unwrap();
    let insert = "INSERT INTO t (p, v, w) VALUES (:p, :v, :w)";
    let prepared = fixture.database.parse_and_prepare(insert, &fixture.session).unwrap();
    assert_eq!(prepared.bind.partition_key_indexes, [0]);
    let names = ["w".to_owned(), "p".to_owned(), "v".to_owned()];
    let values = [int(3), int(1), int(2)];
    let parameters = QueryParameters { values: &values, names: Some(&names), ..Default::default() };
    fixture.execute(&prepared, &parameters).unwrap();
    let values = [int(1), BoundValue::Unset, BoundValue::Null];
    let parameters = QueryParameters { values: &values, ..Default::default() };
    fixture.execute(&prepared, &parameters).unwrap();
    assert_eq!(fixture.answer("SELECT * FROM t"), "p | v | w\n1 | 2 | null\n");
    let parameters = QueryParameters { values: &values[..2], ..Default::default() };
    let error = fixture.execute(&prepared, &parameters).unwrap_err();
    assert_eq!(error, Error::Invalid("Invalid amount of bind variables".to_owned()));
}

#[test]
fn statement_of_a_changed_table_is_unprepared_and_batches_are_whole() {
    let mut fixture = Fixture::new();
    fixture.run("CREATE TABLE t (p int PRIMARY KEY, v int)").unwrap();
    let insert = "INSERT INTO t (p, v) VALUES (?, 1)";
    let prepared = fixture.database.parse_and_prepare(insert, &fixture.session).unwrap();
    let items = [
        BatchItem { prepared: Arc::clone(&prepared), values: vec![int(1)] },
        BatchItem { prepared: Arc::clone(&prepared), values: vec![BoundValue::Null] },
    ];
    let request = |items| BatchRequest {
        kind: BatchKind::Logged,
        items,
        default_timestamp: None,
        consistency: 1,
        role: None,
    };
    let error = fixture.database.execute_batch(&request(&items[..])).unwrap_err();
    assert_eq!(error, Error::Invalid("Invalid null value in condition for column p".to_owned()));
    assert_eq!(fixture.answer("SELECT * FROM t"), "p | v\n");
    let step = fixture.database.execute_batch(&request(&items[..1])).unwrap();
    fixture.finish(step).unwrap();
    assert_eq!(fixture.answer("SELECT * FROM t"), "p | v\n1 | 1\n");
    fixture.run("ALTER TABLE t ADD w int").unwrap();
    let values = [int(5)];
    let parameters = QueryParameters { values: &values, ..Default::default() };
    let error = fixture.execute(&prepared, &parameters).unwrap_err();
    assert_eq!(error, Error::Unprepared(prepared.id));
}
