//! A new root key for the data directory, while it is in use.

use std::path::Path;

use coffer_crypto::RootKeys;
use coffer_keys::{TableName, begin_root_key_rotation, finish_root_key_rotation};
use coffer_model::TableId;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::table_keys::table_name;

/// Times all tables are looked through: one that a swap replaced meanwhile is looked at again.
const PASSES_MAX: usize = 5;

impl Database {
    /// Replaces the root key in `file` by a new one: the new key is written beside the old one, then
    /// the catalog, the owned table keys, the root key's part of double wraps, and the log are put
    /// under it, then it takes the old one's place. Reads and writes go on. Takes up a rotation that a
    /// crash, or an error, ended. Blocks: call it off the connection tasks. No KMS is asked.
    ///
    /// # Errors
    /// When a file cannot be written, or a table keeps an older log file; then both keys are there
    /// and both are in use, and the next call goes on.
    pub fn rotate_root_key(&self, file: &Path) -> Result<()> {
        let _one_at_a_time = self.root_key_rotation().lock();
        let roots = begin_root_key_rotation(file)?;
        self.keyring().set_root_keys(roots.duplicate());
        self.engine().set_root_keys(roots);
        self.rewrap_all_under_root()?;
        self.engine().leave_previous_root_key()?;
        // a change that began before the new key was in use may have been published since
        self.rewrap_all_under_root()?;
        let root = finish_root_key_rotation(file)?;
        self.keyring().set_root_keys(RootKeys::from(root.duplicate()));
        self.engine().set_root_keys(RootKeys::from(root));
        tracing::info!("root key replaced");
        Ok(())
    }

    fn rewrap_all_under_root(&self) -> Result<()> {
        for _ in 0..PASSES_MAX {
            let catalog = self.engine().catalog();
            let mut is_done = true;
            for (id, entry) in &catalog.tables {
                let rewrapped = self.keyring().rewrap_under_root(&table_name(entry), &entry.key)?;
                if let Some(record) = rewrapped {
                    // false: its key was changed meanwhile, and is under the new root key
                    is_done &= self.publish_envelope(TableId(id.0), &record)?;
                }
            }
            for (id, dropped) in &catalog.dropped {
                let schema = &dropped.schema;
                let name = TableName::new(id.0, &schema.keyspace, &schema.name);
                if let Some(record) = self.keyring().rewrap_under_root(&name, &dropped.key)? {
                    is_done &= self.engine().rewrap_dropped_key(*id, &record)?;
                }
            }
            if is_done {
                return Ok(());
            }
        }
        Err(Error::Overloaded(
            "keys of tables were changed all the time while the root key was replaced, try again"
                .to_owned(),
        ))
    }
}
