//! The change of a table's key beside everything else that goes on, and what is there after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coffer_crypto::RootKey;
use coffer_crypto::clock::{Clock, ManualClock, SystemClock};
use coffer_keys::{
    CreateGrantRequest, CreatedGrant, DecryptRequest, DecryptedKey, EmbeddedKms,
    EmbeddedKmsOptions, GenerateDataKeyRequest, GeneratedDataKey, GrantKind, HookedKms,
    KeyMetadata, Keyring, KeyringOptions, KmsCalls, KmsError, KmsFuture, KmsHook, KmsOperation,
    KmsProvider, NewKey, ReEncryptRequest, ReEncrypted,
};
use coffer_storage::vfs::{CrashLoss, Fault, FaultVfs, OsVfs, Vfs};
use coffer_storage::{Engine, EngineOptions};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::database::{DatabaseOptions, QueryParameters, Step};

const MAX_AGE: i64 = 300_000;
const PATIENCE_MILLIS: i64 = 60_000;

/// Holds or fails the calls of one operation.
struct Gate {
    held: Mutex<Option<KmsOperation>>,
    waiting: AtomicUsize,
    passes: Semaphore,
    failure: Mutex<Option<(KmsOperation, &'static str)>>,
    delay_millis: AtomicUsize,
}

impl KmsHook for Gate {
    fn before<'a>(&'a self, operation: KmsOperation, key: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(async move {
            let delay = self.delay_millis.load(Ordering::SeqCst) as u64;
            if delay > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            let is_held = *self.held.lock() == Some(operation);
            if is_held {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.passes.acquire().await.expect("never closed").forget();
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            match *self.failure.lock() {
                Some((failing, name)) if failing == operation => {
                    Err(KmsError::new(operation, name, format!("{key} fails")))
                }
                _ => Ok(()),
            }
        })
    }
}

impl Gate {
    fn hold(&self, operation: KmsOperation) {
        *self.held.lock() = Some(operation);
    }

    fn let_through(&self) {
        *self.held.lock() = None;
        self.passes.add_permits(self.waiting.load(Ordering::SeqCst));
    }

    fn fail(&self, failure: Option<(KmsOperation, &'static str)>) {
        *self.failure.lock() = failure;
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = SystemClock.monotonic_millis();
    while !condition() {
        let waited = SystemClock.monotonic_millis() - start;
        assert!(waited < PATIENCE_MILLIS, "never came: {what}");
        std::thread::yield_now();
    }
}

/// Id, kind and constraint.
type Grant = (String, GrantKind, Vec<(String, String)>);

/// The grants of a KMS: by name, and which are left.
#[derive(Default)]
struct Grants {
    by_name: Mutex<BTreeMap<String, Grant>>,
    left: Mutex<BTreeSet<String>>,
}

/// An embedded KMS that keeps grants.
struct GrantingKms {
    kms: Arc<EmbeddedKms>,
    grants: Arc<Grants>,
}

struct House {
    directory: tempfile::TempDir,
    root: RootKey,
    clock: Arc<ManualClock>,
    kms: Arc<EmbeddedKms>,
    gate: Arc<Gate>,
    keyring: KeyringOptions,
    vfs: Arc<dyn Vfs>,
    grants: Arc<Grants>,
    encryption: crate::EncryptionOptions,
    health: crate::KeyHealthOptions,
    audit: Arc<Events>,
}

impl KmsProvider for GrantingKms {
    fn identity<'a>(&'a self, key: &'a str) -> KmsFuture<'a, String> {
        self.kms.identity(key)
    }

    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        self.kms.describe_key(key)
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        Box::pin(async move {
            let created = self.kms.create_grant(request).await?;
            let mut grants = self.grants.by_name.lock();
            let id = created.grant_id.clone();
            let context: Vec<_> = request.context.clone().into_iter().collect();
            let grant = grants
                .entry(request.name.to_owned())
                .or_insert_with(|| (id, request.kind, context.clone()));
            assert_eq!(grant.2, context, "the same name for another constraint");
            self.grants.left.lock().insert(grant.0.clone());
            Ok(created)
        })
    }

    fn retire_grant<'a>(&'a self, key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(async move {
            if self.grants.left.lock().remove(grant_id) {
                return self.kms.retire_grant(key, grant_id).await;
            }
            let operation = KmsOperation::RetireGrant;
            Err(KmsError::new(operation, "NotFoundException", format!("{key} {grant_id}")))
        })
    }

    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        assert_eq!(request.grant_tokens.len() % 2, 0, "of both grants, or of none at a renewal");
        self.kms.generate_data_key(request)
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        self.kms.decrypt(request)
    }

    fn decrypt_as_control<'a>(
        &'a self,
        request: DecryptRequest<'a>,
    ) -> KmsFuture<'a, DecryptedKey> {
        self.kms.decrypt_as_control(request)
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        self.kms.re_encrypt(request)
    }
}

/// Keeps the events of schema statements.
#[derive(Debug, Default)]
struct Events(Mutex<Vec<SchemaAuditEvent>>, AtomicBool);

impl Events {
    /// From now on what is told is not kept, or is again.
    fn refuse(&self, refuses: bool) {
        self.1.store(refuses, Ordering::SeqCst);
    }
}

impl crate::SchemaAudit for Events {
    fn record(&self, event: &SchemaAuditEvent) -> bool {
        let is_kept = !self.1.load(Ordering::SeqCst);
        if is_kept {
            self.0.lock().push(event.clone());
        }
        is_kept
    }
}

/// A database with the runtime its KMS calls run on.
struct Running {
    database: Database,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn new() -> House {
        House::on(Arc::new(OsVfs))
    }

    fn on(vfs: Arc<dyn Vfs>) -> House {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(1_700_000_000_000);
        let options = EmbeddedKmsOptions::default();
        let kms = EmbeddedKms::open(&directory.path().join("kms"), &options, clock.clone());
        House {
            directory,
            root: RootKey::generate().unwrap(),
            clock,
            kms: kms.unwrap(),
            gate: Arc::new(Gate {
                held: Mutex::new(None),
                waiting: AtomicUsize::new(0),
                passes: Semaphore::new(0),
                failure: Mutex::new(None),
                delay_millis: AtomicUsize::new(0),
            }),
            keyring: KeyringOptions::default(),
            vfs,
            grants: Arc::default(),
            encryption: crate::EncryptionOptions::default(),
            health: crate::KeyHealthOptions::default(),
            audit: Arc::default(),
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    fn start(&self) -> Running {
        self.start_with(&self.root.duplicate().into())
    }

    fn start_with(&self, roots: &coffer_crypto::RootKeys) -> Running {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let hooked = HookedKms::new(Arc::new(GrantingKms {
            kms: self.kms.clone(),
            grants: self.grants.clone(),
        }));
        hooked.set_hook(Some(self.gate.clone()));
        let options = self.keyring.clone();
        let keyring =
            Keyring::new(Arc::new(hooked), roots.duplicate(), Arc::clone(&clock), options);
        let engine = Engine::open(
            &self.data(),
            EngineOptions { log_file_bytes: 256 * 1024, ..EngineOptions::default() },
            Arc::<Keyring>::clone(&keyring),
            roots.duplicate(),
            Arc::clone(&self.vfs),
            Arc::clone(&clock),
        );
        let options = DatabaseOptions {
            cluster_name: "coffer".into(),
            data_center: "datacenter1".into(),
            rack: "rack1".into(),
            listen: ([127, 0, 0, 1], 9042).into(),
            page_rows_max: 5000,
            account: "000000000000".into(),
            encryption: self.encryption.clone(),
            schema_audit: Some(self.audit.clone()),
            key_health: self.health.clone(),
            notification_channels: vec!["webhook".into()],
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Running {
            database: Database::open(Arc::new(engine.unwrap()), keyring, clock, options).unwrap(),
            runtime: runtime.unwrap(),
        }
    }

    /// Two tables, `k.t` under the returned key and `k.other` under an owned one.
    fn with_tables(&self) -> (Running, String) {
        let running = self.start();
        let key = self.key();
        running.ok(
            "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        );
        running.ok(&format!("CREATE TABLE k.t (a int PRIMARY KEY, b int) {}", with_key(&key)));
        running.ok("CREATE TABLE k.other (a int PRIMARY KEY, b int)");
        (running, key)
    }

    fn key(&self) -> String {
        self.kms.create_key(NewKey::default()).unwrap().arn
    }

    /// What the table's record says now, from the one catalog file there is.
    fn catalog_files(&self) -> usize {
        let files = std::fs::read_dir(self.data().join("catalog")).unwrap();
        files.count()
    }
}

fn with_key(arn: &str) -> String {
    format!(
        "WITH CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
         'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}}}"
    )
}

fn alter(arn: &str) -> String {
    format!("ALTER TABLE k.t {}", with_key(arn))
}

impl Running {
    fn run(&self, cql: &str) -> Result<Outcome> {
        let mut session = Session::default();
        for _ in 0..8 {
            let parameters = QueryParameters::default();
            let prepared = self.database.parse_and_prepare(cql, &session)?;
            let step = match self.database.execute(&prepared, &parameters, &mut session) {
                // the schema changed in between: prepare again
                Err(Error::Unprepared(_)) => continue,
                step => step?,
            };
            match step {
                Step::Done(outcome) => return Ok(outcome),
                Step::Commit { lsn, outcome } => {
                    self.database.engine().wait_committed(lsn)?;
                    return Ok(outcome);
                }
                Step::NeedsTable(table) => {
                    self.runtime.block_on(self.database.load_table_key(table))?;
                    self.database.open_table(table)?;
                }
                Step::NeedsAuthorization { table, principal } => {
                    self.runtime.block_on(self.database.authorize(table, &principal))?;
                }
                Step::WaitForRoom => return Err(Error::Overloaded("no room".into())),
                Step::Continue(mut execution) => loop {
                    if let Some(outcome) = execution.step(&self.database, 100)? {
                        return Ok(outcome);
                    }
                },
                Step::SchemaChange(plan) => {
                    let change = self.database.execute_schema_change(*plan);
                    return self.runtime.block_on(change);
                }
            }
        }
        panic!("{cql}: its table does not stay open")
    }

    fn ok(&self, cql: &str) -> Outcome {
        self.run(cql).unwrap_or_else(|error| panic!("{cql}: {error}"))
    }

    fn insert(&self, table: &str, number: usize) {
        self.ok(&format!("INSERT INTO k.{table} (a, b) VALUES ({number}, {number})"));
    }

    fn count(&self, table: &str) -> u32 {
        let OutcomeKind::Rows(rows) = self.ok(&format!("SELECT a FROM k.{table}")).kind else {
            panic!("no rows")
        };
        assert!(rows.paging_state.is_none());
        rows.count
    }

    fn id(&self, table: &str) -> TableId {
        let schema = self.database.schema();
        schema.table("k", table).unwrap().schema.id
    }

    fn record(&self) -> Arc<KeyRecord> {
        let catalog = self.database.engine().catalog();
        Arc::clone(&catalog.table("k", "t").unwrap().key)
    }

    fn flush(&self, table: &str) {
        self.database.engine().flush(self.id(table)).unwrap();
    }

    fn compact(&self, table: &str) {
        self.database.engine().compact(self.id(table)).unwrap();
    }

    fn kms_calls(&self) -> KmsCalls {
        self.database.keyring().kms_calls()
    }

    fn stop(self) {
        self.database.engine().shutdown();
    }
}

#[test]
fn while_the_kms_is_slow_reads_writes_flushes_and_compactions_go_on() {
    let house = House::new();
    let (running, _) = house.with_tables();
    let mut rows = 0;
    for held in [KmsOperation::DescribeKey, KmsOperation::GenerateDataKey] {
        let key = house.key();
        house.gate.hold(held);
        std::thread::scope(|scope| {
            let change = scope.spawn(|| running.ok(&alter(&key)));
            until("the held call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
            for table in ["t", "other"] {
                for number in 0..20 {
                    running.insert(table, rows + number);
                    if number % 10 == 9 {
                        running.flush(table);
                    }
                }
                running.compact(table);
                assert_eq!(running.count(table) as usize, rows + 20, "{held}");
            }
            assert!(!change.is_finished(), "{held} is held");
            house.gate.let_through();
            change.join().unwrap();
        });
        rows += 20;
        assert_eq!(running.record().kms_key_arn.as_deref(), Some(key.as_str()));
        assert_eq!(running.count("t") as usize, rows);
    }
}

/// Holds what is done to some files, on the threads that do it.
#[derive(Debug)]
struct SlowFiles {
    /// Files are renamed to paths that hold this.
    renamed: &'static str,
    /// Files are opened whose paths hold this.
    opened: &'static str,
    is_held: AtomicBool,
    waiting: AtomicUsize,
}

impl SlowFiles {
    fn new(renamed: &'static str, opened: &'static str) -> SlowFiles {
        SlowFiles { renamed, opened, is_held: AtomicBool::new(false), waiting: AtomicUsize::new(0) }
    }

    fn wait_on(&self, path: &Path, part: &str) {
        if !part.is_empty() && path.to_string_lossy().contains(part) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            while self.is_held.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Vfs for SlowFiles {
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn coffer_storage::vfs::WritableFile>> {
        OsVfs.create(path)
    }

    fn reopen(&self, path: &Path) -> std::io::Result<Box<dyn coffer_storage::vfs::WritableFile>> {
        OsVfs.reopen(path)
    }

    fn open(&self, path: &Path) -> std::io::Result<Box<dyn coffer_storage::vfs::ReadableFile>> {
        self.wait_on(path, self.opened);
        OsVfs.open(path)
    }

    fn map(&self, path: &Path) -> std::io::Result<coffer_storage::vfs::FileMap> {
        OsVfs.map(path)
    }

    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        OsVfs.read(path, limit)
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.wait_on(to, self.renamed);
        OsVfs.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        OsVfs.hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        OsVfs.remove(path)
    }

    fn create_directory(&self, path: &Path) -> std::io::Result<()> {
        OsVfs.create_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> std::io::Result<()> {
        OsVfs.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> std::io::Result<()> {
        OsVfs.sync_directory(path)
    }

    fn list(&self, path: &Path) -> std::io::Result<Vec<String>> {
        OsVfs.list(path)
    }

    fn exists(&self, path: &Path) -> std::io::Result<bool> {
        OsVfs.exists(path)
    }
}

#[test]
fn while_the_swap_is_published_reads_and_writes_go_on_and_a_flush_ends_after_it() {
    let vfs = Arc::new(SlowFiles::new(".catalog", ""));
    let house = House::on(vfs.clone());
    let (running, old) = house.with_tables();
    running.insert("t", 0);
    let key = house.key();
    vfs.is_held.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let change = scope.spawn(|| running.ok(&alter(&key)));
        until("the publication", || vfs.waiting.load(Ordering::SeqCst) == 1);
        let flush = scope.spawn(|| running.flush("t"));
        for table in ["t", "other"] {
            for number in 0..20 {
                running.insert(table, number);
            }
            assert_eq!(running.count(table), 20);
        }
        assert!(!change.is_finished());
        vfs.is_held.store(false, Ordering::SeqCst);
        change.join().unwrap();
        flush.join().unwrap();
    });
    house.kms.disable_key(&old).unwrap();
    running.stop();
    assert_eq!(house.start().count("t"), 20);
}

#[test]
fn fifty_swaps_under_load_leave_a_record_no_longer_than_few_and_cost_the_same_each() {
    let house = House::new();
    let (running, first) = house.with_tables();
    let keys = [first, house.key()];
    let written = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let mut costs = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                running.insert("t", written.load(Ordering::SeqCst));
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
        for number in 1..=50 {
            let wanted = written.load(Ordering::SeqCst) + 3;
            until("more rows", || written.load(Ordering::SeqCst) >= wanted || writer.is_finished());
            running.flush("t");
            if number % 5 == 0 {
                running.compact("t");
            }
            let before = running.kms_calls();
            running.ok(&alter(&keys[number % 2]));
            let (after, record) = (running.kms_calls(), running.record());
            let calls = (
                after.describe_key - before.describe_key,
                after.generate_data_key - before.generate_data_key,
                after.decrypt - before.decrypt,
            );
            costs.push((calls, record.older.len(), record.wraps));
        }
        is_over.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    });
    for (calls, older, wraps) in &costs {
        assert_eq!(*calls, (1, 1, 0), "{costs:?}");
        // of segments not compacted yet, of one or two log files, and the one before
        assert!(*older <= 10 && *wraps <= 20, "{costs:?}");
    }
    running.flush("t");
    running.compact("t");
    let rows = written.load(Ordering::SeqCst);
    let current = running.record().kms_key_arn.clone().unwrap();
    for key in keys.iter().filter(|key| **key != current) {
        house.kms.disable_key(key).unwrap();
    }
    running.stop();
    let running = house.start();
    assert_eq!(running.count("t") as usize, rows);
    assert_eq!(running.kms_calls().decrypt, 1);
}

#[test]
fn a_crash_at_any_step_of_a_swap_leaves_one_key_that_opens_every_row() {
    let faultless = FaultVfs::new();
    let house = House::on(Arc::new(faultless.clone()));
    let (running, _) = house.with_tables();
    running.insert("t", 0);
    let before = faultless.operations();
    running.ok(&alter(&house.key()));
    let operations = faultless.operations() - before;
    assert!(operations >= 4, "write, sync, rename, sync: {operations}");
    for number in 1..=operations + 1 {
        for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
            crash_in_swap(number, loss);
        }
    }
}

fn crash_in_swap(number: u64, loss: CrashLoss) {
    let vfs = FaultVfs::new();
    let house = House::on(Arc::new(vfs.clone()));
    let (running, old) = house.with_tables();
    running.insert("t", 0);
    running.flush("t");
    running.insert("t", 1);
    let (new, old_blob) = (house.key(), running.record().blob.clone());
    vfs.fail_from(vfs.operations() + number, Fault::Error(std::io::ErrorKind::Other));
    let changed = running.run(&alter(&new)).is_ok();
    vfs.crash(loss).unwrap();
    drop(running);

    let running = house.start();
    let record = running.record();
    let is_new = record.kms_key_arn.as_deref() == Some(new.as_str());
    assert!(is_new || !changed, "{number} {loss:?}: an acknowledged change is there");
    assert_eq!(record.blob != old_blob, is_new, "{number} {loss:?}");
    // a version that the engine publishes on its own stands beside the one before it for a moment
    let is_alone = (0..5_000).any(|_| {
        let is_alone = house.catalog_files() == 1;
        if !is_alone {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        is_alone
    });
    assert!(is_alone, "{number} {loss:?}: an older record is left");
    let (current, other) = if is_new { (&new, &old) } else { (&old, &new) };
    house.kms.disable_key(other).unwrap();
    assert_eq!(running.count("t"), 2, "{number} {loss:?}");
    running.stop();
    house.kms.disable_key(current).unwrap();
    let refused = house.start().run("SELECT a FROM k.t");
    assert!(matches!(refused, Err(Error::KeyRefused(_))), "{number} {loss:?}");
}

#[test]
fn a_swap_that_ends_while_the_kms_is_asked_has_changed_nothing() {
    let house = House::new();
    let (running, old) = house.with_tables();
    running.insert("t", 0);
    for held in [KmsOperation::DescribeKey, KmsOperation::GenerateDataKey] {
        let record = running.record();
        house.gate.hold(held);
        let cql = alter(&house.key());
        let statement = cql_parser::parse_statement(&cql).unwrap().kind;
        let plan = SchemaChangePlan::new(&statement, &cql, &Session::default()).unwrap();
        running.runtime.block_on(async {
            let mut change = Box::pin(running.database.execute_schema_change(plan));
            tokio::select! {
                biased;
                _ = &mut change => panic!("{held} is held"),
                () = async {
                    while house.gate.waiting.load(Ordering::SeqCst) == 0 {
                        tokio::task::yield_now().await;
                    }
                } => {}
            }
        });
        assert_eq!(house.gate.waiting.load(Ordering::SeqCst), 1, "{held}");
        // the call that was dropped never comes back
        house.gate.waiting.store(0, Ordering::SeqCst);
        house.gate.let_through();
        assert_eq!(*running.record(), *record);
    }
    running.stop();
    let running = house.start();
    assert_eq!(running.record().kms_key_arn.as_deref(), Some(old.as_str()));
    assert_eq!(running.count("t"), 1);
}

#[test]
fn the_old_key_can_be_disabled_the_moment_alter_returns() {
    let house = House::new();
    let (running, old) = house.with_tables();
    for number in 0..10 {
        running.insert("t", number);
    }
    running.flush("t");
    for number in 10..20 {
        running.insert("t", number);
    }
    running.ok(&alter(&house.key()));
    house.kms.disable_key(&old).unwrap();
    running.insert("t", 20);
    assert_eq!(running.count("t"), 21);
    drop(running);
    let running = house.start();
    assert_eq!(running.count("t"), 21);
    running.flush("t");
    running.compact("t");
    assert_eq!(running.count("t"), 21);
}

#[test]
fn of_two_swaps_at_once_the_second_waits_and_rules() {
    let house = House::new();
    let (running, first) = house.with_tables();
    running.insert("t", 0);
    let keys = [house.key(), house.key()];
    house.gate.hold(KmsOperation::GenerateDataKey);
    std::thread::scope(|scope| {
        let changes = [
            scope.spawn(|| running.run(&alter(&keys[0]))),
            scope.spawn(|| running.run(&alter(&keys[1]))),
        ];
        until("one call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
        let calls = running.kms_calls();
        assert_eq!((calls.describe_key, calls.generate_data_key), (2, 1), "the other one waits");
        house.gate.let_through();
        for change in changes {
            change.join().unwrap().unwrap();
        }
    });
    let current = running.record().kms_key_arn.clone().unwrap();
    assert!(keys.contains(&current));
    for key in keys.iter().chain([&first]).filter(|key| **key != current) {
        house.kms.disable_key(key).unwrap();
    }
    running.insert("t", 1);
    drop(running);
    assert_eq!(house.start().count("t"), 2);
}

#[test]
fn a_table_is_not_swapped_away_from_a_key_that_is_away() {
    let house = House::new();
    let (running, old) = house.with_tables();
    running.insert("t", 0);
    running.stop();
    let running = house.start();
    let (record, new) = (running.record(), house.key());
    house.gate.fail(Some((KmsOperation::Decrypt, "ThrottlingException")));
    assert!(matches!(running.run(&alter(&new)), Err(Error::KeyUnreachable(_))));
    house.gate.fail(None);
    house.kms.disable_key(&old).unwrap();
    assert!(matches!(running.run(&alter(&new)), Err(Error::KeyRefused(_))));
    assert_eq!(*running.record(), *record);
    house.kms.enable_key(&old).unwrap();
    running.ok(&alter(&new));
    assert_eq!(running.count("t"), 1);
}

#[test]
fn an_outage_serves_to_the_end_of_the_lease_and_a_refusal_ends_it_at_once() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.insert("t", 0);
    let refresh = || {
        let keyring = running.database.keyring();
        running.runtime.block_on(keyring.refresh_once());
    };
    let health = || running.database.key_healths().of(&running.id("t").0);
    house.gate.fail(Some((KmsOperation::Decrypt, "ThrottlingException")));
    for _ in 0..9 {
        house.clock.advance(MAX_AGE / 10);
        refresh();
        assert_eq!(running.count("t"), 1);
        running.insert("t", 0);
    }
    house.clock.advance(MAX_AGE / 10);
    for cql in ["SELECT a FROM k.t", "INSERT INTO k.t (a) VALUES (1)"] {
        assert!(matches!(running.run(cql), Err(Error::KeyUnreachable(_))), "{cql}");
    }
    assert_eq!(health().last_error_class, Some("transient"));
    assert_eq!(health().inaccessible_since, None, "an outage starts no clock");
    house.gate.fail(None);
    assert_eq!(running.count("t"), 1);

    house.kms.disable_key(&key).unwrap();
    house.clock.advance(MAX_AGE * 6 / 10);
    refresh();
    assert_eq!(running.count("t"), 1, "the lease goes on until the KMS is asked");
    house.clock.advance(MAX_AGE * 35 / 100);
    refresh();
    let error = running.run("SELECT a FROM k.t").unwrap_err();
    assert!(matches!(error, Error::KeyRefused(_)), "{error}");
    let since = health().inaccessible_since;
    assert_eq!(since, Some(house.clock.now_millis()));
    house.clock.advance(1_000);
    assert!(running.run("SELECT a FROM k.t").is_err());
    assert_eq!(health().inaccessible_since, since, "of the first refusal");
    assert_eq!(health().kms_state, Some("Disabled"));
    running.insert("other", 0);
    house.kms.enable_key(&key).unwrap();
    assert_eq!(running.count("t"), 1);
    assert_eq!((health().inaccessible_since, health().kms_state), (None, Some("Enabled")));
}

#[test]
fn a_batch_with_one_table_whose_key_is_away_writes_nothing() {
    let house = House::new();
    let (running, key) = house.with_tables();
    running.stop();
    house.kms.disable_key(&key).unwrap();
    let running = house.start();
    let batch = "BEGIN BATCH INSERT INTO k.other (a, b) VALUES (1, 1); \
                 INSERT INTO k.t (a, b) VALUES (1, 1); APPLY BATCH";
    assert!(matches!(running.run(batch), Err(Error::KeyRefused(_))));
    assert_eq!(running.count("other"), 0);
    house.kms.enable_key(&key).unwrap();
    running.ok(batch);
    assert_eq!((running.count("t"), running.count("other")), (1, 1));
}

#[test]
fn a_key_disabled_while_its_table_is_made_leaves_nothing() {
    let house = House::new();
    let (running, _) = house.with_tables();
    let key = house.key();
    house.gate.hold(KmsOperation::GenerateDataKey);
    std::thread::scope(|scope| {
        let cql = format!("CREATE TABLE k.new (a int PRIMARY KEY) {}", with_key(&key));
        let running = &running;
        let create = scope.spawn(move || running.run(&cql));
        until("the held call", || house.gate.waiting.load(Ordering::SeqCst) == 1);
        house.kms.disable_key(&key).unwrap();
        house.gate.let_through();
        assert!(matches!(create.join().unwrap(), Err(Error::KeyRefused(_))));
    });
    assert!(running.database.engine().catalog().table("k", "new").is_none());
    assert_eq!(std::fs::read_dir(house.data().join("tables")).unwrap().count(), 2);
    let refused = format!("CREATE TABLE k.new (a int PRIMARY KEY) {}", with_key(&key));
    assert!(matches!(running.run(&refused), Err(Error::KeyRefused(_))), "before it began");
    running.stop();
    let running = house.start();
    assert_eq!(running.database.engine().catalog().tables.len(), 2);
    // told once: a refusal before anything began is the client's alone
    let events = running.database.pending_events("webhook");
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!(event.kind, crate::EventKind::CreateFailed);
    assert_eq!((&*event.keyspace, &*event.table), ("k", "new"));
    assert_eq!(event.key_arn.as_ref(), Some(&key));
    assert!(event.detail.contains("DisabledException"), "{}", event.detail);
    running.database.event_delivered(event.id, "webhook").unwrap();
    running.database.event_delivered(event.id, "no such channel").unwrap();
    assert!(running.database.pending_events("webhook").is_empty());
    let told = "SELECT id FROM system_coffer.events WHERE day = '2023-11-14' AND kind = \
                'create_failed' ALLOW FILTERING";
    let OutcomeKind::Rows(rows) = running.ok(told).kind else { panic!("no rows") };
    assert_eq!(rows.count, 1);
}

#[test]
fn a_table_key_that_wrapped_enough_is_renewed_under_the_same_kms_key() {
    let mut house = House::new();
    house.keyring.wraps_max = 12;
    let (running, key) = house.with_tables();
    let mut ids = vec![running.record().table_key_id];
    for number in 0..40 {
        running.insert("t", number);
        running.flush("t");
        running.runtime.block_on(running.database.keep_up_keys());
        let record = running.record();
        assert!(record.wraps <= 12, "{}", record.wraps);
        assert_eq!(record.kms_key_arn.as_deref(), Some(key.as_str()));
        if ids.last() != Some(&record.table_key_id) {
            ids.push(record.table_key_id);
        }
        if number % 4 == 3 {
            running.compact("t");
        }
    }
    assert!(ids.len() >= 3, "{}", ids.len());
    drop(running);
    let running = house.start();
    assert_eq!(running.count("t"), 40);
}

#[test]
fn a_worn_table_key_is_renewed_when_its_table_is_opened() {
    let mut house = House::new();
    house.keyring.wraps_max = 16;
    let (running, _) = house.with_tables();
    let before = running.record().table_key_id;
    running.insert("t", 0);
    for _ in 0..20 {
        // an opened table gets a fresh data key in the log
        let table = running.id("t");
        running.database.engine().forget_key(table);
        running.insert("t", 0);
    }
    assert_ne!(running.record().table_key_id, before);
    assert_eq!(running.count("t"), 1);
}

#[test]
fn wraps_are_counted_across_restarts() {
    let house = House::new();
    let (running, _) = house.with_tables();
    for number in 0..5 {
        running.insert("t", number);
        running.flush("t");
    }
    let wraps = running.record().wraps;
    assert!(wraps >= 6, "five segments and a log file: {wraps}");
    running.stop();
    let running = house.start();
    running.insert("t", 5);
    running.flush("t");
    assert!(running.record().wraps >= wraps + 2);
}

mod grant_tests;
mod health_tests;
mod kept_tests;
mod restore_tests;
