//! Power cuts of the process at any moment: `kill -9` under 64 writers, with thresholds so small that it
//! lands in flushes, compactions, publications of the catalog and key swaps. After each restart every
//! acknowledged row is there with its value, and nothing else.
#![expect(
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use cql_protocol::{BoundValue, QueryParameters, ReceivedBody, Values};
use cql_tests::{Client, Result, Server, ServerBuilder};
use cql_types::to_literal;

const WRITERS: i32 = 64;
const KILLS: u64 = 12;
const OVERLOADED: i32 = 0x1001;
const UNPREPARED: i32 = 0x2500;
const INSERT: &str = "INSERT INTO ks.t (w, c, v) VALUES (?, ?, ?)";
/// So small that a round of writes flushes, compacts and changes log files several times.
const TINY: [&str; 14] = [
    "--memtable-flush-bytes",
    "64KiB",
    "--memtable-total-bytes",
    "2MiB",
    "--log-file-bytes",
    "128KiB",
    "--log-total-bytes",
    "1MiB",
    "--compaction-segments-min",
    "2",
    "--block-cache-bytes",
    "1MiB",
    "--room-timeout-millis",
    "20000",
];

/// What the writers have done: writer w writes rows (w, 0), (w, 1), ... in order.
#[derive(Default)]
struct Progress {
    /// Rows of each writer that were acknowledged.
    acknowledged: Vec<AtomicI32>,
    total: AtomicU64,
    is_ending: AtomicBool,
    /// What stopped the first writer that stopped.
    failure: OnceLock<String>,
}

impl Progress {
    fn new() -> Arc<Self> {
        let acknowledged = (0..WRITERS).map(|_| AtomicI32::new(0)).collect();
        Arc::new(Self { acknowledged, ..Self::default() })
    }

    fn of(&self, writer: i32) -> Result<&AtomicI32> {
        self.acknowledged.get(usize::try_from(writer)?).ok_or_else(|| "no such writer".into())
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::SeqCst)
    }

    /// Waits until `rows` rows are acknowledged in all; an error when the writers make no progress.
    fn reach(&self, rows: u64) -> Result<()> {
        let (mut last, mut idle) = (self.total(), 0);
        while self.total() < rows {
            std::thread::park_timeout(Duration::from_millis(1));
            let now = self.total();
            idle = if now == last { idle + 1 } else { 0 };
            last = now;
            if idle > 20_000 || self.failure.get().is_some() {
                let failure = self.failure.get();
                return Err(format!(
                    "the writers stand still at {now} of {rows} rows: {failure:?}"
                )
                .into());
            }
        }
        Ok(())
    }
}

fn value(writer: i32, row: i32) -> String {
    format!("{writer} wrote {row} and {}", "some more to fill the segments ".repeat(8))
}

fn int(value: i32) -> BoundValue {
    BoundValue::Value(Bytes::copy_from_slice(&value.to_be_bytes()))
}

/// Writes until the server is gone or all end.
fn write(address: SocketAddr, progress: &Progress, writer: i32) -> Result<()> {
    let Ok(mut client) = Client::connect(address) else {
        return Ok(());
    };
    let Ok(insert) = client.prepare(INSERT) else {
        return Ok(());
    };
    let done = progress.of(writer)?;
    while !progress.is_ending.load(Ordering::Relaxed) {
        let row = done.load(Ordering::SeqCst);
        let text = BoundValue::Value(Bytes::from(value(writer, row)));
        let parameters = QueryParameters {
            values: Values::Positional(vec![int(writer), int(row), text]),
            ..QueryParameters::default()
        };
        match client.execute_prepared(&insert.id, parameters) {
            Ok(ReceivedBody::Void) => {
                done.fetch_add(1, Ordering::SeqCst);
                progress.total.fetch_add(1, Ordering::SeqCst);
            }
            Ok(ReceivedBody::Error(error)) if error.detail.code() == OVERLOADED => {}
            // An ALTER came between: what every driver does then.
            Ok(ReceivedBody::Error(error)) if error.detail.code() == UNPREPARED => {
                if client.prepare(INSERT).is_err() {
                    return Ok(());
                }
            }
            Ok(other) => {
                let text = format!("writer {writer}: {other:?}");
                return Err(progress.failure.get_or_init(|| text).as_str().into());
            }
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn start_writers(server: &Server, progress: &Arc<Progress>) -> Result<Vec<JoinHandle<Result<()>>>> {
    let address = server.address();
    progress.is_ending.store(false, Ordering::Relaxed);
    (0..WRITERS)
        .map(|writer| {
            let progress = Arc::clone(progress);
            let thread = std::thread::Builder::new().name(format!("writer-{writer}"));
            Ok(thread.spawn(move || write(address, &progress, writer))?)
        })
        .collect()
}

fn join(threads: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
}

/// Every acknowledged row is there, and at most the one row more that was under way.
fn verify(server: &Server, progress: &Progress) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    for writer in 0..WRITERS {
        let rows = client.rows(&format!("SELECT c, v FROM ks.t WHERE w = {writer}"))?.rows;
        let done = progress.of(writer)?.load(Ordering::SeqCst);
        for (row, cells) in (0..).zip(&rows) {
            assert_eq!(
                cells[0].as_deref(),
                Some(&i32::to_be_bytes(row)[..]),
                "writer {writer}: row {row} is lost"
            );
            assert_eq!(
                cells[1].as_deref(),
                Some(value(writer, row).as_bytes()),
                "row {row} of {writer}"
            );
        }
        let found = i32::try_from(rows.len())?;
        assert!(
            found == done || found == done + 1,
            "writer {writer}: {done} acknowledged, {found} found"
        );
        // The row under way may have arrived: then it is there to stay.
        progress.of(writer)?.store(found, Ordering::SeqCst);
    }
    Ok(())
}

fn with_key(arn: &str) -> String {
    format!(
        "WITH CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
         'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}}}"
    )
}

fn shown_key(client: &mut Client) -> Result<String> {
    let rows = client.rows(
        "SELECT custom_properties FROM system_schema_mcs.tables WHERE keyspace_name = 'ks' AND table_name = 't'",
    )?;
    let cell = rows.rows[0][0].as_ref().ok_or("no properties")?;
    Ok(to_literal(&rows.columns[0].ty, cell)?)
}

fn prepared(options: &[&str], first_key: bool) -> Result<(Server, Vec<String>)> {
    let server = ServerBuilder::default().arguments(options).start()?;
    let keys = (0..2).map(|_| server.kms(&["create-key"])).collect::<Result<Vec<_>>>()?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    let key = if first_key { with_key(&keys[0]) } else { String::new() };
    client
        .execute(&format!("CREATE TABLE ks.t (w int, c int, v text, PRIMARY KEY (w, c)) {key}"))?;
    Ok((server, keys))
}

/// The keys that the table may have after a kill: that of the last swap that was acknowledged, and that
/// of a swap under way. None when no swap was tried.
#[derive(Default)]
struct PossibleKeys {
    acknowledged: Option<String>,
    under_way: Option<String>,
}

/// Changes the catalog all the time: swaps between two keys, makes and drops tables.
fn change_catalog(
    address: SocketAddr,
    keys: &[String],
    progress: &Progress,
) -> Result<PossibleKeys> {
    let mut possible = PossibleKeys::default();
    let Ok(mut client) = Client::connect(address) else {
        return Ok(possible);
    };
    for round in 0_usize.. {
        let key = &keys[round % keys.len()];
        for statement in [
            format!("ALTER TABLE ks.t {}", with_key(key)),
            // A table of a round before the kill may be there.
            format!("CREATE TABLE IF NOT EXISTS ks.other{round} (k int PRIMARY KEY)"),
            format!("DROP TABLE ks.other{round}"),
        ] {
            let is_swap = statement.starts_with("ALTER");
            possible.under_way = is_swap.then(|| key.clone());
            match client.query(&statement) {
                Ok(ReceivedBody::SchemaChange(_) | ReceivedBody::Void) => {}
                Ok(other) => return Err(format!("{statement}: {other:?}").into()),
                Err(_) => return Ok(possible),
            }
            if is_swap {
                possible.acknowledged = possible.under_way.take();
            }
        }
        if progress.is_ending.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(possible)
}

#[test]
fn every_acknowledged_row_and_swap_survives_kills_at_any_moment() -> Result<()> {
    let (mut server, keys) = prepared(&TINY, true)?;
    let progress = Progress::new();
    for kill in 0..KILLS {
        let writers = start_writers(&server, &progress)?;
        let (address, all, shared) = (server.address(), keys.clone(), Arc::clone(&progress));
        let changes = std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || change_catalog(address, &all, &shared))?;
        // Another number of rows each time, so that the kill comes at another point of the cycle.
        progress.reach(progress.total() + 300 + kill * 137)?;
        server.kill()?;
        join(writers)?;
        let possible = changes.join().map_err(|_| "the changes panicked")??;
        server.restart()?;
        verify(&server, &progress)?;
        // an acknowledged swap is not undone; one under way is done or not
        let shown = shown_key(&mut Client::connect(server.address())?)?;
        assert!(keys.iter().any(|key| shown.contains(key)), "{shown}");
        if let Some(acknowledged) = possible.acknowledged {
            let is_possible = [Some(acknowledged), possible.under_way]
                .iter()
                .flatten()
                .any(|key| shown.contains(key));
            assert!(is_possible, "an acknowledged swap was undone: {shown}");
        }
        assert!(!server.log()?.contains("panicked"), "{}", server.log()?);
    }
    let segments = files_with(server.directory(), ".segment")?;
    assert!(
        !segments.is_empty(),
        "nothing was flushed: the thresholds are too large for this test"
    );
    server.stop()?;
    // What kills left half written was removed by the starts after them.
    let left = unfinished(server.directory())?;
    assert!(left.is_empty(), "{left:?}");
    server.restart()?;
    verify(&server, &progress)
}

fn files_with(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // Folders of dropped tables go away meanwhile.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            let name = path.to_string_lossy().into_owned();
            if name.ends_with(ending) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// Files left half written; there are none when no server runs.
fn unfinished(directory: &Path) -> Result<Vec<String>> {
    let mut all = files_with(directory, ".tmp")?;
    all.extend(files_with(directory, ".unpublished")?);
    Ok(all)
}

/// Fifty swaps under 64 writers. What the fiftieth costs: time, and bytes of the catalog.
#[test]
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn the_fiftieth_swap_costs_no_more_than_the_first() -> Result<()> {
    let (mut server, _) = prepared(
        &[
            "--memtable-flush-bytes",
            "256KiB",
            "--log-file-bytes",
            "1MiB",
            "--log-total-bytes",
            "4MiB",
        ],
        true,
    )?;
    let progress = Progress::new();
    let writers = start_writers(&server, &progress)?;
    progress.reach(200)?;
    let mut client = Client::connect(server.address())?;
    let (mut times, mut sizes, mut last) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..50 {
        let key = server.kms(&["create-key"])?;
        let before = progress.total();
        let begun = std::time::Instant::now();
        client.execute(&format!("ALTER TABLE ks.t {}", with_key(&key)))?;
        times.push(begun.elapsed());
        if !last.is_empty() {
            server.kms(&["disable-key", &last])?;
        }
        last = key;
        sizes.push(catalog_bytes(server.directory())?);
        progress.reach(before + 50)?;
    }
    progress.is_ending.store(true, Ordering::Relaxed);
    join(writers)?;
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let (first, end) = (median(&times[..10]), median(&times[40..]));
    assert!(
        end < first * 2 + Duration::from_millis(40),
        "{first:?} at first, {end:?} at last: {times:?}"
    );
    // An older table key is one wrapped key in the record; keys nest no deeper, segments come and go.
    let (small, large) = (sizes[..10].iter().min(), sizes[40..].iter().max());
    let (small, large) = (small.copied().unwrap_or(0), large.copied().unwrap_or(0));
    assert!(large < small + 50 * 1024, "the catalog grew from {small} to {large} bytes: {sizes:?}");
    verify(&server, &progress)?;
    server.kill()?;
    server.restart()?;
    verify(&server, &progress)?;
    assert!(shown_key(&mut Client::connect(server.address())?)?.contains(&last));
    Ok(())
}

/// Length of the catalog; a version that is replaced while one looks is looked for again.
fn catalog_bytes(directory: &Path) -> Result<u64> {
    for _ in 0..1000 {
        let names = files_with(&directory.join("catalog"), ".catalog")?;
        let lengths = names.iter().map(|name| fs::metadata(name).map(|metadata| metadata.len()));
        if let Ok(lengths) = lengths.collect::<std::io::Result<Vec<u64>>>()
            && let Some(largest) = lengths.into_iter().max()
        {
            return Ok(largest);
        }
    }
    Err("no catalog stays".into())
}

/// A server whose files may not grow: writes get a named error, reads go on, and after a restart with
/// room every acknowledged row is there.
fn fills_up(server: &mut Server, options: &[&str]) -> Result<()> {
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute("CREATE TABLE ks.t (w int, c int, v text, PRIMARY KEY (w, c))")?;
    let text = "what fills the disk, and does not compress: no, it does. ".repeat(200);
    let mut done = 0_i32;
    let refusal = loop {
        let statement = format!("INSERT INTO ks.t (w, c, v) VALUES (1, {done}, '{done} {text}')");
        match client.query(&statement)? {
            ReceivedBody::Void => done += 1,
            ReceivedBody::Error(error) => break error,
            other => return Err(format!("{other:?}").into()),
        }
        assert!(done < 20_000, "the disk never fills up");
    };
    let code = refusal.detail.code();
    assert!([0x1001, 0x1500, 0x1100].contains(&code), "0x{code:04X} {}", refusal.message);
    assert!(!refusal.message.is_empty());
    let rows = |client: &mut Client| client.rows("SELECT c FROM ks.t WHERE w = 1");
    assert!(rows(&mut client)?.rows.len() >= usize::try_from(done)?, "reads go on");
    // Whatever is tried now, nothing acknowledged goes away and the process stays.
    for attempt in 0..20 {
        let statement = format!("INSERT INTO ks.t (w, c, v) VALUES (2, {attempt}, '{text}')");
        client.query(&statement)?;
    }
    assert!(rows(&mut client)?.rows.len() >= usize::try_from(done)?, "reads go on");
    let log = server.log()?;
    assert!(!log.contains("panicked"), "{log}");
    server.kill()?;
    server.restart_with(options)?;
    let mut client = Client::connect(server.address())?;
    let found = rows(&mut client)?.rows;
    for c in 0..done {
        let wanted = Some(Bytes::copy_from_slice(&c.to_be_bytes()));
        assert!(found.contains(&vec![wanted]), "acknowledged row {c} of {done} is lost");
    }
    client.execute("INSERT INTO ks.t (w, c, v) VALUES (3, 1, 'writes again')")?;
    Ok(())
}

const SMALL_FILES: [&str; 8] = [
    "--log-file-bytes",
    "1MiB",
    "--log-total-bytes",
    "64MiB",
    "--memtable-flush-bytes",
    "16MiB",
    "--room-timeout-millis",
    "500",
];

#[test]
fn files_that_may_not_grow_cost_no_acknowledged_write() -> Result<()> {
    // A log file fits, a segment of the rows of half a log does not.
    let mut server = ServerBuilder::default()
        .arguments(&[
            "--log-file-bytes",
            "1MiB",
            "--log-total-bytes",
            "16MiB",
            "--room-timeout-millis",
            "500",
            "--segment-compression",
            "none",
        ])
        .shell("trap '' XFSZ; ulimit -f 2200")
        .start()?;
    fills_up(&mut server, &SMALL_FILES)
}

#[test]
fn a_full_disk_costs_no_acknowledged_write() -> Result<()> {
    let folder = tempfile::TempDir::new()?;
    let Some(_disk) = SmallDisk::mount(folder.path())? else {
        // Mounting needs privileges; the test above shows the same with a limit on files.
        return Ok(());
    };
    let directory = folder.path().join("data");
    let mut server =
        ServerBuilder::default().directory(&directory).arguments(&SMALL_FILES).start()?;
    let result = fills_up_and_grows(&mut server, folder.path());
    server.kill()?;
    result
}

fn fills_up_and_grows(server: &mut Server, mounted: &Path) -> Result<()> {
    // The disk is enlarged before the restart, from outside.
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute("CREATE TABLE ks.t (c int PRIMARY KEY, v text)")?;
    let text = "what fills the disk ".repeat(500);
    let mut done = 0_i32;
    let refusal = loop {
        match client.query(&format!("INSERT INTO ks.t (c, v) VALUES ({done}, '{text}')"))? {
            ReceivedBody::Void => done += 1,
            ReceivedBody::Error(error) => break error,
            other => return Err(format!("{other:?}").into()),
        }
        assert!(done < 20_000, "the disk never fills up");
    };
    let code = refusal.detail.code();
    assert!([0x1001, 0x1500, 0x1100].contains(&code), "0x{code:04X} {}", refusal.message);
    let count = |client: &mut Client| -> Result<usize> {
        Ok(client.rows("SELECT c FROM ks.t")?.rows.len())
    };
    assert!(count(&mut client)? >= usize::try_from(done)?, "reads go on");
    // A change of the catalog has no room either: it is refused, and changes nothing.
    server.kill()?;
    SmallDisk::resize(mounted, "64m")?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    let found = count(&mut client)?;
    assert!(found >= usize::try_from(done)?, "{done} rows acknowledged, {found} found");
    client.execute("INSERT INTO ks.t (c, v) VALUES (-1, 'writes again')")?;
    assert_eq!(count(&mut client)?, found + 1);
    Ok(())
}

/// A file system of a few megabytes, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` without the right to mount.
    fn mount(path: &'a Path) -> Result<Option<Self>> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(path);
        Ok(mount.output()?.status.success().then_some(Self(path)))
    }

    fn resize(path: &Path, size: &str) -> Result<()> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(path);
        let output = mount.output()?;
        if output.status.success() { Ok(()) } else { Err("the disk cannot be enlarged".into()) }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: a server that is being killed may still hold it.
        if std::process::Command::new("umount").arg("-l").arg(self.0).output().is_err() {}
    }
}
