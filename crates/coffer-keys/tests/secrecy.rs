//! No key bytes in logs, records or errors, at any level. Alone in its program: the subscriber is
//! that of the whole process.

use coffer_crypto::{RootKey, clock::ManualClock};
use coffer_keys::{
    DecryptRequest, EmbeddedKms, EmbeddedKmsOptions, EncryptionSpecification, GrantNames, KeyArn,
    Keyring, KeyringOptions, KmsProvider, NewKey, NewKeys, TableName, encryption_context,
};
use parking_lot::Mutex;
use std::{io, sync::Arc};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn logs_at_trace_hold_no_key_bytes() {
    let captured = Captured::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(captured.clone())
        .init();

    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_700_000_000_000);
    let options = EmbeddedKmsOptions::default();
    let kms = EmbeddedKms::open(&dir.path().join("kms"), &options, clock.clone()).unwrap();
    let root = RootKey::generate().unwrap();
    let root_file = root.to_file_bytes();
    let keyring = Keyring::new(kms.clone(), root, clock.clone(), KeyringOptions::default());

    let table = TableName::new([1; 16], "ks", "t");
    let context = encryption_context(&table, "000000000000");
    let arn = kms.create_key(NewKey::default()).unwrap().arn;
    let to = EncryptionSpecification::CustomerManaged(KeyArn::parse(&arn).unwrap());
    let grants = GrantNames { data: "data".to_owned(), snapshot: "snapshot".to_owned() };
    let new = |specification| NewKeys {
        specification,
        context: &context,
        grants: Some(&grants),
        double_wrapped: false,
    };
    let record = keyring.new_record(&table, new(&to)).await.unwrap().record().clone();
    keyring.open(&table, &record).await.unwrap();
    let owned = EncryptionSpecification::AwsOwned;
    let none = std::collections::HashSet::new();
    let swapped = keyring.swap(&table, &record, new(&owned), &none).await.unwrap().unwrap();
    let swapped_record = swapped.record().clone();
    kms.disable_key(&arn).unwrap();
    clock.advance(300_000);
    let error = keyring.open(&table, &record).await.unwrap_err();
    kms.enable_key(&arn).unwrap();

    let request = DecryptRequest {
        key: &arn,
        blob: &record.blob.0,
        context: &context,
        grant_tokens: &[],
        dry_run: false,
        principal: None,
    };
    let key = kms.decrypt(request).await.unwrap().plaintext;
    let root_digits = std::str::from_utf8(&root_file).unwrap().lines().nth(1).unwrap();
    let logged = String::from_utf8_lossy(&captured.0.lock()).to_lowercase();
    assert!(logged.contains("table key opened") && logged.contains("refused"), "{logged}");
    let shown = format!("{record:?} {swapped_record:?} {error:?} {error}").to_lowercase();
    let list = format!("{:?}", &key[..8]);
    let list = list.trim_matches(['[', ']']);
    for output in [logged, shown] {
        assert!(!output.contains(&hex::encode(&key[..8])));
        assert!(!output.contains(list));
        assert!(!output.contains(&root_digits[..16]));
    }
}
