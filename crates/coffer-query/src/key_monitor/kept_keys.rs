//! Whether what is kept of dropped tables could be restored: nobody else asks for their KMS keys.

use std::collections::{HashMap, HashSet};

use coffer_crypto::KeyRecord;

use super::jittered;
use crate::database::Database;

/// What the KMS said last of the keys of dropped tables.
#[derive(Debug, Default)]
pub(super) struct KeptKeys {
    /// On the clock of key ages; a start asks nothing.
    next_look: Option<i64>,
    /// By ARN, whether it can be used.
    usable: HashMap<String, bool>,
}

impl Database {
    /// Asks about the KMS keys of dropped tables, as often as about those of tables that are there.
    pub(super) async fn ask_about_kept_keys(&self) {
        let now = self.clock().key_now_millis();
        let next = now.saturating_add(jittered(self.options().key_health.probe_interval_millis));
        {
            let mut kept = self.key_monitor().kept_keys.lock();
            if now < *kept.next_look.get_or_insert(next) {
                return;
            }
            kept.next_look = Some(next);
        }
        let catalog = self.engine().catalog();
        let keys = catalog.dropped.values().filter_map(|dropped| dropped.key.kms_key_arn.clone());
        let arns: HashSet<String> = keys.collect();
        let usable =
            if arns.is_empty() { HashMap::new() } else { self.keyring().usable(arns).await };
        self.key_monitor().kept_keys.lock().usable = usable;
    }

    /// Whether a dropped table's last key can be used, as its KMS said last; `None` when that is not
    /// known.
    pub(crate) fn is_kept_key_usable(&self, key: &KeyRecord) -> Option<bool> {
        match &key.kms_key_arn {
            None => Some(true),
            Some(arn) => self.key_monitor().kept_keys.lock().usable.get(arn).copied(),
        }
    }
}
