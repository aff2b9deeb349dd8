//! The end of what was kept: snapshots whose time is over are erased, and what that destroyed is told.
//!
//! The certificate of an erase stands in the catalog that is published without what was erased, until it
//! is in the audit log: a crash between the two loses none.

use std::sync::Arc;

use coffer_model::TableId;
use coffer_storage::{Catalog, Erased, SnapshotId, SnapshotKind, SnapshotRecord};
use serde_json::Value;

use super::certificate::{Cause, Certificate};
use crate::database::Database;
use crate::error::Result;
use crate::events::{self, EventKind, NewEvent};
use crate::execute::restore::backup::forget_exports_of;
use crate::schema_audit::SchemaAuditEvent;

/// Pause between two looks.
const INTERVAL_MILLIS: i64 = 2_000;

/// What the catalog property of a certificate that is not in the audit log yet begins with.
const UNAUDITED: &str = "purged/";

/// Pause between two tries to have the audit log know what it does not.
const AUDIT_INTERVAL_MILLIS: i64 = 60_000;

/// When was looked last, on the clock of key ages.
#[derive(Debug, Default)]
pub(super) struct Purge {
    looked_at: Option<i64>,
    audited_at: Option<i64>,
}

impl Database {
    /// Erases what is expired, and snapshots of losses that are over.
    pub(super) fn purge_expired(&self) {
        let now = self.clock().key_now_millis();
        let is_audit_due = {
            let mut purge = self.key_monitor().purge.lock();
            let is_due =
                |at: Option<i64>, pause| at.is_none_or(|at| now.saturating_sub(at) >= pause);
            if !is_due(purge.looked_at, INTERVAL_MILLIS) {
                return;
            }
            purge.looked_at = Some(now);
            let is_audit_due = is_due(purge.audited_at, AUDIT_INTERVAL_MILLIS);
            if is_audit_due {
                purge.audited_at = Some(now);
            }
            is_audit_due
        };
        if is_audit_due {
            self.audit_left();
        }
        self.forget_dropped();
        for id in self.engine().expired_snapshots() {
            if let Err(error) = self.erase_certified(id, Cause::Expired) {
                tracing::error!(snapshot = %id, %error, "expired snapshot stays, trying again");
            }
        }
        for id in self.needless_snapshots() {
            match self.erase_needless_snapshot(id) {
                Ok(()) => {
                    tracing::info!(snapshot = %id, "key is back, its table's snapshot is erased");
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

    /// Erases a snapshot because an operator says so; what that destroyed is in `system_coffer.events`
    /// and in the audit log, and returned. Blocks.
    ///
    /// # Errors
    /// When there is no such snapshot, when it belongs to the history of a table, or the catalog cannot be
    /// written; then it is still there.
    pub fn erase_snapshot(&self, id: SnapshotId) -> Result<Value> {
        self.erase_certified(id, Cause::Operator)
    }

    /// Erases a snapshot that the server made for a purpose of its own and that is over. It is told as
    /// the others are where it destroyed keys of a table that is not there any more: one that was dropped
    /// meanwhile. Blocks.
    ///
    /// # Errors
    /// As [`Self::erase_snapshot`].
    pub fn erase_needless_snapshot(&self, id: SnapshotId) -> Result<()> {
        let _one_at_a_time = self.key_monitor().erasing.lock();
        let cause = Cause::Needless;
        let erased = self.engine().erase_snapshot_with(id, &mut |catalog, erased| {
            if has_ended(erased) {
                self.record_purged(catalog, erased, cause);
            } else {
                let now = self.clock().key_wall_millis();
                forget_exports_of(catalog, &erased.snapshots, now);
            }
        })?;
        if has_ended(&erased) {
            self.audit_purged(&erased, cause);
        }
        Ok(())
    }

    fn erase_certified(&self, id: SnapshotId, cause: Cause) -> Result<Value> {
        let _one_at_a_time = self.key_monitor().erasing.lock();
        let erased = self.engine().erase_snapshot_with(id, &mut |catalog, erased| {
            self.record_purged(catalog, erased, cause);
        })?;
        Ok(self.audit_purged(&erased, cause))
    }

    /// Ends the history of a table; it is told as the end of a snapshot is.
    ///
    /// # Errors
    /// When the catalog cannot be written; then it is still there.
    pub(crate) fn erase_history(&self, table: TableId) -> Result<()> {
        let _one_at_a_time = self.key_monitor().erasing.lock();
        let cause = Cause::HistoryDisabled;
        let erased = self.engine().stop_archive_with(table, &mut |catalog, erased| {
            if erased.was_archive_erased {
                self.record_purged(catalog, erased, cause);
            }
        })?;
        if erased.was_archive_erased {
            self.audit_purged(&erased, cause);
        }
        Ok(())
    }

    /// Moves the window of histories on; that one ended is told, not that one is shortened as ever.
    ///
    /// # Errors
    /// The first failure; the other tables had their turn.
    pub(crate) fn shorten_histories(&self, window_millis: i64) -> Result<()> {
        let _one_at_a_time = self.key_monitor().erasing.lock();
        let cause = Cause::Expired;
        let told = &mut |catalog: &mut Catalog, erased: &Erased| {
            if erased.was_archive_erased {
                self.record_purged(catalog, erased, cause);
            }
        };
        let (all, kept_up) = self.engine().keep_up_archives_with(window_millis, told);
        for erased in all.iter().filter(|erased| erased.was_archive_erased) {
            self.audit_purged(erased, cause);
        }
        Ok(kept_up?)
    }

    /// Adds the event and the certificate to the catalog without what is erased.
    fn record_purged(&self, next: &mut Catalog, erased: &Erased, cause: Cause) {
        let at_millis = self.clock().key_wall_millis();
        forget_exports_of(next, &erased.snapshots, at_millis);
        let certificate = Certificate { erased, cause, at_millis };
        if self.options().schema_audit.is_some() {
            let properties = Arc::make_mut(&mut next.properties);
            properties.insert(unaudited(erased), certificate.for_audit().to_string());
        }
        match events::new_incident() {
            Ok(incident) => {
                let event = NewEvent {
                    kind: EventKind::Purged,
                    keyspace: erased.keyspace.clone(),
                    table: erased.name.clone(),
                    key_arn: erased.key_arn.clone(),
                    state: certificate.state().to_owned(),
                    since_millis: None,
                    deadline_millis: None,
                    incident,
                    todo: "Nothing. What was erased cannot be restored from this server."
                        .to_owned(),
                    detail: certificate.short().to_string(),
                };
                self.record_event(next, event);
            }
            Err(error) => tracing::error!(%error, "an erase is not in the events"),
        }
    }

    fn audit_purged(&self, erased: &Erased, cause: Cause) -> Value {
        let at_millis = self.clock().key_wall_millis();
        let certificate = Certificate { erased, cause, at_millis };
        if self.options().schema_audit.is_some() && self.audit(&certificate.for_audit()) {
            self.forget_unaudited(&[unaudited(erased)]);
        }
        certificate.whole()
    }

    /// Has the audit log know the certificates that a crash or a full disk kept out of it.
    fn audit_left(&self) {
        // one that is at it just now has its own in the catalog too
        let Some(_one_at_a_time) = self.key_monitor().erasing.try_lock() else { return };
        let catalog = self.engine().catalog();
        let left = catalog.properties.iter().filter(|(name, _)| name.starts_with(UNAUDITED));
        let mut names = Vec::new();
        for (name, text) in left {
            let is_done = match serde_json::from_str(text) {
                Ok(certificate) => self.audit(&certificate),
                Err(error) => {
                    tracing::error!(name, %error, "a certificate does not decode");
                    true
                }
            };
            if is_done {
                names.push(name.clone());
            }
        }
        if !names.is_empty() {
            self.forget_unaudited(&names);
        }
    }

    /// Whether it is in the audit log now.
    fn audit(&self, certificate: &Value) -> bool {
        let Some(audit) = &self.options().schema_audit else { return true };
        let text = |field: &str| certificate[field].as_str().map(str::to_owned);
        audit.record(&SchemaAuditEvent {
            name: "PurgeSnapshot",
            user: None,
            client: None,
            statement: certificate.to_string(),
            keyspace: text("keyspace").unwrap_or_default(),
            table: text("table"),
            key_arn: text("key_arn"),
            parameters: serde_json::Map::new(),
            error: None,
            at_millis: self.clock().now_millis(),
        })
    }

    fn forget_unaudited(&self, names: &[String]) {
        let removed = self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            let properties = Arc::make_mut(&mut next.properties);
            names.iter().for_each(|name| drop(properties.remove(name)));
            Ok(next)
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "a certificate is in the audit log once more after the next start");
        }
    }
}

/// Name of the catalog property of a certificate: a snapshot is erased once, and so is the history of
/// which it is part.
fn unaudited(erased: &Erased) -> String {
    let first = erased.snapshots.first().map_or_else(String::new, |id| format!("/{id}"));
    format!("{UNAUDITED}{}{first}", erased.table)
}

/// Whether keys of a table that is not there any more went.
const fn has_ended(erased: &Erased) -> bool {
    let has_left = !erased.destroyed_table_keys.is_empty() || !erased.still_held.is_empty();
    has_left && !erased.is_live
}
