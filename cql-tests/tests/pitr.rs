//! Point-in-time recovery through CQL: what a table was at any moment, against a model of it.

use std::collections::BTreeMap;

use cql_tests::{
    Client, KeyScript, Result, Server, dump,
    files::files_that_end,
    key_loss::{DAY, KeyClock},
    key_status::texts,
    poll::{until, wall_millis},
    random::Random,
    with_key,
};

const SMALL: [&str; 6] =
    ["--memtable-flush-bytes", "64KiB", "--log-file-bytes", "64KiB", "--log-total-bytes", "1MiB"];
const ON: &str = "'point_in_time_recovery': {'status': 'enabled'}";
const OFF: &str = "'point_in_time_recovery': {'status': 'disabled'}";
const KEYS: usize = 30;
/// Between two writes, so that a moment between them can be named in milliseconds.
const GAP_MILLIS: i64 = 6;

/// As RESTORE takes it: `2020-06-30T19:19:21.175Z`, or with `+0000` and without a colon.
fn iso(millis: i64, with_offset: bool) -> String {
    let (days, rest) = (millis.div_euclid(DAY * 1000), millis.rem_euclid(DAY * 1000));
    // The civil calendar in eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) =
        (year + era * 400 + i64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let end = if with_offset { "+0000" } else { "Z" };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}{end}")
}

#[test]
fn dates_are_written_as_documented() {
    assert_eq!(iso(1_593_544_761_175, false), "2020-06-30T19:19:21.175Z");
    assert_eq!(iso(951_782_400_000, true), "2000-02-29T00:00:00.000+0000");
}

type Model = BTreeMap<i32, String>;

/// A table that is written to, and what it was after each write.
struct Written {
    model: Model,
    /// A moment after each write and before the next one, and the table then.
    history: Vec<(i64, Model)>,
}

impl Written {
    fn new() -> Self {
        Self { model: Model::new(), history: Vec::new() }
    }

    /// One random change, and a pause.
    fn change(&mut self, client: &mut Client, random: &mut Random) -> Result<()> {
        let key = i32::try_from(random.below(KEYS))?;
        match random.below(10) {
            0 => {
                client.execute(&format!("DELETE FROM ks.t WHERE k = {key}"))?;
                self.model.remove(&key);
            }
            1 => {
                let other = i32::try_from(random.below(KEYS))?;
                let (one, two) = (format!("batch {}", self.history.len()), "the other".to_owned());
                client.execute(&format!(
                    "BEGIN BATCH INSERT INTO ks.t (k, v) VALUES ({other}, '{two}'); \
                     INSERT INTO ks.u (k, v) VALUES ({key}, 'of another table'); \
                     INSERT INTO ks.t (k, v) VALUES ({key}, '{one}') USING TIMESTAMP {}; APPLY BATCH",
                    wall_millis() * 1000 + 5_000
                ))?;
                self.model.insert(other, two);
                self.model.insert(key, one);
            }
            _ => {
                let value =
                    format!("write {} {}", self.history.len(), "x".repeat(random.below(300)));
                client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({key}, '{value}')"))?;
                self.model.insert(key, value);
            }
        }
        let after = wall_millis();
        until(std::time::Duration::from_secs(10), "a pause", || {
            Ok(if wall_millis() > after + GAP_MILLIS { Ok(()) } else { Err("now".to_owned()) })
        })?;
        self.history.push((after + GAP_MILLIS / 2, self.model.clone()));
        Ok(())
    }
}

fn rows(client: &mut Client, table: &str) -> Result<Model> {
    let (_, rows) = dump::pages(client, &format!("SELECT k, v FROM ks.{table}"))?;
    let mut model = Model::new();
    for row in rows {
        let [Some(key), Some(value)] = row.as_slice() else {
            return Err(format!("a row {row:?}").into());
        };
        let key = i32::from_be_bytes(key.as_ref().try_into()?);
        model.insert(key, String::from_utf8(value.to_vec())?);
    }
    Ok(model)
}

fn restore(table: &str, millis: i64, with_offset: bool) -> String {
    let at = iso(millis, with_offset);
    format!("RESTORE TABLE ks.{table} FROM TABLE ks.t WITH restore_timestamp = '{at}'")
}

/// The custom properties of ks.t as the server shows them.
fn properties(client: &mut Client) -> Result<String> {
    let rows = texts(
        client,
        "SELECT custom_properties FROM system_schema_mcs.tables WHERE keyspace_name = 'ks' AND table_name = 't'",
    )?;
    Ok(format!("{rows:?}"))
}

fn start(script: &KeyScript) -> Result<(Server, Client, String)> {
    let server = script.server().arguments(&SMALL).start()?;
    let key = server.kms(&["create-key"])?;
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute("CREATE TABLE ks.u (k int PRIMARY KEY, v text)")?;
    Ok((server, client, key))
}

fn create(key: &str) -> String {
    let with = with_key(key);
    let with = with.strip_suffix('}').unwrap_or(&with);
    format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {with}, {ON}}}")
}

#[test]
fn a_table_is_restored_to_any_moment_of_its_history() -> Result<()> {
    let script = KeyScript::new()?;
    let (mut server, mut client, key) = start(&script)?;
    let before_all = wall_millis() - 5_000;
    client.execute(&create(&key))?;
    assert!(properties(&mut client)?.contains("earliest_restorable_timestamp"));
    let (mut random, mut written) = (Random::new(35), Written::new());
    for part in 0..4 {
        for _ in 0..250 {
            written.change(&mut client, &mut random)?;
        }
        match part {
            0 => {
                server.stop()?;
                server.restart()?;
            }
            1 => {
                // The history is under the new key too.
                let second = server.kms(&["create-key"])?;
                client.execute(&format!("ALTER TABLE ks.t {}", with_key(&second)))?;
                server.kms(&["disable-key", &key])?;
            }
            2 => {
                server.kill()?;
                server.restart()?;
            }
            _ => {}
        }
        client = Client::connect(server.address())?;
    }
    let (code, text) = client.error(&restore("early", before_all, false))?;
    assert!(code == 0x2200 && text.contains("ks.t"), "0x{code:04X} {text}");
    let (code, text) = client.error(&restore("late", wall_millis() + 3_600_000, false))?;
    assert_eq!(code, 0x2200, "{text}");
    let mut moments: Vec<usize> = (0..10).map(|_| random.below(written.history.len())).collect();
    moments.extend([0, written.history.len() - 1]);
    for (number, place) in moments.into_iter().enumerate() {
        let (millis, model) = written.history.get(place).ok_or("no such moment")?;
        client.execute(&restore(&format!("r{number}"), *millis, number % 2 == 0))?;
        let found = rows(&mut client, &format!("r{number}"))?;
        assert_eq!(&found, model, "after write {place}, at {}", iso(*millis, false));
    }
    assert_eq!(rows(&mut client, "t")?, written.model, "the source is as it was");
    // Also when it is there no more.
    client.execute("DROP TABLE ks.t")?;
    let (millis, model) = written.history.get(500).ok_or("no such moment")?;
    client.execute(&restore("dropped", *millis, false))?;
    assert_eq!(&rows(&mut client, "dropped")?, model, "from the history of a dropped table");
    server.kill()?;
    server.restart()?;
    let mut client = Client::connect(server.address())?;
    assert_eq!(&rows(&mut client, "dropped")?, model, "after a restart");
    Ok(())
}

/// Ten seconds, one value each: the table at the end of each second has that second's value.
#[test]
fn each_second_of_ten_is_restored() -> Result<()> {
    let script = KeyScript::new()?;
    let (_server, mut client, key) = start(&script)?;
    client.execute(&create(&key))?;
    let mut seconds = Vec::new();
    for number in 0..10 {
        client.execute(&format!("INSERT INTO ks.t (k, v) VALUES (1, 'second {number}')"))?;
        let second = wall_millis().div_euclid(1000) + 1;
        until(std::time::Duration::from_secs(10), "the next second", || {
            Ok(if wall_millis() > second * 1000 + 2 { Ok(()) } else { Err("not yet".to_owned()) })
        })?;
        seconds.push(second * 1000);
    }
    for (number, second) in seconds.into_iter().enumerate() {
        client.execute(&restore(&format!("s{number}"), second, number % 2 == 0))?;
        let expected = Model::from([(1, format!("second {number}"))]);
        assert_eq!(rows(&mut client, &format!("s{number}"))?, expected);
    }
    Ok(())
}

#[test]
fn a_schema_is_restored_as_it_was_and_history_ends_where_it_is_turned_off() -> Result<()> {
    let script = KeyScript::new()?;
    let (server, mut client, key) = start(&script)?;
    client.execute(&create(&key))?;
    let (mut random, mut written) = (Random::new(7), Written::new());
    for _ in 0..20 {
        written.change(&mut client, &mut random)?;
    }
    client.execute("ALTER TABLE ks.t ADD more text")?;
    client.execute("INSERT INTO ks.t (k, v, more) VALUES (500, 'later', 'column')")?;
    let (millis, model) = written.history.last().ok_or("nothing written")?;
    client.execute(&restore("narrow", *millis, false))?;
    assert_eq!(&rows(&mut client, "narrow")?, model);
    let (code, text) = client.error("SELECT more FROM ks.narrow")?;
    assert_eq!(code, 0x2200, "a column that was not there: {text}");
    client.execute("RESTORE TABLE ks.wide FROM TABLE ks.t")?;
    assert_eq!(client.rows("SELECT more FROM ks.wide WHERE k = 500")?.rows.len(), 1);

    client.execute(&format!("ALTER TABLE ks.t WITH CUSTOM_PROPERTIES = {{{OFF}}}"))?;
    let archived = files_that_end(&server.directory().join("archive"), ".tail")?;
    assert!(archived.is_empty(), "history is left: {archived:?}");
    let (code, text) = client.error(&restore("erased", *millis, false))?;
    assert!(code == 0x2200 && text.contains("ks.t"), "0x{code:04X} {text}");
    client.execute(&format!("ALTER TABLE ks.t WITH CUSTOM_PROPERTIES = {{{ON}}}"))?;
    let (code, _) = client.error(&restore("still_erased", *millis, false))?;
    assert_eq!(code, 0x2200, "history from before it was turned on again");
    Ok(())
}

/// 35 days of the clock of keys after it, what was dropped is gone.
#[test]
fn the_history_of_a_dropped_table_lives_35_days_and_no_longer() -> Result<()> {
    let mut clock = KeyClock::new()?;
    let (server, mut client, key) = start(&clock.script)?;
    client.execute(&create(&key))?;
    let (mut random, mut written) = (Random::new(8), Written::new());
    for _ in 0..30 {
        written.change(&mut client, &mut random)?;
    }
    let (millis, model) = written.history.get(15).cloned().ok_or("nothing written")?;
    client.execute("DROP TABLE ks.t")?;
    clock.advance(34 * DAY)?;
    // Without a history of its own.
    client.execute(&format!(
        "{} AND custom_properties = {{{OFF}}}",
        restore("day34", millis, true)
    ))?;
    assert_eq!(rows(&mut client, "day34")?, model);
    // The 35 days begin when the background has seen the drop, within seconds of it.
    let seen = wall_millis() + 15_000;
    until(std::time::Duration::from_secs(30), "the drop is seen", || {
        Ok(if wall_millis() > seen { Ok(()) } else { Err("not yet".to_owned()) })
    })?;
    clock.advance(36 * DAY)?;
    clock.nudge_until("what was kept is gone", || {
        let folders = ["archive", "snapshots"].map(|name| server.directory().join(name));
        let mut left = Vec::new();
        for folder in &folders {
            left.extend(files_that_end(folder, "")?);
        }
        Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
    })?;
    let (code, text) = client.error(&restore("too_late", millis, true))?;
    assert_eq!(code, 0x2200, "{text}");
    assert_eq!(rows(&mut client, "day34")?, model, "a restored table is a table of its own");
    Ok(())
}
