//! A server that loses a key, and its clock of keys, which a test moves.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use cql_protocol::ReceivedBody;

use crate::{
    Client, KeyScript, Result, Server, key_status,
    poll::{until, wall_millis},
};

/// Seconds of a day.
pub const DAY: i64 = 86_400;
/// The clock moves by so much at each look while something is waited for: a probe, and more.
const NUDGE_SECONDS: i64 = 61;
/// How long the server has to see its clock and to do what it then should.
const BETWEEN_NUDGES_MILLIS: i64 = 1_500;

/// A row of `system_coffer.events`. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: String,
    /// Name of the table.
    pub table: String,
    /// When.
    pub at: i64,
    /// Since when the key is as it is.
    pub since: Option<i64>,
    /// When the next thing happens that cannot be undone.
    pub deadline: Option<i64>,
    /// Id of the transition.
    pub incident: String,
    /// ARN of the table's key.
    pub key_arn: String,
    /// State of the key after it.
    pub state: String,
    /// What to do.
    pub todo: String,
    /// What was seen.
    pub detail: String,
}

fn millis(cell: Option<&Bytes>) -> Option<i64> {
    Some(i64::from_be_bytes(cell?.as_ref().try_into().ok()?))
}

/// All events, oldest first.
///
/// # Errors
/// When the server does not tell.
pub fn events(client: &mut Client) -> Result<Vec<Event>> {
    let columns = "at, since, deadline, kind, table_name, incident, key_arn, state, todo, detail";
    let rows = client.rows(&format!("SELECT {columns} FROM system_coffer.events"))?;
    let mut events = Vec::new();
    for row in &rows.rows {
        let cell = |place: usize| row.get(place).and_then(Option::as_ref);
        let text = |place: usize| {
            let bytes = cell(place).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            bytes.unwrap_or_default()
        };
        events.push(Event {
            at: millis(cell(0)).ok_or("an event without a time")?,
            since: millis(cell(1)),
            deadline: millis(cell(2)),
            kind: text(3),
            table: text(4),
            incident: text(5),
            key_arn: text(6),
            state: text(7),
            todo: text(8),
            detail: text(9),
        });
    }
    // Within a day they come in their order.
    events.sort_by_key(|event| event.at.div_euclid(DAY * 1000));
    Ok(events)
}

/// The kinds of all events of a table, oldest first.
///
/// # Errors
/// When the server does not tell.
pub fn kinds(client: &mut Client, table: &str) -> Result<Vec<String>> {
    let events = events(client)?.into_iter().filter(|event| event.table == table);
    Ok(events.map(|event| event.kind).collect())
}

/// A timestamp in `system_coffer.key_status` of a table of keyspace `ks`, milliseconds since 1970.
///
/// # Errors
/// When the server does not tell.
pub fn moment(client: &mut Client, table: &str, column: &str) -> Result<Option<i64>> {
    let rows = client.rows(&format!(
        "SELECT {column} FROM system_coffer.key_status WHERE keyspace_name = 'ks' AND table_name = '{table}'"
    ))?;
    let row = rows.rows.first().ok_or_else(|| format!("{table} is not in key_status"))?;
    Ok(millis(row.first().and_then(Option::as_ref)))
}

/// The names of the tables of keyspace `ks`.
///
/// # Errors
/// When the server does not tell.
pub fn tables(client: &mut Client) -> Result<BTreeSet<String>> {
    let statement = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ks'";
    let rows = key_status::texts(client, statement)?;
    Ok(rows.into_iter().flat_map(|row| row.into_values()).collect())
}

/// The clock of keys of a server, as a test moves it.
pub struct KeyClock {
    /// The files of the server.
    pub script: KeyScript,
    seconds: i64,
}

impl KeyClock {
    /// A clock that goes as it should.
    ///
    /// # Errors
    /// When there is no room for its files.
    pub fn new() -> Result<Self> {
        Ok(Self { script: KeyScript::new()?, seconds: 0 })
    }

    /// Seconds that it is ahead.
    #[must_use]
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// What it shows, milliseconds since 1970.
    #[must_use]
    pub fn now_millis(&self) -> i64 {
        wall_millis() + self.seconds * 1000
    }

    /// Moves it; the server sees it within a second or so.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn advance(&mut self, seconds: i64) -> Result<()> {
        self.seconds += seconds;
        self.script.set_clock(self.seconds)
    }

    /// Moves it so that it shows this now.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn set_millis(&mut self, millis: i64) -> Result<()> {
        self.advance((millis - self.now_millis()).div_euclid(1000))
    }

    /// Looks until there is something, and moves the clock on by a minute now and then meanwhile, so that
    /// everything happens that happens each minute.
    ///
    /// # Errors
    /// As [`until`].
    pub fn nudge_until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut() -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        let mut nudged = wall_millis();
        until(Duration::from_secs(90), what, || {
            let seen = look()?;
            if seen.is_err() && wall_millis() - nudged > BETWEEN_NUDGES_MILLIS {
                nudged = wall_millis();
                self.advance(NUDGE_SECONDS)?;
            }
            Ok(seen)
        })
    }

    /// Waits for so many events of a kind about a table; gives the last.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_for_event(
        &mut self,
        client: &mut Client,
        table: &str,
        kind: &str,
        count: usize,
    ) -> Result<Event> {
        self.nudge_until(&format!("event {kind} of {table}"), || {
            let all = events(client)?;
            let mut found: Vec<Event> = all
                .iter()
                .filter(|event| event.table == table && event.kind == kind)
                .cloned()
                .collect();
            Ok(match (found.len() >= count, found.pop()) {
                (true, Some(event)) => Ok(event),
                _ => Err(format!(
                    "{:#?}",
                    all.iter()
                        .map(|event| (&event.table, &event.kind, &event.detail))
                        .collect::<Vec<_>>()
                )),
            })
        })
    }

    /// Waits until the server has asked for the key of a table, in vain, later than it is now.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_refusal(&mut self, client: &mut Client, table: &str) -> Result<()> {
        // Shown by the real clock.
        let since = wall_millis();
        self.nudge_until(&format!("a refusal of the key of {table}"), || {
            let last = moment(client, table, "last_failure")?;
            Ok(if last > Some(since) { Ok(()) } else { Err(format!("{last:?}, and now {since}")) })
        })
    }

    /// Waits until a table is shown in a state.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_for_state(&mut self, client: &mut Client, table: &str, state: &str) -> Result<()> {
        self.nudge_until(&format!("{table} is {state}"), || {
            let shown = key_status::status(client, table, "state")?;
            Ok(if shown == state { Ok(()) } else { Err(shown) })
        })
    }

    /// Waits until a table is gone.
    ///
    /// # Errors
    /// When it stays.
    pub fn wait_until_dropped(&mut self, client: &mut Client, table: &str) -> Result<()> {
        self.nudge_until(&format!("{table} is dropped"), || {
            if !tables(client)?.contains(table) {
                return Ok(Ok(()));
            }
            Ok(Err(format!("{:?}", kinds(client, table)?)))
        })
    }
}

/// A client that reads one table all the time.
pub struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Reader {
    /// Reads with a statement that must give rows.
    ///
    /// # Errors
    /// When it cannot connect.
    pub fn start(address: SocketAddr, statement: &str) -> Result<Self> {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_over, count, statement) = (stop.clone(), reads.clone(), statement.to_owned());
        let mut client = Client::connect(address)?;
        let thread = std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                match client.query(&statement)? {
                    ReceivedBody::Rows(rows) if !rows.rows.is_empty() => {}
                    other => return Err(format!("{statement}: {other:?}").into()),
                }
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(10));
            }
            Ok(())
        })?;
        Ok(Self { stop, reads, thread: Some(thread) })
    }

    /// Ends it; gives how often it read.
    ///
    /// # Errors
    /// When a read was refused or gave nothing.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or("finished before")?;
        thread.join().map_err(|_| "the reader panicked")??;
        Ok(self.reads.load(Ordering::Relaxed))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A keyspace `ks` and, in it, `other` under the owned key with one row.
///
/// # Errors
/// When they cannot be made.
pub fn keyspace_with_other(server: &Server) -> Result<Client> {
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute("CREATE TABLE ks.other (k int PRIMARY KEY, v text)")?;
    client.execute("INSERT INTO ks.other (k, v) VALUES (1, 'served')")?;
    Ok(client)
}
