//! A table key that is not to be used any more is nowhere in the server's memory: not as bytes, not as text.
//! The test learns the key on the way from the KMS, and finds it in memory while it is in use.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    time::Duration,
};

use cql_tests::{
    Boto, Client, KeyScript, KmsService, ProxiedKms, Result, Server, poll::until, with_key,
};
use serde_json::json;

/// How soon after its eviction a key is gone.
const GONE_WITHIN: Duration = Duration::from_secs(1);
const PIECE: usize = 1 << 20;

/// Forms of a key: its bytes, its base64 text as the KMS sends it, its hexadecimal text.
struct Needles(Vec<(&'static str, Vec<u8>)>);

impl Needles {
    /// The key in the newest answer of the KMS that holds one.
    fn of_last_key(kms: &ProxiedKms) -> Result<Self> {
        let calls = kms.proxy.calls();
        let text = calls.iter().rev().find_map(|call| call.answer.get("Plaintext")?.as_str());
        let text = text.ok_or("no key came from the KMS")?;
        let bytes = from_base64(text)?;
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Ok(Self(vec![
            ("bytes", bytes),
            ("base64", text.trim_end_matches('=').as_bytes().to_vec()),
            ("hexadecimal", hex.into_bytes()),
        ]))
    }
}

fn from_base64(text: &str) -> Result<Vec<u8>> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let digit = digits.iter().position(|digit| *digit == letter).ok_or("no base64")?;
        bits = (bits << 6) | u32::try_from(digit)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff)?);
        }
    }
    Ok(bytes)
}

/// Where in the memory of a process the needles are; an empty set is what is wanted in the end.
fn found(server: &Server, needles: &Needles) -> Result<BTreeSet<String>> {
    let pid = server.pid();
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let longest = needles.0.iter().map(|(_, needle)| needle.len()).max().unwrap_or(0);
    let mut found = BTreeSet::new();
    let mut piece = vec![0_u8; PIECE + longest];
    for line in BufReader::new(File::open(format!("/proc/{pid}/maps"))?).lines() {
        let line = line?;
        let mut fields = line.split_whitespace();
        let (range, rights) =
            (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let what = fields.nth(3).unwrap_or("anonymous").to_owned();
        // Pages of the kernel cannot be read; a file of our own program holds no key.
        if !rights.starts_with('r') || what.starts_with("[v") {
            continue;
        }
        let (start, end) = range.split_once('-').ok_or("a range")?;
        let (mut at, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        while at < end {
            let length = usize::try_from((end - at).min(u64::try_from(piece.len())?))?;
            let Some(content) = piece.get_mut(..length) else { break };
            // A mapping may go away meanwhile.
            if memory.read_exact_at(content, at).is_ok() {
                for (form, needle) in &needles.0 {
                    if contains(content, needle) {
                        found.insert(format!("{form} in {what}"));
                    }
                }
            }
            at += u64::try_from(PIECE)?;
        }
    }
    Ok(found)
}

fn contains(content: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else { return false };
    let mut at = content;
    while let Some(position) = at.iter().position(|byte| byte == first) {
        let Some((_, after)) = at.get(position..).and_then(<[u8]>::split_first) else { break };
        if after.starts_with(rest) {
            return true;
        }
        at = after;
    }
    false
}

fn is_gone(server: &Server, needles: &Needles, after: &str) -> Result<()> {
    until(GONE_WITHIN, &format!("no key in memory after {after}"), || {
        let found = found(server, needles)?;
        Ok(if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) })
    })
}

/// Uses the table; its key is in memory then, which shows that the scan finds keys.
fn use_table(client: &mut Client, server: &Server, kms: &ProxiedKms) -> Result<Needles> {
    client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'x')")?;
    client.rows("SELECT v FROM ks.t WHERE k = 1")?;
    let needles = Needles::of_last_key(kms)?;
    let found = found(server, &needles)?;
    assert!(
        found.iter().any(|place| place.starts_with("bytes")),
        "the key in use is not found: the scan sees nothing"
    );
    assert!(
        found.iter().all(|place| place.starts_with("bytes")),
        "texts of a key stay in memory: {found:?}"
    );
    Ok(needles)
}

fn disable(boto: &mut Boto, key: &str, is_enabled: bool) -> Result<()> {
    let operation = if is_enabled { "EnableKey" } else { "DisableKey" };
    boto.call(operation, json!({"KeyId": key}))?;
    Ok(())
}

#[test]
fn an_evicted_table_key_is_gone_from_memory_within_a_second() -> Result<()> {
    let mut kms = ProxiedKms::of(KmsService::start::<&str>(&[], &[])?)?;
    let script = KeyScript::new()?;
    let key = kms.create_key()?;
    let server = kms.server(&script, "127.0.0.1")?.start()?;
    // Another user's process, or root's, may look; without that right there is nothing to test.
    if File::open(format!("/proc/{}/mem", server.pid())).is_err() {
        return Ok(());
    }
    let mut client = Client::connect(server.address())?;
    client.execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
    client.execute(&format!("CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}", with_key(&key)))?;

    let needles = use_table(&mut client, &server, &kms)?;
    let flushed = server.coffer(&["keys", "flush", "ks.t"])?;
    assert!(flushed.status.success(), "{}", String::from_utf8_lossy(&flushed.stderr));
    is_gone(&server, &needles, "coffer keys flush")?;

    use_table(&mut client, &server, &kms)?;
    disable(&mut kms.boto, &key, false)?;
    script.set_clock(301)?;
    until(Duration::from_secs(30), "the table is refused", || {
        Ok(match client.query("SELECT v FROM ks.t WHERE k = 1")? {
            cql_protocol::ReceivedBody::Error(_) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })?;
    is_gone(&server, &needles, "DisableKey and the end of the cache's age")?;

    disable(&mut kms.boto, &key, true)?;
    let needles = use_table(&mut client, &server, &kms)?;
    client.execute(&format!("ALTER TABLE ks.t {}", cql_tests::WITH_OWNED_KEY))?;
    client.execute("INSERT INTO ks.t (k, v) VALUES (2, 'x')")?;
    client.execute(&format!("ALTER TABLE ks.t {}", with_key(&key)))?;
    let current = use_table(&mut client, &server, &kms)?;
    client.execute("DROP TABLE ks.t")?;
    is_gone(&server, &current, "DROP TABLE")?;
    is_gone(&server, &needles, "DROP TABLE of a table that had it before")?;
    Ok(())
}
