//! What is shown and told of a table's key.

use coffer_health::State;
use coffer_model::TableId;
use coffer_storage::TableEntry;

use super::watched::Untold;
use crate::database::Database;
use crate::events::{self, EventKind, NewEvent};
use crate::execute::schema_change::is_customer_managed;

/// The condition of a table's key. Times are milliseconds since 1970, wall clock of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyCondition {
    /// `ACCESSIBLE`, `SUSPECT`, `INACCESSIBLE`, `UNREACHABLE`, or `UNKNOWN` before the first answer
    /// since the start.
    pub state: &'static str,
    /// When the KMS first refused the key, of the refusals that are not over.
    pub inaccessible_since: Option<i64>,
    /// When the table may be dropped.
    pub deadline: Option<i64>,
    /// Milliseconds until then, as far as is sure.
    pub millis_left: Option<i64>,
    /// Since when there is no clear answer.
    pub unreachable_since: Option<i64>,
    /// Id of the loss.
    pub incident: Option<String>,
    /// Id of the snapshot that was taken for it.
    pub snapshot: Option<String>,
    /// How long a lost key is waited for, as in `key_loss`.
    pub delete_after: String,
    /// When the KMS deletes the key, where it tells that.
    pub kms_deletion_date: Option<i64>,
}

impl Database {
    /// The condition of a table's key.
    #[must_use]
    pub fn key_condition(&self, entry: &TableEntry) -> KeyCondition {
        let id = entry.schema.id;
        if !is_customer_managed(entry) {
            return KeyCondition { state: State::Accessible.as_str(), ..KeyCondition::default() };
        }
        let health = self.key_healths().of(&id.0);
        let policy = self.policy_of(id).unwrap_or_default();
        let mut condition = KeyCondition {
            inaccessible_since: health.inaccessible_since,
            delete_after: delete_after_text(policy.delete_after_millis),
            ..KeyCondition::default()
        };
        let mut is_seen = health.last_success.is_some();
        let mut state = State::Accessible;
        let mut is_outage_told = false;
        {
            let tables = self.key_monitor().tables.lock();
            if let Some(watched) = tables.get(&id) {
                state = watched.health.state();
                is_seen |= watched.is_known;
                condition.kms_deletion_date = watched.deletion_millis;
                if let Some(outage) = &watched.health.outage {
                    condition.unreachable_since = Some(outage.since_wall_millis);
                    is_outage_told = outage.is_told;
                }
                if let Some(series) = &watched.health.series {
                    condition.inaccessible_since = Some(series.first_wall_millis);
                    condition.incident = Some(uuid(series.incident));
                    condition.snapshot = series.snapshot.map(|found| hex_text(found.id));
                    condition.millis_left = series
                        .deadline_age()
                        .map(|deadline| deadline.saturating_sub(self.engine().age_millis()));
                }
            }
        }
        let now = self.clock().key_wall_millis();
        condition.deadline = condition.millis_left.map(|left| now.saturating_add(left));
        condition.state = match state {
            State::Inaccessible => state.as_str(),
            _ if self.keyring().is_usable(&id.0) && !is_outage_told => State::Accessible.as_str(),
            // clients were refused, whether confirmed or not
            _ if health.inaccessible_since.is_some() => State::Inaccessible.as_str(),
            State::Accessible if !is_seen => "UNKNOWN",
            other => other.as_str(),
        };
        condition
    }

    /// What is told about a table.
    pub(super) fn event_of(&self, entry: &TableEntry, untold: &Untold) -> Option<NewEvent> {
        let condition = self.key_condition(entry);
        let incident = match untold.incident.map_or_else(events::new_incident, Ok) {
            Ok(incident) => incident,
            Err(error) => {
                tracing::error!(%error, event = untold.kind.as_str(), "an event is not recorded");
                return None;
            }
        };
        let detail = if untold.detail.is_empty() {
            self.last_answer(entry.schema.id)
        } else {
            untold.detail.clone()
        };
        let detail = match untold.days_left {
            Some(1) => format!("1 day left; {detail}"),
            Some(days) => format!("{days} days left; {detail}"),
            None => detail,
        };
        let is_outage = untold.kind == EventKind::Unreachable;
        let state = match untold.kind {
            EventKind::Dropped => "DROPPED",
            _ => condition.state,
        };
        Some(NewEvent {
            kind: untold.kind,
            keyspace: entry.schema.keyspace.clone(),
            table: entry.schema.name.clone(),
            key_arn: entry.key.kms_key_arn.clone(),
            state: state.to_owned(),
            since_millis: if is_outage {
                condition.unreachable_since
            } else {
                condition.inaccessible_since
            },
            deadline_millis: condition.deadline,
            incident,
            todo: todo(untold.kind, condition.deadline.is_some()).to_owned(),
            detail,
        })
    }

    fn last_answer(&self, table: TableId) -> String {
        let tables = self.key_monitor().tables.lock();
        tables.get(&table).map(|watched| watched.detail.clone()).unwrap_or_default()
    }
}

fn todo(kind: EventKind, has_deadline: bool) -> &'static str {
    match kind {
        EventKind::KeyLost | EventKind::Reminder if has_deadline => {
            "Give Coffer its key back before the deadline: enable it, cancel its deletion, import its \
             material again, or restore the policy or grant. The table works again by itself. At the \
             deadline a snapshot is taken and the table is dropped."
        }
        EventKind::KeyLost | EventKind::Reminder => {
            "Give Coffer its key back: enable it, cancel its deletion, import its material again, or \
             restore the policy or grant. The table works again by itself, and is never dropped."
        }
        EventKind::Unreachable => {
            "Look at the KMS, the network and Coffer's credentials. The table is not dropped for this."
        }
        EventKind::Dropped => "Get the key back and run RESTORE TABLE before the snapshot expires.",
        EventKind::SnapshotFailed | EventKind::DropBlocked => {
            "Nothing is dropped until a snapshot can be taken and verified: look at the disk and at \
             the file that is named, and restore it from a backup; it is tried again by itself."
        }
        _ => "Nothing.",
    }
}

/// As `key_loss` says it.
fn delete_after_text(millis: Option<i64>) -> String {
    match millis {
        None => "never".to_owned(),
        Some(millis) if millis % coffer_health::DAY_MILLIS == 0 => {
            format!("{}d", millis / coffer_health::DAY_MILLIS)
        }
        Some(millis) => format!("{}h", millis / coffer_health::HOUR_MILLIS),
    }
}

fn uuid(bytes: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(bytes).to_string()
}

fn hex_text(bytes: [u8; 16]) -> String {
    coffer_storage::SnapshotId(bytes).to_string()
}
