//! Files changed behind the server's back. For each kind of file that `docs/ON-DISK-FORMAT.md` lists:
//! flipped bits, swapped blocks, swapped files, cut tails, zeroed ranges, older versions. The server
//! refuses to start naming the file, or answers 0x1300 naming it (for the files of a snapshot, when it is
//! restored or the restored table read); a wrong row it never gives.
//!
//! The one exception is decisions 1.7: that the last file of the log ends earlier, exactly at the end of
//! a record, cannot be told from a crash at that moment. The rows that are left then are those written
//! first. The same goes for the journal of the KMS, where a cut inside a record is a crash as well. Damage
//! in an audit log stops nobody: `coffer audit --verify` names it.
#![expect(
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cql_protocol::ReceivedBody;
use cql_tests::{
    Client, Result, Server, ServerBuilder, executable,
    files::{copy_tree, files_below, relative},
};
use tempfile::TempDir;

const READ_FAILURE: i32 = 0x1300;
const ROWS: i32 = 12;
/// Bits flipped in a large file; smaller files than this have each byte flipped by `coffer inspect`.
const SAMPLES: usize = 24;

/// A kind of file as the document lists it.
#[derive(Debug, Clone)]
struct Kind {
    name: String,
    /// Path with `<...>` for the parts that vary.
    pattern: String,
    sealed_under: String,
}

impl Kind {
    fn matches(&self, path: &str) -> bool {
        let (ours, theirs): (Vec<&str>, Vec<&str>) =
            (self.pattern.split('/').collect(), path.split('/').collect());
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(pattern, part)| {
                match (pattern.split_once('<'), pattern.rsplit_once('>')) {
                    (Some((start, _)), Some((_, end))) => {
                        part.len() > start.len() + end.len()
                            && part.starts_with(start)
                            && part.ends_with(end)
                    }
                    _ => *pattern == part,
                }
            })
    }

    /// Whether any change in such a file must be named.
    fn is_sealed(&self) -> bool {
        !self.sealed_under.starts_with("nothing")
    }

    /// Whether a start must notice any change in such a file.
    fn is_needed(&self) -> bool {
        self.is_sealed() && !self.pattern.ends_with(".audit")
    }

    /// Whether a crash may leave such a file with an end that was not written in full.
    fn may_end_torn(&self) -> bool {
        self.pattern.ends_with(".journal")
    }
}

/// The table of kinds in the document.
fn kinds() -> Result<Vec<Kind>> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ON-DISK-FORMAT.md");
    let text = fs::read_to_string(document)?;
    let (_, section) = text.split_once("## Kinds of files").ok_or("no list of kinds")?;
    let kinds: Vec<Kind> = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .flat_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, patterns, sealed_under, ..] = cells[..] else {
                return Vec::new();
            };
            // What is in backquotes; a kind may have several.
            let quoted = patterns.split('`').skip(1).step_by(2);
            quoted
                .map(|pattern| Kind {
                    name: name.to_owned(),
                    pattern: pattern.to_owned(),
                    sealed_under: sealed_under.to_owned(),
                })
                .collect()
        })
        .collect();
    Ok(kinds)
}

/// A data directory with files of every kind, and how to start a server on a changed copy of it.
struct Prepared {
    _folder: TempDir,
    directory: PathBuf,
    /// Older versions of files that have been replaced since, by kind.
    older: BTreeMap<String, Vec<(PathBuf, Vec<u8>)>>,
}

const ARGUMENTS: [&str; 6] =
    ["--log-file-bytes", "64KiB", "--log-total-bytes", "1MiB", "--worker-threads", "2"];

fn start(directory: &Path) -> Result<Server> {
    ServerBuilder::default().directory(directory).arguments(&ARGUMENTS).start()
}

/// A table that was dropped: its snapshot has a segment and a tail file.
const DROPPED: &str = "dropped";

/// The tables of a prepared directory: in segments, in the log, and (its key is away at the end of the
/// preparation, and given back) in a tail file.
const TABLES: [&str; 4] = ["in_segment", "in_two_segments", "in_log", "in_tail"];

fn write(client: &mut Client, table: &str, from: i32, to: i32) -> Result<()> {
    for k in from..to {
        client.execute(&format!(
            "INSERT INTO ks.{table} (k, v) VALUES ({k}, 'row {k} of {table}')"
        ))?;
    }
    Ok(())
}

/// Writes to a table of no interest until the log has to be freed of a table whose key is away.
fn fill_until_tail(client: &mut Client, directory: &Path) -> Result<()> {
    let filler = "00".repeat(16 << 10);
    for k in 0..4000 {
        client.execute(&format!("INSERT INTO ks.filler (k, v) VALUES ({}, 0x{filler})", k % 4))?;
        let is_tail = |path: &PathBuf| path.extension().is_some_and(|end| end == "tail");
        if k % 20 == 0 && files_below(&directory.join("tables"))?.iter().any(is_tail) {
            return Ok(());
        }
    }
    Err("no records were set aside".into())
}

impl Prepared {
    fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let directory = folder.path().join("data");
        let mut older: BTreeMap<String, Vec<(PathBuf, Vec<u8>)>> = BTreeMap::new();
        let kinds = kinds()?;
        let mut keep = |directory: &Path| -> Result<()> {
            for path in files_below(directory)? {
                let name = relative(directory, &path);
                if let Some(kind) = kinds.iter().find(|kind| kind.matches(&name)) {
                    let content = fs::read(&path)?;
                    older
                        .entry(kind.name.clone())
                        .or_default()
                        .push((PathBuf::from(name), content));
                }
            }
            Ok(())
        };
        let mut server = start(&directory)?;
        let arn = server.kms(&["create-key"])?;
        let mut client = Client::connect(server.address())?;
        client
            .execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
        for table in TABLES.into_iter().chain([DROPPED]) {
            client.execute(&format!(
                "CREATE TABLE ks.{table} (k int PRIMARY KEY, v text) WITH CUSTOM_PROPERTIES = \
                 {{'auto_snapshot': 'true', 'encryption_specification': {{'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY', \
                 'kms_key_identifier': '{arn}'}}}}"
            ))?;
        }
        // Half of the rows goes to segments at a clean stop, for two tables all of them.
        write(&mut client, "in_segment", 0, ROWS)?;
        write(&mut client, "in_two_segments", 0, ROWS / 2)?;
        write(&mut client, DROPPED, 0, ROWS / 2)?;
        keep(&directory)?;
        server.stop()?;
        keep(&directory)?;
        server.restart()?;
        client = Client::connect(server.address())?;
        write(&mut client, "in_two_segments", ROWS / 2, ROWS)?;
        // long before the end: nobody reads the records in the log of a table that was dropped
        write(&mut client, DROPPED, ROWS / 2, ROWS)?;
        client.execute(&format!("DROP TABLE ks.{DROPPED}"))?;
        keep(&directory)?;
        server.stop()?;
        server.restart()?;
        client = Client::connect(server.address())?;
        write(&mut client, "in_tail", 0, ROWS)?;
        keep(&directory)?;
        server.kill()?;
        // The key is away while other tables need room in the log: its records are set aside.
        server.kms(&["disable-key", &arn])?;
        server.restart()?;
        client = Client::connect(server.address())?;
        client.execute("CREATE TABLE ks.filler (k int PRIMARY KEY, v blob)")?;
        fill_until_tail(&mut client, &directory)?;
        client.execute("DROP TABLE ks.filler")?;
        server.kms(&["enable-key", &arn])?;
        keep(&directory)?;
        server.stop()?;
        server.restart()?;
        client = Client::connect(server.address())?;
        write(&mut client, "in_log", 0, ROWS)?;
        server.kill()?;
        Ok(Self { _folder: folder, directory, older })
    }

    /// The files of a kind, by their paths below the directory.
    fn files(&self, kind: &Kind) -> Result<Vec<String>> {
        let all = files_below(&self.directory)?;
        let names = all.iter().map(|path| relative(&self.directory, path));
        Ok(names.filter(|name| kind.matches(name)).collect())
    }
}

/// How a changed directory was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The server did not start; what it said.
    Refused(String),
    /// Some tables answered 0x1300; what they said.
    Named(String),
    /// Everything was there.
    Unharmed,
    /// Of these tables only the first rows were there.
    Shortened(BTreeSet<String>),
}

/// Starts a server on `directory`, restores the table that was dropped, and reads all tables. Wrong rows
/// are an error.
fn verdict(directory: &Path) -> Result<Verdict> {
    let server = match start(directory) {
        Ok(server) => server,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains("panicked"), "{text}");
            return Ok(Verdict::Refused(text));
        }
    };
    let mut client = Client::connect(server.address())?;
    let (mut named, mut shortened) = (String::new(), BTreeSet::new());
    let restored = client.query(&format!("RESTORE TABLE ks.restored FROM TABLE ks.{DROPPED}"))?;
    let restored = if let ReceivedBody::Error(error) = restored {
        named.push_str(&error.message);
        None
    } else {
        Some((DROPPED, "restored"))
    };
    for (table, place) in TABLES.map(|table| (table, table)).into_iter().chain(restored) {
        match client.query(&format!("SELECT k, v FROM ks.{place}"))? {
            ReceivedBody::Rows(rows) => {
                if let Some(count) = check(table, &rows.rows)?.filter(|count| *count < ROWS) {
                    shortened.insert(format!("{table} has {count}"));
                }
            }
            ReceivedBody::Error(error) if error.detail.code() == READ_FAILURE => {
                named.push_str(&error.message);
                named.push('\n');
            }
            other => return Err(format!("{table} answers {other:?}").into()),
        }
    }
    let log = server.log()?;
    assert!(!log.contains("panicked"), "{log}");
    Ok(match (named.is_empty(), shortened.is_empty()) {
        (false, _) => Verdict::Named(named),
        (true, true) => Verdict::Unharmed,
        (true, false) => Verdict::Shortened(shortened),
    })
}

/// The number of rows if they are the first ones, each with its value.
fn check(table: &str, rows: &[Vec<Option<bytes::Bytes>>]) -> Result<Option<i32>> {
    let mut found = BTreeMap::new();
    for row in rows {
        let key = row[0].as_ref().ok_or("no key")?;
        let key = i32::from_be_bytes(key.as_ref().try_into()?);
        let value = String::from_utf8(row[1].as_ref().ok_or("no value")?.to_vec())?;
        if value != format!("row {key} of {table}") {
            return Err(format!("a wrong row: {key} of {table} is {value}").into());
        }
        found.insert(key, value);
    }
    let count = i32::try_from(found.len())?;
    let is_prefix = found.keys().copied().eq(0..count);
    if count != i32::try_from(rows.len())? || !is_prefix {
        return Err(format!("wrong rows of {table}: {:?}", found.keys()).into());
    }
    Ok(Some(count))
}

/// Judges one change: applied to a fresh copy, it must be named with the file, or (where `may_be_unseen`)
/// do no harm. Gives a complaint.
fn judge(
    prepared: &Prepared,
    what: &str,
    file: &str,
    may_be_unseen: bool,
    change: &dyn Fn(&Path) -> Result<()>,
) -> Result<Option<String>> {
    let folder = TempDir::new()?;
    let directory = folder.path().join("data");
    copy_tree(&prepared.directory, &directory)?;
    change(&directory)?;
    let verdict = match verdict(&directory) {
        Ok(verdict) => verdict,
        Err(error) => return Ok(Some(format!("{what} in {file}: {error}"))),
    };
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let names_it =
        |text: &String| text.contains(name) || (text.contains(folder) && !folder.is_empty());
    let is_good = match &verdict {
        // A wrong root key is noticed by what does not open under it.
        Verdict::Refused(text) => {
            names_it(text) || (name == "root.key" && text.contains("another key"))
        }
        Verdict::Named(text) => names_it(text),
        Verdict::Unharmed => may_be_unseen,
        Verdict::Shortened(_) => false,
    };
    Ok((!is_good).then(|| format!("{what} in {file}: {verdict:?}")))
}

fn edit(directory: &Path, file: &str, change: impl Fn(&mut Vec<u8>)) -> Result<()> {
    let path = directory.join(file);
    let mut content = fs::read(&path)?;
    change(&mut content);
    Ok(fs::write(&path, content)?)
}

/// A repeatable sequence of numbers.
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % limit.max(1)
    }
}

/// The bytes of a file that hold something: a log file ends in zeros up to its full length.
fn used(content: &[u8]) -> usize {
    content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The file of a kind that the tables depend on most: the largest in use.
fn victim(prepared: &Prepared, kind: &Kind) -> Result<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for file in prepared.files(kind)? {
        let content = fs::read(prepared.directory.join(&file))?;
        files.push((used(&content), file, content));
    }
    files.sort();
    let (_, file, content) = files.pop().ok_or_else(|| format!("no {} was made", kind.name))?;
    Ok((file, content))
}

#[test]
fn the_document_lists_every_file_and_every_kind_is_made() -> Result<()> {
    let (prepared, kinds) = (Prepared::new()?, kinds()?);
    for kind in &kinds {
        assert!(!prepared.files(kind)?.is_empty(), "no file of kind {kind:?} was made");
    }
    for path in files_below(&prepared.directory)? {
        let name = relative(&prepared.directory, &path);
        let is_listed =
            kinds.iter().any(|kind| kind.matches(&name)) || name.ends_with(".unpublished");
        assert!(is_listed, "docs/ON-DISK-FORMAT.md does not list {name}");
    }
    assert_eq!(verdict(&prepared.directory)?, Verdict::Unharmed, "an unchanged directory");
    Ok(())
}

/// Ids in the clear at the beginning of files: of cluster, table, file, and the keys that wrap.
const IDENTITY_BYTES: usize = 256;

/// `coffer inspect` finds a flip of any byte, and calls no changed file whole.
fn inspect_flips(
    prepared: &Prepared,
    file: &str,
    content: &[u8],
    complaints: &mut Vec<String>,
) -> Result<()> {
    let path = prepared.directory.join(file);
    let mut sequence = Sequence(0x9E37_79B9_7F4A_7C15);
    let length = used(content);
    let places: Vec<usize> = if length <= 256 {
        (0..length).collect()
    } else {
        (0..64).chain((0..192).map(|_| sequence.below(length))).collect()
    };
    for place in places {
        let mut changed = content.to_vec();
        changed[place] ^= 1 << sequence.below(8);
        fs::write(&path, &changed)?;
        let output =
            std::process::Command::new(executable()?).arg("inspect").arg(&path).output()?;
        // Changed identities in the clear name a key that is not at hand: proven is nothing then.
        let is_identity = place < IDENTITY_BYTES && output.status.code() == Some(3);
        if output.status.code() != Some(4) && !is_identity {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            complaints.push(format!(
                "inspect exits {} for byte {place} of {file}: {text}",
                output.status
            ));
        }
    }
    Ok(fs::write(&path, content)?)
}

fn flips(prepared: &Prepared, kind: &Kind, complaints: &mut Vec<String>) -> Result<()> {
    let (file, content) = victim(prepared, kind)?;
    let mut sequence = Sequence(0x2545_F491_4F6C_DD1D);
    let length = used(&content);
    for sample in 0..SAMPLES {
        // The beginning, the end, and anywhere.
        let place = match sample % 3 {
            0 => sequence.below(length.min(160)),
            1 => length - 1 - sequence.below(length.min(160)),
            _ => sequence.below(length),
        };
        let bit = sequence.below(8);
        let what = format!("flip of bit {bit} of byte {place}");
        let change = |directory: &Path| edit(directory, &file, |bytes| bytes[place] ^= 1 << bit);
        complaints.extend(judge(prepared, &what, &file, !kind.is_needed(), &change)?);
    }
    Ok(())
}

fn blocks(prepared: &Prepared, kind: &Kind, complaints: &mut Vec<String>) -> Result<()> {
    let (file, content) = victim(prepared, kind)?;
    let length = used(&content);
    // A log is made of sectors, the rest is swapped in smaller pieces.
    let size = if length > 4096 { 512 } else { (length / 4).max(1) };
    let last = (length / size).saturating_sub(1);
    let unseen = !kind.is_needed();
    let unseen_end = unseen || kind.may_end_torn();
    for (a, b) in [(0, 1), (0, last), (1, last), (last / 2, last)] {
        let (from, to) = (a * size, b * size);
        if a == b || content[from..from + size] == content[to..to + size] {
            continue;
        }
        let swap = |directory: &Path| {
            edit(directory, &file, |bytes| {
                let (front, back) = bytes.split_at_mut(to);
                front[from..from + size].swap_with_slice(&mut back[..size]);
            })
        };
        complaints.extend(judge(
            prepared,
            &format!("swap of blocks {a} and {b}"),
            &file,
            unseen,
            &swap,
        )?);
    }
    for cut in [1, 16, size, length / 2, length] {
        let whole = content.len();
        let change = |directory: &Path| {
            edit(directory, &file, |bytes| bytes.truncate(whole.saturating_sub(cut)))
        };
        complaints.extend(judge(
            prepared,
            &format!("cut of {cut} bytes"),
            &file,
            unseen_end,
            &change,
        )?);
    }
    // Not up to the end of what is used: in a log that would be the exception.
    for (from, to) in
        [(0, 32.min(length / 2)), (length / 4, length / 2), (length / 2, length / 2 + 1)]
    {
        if content[from..to].iter().all(|byte| *byte == 0) {
            continue;
        }
        let change = |directory: &Path| edit(directory, &file, |bytes| bytes[from..to].fill(0));
        complaints.extend(judge(
            prepared,
            &format!("zeros from {from} to {to}"),
            &file,
            unseen,
            &change,
        )?);
    }
    let change = |directory: &Path| edit(directory, &file, |bytes| bytes.push(0));
    complaints.extend(judge(prepared, "a byte more", &file, unseen_end, &change)?);
    let change = |directory: &Path| Ok(fs::remove_file(directory.join(&file))?);
    complaints.extend(judge(prepared, "removal", &file, unseen, &change)?);
    Ok(())
}

fn files(prepared: &Prepared, kind: &Kind, complaints: &mut Vec<String>) -> Result<()> {
    let unseen = !kind.is_needed();
    let present = prepared.files(kind)?;
    let (file, content) = victim(prepared, kind)?;
    for other in present.iter().filter(|other| **other != file) {
        let theirs = fs::read(prepared.directory.join(other))?;
        let change = |directory: &Path| {
            fs::write(directory.join(other), &content)?;
            Ok(fs::write(directory.join(&file), &theirs)?)
        };
        complaints.extend(judge(prepared, &format!("swap with {other}"), &file, unseen, &change)?);
    }
    versions(prepared, kind, &file, complaints)
}

/// Every older version of a file of the kind in place of the present one.
fn versions(
    prepared: &Prepared,
    kind: &Kind,
    file: &str,
    complaints: &mut Vec<String>,
) -> Result<()> {
    let content = fs::read(prepared.directory.join(file))?;
    let older = prepared.older.get(&kind.name).map(Vec::as_slice).unwrap_or_default();
    let mut tried = BTreeSet::new();
    for (path, theirs) in older {
        if *theirs == content || !tried.insert(theirs.clone()) || tried.len() > 8 {
            continue;
        }
        let what = format!("older {}", path.display());
        let change = |directory: &Path| Ok(fs::write(directory.join(file), theirs)?);
        let unseen = !kind.is_needed();
        complaints.extend(judge(
            prepared,
            &format!("{what} under the present name"),
            file,
            unseen,
            &change,
        )?);
        let name = path.to_str().ok_or("path")?;
        if name == file || !kind.pattern.contains("<version>") {
            continue;
        }
        // A whole older version under its own name. The commit log tells of the catalog's; of the KMS's
        // store only a memory outside the directory could tell, but no row is wrong.
        let is_told = kind.pattern.starts_with("catalog/");
        let folder = TempDir::new()?;
        let directory = folder.path().join("data");
        copy_tree(&prepared.directory, &directory)?;
        fs::remove_file(directory.join(file))?;
        fs::write(directory.join(path), theirs)?;
        match verdict(&directory) {
            Ok(Verdict::Shortened(tables)) => complaints.push(format!("{what}: {tables:?}")),
            Ok(Verdict::Unharmed) if is_told => complaints.push(format!("{what}: not noticed")),
            Ok(_) => {}
            Err(error) => complaints.push(format!("{what}: {error}")),
        }
    }
    Ok(())
}

#[test]
fn whatever_is_changed_is_named_and_no_row_is_wrong() -> Result<()> {
    let prepared = Prepared::new()?;
    let mut complaints = Vec::new();
    for kind in kinds()? {
        // An empty file, to be locked, has nothing to be changed.
        if !kind.is_sealed() && victim(&prepared, &kind)?.1.is_empty() {
            continue;
        }
        flips(&prepared, &kind, &mut complaints)?;
        blocks(&prepared, &kind, &mut complaints)?;
        files(&prepared, &kind, &mut complaints)?;
        if kind.is_sealed() {
            let (file, content) = victim(&prepared, &kind)?;
            inspect_flips(&prepared, &file, &content, &mut complaints)?;
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    Ok(())
}

/// Decisions 1.7. Sectors of zeros from the end of the log's last file: some end at a record.
#[test]
fn a_log_that_ends_earlier_loses_the_last_writes_or_is_named() -> Result<()> {
    let prepared = Prepared::new()?;
    let kind = kinds()?.into_iter().find(|kind| kind.pattern.ends_with(".log")).ok_or("no log")?;
    let (file, content) = victim(&prepared, &kind)?;
    let sectors = used(&content).div_ceil(512);
    let mut shortened = 0;
    for left in (sectors.saturating_sub(6)..sectors).rev() {
        let folder = TempDir::new()?;
        let directory = folder.path().join("data");
        copy_tree(&prepared.directory, &directory)?;
        edit(&directory, &file, |bytes| bytes[left * 512..].fill(0))?;
        match verdict(&directory)? {
            Verdict::Refused(text) | Verdict::Named(text) => {
                assert!(text.contains(&file), "{text}")
            }
            Verdict::Unharmed => return Err("records without their bytes".into()),
            Verdict::Shortened(tables) => {
                shortened += 1;
                assert_eq!(tables.len(), 1, "only the table that was written last: {tables:?}");
            }
        }
    }
    assert!(shortened > 0, "no cut at a record was tried");
    Ok(())
}
