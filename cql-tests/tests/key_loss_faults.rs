//! What must not cost a table, however long it lasts: a KMS that is away, Coffer's own credentials or settings
//! gone wrong, damaged files, crashes at any moment.

use std::{fs, path::PathBuf};

use cql_tests::{
    Boto, Client, KmsService, Result, SERVICE_ACCOUNT, Server, ServerBuilder, dump,
    files::{copy_tree, files_that_end, flip_byte, relative},
    free_address,
    key_loss::{DAY, KeyClock, events, keyspace_with_other, kinds, moment, tables},
    key_status::{status, texts},
    poll::{until, wall_millis},
    random::Random,
    with_key,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SMALL: [&str; 4] = ["--memtable-flush-bytes", "64KiB", "--log-file-bytes", "64KiB"];
const DAY_MILLIS: i64 = DAY * 1000;
/// Kills around a deadline.
const ROUNDS: usize = 20;
/// From a start to a drop whose time has come, and a little more.
const ROUND_MILLIS: usize = 9_000;

/// `ks.t` under a key: rows in segments, and some in the log.
fn fill(server: &mut Server, key: &str) -> Result<()> {
    let mut client = keyspace_with_other(server)?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(key)))?;
    let text = "what fills a segment ".repeat(20);
    for k in 0..400 {
        client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({k}, '{k} {text}')"))?;
    }
    server.stop()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    for k in 390..420 {
        client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({k}, 'in the log')"))?;
    }
    let segments: i32 = status(&mut client, "t", "segments")?.parse()?;
    assert!(segments > 0, "nothing was flushed");
    Ok(())
}

fn whole(client: &mut Client) -> Result<dump::Dump> {
    dump::table(client, "ks", "t")
}

/// A server with an embedded KMS, and `ks.t` under a key of it.
struct World {
    clock: KeyClock,
    server: Server,
    key: String,
    before: dump::Dump,
}

impl World {
    fn start() -> Result<Self> {
        let clock = KeyClock::new()?;
        let mut server = clock.script.server().arguments(&SMALL).start()?;
        let key = server.kms(&["create-key"])?;
        fill(&mut server, &key)?;
        let before = whole(&mut Client::connect(server.address())?)?;
        assert_eq!(before.1.len(), 420);
        Ok(Self { clock, server, key, before })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.server.address())
    }

    fn lose(&mut self) -> Result<i64> {
        let mut client = self.client()?;
        self.server.kms(&["disable-key", &self.key])?;
        self.clock.wait_for_event(&mut client, "t", "key_lost", 1)?;
        moment(&mut client, "t", "deadline")?.ok_or_else(|| "no deadline".into())
    }
}

fn assert_never_lost(client: &mut Client, why: &str) -> Result<()> {
    assert!(tables(client)?.contains("t"), "{why} cost a table: {:?}", kinds(client, "t")?);
    let told = kinds(client, "t")?;
    let forbidden = ["key_lost", "snapshot_taken", "dropped", "reminder"];
    assert!(!told.iter().any(|kind| forbidden.contains(&kind.as_str())), "{why}: {told:?}");
    assert_ne!(status(client, "t", "state")?, "INACCESSIBLE", "{why}");
    assert_eq!(moment(client, "t", "deadline")?, None, "{why} has a deadline");
    Ok(())
}

#[test]
fn a_kms_that_is_away_for_eight_days_costs_no_table() -> Result<()> {
    let faults = [
        json!([{"operation": "*", "key": "*", "fault": "blackhole"}]),
        json!([{"operation": "*", "key": "*", "fault": "throttle"}]),
        json!([{"operation": "*", "key": "*", "fault": "error", "error": "KMSInternalException"}]),
    ];
    let mut world = World::start()?;
    let mut client = world.client()?;
    for (round, rules) in faults.iter().enumerate() {
        world.clock.script.set_faults(rules)?;
        world.clock.wait_for_event(&mut client, "t", "unreachable", round + 1)?;
        assert_eq!(status(&mut client, "t", "state")?, "UNREACHABLE");
        for _ in 0..8 {
            world.clock.advance(DAY)?;
            world.clock.wait_for_refusal(&mut client, "t")?;
        }
        assert_never_lost(&mut client, &rules.to_string())?;
        assert_eq!(client.rows("SELECT v FROM ks.other WHERE k = 1")?.rows.len(), 1);
        world.clock.script.clear_faults()?;
        let back = world.clock.wait_for_event(&mut client, "t", "reachable", round + 1)?;
        let away = events(&mut client)?;
        let away = away.iter().rfind(|event| event.kind == "unreachable").ok_or("no event")?;
        assert_eq!(back.key_arn, away.key_arn);
        assert!(away.deadline.is_none() && !away.todo.is_empty(), "{away:?}");
        assert!(world.before == whole(&mut client)?, "rows after {rules}");
    }
    Ok(())
}

/// A KMS elsewhere, and what the server is told about it; each part can be made wrong.
struct Remote {
    clock: KeyClock,
    service: KmsService,
    boto: Boto,
    config: PathBuf,
    credentials: PathBuf,
}

impl Remote {
    fn new() -> Result<Self> {
        let (clock, service) = (KeyClock::new()?, KmsService::start::<&str>(&[], &[])?);
        let folder = clock.script.folder();
        let (config, credentials) = (folder.join("coffer.toml"), folder.join("credentials"));
        let boto = service.boto()?;
        let remote = Self { clock, service, boto, config, credentials };
        remote.put_right()?;
        Ok(remote)
    }

    fn put_right(&self) -> Result<()> {
        fs::copy(self.service.credentials(), &self.credentials)?;
        self.set_endpoint(&self.service)
    }

    fn set_endpoint(&self, service: &KmsService) -> Result<()> {
        let host = service.address().to_string();
        Ok(fs::write(&self.config, service.provider(&host, &root()))?)
    }

    fn server(&self) -> Result<Server> {
        let server = self.clock.script.server().arguments(&SMALL);
        server
            .environment("AWS_SHARED_CREDENTIALS_FILE", &self.credentials.to_string_lossy())
            .environment("AWS_EC2_METADATA_DISABLED", "true")
            .arguments(&["--config", &self.config.to_string_lossy()])
            .start()
    }
}

fn root() -> String {
    format!("arn:aws:iam::{SERVICE_ACCOUNT}:root")
}

/// Settings that somebody gets wrong: what the KMS then refuses says nothing about the key.
#[test]
fn wrong_settings_for_eight_days_cost_no_table() -> Result<()> {
    let mut remote = Remote::new()?;
    let made = remote.boto.call("CreateKey", json!({}))?;
    let key = made.pointer("/KeyMetadata/Arn").and_then(Value::as_str).ok_or("no ARN")?.to_owned();
    let mut server = remote.server()?;
    fill(&mut server, &key)?;
    let before = whole(&mut Client::connect(server.address())?)?;
    let stranger = KmsService::start::<&str>(&[], &[])?;
    let (_, nobody, _client) = remote.service.user("nobody")?;
    let nobody = fs::read_to_string(nobody)?;
    let section = nobody.split(['[', ']']).nth(1).ok_or("no section")?.to_owned();

    for wrong in ["secret", "another caller", "no endpoint", "another KMS"] {
        server.stop()?;
        match wrong {
            "secret" => fs::write(
                &remote.credentials,
                "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n",
            )?,
            "another caller" => {
                let text = nobody.replace(&format!("[{section}]"), "[default]");
                fs::write(&remote.credentials, text)?;
            }
            "no endpoint" => {
                let text = remote.service.provider(&free_address()?.to_string(), &root());
                fs::write(&remote.config, text)?;
            }
            _ => {
                // It knows the caller, and no such key.
                fs::copy(stranger.credentials(), &remote.credentials)?;
                remote.set_endpoint(&stranger)?;
            }
        }
        server.restart()?;
        let mut client = Client::connect(server.address())?;
        for _ in 0..9 {
            remote.clock.wait_for_refusal(&mut client, "t")?;
            remote.clock.advance(DAY)?;
        }
        remote.clock.wait_for_refusal(&mut client, "t")?;
        assert_never_lost(&mut client, wrong)?;
        server.stop()?;
        remote.put_right()?;
        server.restart()?;
        let mut client = Client::connect(server.address())?;
        assert!(before == whole(&mut client)?, "rows after {wrong}");
        remote.clock.wait_for_state(&mut client, "t", "ACCESSIBLE")?;
    }
    // The test would be worth nothing if no refusal counted.
    remote.boto.call("DisableKey", json!({"KeyId": key}))?;
    let mut client = Client::connect(server.address())?;
    remote.clock.wait_for_event(&mut client, "t", "key_lost", 1)?;
    Ok(())
}

/// The directory name of ks.t.
fn id_of_t(client: &mut Client) -> Result<String> {
    let rows = texts(
        client,
        "SELECT id FROM system_schema.tables WHERE keyspace_name = 'ks' AND table_name = 't'",
    )?;
    let id = rows.into_iter().next().and_then(|mut row| row.remove("id"));
    id.ok_or_else(|| "no id".into())
}

#[test]
fn one_flipped_byte_blocks_the_drop_until_the_file_is_repaired() -> Result<()> {
    let mut world = World::start()?;
    let deadline = world.lose()?;
    let mut client = world.client()?;
    let folder = world.server.directory().join("tables");
    let id = id_of_t(&mut client)?;
    let segments = files_that_end(&folder, ".segment")?;
    let bare = |text: &str| text.replace('-', "");
    let damaged = segments
        .into_iter()
        .find(|path| bare(&path.to_string_lossy()).contains(&bare(&id)))
        .ok_or("no segment")?;
    let middle = fs::metadata(&damaged)?.len() / 2;
    flip_byte(&damaged, middle)?;
    world.clock.set_millis(deadline + 5_000)?;
    let name = damaged.file_name().and_then(|name| name.to_str()).ok_or("no name")?.to_owned();
    let told = world.clock.nudge_until("the drop is blocked", || {
        let mut all = events(&mut client)?;
        all.retain(|event| ["snapshot_failed", "drop_blocked"].contains(&event.kind.as_str()));
        Ok(all.pop().ok_or_else(|| "no event".to_owned()))
    })?;
    assert!(told.detail.contains(&name), "{name} is not named: {told:?}");
    assert!(!told.todo.is_empty(), "{told:?}");
    for _ in 0..3 {
        world.clock.advance(3 * DAY)?;
        world.clock.wait_for_refusal(&mut client, "t")?;
        assert!(tables(&mut client)?.contains("t"), "dropped without a whole snapshot");
    }
    world.server.kill()?;
    world.server.restart()?;
    let mut client = world.client()?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    assert!(tables(&mut client)?.contains("t"), "dropped after a restart");
    let blocked = kinds(&mut client, "t")?;
    let count = |kind: &str| blocked.iter().filter(|one| *one == kind).count();
    assert!(count("snapshot_failed") <= 2 && count("drop_blocked") <= 2, "told often: {blocked:?}");

    flip_byte(&damaged, middle)?;
    world.clock.wait_until_dropped(&mut client, "t")?;
    world.server.kms(&["enable-key", &world.key])?;
    client.execute("RESTORE TABLE ks.t FROM TABLE ks.t")?;
    assert!(world.before == whole(&mut client)?, "rows of the restored table");
    Ok(())
}

/// A server on a copy of a directory with a table whose time ends in a moment.
struct Round {
    _folder: TempDir,
    clock: KeyClock,
    server: Server,
}

impl Round {
    fn start(world: &World) -> Result<Self> {
        let folder = TempDir::new()?;
        let directory = folder.path().join("data");
        copy_tree(world.server.directory(), &directory)?;
        let mut clock = KeyClock::new()?;
        clock.advance(world.clock.seconds())?;
        let server: ServerBuilder = clock.script.server().arguments(&SMALL);
        let server = server.directory(&directory).start()?;
        Ok(Self { _folder: folder, clock, server })
    }

    /// Lets minutes go by until so many real milliseconds are over.
    fn pass(&mut self, millis: usize) -> Result<()> {
        let end = wall_millis() + i64::try_from(millis)?;
        let mut nudged = wall_millis();
        until(std::time::Duration::from_secs(60), "time goes by", || {
            let now = wall_millis();
            if now - nudged > 500 {
                nudged = now;
                self.clock.advance(61)?;
            }
            Ok(if now >= end { Ok(()) } else { Err("not yet".to_owned()) })
        })
    }
}

#[test]
fn a_kill_at_any_moment_around_the_deadline_leaves_the_table_or_its_snapshot() -> Result<()> {
    let mut world = World::start()?;
    let deadline = world.lose()?;
    let mut client = world.client()?;
    world.clock.set_millis(deadline - 900_000)?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    assert!(tables(&mut client)?.contains("t"), "dropped before its time");
    world.server.stop()?;
    world.clock.set_millis(deadline + 5_000)?;
    let mut random = Random::new(20_261_122);
    let (mut kept, mut restored, mut halfway) = (0, 0, 0);
    for number in 0..ROUNDS {
        let mut round = Round::start(&world)?;
        for _ in 0..2 {
            let wait = random.below(ROUND_MILLIS);
            round.pass(wait)?;
            let snapshots = files_that_end(&round.server.directory().join("snapshots"), "")?;
            round.server.kill()?;
            halfway += usize::from(!snapshots.is_empty());
            round.server.restart()?;
        }
        round.server.kms(&["enable-key", &world.key])?;
        let mut client = Client::connect(round.server.address())?;
        let is_there = round.clock.nudge_until("the key is back, or the table gone", || {
            if !tables(&mut client)?.contains("t") {
                return Ok(Ok(false));
            }
            let state = status(&mut client, "t", "state")?;
            Ok(if state == "ACCESSIBLE" { Ok(true) } else { Err(state) })
        })?;
        if is_there {
            kept += 1;
        } else {
            client.execute("RESTORE TABLE ks.t FROM TABLE ks.t")?;
            restored += 1;
        }
        assert!(world.before == whole(&mut client)?, "rows in round {number}");
        round.server.stop()?;
        let output = round.server.coffer(&["kms", "list-keys"])?;
        assert!(output.status.success(), "the directory is whole");
        let log = round.server.log()?;
        let directory = round.server.directory();
        let left = files_that_end(directory, ".unpublished")?;
        let left: Vec<String> = left.iter().map(|path| relative(directory, path)).collect();
        assert!(left.is_empty() && !log.contains("panicked"), "round {number}: {left:?}\n{log}");
    }
    assert!(
        restored > 0 && halfway > 0,
        "{kept} kept, {restored} restored, {halfway} had a snapshot"
    );
    Ok(())
}

/// Eight days one way, eight days the other, at the wall clock of keys: neither the loss nor its time is lost.
#[test]
fn jumps_of_the_clock_do_not_shorten_the_seven_days() -> Result<()> {
    let mut world = World::start()?;
    let deadline = world.lose()?;
    let since = world.clock.now_millis();
    // Backwards while it is down: the shown dates go with it, the time left stays.
    world.server.stop()?;
    world.clock.advance(-8 * DAY)?;
    world.server.restart()?;
    let mut client = world.client()?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    let left =
        moment(&mut client, "t", "deadline")?.ok_or("no deadline")? - world.clock.now_millis();
    assert!((left - (deadline - since)).abs() < 3_600_000, "{left} ms left");
    // Forwards while it is down: one day of eight counts.
    world.server.stop()?;
    world.clock.advance(16 * DAY)?;
    world.server.restart()?;
    let mut client = world.client()?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    world.clock.wait_for_refusal(&mut client, "t")?;
    assert!(tables(&mut client)?.contains("t"), "{:?}", kinds(&mut client, "t")?);
    let left =
        moment(&mut client, "t", "deadline")?.ok_or("no deadline")? - world.clock.now_millis();
    assert!(left > 5 * DAY_MILLIS && left < 6 * DAY_MILLIS + 3_600_000, "{left} ms left");
    Ok(())
}
