//! How far the audit logs go, in the sealed catalog: a log that ends before is not whole.
//!
//! The catalog may be behind the logs, after a crash for instance, and never ahead of what is on disk.

use std::sync::Arc;
use std::time::Duration;

use coffer_keys::EmbeddedKms;
use coffer_kms::audit::{AuditLog, AuditPosition};
use coffer_storage::{Catalog, Engine};
use parking_lot::Mutex;

use crate::schema_log::SchemaLog;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// Each so many looks the catalog follows the log of the KMS alone, which grows with each use of a key.
const LOOKS_FOR_KMS: u32 = 120;

/// An audit log of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditedLog {
    /// `DIR/kms/audit`.
    Kms,
    /// `DIR/audit`.
    Database,
}

impl AuditedLog {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Database => "database",
        }
    }

    const fn property(self) -> &'static str {
        match self {
            Self::Kms => "audit_anchor/kms",
            Self::Database => "audit_anchor/database",
        }
    }

    /// The last record that the catalog knows of it; `None` when it knows none.
    pub(crate) fn anchor(self, catalog: &Catalog) -> Option<AuditPosition> {
        catalog.properties.get(self.property())?.parse().ok()
    }
}

/// The logs of a server, and its catalog.
pub(crate) struct AuditAnchors {
    engine: Arc<Engine>,
    schema_log: Arc<SchemaLog>,
    kms: Arc<EmbeddedKms>,
    /// Logs that could not be looked at yet: until then the catalog keeps what it says of them.
    unseen: Mutex<Vec<AuditedLog>>,
}

impl AuditAnchors {
    /// Looks whether the logs are as long as the catalog says; one that is not has a record of it from
    /// then on.
    pub(crate) fn start(
        engine: Arc<Engine>,
        schema_log: Arc<SchemaLog>,
        kms: Arc<EmbeddedKms>,
    ) -> Arc<Self> {
        let unseen = Mutex::new(vec![AuditedLog::Kms, AuditedLog::Database]);
        let anchors = Self { engine, schema_log, kms, unseen };
        anchors.look_at_unseen();
        Arc::new(anchors)
    }

    fn look_at_unseen(&self) {
        let catalog = self.engine.catalog();
        self.unseen.lock().retain(|unseen| {
            let Some(anchor) = unseen.anchor(&catalog) else { return false };
            let log = self.logs().into_iter().find(|(which, _)| which == unseen);
            let looked = log.map_or(Ok(()), |(_, log)| log.expect(anchor).map(drop));
            if let Err(error) = &looked {
                tracing::error!(%error, log = unseen.as_str(), "audit log cannot be looked at, trying again");
            }
            looked.is_err()
        });
    }

    fn logs(&self) -> [(AuditedLog, &AuditLog); 2] {
        [
            (AuditedLog::Kms, self.kms.kms().audit_log()),
            (AuditedLog::Database, self.schema_log.log()),
        ]
    }

    /// Keeps the catalog up with the logs, for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut looks = 0_u32;
        loop {
            tokio::time::sleep(PAUSE).await;
            looks = looks.wrapping_add(1);
            let anchors = Arc::clone(&self);
            let follows_kms = looks.is_multiple_of(LOOKS_FOR_KMS);
            let done = tokio::task::spawn_blocking(move || anchors.follow(follows_kms));
            if done.await.is_err() {
                tracing::error!("the ends of the audit logs are not in the catalog, trying again");
            }
        }
    }

    fn follow(&self, follows_kms: bool) {
        if !self.unseen.lock().is_empty() {
            self.look_at_unseen();
        }
        let catalog = self.engine.catalog();
        let is_due = self.logs().into_iter().any(|(which, log)| {
            let (now, known) = (log.position(), which.anchor(&catalog));
            let has_new_file = now.map(|now| now.file) != known.map(|known| known.file);
            now != known && (follows_kms || which == AuditedLog::Database || has_new_file)
        });
        if is_due {
            self.publish();
        }
    }

    /// Puts the ends of the logs into the catalog, all records so far included.
    pub(crate) fn finish(&self) {
        for (which, log) in self.logs() {
            if let Err(error) = log.flush() {
                tracing::error!(%error, log = which.as_str(), "audit log is not complete");
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let unseen = self.unseen.lock().clone();
        let anchors = self.logs().map(|(which, log)| {
            let position = log.position().filter(|_| !unseen.contains(&which));
            (which.property(), position.map(|at| at.to_string()))
        });
        let catalog = self.engine.catalog();
        let is_known = |(name, text): &(&str, Option<String>)| {
            text.as_ref().is_none_or(|text| catalog.properties.get(*name) == Some(text))
        };
        if anchors.iter().all(is_known) {
            return;
        }
        let published = self.engine.update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            let properties = Arc::make_mut(&mut next.properties);
            for (name, text) in &anchors {
                if let Some(text) = text {
                    properties.insert((*name).to_owned(), text.clone());
                }
            }
            Ok(next)
        });
        if let Err(error) = published {
            tracing::warn!(%error, "the ends of the audit logs are not in the catalog, trying again");
        }
    }
}
