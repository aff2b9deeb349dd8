//! Changes of the catalog, and what becomes of the files that leave it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_model::TableId;

use super::Engine;
use crate::catalog::{Catalog, TableEntry, table_keys};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::SnapshotId;
use crate::{SegmentEntry, TailRecord};

/// A change of the layers above: the present catalog to the next one.
pub(super) type Change<'a> = &'a mut dyn FnMut(&Catalog) -> Result<Catalog>;

/// A change of what is the engine's own, made after one of the layers above: the present catalog, and
/// the next one.
pub(super) type OwnChange<'a> = &'a mut dyn FnMut(&Catalog, &mut Catalog) -> Result<()>;

impl Engine {
    /// Changes the catalog: `change` maps the present value to the next one, which is persisted and
    /// then published. Changes are serialised. `version`, `log`, `age`, `snapshots`, `archives`,
    /// `dropped`, and the file lists of existing tables are the engine's own: what `change` does to
    /// them is ignored. A table that leaves is kept in `dropped` when there is a snapshot or an
    /// archive of it.
    ///
    /// # Errors
    /// What `change` returns, or `Io` (then nothing is published); `Overloaded` when it sets a key
    /// record without a table key that a file has come to need meanwhile: make it again.
    pub fn update_catalog(
        &self,
        change: &mut dyn FnMut(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let (published, dropped) = self.core.publish(change, &mut |_, _| Ok(()), &[])?;
        for table in dropped {
            let lifecycle = self.core.lifecycle(table);
            let _lifecycle = lifecycle.lock();
            self.core.leave_dropped(table);
        }
        self.core.housekeeping.notify();
        Ok(published)
    }

    /// Removes all rows of the table, those in the log included, and unlinks its files. Works while
    /// the key is away.
    ///
    /// # Errors
    /// `NoSuchTable`, `Io`.
    pub fn truncate(&self, table: TableId) -> Result<()> {
        let lifecycle = self.core.lifecycle(table);
        let _lifecycle = lifecycle.lock();
        self.core.close_to_truncate(table)?;
        self.core.truncate_closed(table)?;
        self.core.housekeeping.notify();
        Ok(())
    }

    /// Removes the table from the catalog and unlinks its files. Works while the key is away.
    ///
    /// # Errors
    /// `NoSuchTable`, `Io`.
    pub fn drop_table(&self, table: TableId) -> Result<()> {
        let mut remove = |old: &Catalog| {
            let mut new = old.clone();
            new.tables.remove(&table).ok_or(Error::NoSuchTable(table))?;
            Ok(new)
        };
        self.update_catalog(&mut remove).map(drop)
    }
}

impl Core {
    /// Closes a table, so that all its records are in the log and durable. The caller holds its
    /// lifecycle lock.
    pub(super) fn close_to_truncate(&self, table: TableId) -> Result<()> {
        let was_open = self.tables.load().contains_key(&table);
        let last = self.close_store(table);
        if was_open {
            self.log.wait_committed(last)?;
        }
        self.log.wait_durable(self.log.committed())
    }

    /// Removes all rows of a table that was closed. The caller still holds its lifecycle lock.
    pub(super) fn truncate_closed(&self, table: TableId) -> Result<()> {
        let mut removed = TableFiles::default();
        let truncate = |entry: &mut TableEntry| {
            removed.segments = std::mem::take(&mut entry.segments);
            removed.tails = std::mem::take(&mut entry.tails);
            // all that a snapshot may have by now; the table was closed before, so no record of it is
            // left out, and later ones are of other tables
            entry.replay_from = entry.replay_from.max(self.log.durable());
            entry.truncated_at = entry.replay_from;
            Ok(())
        };
        let history = |new: &mut Catalog, entry: &TableEntry| self.add_empty_base(new, entry);
        self.update_table_and(table, truncate, history)?;
        let directory = self.table_directory(table);
        for path in removed.paths(&directory) {
            self.remove_file(&path);
        }
        Ok(())
    }

    /// Publishes `change`, and `own` on top of it. `last` has the snapshots of tables as they leave.
    /// Returns also the tables that left the catalog; their files are still there.
    pub(super) fn publish(
        &self,
        change: Change<'_>,
        own: OwnChange<'_>,
        last: &[(TableId, SnapshotId)],
    ) -> Result<(Arc<Catalog>, Vec<TableId>)> {
        let mut dropped = Vec::new();
        let published = self.update(|old| {
            let mut new = self.keep_own_fields(old, change(old)?)?;
            own(old, &mut new)?;
            dropped =
                old.tables.keys().filter(|id| !new.tables.contains_key(id)).copied().collect();
            for table in &dropped {
                let last = last.iter().find(|(of, _)| of == table).map(|(_, last)| *last);
                self.keep_dropped(old, &mut new, *table, last);
            }
            Ok(new)
        })?;
        Ok((published, dropped))
    }

    /// Closes a table that left the catalog and unlinks its files. The caller holds its lifecycle lock.
    pub(super) fn leave_dropped(&self, table: TableId) {
        self.close_store(table);
        if let Err(error) = self.unlink_table(table) {
            let error = error.chain();
            tracing::warn!(%table, error, "files of a dropped table stay until the next start");
        }
        self.lifecycles.lock().remove(&table);
    }

    /// What the layers above may not change: the file lists of tables, what is kept beside the
    /// tables, and what the log knows.
    fn keep_own_fields(&self, old: &Catalog, mut new: Catalog) -> Result<Catalog> {
        new.log = old.log.clone();
        new.snapshots.clone_from(&old.snapshots);
        new.archives.clone_from(&old.archives);
        new.dropped.clone_from(&old.dropped);
        self.keep_schemas(old, &mut new);
        for (id, entry) in &mut new.tables {
            match old.tables.get(id) {
                Some(before) if Arc::ptr_eq(before, entry) => {}
                Some(before) => {
                    let kept = Arc::make_mut(entry);
                    kept.segments.clone_from(&before.segments);
                    kept.tails.clone_from(&before.tails);
                    kept.replay_from = before.replay_from;
                    kept.truncated_at = before.truncated_at;
                    if !Arc::ptr_eq(&before.key, &kept.key) {
                        check_keys(old, before, kept)?;
                    }
                }
                None if old.dropped.contains_key(id) => {
                    return Err(Error::Refused(format!("table {id} was dropped, its id is kept")));
                }
                // records of a dropped table with the same id must not come back
                None => {
                    let mut kept =
                        TableEntry::new(Arc::clone(&entry.schema), Arc::clone(&entry.key));
                    kept.replay_from = self.log.durable();
                    kept.truncated_at = kept.replay_from;
                    *entry = Arc::new(kept);
                }
            }
        }
        Ok(new)
    }

    /// Notes new schemas of tables whose history is kept.
    fn keep_schemas(&self, old: &Catalog, new: &mut Catalog) {
        let archived: Vec<TableId> = new.archives.keys().copied().collect();
        for table in archived {
            let (Some(before), Some(after)) = (old.tables.get(&table), new.tables.get(&table))
            else {
                continue;
            };
            let schema = Arc::clone(&after.schema);
            if Arc::ptr_eq(&before.schema, &schema) || before.schema == schema {
                continue;
            }
            let types = new.types_of(&schema);
            if let Some(archive) = new.archives.get_mut(&table).map(Arc::make_mut) {
                archive.types.extend(types);
                archive.schemas.push((self.log.stamp_millis(), schema));
            }
        }
    }
}

/// Whether a new key record opens all files that the record before it opened. Files of which it was
/// not known when the record was made have come to the catalog meanwhile.
fn check_keys(old: &Catalog, before: &TableEntry, after: &TableEntry) -> Result<()> {
    let mut needed = old.retained_table_keys(before.schema.id);
    needed.extend(table_keys(&before.segments, &before.tails));
    let is_lost = |id| before.key.holds(id) && !after.key.holds(id);
    if needed.into_iter().any(is_lost) {
        return Err(Error::Overloaded("a file has come to need an older table key meanwhile"));
    }
    Ok(())
}

/// Files that leave the catalog together.
#[derive(Default)]
struct TableFiles {
    segments: Vec<SegmentEntry>,
    tails: Vec<TailRecord>,
}

impl TableFiles {
    fn paths(&self, directory: &Path) -> Vec<PathBuf> {
        let segments = self.segments.iter().map(|segment| segment.path(directory));
        segments.chain(self.tails.iter().map(|tail| tail.path(directory))).collect()
    }
}
