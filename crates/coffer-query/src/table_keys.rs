//! Bringing a table into use: its key from the KMS, then its files.

use std::sync::{Arc, Weak};

use coffer_keys::{DropReason, KeyError, TableName};
use coffer_model::TableId;
use coffer_storage::{Engine, Error as EngineError, TableEntry};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::key_health::KeyHealths;

impl Database {
    /// Makes the table's key usable. Waits for the KMS; all requests share one call.
    ///
    /// # Errors
    /// [`Error::KeyRefused`] with ARN and state; [`Error::KeyUnreachable`]; [`Error::ReadFailure`]
    /// for a damaged key.
    pub async fn load_table_key(&self, table: TableId) -> Result<()> {
        let catalog = self.engine().catalog();
        let entry = catalog.tables.get(&table).ok_or_else(no_such_table)?;
        let name = table_name(entry);
        let asked_at = self.clock().key_now_millis();
        match self.keyring().open(&name, &entry.key).await {
            Ok(()) => {
                self.key_healths().succeeded(table.0, &**self.clock());
                self.key_monitor().used(table, asked_at);
                self.renew_worn_key(table).await;
                Ok(())
            }
            // a swap was faster: its keys are there in a moment
            Err(error @ KeyError::Superseded(_)) => Err(error.into()),
            Err(error) => {
                self.key_healths().failed(table.0, &error, &**self.clock());
                self.key_monitor().failed(table, &error, asked_at);
                Err(error.into())
            }
        }
    }

    /// Asks the KMS whether a principal may use the table's key. A yes serves until the maximum age of
    /// keys.
    ///
    /// # Errors
    /// [`Error::KeyRefused`] that names the principal when it may not; else as
    /// [`Database::load_table_key`].
    pub async fn authorize(&self, table: TableId, principal: &str) -> Result<()> {
        let catalog = self.engine().catalog();
        let entry = catalog.tables.get(&table).ok_or_else(no_such_table)?;
        Ok(self.keyring().authorize(&table_name(entry), &entry.key, principal).await?)
    }

    /// Opens the table's files and replays its part of the log. Blocks; the key must be usable.
    ///
    /// # Errors
    /// [`Error::ReadFailure`] for changed or damaged files; [`Error::KeyUnreachable`] when the key
    /// went away meanwhile.
    pub fn open_table(&self, table: TableId) -> Result<()> {
        match self.engine().open_table(table) {
            Err(EngineError::NoSuchTable(_)) => Err(no_such_table()),
            other => Ok(other?),
        }
    }
}

fn no_such_table() -> Error {
    Error::invalid("unconfigured table: it was dropped meanwhile")
}

/// What the keyring calls a table.
pub(crate) fn table_name(entry: &TableEntry) -> TableName {
    TableName::new(entry.schema.id.0, &entry.schema.keyspace, &entry.schema.name)
}

/// Makes the engine forget what it has opened of a table whose key is refused for good, flushed, or
/// not used any more. The engine holds the keyring, so the keyring must not keep the engine alive.
pub(crate) fn forget_on_revocation(database: &Database) {
    let engine: Weak<Engine> = Arc::downgrade(database.engine());
    let healths: Arc<KeyHealths> = Arc::clone(database.key_healths());
    let clock = Arc::clone(database.clock());
    let monitor = Arc::clone(database.key_monitor());
    database.keyring().set_on_revoked(Box::new(move |table, error| {
        tracing::error!(table = %table, %error, "key of table refused, table is inaccessible");
        healths.failed(table.id, error, &*clock);
        monitor.failed(TableId(table.id), error, clock.key_now_millis());
        if let Some(engine) = engine.upgrade() {
            engine.forget_key(TableId(table.id));
        }
    }));
    let engine: Weak<Engine> = Arc::downgrade(database.engine());
    database.keyring().set_on_dropped(Box::new(move |table, reason| {
        let Some(engine) = engine.upgrade() else { return };
        let id = TableId(table.id);
        let is_clean = || engine.statistics(id).is_ok_and(|found| found.memtable_bytes == 0);
        match reason {
            DropReason::Flushed => engine.forget_key(id),
            // nothing to replay at its next use: its ciphers and blocks go with the key
            DropReason::Idle if is_clean() => engine.forget_key(id),
            DropReason::Idle | DropReason::Aged => {}
        }
    }));
}
