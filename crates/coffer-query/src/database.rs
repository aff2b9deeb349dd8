//! The contract with the server: prepare a text, execute it, and what to wait for in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use coffer_crypto::clock::Clock;
use coffer_keys::Keyring;
use coffer_model::TableId;
use coffer_storage::{Engine, Lsn};
use cql_types::BoundValue;
use parking_lot::Mutex;

use crate::encryption_policy::EncryptionOptions;
use crate::error::{Error, Result};
use crate::execute::SelectExecution;
use crate::execute::schema_change::{SchemaChangeEvent, SchemaChangePlan};
use crate::key_health::KeyHealths;
use crate::key_monitor::{KeyHealthOptions, KeyMonitor};
use crate::key_queue::KeyQueues;
use crate::key_upkeep::Upkeep;
use crate::metadata::ResultMetadata;
use crate::prepare::Prepared;
use crate::schema::{Schema, Table};
use crate::schema_audit::SchemaAudit;
use crate::system::traces::Traces;
use crate::table_keys::forget_on_revocation;

/// What the node says about itself in `system.local`, and limits.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// `system.local.cluster_name`.
    pub cluster_name: String,
    /// `system.local.data_center`, also the region of `SingleRegionStrategy`.
    pub data_center: String,
    /// `system.local.rack`.
    pub rack: String,
    /// The address clients reach.
    pub listen: SocketAddr,
    /// Rows of a page when the client asks for none or for more.
    pub page_rows_max: usize,
    /// The account that encryption contexts name, twelve digits.
    pub account: String,
    /// Rules for the keys of tables.
    pub encryption: EncryptionOptions,
    /// How the keys of tables are watched.
    pub key_health: KeyHealthOptions,
    /// Who is told of schema statements.
    pub schema_audit: Option<Arc<dyn SchemaAudit>>,
    /// Names of the channels that events are told by.
    pub notification_channels: Vec<String>,
}

/// State of one connection that statements read and change.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Keyspace chosen with USE.
    pub keyspace: Option<Arc<str>>,
    /// Role that authenticated, `None` without authentication.
    pub role: Option<Arc<str>>,
    /// Address of the client.
    pub client: Option<SocketAddr>,
}

/// What comes with a statement.
#[derive(Debug, Clone, Copy)]
pub struct QueryParameters<'a> {
    /// Values of the bind markers.
    pub values: &'a [BoundValue],
    /// Names of `values`, when the client gave names; as long as `values`.
    pub names: Option<&'a [String]>,
    /// Rows of a page; `None` or not positive means all rows, up to the server's limit.
    pub page_size: Option<i32>,
    /// Where the last page ended, as given to the client.
    pub paging_state: Option<&'a [u8]>,
    /// Write timestamp in microseconds given by the client's driver.
    pub default_timestamp: Option<i64>,
    /// Consistency level as in the protocol (0x0001 is ONE).
    pub consistency: u16,
}

impl Default for QueryParameters<'_> {
    fn default() -> Self {
        QueryParameters {
            values: &[],
            names: None,
            page_size: None,
            paging_state: None,
            default_timestamp: None,
            consistency: 0x0001,
        }
    }
}

/// Kind of a protocol BATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// All or nothing.
    Logged,
    /// Without a batch log; here as atomic as a logged one.
    Unlogged,
    /// For counters.
    Counter,
}

/// One statement of a protocol BATCH; the server prepares the ones given as text.
#[derive(Debug, Clone)]
pub struct BatchItem {
    /// The statement.
    pub prepared: Arc<Prepared>,
    /// Values of its markers.
    pub values: Vec<BoundValue>,
}

/// A protocol BATCH.
#[derive(Debug, Clone, Copy)]
pub struct BatchRequest<'a> {
    /// Kind.
    pub kind: BatchKind,
    /// Statements in the order given.
    pub items: &'a [BatchItem],
    /// Write timestamp in microseconds given by the client's driver.
    pub default_timestamp: Option<i64>,
    /// Consistency level as in the protocol.
    pub consistency: u16,
    /// The client's role.
    pub role: Option<&'a str>,
}

/// Rows of one page.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Names and types of the cells.
    pub metadata: Arc<ResultMetadata>,
    /// Rows in `content`.
    pub count: u32,
    /// The cells, row by row, each as protocol `[bytes]`: i32 length (-1 null) and the value.
    pub content: Bytes,
    /// Where to go on, when there may be more rows.
    pub paging_state: Option<Bytes>,
}

/// What a statement answers.
#[derive(Debug, Clone)]
pub enum OutcomeKind {
    /// Nothing.
    Void,
    /// Rows.
    Rows(Rows),
    /// The session's keyspace is now this one.
    SetKeyspace(String),
    /// The schema changed; the event goes to all registered clients.
    SchemaChange(SchemaChangeEvent),
}

/// The answer to a statement.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The result.
    pub kind: OutcomeKind,
    /// Warnings for the client.
    pub warnings: Vec<String>,
}

impl From<OutcomeKind> for Outcome {
    fn from(kind: OutcomeKind) -> Outcome {
        Outcome { kind, warnings: Vec::new() }
    }
}

/// What the server does next for a statement.
#[derive(Debug)]
pub enum Step {
    /// Answer now.
    Done(Outcome),
    /// Answer when the engine has committed `lsn`.
    Commit {
        /// Where the write is in the log.
        lsn: Lsn,
        /// The answer.
        outcome: Outcome,
    },
    /// Await [`Database::load_table_key`], run [`Database::open_table`] where blocking is allowed,
    /// then execute again.
    NeedsTable(TableId),
    /// Await [`Database::authorize`], then execute again.
    NeedsAuthorization {
        /// The table whose key is used.
        table: TableId,
        /// ARN of whom the client's role stands for.
        principal: Arc<str>,
    },
    /// Memory limits are reached: wait for room with a deadline, then execute again or answer
    /// [`Error::Overloaded`].
    WaitForRoom,
    /// A big read: run [`SelectExecution::step`] on the low-priority lane until it is done.
    Continue(Box<SelectExecution>),
    /// Await [`Database::execute_schema_change`], off the connection tasks.
    SchemaChange(Box<SchemaChangePlan>),
}

/// Schemas, keys and rows behind CQL.
pub struct Database {
    engine: Arc<Engine>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    options: DatabaseOptions,
    schema: ArcSwap<Schema>,
    /// Held while the schema is rebuilt from the catalog, so that an older one never wins.
    schema_refresh: Mutex<()>,
    /// Held while a changed key is installed, and while one is forgotten; so the keys of a dropped
    /// table do not come back.
    key_installs: Mutex<()>,
    key_healths: Arc<KeyHealths>,
    key_monitor: Arc<KeyMonitor>,
    key_queues: KeyQueues,
    /// Held while the root key is replaced.
    root_key_rotation: Mutex<()>,
    key_upkeep: Mutex<Upkeep>,
    traces: Traces,
    last_timestamp: AtomicI64,
    /// Clock sequence and node of timeuuids: random at each start.
    timeuuid_node: [u8; 8],
}

fn timeuuid_node() -> Result<[u8; 8]> {
    let random: [u8; 8] =
        coffer_crypto::random_array().map_err(|error| Error::Server(format!("start: {error}")))?;
    // The variant bits, and the multicast bit that real network cards do not have.
    let bits = u64::from_be_bytes(random) & 0x3fff_ffff_ffff_ffff | 0x8000_0100_0000_0000;
    Ok(bits.to_be_bytes())
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Database {
    /// A database over an open engine. Reads the catalog; opens no table and asks no KMS.
    ///
    /// # Errors
    /// When the catalog holds a schema that cannot be understood.
    pub fn open(
        engine: Arc<Engine>,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        options: DatabaseOptions,
    ) -> Result<Database> {
        let schema = Schema::load(&engine.catalog())?;
        let key_monitor = Arc::new(KeyMonitor::new(engine.age_millis()));
        let database = Database {
            engine,
            keyring,
            clock,
            options,
            schema: ArcSwap::from_pointee(schema),
            schema_refresh: Mutex::new(()),
            key_installs: Mutex::new(()),
            key_healths: Arc::default(),
            key_monitor,
            key_queues: KeyQueues::default(),
            root_key_rotation: Mutex::new(()),
            key_upkeep: Mutex::default(),
            traces: Traces::default(),
            last_timestamp: AtomicI64::new(0),
            timeuuid_node: timeuuid_node()?,
        };
        forget_on_revocation(&database);
        Ok(database)
    }

    /// The engine below.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Keys of the tables.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// The clock of timestamps and TTLs.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What the node says about itself.
    pub fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    /// The schema as it is now.
    pub fn schema(&self) -> Arc<Schema> {
        self.schema.load_full()
    }

    /// Traced requests, shown in `system_traces`.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// What the KMS last answered for each table.
    pub(crate) fn key_healths(&self) -> &Arc<KeyHealths> {
        &self.key_healths
    }

    /// What is known of keys that are lost, or may be.
    pub(crate) fn key_monitor(&self) -> &Arc<KeyMonitor> {
        &self.key_monitor
    }

    /// Changes of keys, one at a time for each table.
    pub(crate) fn key_queues(&self) -> &KeyQueues {
        &self.key_queues
    }

    pub(crate) fn root_key_rotation(&self) -> &Mutex<()> {
        &self.root_key_rotation
    }

    /// What the background knows of its last tries.
    pub(crate) fn upkeep(&self) -> &Mutex<Upkeep> {
        &self.key_upkeep
    }

    pub(crate) fn key_installs(&self) -> &Mutex<()> {
        &self.key_installs
    }

    /// Makes the schema of the persisted catalog visible to statements.
    ///
    /// # Errors
    /// As [`Schema::load`].
    pub(crate) fn refresh_schema(&self) -> Result<()> {
        let _one_at_a_time = self.schema_refresh.lock();
        let schema = Schema::load_after(&self.engine.catalog(), &self.schema.load())?;
        self.schema.store(Arc::new(schema));
        Ok(())
    }

    /// Parses a text and plans it.
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::Invalid`] and the other classes that need no values.
    pub fn parse_and_prepare(&self, cql: &str, session: &Session) -> Result<Arc<Prepared>> {
        crate::prepare::parse_and_prepare(self, cql, session)
    }

    /// Executes a prepared statement: at most a bounded piece of work.
    ///
    /// # Errors
    /// [`Error::Unprepared`] when the schema changed since it was prepared; errors of the values;
    /// errors of the engine.
    pub fn execute(
        &self,
        prepared: &Prepared,
        parameters: &QueryParameters<'_>,
        session: &mut Session,
    ) -> Result<Step> {
        crate::execute::execute(self, prepared, parameters, session)
    }

    /// Executes a protocol BATCH.
    ///
    /// # Errors
    /// As [`Database::execute`]; nothing is written then.
    pub fn execute_batch(&self, request: &BatchRequest<'_>) -> Result<Step> {
        crate::execute::batch::execute_batch(self, request)
    }

    /// A write timestamp in microseconds, later than all given out before by this process.
    pub(crate) fn next_timestamp(&self) -> i64 {
        let now = self.clock.now_micros();
        let mut last = self.last_timestamp.load(Ordering::Relaxed);
        loop {
            let next = now.max(last.saturating_add(1));
            match self.last_timestamp.compare_exchange_weak(
                last,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }

    /// A UUID of version 1 for now, different from all made before.
    pub(crate) fn next_timeuuid(&self) -> [u8; 16] {
        // Micros are handed out once each, in 100 ns units there is no other of the same.
        crate::functions::timeuuid(self.next_timestamp().saturating_mul(10), self.timeuuid_node)
    }

    /// Clock sequence and node of timeuuids.
    pub(crate) fn timeuuid_node(&self) -> [u8; 8] {
        self.timeuuid_node
    }

    /// Whether the table is in the schema just as the plan saw it.
    pub(crate) fn is_current(&self, table: &Arc<Table>) -> bool {
        self.schema
            .load()
            .table_by_id(table.schema.id)
            .is_some_and(|current| Arc::ptr_eq(current, table))
    }

    /// Seconds of the wall clock, for TTLs.
    pub(crate) fn now_seconds(&self) -> u32 {
        u32::try_from(self.clock.now_millis() / 1000).unwrap_or(u32::MAX)
    }
}
