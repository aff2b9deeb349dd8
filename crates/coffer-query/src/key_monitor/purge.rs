//! The end of what was kept: snapshots whose time is over are erased, and what that destroyed is told.

use std::sync::Arc;

use coffer_storage::{Erased, SnapshotId, SnapshotKind, SnapshotRecord};
use serde_json::json;

use crate::database::Database;
use crate::events::{self, EventKind, NewEvent};
use crate::schema_audit::SchemaAuditEvent;

/// Pause between two looks.
const INTERVAL_MILLIS: i64 = 2_000;

/// When was looked last, on the clock of key ages.
#[derive(Debug, Default)]
pub(super) struct Purge {
    looked_at: Option<i64>,
}

impl Database {
    /// Erases what is expired, and snapshots of losses that are over.
    pub(super) fn purge_expired(&self) {
        let now = self.clock().key_now_millis();
        {
            let mut purge = self.key_monitor().purge.lock();
            let is_due = purge.looked_at.is_none_or(|at| now.saturating_sub(at) >= INTERVAL_MILLIS);
            if !is_due {
                return;
            }
            purge.looked_at = Some(now);
        }
        self.forget_dropped();
        for id in self.engine().expired_snapshots() {
            let Some(snapshot) = self.engine().catalog().snapshots.get(&id).cloned() else {
                continue;
            };
            match self.engine().erase_snapshot(id) {
                Ok(erased) => self.tell_purged(&snapshot, &erased),
                Err(error) => {
                    tracing::error!(snapshot = %id, %error, "expired snapshot stays, trying again");
                }
            }
        }
        for id in self.needless_snapshots() {
            match self.engine().erase_snapshot(id) {
                Ok(_) => {
                    tracing::info!(snapshot = %id, "key is back, its table's snapshot is erased")
                }
                Err(error) => {
                    tracing::warn!(snapshot = %id, %error, "needless snapshot stays, trying again");
                }
            }
        }
    }

    /// Removes the states of tables that a client dropped.
    fn forget_dropped(&self) {
        if super::gone(&self.engine().catalog()).is_empty() {
            return;
        }
        let removed = self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            super::forget_gone(&mut next);
            Ok(next)
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "states of keys of dropped tables stay, trying again");
        }
    }

    /// Snapshots for the drop of tables that are there and whose loss is another one, or over.
    fn needless_snapshots(&self) -> Vec<SnapshotId> {
        let catalog = self.engine().catalog();
        let tables = self.key_monitor().tables.lock();
        let is_needless = |snapshot: &SnapshotRecord| {
            let table = snapshot.schema.id;
            if snapshot.kind != SnapshotKind::KeyLoss || !catalog.tables.contains_key(&table) {
                return false;
            }
            let series = tables.get(&table).and_then(|watched| watched.health.series.as_ref());
            let incident = series.map(|series| uuid::Uuid::from_bytes(series.incident));
            incident.map(|incident| incident.to_string()).as_deref() != Some(&*snapshot.name)
        };
        let needless = catalog.snapshots.values().filter(|snapshot| is_needless(snapshot));
        needless.map(|snapshot| snapshot.id).collect()
    }

    /// The certificate goes to the audit log and to `system_coffer.events`.
    fn tell_purged(&self, snapshot: &Arc<SnapshotRecord>, erased: &Erased) {
        let certificate = certificate(snapshot, erased);
        if let Some(audit) = &self.options().schema_audit {
            audit.record(&SchemaAuditEvent {
                name: "PurgeSnapshot",
                user: None,
                client: None,
                statement: certificate.clone(),
                keyspace: erased.keyspace.clone(),
                table: Some(erased.name.clone()),
                key_arn: snapshot.key_arn.clone(),
                error: None,
                at_millis: self.clock().now_millis(),
            });
        }
        let Ok(incident) = events::new_incident() else { return };
        let event = NewEvent {
            kind: EventKind::Purged,
            keyspace: erased.keyspace.clone(),
            table: erased.name.clone(),
            key_arn: snapshot.key_arn.clone(),
            state: "PURGED".to_owned(),
            since_millis: None,
            deadline_millis: None,
            incident,
            todo: "Nothing. What was erased cannot be restored from this server.".to_owned(),
            detail: certificate,
        };
        let recorded = self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            self.record_event(&mut next, event.clone());
            Ok(next)
        });
        if let Err(error) = recorded {
            tracing::error!(snapshot = %snapshot.id, %error, "an erased snapshot is not told of");
        }
    }
}

/// What was destroyed, as JSON.
fn certificate(snapshot: &Arc<SnapshotRecord>, erased: &Erased) -> String {
    let keys: Vec<String> = erased.destroyed_table_keys.iter().map(ToString::to_string).collect();
    let files: Vec<_> = erased
        .unlinked
        .iter()
        .map(|(path, bytes, sha256)| {
            let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"file": path, "bytes": bytes, "sha256": sha256})
        })
        .collect();
    let remaining: Vec<String> =
        erased.remaining_snapshots.iter().map(ToString::to_string).collect();
    json!({
        "snapshot": snapshot.id.to_string(),
        "table_id": erased.table.to_string(),
        "kind": snapshot.kind.as_str(),
        "destroyed_table_keys": keys,
        "unlinked": files,
        "left": erased.left,
        "remaining_snapshots": remaining,
        "has_archive": erased.has_archive,
        "beyond": "copies that flash or copy-on-write media keep, and older backups",
    })
    .to_string()
}
