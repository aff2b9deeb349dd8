//! What the last answers of the KMS were for each table, since the start.

use std::collections::HashMap;

use coffer_crypto::clock::Clock;
use coffer_keys::{KeyError, KeyState};
use parking_lot::Mutex;

/// What is known of one table's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyHealth {
    /// Since when every answer was a definitive refusal, milliseconds since 1970.
    pub inaccessible_since: Option<i64>,
    /// When the key could last be used, milliseconds since 1970.
    pub last_success: Option<i64>,
    /// When it last could not, milliseconds since 1970.
    pub last_failure: Option<i64>,
    /// Reaction class of the last failure: `definitive`, `transient`, `integrity`, `configuration`,
    /// `credentials`, `ambiguous`.
    pub last_error_class: Option<&'static str>,
    /// Text of the last failure; names table, key and the KMS's answer.
    pub last_error: Option<String>,
    /// State of the KMS key as the last answer implies it.
    pub kms_state: Option<&'static str>,
}

/// By table id.
#[derive(Debug, Default)]
pub(crate) struct KeyHealths {
    tables: Mutex<HashMap<[u8; 16], KeyHealth>>,
}

impl KeyHealths {
    /// What is known of a table's key; nothing before its first use.
    pub(crate) fn of(&self, table: &[u8; 16]) -> KeyHealth {
        self.tables.lock().get(table).cloned().unwrap_or_default()
    }

    /// Notes that the key could be used.
    pub(crate) fn succeeded(&self, table: [u8; 16], clock: &dyn Clock) {
        let mut tables = self.tables.lock();
        let health = tables.entry(table).or_default();
        health.inaccessible_since = None;
        health.last_success = Some(clock.now_millis());
        health.kms_state = Some("Enabled");
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, table: [u8; 16], error: &KeyError, clock: &dyn Clock) {
        let mut tables = self.tables.lock();
        let health = tables.entry(table).or_default();
        health.last_failure = Some(clock.now_millis());
        health.last_error = Some(error.to_string());
        health.last_error_class = Some(error.class().as_str());
        if let KeyError::Definitive(refusal) = error {
            health.inaccessible_since.get_or_insert_with(|| clock.now_millis());
            health.kms_state = kms_state(refusal.error.name(), refusal.error.message());
        }
    }

    /// Notes what a probe found. What clients meet is left as it is, but for a key that works again.
    pub(crate) fn probed(
        &self,
        table: [u8; 16],
        error: Option<&KeyError>,
        state: Option<KeyState>,
        clock: &dyn Clock,
    ) {
        let mut tables = self.tables.lock();
        let health = tables.entry(table).or_default();
        match error {
            None => {
                health.inaccessible_since = None;
                health.last_success = Some(clock.now_millis());
            }
            Some(error) => {
                health.last_failure = Some(clock.now_millis());
                health.last_error = Some(error.to_string());
                health.last_error_class = Some(error.class().as_str());
                if let KeyError::Definitive(refusal) = error {
                    health.kms_state = kms_state(refusal.error.name(), refusal.error.message());
                }
            }
        }
        health.kms_state = state.map(state_name).or(health.kms_state);
    }

    /// Forgets a dropped table.
    pub(crate) fn forget(&self, table: &[u8; 16]) {
        self.tables.lock().remove(table);
    }
}

fn state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Enabled => "Enabled",
        KeyState::Disabled => "Disabled",
        KeyState::PendingDeletion => "PendingDeletion",
        KeyState::PendingImport => "PendingImport",
        KeyState::Unavailable => "Unavailable",
        KeyState::Creating => "Creating",
        KeyState::Updating => "Updating",
    }
}

fn kms_state(name: &str, message: &str) -> Option<&'static str> {
    match name {
        "DisabledException" => Some("Disabled"),
        "KMSInvalidStateException" if message.contains("pending deletion") => {
            Some("PendingDeletion")
        }
        "KMSInvalidStateException" if message.contains("pending import") => Some("PendingImport"),
        "NotFoundException" => Some("NotFound"),
        _ => None,
    }
}
