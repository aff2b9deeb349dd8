//! What leaves memory when, how often the KMS is asked, what is counted.

use super::*;
use crate::ErrorClass;

async fn opened(f: &Fixture, number: u8) -> KeyRecord {
    let record = f.record(number, &f.specification()).await;
    f.keyring.open(&table(number), &record).await.unwrap();
    record
}

fn is_in_memory(f: &Fixture, number: u8) -> bool {
    let tables = f.keyring.tables.lock();
    tables.open.get(&[number; 16]).is_some_and(|entry| entry.keys().is_some())
}

fn dropped(f: &Fixture) -> Vec<(String, DropReason)> {
    f.dropped.lock().drain(..).collect()
}

#[tokio::test]
async fn an_aged_key_leaves_memory_and_the_lease_goes_on_when_it_comes_back() {
    let f = fixture();
    let record = opened(&f, 1).await;
    let lease = f.keyring.lease(&[1; 16]).unwrap();
    f.keyring.refresh_once().await;
    f.clock.advance(MAX_AGE - 1);
    f.keyring.refresh_once().await;
    assert!(is_in_memory(&f, 1));
    f.clock.advance(1);
    assert_eq!(f.keyring.refresh_once().await, 0, "nobody asked for it");
    assert!(!is_in_memory(&f, 1));
    assert_eq!(dropped(&f), [("ks.t1".to_owned(), DropReason::Aged)]);
    assert!(!lease.is_valid(f.clock.key_now_millis()) && !lease.is_revoked());
    f.keyring.open(&table(1), &record).await.unwrap();
    assert!(is_in_memory(&f, 1) && lease.is_valid(f.clock.key_now_millis()));
}

#[tokio::test]
async fn an_idle_key_leaves_memory_before_its_age_and_costs_no_call() {
    let f = fixture_with(KeyringOptions { idle_millis: 60_000, ..KeyringOptions::default() });
    let record = opened(&f, 1).await;
    let busy = opened(&f, 2).await;
    let decrypts = f.keyring.kms_calls().decrypt;
    for _ in 0..60 {
        f.clock.advance(1_000);
        f.keyring.create_data_key(&identity(2, 1)).unwrap();
        f.keyring.refresh_once().await;
    }
    assert!(!is_in_memory(&f, 1) && is_in_memory(&f, 2));
    assert_eq!(dropped(&f), [("ks.t1".to_owned(), DropReason::Idle)]);
    for _ in 0..600 {
        f.clock.advance(1_000);
        f.keyring.refresh_once().await;
    }
    assert!(!is_in_memory(&f, 2));
    let after = f.keyring.kms_calls().decrypt;
    assert_eq!(after, decrypts, "no table in use, no call");
    f.keyring.open(&table(1), &record).await.unwrap();
    f.keyring.open(&table(2), &busy).await.unwrap();
    assert_eq!(f.keyring.kms_calls().decrypt, after + 2);
}

#[tokio::test]
async fn an_owned_key_stays() {
    let f = fixture();
    let record = f.record(1, &EncryptionSpecification::AwsOwned).await;
    f.keyring.open(&table(1), &record).await.unwrap();
    f.clock.advance(100 * MAX_AGE);
    f.keyring.refresh_once().await;
    assert!(is_in_memory(&f, 1));
    assert_eq!(f.keyring.flush(None), 0);
    assert!(is_in_memory(&f, 1) && f.keyring.is_usable(&[1; 16]));
}

#[tokio::test]
async fn a_flush_makes_the_next_use_ask_the_kms() {
    let f = fixture();
    let first = opened(&f, 1).await;
    let second = opened(&f, 2).await;
    let leases = [[1; 16], [2; 16]].map(|id| f.keyring.lease(&id).unwrap());
    assert_eq!(f.keyring.flush(Some(&[1; 16])), 1);
    assert!(!is_in_memory(&f, 1) && is_in_memory(&f, 2));
    assert!(leases[0].is_revoked() && !leases[1].is_revoked());
    assert_eq!(f.keyring.flush(None), 1);
    assert_eq!(f.keyring.flush(None), 0);
    let told = dropped(&f);
    let expected = ["ks.t1", "ks.t2"].map(|name| (name.to_owned(), DropReason::Flushed));
    assert_eq!(told, expected);
    assert!(f.revoked.lock().is_empty(), "it is no refusal");
    let before = f.keyring.kms_calls().decrypt;
    f.keyring.open(&table(1), &first).await.unwrap();
    f.keyring.open(&table(2), &second).await.unwrap();
    assert_eq!(f.keyring.kms_calls().decrypt, before + 2);
}

#[tokio::test]
async fn an_answer_from_before_a_flush_does_not_count() {
    let f = fixture();
    let record = f.record(1, &f.specification()).await;
    f.gate.holds.store(true, Ordering::SeqCst);
    let (keyring, stale) = (Arc::clone(&f.keyring), record.clone());
    let under_way = tokio::spawn(async move { keyring.open(&table(1), &stale).await });
    f.until_waiting(1).await;
    f.keyring.flush(None);
    f.let_through();
    assert!(matches!(under_way.await.unwrap(), Err(KeyError::Superseded(_))));
    assert!(!is_in_memory(&f, 1));
}

#[tokio::test]
async fn the_background_keeps_to_its_budget_and_requests_do_not_wait_for_it() {
    let options = KeyringOptions { background_calls_per_second_max: 5, ..Default::default() };
    let f = fixture_with(options);
    let specification = f.specification();
    let mut records = Vec::new();
    for number in 0..20 {
        let record = f.record(number, &specification).await;
        f.keyring.open(&table(number), &record).await.unwrap();
        records.push(record);
    }
    f.clock.advance(MAX_AGE * 95 / 100);
    for number in 0..20 {
        f.keyring.create_data_key(&identity(number, 1)).unwrap();
    }
    assert_eq!(f.keyring.refresh_once().await, 5);
    assert_eq!(f.keyring.refresh_once().await, 0);
    f.clock.advance(1_000);
    assert_eq!(f.keyring.refresh_once().await, 5);
    f.clock.advance(MAX_AGE);
    for (number, record) in (0..).zip(&records) {
        f.keyring.open(&table(number), record).await.unwrap();
    }
}

#[tokio::test]
async fn a_table_that_fails_again_and_again_does_not_flood_the_kms() {
    let f = fixture();
    let specification = f.specification();
    let record = f.record(1, &specification).await;
    f.kms.disable_key(specification.arn().unwrap()).unwrap();
    for _ in 0..1_000 {
        let error = f.keyring.open(&table(1), &record).await.unwrap_err();
        assert!(error.to_string().starts_with("KMS key disabled error: "), "{error}");
    }
    let calls = f.keyring.kms_calls().decrypt;
    assert!(calls <= 10, "{calls}");
    f.kms.enable_key(specification.arn().unwrap()).unwrap();
    f.clock.advance(5_000);
    f.keyring.open(&table(1), &record).await.unwrap();
}

#[tokio::test]
async fn requests_results_ages_and_revocations_are_counted() {
    let f = fixture();
    let record = opened(&f, 1).await;
    let arn = record.kms_key_arn.clone().unwrap();
    for _ in 0..10 {
        f.keyring.open(&table(1), &record).await.unwrap();
    }
    f.clock.advance(200_000);
    f.kms.disable_key(&arn).unwrap();
    f.keyring.flush(None);
    f.keyring.open(&table(1), &record).await.unwrap_err();
    f.kms.enable_key(&arn).unwrap();
    f.keyring.open(&table(1), &record).await.unwrap();
    f.clock.advance(MAX_AGE);
    f.kms.disable_key(&arn).unwrap();
    f.keyring.open(&table(1), &record).await.unwrap_err();
    let found = f.keyring.statistics();
    assert_eq!((found.cache_hits, found.cache_misses), (10, 4));
    let counted = |operation, result: &str| {
        let of = |request: &&RequestCount| {
            (request.operation, request.result.as_str()) == (operation, result)
        };
        found.requests.iter().find(of).map(|request| request.count)
    };
    assert_eq!(counted(KmsOperation::Decrypt, "ok"), Some(2));
    assert_eq!(counted(KmsOperation::Decrypt, "DisabledException"), Some(2));
    assert_eq!(counted(KmsOperation::CreateGrant, "ok"), Some(2));
    let key = &found.keys[&arn];
    assert_eq!(key.last_failure_class, Some(ErrorClass::Definitive));
    assert!(key.last_failure.as_ref().unwrap().contains("is disabled"));
    assert!(key.last_success_millis < key.last_failure_millis);
    assert_eq!(found.revocations, 1);
    assert_eq!(found.revocation_latency_millis_last, Some(MAX_AGE));
    f.keyring.forget(&[1; 16]);
    assert!(f.keyring.statistics().requests.is_empty(), "a dropped table is forgotten");
}

#[tokio::test]
async fn an_age_counts_from_the_making_of_the_table_key() {
    let f = fixture();
    opened(&f, 1).await;
    f.clock.advance(3_000);
    let found = f.keyring.statistics();
    let [of_table] = found.tables.as_slice() else { panic!("one table") };
    assert_eq!((of_table.age_millis, of_table.confirmed_millis_ago), (3_000, Some(3_000)));
    assert!(of_table.is_cached && of_table.calls.last_success_millis.is_some());
}
