//! A source of data keys for tests: one table key for each table, in memory, that can be taken away.

use std::collections::HashMap;
use std::sync::Arc;

use coffer_crypto::{
    DataKey, DataKeySource, Error, FileIdentity, KeyLease, KeyUnavailable, NewDataKey, Result,
    TableKey, TableKeyId, UnavailableReason, WrappedDataKey,
};
use parking_lot::Mutex;

type Leased = (Arc<TableKey>, Arc<KeyLease>);

/// Table keys by table; made on first use.
#[derive(Default)]
pub(crate) struct MemoryKeys {
    /// The present key of each table last.
    keys: Mutex<HashMap<[u8; 16], Vec<Leased>>>,
    away: Mutex<Vec<[u8; 16]>>,
}

impl MemoryKeys {
    /// The table's key is not at hand until [`MemoryKeys::bring_back`].
    pub(crate) fn take_away(&self, table: [u8; 16]) {
        self.away.lock().push(table);
    }

    /// The table's key is at hand again.
    pub(crate) fn bring_back(&self, table: [u8; 16]) {
        self.away.lock().retain(|away| *away != table);
    }

    /// The table gets another key; the one before still opens.
    pub(crate) fn renew(&self, table: [u8; 16]) -> TableKeyId {
        let made = Arc::new(TableKey::generate().expect("random bytes"));
        let id = made.id();
        let leased = (made, Arc::new(KeyLease::unlimited()));
        self.keys.lock().entry(table).or_default().push(leased);
        id
    }

    /// `table` gets the keys of `source`.
    pub(crate) fn adopt(&self, source: [u8; 16], table: [u8; 16]) {
        let mut keys = self.keys.lock();
        if let Some(key) = keys.get(&source).cloned() {
            keys.insert(table, key);
        }
    }

    fn key(&self, table: [u8; 16]) -> Result<Leased> {
        if self.away.lock().contains(&table) {
            return Err(KeyUnavailable { table, reason: UnavailableReason::Revoked }.into());
        }
        let mut keys = self.keys.lock();
        let known = keys.entry(table).or_default();
        if let Some(found) = known.last() {
            return Ok(found.clone());
        }
        let made = (Arc::new(TableKey::generate()?), Arc::new(KeyLease::unlimited()));
        known.push(made.clone());
        Ok(made)
    }
}

impl DataKeySource for MemoryKeys {
    fn create_data_key(&self, identity: &FileIdentity) -> Result<(NewDataKey, WrappedDataKey)> {
        let (key, _) = self.key(identity.table_id)?;
        let data_key = NewDataKey::generate()?;
        let wrapped = key.wrap_data_key(&data_key, identity)?;
        Ok((data_key, wrapped))
    }

    fn unwrap_data_key(
        &self,
        table: &[u8; 16],
        wrapped: &WrappedDataKey,
        birth: &FileIdentity,
    ) -> std::result::Result<DataKey, Error> {
        let present = self.key(*table)?;
        let keys = self.keys.lock();
        let known = keys.get(table).into_iter().flatten();
        let mut wrapping = known.filter(|(key, _)| key.id() == wrapped.table_key_id);
        wrapping.next().unwrap_or(&present).0.unwrap_data_key(wrapped, birth)
    }

    fn lease(&self, table: &[u8; 16]) -> Result<Arc<KeyLease>> {
        Ok(self.key(*table)?.1)
    }

    fn wrapping_key(&self, table: &[u8; 16]) -> Option<(TableKeyId, u64)> {
        if self.away.lock().contains(table) {
            return None;
        }
        let keys = self.keys.lock();
        keys.get(table)?.last().map(|(key, _)| (key.id(), 0))
    }
}
