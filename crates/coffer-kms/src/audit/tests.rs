//! Tests of the audit trail: shapes, chain, damage, crashes, failures.

use super::*;
use crate::{CallSource, Caller, KmsException, Principal, TlsDetails};
use coffer_crypto::{
    JOURNAL_HEADER_LEN, JournalKind, RootKey,
    clock::{Clock, ManualClock},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};
use tempfile::TempDir;

mod positions;
mod shapes;

const ACCOUNT: &str = "111122223333";
const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const KIND: JournalKind = JournalKind::KmsAudit;
const NOW: i64 = 1_700_000_000_000;

struct Bed {
    dir: TempDir,
    root: RootKey,
    clock: Arc<ManualClock>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, root: RootKey::generate().unwrap(), clock: ManualClock::at(NOW) }
    }

    fn log_dir(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    fn open(&self) -> Result<AuditLog, AuditError> {
        self.open_with(&self.root, Vec::new())
    }

    fn open_with(&self, root: &RootKey, older_roots: Vec<RootKey>) -> Result<AuditLog, AuditError> {
        let options = AuditOptions {
            dir: self.log_dir(),
            kind: KIND,
            root: root.duplicate(),
            older_roots,
            account: ACCOUNT.to_owned(),
            region: "us-east-1".to_owned(),
        };
        AuditLog::open(options, self.clock.clone())
    }

    fn read(&self) -> (Vec<AuditRecord>, AuditSummary) {
        self.read_where(&AuditFilter::default())
    }

    fn read_where(&self, filter: &AuditFilter) -> (Vec<AuditRecord>, AuditSummary) {
        let reader = AuditReader::new(&self.log_dir(), KIND, vec![self.root.duplicate()]);
        let mut records = Vec::new();
        let summary = reader.read(filter, &mut |record| records.push(record.clone())).unwrap();
        (records, summary)
    }

    fn names(&self) -> Vec<String> {
        let (records, summary) = self.read();
        assert_eq!(summary.problems, []);
        records.iter().map(|one| one.json["eventName"].as_str().unwrap().to_owned()).collect()
    }

    fn file(&self, number: u64) -> PathBuf {
        files::path_of(&self.log_dir(), number)
    }
}

fn change(name: &str) -> ServiceEvent<'_> {
    ServiceEvent { name, account: ACCOUNT, key_arn: KEY, details: Map::new() }
}

fn call<'a>(
    operation: &'a str,
    caller: &'a Caller,
    parameters: &'a Parameters,
    outcome: Result<&'a Parameters, &'a KmsException>,
    key_arns: &'a [String],
) -> KmsCall<'a> {
    let request_id = "5e8e9cb5-9194-4334-aacc-9dd7d50fe246";
    let additional = &[];
    KmsCall {
        operation,
        caller,
        account: ACCOUNT,
        parameters,
        outcome,
        key_arns,
        request_id,
        additional,
    }
}

fn decrypt(user: &str, table: &str) -> AuditEvent {
    let caller = Caller::internal(Principal::User { name: user.to_owned() }, None);
    let parameters = Parameters::of_body(
        json!({"KeyId": KEY, "EncryptionContext": {"aws:cassandra:keyspaceName": "shop",
            "aws:cassandra:tableName": table}})
        .to_string()
        .as_bytes(),
    );
    let answer = Parameters::of(&());
    call("Decrypt", &caller, &parameters, Ok(&answer), &[KEY.to_owned()]).into()
}

#[test]
fn records_come_back_over_restarts_each_with_the_hash_of_the_one_before() {
    let bed = Bed::new();
    for names in [["CreateKey", "DisableKey"], ["EnableKey", "RotateKey"]] {
        let log = bed.open().unwrap();
        for name in names {
            log.record(change(name)).unwrap();
        }
    }
    let (records, summary) = bed.read();
    assert_eq!(bed.names(), ["CreateKey", "DisableKey", "EnableKey", "RotateKey"]);
    assert_eq!((summary.files, summary.records, summary.first_file), (2, 4, Some(1)));
    let mut before = hex::encode([0; 32]);
    for record in &records {
        assert_eq!(record.json["previousRecordSha256"], before);
        assert_eq!(record.json["eventTime"], "2023-11-14T22:13:20Z");
        before = hex::encode(Sha256::digest(record.line.as_bytes()));
    }
    let mode = fs::metadata(bed.file(1)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for number in [1, 2] {
        let bytes = fs::read(bed.file(number)).unwrap();
        for canary in ["eventName", "CreateKey", ACCOUNT, "1234abcd"] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} in file {number}");
        }
    }
}

#[test]
fn a_start_without_records_leaves_no_file() {
    let bed = Bed::new();
    drop(bed.open().unwrap());
    assert_eq!(files::numbers(&bed.log_dir()).unwrap(), [0_u64; 0]);
}

#[test]
fn a_change_is_on_disk_when_it_is_recorded_and_reads_follow() {
    let bed = Bed::new();
    let log = bed.open().unwrap();
    log.record(decrypt("ann", "orders")).unwrap();
    log.record(change("DisableKey")).unwrap();
    assert_eq!(bed.names(), ["Decrypt", "DisableKey"], "read while it is written");
    log.record(decrypt("ann", "orders")).unwrap();
    log.flush().unwrap();
    assert_eq!(bed.names().len(), 3);
}

#[test]
fn many_writers_share_syncs_and_lose_nothing() {
    let bed = Bed::new();
    let log = bed.open().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    log.record(change("CreateGrant")).unwrap();
                    log.record(decrypt("ann", "orders")).unwrap();
                }
            });
        }
    });
    drop(log);
    let (_, summary) = bed.read();
    assert_eq!((summary.records, summary.problems.len()), (400, 0));
}

#[test]
fn every_flipped_bit_of_a_closed_file_is_named() {
    let bed = Bed::new();
    let log = bed.open().unwrap();
    log.record(change("CreateKey")).unwrap();
    drop(log);
    bed.open().unwrap().record(change("DeleteKey")).unwrap();
    for number in [1, 2] {
        let bytes = fs::read(bed.file(number)).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(bed.file(number), &changed).unwrap();
            let (_, summary) = bed.read();
            assert_ne!(summary.problems, [], "file {number} byte {at}");
        }
        fs::write(bed.file(number), &bytes).unwrap();
    }
    assert_eq!(bed.read().1.problems, []);
}

#[test]
fn a_cut_of_an_older_file_is_named_and_the_newest_may_be_torn() {
    let bed = Bed::new();
    for _ in 0..2 {
        let log = bed.open().unwrap();
        log.record(change("CreateKey")).unwrap();
        log.record(change("DisableKey")).unwrap();
    }
    let (first, second) = (fs::read(bed.file(1)).unwrap(), fs::read(bed.file(2)).unwrap());
    for len in 0..first.len() {
        fs::write(bed.file(1), &first[..len]).unwrap();
        assert_ne!(bed.read().1.problems, [], "older file cut to {len}");
    }
    fs::write(bed.file(1), &first).unwrap();
    for len in JOURNAL_HEADER_LEN..second.len() {
        fs::write(bed.file(2), &second[..len]).unwrap();
        let (records, summary) = bed.read();
        assert_eq!(summary.problems, [], "newest file cut to {len}");
        assert!(records.len() >= 2 && records.len() <= 4, "{len}");
    }
    fs::write(bed.file(2), &second[..second.len() - 1]).unwrap();
    assert!(bed.read().1.is_torn);
}

#[test]
fn a_removed_repeated_or_exchanged_file_is_named() {
    let bed = Bed::new();
    for _ in 0..3 {
        bed.open().unwrap().record(change("CreateKey")).unwrap();
    }
    let saved: Vec<Vec<u8>> = (1..=3).map(|n| fs::read(bed.file(n)).unwrap()).collect();
    let problems = |bed: &Bed| {
        let summary = bed.read().1;
        summary.problems.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>().join("; ")
    };
    fs::remove_file(bed.file(2)).unwrap();
    assert!(problems(&bed).contains("missing"), "{}", problems(&bed));
    fs::write(bed.file(2), &saved[0]).unwrap();
    assert!(problems(&bed).contains("another file"), "{}", problems(&bed));
    fs::write(bed.file(2), &saved[2]).unwrap();
    assert!(problems(&bed).contains("another file"), "{}", problems(&bed));
    fs::write(bed.file(2), &saved[1]).unwrap();
    assert_eq!(problems(&bed), "");
    fs::remove_file(bed.file(1)).unwrap();
    let (records, summary) = bed.read();
    assert_eq!((summary.first_file, records.len(), summary.problems.len()), (Some(2), 2, 0));
}

#[test]
fn a_log_goes_on_after_a_crash_in_a_record_and_verifies() {
    let bed = Bed::new();
    let log = bed.open().unwrap();
    log.record(change("CreateKey")).unwrap();
    let durable = fs::metadata(bed.file(1)).unwrap().len();
    log.record(change("DisableKey")).unwrap();
    drop(log);
    let bytes = fs::read(bed.file(1)).unwrap();
    let torn_at = usize::try_from(durable).unwrap() + 40;
    fs::write(bed.file(1), &bytes[..torn_at]).unwrap();
    bed.open().unwrap().record(change("EnableKey")).unwrap();
    assert_eq!(bed.names(), ["CreateKey", "EnableKey"]);
}

#[test]
fn a_damaged_newest_file_does_not_stop_a_start_and_stays_named() {
    let bed = Bed::new();
    bed.open().unwrap().record(change("CreateKey")).unwrap();
    let mut bytes = fs::read(bed.file(1)).unwrap();
    bytes[JOURNAL_HEADER_LEN + 60] ^= 1;
    fs::write(bed.file(1), bytes).unwrap();
    bed.open().unwrap().record(change("EnableKey")).unwrap();
    let (records, summary) = bed.read();
    assert_eq!((records.len(), summary.problems.len()), (1, 1));
    assert_eq!(summary.problems[0].path, bed.file(1));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test takes the directory away")]
fn while_the_log_cannot_be_written_changes_fail_and_it_heals_with_the_loss_on_record() {
    let bed = Bed::new();
    let log = bed.open().unwrap();
    log.record(change("CreateKey")).unwrap();
    // the file is full; no new one can be made in a directory that is gone
    let away = bed.dir.path().join("away");
    log.replace_root_key(bed.root.duplicate()).unwrap();
    fs::rename(bed.log_dir(), &away).unwrap();
    let failed = log.record(change("DisableKey")).unwrap_err();
    assert_eq!(failed.action, "create audit file");
    assert!(log.record(decrypt("ann", "orders")).is_ok());
    assert!(log.check().is_err());
    fs::rename(&away, bed.log_dir()).unwrap();
    bed.clock.advance(1_001);
    log.check().unwrap();
    log.record(change("EnableKey")).unwrap();
    let (records, summary) = bed.read();
    assert_eq!(summary.problems, []);
    let lost: Vec<&AuditRecord> =
        records.iter().filter(|one| one.json["eventName"] == "AuditRecordsLost").collect();
    assert_eq!(lost.len(), 1, "{records:?}");
    assert_eq!(lost[0].json["serviceEventDetails"]["lostRecords"], 2);
}

#[test]
fn another_root_key_does_not_open_the_log() {
    let bed = Bed::new();
    bed.open().unwrap().record(change("CreateKey")).unwrap();
    let other = RootKey::generate().unwrap();
    assert!(bed.open_with(&other, Vec::new()).err().unwrap().reason.contains("wrong key"));
    let reader = AuditReader::new(&bed.log_dir(), KIND, vec![other]);
    let summary = reader.read(&AuditFilter::default(), &mut |_| ()).unwrap();
    assert_eq!((summary.records, summary.problems.len()), (0, 1));
}

#[test]
fn a_new_root_key_takes_over_all_files_and_a_half_done_change_is_finished() {
    let mut bed = Bed::new();
    bed.open().unwrap().record(change("CreateKey")).unwrap();
    let log = bed.open().unwrap();
    log.record(change("DisableKey")).unwrap();
    let new = RootKey::generate().unwrap();
    // as after a crash: one file is under the new key already
    files::rewrap(&bed.log_dir(), 1, KIND, &[bed.root.duplicate()], &new).unwrap();
    drop(log);
    let log = bed.open_with(&new, vec![bed.root.duplicate()]).unwrap();
    log.replace_root_key(new.duplicate()).unwrap();
    log.record(change("EnableKey")).unwrap();
    drop(log);
    bed.root = new;
    assert_eq!(bed.names(), ["CreateKey", "DisableKey", "EnableKey"]);
}

#[test]
fn filters_choose_by_event_user_key_table_and_time() {
    let bed = Bed::new();
    let log = bed.open().unwrap();
    log.record(decrypt("ann", "orders")).unwrap();
    log.record(decrypt("bob", "items")).unwrap();
    bed.clock.advance(10_000);
    log.record(change("RotateKey")).unwrap();
    let table = DatabaseEvent {
        name: "CreateTable",
        account: ACCOUNT,
        region: "us-east-1",
        protocol_version: 4,
        raw_query: "CREATE TABLE shop.items (a int PRIMARY KEY)",
        keyspace: "shop",
        table: Some("items"),
        ..DatabaseEvent::default()
    };
    log.record(table).unwrap();
    let count = |filter: AuditFilter| bed.read_where(&filter).1.matching;
    let text = |value: &str| Some(value.to_owned());
    let none = AuditFilter::default;
    assert_eq!(count(none()), 4);
    assert_eq!(count(AuditFilter { event: text("decrypt"), ..none() }), 2);
    assert_eq!(count(AuditFilter { user: text("bob"), ..none() }), 1);
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/ann");
    assert_eq!(count(AuditFilter { user: Some(arn), ..none() }), 1);
    assert_eq!(count(AuditFilter { user: text("bo"), ..none() }), 0);
    assert_eq!(count(AuditFilter { key: text(KEY), ..none() }), 3);
    assert_eq!(count(AuditFilter { key: KEY.split('/').nth(1).map(str::to_owned), ..none() }), 3);
    assert_eq!(count(AuditFilter { key: text("1234abcd"), ..none() }), 0);
    let of_table = |table: &str| Some(("shop".to_owned(), table.to_owned()));
    assert_eq!(count(AuditFilter { table: of_table("items"), ..none() }), 2);
    assert_eq!(count(AuditFilter { table: of_table("orders"), ..none() }), 1);
    let since = parse_time("2023-11-14T22:13:25Z");
    assert_eq!(since, Some(NOW + 5_000));
    assert_eq!(count(AuditFilter { since_millis: since, ..none() }), 2);
    assert_eq!(count(AuditFilter { until_millis: since, ..none() }), 2);
    assert_eq!(
        count(AuditFilter { since_millis: Some(bed.clock.now_millis() + 999), ..none() }),
        2
    );
}
