//! The swap of a table's KMS key.

use super::*;

async fn installed(f: &Fixture, specification: &EncryptionSpecification) -> KeyRecord {
    let prepared = f.prepared(1, specification).await.unwrap();
    let record = prepared.record().clone();
    f.keyring.install(prepared);
    record
}

async fn swap(
    f: &Fixture,
    record: &KeyRecord,
    to: &EncryptionSpecification,
    needed: &[TableKeyId],
) -> Result<Option<PreparedKeys>> {
    let needed = needed.iter().copied().collect();
    if record.kms_key_arn.as_deref() != to.arn() {
        f.keyring.describe(&table(1), to).await?;
    }
    let (names, context) = (names(1), context(1));
    let new = new_keys(to, &context, &names);
    let swapped = f.keyring.swap(&table(1), record, new, &needed).await;
    swapped.map_err(|failed| failed.error)
}

#[tokio::test]
async fn after_a_swap_the_old_key_is_needed_no_more() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let first = installed(&f, &a).await;
    let (_, wrapped) = f.keyring.create_data_key(&identity(1, 1)).unwrap();
    let lease = f.keyring.lease(&[1; 16]).unwrap();
    let prepared = swap(&f, &first, &b, &[]).await.unwrap().unwrap();
    let second = prepared.record().clone();
    // between publishing the catalog and installing, both go on
    f.keyring.unwrap_data_key(&[1; 16], &wrapped, &identity(1, 1)).unwrap();
    let (_, between) = f.keyring.create_data_key(&identity(1, 2)).unwrap();
    f.keyring.install(prepared);
    f.kms.disable_key(a.arn().unwrap()).unwrap();

    assert!(lease.is_valid(f.clock.key_now_millis()), "the opened table goes on with its lease");
    assert_ne!(second.table_key_id, first.table_key_id);
    assert_eq!(second.kms_key_arn.as_deref(), b.arn());
    let old_blob = hex::encode(&first.blob.0);
    assert!(!format!("{second:?}").contains(&format!("{:?}", first.blob)));
    assert!(!serde_json::to_string(&second).unwrap().contains(&old_blob));
    // also after a restart
    f.keyring.forget(&[1; 16]);
    f.keyring.open(&table(1), &second).await.unwrap();
    f.keyring.unwrap_data_key(&[1; 16], &wrapped, &identity(1, 1)).unwrap();
    f.keyring.unwrap_data_key(&[1; 16], &between, &identity(1, 2)).unwrap();
    let (_, new) = f.keyring.create_data_key(&identity(1, 3)).unwrap();
    assert_eq!(new.table_key_id, second.table_key_id);
}

#[tokio::test]
async fn fifty_swaps_leave_a_record_no_longer_than_one() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let mut record = installed(&f, &a).await;
    let (_, oldest) = f.keyring.create_data_key(&identity(1, 1)).unwrap();
    let mut lengths = Vec::new();
    for number in 0..50 {
        let to = if number % 2 == 0 { &b } else { &a };
        let prepared = swap(&f, &record, to, &[oldest.table_key_id]).await.unwrap().unwrap();
        record = prepared.record().clone();
        f.keyring.install(prepared);
        lengths.push(serde_json::to_string(&record).unwrap().len());
        let depth = record.older.len();
        assert_eq!(depth, if number == 0 { 1 } else { 2 }, "the oldest and the one before");
    }
    // the count of wraps and the like may differ by a digit
    assert!(lengths[49] <= lengths[1] + 8, "{lengths:?}");
    f.keyring.unwrap_data_key(&[1; 16], &oldest, &identity(1, 1)).unwrap();
    let prepared = swap(&f, &record, &b, &[]).await.unwrap().unwrap();
    f.keyring.install(prepared);
    let gone = f.keyring.unwrap_data_key(&[1; 16], &oldest, &identity(1, 1));
    assert!(matches!(gone, Err(Error::UnknownTableKey(id)) if id == oldest.table_key_id));
}

#[tokio::test]
async fn fifty_swaps_without_pruning_stay_flat() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let mut record = installed(&f, &a).await;
    let mut files = Vec::new();
    for number in 0..50 {
        let (_, wrapped) = f.keyring.create_data_key(&identity(1, number)).unwrap();
        files.push(wrapped);
        let to = if number % 2 == 0 { &b } else { &a };
        let needed: Vec<_> = files.iter().map(|file| file.table_key_id).collect();
        let prepared = swap(&f, &record, to, &needed).await.unwrap().unwrap();
        record = prepared.record().clone();
        f.keyring.install(prepared);
    }
    f.keyring.forget(&[1; 16]);
    let before = f.keyring.kms_calls().decrypt;
    f.keyring.open(&table(1), &record).await.unwrap();
    assert_eq!(f.keyring.kms_calls().decrypt, before + 1, "one call opens all of them");
    for (number, file) in files.iter().enumerate() {
        let birth = identity(1, u8::try_from(number).unwrap());
        f.keyring.unwrap_data_key(&[1; 16], file, &birth).unwrap();
    }
}

#[tokio::test]
async fn owned_and_customer_keys_can_be_swapped_both_ways() {
    let f = fixture();
    let a = f.specification();
    let owned = installed(&f, &EncryptionSpecification::AwsOwned).await;
    let lease = f.keyring.lease(&[1; 16]).unwrap();
    let (_, wrapped) = f.keyring.create_data_key(&identity(1, 1)).unwrap();
    let prepared = swap(&f, &owned, &a, &[]).await.unwrap().unwrap();
    let customer = prepared.record().clone();
    f.keyring.install(prepared);
    assert!(!lease.is_valid(f.clock.key_now_millis() + MAX_AGE), "it has an age now");
    let (to, needed) = (EncryptionSpecification::AwsOwned, [owned.table_key_id]);
    let prepared = swap(&f, &customer, &to, &needed).await.unwrap().unwrap();
    f.keyring.install(prepared);
    f.kms.disable_key(a.arn().unwrap()).unwrap();
    f.clock.advance(10 * MAX_AGE);
    assert!(lease.is_valid(f.clock.key_now_millis()));
    f.keyring.unwrap_data_key(&[1; 16], &wrapped, &identity(1, 1)).unwrap();
}

#[tokio::test]
async fn a_swap_to_the_same_key_does_nothing_and_asks_nobody() {
    let f = fixture();
    let a = f.specification();
    let record = installed(&f, &a).await;
    let before = f.keyring.kms_calls();
    f.kms.disable_key(a.arn().unwrap()).unwrap();
    assert!(swap(&f, &record, &a, &[]).await.unwrap().is_none());
    assert_eq!(f.keyring.kms_calls(), before);
}

#[tokio::test]
async fn a_swap_to_or_from_an_unusable_key_changes_nothing() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let record = installed(&f, &a).await;
    f.kms.disable_key(b.arn().unwrap()).unwrap();
    let error = swap(&f, &record, &b, &[]).await.err().unwrap();
    assert!(error.to_string().contains(b.arn().unwrap()), "{error}");
    f.keyring.create_data_key(&identity(1, 1)).unwrap();
    f.kms.enable_key(b.arn().unwrap()).unwrap();
    f.kms.disable_key(a.arn().unwrap()).unwrap();
    f.clock.advance(MAX_AGE);
    let error = swap(&f, &record, &b, &[]).await.err().unwrap();
    assert!(error.to_string().contains(a.arn().unwrap()), "{error}");
}

#[tokio::test]
async fn a_refresh_with_the_old_key_that_ends_after_the_swap_changes_nothing() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let record = installed(&f, &a).await;
    let prepared = swap(&f, &record, &b, &[]).await.unwrap().unwrap();
    let second = prepared.record().clone();
    f.clock.advance(MAX_AGE);
    f.gate.holds.store(true, Ordering::SeqCst);
    let (keyring, stale) = (Arc::clone(&f.keyring), record.clone());
    let refresh = tokio::spawn(async move { keyring.open(&table(1), &stale).await });
    f.until_waiting(1).await;
    f.clock.advance(-MAX_AGE);
    f.keyring.install(prepared);
    f.kms.disable_key(a.arn().unwrap()).unwrap();
    f.let_through();
    assert!(matches!(refresh.await.unwrap(), Err(KeyError::Superseded(_))));
    assert!(f.revoked.lock().is_empty());
    f.keyring.create_data_key(&identity(1, 1)).unwrap();
    // and a request that still holds the record from before the swap uses the new key
    f.clock.advance(MAX_AGE);
    f.keyring.open(&table(1), &record).await.unwrap();
    let (_, wrapped) = f.keyring.create_data_key(&identity(1, 2)).unwrap();
    assert_eq!(wrapped.table_key_id, second.table_key_id);
}

#[tokio::test]
async fn a_swap_whose_answer_is_lost_changes_nothing_and_can_be_repeated() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let record = installed(&f, &a).await;
    for operation in [KmsOperation::DescribeKey, KmsOperation::GenerateDataKey] {
        *f.gate.lost.lock() = Some(operation);
        let error = swap(&f, &record, &b, &[]).await.err().unwrap();
        assert!(matches!(error, KeyError::Transient(_)), "{error}");
        let (_, wrapped) = f.keyring.create_data_key(&identity(1, 1)).unwrap();
        assert_eq!(wrapped.table_key_id, record.table_key_id);
    }
    *f.gate.lost.lock() = None;
    let prepared = swap(&f, &record, &b, &[]).await.unwrap().unwrap();
    assert_eq!(prepared.record().kms_key_arn.as_deref(), b.arn());
}
