//! What the keyring knows of one table in use: its record, its lease, and for as long as the lease
//! lasts its keys in the clear.

use super::statistics::{CallTimes, TableKeyStatistics};
use crate::{KeyError, Result, TableName};
use coffer_crypto::{EncryptionType, KeyLease, KeyRecord, TableKey, TableKeyId};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// Current and older table keys of one table, in the clear. No `Debug`; wiped when dropped.
pub(super) struct TableKeys {
    pub(super) current: TableKey,
    pub(super) older: HashMap<TableKeyId, TableKey>,
}

impl TableKeys {
    pub(super) fn get(&self, id: TableKeyId) -> Option<&TableKey> {
        if self.current.id() == id { Some(&self.current) } else { self.older.get(&id) }
    }
}

/// One table in use. The keys go when the lease ends; the rest stays, so that an opened table goes on
/// with the lease it holds when the keys come back.
pub(super) struct Entry {
    pub(super) table: TableName,
    current_id: TableKeyId,
    record: RwLock<Arc<KeyRecord>>,
    keys: RwLock<Option<Arc<TableKeys>>>,
    pub(super) lease: Arc<KeyLease>,
    /// Wraps under the current table key so far.
    pub(super) wraps: AtomicU64,
    /// When somebody last asked for the key; `i64::MIN` when nobody did since it was wiped.
    pub(super) last_asked_millis: AtomicI64,
    /// When the `Decrypt` was sent that confirmed the key last.
    pub(super) confirmed_at_millis: AtomicI64,
}

impl Entry {
    pub(super) fn new(
        table: TableName,
        record: KeyRecord,
        keys: TableKeys,
        lease: Arc<KeyLease>,
        confirmed_at_millis: i64,
    ) -> Self {
        Self {
            table,
            current_id: keys.current.id(),
            wraps: AtomicU64::new(record.wraps),
            record: RwLock::new(Arc::new(record)),
            keys: RwLock::new(Some(Arc::new(keys))),
            lease,
            last_asked_millis: AtomicI64::new(confirmed_at_millis),
            confirmed_at_millis: AtomicI64::new(confirmed_at_millis),
        }
    }

    pub(super) fn record(&self) -> Arc<KeyRecord> {
        Arc::clone(&self.record.read())
    }

    pub(super) fn set_record(&self, record: KeyRecord) {
        *self.record.write() = Arc::new(record);
    }

    pub(super) fn current_id(&self) -> TableKeyId {
        self.current_id
    }

    /// The keys, unless they were wiped. Hold them for one use only.
    pub(super) fn keys(&self) -> Option<Arc<TableKeys>> {
        self.keys.read().clone()
    }

    pub(super) fn is_owned(&self) -> bool {
        self.record.read().encryption_type == EncryptionType::AwsOwned
    }

    /// Whether this is the entry of `record`, and still in use.
    pub(super) fn is_for(&self, record: &KeyRecord) -> bool {
        let mine = self.record.read();
        let holds = |older: &coffer_crypto::OlderTableKey| mine.holds(older.table_key_id);
        self.current_id == record.table_key_id
            && record.older.iter().all(holds)
            && !self.lease.is_revoked()
    }

    /// The KMS confirmed the key again.
    pub(super) fn confirm(&self, keys: TableKeys, asked_at_millis: i64, until_millis: i64) {
        let mut slot = self.keys.write();
        if slot.is_none() {
            *slot = Some(Arc::new(keys));
        }
        self.confirmed_at_millis.store(asked_at_millis, Ordering::Relaxed);
        self.last_asked_millis.fetch_max(asked_at_millis, Ordering::Relaxed);
        self.lease.renew(until_millis);
    }

    /// Ends the lease and wipes the keys; false when they were wiped before.
    pub(super) fn wipe(&self, now: i64) -> bool {
        self.lease.renew(self.lease.until_millis().min(now));
        self.last_asked_millis.store(i64::MIN, Ordering::Relaxed);
        self.keys.write().take().is_some()
    }

    pub(super) fn statistics(&self, now: i64, wall: i64) -> TableKeyStatistics {
        let record = self.record();
        let confirmed = self.confirmed_at_millis.load(Ordering::Relaxed);
        TableKeyStatistics {
            table: self.table.clone(),
            key_arn: record.kms_key_arn.clone(),
            table_key_id: self.current_id,
            key_material_id: record.key_material_id.clone(),
            created_at_millis: record.created_at_millis,
            age_millis: wall.saturating_sub(record.created_at_millis),
            is_cached: self.keys.read().is_some(),
            wraps: self.wraps.load(Ordering::Relaxed),
            confirmed_millis_ago: (!self.is_owned()).then(|| now.saturating_sub(confirmed)),
            calls: CallTimes::default(),
        }
    }
}

/// The keys of `record`: `current`, and the older ones, each directly under it.
pub(super) fn open_older(
    table: &TableName,
    record: &KeyRecord,
    current: TableKey,
) -> Result<TableKeys> {
    let unwrap = |older: &coffer_crypto::OlderTableKey| {
        current
            .unwrap_older(&table.id, older.table_key_id, &older.wrapped.0)
            .map(|key| (older.table_key_id, key))
            .map_err(|error| KeyError::damaged(table, error))
    };
    let older = record.older.iter().map(unwrap).collect::<Result<_>>()?;
    Ok(TableKeys { current, older })
}
