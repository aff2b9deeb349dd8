//! Tests of the keyring against the embedded KMS behind a hook that holds and fails calls.

use super::*;
use crate::{
    EmbeddedKms, EmbeddedKmsOptions, EncryptionContext, EncryptionSpecification, HookedKms, KeyArn,
    KeyChangeError, KmsHook, NewKey, encryption_context, failure,
};
use coffer_crypto::{FORMAT_VERSION, RootKey, clock::ManualClock};
use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicUsize},
};
use tokio::sync::Semaphore;

mod adopt;
mod cache;
mod envelope;
mod grants;
mod probe;
mod recorder;
mod refresh;
mod swap;

/// Holds calls until they are let through, or fails those of one operation.
struct Gate {
    holds: AtomicBool,
    waiting: AtomicUsize,
    passes: Semaphore,
    failure: Mutex<Option<(KmsOperation, &'static str)>>,
    /// The operation whose answers get lost on the way back.
    lost: Mutex<Option<KmsOperation>>,
}

impl KmsHook for Gate {
    fn before<'a>(&'a self, operation: KmsOperation, key: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(async move {
            if self.holds.load(Ordering::SeqCst) {
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

    fn after<'a>(&'a self, operation: KmsOperation, _key: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(async move {
            if *self.lost.lock() == Some(operation) {
                return Err(KmsError::new(operation, failure::CONNECTION, "answer lost"));
            }
            Ok(())
        })
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    kms: Arc<EmbeddedKms>,
    gate: Arc<Gate>,
    keyring: Arc<Keyring>,
    revoked: Arc<Mutex<Vec<String>>>,
    dropped: Arc<Mutex<Vec<(String, DropReason)>>>,
    recorder: Arc<recorder::Recorder>,
}

const MAX_AGE: i64 = 300_000;

fn table(number: u8) -> TableName {
    TableName::new([number; 16], "ks", &format!("t{number}"))
}

fn context(number: u8) -> EncryptionContext {
    encryption_context(&table(number), "000000000000")
}

fn names(number: u8) -> GrantNames {
    GrantNames { data: format!("t{number}-data"), snapshot: format!("t{number}-snapshot") }
}

fn new_keys<'a>(
    specification: &'a EncryptionSpecification,
    context: &'a EncryptionContext,
    names: &'a GrantNames,
) -> NewKeys<'a> {
    NewKeys { specification, context, grants: Some(names), double_wrapped: false }
}

fn identity(table: u8, file: u8) -> FileIdentity {
    FileIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: [0; 16],
        table_id: [table; 16],
        file_id: [file; 16],
    }
}

fn fixture() -> Fixture {
    fixture_with(KeyringOptions::default())
}

fn fixture_with(keyring_options: KeyringOptions) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_700_000_000_000);
    let options = EmbeddedKmsOptions::default();
    let kms = EmbeddedKms::open(&dir.path().join("kms"), &options, clock.clone()).unwrap();
    let gate = Arc::new(Gate {
        holds: AtomicBool::new(false),
        waiting: AtomicUsize::new(0),
        passes: Semaphore::new(0),
        failure: Mutex::new(None),
        lost: Mutex::new(None),
    });
    let recorder = recorder::Recorder::new(kms.clone());
    let hooked = HookedKms::new(recorder.clone());
    hooked.set_hook(Some(gate.clone()));
    let root = RootKey::generate().unwrap();
    let keyring = Keyring::new(Arc::new(hooked), root, clock.clone(), keyring_options);
    let revoked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&revoked);
    keyring.set_on_revoked(Box::new(move |table, _| seen.lock().push(table.to_string())));
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&dropped);
    let tell = move |table: &TableName, reason| seen.lock().push((table.to_string(), reason));
    keyring.set_on_dropped(Box::new(tell));
    Fixture { _dir: dir, clock, kms, gate, keyring, revoked, dropped, recorder }
}

impl Fixture {
    fn specification(&self) -> EncryptionSpecification {
        let arn = self.kms.create_key(NewKey::default()).unwrap().arn;
        EncryptionSpecification::CustomerManaged(KeyArn::parse(&arn).unwrap())
    }

    /// A new table's record, not installed: as after a restart.
    async fn record(&self, number: u8, specification: &EncryptionSpecification) -> KeyRecord {
        self.prepared(number, specification).await.unwrap().record().clone()
    }

    async fn prepared(
        &self,
        number: u8,
        specification: &EncryptionSpecification,
    ) -> Result<PreparedKeys, KeyChangeError> {
        self.keyring.describe(&table(number), specification).await?;
        let (names, context) = (names(number), context(number));
        self.keyring.new_record(&table(number), new_keys(specification, &context, &names)).await
    }

    /// Another keyring of the same KMS, as of a directory with this root key.
    fn with_root(&self, root: RootKey) -> Arc<Keyring> {
        Keyring::new(self.kms.clone(), root, self.clock.clone(), KeyringOptions::default())
    }

    async fn until_waiting(&self, count: usize) {
        let waits = async {
            while self.gate.waiting.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waits).await.expect("calls arrive");
    }

    fn let_through(&self) {
        self.gate.holds.store(false, Ordering::SeqCst);
        self.gate.passes.add_permits(self.gate.waiting.load(Ordering::SeqCst));
    }

    fn fail(&self, failure: Option<(KmsOperation, &'static str)>) {
        *self.gate.failure.lock() = failure;
    }
}

#[tokio::test]
async fn an_owned_table_needs_no_kms_and_its_key_never_expires() {
    let f = fixture();
    let record = f.record(1, &EncryptionSpecification::AwsOwned).await;
    f.keyring.open(&table(1), &record).await.unwrap();
    let (_, wrapped) = f.keyring.create_data_key(&identity(1, 1)).unwrap();
    f.clock.advance(1_000 * MAX_AGE);
    f.keyring.unwrap_data_key(&[1; 16], &wrapped, &identity(1, 1)).unwrap();
    assert!(f.keyring.lease(&[1; 16]).unwrap().is_valid(f.clock.key_now_millis()));
    assert_eq!(f.keyring.kms_calls(), KmsCalls::default());
    assert!(record.kms_key_arn.is_none() && record.encryption_context.is_empty());
}

#[tokio::test]
async fn a_table_that_was_not_opened_has_no_keys() {
    let f = fixture();
    let error = f.keyring.create_data_key(&identity(1, 1)).err().unwrap();
    let Error::KeyUnavailable(unavailable) = error else { panic!("{error}") };
    assert_eq!(unavailable.reason, UnavailableReason::NotOpened);
    assert!(!f.keyring.is_usable(&[1; 16]) && f.keyring.wrapping_key(&[1; 16]).is_none());
}

#[tokio::test]
async fn a_new_table_costs_one_describe_two_grants_and_one_generate() {
    let f = fixture();
    let specification = f.specification();
    let prepared = f.prepared(1, &specification).await.unwrap();
    f.keyring.install(prepared);
    for file in 0..100 {
        f.keyring.create_data_key(&identity(1, file)).unwrap();
    }
    let calls =
        KmsCalls { generate_data_key: 1, describe_key: 1, create_grant: 2, ..KmsCalls::default() };
    assert_eq!(f.keyring.kms_calls(), calls);
    assert_eq!(f.keyring.wrapping_key(&[1; 16]).unwrap().1, 100);
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_refused_by_name_and_nothing_is_left() {
    let f = fixture();
    let cases = [("Disabled", "KMS key disabled error: "), ("Pending", "KMS validation error: ")];
    for (case, prefix) in cases {
        let specification = f.specification();
        let arn = specification.arn().unwrap().to_owned();
        match case {
            "Disabled" => f.kms.disable_key(&arn),
            _ => f.kms.schedule_key_deletion(&arn, None),
        }
        .unwrap();
        let refused = f.prepared(1, &specification).await;
        let error = refused.err().unwrap().error;
        assert!(matches!(error, KeyError::Definitive(_)));
        let text = error.to_string();
        assert!(text.starts_with(prefix) && text.contains(&arn), "{text}");
        assert!(text.contains("(table ks.t1; KMS "), "{text}");
    }
    let nowhere = "arn:aws:kms:eu-west-1:5555555555555:key/11111111-1111-111-1111-111111111111";
    let specification = EncryptionSpecification::CustomerManaged(KeyArn::parse(nowhere).unwrap());
    let refused = f.prepared(1, &specification).await;
    let text = refused.err().unwrap().to_string();
    assert!(text.starts_with("KMS key not found error: ") && text.contains(nowhere), "{text}");
    assert!(!f.keyring.is_usable(&[1; 16]));
    assert_eq!(f.keyring.kms_calls().generate_data_key, 0);
}

#[tokio::test]
async fn a_hundred_requests_share_one_decrypt() {
    let f = fixture();
    let record = f.record(1, &f.specification()).await;
    f.gate.holds.store(true, Ordering::SeqCst);
    let mut requests = Vec::new();
    for _ in 0..100 {
        let (keyring, record) = (Arc::clone(&f.keyring), record.clone());
        requests.push(tokio::spawn(async move { keyring.open(&table(1), &record).await }));
    }
    f.until_waiting(1).await;
    // the request that started the call goes away; the call does not
    requests.remove(0).abort();
    f.let_through();
    for request in requests {
        request.await.unwrap().unwrap();
    }
    assert_eq!(f.keyring.kms_calls().decrypt, 1);
}

#[tokio::test]
async fn one_slow_key_holds_up_no_other_table() {
    let f = fixture();
    let slow = f.record(1, &f.specification()).await;
    let quick = f.record(2, &f.specification()).await;
    f.gate.holds.store(true, Ordering::SeqCst);
    let keyring = Arc::clone(&f.keyring);
    let held = tokio::spawn(async move { keyring.open(&table(1), &slow).await });
    f.until_waiting(1).await;
    f.gate.holds.store(false, Ordering::SeqCst);
    f.keyring.open(&table(2), &quick).await.unwrap();
    assert!(!held.is_finished());
    f.let_through();
    held.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let f = fixture();
    let record = f.record(1, &f.specification()).await;
    f.gate.holds.store(true, Ordering::SeqCst);
    let error = f.keyring.open(&table(1), &record).await.unwrap_err();
    assert!(matches!(error, KeyError::Transient(_)), "{error}");
    assert!(error.to_string().contains("no answer within 10000 ms"), "{error}");
    f.let_through();
    f.keyring.open(&table(1), &record).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_was_changed_or_belongs_to_another_table_is_named() {
    let f = fixture();
    let specification = f.specification();
    let record = f.record(1, &specification).await;
    let mut changed = record.clone();
    *changed.blob.0.last_mut().unwrap() ^= 1;
    let error = f.keyring.open(&table(1), &changed).await.unwrap_err();
    assert!(matches!(error, KeyError::Integrity(_)), "{error}");

    let other = f.record(2, &specification).await;
    let mut swapped = record.clone();
    swapped.blob = other.blob.clone();
    let error = f.keyring.open(&table(1), &swapped).await.unwrap_err();
    assert!(matches!(error, KeyError::Integrity(_)), "{error}");
    // with the other table's context too the KMS opens it, and its id tells
    swapped.encryption_context = other.encryption_context;
    let error = f.keyring.open(&table(1), &swapped).await.unwrap_err();
    assert!(matches!(error, KeyError::WrongTableKey { .. }), "{error}");
    f.keyring.open(&table(1), &record).await.unwrap();
}

#[tokio::test]
async fn a_table_key_stops_at_its_limit_of_wraps_and_can_be_renewed() {
    let f = fixture();
    let mut record = f.record(1, &f.specification()).await;
    record.wraps = WRAPS_PER_KEY_MAX - 1;
    f.keyring.open(&table(1), &record).await.unwrap();
    let (_, wrapped) = f.keyring.create_data_key(&identity(1, 1)).unwrap();
    for _ in 0..2 {
        let refused = f.keyring.create_data_key(&identity(1, 2));
        let Err(Error::KeyUnavailable(unavailable)) = refused else {
            panic!("a data key too many")
        };
        assert_eq!(unavailable.reason, UnavailableReason::WornOut);
    }
    let renewed = f.keyring.renew(&table(1), &record, &HashSet::new()).await.unwrap();
    assert_eq!(renewed.record().kms_key_arn, record.kms_key_arn);
    f.keyring.install(renewed);
    f.keyring.create_data_key(&identity(1, 2)).unwrap();
    f.keyring.unwrap_data_key(&[1; 16], &wrapped, &identity(1, 1)).unwrap();
}

#[tokio::test]
async fn a_forgotten_table_has_no_keys_even_when_a_call_was_under_way() {
    let f = fixture();
    let record = f.record(1, &f.specification()).await;
    f.keyring.open(&table(1), &record).await.unwrap();
    let lease = f.keyring.lease(&[1; 16]).unwrap();
    f.keyring.forget(&[1; 16]);
    assert!(lease.is_revoked());
    f.gate.holds.store(true, Ordering::SeqCst);
    let keyring = Arc::clone(&f.keyring);
    let under_way = tokio::spawn(async move { keyring.open(&table(1), &record).await });
    f.until_waiting(1).await;
    f.keyring.forget(&[1; 16]);
    f.let_through();
    assert!(matches!(under_way.await.unwrap(), Err(KeyError::Superseded(_))));
    assert!(!f.keyring.is_usable(&[1; 16]));
}
