//! Probes: what they ask, what they find, and what a refusal does to cached keys.

use super::*;
use crate::KeyState;
use std::time::Duration;

/// Two tables under one KMS key, the first of them in use.
async fn two_tables(f: &Fixture) -> (String, Vec<(TableName, Arc<KeyRecord>)>) {
    let specification = f.specification();
    let mut records = Vec::new();
    for number in [1, 2] {
        records.push((table(number), Arc::new(f.record(number, &specification).await)));
    }
    f.keyring.open(&table(1), &records[0].1).await.unwrap();
    f.recorder.operations();
    (specification.arn().unwrap().to_owned(), records)
}

#[tokio::test]
async fn tables_of_one_kms_key_share_its_description() {
    let f = fixture();
    let (arn, mut records) = two_tables(&f).await;
    let owned = f.record(3, &EncryptionSpecification::AwsOwned).await;
    records.push((table(3), Arc::new(owned)));
    let probes = f.keyring.probe(records).await;
    assert_eq!(probes.len(), 2, "an owned key needs no KMS");
    for probe in &probes {
        assert!(probe.outcome.is_ok());
        assert_eq!(probe.kms_state, Some(KeyState::Enabled));
        assert_eq!(probe.identity, f.keyring.identity(&arn).await);
        assert!(probe.identity.as_deref().unwrap().contains("role/coffer-data"));
    }
    let calls: Vec<_> = f.recorder.calls.lock().drain(..).collect();
    let mut operations: Vec<_> = calls.iter().map(|call| &*call.operation).collect();
    operations.sort_unstable();
    assert_eq!(operations, ["Decrypt", "Decrypt", "DescribeKey"]);
    assert!(calls.iter().all(|call| call.operation == "DescribeKey" || call.dry_run));
}

#[tokio::test]
async fn a_refusal_drops_the_cached_key_and_names_the_state() {
    let f = fixture();
    let (arn, records) = two_tables(&f).await;
    f.kms.disable_key(&arn).unwrap();
    let probes = f.keyring.probe(records.clone()).await;
    assert!(probes.iter().all(|probe| matches!(probe.outcome, Err(KeyError::Definitive(_)))));
    assert_eq!(probes[0].kms_state, Some(KeyState::Disabled));
    assert_eq!(*f.revoked.lock(), ["ks.t1"], "the table that was in use");
    assert!(!f.keyring.is_usable(&[1; 16]));

    f.kms.schedule_key_deletion(&arn, Some(7)).unwrap();
    let probes = f.keyring.probe(records.clone()).await;
    let expected = f.clock.now_millis() + 7 * 24 * 3_600_000;
    assert_eq!(probes[1].kms_state, Some(KeyState::PendingDeletion));
    let found = probes[1].deletion_millis.unwrap();
    assert!((found - expected).abs() < 1_000, "{found}");

    f.kms.cancel_key_deletion(&arn).unwrap();
    f.kms.enable_key(&arn).unwrap();
    let probes = f.keyring.probe(records).await;
    assert!(probes.iter().all(|probe| probe.outcome.is_ok()));
}

#[tokio::test]
async fn what_is_no_refusal_leaves_the_cached_key() {
    let f = fixture();
    let (arn, records) = two_tables(&f).await;
    for name in ["ThrottlingException", "ExpiredTokenException", "NobodyKnowsException"] {
        f.fail(Some((KmsOperation::Decrypt, name)));
        let probes = f.keyring.probe(records.clone()).await;
        let is_definitive = |probe: &Probe| matches!(probe.outcome, Err(KeyError::Definitive(_)));
        assert!(probes.iter().all(|probe| probe.outcome.is_err() && !is_definitive(probe)));
        assert!(f.keyring.is_usable(&[1; 16]), "{name}");
    }
    // the state is told by the other call
    f.kms.disable_key(&arn).unwrap();
    let probes = f.keyring.probe(records.clone()).await;
    assert!(matches!(probes[0].outcome, Err(KeyError::Definitive(_))));
    // and when neither answers nothing is known
    f.fail(None);
    f.kms.enable_key(&arn).unwrap();
    f.fail(Some((KmsOperation::DescribeKey, "AccessDeniedException")));
    let probes = f.keyring.probe(records).await;
    assert!(probes[0].outcome.is_ok(), "use of the key is what counts");
    assert_eq!(probes[0].kms_state, None);
}

#[tokio::test]
async fn a_key_that_was_confirmed_after_the_question_is_kept() {
    let f = fixture();
    let (arn, records) = two_tables(&f).await;
    f.kms.disable_key(&arn).unwrap();
    let refusal = f.keyring.probe(records.clone()).await.remove(1).outcome.unwrap_err();
    f.kms.enable_key(&arn).unwrap();
    f.clock.advance(1_000);
    f.keyring.open(&table(1), &records[0].1).await.unwrap();
    let now = f.clock.key_now_millis();
    assert_eq!(f.keyring.confirmed_at_millis(&[1; 16]), Some(now));
    f.keyring.refused(&table(1), &records[0].1, &refusal, now - 1);
    assert!(f.keyring.is_usable(&[1; 16]));
    f.keyring.refused(&table(1), &records[0].1, &refusal, now);
    assert!(!f.keyring.is_usable(&[1; 16]));
}

#[tokio::test(start_paused = true)]
async fn what_the_state_alone_says_is_as_old_as_the_state() {
    // the description, and after it one table a second
    let options =
        KeyringOptions { background_calls_per_second_max: 1, ..KeyringOptions::default() };
    let f = fixture_with(options);
    let (arn, records) = two_tables(&f).await;
    f.kms.disable_key(&arn).unwrap();
    for (failing, is_of_state) in [(Some("ThrottlingException"), true), (None, false)] {
        f.fail(failing.map(|name| (KmsOperation::Decrypt, name)));
        f.clock.advance(5_000);
        let started = f.clock.key_now_millis();
        let probing = tokio::spawn({
            let (keyring, records) = (Arc::clone(&f.keyring), records.clone());
            async move { keyring.probe(records).await }
        });
        while !probing.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            f.clock.advance(100);
        }
        let probes = probing.await.unwrap();
        assert!(probes.iter().all(|probe| matches!(probe.outcome, Err(KeyError::Definitive(_)))));
        let ages: Vec<_> = probes.iter().map(|probe| probe.asked_at_millis - started).collect();
        if is_of_state {
            assert_eq!(ages, [0, 0]);
        } else {
            assert!(ages[0] >= 900 && ages[1] >= 1_900, "{ages:?}");
        }
    }
}

#[tokio::test]
async fn a_key_in_memory_whose_kms_key_is_switched_off_is_noticed_without_using_it() {
    let f = fixture();
    let (arn, _) = two_tables(&f).await;
    let other = f.specification().arn().unwrap().to_string();
    let arns = HashSet::from([arn.clone(), other.clone()]);
    let both = |is_usable| HashMap::from([(arn.clone(), is_usable), (other.clone(), true)]);
    assert_eq!(f.keyring.usable(arns.clone()).await, both(true));
    f.kms.disable_key(&arn).unwrap();
    assert_eq!(f.keyring.usable(arns.clone()).await, both(false));
    assert_eq!(f.recorder.operations(), ["DescribeKey"; 4]);
    assert!(f.keyring.is_usable(&[1; 16]), "only the probe that follows decides");
    // no answer says nothing
    f.fail(Some((KmsOperation::DescribeKey, "ThrottlingException")));
    assert_eq!(f.keyring.usable(arns).await, HashMap::new());
}
