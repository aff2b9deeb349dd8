//! The KMS as callers see it.

mod audit;
mod grants;
mod import;
mod keys;
mod rotation;
mod states;
mod store;
mod users;

use super::*;
use crate::api::*;
use coffer_crypto::clock::ManualClock;
use std::collections::BTreeMap;
use tempfile::TempDir;

const DAY: i64 = 86_400_000;
const START: i64 = 1_700_000_000_000;

struct House {
    dir: TempDir,
    clock: Arc<ManualClock>,
    options: KmsOptions,
    kms: Arc<Kms>,
}

fn new_house() -> House {
    house_with(KmsOptions::default())
}

fn house_with(options: KmsOptions) -> House {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let kms = Kms::open(&dir.path().join("kms"), &options, clock.clone()).unwrap();
    House { dir, clock, options, kms }
}

fn user(name: &str) -> Caller {
    Caller::internal(Principal::User { name: name.to_owned() }, None)
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl House {
    fn path(&self) -> PathBuf {
        self.dir.path().join("kms")
    }

    fn reopened(self) -> Self {
        let Self { dir, clock, options, kms } = self;
        drop(kms);
        let kms = Kms::open(&dir.path().join("kms"), &options, clock.clone()).unwrap();
        Self { dir, clock, options, kms }
    }

    fn root<R: Perform>(&self, request: &R) -> Result<R::Response, KmsException> {
        self.kms.perform(&Kms::operator(), request)
    }

    fn create(&self) -> String {
        self.root(&CreateKeyRequest::default()).unwrap().key_metadata.arn
    }

    fn encrypt(&self, key: &str, text: &[u8]) -> Result<EncryptResponse, KmsException> {
        self.encrypt_as(&Kms::operator(), key, text, EncryptionContext::new())
    }

    fn encrypt_as(
        &self,
        caller: &Caller,
        key: &str,
        text: &[u8],
        encryption_context: EncryptionContext,
    ) -> Result<EncryptResponse, KmsException> {
        let (key_id, plaintext) = (key.to_owned(), Blob::from(text));
        let request =
            EncryptRequest { key_id, plaintext, encryption_context, ..EncryptRequest::default() };
        self.kms.perform(caller, &request)
    }

    fn decrypt(&self, blob: &Blob) -> Result<DecryptResponse, KmsException> {
        let ciphertext_blob = blob.clone();
        self.root(&DecryptRequest { ciphertext_blob, ..DecryptRequest::default() })
    }

    fn describe(&self, key: &str) -> KeyMetadata {
        self.root(&DescribeKeyRequest { key_id: key.to_owned(), ..Default::default() })
            .unwrap()
            .key_metadata
    }

    fn disable(&self, key: &str) {
        self.root(&DisableKeyRequest { key_id: key.to_owned() }).unwrap();
    }

    fn schedule_deletion(&self, key: &str) {
        let key_id = key.to_owned();
        self.root(&ScheduleKeyDeletionRequest { key_id, pending_window_in_days: Some(7) }).unwrap();
    }

    /// JSON in, JSON out, as over the network.
    fn call(&self, operation: &str, body: serde_json::Value) -> Result<String, KmsException> {
        let body = body.to_string();
        let answer = self.kms.call(&Kms::operator(), operation, body.as_bytes())?;
        Ok(String::from_utf8(answer.to_vec()).unwrap())
    }
}

#[track_caller]
fn assert_refused<T>(result: Result<T, KmsException>, name: &str) -> String {
    let error = result.err().expect("refused");
    assert_eq!(error.name(), name, "{error}");
    error.message().to_owned()
}

/// Everything in the files of the KMS but what its root key file says.
fn bytes_of_files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "root.key" {
                files.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    files.into_iter().collect()
}
