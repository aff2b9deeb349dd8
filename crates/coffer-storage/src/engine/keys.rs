//! What the engine does when keys come, change and go.

use std::collections::HashSet;

use coffer_crypto::{RootKeys, TableKeyId};
use coffer_model::TableId;

use super::Engine;
use crate::core::ListedKeys;
use crate::error::{Error, Result};

impl Engine {
    /// Closes the table because its key is gone: drops memtables, opened blocks and ciphers. What
    /// was not flushed is in the log and comes back with [`Engine::open_table`].
    pub fn forget_key(&self, table: TableId) {
        let lifecycle = self.core.lifecycle(table);
        let _lifecycle = lifecycle.lock();
        if self.core.tables.load().contains_key(&table) {
            self.core.close_store(table);
        }
    }

    /// Seals what is written to the table from now on with a data key under its present table key.
    pub fn renew_log_key(&self, table: TableId) {
        self.core.log.fence(table, || ());
    }

    /// Seals with `root_keys.current()` from now on; what is under the previous one still opens.
    pub fn set_root_keys(&self, root_keys: RootKeys) {
        *self.core.root_keys.write() = root_keys;
    }

    /// Seals anew, under the root key that is current, all files that may be under the previous one:
    /// the catalog, and the log, whose older files are freed by flushing (or setting aside) the tables
    /// that hold them. Blocks; reads and writes go on. May be repeated after an error or a crash.
    ///
    /// # Errors
    /// `Io`, `Poisoned`, `ShutDown`; `Overloaded` when a table keeps an older log file.
    pub fn leave_previous_root_key(&self) -> Result<()> {
        // the spare file after the one being written may be under the previous key as well
        let first = self.core.log.file_number() + 2;
        while self.core.log.file_number() < first {
            self.core.log.end_current_file()?;
        }
        // also waits until the log says this version, and with it that its older files ended
        self.core.update(|old| Ok(old.clone()))?;
        self.core.free_log_before(first)
    }

    /// The table keys that files of the table need: segments, tail files, log files, snapshots,
    /// archived log, and those being written. A swap keeps these, and those made under the current key meanwhile.
    ///
    /// # Errors
    /// `NoSuchTable`.
    pub fn table_keys_in_use(&self, table: TableId) -> Result<HashSet<TableKeyId>> {
        self.core.table_keys_in_use(table, || {
            let catalog = self.core.catalog.settled();
            let entry = catalog.tables.get(&table).ok_or(Error::NoSuchTable(table))?;
            Ok(ListedKeys::of(&catalog, entry))
        })
    }
}
