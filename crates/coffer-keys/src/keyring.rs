//! Cached table keys: opened once through the KMS, refreshed ahead of their age, dropped when the
//! KMS refuses them.
//!
//! One mutex guards the map of tables and is never held across an await or a KMS call. Concurrent
//! requests for one table share one `Decrypt`: the first starts a task, all wait for its result.

mod adopt;
mod authorize;
mod budget;
mod check;
mod entry;
mod grants;
mod prepare;
mod probe;
mod refresh;
mod rewrap;
mod statistics;

pub use adopt::{KeySource, SourceAccess, SourceKeys};
pub use check::CheckResult;
pub use grants::GrantNames;
pub use prepare::{NewKeys, PreparedKeys};
pub use probe::Probe;
pub use statistics::{CallTimes, KeyringStatistics, KmsCalls, RequestCount, TableKeyStatistics};

use crate::{
    DecryptRequest, DecryptedKey, KeyError, KmsError, KmsFuture, KmsOperation, KmsProvider, Result,
    TableName,
};
use authorize::Authorizations;
use budget::{Failing, TokenBucket};
use coffer_crypto::{
    DataKey, DataKeySource, EncryptionType, Error, FileIdentity, KeyLease, KeyRecord,
    KeyUnavailable, NewDataKey, RootKeys, TableKey, TableKeyId, UnavailableReason,
    WRAPS_PER_KEY_MAX, WrappedDataKey, clock::Clock,
};
use entry::{Entry, TableKeys};
use parking_lot::{Mutex, RwLock};
use statistics::{Asked, Counters};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// Called when the KMS refused a table's key for good, after the lease ended and the keys were
/// dropped; the engine then forgets the table's memtable, blocks and ciphers.
pub type OnRevoked = Box<dyn Fn(&TableName, &KeyError) + Send + Sync>;

/// Called when a table's keys left memory without a refusal.
pub type OnDropped = Box<dyn Fn(&TableName, DropReason) + Send + Sync>;

/// How the KMS is asked for a table's key.
#[derive(Clone, Copy, Default)]
struct BlobUse<'a> {
    /// Of grants made a moment ago.
    grant_tokens: &'a [String],
    /// Only whether it would be done.
    dry_run: bool,
    /// ARN of whom to ask for, instead of the data identity.
    principal: Option<&'a str>,
    /// As the control identity: for a table that was dropped.
    as_control: bool,
}

/// ARN of the KMS key that a record is under; empty for an owned one.
fn arn_of(record: &KeyRecord) -> &str {
    record.kms_key_arn.as_deref().unwrap_or_default()
}

/// Why a table's keys left memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Somebody wants the KMS to be asked anew: [`Keyring::flush`]. The lease is revoked; the engine
    /// is to forget the table.
    Flushed,
    /// Nobody used the table for the idle time. The lease ended, and goes on when the table is used
    /// again.
    Idle,
    /// The maximum age passed without the KMS confirming the key. As `Idle`.
    Aged,
}

/// Options of a [`Keyring`].
#[derive(Clone, Debug)]
pub struct KeyringOptions {
    /// Longest use of a table key after the KMS last confirmed it.
    pub max_age_millis: i64,
    /// Time without use after which a table key leaves memory.
    pub idle_millis: i64,
    /// Longest wait for one KMS call.
    pub kms_deadline: Duration,
    /// First pause of the background after a failed attempt to refresh one table's key; doubles, and
    /// varies.
    pub refresh_retry_millis: i64,
    /// Longest such pause.
    pub refresh_retry_millis_max: i64,
    /// Most calls of the background in one second; requests are not counted and never wait.
    pub background_calls_per_second_max: u32,
    /// Most wraps under one table key.
    pub wraps_max: u64,
}

impl Default for KeyringOptions {
    fn default() -> Self {
        Self {
            max_age_millis: 300_000,
            idle_millis: 300_000,
            kms_deadline: Duration::from_secs(10),
            refresh_retry_millis: 1_000,
            refresh_retry_millis_max: 30_000,
            background_calls_per_second_max: 100,
            wraps_max: WRAPS_PER_KEY_MAX,
        }
    }
}

/// The table keys of one server.
pub struct Keyring {
    kms: Arc<dyn KmsProvider>,
    roots: RwLock<RootKeys>,
    clock: Arc<dyn Clock>,
    options: KeyringOptions,
    tables: Mutex<Tables>,
    authorizations: Authorizations,
    bucket: TokenBucket,
    counters: Counters,
    on_revoked: OnceLock<OnRevoked>,
    on_dropped: OnceLock<OnDropped>,
}

#[derive(Default)]
struct Tables {
    open: HashMap<[u8; 16], Arc<Entry>>,
    opening: HashMap<[u8; 16], Opening>,
    last_opening: u64,
    /// The table key that was installed last: a record from before that swap is out of date.
    installed: HashMap<[u8; 16], TableKeyId>,
    /// Tables whose last `Decrypt` failed.
    failing: HashMap<[u8; 16], Failing>,
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
            Some(entry) if !entry.lease.is_revoked() => {
                entry.lease.renew(until_millis);
                Arc::clone(&entry.lease)
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
        roots: impl Into<RootKeys>,
        clock: Arc<dyn Clock>,
        options: KeyringOptions,
    ) -> Arc<Self> {
        let bucket = TokenBucket::new(options.background_calls_per_second_max, &*clock);
        Arc::new(Self {
            kms,
            roots: RwLock::new(roots.into()),
            clock,
            options,
            tables: Mutex::default(),
            authorizations: Authorizations::default(),
            bucket,
            counters: Counters::default(),
            on_revoked: OnceLock::new(),
            on_dropped: OnceLock::new(),
        })
    }

    /// Sets what happens when a key is refused for good. The first call counts.
    pub fn set_on_revoked(&self, on_revoked: OnRevoked) {
        // a second one would be a bug of the caller without any harm
        let _ = self.on_revoked.set(on_revoked);
    }

    /// Sets what happens when keys leave memory without a refusal. The first call counts.
    pub fn set_on_dropped(&self, on_dropped: OnDropped) {
        // as above
        let _ = self.on_dropped.set(on_dropped);
    }

    /// Makes the keys of `record` usable: at once when they are cached or owned, else through one
    /// `Decrypt` that all waiting requests share. Cancelling the wait does not cancel the call.
    ///
    /// # Errors
    /// Every [`KeyError`] but `Specification` and `KeyFile`. After [`KeyError::Definitive`] the next
    /// call asks the KMS again, so an enabled key works without a restart; only after many failures
    /// in a row the last one is given again for some seconds.
    pub async fn open(self: &Arc<Self>, table: &TableName, record: &KeyRecord) -> Result<()> {
        let is_cached = self.is_usable(&table.id);
        self.counters.opened(is_cached);
        if is_cached {
            return Ok(());
        }
        let known = {
            let tables = self.tables.lock();
            let now = self.clock.key_now_millis();
            if let Some(error) = tables.failing.get(&table.id).and_then(|failing| failing.held(now))
            {
                return Err(error.clone());
            }
            // what was installed last rules: the caller may have read the catalog before a swap
            tables.open.get(&table.id).map(|entry| entry.record())
        };
        let record = known.as_deref().unwrap_or(record);
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
        self.keys(table).is_ok()
    }

    /// Drops the keys of a table at once, and ends its lease; the result of a call under way is
    /// thrown away. For a dropped table.
    pub fn forget(&self, table: &[u8; 16]) {
        let mut tables = self.tables.lock();
        tables.opening.remove(table);
        tables.installed.remove(table);
        tables.failing.remove(table);
        if let Some(entry) = tables.open.remove(table) {
            entry.lease.revoke();
        }
        drop(tables);
        self.authorizations.forget(table);
        self.counters.forget(table);
    }

    /// Drops the cached keys of one table, or of all, that are under a KMS key, and tells the engine
    /// to forget these tables: the next use asks the KMS. Results of calls under way are thrown away.
    /// Returns how many were dropped.
    pub fn flush(&self, table: Option<&[u8; 16]>) -> usize {
        let mut tables = self.tables.lock();
        let is_meant = |id: &[u8; 16]| table.is_none_or(|table| table == id);
        tables.opening.retain(|id, _| !is_meant(id));
        tables.failing.retain(|id, _| !is_meant(id));
        let entries = tables.open.iter().filter(|(id, entry)| is_meant(id) && !entry.is_owned());
        let dropped: Vec<_> = entries.map(|(_, entry)| Arc::clone(entry)).collect();
        for entry in &dropped {
            entry.lease.revoke();
            entry.wipe(self.clock.key_now_millis());
            tables.open.remove(&entry.table.id);
        }
        drop(tables);
        for entry in &dropped {
            self.authorizations.forget(&entry.table.id);
            self.tell_dropped(&entry.table, DropReason::Flushed);
        }
        dropped.len()
    }

    /// Puts new keys in the place of the table's old ones, after the catalog that holds their record
    /// was published. The lease that the engine holds goes on.
    pub fn install(&self, prepared: PreparedKeys) {
        let id = prepared.table.id;
        let until = self.lease_end(&prepared.record, prepared.asked_at_millis);
        self.authorizations.forget(&id);
        let mut tables = self.tables.lock();
        tables.opening.remove(&id);
        tables.failing.remove(&id);
        let lease = tables.lease(&id, until);
        tables.installed.insert(id, prepared.record.table_key_id);
        tables.open.insert(id, Arc::new(prepared.into_entry(lease)));
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

    fn tell_dropped(&self, table: &TableName, reason: DropReason) {
        if let Some(on_dropped) = self.on_dropped.get() {
            on_dropped(table, reason);
        }
    }

    fn open_owned(&self, table: &TableName, record: &KeyRecord) -> Result<()> {
        let unwrapped =
            self.roots.read().unwrap_table_key(&table.id, record.table_key_id, &record.blob.0);
        let (key, _) = unwrapped.map_err(|error| KeyError::damaged(table, error))?;
        let keys = entry::open_older(table, record, key)?;
        let mut tables = self.tables.lock();
        if !tables.is_newest(&table.id, record) {
            return Err(KeyError::Superseded(table.clone()));
        }
        let lease = tables.lease(&table.id, i64::MAX);
        let now = self.clock.key_now_millis();
        let entry = Entry::new(table.clone(), record.clone(), keys, lease, now);
        tables.open.insert(table.id, Arc::new(entry));
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
        let known = tables.open.get(&table.id).map(|entry| entry.record());
        let record = known.as_deref().unwrap_or(record).clone();
        tables.last_opening += 1;
        let number = tables.last_opening;
        let (result, done) = watch::channel(None);
        tables.opening.insert(table.id, Opening { number, done: done.clone() });
        drop(tables);

        let guard = OpeningGuard { keyring: Arc::clone(self), table: table.id, number };
        let table = table.clone();
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
        let blob = self.kms_blob(table, record)?;
        let answer = self.decrypt_blob(table, record, &blob, BlobUse::default()).await;
        let decrypted = answer.map_err(|error| KeyError::from_kms(table, arn_of(record), error))?;
        adopt::record_key(table, record, &decrypted.plaintext)
    }

    /// Asks the KMS to `Decrypt` the blob of a table's own key, with the context of its record.
    async fn decrypt_blob(
        &self,
        table: &TableName,
        record: &KeyRecord,
        blob: &[u8],
        blob_use: BlobUse<'_>,
    ) -> std::result::Result<DecryptedKey, KmsError> {
        let key_arn = arn_of(record);
        let request = DecryptRequest {
            key: key_arn,
            blob,
            context: &record.encryption_context,
            grant_tokens: blob_use.grant_tokens,
            dry_run: blob_use.dry_run,
            principal: blob_use.principal,
        };
        let call = if blob_use.as_control {
            self.kms.decrypt_as_control(request)
        } else {
            self.kms.decrypt(request)
        };
        let asked = Asked { operation: KmsOperation::Decrypt, table: Some(table), key_arn };
        self.call(asked, call).await
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
        let opened = opened.and_then(|key| entry::open_older(table, record, key));
        let mut tables = self.tables.lock();
        if !tables.is_current(&table.id, number) || !tables.is_newest(&table.id, record) {
            return Err(KeyError::Superseded(table.clone()));
        }
        tables.opening.remove(&table.id);
        match opened {
            Ok(keys) => {
                tables.failing.remove(&table.id);
                self.take_over(&mut tables, table, record, keys, asked_at_millis);
                drop(tables);
                tracing::debug!(%table, "table key opened");
                Ok(())
            }
            Err(error) => {
                let retry =
                    (self.options.refresh_retry_millis, self.options.refresh_retry_millis_max);
                let before = tables.failing.get(&table.id);
                let now = self.clock.key_now_millis();
                let failing = Failing::next(before, error.clone(), now, retry);
                tables.failing.insert(table.id, failing);
                let revoked = matches!(error, KeyError::Definitive(_))
                    .then(|| tables.open.remove(&table.id))
                    .flatten();
                drop(tables);
                if let Some(entry) = revoked {
                    self.revoke(&entry, &error);
                }
                Err(error)
            }
        }
    }

    fn take_over(
        &self,
        tables: &mut Tables,
        table: &TableName,
        record: &KeyRecord,
        keys: TableKeys,
        asked_at_millis: i64,
    ) {
        let until = self.lease_end(record, asked_at_millis);
        match tables.open.get(&table.id) {
            // a refresh: the count of wraps goes on
            Some(entry) if entry.is_for(record) => entry.confirm(keys, asked_at_millis, until),
            _ => {
                let lease = tables.lease(&table.id, until);
                let (name, record) = (table.clone(), record.clone());
                let entry = Entry::new(name, record, keys, lease, asked_at_millis);
                tables.open.insert(table.id, Arc::new(entry));
            }
        }
    }

    fn revoke(&self, entry: &Entry, error: &KeyError) {
        let (table, now) = (&entry.table, self.clock.key_now_millis());
        entry.lease.revoke();
        entry.wipe(now);
        self.authorizations.forget(&table.id);
        let confirmed_at = entry.confirmed_at_millis.load(Ordering::Relaxed);
        self.counters.revoked(now.saturating_sub(confirmed_at));
        tracing::warn!(%table, %error, "table key refused, its cached keys are dropped");
        if let Some(on_revoked) = self.on_revoked.get() {
            on_revoked(table, error);
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

    /// The table's keys, if they may be used now. Hold them for one use only.
    fn keys(&self, table: &[u8; 16]) -> coffer_crypto::Result<(Arc<Entry>, Arc<TableKeys>)> {
        let unavailable = |reason| KeyUnavailable { table: *table, reason };
        let entry = self.tables.lock().open.get(table).cloned();
        let entry = entry.ok_or_else(|| unavailable(UnavailableReason::NotOpened))?;
        if entry.lease.is_valid(self.clock.key_now_millis())
            && let Some(keys) = entry.keys()
        {
            Ok((entry, keys))
        } else if entry.lease.is_revoked() {
            Err(unavailable(UnavailableReason::Revoked).into())
        } else {
            Err(unavailable(UnavailableReason::Expired).into())
        }
    }

    /// Makes one call of the KMS: counted, and ended at its deadline.
    async fn call<T>(
        &self,
        asked: Asked<'_>,
        call: KmsFuture<'_, T>,
    ) -> std::result::Result<T, KmsError> {
        let deadline = self.options.kms_deadline;
        let answer = match tokio::time::timeout(deadline, call).await {
            Ok(answer) => answer,
            Err(_) => Err(KmsError::timeout(asked.operation, deadline.as_millis())),
        };
        self.counters.answered(asked, answer.as_ref().err(), self.clock.now_millis());
        answer
    }
}

impl DataKeySource for Keyring {
    fn create_data_key(
        &self,
        identity: &FileIdentity,
    ) -> coffer_crypto::Result<(NewDataKey, WrappedDataKey)> {
        let (entry, keys) = self.keys(&identity.table_id)?;
        if entry.wraps.fetch_add(1, Ordering::Relaxed) >= self.options.wraps_max {
            entry.wraps.fetch_sub(1, Ordering::Relaxed);
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
        let (_, keys) = self.keys(table)?;
        keys.get(wrapped.table_key_id)
            .ok_or(Error::UnknownTableKey(wrapped.table_key_id))?
            .unwrap_data_key(wrapped, birth)
    }

    fn lease(&self, table: &[u8; 16]) -> coffer_crypto::Result<Arc<KeyLease>> {
        self.keys(table).map(|(entry, _)| Arc::clone(&entry.lease))
    }

    fn wrapping_key(&self, table: &[u8; 16]) -> Option<(TableKeyId, u64)> {
        let entry = self.tables.lock().open.get(table).cloned()?;
        Some((entry.current_id(), entry.wraps.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests;
