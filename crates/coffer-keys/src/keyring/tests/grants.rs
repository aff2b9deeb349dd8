//! Grants, checks, authorisations: what the KMS is asked besides keys.

use super::*;
use crate::ErrorClass;

#[tokio::test]
async fn a_new_table_has_two_grants_and_its_key_is_made_with_their_tokens() {
    let f = fixture();
    let prepared = f.prepared(1, &f.specification()).await.unwrap();
    let kinds: Vec<_> = prepared.record().grants.iter().map(|grant| &*grant.kind).collect();
    assert_eq!(kinds, ["data", "snapshot"]);
    for grant in &prepared.record().grants {
        assert_eq!(Some(&*grant.key_arn), prepared.record().kms_key_arn.as_deref());
        assert!(!grant.grant_id.is_empty());
    }
    let calls = f.recorder.calls.lock().clone();
    let generate = calls.iter().find(|call| call.operation == "GenerateDataKey").unwrap();
    assert_eq!(generate.grant_tokens.len(), 2);
    assert_eq!(generate.grant_tokens, *f.recorder.tokens.lock());
    let owned = f.prepared(2, &EncryptionSpecification::AwsOwned).await.unwrap();
    assert!(owned.record().grants.is_empty());
}

#[tokio::test]
async fn a_failure_tells_which_grants_were_made() {
    let f = fixture();
    let specification = f.specification();
    f.fail(Some((KmsOperation::GenerateDataKey, "KMSInternalException")));
    let failed = f.prepared(1, &specification).await.err().unwrap();
    assert!(matches!(failed.error, KeyError::Transient(_)), "{failed}");
    let made = failed.grants;
    assert_eq!(made.iter().map(|grant| &*grant.kind).collect::<Vec<_>>(), ["data", "snapshot"]);

    f.fail(Some((KmsOperation::CreateGrant, "LimitExceededException")));
    let failed = f.prepared(1, &specification).await.err().unwrap();
    assert!(matches!(failed.error, KeyError::Configuration(_)), "{failed}");
    assert!(failed.grants.is_empty() && failed.to_string().contains("retire grants of the key"));

    // a grant whose answer was lost is found by its name
    f.fail(None);
    let arn = specification.arn().unwrap();
    let found = f.keyring.create_grants(&table(1), arn, &context(1), &names(1)).await.unwrap();
    assert_eq!(found, made);
}

#[tokio::test]
async fn a_failed_swap_tells_the_grants_of_the_new_key_and_a_renewal_keeps_the_old_ones() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let prepared = f.prepared(1, &a).await.unwrap();
    let record = prepared.record().clone();
    f.keyring.install(prepared);
    let needed = HashSet::new();
    f.fail(Some((KmsOperation::GenerateDataKey, "ThrottlingException")));
    let (name, names, context) = (table(1), names(7), context(1));
    let failed = f.keyring.swap(&name, &record, new_keys(&b, &context, &names), &needed).await;
    let failed = failed.err().unwrap();
    assert_eq!(failed.grants.len(), 2);
    assert!(failed.grants.iter().all(|grant| Some(&*grant.key_arn) == b.arn()));
    f.fail(None);
    let renewed = f.keyring.renew(&table(1), &record, &needed).await.unwrap();
    assert_eq!(renewed.record().grants, record.grants);
    assert_ne!(renewed.record().table_key_id, record.table_key_id);
}

#[tokio::test]
async fn a_grant_that_is_gone_is_retired() {
    let f = fixture();
    let record = f.record(1, &f.specification()).await;
    let [data, _] = record.grants.as_slice() else { panic!("two grants") };
    for _ in 0..2 {
        let retired = f.keyring.retire_grant(&table(1), &data.key_arn, &data.grant_id).await;
        retired.unwrap();
    }
    let error = f.keyring.open(&table(1), &record).await.unwrap_err();
    assert!(error.to_string().contains("missing permission kms:Decrypt"), "{error}");
    f.fail(Some((KmsOperation::RetireGrant, "AccessDeniedException")));
    assert!(f.keyring.retire_grant(&table(1), &data.key_arn, &data.grant_id).await.is_err());
    assert_eq!(f.keyring.kms_calls().retire_grant, 3);
}

#[tokio::test]
async fn a_check_names_what_is_wrong_and_changes_nothing() {
    let f = fixture();
    let specification = f.specification();
    let record = f.record(1, &specification).await;
    f.keyring.open(&table(1), &record).await.unwrap();
    f.recorder.operations();
    let results = f.keyring.check(&table(1), &record).await;
    assert!(results.iter().all(|result| result.outcome.is_ok()), "{results:?}");
    let asked: Vec<_> = results.iter().map(|result| result.operation.to_string()).collect();
    assert_eq!(asked, ["DescribeKey", "GenerateDataKey", "Decrypt"]);
    let calls = f.recorder.calls.lock().clone();
    assert!(calls.iter().all(|call| call.operation == "DescribeKey" || call.dry_run), "{calls:?}");

    let denied = "AccessDeniedException";
    f.fail(Some((KmsOperation::Decrypt, denied)));
    let results = f.keyring.check(&table(1), &record).await;
    let error = results[2].outcome.as_ref().unwrap_err();
    assert_eq!(error.class(), ErrorClass::Definitive);
    assert!(results[..2].iter().all(|result| result.outcome.is_ok()));
    f.fail(None);
    f.kms.disable_key(specification.arn().unwrap()).unwrap();
    for result in f.keyring.check(&table(1), &record).await {
        let text = result.outcome.unwrap_err().to_string();
        assert!(text.contains("enable the key in the KMS"), "{text}");
    }
    assert!(f.keyring.is_usable(&[1; 16]) && f.revoked.lock().is_empty(), "only asked");
    let key = f.keyring.check_key(specification.arn().unwrap(), &context(1)).await;
    assert!(key.len() == 2 && key.iter().all(|result| result.outcome.is_err()));
    let owned = f.record(2, &EncryptionSpecification::AwsOwned).await;
    assert!(f.keyring.check(&table(2), &owned).await.is_empty());
}

#[tokio::test]
async fn a_principal_is_authorised_once_in_each_window() {
    let f = fixture();
    let record = f.record(1, &f.specification()).await;
    let (ann, bob) = ("arn:aws:iam::1:user/ann", "arn:aws:iam::1:user/bob");
    f.recorder.refused.lock().push(bob.to_owned());
    f.recorder.operations();
    for _ in 0..100 {
        f.keyring.authorize(&table(1), &record, ann).await.unwrap();
    }
    let calls = f.recorder.calls.lock().clone();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].principal.as_deref(), Some(ann));
    let error = f.keyring.authorize(&table(1), &record, bob).await.unwrap_err();
    assert!(matches!(error, KeyError::Definitive(_)), "{error}");
    assert!(error.to_string().contains(bob) && error.to_string().contains("kms:Decrypt"));
    assert!(f.revoked.lock().is_empty(), "the table goes on for others");

    // a right taken away bites when the window ends, or at once after a flush
    f.recorder.refused.lock().push(ann.to_owned());
    f.clock.advance(MAX_AGE - 1);
    f.keyring.authorize(&table(1), &record, ann).await.unwrap();
    f.clock.advance(1);
    assert!(f.keyring.authorize(&table(1), &record, ann).await.is_err());
    f.recorder.refused.lock().clear();
    f.keyring.authorize(&table(1), &record, ann).await.unwrap();
    f.recorder.refused.lock().push(ann.to_owned());
    f.keyring.open(&table(1), &record).await.unwrap();
    f.keyring.flush(Some(&[1; 16]));
    assert!(f.keyring.authorize(&table(1), &record, ann).await.is_err());
    let owned = f.record(2, &EncryptionSpecification::AwsOwned).await;
    f.keyring.authorize(&table(2), &owned, bob).await.unwrap();
}

#[tokio::test]
async fn those_who_ask_for_the_same_principal_at_once_share_one_call() {
    let f = fixture();
    let record = f.record(1, &f.specification()).await;
    f.gate.holds.store(true, Ordering::SeqCst);
    let ask = |_| {
        let (keyring, record) = (Arc::clone(&f.keyring), record.clone());
        tokio::spawn(async move { keyring.authorize(&table(1), &record, "arn").await })
    };
    let asking: Vec<_> = (0..50).map(ask).collect();
    f.until_waiting(1).await;
    f.let_through();
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(f.keyring.kms_calls().decrypt, 1);
}
