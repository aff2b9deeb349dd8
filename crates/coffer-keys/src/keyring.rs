//! Cached table keys: opened once through the KMS, refreshed ahead of their age, dropped when the
//! KMS refuses them.
//!
//! One mutex guards the map of tables and is never held across an await or a KMS call. Concurrent
//! requests for one table share one `Decrypt`: the first starts a task, all wait for its result.

mod open_keys;
mod prepare;
mod refresh;

pub use prepare::PreparedKeys;

use crate::{
    DecryptRequest, KeyError, KmsError, KmsFuture, KmsOperation, KmsProvider, Result, TableName,
};
use coffer_crypto::{
    DataKey, DataKeySource, EncryptionType, Error, FileIdentity, KeyLease, KeyRecord,
    KeyUnavailable, NewDataKey, RootKey, TableKey, TableKeyId, UnavailableReason,
    WRAPS_PER_KEY_MAX, WrappedDataKey, clock::Clock,
};
use open_keys::OpenKeys;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Called when the KMS refused a table's key for good, after the lease ended and the keys were
/// dropped; the engine then forgets the table's memtable, blocks and ciphers.
pub type OnRevoked = Box<dyn Fn(&TableName, &KeyError) + Send + Sync>;

/// Options of a [`Keyring`].
#[derive(Clone, Debug)]
pub struct KeyringOptions {
    /// Longest use of a table key after the KMS last confirmed it.
    pub max_age_millis: i64,
    /// Longest wait for one KMS call.
    pub kms_deadline: Duration,
    /// Pause between two attempts of the background to refresh one table's key.
    pub refresh_retry_millis: i64,
    /// Most wraps under one table key.
    pub wraps_max: u64,
}

impl Default for KeyringOptions {
    fn default() -> Self {
        Self {
            max_age_millis: 300_000,
            kms_deadline: Duration::from_secs(10),
            refresh_retry_millis: 5_000,
            wraps_max: WRAPS_PER_KEY_MAX,
        }
    }
}

/// Calls made to the KMS since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KmsCalls {
    /// `GenerateDataKey`: one for each new table key.
    pub generate_data_key: u64,
    /// `Decrypt`: one for each opening and refresh of a table key.
    pub decrypt: u64,
    /// `DescribeKey`: one for each choice of a key.
    pub describe_key: u64,
}

/// The table keys of one server.
pub struct Keyring {
    kms: Arc<dyn KmsProvider>,
    root: RootKey,
    clock: Arc<dyn Clock>,
    options: KeyringOptions,
    tables: Mutex<Tables>,
    on_revoked: OnceLock<OnRevoked>,
    generate_data_key_calls: AtomicU64,
    decrypt_calls: AtomicU64,
    describe_key_calls: AtomicU64,
}

#[derive(Default)]
struct Tables {
    open: HashMap<[u8; 16], Arc<OpenKeys>>,
    opening: HashMap<[u8; 16], Opening>,
    last_opening: u64,
    /// The table key that was installed last: a record from before that swap is out of date.
    installed: HashMap<[u8; 16], TableKeyId>,
}

/// A `Decrypt` under way. Its result counts only while it stands in [`Tables::opening`].
struct Opening {
    number: u64,
    done: watch::Receiver<Option<Result<()>>>,
}

/// Takes an [`Opening`] out of the map when its task ends, also by a panic of the provider.
struct OpeningGuard {
    keyring: Arc<Keyring>,
    table: [u8; 16],
    number: u64,
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        let mut tables = self.keyring.tables.lock();
        if tables.is_current(&self.table, self.number) {
            tables.opening.remove(&self.table);
        }
    }
}

impl Tables {
    fn is_current(&self, table: &[u8; 16], number: u64) -> bool {
        self.opening.get(table).is_some_and(|opening| opening.number == number)
    }

    /// Whether `record` was not replaced by a swap.
    fn is_newest(&self, table: &[u8; 16], record: &KeyRecord) -> bool {
        let installed = self.installed.get(table);
        installed.is_none_or(|id| *id == record.table_key_id)
    }

    /// The lease to go on with, so that an opened table keeps the one it holds.
    fn lease(&self, table: &[u8; 16], until_millis: i64) -> Arc<KeyLease> {
        match self.open.get(table) {
            Some(keys) if !keys.lease.is_revoked() => {
                keys.lease.renew(until_millis);
                Arc::clone(&keys.lease)
            }
            _ => Arc::new(KeyLease::until(until_millis)),
        }
    }
}

impl Keyring {
    /// A keyring without keys; asks the KMS nothing.
    #[must_use]
    pub fn new(
        kms: Arc<dyn KmsProvider>,
        root: RootKey,
        clock: Arc<dyn Clock>,
        options: KeyringOptions,
    ) -> Arc<Self> {
        Arc::new(Self {
            kms,
            root,
            clock,
            options,
            tables: Mutex::default(),
            on_revoked: OnceLock::new(),
            generate_data_key_calls: AtomicU64::new(0),
            decrypt_calls: AtomicU64::new(0),
            describe_key_calls: AtomicU64::new(0),
        })
    }

    /// Sets what happens when a key is refused for good. The first call counts.
    pub fn set_on_revoked(&self, on_revoked: OnRevoked) {
        // a second one would be a bug of the caller without any harm
        let _ = self.on_revoked.set(on_revoked);
    }

    /// Makes the keys of `record` usable: at once when they are cached or owned, else through one
    /// `Decrypt` that all waiting requests share. Cancelling the wait does not cancel the call.
    ///
    /// # Errors
    /// Every [`KeyError`] but `Specification` and `KeyFile`. After [`KeyError::Definitive`] the next
    /// call asks the KMS again, so an enabled key works without a restart.
    pub async fn open(self: &Arc<Self>, table: &TableName, record: &KeyRecord) -> Result<()> {
        if self.is_usable(&table.id) {
            return Ok(());
        }
        // what was installed last rules: the caller may have read the catalog before a swap
        let cached = self.tables.lock().open.get(&table.id).cloned();
        let record = cached.as_ref().map_or(record, |keys| &keys.record);
        if record.encryption_type == EncryptionType::AwsOwned {
            return self.open_owned(table, record);
        }
        let mut done = self.start_opening(table, record);
        match done.wait_for(Option::is_some).await {
            Ok(result) => {
                result.clone().unwrap_or_else(|| Err(KeyError::Superseded(table.clone())))
            }
            // the task is gone without a result: the runtime stops or the provider panicked
            Err(_) => Err(KeyError::Superseded(table.clone())),
        }
    }

    /// Whether the table's keys can be used now.
    #[must_use]
    pub fn is_usable(&self, table: &[u8; 16]) -> bool {
        let keys = self.tables.lock().open.get(table).cloned();
        keys.is_some_and(|keys| keys.lease.is_valid(self.clock.key_now_millis()))
    }

    /// Drops the keys of a table at once, and ends its lease; the result of a call under way is
    /// thrown away. For a dropped table.
    pub fn forget(&self, table: &[u8; 16]) {
        let mut tables = self.tables.lock();
        tables.opening.remove(table);
        tables.installed.remove(table);
        if let Some(keys) = tables.open.remove(table) {
            keys.lease.revoke();
        }
    }

    /// Puts new keys in the place of the table's old ones, after the catalog that holds their record
    /// was published. The lease that the engine holds goes on.
    pub fn install(&self, prepared: PreparedKeys) {
        let id = prepared.table.id;
        let until = self.lease_end(&prepared.record, prepared.asked_at_millis);
        let mut tables = self.tables.lock();
        tables.opening.remove(&id);
        let lease = tables.lease(&id, until);
        tables.installed.insert(id, prepared.record.table_key_id);
        tables.open.insert(id, Arc::new(prepared.into_open_keys(lease)));
    }

    /// Whether so much was wrapped under the table's current key that it should be renewed soon:
    /// three quarters of the limit.
    #[must_use]
    pub fn is_worn(&self, table: &[u8; 16]) -> bool {
        let worn = self.options.wraps_max / 4 * 3;
        self.wrapping_key(table).is_some_and(|(_, wraps)| wraps >= worn)
    }

    /// The tables whose key [`Self::is_worn`].
    #[must_use]
    pub fn worn(&self) -> Vec<[u8; 16]> {
        let open: Vec<_> = self.tables.lock().open.keys().copied().collect();
        open.into_iter().filter(|table| self.is_worn(table)).collect()
    }

    /// Calls made to the KMS so far.
    #[must_use]
    pub fn kms_calls(&self) -> KmsCalls {
        KmsCalls {
            generate_data_key: self.generate_data_key_calls.load(Ordering::Relaxed),
            decrypt: self.decrypt_calls.load(Ordering::Relaxed),
            describe_key: self.describe_key_calls.load(Ordering::Relaxed),
        }
    }

    fn open_owned(&self, table: &TableName, record: &KeyRecord) -> Result<()> {
        let key = self
            .root
            .unwrap_table_key(&table.id, record.table_key_id, &record.blob.0)
            .map_err(|error| KeyError::damaged(table, error))?;
        let older = open_keys::unwrap_older(table, record, &key)?;
        let mut tables = self.tables.lock();
        if !tables.is_newest(&table.id, record) {
            return Err(KeyError::Superseded(table.clone()));
        }
        let lease = tables.lease(&table.id, i64::MAX);
        let keys = OpenKeys::new(table.clone(), record.clone(), key, older, lease);
        tables.open.insert(table.id, Arc::new(keys));
        Ok(())
    }

    /// Joins the `Decrypt` under way for the table, or starts one.
    fn start_opening(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
    ) -> watch::Receiver<Option<Result<()>>> {
        let mut tables = self.tables.lock();
        if let Some(opening) = tables.opening.get(&table.id) {
            return opening.done.clone();
        }
        // a swap may have been installed since the caller looked
        let cached = tables.open.get(&table.id).cloned();
        let record = cached.as_ref().map_or(record, |keys| &keys.record);
        tables.last_opening += 1;
        let number = tables.last_opening;
        let (result, done) = watch::channel(None);
        tables.opening.insert(table.id, Opening { number, done: done.clone() });
        drop(tables);

        let guard = OpeningGuard { keyring: Arc::clone(self), table: table.id, number };
        let (table, record) = (table.clone(), record.clone());
        tokio::spawn(async move {
            let keyring = &guard.keyring;
            let asked_at_millis = keyring.clock.key_now_millis();
            let opened = keyring.decrypt_table_key(&table, &record).await;
            let outcome = keyring.finish_opening(number, &table, &record, opened, asked_at_millis);
            drop(guard);
            result.send_replace(Some(outcome));
        });
        done
    }

    async fn decrypt_table_key(&self, table: &TableName, record: &KeyRecord) -> Result<TableKey> {
        let arn = record.kms_key_arn.as_deref().unwrap_or_default();
        let call = self.kms.decrypt(DecryptRequest {
            key: arn,
            blob: &record.blob.0,
            context: &record.encryption_context,
            grant_tokens: &[],
            dry_run: false,
            principal: None,
        });
        let decrypted = self
            .call(KmsOperation::Decrypt, call)
            .await
            .map_err(|error| KeyError::from_kms(table, arn, error))?;
        let key = TableKey::from_slice(&decrypted.plaintext)
            .map_err(|error| KeyError::damaged(table, error))?;
        if key.id() == record.table_key_id {
            Ok(key)
        } else {
            Err(KeyError::damaged(table, Error::WrongKey))
        }
    }

    /// Takes over what a `Decrypt` gave, unless the table's keys changed meanwhile.
    fn finish_opening(
        &self,
        number: u64,
        table: &TableName,
        record: &KeyRecord,
        opened: Result<TableKey>,
        asked_at_millis: i64,
    ) -> Result<()> {
        let opened = opened.and_then(|key| {
            let older = open_keys::unwrap_older(table, record, &key)?;
            Ok((key, older))
        });
        let mut tables = self.tables.lock();
        if !tables.is_current(&table.id, number) || !tables.is_newest(&table.id, record) {
            return Err(KeyError::Superseded(table.clone()));
        }
        tables.opening.remove(&table.id);
        match opened {
            Ok((key, older)) => {
                let until = self.lease_end(record, asked_at_millis);
                match tables.open.get(&table.id) {
                    // a refresh: the count of wraps goes on
                    Some(keys) if keys.is_for(record) => keys.confirm(until),
                    _ => {
                        let lease = tables.lease(&table.id, until);
                        let keys = OpenKeys::new(table.clone(), record.clone(), key, older, lease);
                        tables.open.insert(table.id, Arc::new(keys));
                    }
                }
                drop(tables);
                tracing::debug!(%table, "table key opened");
                Ok(())
            }
            Err(error) => {
                let revoked = matches!(error, KeyError::Definitive(_))
                    .then(|| tables.open.remove(&table.id))
                    .flatten();
                drop(tables);
                if let Some(keys) = revoked {
                    keys.lease.revoke();
                    tracing::warn!(%table, %error, "table key refused, its cached keys are dropped");
                    if let Some(on_revoked) = self.on_revoked.get() {
                        on_revoked(table, &error);
                    }
                }
                Err(error)
            }
        }
    }

    fn lease_end(&self, record: &KeyRecord, asked_at_millis: i64) -> i64 {
        match record.encryption_type {
            EncryptionType::AwsOwned => i64::MAX,
            EncryptionType::CustomerManaged => {
                asked_at_millis.saturating_add(self.options.max_age_millis)
            }
        }
    }

    /// The table's keys, if they may be used now.
    fn keys(&self, table: &[u8; 16]) -> coffer_crypto::Result<Arc<OpenKeys>> {
        let unavailable = |reason| KeyUnavailable { table: *table, reason };
        let keys = self.tables.lock().open.get(table).cloned();
        let keys = keys.ok_or_else(|| unavailable(UnavailableReason::NotOpened))?;
        if keys.lease.is_valid(self.clock.key_now_millis()) {
            Ok(keys)
        } else if keys.lease.is_revoked() {
            Err(unavailable(UnavailableReason::Revoked).into())
        } else {
            Err(unavailable(UnavailableReason::Expired).into())
        }
    }

    /// Makes one call of the KMS: counted, and ended at its deadline.
    async fn call<T>(
        &self,
        operation: KmsOperation,
        call: KmsFuture<'_, T>,
    ) -> std::result::Result<T, KmsError> {
        let count = match operation {
            KmsOperation::GenerateDataKey => &self.generate_data_key_calls,
            KmsOperation::DescribeKey => &self.describe_key_calls,
            _ => &self.decrypt_calls,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let deadline = self.options.kms_deadline;
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => answer,
            Err(_) => Err(KmsError::timeout(operation, deadline.as_millis())),
        }
    }
}

impl DataKeySource for Keyring {
    fn create_data_key(
        &self,
        identity: &FileIdentity,
    ) -> coffer_crypto::Result<(NewDataKey, WrappedDataKey)> {
        let keys = self.keys(&identity.table_id)?;
        if keys.wraps.fetch_add(1, Ordering::Relaxed) >= self.options.wraps_max {
            keys.wraps.fetch_sub(1, Ordering::Relaxed);
            let reason = UnavailableReason::WornOut;
            let table = identity.table_id;
            return Err(KeyUnavailable { table, reason }.into());
        }
        let data_key = NewDataKey::generate()?;
        let wrapped = keys.current.wrap_data_key(&data_key, identity)?;
        Ok((data_key, wrapped))
    }

    fn unwrap_data_key(
        &self,
        table: &[u8; 16],
        wrapped: &WrappedDataKey,
        birth: &FileIdentity,
    ) -> coffer_crypto::Result<DataKey> {
        let keys = self.keys(table)?;
        keys.table_key(wrapped.table_key_id)
            .ok_or(Error::UnknownTableKey(wrapped.table_key_id))?
            .unwrap_data_key(wrapped, birth)
    }

    fn lease(&self, table: &[u8; 16]) -> coffer_crypto::Result<Arc<KeyLease>> {
        self.keys(table).map(|keys| Arc::clone(&keys.lease))
    }

    fn wrapping_key(&self, table: &[u8; 16]) -> Option<(TableKeyId, u64)> {
        let keys = self.tables.lock().open.get(table).cloned()?;
        Some((keys.current.id(), keys.wraps.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests;
