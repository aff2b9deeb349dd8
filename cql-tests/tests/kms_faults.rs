//! Twelve faults of a KMS in eight phases of a table's life: what the table's client is told stands in
//! the golden table; the tables beside it go on; and all is well without a restart once the fault is over.
#![expect(
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use cql_protocol::ReceivedBody;
use cql_tests::{
    Client, KeyScript, KmsService, ProxiedKms, Result, Server, Wire,
    poll::{timed, until},
    with_key,
};
use serde_json::{Value, json};

/// How soon a table must serve again after its KMS does.
const RECOVERY_WITHIN: Duration = Duration::from_secs(60);
/// How soon a table beside the faulty one must answer; a machine full of tests is slow.
const BYSTANDER_WITHIN: Duration = Duration::from_secs(3);
/// How soon a server must be ready whatever its KMS does.
const START_WITHIN: Duration = Duration::from_secs(20);
/// Longer than any deadline of a KMS call.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
const OPTIONS: [&str; 10] = [
    "--table-timeout-millis",
    "2000",
    "--memtable-flush-bytes",
    "64KiB",
    "--log-file-bytes",
    "256KiB",
    "--log-total-bytes",
    "8MiB",
    "--compaction-segments-min",
    "2",
];

const PHASES: [&str; 8] =
    ["create", "write", "flush", "cold read", "compaction", "swap", "restart", "start"];

/// What each phase answers for the faulty table; the columns are those of [`PHASES`]. `ok`: the cached key
/// serves. Flush and compaction go on with a cached key, whatever the KMS says.
const GOLDEN: &str = "
connection refused  1001 1001 ok 1001 ok 1001 1001 1001
black hole          1001 1001 ok 1001 ok 1001 1001 1001
no such host        1001 1001 ok 1001 ok 1001 1001 1001
TLS failure         1001 1001 ok 1001 ok 1001 1001 1001
throttling          1001 1001 ok 1001 ok 1001 1001 1001
500                 1001 1001 ok 1001 ok 1001 1001 1001
503                 1001 1001 ok 1001 ok 1001 1001 1001
slow                1001 1001 ok 1001 ok 1001 1001 1001
cut answer          1001 1001 ok 1001 ok 1001 1001 1001
wrong key           1300 1300 ok 1300 ok 1300 1300 1300
disabled            2200 2200 ok 2200 ok 2200 2200 2200
pending deletion    2200 2200 ok 2200 ok 2200 2200 2200
";

/// A fault that can be switched on and off for the keys of the faulty table.
#[derive(Clone, Copy)]
enum Fault {
    /// A rule of `--kms-fault`; operation and key are added.
    Script(&'static str),
    /// What happens on the way to the KMS.
    Wire(&'static Wire),
    /// The name of the KMS's host is not known.
    NoSuchHost,
    /// What a KMS administrator does.
    Disable,
    ScheduleDeletion,
}

/// Of the KMS in the server's own process.
const EMBEDDED: [(&str, Fault); 12] = [
    ("connection refused", Fault::Script(r#"{"fault": "error", "error": "ConnectionRefused"}"#)),
    ("black hole", Fault::Script(r#"{"fault": "blackhole"}"#)),
    ("no such host", Fault::Script(r#"{"fault": "error", "error": "DnsFailure"}"#)),
    ("TLS failure", Fault::Script(r#"{"fault": "error", "error": "TlsFailure"}"#)),
    ("throttling", Fault::Script(r#"{"fault": "throttle"}"#)),
    ("500", Fault::Script(r#"{"fault": "error", "error": "KMSInternalException"}"#)),
    ("503", Fault::Script(r#"{"fault": "error", "error": "DependencyTimeoutException"}"#)),
    ("slow", Fault::Script(r#"{"fault": "delay", "millis": 30000}"#)),
    ("cut answer", Fault::Script(r#"{"fault": "truncate"}"#)),
    ("wrong key", Fault::Script(r#"{"fault": "error", "error": "IncorrectKeyException"}"#)),
    ("disabled", Fault::Disable),
    ("pending deletion", Fault::ScheduleDeletion),
];

/// Of a KMS in a process of its own, reached as AWS's is, through a proxy.
const REMOTE: [(&str, Fault); 12] = [
    ("connection refused", Fault::Wire(&Wire::Refuse)),
    ("black hole", Fault::Wire(&Wire::BlackHole)),
    ("no such host", Fault::NoSuchHost),
    ("TLS failure", Fault::Wire(&Wire::NoTls)),
    ("throttling", Fault::Wire(&Wire::Answer(400, r#"{"__type": "ThrottlingException"}"#))),
    ("500", Fault::Wire(&Wire::Answer(500, r#"{"__type": "KMSInternalException"}"#))),
    ("503", Fault::Wire(&Wire::Answer(503, "<html>Service Unavailable</html>"))),
    ("slow", Fault::Wire(&Wire::Slow(Duration::from_secs(30)))),
    ("cut answer", Fault::Wire(&Wire::Cut)),
    ("wrong key", Fault::Wire(&Wire::WrongKey)),
    ("disabled", Fault::Disable),
    ("pending deletion", Fault::ScheduleDeletion),
];

/// One server with a table on a key that is struck, a table on a healthy one, and an owned table.
struct World {
    script: KeyScript,
    server: Server,
    /// The KMS of the faulty table, when it is not the server's own; the healthy key is in the server's own.
    remote: Option<ProxiedKms>,
    fault: Fault,
    sick: String,
    well: String,
    is_struck: bool,
    clock: i64,
    /// Rows acknowledged in the faulty table.
    rows: usize,
}

impl World {
    fn embedded(fault: Fault) -> Result<Self> {
        let script = KeyScript::new()?;
        let server = script.server().arguments(&OPTIONS).start()?;
        let sick = server.kms(&["create-key"])?;
        Self::with_tables(script, server, None, fault, sick)
    }

    fn remote(fault: Fault) -> Result<Self> {
        let script = KeyScript::new()?;
        let service = match fault {
            Fault::Wire(Wire::NoTls) => KmsService::with_tls()?,
            _ => KmsService::start::<&str>(&[], &[])?,
        };
        let mut kms = ProxiedKms::of(service)?;
        let sick = kms.create_key()?;
        let builder = match fault {
            Fault::NoSuchHost => kms.server(&script, "localhost")?.shell(&names_of(&script)?),
            _ => kms.server(&script, "127.0.0.1")?,
        };
        let server = builder.arguments(&OPTIONS).start()?;
        Self::with_tables(script, server, Some(kms), fault, sick)
    }

    fn with_tables(
        script: KeyScript,
        server: Server,
        remote: Option<ProxiedKms>,
        fault: Fault,
        sick: String,
    ) -> Result<Self> {
        let well = server.kms(&["create-key"])?;
        let mut client = Client::connect(server.address())?;
        client
            .execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
        for (table, key) in [("sick", with_key(&sick)), ("well", with_key(&well))] {
            client
                .execute(&format!("CREATE TABLE ks.{table} (k int PRIMARY KEY, v text) {key}"))?;
        }
        client.execute("CREATE TABLE ks.owned (k int PRIMARY KEY, v text)")?;
        let is_struck = false;
        let mut world =
            Self { script, server, remote, fault, sick, well, is_struck, clock: 0, rows: 0 };
        for _ in 0..10 {
            world.write(&mut client)?.map_err(|(code, text)| format!("0x{code:04X} {text}"))?;
        }
        Ok(world)
    }

    fn strike(&mut self) -> Result<()> {
        self.is_struck = true;
        match (self.fault, &mut self.remote) {
            (Fault::Script(rule), _) => {
                let mut rule: Value = serde_json::from_str(rule)?;
                rule["operation"] = json!("*");
                rule["key"] = json!(self.sick);
                self.script.set_faults(&json!([rule]))
            }
            (Fault::Wire(wire), Some(remote)) => remote.proxy.set(wire.clone()),
            (Fault::NoSuchHost, Some(remote)) => {
                rewrite(&hosts_of(&self.script), "")?;
                // Connections that are open need no name.
                remote.proxy.set(Wire::Refuse)
            }
            (Fault::Disable, _) => self.administer(&["DisableKey"]),
            (Fault::ScheduleDeletion, _) => self.administer(&["ScheduleKeyDeletion"]),
            (Fault::Wire(_) | Fault::NoSuchHost, None) => Err("no way to strike".into()),
        }
    }

    fn heal(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_struck) {
            return Ok(());
        }
        match (self.fault, &mut self.remote) {
            (Fault::Script(_), _) => self.script.clear_faults(),
            (Fault::Wire(_), Some(remote)) => remote.proxy.set(Wire::Pass),
            (Fault::NoSuchHost, Some(remote)) => {
                remote.proxy.set(Wire::Pass)?;
                rewrite(&hosts_of(&self.script), KNOWN_HOST)
            }
            (Fault::Disable, _) => self.administer(&["EnableKey"]),
            (Fault::ScheduleDeletion, _) => self.administer(&["CancelKeyDeletion", "EnableKey"]),
            (Fault::Wire(_) | Fault::NoSuchHost, None) => Err("no way to heal".into()),
        }
    }

    /// Does this to the faulty key, in whichever KMS it is.
    fn administer(&mut self, operations: &[&str]) -> Result<()> {
        for operation in operations {
            if let Some(remote) = &mut self.remote {
                remote.boto.call(operation, json!({"KeyId": self.sick}))?;
            } else {
                self.server.kms(&[&command_of(operation), &self.sick])?;
            }
        }
        Ok(())
    }

    fn connect(&self) -> Result<Client> {
        Client::connect(self.server.address())
    }

    /// No key that is cached now is used after this.
    fn age_cache(&mut self) -> Result<()> {
        self.clock += 301;
        self.script.set_clock(self.clock)
    }

    /// One row more in the faulty table; code and text of a refusal.
    fn write(&mut self, client: &mut Client) -> Result<std::result::Result<(), (i32, String)>> {
        let (row, text) = (self.rows, "text of some length ".repeat(40));
        let answer =
            attempt(client, &format!("INSERT INTO ks.sick (k, v) VALUES ({row}, '{row} {text}')"))?;
        if answer.is_ok() {
            self.rows += 1;
        }
        Ok(answer)
    }

    /// The tables beside the faulty one answer as they always do.
    fn check_bystanders(&self) -> Result<()> {
        let mut client = self.connect()?;
        for table in ["well", "owned"] {
            for statement in [
                format!("INSERT INTO ks.{table} (k, v) VALUES (1, 'beside')"),
                format!("SELECT v FROM ks.{table} WHERE k = 1"),
            ] {
                let ((), took) = timed(|| client.execute(&statement).map(|_| ()))?;
                if took > BYSTANDER_WITHIN {
                    return Err(format!("{statement} took {took:?}").into());
                }
            }
        }
        Ok(())
    }

    /// All is well again without a restart, and every acknowledged row is there.
    fn recover(&mut self) -> Result<()> {
        self.heal()?;
        let mut client = self.connect()?;
        let rows = until(RECOVERY_WITHIN, "the table serves again", || {
            Ok(match client.query("SELECT k FROM ks.sick")? {
                ReceivedBody::Rows(rows) => Ok(rows.rows.len()),
                other => Err(format!("{other:?}")),
            })
        })?;
        if rows != self.rows {
            return Err(format!("{} rows acknowledged, {rows} found", self.rows).into());
        }
        self.write(&mut client)?.map_err(|(code, text)| format!("0x{code:04X} {text}").into())
    }

    fn segments(&self) -> usize {
        let tables = fs::read_dir(self.server.directory().join("tables"));
        let files = tables.into_iter().flatten().flatten();
        let files = files.filter_map(|table| fs::read_dir(table.path()).ok()).flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|end| end == "segment")).count()
    }
}

/// `DisableKey` on the command line is `disable-key`.
fn command_of(operation: &str) -> String {
    let mut command = String::new();
    for letter in operation.chars() {
        if letter.is_uppercase() && !command.is_empty() {
            command.push('-');
        }
        command.push(letter.to_ascii_lowercase());
    }
    command
}

const KNOWN_HOST: &str = "127.0.0.1 localhost\n";

/// What the server sees as `/etc/hosts`.
fn hosts_of(script: &KeyScript) -> PathBuf {
    script.folder().join("hosts")
}

/// Shell text after which a program knows the names in a file of ours, and no others.
fn names_of(script: &KeyScript) -> Result<String> {
    let (hosts, servers) = (hosts_of(script), script.folder().join("resolv.conf"));
    fs::write(&hosts, KNOWN_HOST)?;
    // Where nothing listens: an unknown name is known as unknown at once.
    fs::write(&servers, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
    let (hosts, servers) = (hosts.to_string_lossy(), servers.to_string_lossy());
    Ok(format!(
        "exec unshare --mount sh -c 'mount --bind {hosts} /etc/hosts && \
         mount --bind {servers} /etc/resolv.conf && exec \"$0\" \"$@\"' \"$0\" \"$@\""
    ))
}

/// Writes into the file that is there, since a mount holds on to it.
fn rewrite(path: &Path, content: &str) -> Result<()> {
    let mut file = fs::File::options().write(true).truncate(true).open(path)?;
    Ok(file.write_all(content.as_bytes())?)
}

/// Sends a statement; code and text when it is refused.
fn attempt(client: &mut Client, statement: &str) -> Result<std::result::Result<(), (i32, String)>> {
    let (body, took) = timed(|| client.query(statement))?;
    if took > ANSWER_WITHIN {
        return Err(format!("{statement} was answered after {took:?}").into());
    }
    Ok(match body {
        ReceivedBody::Error(error) => Err((error.detail.code(), error.message)),
        _ => Ok(()),
    })
}

/// The cell of an answer. A refusal must name the table and the key.
fn cell(answer: std::result::Result<(), (i32, String)>, table: &str, key: &str) -> Result<String> {
    match answer {
        Ok(()) => Ok("ok".to_owned()),
        Err((code, text)) if text.contains(table) && text.contains(key) => {
            Ok(format!("{code:04x}"))
        }
        Err((code, text)) => Err(format!("0x{code:04X} {text}: names no {table} or {key}").into()),
    }
}

/// Repeats a statement until it is refused; a server takes a moment to see that its clock moved.
fn refused(client: &mut Client, statement: &str) -> Result<(i32, String)> {
    until(ANSWER_WITHIN, &format!("a refusal of {statement}"), || {
        Ok(attempt(client, statement)?.err().ok_or_else(|| "it succeeds".to_owned()))
    })
}

fn create(world: &mut World) -> Result<String> {
    world.strike()?;
    let mut client = world.connect()?;
    let statement =
        format!("CREATE TABLE ks.born (k int PRIMARY KEY, v text) {}", with_key(&world.sick));
    let answer = cell(attempt(&mut client, &statement)?, "ks.born", &world.sick)?;
    world.check_bystanders()?;
    if attempt(&mut client, "SELECT * FROM ks.born")?.is_ok() {
        return Err("a table that was refused is there".into());
    }
    world.heal()?;
    until(RECOVERY_WITHIN, "the table can be made", || {
        Ok(attempt(&mut client, &statement)?.map_err(|(code, text)| format!("{code:04x} {text}")))
    })?;
    client.execute("INSERT INTO ks.born (k, v) VALUES (1, 'x')")?;
    client.execute("DROP TABLE ks.born")?;
    Ok(answer)
}

fn write(world: &mut World) -> Result<String> {
    world.strike()?;
    world.age_cache()?;
    let mut client = world.connect()?;
    let answer = until(ANSWER_WITHIN, "a refusal of a write", || {
        Ok(world.write(&mut client)?.err().ok_or_else(|| "it succeeds".to_owned()))
    })?;
    world.check_bystanders()?;
    cell(Err(answer), "ks.sick", &world.sick)
}

/// With a cached key what is written is flushed, KMS or not.
fn flush(world: &mut World) -> Result<String> {
    let before = world.segments();
    world.strike()?;
    let mut client = world.connect()?;
    let mut answer = Ok(());
    for _ in 0..150 {
        answer = world.write(&mut client)?;
        if answer.is_err() {
            break;
        }
    }
    if answer.is_ok() {
        until(ANSWER_WITHIN, "a flush", || {
            let now = world.segments();
            Ok(if now > before { Ok(()) } else { Err(format!("{now} segments")) })
        })?;
    }
    world.check_bystanders()?;
    cell(answer, "ks.sick", &world.sick)
}

fn cold_read(world: &mut World) -> Result<String> {
    world.strike()?;
    world.age_cache()?;
    let mut client = world.connect()?;
    let answer = refused(&mut client, "SELECT v FROM ks.sick WHERE k = 1")?;
    world.check_bystanders()?;
    // What cannot be opened can be described.
    client.execute("DESCRIBE TABLE ks.sick")?;
    cell(Err(answer), "ks.sick", &world.sick)
}

/// With a cached key segments are merged, KMS or not; when the key goes away in the middle, nothing is lost.
fn compaction(world: &mut World) -> Result<String> {
    world.strike()?;
    let mut client = world.connect()?;
    let mut answer = Ok(());
    for _ in 0..300 {
        answer = world.write(&mut client)?;
        if answer.is_err() {
            break;
        }
    }
    world.age_cache()?;
    refused(&mut client, "SELECT v FROM ks.sick WHERE k = 1")?;
    // Flushes and compactions of the others do not wait for this one.
    let text = "text of some length ".repeat(40);
    for row in 0..300 {
        let statement = format!("INSERT INTO ks.owned (k, v) VALUES ({row}, '{text}')");
        let ((), took) = timed(|| client.execute(&statement).map(|_| ()))?;
        if took > BYSTANDER_WITHIN {
            return Err(format!("a write beside took {took:?}").into());
        }
    }
    world.check_bystanders()?;
    cell(answer, "ks.sick", &world.sick)
}

/// To the key that is struck: refused, and nothing changed. From it, without a cached key: the same.
fn swap(world: &mut World) -> Result<String> {
    world.strike()?;
    let mut client = world.connect()?;
    let to = format!("ALTER TABLE ks.well {}", with_key(&world.sick));
    let answer = cell(attempt(&mut client, &to)?, "ks.well", &world.sick)?;
    world.check_bystanders()?;
    world.age_cache()?;
    refused(&mut client, "SELECT v FROM ks.sick WHERE k = 1")?;
    let from = format!("ALTER TABLE ks.sick {}", with_key(&world.well));
    let left = cell(attempt(&mut client, &from)?, "ks.sick", &world.sick)?;
    if answer != left {
        return Err(format!("{answer} for a swap to the key, {left} from it").into());
    }
    let shown = client.rows("SELECT custom_properties FROM system_schema_mcs.tables WHERE keyspace_name = 'ks' AND table_name = 'sick'")?;
    let shown = shown.rows[0][0].clone().ok_or("no properties")?;
    if !String::from_utf8_lossy(&shown).contains(&world.sick) {
        return Err("a refused swap shows the new key".into());
    }
    world.check_bystanders()?;
    Ok(answer)
}

fn restart(world: &mut World) -> Result<String> {
    world.server.kill()?;
    started(world)
}

fn start(world: &mut World) -> Result<String> {
    world.server.stop()?;
    started(world)
}

/// Starts with the fault: the server is ready, the others serve at once.
fn started(world: &mut World) -> Result<String> {
    // The administrator's commands work without a server too.
    world.strike()?;
    let ((), took) = timed(|| world.server.restart())?;
    if took > START_WITHIN {
        return Err(format!("the start took {took:?}").into());
    }
    world.check_bystanders()?;
    let mut client = world.connect()?;
    let answer = attempt(&mut client, "SELECT v FROM ks.sick WHERE k = 1")?;
    cell(answer, "ks.sick", &world.sick)
}

/// One row of the table, a cell for each phase.
fn row(name: &str, fault: Fault, start_world: fn(Fault) -> Result<World>) -> Result<String> {
    let told = |error| format!("{name}: {error}");
    let mut world = start_world(fault).map_err(told)?;
    let phases: [fn(&mut World) -> Result<String>; 8] =
        [create, write, flush, cold_read, compaction, swap, restart, start];
    let mut cells = Vec::new();
    for (phase, run) in PHASES.iter().zip(phases) {
        let told = |error| format!("{name}, {phase}: {error}");
        let (cell, took) = timed(|| run(&mut world).map_err(told).map_err(Into::into))?;
        let ((), healed) = timed(|| world.recover().map_err(told).map_err(Into::into))?;
        note(&format!("{name}, {phase}: {cell} in {took:?}, well again in {healed:?}"));
        cells.push(cell);
    }
    let log = world.server.log()?;
    if log.contains("panicked") {
        return Err(format!("{name}: {log}").into());
    }
    Ok(format!("{name:<20}{}", cells.join(" ")))
}

#[expect(clippy::print_stderr, reason = "seen with --nocapture, and when the test fails")]
fn note(line: &str) {
    eprintln!("{line}");
}

fn check(faults: [(&'static str, Fault); 12], world: fn(Fault) -> Result<World>) -> Result<()> {
    cql_tests::executable()?;
    let threads = faults.map(|(name, fault)| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || row(name, fault, world).unwrap_or_else(|error| error.to_string()))
    });
    let mut rows = Vec::new();
    for thread in threads {
        rows.push(thread?.join().map_err(|_| "a row panicked")?);
    }
    let wanted: Vec<&str> = GOLDEN.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(rows, wanted, "columns: {PHASES:?}");
    Ok(())
}

#[test]
fn twelve_faults_of_the_embedded_kms_do_in_eight_phases_what_the_golden_table_says() -> Result<()> {
    check(EMBEDDED, World::embedded)
}

#[test]
fn twelve_faults_of_a_kms_elsewhere_do_in_eight_phases_what_the_golden_table_says() -> Result<()> {
    check(REMOTE, World::remote)
}
