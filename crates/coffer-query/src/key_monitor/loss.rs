//! The end of a loss: a verified snapshot, one more refusal, and the drop. Each step is durable before
//! the next one, so a crash leaves at most a snapshot, which the next try finds by the id of the loss.

use std::sync::Arc;

use coffer_health::{Answer, Due};
use coffer_model::TableId;
use coffer_storage::{Catalog, Error as EngineError, SnapshotId, SnapshotKind, SnapshotRequest};

use super::watched::Untold;
use super::{KeyMonitor, property};
use crate::database::Database;
use crate::error::Result;
use crate::events::{EventKind, NewEvent};
use crate::execute::key_change::retire_lost_grants;
use crate::execute::schema_change::SchemaChangeEvent;
use crate::plan::schema_change as plan;

impl KeyMonitor {
    /// Whether somebody used the table's key since the last pass.
    fn was_used(&self, table: TableId) -> bool {
        let seen = self.seen.lock();
        seen.iter().any(|seen| seen.table == table && seen.answer == Answer::Usable)
    }
}

impl Database {
    /// Does what is due for tables whose deadline has come. True when there may be more to do.
    pub(super) async fn advance_losses(&self, dropped: &mut Vec<SchemaChangeEvent>) -> bool {
        let now = self.clock().key_now_millis();
        let Some(moment) = self.moment(now) else { return false };
        let due: Vec<(TableId, Due, [u8; 16])> = {
            let tables = self.key_monitor().tables.lock();
            let due = tables.iter().filter(|(_, watched)| now >= watched.retry_at);
            due.filter_map(|(id, watched)| {
                let series = watched.health.series.as_ref()?;
                Some((*id, watched.health.due(&moment), series.incident))
            })
            .collect()
        };
        let mut has_more = false;
        for (table, due, incident) in due {
            if due == Due::Nothing || due == Due::Probe {
                continue;
            }
            let Some(name) = self.names_of(table) else { continue };
            // a change of its key goes first: it ends the loss, or fails
            let Some(_turn) = self.key_queues().try_enter(&name.0, &name.1) else { continue };
            has_more |= match due {
                Due::Snapshot => self.take_loss_snapshot(table, incident),
                Due::Verify(id) => self.verify_loss_snapshot(table, SnapshotId(id)),
                Due::Drop(id) => self.drop_lost(table, SnapshotId(id), dropped),
                Due::Nothing | Due::Probe => false,
            };
        }
        has_more
    }

    fn names_of(&self, table: TableId) -> Option<(String, String)> {
        let catalog = self.engine().catalog();
        let schema = &catalog.tables.get(&table)?.schema;
        Some((schema.keyspace.clone(), schema.name.clone()))
    }

    fn take_loss_snapshot(&self, table: TableId, incident: [u8; 16]) -> bool {
        let name = uuid::Uuid::from_bytes(incident).to_string();
        // of a try that a crash ended
        let left = left_snapshot(&self.engine().catalog(), table, &name);
        let request = SnapshotRequest {
            kind: SnapshotKind::KeyLoss,
            name,
            keep_millis: Some(self.options().key_health.snapshot_keep_millis),
        };
        let taken = left.map_or_else(
            || self.engine().take_snapshot(table, &request).map(|snapshot| snapshot.id),
            Ok,
        );
        match taken {
            Ok(id) => {
                self.with_watched(table, |watched| watched.health.snapshot_taken(id.0));
                true
            }
            Err(error) => {
                self.blocked(table, EventKind::SnapshotFailed, &error);
                false
            }
        }
    }

    fn verify_loss_snapshot(&self, table: TableId, id: SnapshotId) -> bool {
        match self.engine().verify_snapshot(id) {
            Ok(()) => {
                let now = self.clock().key_now_millis();
                let Some(moment) = self.moment(now) else { return false };
                let detail = format!("snapshot {id}: every file is as the catalog says");
                self.with_watched(table, |watched| {
                    watched.health.snapshot_verified(&moment);
                    watched.next_probe = now;
                    let kind = EventKind::SnapshotTaken;
                    watched.untold.push(Untold { kind, days_left: None, detail });
                });
                true
            }
            Err(error) => {
                // the next try takes another one: never two are left
                if let Err(error) = self.engine().erase_snapshot(id) {
                    tracing::warn!(%table, %error, "a snapshot that is not whole stays");
                }
                self.blocked(table, EventKind::DropBlocked, &error);
                false
            }
        }
    }

    fn blocked(&self, table: TableId, kind: EventKind, error: &EngineError) {
        let detail = chain(error);
        tracing::error!(%table, error = detail, "table of a lost key is kept: no verified snapshot");
        let now = self.clock().key_now_millis();
        self.with_watched(table, |watched| {
            watched.postpone(now);
            if watched.health.snapshot_failed() {
                watched.untold.push(Untold { kind, days_left: None, detail });
            }
        });
    }

    fn drop_lost(
        &self,
        table: TableId,
        snapshot: SnapshotId,
        dropped: &mut Vec<SchemaChangeEvent>,
    ) -> bool {
        if self.key_monitor().was_used(table) || self.keyring().is_usable(&table.0) {
            // the answer is taken in before anything else happens
            return true;
        }
        match self.publish_drop(table, snapshot) {
            Ok(Some(event)) => {
                tracing::warn!(%table, %snapshot, "table dropped: its key is lost");
                dropped.push(event);
            }
            Ok(None) => {
                // the next try takes another one
                if let Err(error) = self.engine().erase_snapshot(snapshot) {
                    tracing::warn!(%table, %error, "a snapshot that does not do stays");
                }
                let now = self.clock().key_now_millis();
                self.with_watched(table, |watched| {
                    watched.health.snapshot_failed();
                    watched.postpone(now);
                });
            }
            Err(error) => {
                tracing::error!(%table, %error, "table of a lost key is not dropped, trying again");
                let now = self.clock().key_now_millis();
                self.with_watched(table, |watched| watched.postpone(now));
            }
        }
        false
    }

    /// Drops the table; `None` when its snapshot is not there, or was not verified.
    fn publish_drop(
        &self,
        table: TableId,
        snapshot: SnapshotId,
    ) -> Result<Option<SchemaChangeEvent>> {
        let mut event = None;
        let keep_millis = self.options().key_health.snapshot_keep_millis;
        let detail = format!("the key was not usable until the deadline; snapshot {snapshot}");
        let told = Untold { kind: EventKind::Dropped, days_left: None, detail };
        // looks itself whether the snapshot was verified and has the last write
        let updated = self.engine().drop_table_kept_by(snapshot, keep_millis, &mut |catalog| {
            let entry = catalog.tables.get(&table).ok_or(EngineError::NoSuchTable(table))?;
            let (mut next, change) = plan::drop_entry(catalog, entry, self.clock().now_millis());
            next.key_changes.remove(&table);
            Arc::make_mut(&mut next.properties).remove(&property(table));
            retire_lost_grants(catalog, &mut next, self.clock().key_wall_millis());
            if let Some(told) = self.event_of(entry, &told) {
                // what comes next is the end of the snapshot
                let now = self.clock().key_wall_millis();
                let deadline_millis = Some(now.saturating_add(keep_millis));
                self.record_event(&mut next, NewEvent { deadline_millis, ..told });
            }
            event = Some(change);
            Ok(*next)
        });
        match updated {
            Ok(_) => {}
            Err(EngineError::Refused(why)) => {
                tracing::warn!(%table, %snapshot, why = %why, "snapshot does not do for the drop");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        self.key_monitor().tables.lock().remove(&table);
        {
            let _one_at_a_time = self.key_installs().lock();
            self.keyring().forget(&table.0);
            self.key_healths().forget(&table.0);
        }
        self.refresh_schema()?;
        Ok(event)
    }

    fn with_watched(&self, table: TableId, change: impl FnOnce(&mut super::Watched)) {
        if let Some(watched) = self.key_monitor().tables.lock().get_mut(&table) {
            change(watched);
        }
    }
}

/// The snapshot that an earlier try of this loss took.
fn left_snapshot(catalog: &Catalog, table: TableId, name: &str) -> Option<SnapshotId> {
    let is_left = |snapshot: &&Arc<coffer_storage::SnapshotRecord>| {
        snapshot.kind == SnapshotKind::KeyLoss
            && snapshot.schema.id == table
            && snapshot.name == name
    };
    catalog.snapshots.values().find(is_left).map(|snapshot| snapshot.id)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
