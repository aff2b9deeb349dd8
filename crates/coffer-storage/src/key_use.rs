//! Which table keys the files of a table need.
//!
//! A file under way counts from the moment its data key is made: between that and its place in the
//! catalog or in the log's index nothing else tells that its table key must stay in the key record.

use std::collections::HashSet;
use std::sync::Arc;

use coffer_crypto::{
    DataKey, DataKeySource, FileIdentity, KeyLease, NewDataKey, Result, TableKeyId, WrappedDataKey,
};
use coffer_model::TableId;
use parking_lot::Mutex;

/// Makes data keys, and knows those whose files are not published yet.
pub(crate) struct KeyUse {
    keys: Arc<dyn DataKeySource>,
    newborn: Mutex<NewbornFiles>,
}

#[derive(Default)]
struct NewbornFiles {
    last_scope: u64,
    files: Vec<(u64, TableId, TableKeyId)>,
}

/// A source of data keys whose files count as live until this is dropped.
pub(crate) struct Newborn<'a> {
    key_use: &'a KeyUse,
    scope: u64,
}

/// The table keys that files not published yet need.
pub(crate) struct NewbornKeys {
    /// Those already in use.
    pub(crate) needed: HashSet<TableKeyId>,
    /// The one that wraps data keys from now on, and the wraps so far; `None` when none can be made.
    pub(crate) wrapping: Option<(TableKeyId, u64)>,
}

impl KeyUse {
    pub(crate) fn new(keys: Arc<dyn DataKeySource>) -> Self {
        Self { keys, newborn: Mutex::default() }
    }

    /// Starts to make files.
    pub(crate) fn newborn(&self) -> Newborn<'_> {
        let mut newborn = self.newborn.lock();
        newborn.last_scope += 1;
        Newborn { key_use: self, scope: newborn.last_scope }
    }

    /// What the files of the table under way need. A file that leaves them is in the log's index or
    /// in the catalog before: look there afterwards.
    pub(crate) fn of(&self, table: TableId) -> NewbornKeys {
        let newborn = self.newborn.lock();
        let files = newborn.files.iter().filter(|(_, of, _)| *of == table);
        NewbornKeys {
            needed: files.map(|(_, _, key)| *key).collect(),
            // under the lock: whatever is made after this is made under this key or a later one
            wrapping: self.keys.wrapping_key(table.as_bytes()),
        }
    }
}

/// Table keys that count as needed until this is dropped.
pub(crate) struct HeldKeys {
    key_use: Arc<KeyUse>,
    scope: u64,
}

impl KeyUse {
    /// Counts these table keys as needed: files that need them are about to be listed.
    pub(crate) fn hold(self: &Arc<Self>, table: TableId, keys: &HashSet<TableKeyId>) -> HeldKeys {
        let mut newborn = self.newborn.lock();
        newborn.last_scope += 1;
        let scope = newborn.last_scope;
        newborn.files.extend(keys.iter().map(|key| (scope, table, *key)));
        HeldKeys { key_use: Arc::clone(self), scope }
    }
}

impl Drop for HeldKeys {
    fn drop(&mut self) {
        self.key_use.newborn.lock().files.retain(|(scope, _, _)| *scope != self.scope);
    }
}

impl Drop for Newborn<'_> {
    fn drop(&mut self) {
        self.key_use.newborn.lock().files.retain(|(scope, _, _)| *scope != self.scope);
    }
}

impl DataKeySource for Newborn<'_> {
    fn create_data_key(&self, identity: &FileIdentity) -> Result<(NewDataKey, WrappedDataKey)> {
        let mut newborn = self.key_use.newborn.lock();
        let made = self.key_use.keys.create_data_key(identity)?;
        newborn.files.push((self.scope, TableId(identity.table_id), made.1.table_key_id));
        Ok(made)
    }

    fn unwrap_data_key(
        &self,
        table: &[u8; 16],
        wrapped: &WrappedDataKey,
        birth: &FileIdentity,
    ) -> Result<DataKey> {
        self.key_use.keys.unwrap_data_key(table, wrapped, birth)
    }

    fn lease(&self, table: &[u8; 16]) -> Result<Arc<KeyLease>> {
        self.key_use.keys.lease(table)
    }

    fn wrapping_key(&self, table: &[u8; 16]) -> Option<(TableKeyId, u64)> {
        self.key_use.keys.wrapping_key(table)
    }
}
