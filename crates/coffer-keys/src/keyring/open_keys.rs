//! The keys of one table, in the clear.

use crate::{KeyError, Result, TableName};
use coffer_crypto::{KeyLease, KeyRecord, TableKey, TableKeyId};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

/// Current and older table keys with the record they came from. No `Debug`.
pub(super) struct OpenKeys {
    pub(super) table: TableName,
    pub(super) record: KeyRecord,
    pub(super) current: TableKey,
    pub(super) older: HashMap<TableKeyId, TableKey>,
    pub(super) lease: Arc<KeyLease>,
    /// Wraps under the current table key so far.
    pub(super) wraps: AtomicU64,
    /// Whether the second half of the lease began and interest is being watched.
    pub(super) watched: AtomicBool,
    /// When the background may try to refresh again.
    pub(super) retry_at_millis: AtomicI64,
}

impl OpenKeys {
    pub(super) fn new(
        table: TableName,
        record: KeyRecord,
        current: TableKey,
        older: HashMap<TableKeyId, TableKey>,
        lease: Arc<KeyLease>,
    ) -> Self {
        let wraps = AtomicU64::new(record.wraps);
        Self {
            table,
            record,
            current,
            older,
            lease,
            wraps,
            watched: AtomicBool::new(false),
            retry_at_millis: AtomicI64::new(i64::MIN),
        }
    }

    /// Whether these are the keys of `record`, and still in use.
    pub(super) fn is_for(&self, record: &KeyRecord) -> bool {
        self.current.id() == record.table_key_id
            && record.older.iter().all(|older| self.older.contains_key(&older.table_key_id))
            && !self.lease.is_revoked()
    }

    /// The KMS confirmed the key again.
    pub(super) fn confirm(&self, until_millis: i64) {
        self.lease.renew(until_millis);
        self.watched.store(false, Ordering::Relaxed);
        self.retry_at_millis.store(i64::MIN, Ordering::Relaxed);
    }

    pub(super) fn table_key(&self, id: TableKeyId) -> Option<&TableKey> {
        if self.current.id() == id { Some(&self.current) } else { self.older.get(&id) }
    }
}

/// The older table keys of `record`, each directly under `current`.
pub(super) fn unwrap_older(
    table: &TableName,
    record: &KeyRecord,
    current: &TableKey,
) -> Result<HashMap<TableKeyId, TableKey>> {
    let unwrap = |older: &coffer_crypto::OlderTableKey| {
        current
            .unwrap_older(&table.id, older.table_key_id, &older.wrapped.0)
            .map(|key| (older.table_key_id, key))
            .map_err(|error| KeyError::damaged(table, error))
    };
    record.older.iter().map(unwrap).collect()
}
