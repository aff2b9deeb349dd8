//! What happens to keys by itself when its date has come: deletion, expiry, rotation.

use crate::{
    KmsException,
    audit::{AuditEvent, ServiceEvent},
    operations,
    state::{Change, Key, State},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The changes that have become due.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) changes: Vec<Change>,
    /// Some of them destroy key material.
    pub(crate) destroys: bool,
    /// What the audit log is to say of them.
    pub(crate) events: Vec<AuditEvent>,
}

impl Due {
    /// # Errors
    /// `KMSInternalException` when there is no randomness for new material.
    pub(crate) fn of(state: &State, now_millis: i64) -> Result<Self, KmsException> {
        let mut due = Self::default();
        for key in state.keys.values() {
            if key.is_gone(now_millis) {
                tracing::info!(key = key.arn, "key deleted");
                due.changes.push(Change::KeyDeleted(key.id().to_owned()));
                due.destroys = true;
                due.add("DeleteKey", key, Map::new());
            } else if key.materials.iter().any(|material| material.is_expired(now_millis)) {
                let mut next = Key::clone(key);
                let expired = next.materials.iter_mut().filter(|it| it.is_expired(now_millis));
                expired.for_each(operations::forget);
                due.changes.push(Change::Key(Arc::new(next)));
                due.destroys = true;
                due.add("DeleteImportedKeyMaterial", key, Map::new());
            } else if let Some(rotated) = operations::rotate_due(key, now_millis) {
                let rotated = rotated?;
                let id = |key: &Key| json!(key.current_material().map(|it| it.id.as_str()));
                let details = json!({
                    "rotationType": "AUTOMATIC",
                    "keyOrigin": key.origin.as_str(),
                    "previousKeyMaterialId": id(key),
                    "currentKeyMaterialId": id(&rotated),
                    "keyId": key.arn,
                });
                due.add("RotateKey", key, members(details));
                due.changes.push(Change::Key(Arc::new(rotated)));
            }
        }
        Ok(due)
    }

    fn add(&mut self, name: &str, key: &Key, details: Map<String, Value>) {
        let (account, key_arn) = (key.account(), key.arn.as_str());
        self.events.push(ServiceEvent { name, account, key_arn, details }.into());
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
