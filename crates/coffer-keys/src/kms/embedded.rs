//! A KMS inside this process: keys with states, in one sealed file.
//!
//! It speaks in the reference KMS's terms, exceptions and texts. Reads look at an immutable value;
//! a change builds the next one, makes it durable, then swaps it in. The material of a deleted key
//! leaves memory and the file with that change.

mod blob;
mod store;

use crate::{
    KeyArn, KeyError, Result, durable,
    kms::{
        CreateGrantRequest, CreatedGrant, DecryptRequest, DecryptedKey, EncryptionContext,
        GenerateDataKeyRequest, GeneratedDataKey, KeyMetadata, KeyState, KmsError, KmsFuture,
        KmsOperation, KmsProvider, ReEncryptRequest, ReEncrypted,
    },
    root_key_file::{create_root_key, load_root_key},
};
use coffer_crypto::{RootKey, WrappingKey, clock::Clock, random_array};
use parking_lot::{Mutex, RwLock};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{Store, StoreFile, StoredKey};
use zeroize::Zeroizing;

const MILLIS_PER_DAY: i64 = 86_400_000;
const PENDING_WINDOW_DAYS: std::ops::RangeInclusive<u32> = 7..=30;
const PENDING_WINDOW_DAYS_DEFAULT: u32 = 30;
const ENCRYPT_LEN_MAX: usize = 4096;
const DESCRIPTION_LEN_MAX: usize = 8192;

type KmsResult<T> = std::result::Result<T, KmsError>;

/// How an embedded KMS is opened.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedKmsOptions {
    /// Account of new keys; `000000000000` at the first start, kept from then on.
    pub account: Option<String>,
    /// Region of new keys; `us-east-1` at the first start, kept from then on.
    pub region: Option<String>,
    /// Where its root key is; `root.key` in its directory otherwise.
    pub root_key_file: Option<PathBuf>,
    /// Its keys were there before: without them it is damaged, not new.
    pub must_exist: bool,
}

/// What a new key is to be.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// Text for people.
    pub description: String,
    /// A name for the key, with or without `alias/`.
    pub alias: Option<String>,
    /// The ARN to have, instead of one with a random id.
    pub arn: Option<String>,
}

/// The embedded KMS of one data directory.
pub struct EmbeddedKms {
    clock: Arc<dyn Clock>,
    store: RwLock<Arc<Store>>,
    /// Serialises changes; held while one is made durable.
    changes: Mutex<StoreFile>,
}

impl EmbeddedKms {
    /// Opens the KMS in `dir`; creates directory, root key and store at the first start.
    ///
    /// # Errors
    /// [`KeyError::KeyFile`] when a file is damaged, open to others, or does not fit the root key;
    /// when the root key or the store is gone; when account or region are not those of the first start.
    pub fn open(
        dir: &Path,
        options: &EmbeddedKmsOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>> {
        let failed = |reason: String| KeyError::KeyFile {
            action: "open embedded KMS",
            path: dir.to_owned(),
            reason,
        };
        durable::create_dir(dir).map_err(|error| failed(error.to_string()))?;
        let default_path = dir.join("root.key");
        let root_path = options.root_key_file.as_deref().unwrap_or(&default_path);
        let has_store = StoreFile::exists(dir).map_err(|error| failed(error.to_string()))?;
        if options.must_exist && !has_store {
            return Err(failed("the file of its keys is missing".to_owned()));
        }
        let root = match load_root_key(root_path)? {
            Some(root) => root,
            None if has_store => {
                let path = root_path.display();
                return Err(failed(format!("its keys are there but its root key is not: {path}")));
            }
            None => create_root_key(root_path)?,
        };
        let (store, file) = open_store(dir, root, options).map_err(failed)?;
        let store = RwLock::new(Arc::new(store));
        Ok(Arc::new(Self { clock, store, changes: Mutex::new(file) }))
    }

    /// The account of new keys.
    #[must_use]
    pub fn account(&self) -> String {
        self.store.read().account.clone()
    }

    /// The Region of new keys.
    #[must_use]
    pub fn region(&self) -> String {
        self.store.read().region.clone()
    }

    /// Makes an enabled key. Waits for the disk, as do all changes.
    ///
    /// # Errors
    /// `InvalidArnException`, `InvalidAliasNameException`, `AlreadyExistsException`,
    /// `ValidationException`, `KMSInternalException`.
    pub fn create_key(&self, new: NewKey) -> KmsResult<KeyMetadata> {
        let operation = KmsOperation::CreateKey;
        if new.description.len() > DESCRIPTION_LEN_MAX {
            let message = format!("description is longer than {DESCRIPTION_LEN_MAX} bytes");
            return Err(KmsError::new(operation, "ValidationException", message));
        }
        let material_id = random_array::<32>().map_err(|_| internal(operation, "randomness"))?;
        let material = WrappingKey::generate().map_err(|_| internal(operation, "randomness"))?;
        let now = self.clock.key_wall_millis();
        self.change(operation, |store| {
            let arn = new_arn(store, new.arn.as_deref())?;
            store.keys.push(StoredKey {
                arn: arn.as_str().to_owned(),
                description: new.description.clone(),
                created_at_millis: now,
                enabled: true,
                deletion_at_millis: None,
                pending_window_days: None,
                material_id: hex::encode(material_id),
                material: Arc::new(material),
            });
            if let Some(alias) = &new.alias {
                add_alias(store, alias, arn.as_str())?;
            }
            Ok(arn.as_str().to_owned())
        })
    }

    /// All keys that are not deleted, in the order of their creation.
    #[must_use]
    pub fn list_keys(&self) -> Vec<KeyMetadata> {
        let store = self.current();
        store.keys.iter().map(|key| metadata(&store, key)).collect()
    }

    /// What `DescribeKey` answers for an id, ARN or alias.
    ///
    /// # Errors
    /// `NotFoundException`.
    pub fn describe(&self, key: &str) -> KmsResult<KeyMetadata> {
        let store = self.current();
        let key = store.find(KmsOperation::DescribeKey, key)?;
        Ok(metadata(&store, key))
    }

    /// Makes a key usable.
    ///
    /// # Errors
    /// `NotFoundException`; `KMSInvalidStateException` while deletion is pending;
    /// `KMSInternalException`.
    pub fn enable_key(&self, key: &str) -> KmsResult<KeyMetadata> {
        self.set_enabled(KmsOperation::EnableKey, key, true)
    }

    /// Makes a key unusable.
    ///
    /// # Errors
    /// As [`Self::enable_key`].
    pub fn disable_key(&self, key: &str) -> KmsResult<KeyMetadata> {
        self.set_enabled(KmsOperation::DisableKey, key, false)
    }

    /// Makes a key unusable now and deletes it in 7 to 30 days (30 unless given).
    ///
    /// # Errors
    /// `ValidationException` for another window, else as [`Self::enable_key`].
    pub fn schedule_key_deletion(
        &self,
        key: &str,
        pending_window_days: Option<u32>,
    ) -> KmsResult<KeyMetadata> {
        let operation = KmsOperation::ScheduleKeyDeletion;
        let days = pending_window_days.unwrap_or(PENDING_WINDOW_DAYS_DEFAULT);
        if !PENDING_WINDOW_DAYS.contains(&days) {
            let message = format!("pending window must be between 7 and 30 days, days={days}");
            return Err(KmsError::new(operation, "ValidationException", message));
        }
        let now = self.clock.key_wall_millis();
        self.change(operation, |store| {
            let key = store.find_mut(operation, key)?;
            refuse_pending(operation, key)?;
            key.enabled = false;
            key.pending_window_days = Some(days);
            key.deletion_at_millis = Some(now.saturating_add(i64::from(days) * MILLIS_PER_DAY));
            Ok(key.arn.clone())
        })
    }

    /// Calls a deletion off; the key is disabled then.
    ///
    /// # Errors
    /// `NotFoundException`; `KMSInvalidStateException` when no deletion is pending;
    /// `KMSInternalException`.
    pub fn cancel_key_deletion(&self, key: &str) -> KmsResult<KeyMetadata> {
        let operation = KmsOperation::CancelKeyDeletion;
        self.change(operation, |store| {
            let key = store.find_mut(operation, key)?;
            if key.deletion_at_millis.is_none() {
                let message = format!("{} is not pending deletion.", key.arn);
                return Err(KmsError::new(operation, "KMSInvalidStateException", message));
            }
            key.enabled = false;
            key.deletion_at_millis = None;
            key.pending_window_days = None;
            Ok(key.arn.clone())
        })
    }

    /// Deletes the keys whose date has come. Every other call does so too; a server that wants it on
    /// the day calls this now and then.
    ///
    /// # Errors
    /// `KMSInternalException` when the change cannot be stored; the keys are unusable all the same.
    pub fn delete_due_keys(&self) -> KmsResult<()> {
        let now = self.clock.key_wall_millis();
        if !self.store.read().has_due(now) {
            return Ok(());
        }
        self.apply(KmsOperation::ScheduleKeyDeletion, |store| {
            store.delete_due(now);
            Ok(())
        })
    }

    fn set_enabled(
        &self,
        operation: KmsOperation,
        key: &str,
        enabled: bool,
    ) -> KmsResult<KeyMetadata> {
        self.change(operation, |store| {
            let key = store.find_mut(operation, key)?;
            refuse_pending(operation, key)?;
            key.enabled = enabled;
            Ok(key.arn.clone())
        })
    }

    /// The keys as they are now: none whose deletion date has come, stored or not.
    fn current(&self) -> Arc<Store> {
        if let Err(error) = self.delete_due_keys() {
            tracing::error!(%error, "deleted key cannot be removed from the store");
        }
        let now = self.clock.key_wall_millis();
        let store = Arc::clone(&self.store.read());
        if !store.has_due(now) {
            return store;
        }
        let mut remaining = Store::clone(&store);
        remaining.delete_due(now);
        Arc::new(remaining)
    }

    /// Changes the store and describes the key whose ARN `change` returns.
    fn change(
        &self,
        operation: KmsOperation,
        change: impl FnOnce(&mut Store) -> KmsResult<String>,
    ) -> KmsResult<KeyMetadata> {
        let now = self.clock.key_wall_millis();
        self.apply(operation, |store| {
            store.delete_due(now);
            let arn = change(store)?;
            let key = store.find(operation, &arn)?;
            Ok(metadata(store, key))
        })
    }

    /// Builds the next store, makes it durable, then swaps it in.
    fn apply<T>(
        &self,
        operation: KmsOperation,
        change: impl FnOnce(&mut Store) -> KmsResult<T>,
    ) -> KmsResult<T> {
        let mut file = self.changes.lock();
        let mut next = Store::clone(&self.store.read());
        let result = change(&mut next)?;
        file.publish(&next).map_err(|reason| internal(operation, &reason))?;
        *self.store.write() = Arc::new(next);
        Ok(result)
    }

    fn usable(&self, operation: KmsOperation, key: &str) -> KmsResult<UsableKey> {
        let store = self.current();
        let key = store.find(operation, key)?;
        match KmsError::of_state(operation, &key.arn, key.state()) {
            Some(error) => Err(error),
            None => Ok(UsableKey {
                arn: key.arn.clone(),
                material_id: key.material_id.clone(),
                material: Arc::clone(&key.material),
            }),
        }
    }

    fn encrypt_now(
        &self,
        operation: KmsOperation,
        key: &str,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> KmsResult<(UsableKey, Vec<u8>)> {
        if !(1..=ENCRYPT_LEN_MAX).contains(&plaintext.len()) {
            let message = format!("plaintext must have 1 to {ENCRYPT_LEN_MAX} bytes");
            return Err(KmsError::new(operation, "ValidationException", message));
        }
        let key = self.usable(operation, key)?;
        let blob = blob::seal(&key.arn, &key.material_id, &key.material, context, plaintext)
            .ok_or_else(|| internal(operation, "randomness"))?;
        Ok((key, blob))
    }

    fn decrypt_now(
        &self,
        operation: KmsOperation,
        key: Option<&str>,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> KmsResult<DecryptedKey> {
        let invalid = || KmsError::new(operation, "InvalidCiphertextException", "");
        let parsed = blob::parse(blob).ok_or_else(invalid)?;
        if let Some(named) = key
            && self.current().find(operation, named)?.arn != parsed.arn
        {
            let message = "The key ID in the request does not identify a CMK that can perform this \
                           operation.";
            return Err(KmsError::new(operation, "IncorrectKeyException", message));
        }
        let key = self.usable(operation, parsed.arn)?;
        if key.material_id != hex::encode(parsed.material_id) {
            return Err(invalid());
        }
        let plaintext = blob::open(&parsed, &key.material, context).ok_or_else(invalid)?;
        Ok(DecryptedKey { plaintext, key_arn: key.arn, key_material_id: Some(key.material_id) })
    }

    fn generate_now(&self, key: &str, context: &EncryptionContext) -> KmsResult<GeneratedDataKey> {
        let operation = KmsOperation::GenerateDataKey;
        let random = |_| internal(operation, "randomness");
        let mut plaintext = Zeroizing::new(vec![0; 32]);
        coffer_crypto::fill_random(&mut plaintext).map_err(random)?;
        let (key, blob) = self.encrypt_now(operation, key, &plaintext, context)?;
        Ok(GeneratedDataKey {
            plaintext,
            blob,
            key_arn: key.arn,
            key_material_id: Some(key.material_id),
        })
    }

    fn re_encrypt_now(&self, request: &ReEncryptRequest<'_>) -> KmsResult<ReEncrypted> {
        let operation = KmsOperation::ReEncrypt;
        let (key, context) = (Some(request.source_key), request.source_context);
        let source = self.decrypt_now(operation, key, request.blob, context)?;
        let (key, context) = (request.destination_key, request.destination_context);
        let (key, blob) = self.encrypt_now(operation, key, &source.plaintext, context)?;
        Ok(ReEncrypted {
            blob,
            source_key_arn: source.key_arn,
            key_arn: key.arn,
            key_material_id: Some(key.material_id),
        })
    }
}

/// A key in a state that allows its use.
struct UsableKey {
    arn: String,
    material_id: String,
    material: Arc<WrappingKey>,
}

impl KmsProvider for EmbeddedKms {
    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        Box::pin(async move { self.describe(key) })
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        Box::pin(async move {
            self.usable(KmsOperation::CreateGrant, request.key)?;
            let name = request.name.to_owned();
            Ok(CreatedGrant { grant_id: name.clone(), grant_token: name })
        })
    }

    fn retire_grant<'a>(&'a self, _key: &'a str, _grant_id: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(async move { Ok(()) })
    }

    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        Box::pin(async move { self.generate_now(request.key, request.context) })
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        let DecryptRequest { key, blob, context, .. } = request;
        Box::pin(async move { self.decrypt_now(KmsOperation::Decrypt, Some(key), blob, context) })
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        Box::pin(async move { self.re_encrypt_now(&request) })
    }
}

fn open_store(
    dir: &Path,
    root: RootKey,
    options: &EmbeddedKmsOptions,
) -> std::result::Result<(Store, StoreFile), String> {
    let is_account = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_region = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let account = options.account.as_deref();
    if let Some(account) = account.filter(|text| !is_account(text)) {
        return Err(format!("account must be digits, account={account}"));
    }
    let region = options.region.as_deref();
    if let Some(region) = region.filter(|text| !is_region(text)) {
        return Err(format!("region must be letters, digits and '-', region={region}"));
    }
    let (stored, mut file) = StoreFile::open(dir, root)?;
    let Some(store) = stored else {
        let account = account.unwrap_or("000000000000");
        let store = Store::new(account, region.unwrap_or("us-east-1"));
        file.publish(&store)?;
        return Ok((store, file));
    };
    for (name, given, kept) in
        [("account", account, &store.account), ("region", region, &store.region)]
    {
        if let Some(given) = given.filter(|given| given != kept) {
            return Err(format!("{name} was set at the first start, {name}={kept} given={given}"));
        }
    }
    Ok((store, file))
}

fn new_arn(store: &Store, given: Option<&str>) -> KmsResult<KeyArn> {
    let operation = KmsOperation::CreateKey;
    let text = match given {
        Some(arn) => arn.to_owned(),
        None => {
            format!("arn:aws:kms:{}:{}:key/{}", store.region, store.account, uuid::Uuid::new_v4())
        }
    };
    let arn = KeyArn::parse(&text).map_err(|_| {
        let message = format!("not an ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID): {text}");
        KmsError::new(operation, "InvalidArnException", message)
    })?;
    let is_taken = |key: &StoredKey| key.arn == arn.as_str() || key.id() == arn.key_id();
    if store.keys.iter().any(is_taken) {
        let message = format!("a key with this id exists: {arn}");
        return Err(KmsError::new(operation, "AlreadyExistsException", message));
    }
    Ok(arn)
}

fn add_alias(store: &mut Store, alias: &str, arn: &str) -> KmsResult<()> {
    let operation = KmsOperation::CreateKey;
    let name = alias.strip_prefix("alias/").unwrap_or(alias);
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
    if !(1..=250).contains(&name.len()) || !name.bytes().all(is_name) || name.starts_with("aws/") {
        let message = "an alias is 1 to 250 letters, digits, '/', '_', '-', and not aws/...";
        return Err(KmsError::new(operation, "InvalidAliasNameException", message));
    }
    let name = format!("alias/{name}");
    if store.aliases.contains_key(&name) {
        let message = format!("An alias with the name {name} already exists");
        return Err(KmsError::new(operation, "AlreadyExistsException", message));
    }
    store.aliases.insert(name, arn.to_owned());
    Ok(())
}

fn refuse_pending(operation: KmsOperation, key: &StoredKey) -> KmsResult<()> {
    match key.state() {
        KeyState::PendingDeletion => {
            let message = format!("{} is pending deletion.", key.arn);
            Err(KmsError::new(operation, "KMSInvalidStateException", message))
        }
        _ => Ok(()),
    }
}

fn metadata(store: &Store, key: &StoredKey) -> KeyMetadata {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 2^53")]
    let seconds = |millis: i64| millis as f64 / 1000.0;
    let aliases = store.aliases.iter().filter(|(_, arn)| **arn == key.arn);
    KeyMetadata {
        account: key.arn.split(':').nth(4).unwrap_or_default().to_owned(),
        arn: key.arn.clone(),
        key_id: key.id().to_owned(),
        aliases: aliases.map(|(alias, _)| alias.clone()).collect(),
        creation_date: seconds(key.created_at_millis),
        description: key.description.clone(),
        enabled: key.state() == KeyState::Enabled,
        key_state: key.state(),
        key_usage: "ENCRYPT_DECRYPT".to_owned(),
        key_spec: "SYMMETRIC_DEFAULT".to_owned(),
        deletion_date: key.deletion_at_millis.map(seconds),
        pending_deletion_window_in_days: key.pending_window_days,
        current_key_material_id: Some(key.material_id.clone()),
    }
}

fn internal(operation: KmsOperation, reason: &str) -> KmsError {
    KmsError::new(operation, "KMSInternalException", reason)
}
