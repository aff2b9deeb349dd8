//! New envelopes for the same table key: double wrapping, rewrap, another root key.

use super::*;
use coffer_crypto::RootKeys;

async fn double(f: &Fixture, number: u8, to: &EncryptionSpecification) -> PreparedKeys {
    let (name, names, context) = (table(number), names(number), context(number));
    let new = NewKeys { double_wrapped: true, ..new_keys(to, &context, &names) };
    f.keyring.new_record(&name, new).await.unwrap()
}

#[tokio::test]
async fn a_doubly_wrapped_key_needs_the_kms_and_the_root_key() {
    let f = fixture();
    let specification = f.specification();
    let record = double(&f, 1, &specification).await.record().clone();
    assert!(record.double_wrapped);
    f.keyring.open(&table(1), &record).await.unwrap();
    let (_, wrapped) = f.keyring.create_data_key(&identity(1, 1)).unwrap();

    let mut without_outer = record.clone();
    without_outer.double_wrapped = false;
    f.keyring.flush(None);
    let error = f.keyring.open(&table(1), &without_outer).await.unwrap_err();
    assert!(matches!(error, KeyError::Integrity(_)), "{error}");

    let lost_root = f.with_root(RootKey::generate().unwrap());
    let error = lost_root.open(&table(1), &record).await.unwrap_err();
    assert!(matches!(error, KeyError::Damaged { .. }), "{error}");

    f.kms.disable_key(specification.arn().unwrap()).unwrap();
    assert!(f.keyring.open(&table(1), &record).await.is_err());
    f.kms.enable_key(specification.arn().unwrap()).unwrap();
    f.keyring.open(&table(1), &record).await.unwrap();
    f.keyring.unwrap_data_key(&[1; 16], &wrapped, &identity(1, 1)).unwrap();
    assert!(f.keyring.check(&table(1), &record).await.iter().all(|one| one.outcome.is_ok()));
}

#[tokio::test]
async fn a_rewrap_changes_the_blob_and_nothing_else() {
    let f = fixture();
    let specification = f.specification();
    for (number, prepared) in [
        (1, f.prepared(1, &specification).await.unwrap()),
        (2, double(&f, 2, &specification).await),
    ] {
        let record = prepared.record().clone();
        f.keyring.install(prepared);
        let rewrapped = f.keyring.rewrap(&table(number), &record).await.unwrap();
        assert_ne!(rewrapped.blob, record.blob);
        let same = KeyRecord { blob: record.blob.clone(), ..rewrapped.clone() };
        assert_eq!(same, record);
        f.keyring.install_record(&[number; 16], &rewrapped);
        let cached = f.keyring.tables.lock().open[&[number; 16]].record();
        assert_eq!(cached.blob, rewrapped.blob, "the next Decrypt is of the new blob");
        f.keyring.forget(&[number; 16]);
        f.keyring.open(&table(number), &rewrapped).await.unwrap();
    }
    let owned = f.record(3, &EncryptionSpecification::AwsOwned).await;
    assert_eq!(f.keyring.rewrap(&table(3), &owned).await.unwrap(), owned);
    f.kms.disable_key(specification.arn().unwrap()).unwrap();
    let record = f.keyring.tables.lock().open[&[1; 16]].record();
    assert!(f.keyring.rewrap(&table(1), &record).await.is_err());
    assert!(f.keyring.is_usable(&[1; 16]));
}

#[tokio::test]
async fn records_open_at_every_step_of_a_root_key_rotation() {
    let f = fixture();
    let old = RootKey::generate().unwrap();
    let new = RootKey::generate().unwrap();
    f.keyring.set_root_keys(old.duplicate().into());
    let owned = f.record(1, &EncryptionSpecification::AwsOwned).await;
    let doubled = double(&f, 2, &f.specification()).await.record().clone();
    let plain = f.record(3, &f.specification()).await;

    f.keyring.set_root_keys(RootKeys::rotating(new.duplicate(), old));
    let records = [(1, owned), (2, doubled), (3, plain)];
    let mut rewrapped = Vec::new();
    for (number, record) in records {
        f.keyring.open(&table(number), &record).await.unwrap();
        let next = f.keyring.rewrap_under_root(&table(number), &record).unwrap();
        assert_eq!(next.is_some(), number != 3, "a KMS's blob is not the root key's matter");
        let next = next.unwrap_or(record);
        assert!(f.keyring.rewrap_under_root(&table(number), &next).unwrap().is_none(), "done");
        f.keyring.install_record(&[number; 16], &next);
        rewrapped.push((number, next));
    }
    let decrypts = f.keyring.kms_calls().decrypt;
    f.keyring.set_root_keys(new.into());
    for (number, record) in rewrapped {
        f.keyring.forget(&[number; 16]);
        f.keyring.open(&table(number), &record).await.unwrap();
    }
    assert_eq!(f.keyring.kms_calls().decrypt, decrypts + 2);
}
