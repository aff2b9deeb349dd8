//! Reads the snapshot of a loss whole, beside the passes: that may take hours, and meanwhile the keys of
//! all tables are watched.

use std::sync::Arc;
use std::time::Duration;

use coffer_health::Due;
use coffer_model::TableId;
use coffer_storage::{Error as EngineError, SnapshotId};
use tokio::task::JoinHandle;

use super::watched::Untold;
use crate::database::Database;
use crate::events::EventKind;

/// How long a pass waits for a reading that it began: most tables are read by then.
const PATIENCE: Duration = Duration::from_millis(500);
/// What is not whole is read again after the time that reading took, times this.
const REST: i64 = 10;

/// A snapshot that is read; one at a time.
#[derive(Debug)]
pub(super) struct Reading {
    table: TableId,
    snapshot: SnapshotId,
    /// On the monotonic clock.
    begun_millis: i64,
    task: JoinHandle<Result<(), EngineError>>,
}

impl Database {
    /// Begins to read a snapshot, unless one is being read. True when it is read already, and there may
    /// be more to do.
    pub(super) async fn begin_reading(&self, table: TableId, snapshot: SnapshotId) -> bool {
        if self.key_monitor().reading.lock().is_some() {
            return false;
        }
        let engine = Arc::clone(self.engine());
        let begun_millis = self.clock().monotonic_millis();
        let task = tokio::task::spawn_blocking(move || engine.verify_snapshot(snapshot).map(drop));
        self.await_reading(Reading { table, snapshot, begun_millis, task }, PATIENCE).await
    }

    /// Takes in what was found by a reading that an earlier pass began. True when it has ended, and there
    /// may be more to do.
    pub(super) async fn end_reading(&self) -> bool {
        let reading = self.key_monitor().reading.lock().take();
        match reading {
            Some(reading) => self.await_reading(reading, Duration::ZERO).await,
            None => false,
        }
    }

    async fn await_reading(&self, mut reading: Reading, patience: Duration) -> bool {
        let Ok(found) = tokio::time::timeout(patience, &mut reading.task).await else {
            *self.key_monitor().reading.lock() = Some(reading);
            return false;
        };
        let (table, snapshot) = (reading.table, reading.snapshot);
        // the key may have come back meanwhile, or the policy be another
        let is_wanted = |decided: super::loss::Decided| decided.due == Due::Verify(snapshot.0);
        if !self.decide(table).is_some_and(is_wanted) {
            return true;
        }
        let panicked = || EngineError::Internal("reading a snapshot ended in a panic".to_owned());
        match found.unwrap_or_else(|_| Err(panicked())) {
            Ok(()) => self.found_whole(table, snapshot),
            // it was erased meanwhile: another one is taken
            Err(_) if !self.engine().catalog().snapshots.contains_key(&snapshot) => {
                self.with_watched(table, |watched| watched.health.snapshot_gone());
            }
            Err(error) => {
                // the next try takes another one: never two are left
                if let Err(error) = self.erase_needless_snapshot(snapshot) {
                    tracing::warn!(%table, %error, "a snapshot that is not whole stays");
                }
                self.blocked(table, EventKind::DropBlocked, &error);
                let took = self.clock().monotonic_millis().saturating_sub(reading.begun_millis);
                let rested = self.clock().key_now_millis().saturating_add(took * REST);
                self.with_watched(table, |watched| {
                    watched.retry_at = watched.retry_at.max(rested);
                });
            }
        }
        true
    }

    fn found_whole(&self, table: TableId, snapshot: SnapshotId) {
        let now = self.clock().key_now_millis();
        let Some(moment) = self.moment(now) else { return };
        let detail = format!("snapshot {snapshot}: every file is as the catalog says");
        self.with_watched(table, |watched| {
            watched.next_probe = now;
            if watched.health.snapshot_verified(&moment) {
                watched.untold.push(Untold::new(EventKind::SnapshotTaken, detail));
            }
        });
    }
}
