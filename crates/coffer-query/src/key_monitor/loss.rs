//! The end of a loss: a verified snapshot, one more refusal, and the drop. Each step is durable before
//! the next one, so a crash leaves at most a snapshot, which the next try finds by the id of the loss.

use std::sync::Arc;

use coffer_health::{Answer, Due};
use coffer_model::TableId;
use coffer_storage::{
    Catalog, Error as EngineError, SnapshotId, SnapshotKind, SnapshotRequest, TableEntry,
};

use super::watched::Untold;
use super::{KeyMonitor, property};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::events::{EventKind, NewEvent};
use crate::execute::key_change::retire_lost_grants;
use crate::execute::schema_change::SchemaChangeEvent;
use crate::plan::schema_change as plan;
use crate::schema_audit::AuditedOperation;

impl KeyMonitor {
    /// Whether somebody used the table's key since the last pass.
    fn was_used(&self, table: TableId) -> bool {
        let seen = self.seen.lock();
        seen.iter().any(|seen| seen.table == table && seen.answer == Answer::Usable)
    }
}

/// What a drop was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) due: Due,
    incident: [u8; 16],
    delete_after_millis: Option<i64>,
    key_arn: String,
}

/// How a drop ended that nothing stood against.
enum Ended {
    Dropped(SchemaChangeEvent),
    /// Why its snapshot does not do.
    SnapshotRefused(String),
}

impl Database {
    /// Does what is due for tables whose deadline has come. True when there may be more to do.
    pub(super) async fn advance_losses(&self, dropped: &mut Vec<SchemaChangeEvent>) -> bool {
        let mut has_more = self.end_reading().await;
        let mut all: Vec<(TableId, Decided)> = {
            let tables: Vec<TableId> = self.key_monitor().tables.lock().keys().copied().collect();
            tables.into_iter().filter_map(|table| Some((table, self.decide(table)?))).collect()
        };
        // what a drop rests on is of now
        all.sort_by_key(|(table, decided)| (is_slow(decided.due), *table));
        let mut has_verified = false;
        for (table, decided) in all {
            if has_verified {
                // the others have their turn after all keys were asked about again
                return true;
            }
            let Some(name) = self.names_of(table) else { continue };
            // a change of its key goes first: it ends the loss, or fails
            let Some(_turn) = self.key_queues().try_enter(&name.0, &name.1) else { continue };
            // what came since the list was made
            if self.decide(table).as_ref() != Some(&decided) {
                has_more = true;
                continue;
            }
            has_more |= match decided.due {
                Due::Snapshot => self.take_loss_snapshot(table, decided.incident),
                Due::Verify(id) => {
                    has_verified = self.begin_reading(table, SnapshotId(id)).await;
                    has_verified
                }
                Due::Drop(id) => self.drop_lost(table, SnapshotId(id), &decided, dropped),
                Due::Nothing | Due::Probe => false,
            };
        }
        has_more
    }

    /// What is to be done about a table now, by its policy as it is now.
    pub(super) fn decide(&self, table: TableId) -> Option<Decided> {
        let now = self.clock().key_now_millis();
        {
            let tables = self.key_monitor().tables.lock();
            let watched = tables.get(&table)?;
            if watched.health.series.is_none() || now < watched.retry_at {
                return None;
            }
        }
        let (moment, policy) = (self.moment(now)?, self.policy_of(table)?);
        let mut tables = self.key_monitor().tables.lock();
        let watched = tables.get_mut(&table)?;
        let events = watched.health.pass(&moment, &policy);
        watched.tell(events);
        let due = watched.health.due(&moment);
        match due {
            Due::Nothing => return None,
            Due::Probe => {
                let soon = watched.last_asked.saturating_add(super::SUSPECT_INTERVAL_MILLIS);
                watched.next_probe = watched.next_probe.min(soon);
                return None;
            }
            Due::Snapshot | Due::Verify(_) | Due::Drop(_) => {}
        }
        let series = watched.health.series.as_ref()?;
        Some(Decided {
            due,
            incident: series.incident,
            delete_after_millis: series.delete_after_millis,
            key_arn: watched.key_arn.clone(),
        })
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

    pub(super) fn blocked(&self, table: TableId, kind: EventKind, error: &EngineError) {
        self.blocked_by(table, kind, error.chain());
    }

    fn blocked_by(&self, table: TableId, kind: EventKind, detail: String) {
        tracing::error!(%table, error = detail, "table of a lost key is kept: no verified snapshot");
        let now = self.clock().key_now_millis();
        self.with_watched(table, |watched| {
            watched.postpone(now);
            if watched.health.snapshot_failed() {
                watched.untold.push(Untold::new(kind, detail));
            }
        });
    }

    fn drop_lost(
        &self,
        table: TableId,
        snapshot: SnapshotId,
        decided: &Decided,
        dropped: &mut Vec<SchemaChangeEvent>,
    ) -> bool {
        if self.key_monitor().was_used(table) || self.keyring().is_usable(&table.0) {
            // the answer is taken in before anything else happens
            return true;
        }
        let name = self.names_of(table);
        match self.publish_drop(table, snapshot, decided) {
            Ok(Ended::Dropped(event)) => {
                self.audit_drop(table, name.unwrap_or_default(), snapshot, decided);
                tracing::warn!(%table, %snapshot, "table dropped: its key is lost");
                dropped.push(event);
            }
            Ok(Ended::SnapshotRefused(why)) => {
                // the next try takes another one
                if let Err(error) = self.erase_needless_snapshot(snapshot) {
                    tracing::warn!(%table, %error, "a snapshot that does not do stays");
                }
                self.blocked_by(table, EventKind::DropBlocked, why);
            }
            Err(error) => {
                tracing::error!(%table, %error, "table of a lost key is not dropped, trying again");
                let now = self.clock().key_now_millis();
                self.with_watched(table, |watched| watched.postpone(now));
            }
        }
        false
    }

    fn audit_drop(
        &self,
        table: TableId,
        (keyspace, name): (String, String),
        snapshot: SnapshotId,
        decided: &Decided,
    ) {
        let incident = uuid::Uuid::from_bytes(decided.incident).to_string();
        let parameters = [
            ("cause", "key_loss".to_owned()),
            ("incident", incident),
            ("snapshotId", snapshot.to_string()),
            ("tableId", table.to_string()),
        ];
        self.audit_operation(AuditedOperation {
            name: "DropTable",
            keyspace: &keyspace,
            table: &name,
            key_arn: Some(decided.key_arn.clone()),
            parameters: parameters
                .map(|(name, text)| (name.to_owned(), text.into()))
                .into_iter()
                .collect(),
            error: None,
        });
    }

    /// Drops the table, if all is still as it was decided.
    fn publish_drop(
        &self,
        table: TableId,
        snapshot: SnapshotId,
        decided: &Decided,
    ) -> Result<Ended> {
        let mut event = None;
        let detail = format!("the key was not usable until the deadline; snapshot {snapshot}");
        let told = Untold::new(EventKind::Dropped, detail);
        let keep_millis = self.options().key_health.snapshot_keep_millis;
        // looks itself whether the snapshot was verified and has the last write
        let updated = self.engine().drop_table_kept_by(snapshot, keep_millis, &mut |catalog| {
            let entry = catalog.tables.get(&table).ok_or(EngineError::NoSuchTable(table))?;
            self.check_decided(entry, decided)?;
            let (mut next, change) = plan::drop_entry(catalog, entry, self.clock().now_millis());
            Arc::make_mut(&mut next.properties).remove(&property(table));
            retire_lost_grants(catalog, &mut next, self.clock().key_wall_millis());
            let told = self.event_of(entry, &told).ok_or(UNTOLD)?;
            // what comes next is the end of the snapshot
            let expires = self.clock().key_wall_millis().saturating_add(keep_millis);
            self.record_event(&mut next, NewEvent { deadline_millis: Some(expires), ..told });
            event = Some(change);
            Ok(*next)
        });
        match updated {
            Ok(_) => {}
            Err(EngineError::Refused(why)) => {
                tracing::warn!(%table, %snapshot, why = %why, "snapshot does not do for the drop");
                return Ok(Ended::SnapshotRefused(why));
            }
            Err(error) => return Err(error.into()),
        }
        self.key_monitor().tables.lock().remove(&table);
        {
            let _one_at_a_time = self.key_installs().lock();
            self.keyring().forget(&table.0);
            self.key_healths().forget(&table.0);
        }
        if let Err(error) = self.refresh_schema() {
            tracing::error!(%table, %error, "a table was dropped that is still shown");
        }
        let event = event.ok_or_else(|| Error::Server("no table was dropped".to_owned()))?;
        Ok(Ended::Dropped(event))
    }

    /// Inside the publication of the drop: nothing changes between this and the end of the table. Never
    /// `Refused`, which is about the snapshot.
    fn check_decided(&self, entry: &TableEntry, decided: &Decided) -> Result<(), EngineError> {
        let id = entry.schema.id;
        if self.policy_of_entry(entry).delete_after_millis != decided.delete_after_millis {
            return Err(EngineError::Overloaded("a drop whose policy was changed meanwhile"));
        }
        if entry.key.kms_key_arn.as_deref() != Some(&*decided.key_arn) {
            return Err(EngineError::Overloaded("a drop whose key was changed meanwhile"));
        }
        if self.key_monitor().was_used(id) || self.keyring().is_usable(&id.0) {
            return Err(EngineError::Overloaded("a drop whose key came back meanwhile"));
        }
        Ok(())
    }

    pub(super) fn with_watched(&self, table: TableId, change: impl FnOnce(&mut super::Watched)) {
        if let Some(watched) = self.key_monitor().tables.lock().get_mut(&table) {
            change(watched);
        }
    }
}

const UNTOLD: EngineError = EngineError::Overloaded("a drop that nobody could be told of");

const fn is_slow(due: Due) -> bool {
    matches!(due, Due::Verify(_))
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
