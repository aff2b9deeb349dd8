//! What happened to the keys of tables, kept in the sealed catalog: `system_coffer.events`, and what
//! is still to be told by which channel.
//!
//! An event is recorded inside the publication of what it tells, so neither is there without the
//! other. It stays noted as pending for a channel until that channel has delivered it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_storage::{Catalog, KeyChange};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::functions::timeuuid;

/// Events that are kept; the oldest that were delivered go first.
const EVENTS_MAX: usize = 1_000;
/// Events that are kept when many of them are not delivered.
const UNDELIVERED_MAX: usize = 10_000;
/// Age of the data directory after which an event that was not delivered may go, milliseconds.
const UNDELIVERED_MILLIS: i64 = 7 * 24 * 3_600 * 1_000;
/// What the catalog property of an event begins with.
const PREFIX: &str = "event/";
/// 100 ns units of a timeuuid in a millisecond.
const TICKS_PER_MILLI: i64 = 10_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The KMS refuses the key of a table: the table cannot be read or written, and its time runs.
    KeyLost,
    /// It still does.
    Reminder,
    /// The key can be used again.
    Recovered,
    /// The KMS cannot be reached, or the cause is not known; nothing will be deleted for that.
    Unreachable,
    /// The KMS answers again.
    Reachable,
    /// The table was copied, still encrypted, before it is dropped.
    SnapshotTaken,
    /// The table could not be copied, or the copy could not be verified: it is not dropped.
    SnapshotFailed,
    /// The table was dropped; its snapshot is kept.
    Dropped,
    /// The table was to be dropped and was not.
    DropBlocked,
    /// A table was restored.
    Restored,
    /// What was kept of a dropped table was erased.
    Purged,
    /// A table was not created, because its key cannot be used.
    CreateFailed,
}

impl EventKind {
    /// Its name in tables and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyLost => "key_lost",
            Self::Reminder => "reminder",
            Self::Recovered => "recovered",
            Self::Unreachable => "unreachable",
            Self::Reachable => "reachable",
            Self::SnapshotTaken => "snapshot_taken",
            Self::SnapshotFailed => "snapshot_failed",
            Self::Dropped => "dropped",
            Self::DropBlocked => "drop_blocked",
            Self::Restored => "restored",
            Self::Purged => "purged",
            Self::CreateFailed => "create_failed",
        }
    }
}

/// An event that is to be recorded. Times are milliseconds since 1970, wall clock of keys.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// Keyspace of the table.
    pub keyspace: String,
    /// Name of the table.
    pub table: String,
    /// ARN of its KMS key.
    pub key_arn: Option<String>,
    /// State of the table's key after it.
    pub state: String,
    /// Since when the key is in that state.
    pub since_millis: Option<i64>,
    /// When the next thing happens that cannot be undone.
    pub deadline_millis: Option<i64>,
    /// One for each transition; each message about it carries it.
    pub incident: [u8; 16],
    /// What the operator should do.
    pub todo: String,
    /// What was seen: the answer of the KMS, the name of a file.
    pub detail: String,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time UUID; the order of these is the order of the events.
    #[serde(skip)]
    pub id: Uuid,
    /// When it happened: wall clock of keys, milliseconds since 1970, as all times here.
    pub at_millis: i64,
    /// Age of the data directory when it happened, milliseconds.
    pub at_age: i64,
    /// What happened.
    pub kind: EventKind,
    /// Keyspace of the table.
    pub keyspace: String,
    /// Name of the table.
    pub table: String,
    /// ARN of its KMS key.
    pub key_arn: Option<String>,
    /// State of the table's key after it.
    pub state: String,
    /// Since when the key is in that state.
    pub since_millis: Option<i64>,
    /// When the next thing happens that cannot be undone.
    pub deadline_millis: Option<i64>,
    /// UUID, one for each transition.
    pub incident: String,
    /// What the operator should do.
    pub todo: String,
    /// What was seen.
    pub detail: String,
    /// Channels that have not delivered it yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pending: BTreeSet<String>,
    /// When each channel delivered it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delivered: BTreeMap<String, i64>,
}

/// The incident id of a new transition.
///
/// # Errors
/// When the operating system gives no random numbers.
pub(crate) fn new_incident() -> Result<[u8; 16]> {
    let bytes = coffer_crypto::random_array()
        .map_err(|error| Error::Server(format!("make incident id: {error}")))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
}

/// What is told when a key was refused after a table's creation or restore had begun; nothing for other causes,
/// which only the client needs to know.
pub(crate) fn create_failed(change: &KeyChange, error: &Error) -> Option<NewEvent> {
    let Error::KeyRefused(detail) = error else { return None };
    if !change.is_create && !change.is_restore {
        return None;
    }
    let statement = if change.is_restore { "RESTORE TABLE" } else { "CREATE TABLE" };
    let incident = new_incident();
    if let Err(error) = &incident {
        tracing::error!(%error, "a failed creation of a table is not told");
    }
    Some(NewEvent {
        kind: EventKind::CreateFailed,
        keyspace: change.keyspace.clone(),
        table: change.name.clone(),
        key_arn: change.target_arn.clone(),
        state: "not created".to_owned(),
        since_millis: None,
        deadline_millis: None,
        incident: incident.ok()?,
        todo: format!(
            "Enable the key, cancel its deletion, or give Coffer its permissions back; then run \
             {statement} again, or name another key in it."
        ),
        detail: detail.clone(),
    })
}

impl Database {
    /// Adds an event to a catalog that is about to be published; returns its id.
    pub(crate) fn record_event(&self, catalog: &mut Catalog, event: NewEvent) -> Uuid {
        let at_millis = self.clock().key_wall_millis();
        let node = self.timeuuid_node();
        let channels = &self.options().notification_channels;
        record(catalog, event, at_millis, node, channels)
    }

    /// All events that are kept, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        of_catalog(&self.engine().catalog())
    }

    /// What a channel has still to deliver, in the order it happened.
    #[must_use]
    pub fn pending_events(&self, channel: &str) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| event.pending.contains(channel));
        events
    }

    /// Notes that channels have delivered events, all in one publication. Blocks.
    ///
    /// # Errors
    /// When the catalog cannot be written; then they are delivered again.
    pub fn events_delivered(&self, deliveries: &[(Uuid, String)]) -> Result<()> {
        let now = self.clock().key_wall_millis();
        let updated = self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            if deliver(&mut next, deliveries, now) {
                Ok(next)
            } else {
                Err(coffer_storage::Error::Refused("they are gone".into()))
            }
        });
        match updated {
            Ok(_) | Err(coffer_storage::Error::Refused(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that a channel has delivered an event. Blocks.
    ///
    /// # Errors
    /// As [`Database::events_delivered`].
    pub fn event_delivered(&self, id: Uuid, channel: &str) -> Result<()> {
        self.events_delivered(&[(id, channel.to_owned())])
    }
}

fn property(id: Uuid) -> String {
    format!("{PREFIX}{id}")
}

fn record(
    catalog: &mut Catalog,
    event: NewEvent,
    at_millis: i64,
    node: [u8; 8],
    channels: &[String],
) -> Uuid {
    let last = ids(catalog).map(ticks).max().unwrap_or(i64::MIN);
    // clocks may go back, the order of events may not
    let at = at_millis.saturating_mul(TICKS_PER_MILLI).max(last.saturating_add(1));
    let id = Uuid::from_bytes(timeuuid(at, node));
    let event = Event {
        id,
        at_millis,
        at_age: catalog.age.millis,
        kind: event.kind,
        keyspace: event.keyspace,
        table: event.table,
        key_arn: event.key_arn,
        state: event.state,
        since_millis: event.since_millis,
        deadline_millis: event.deadline_millis,
        incident: Uuid::from_bytes(event.incident).to_string(),
        todo: event.todo,
        detail: event.detail,
        pending: channels.iter().cloned().collect(),
        delivered: BTreeMap::new(),
    };
    tracing::info!(
        event = event.kind.as_str(),
        table = format!("{}.{}", event.keyspace, event.table),
        incident = event.incident,
        state = event.state,
        detail = event.detail,
        "key health"
    );
    store(catalog, &event);
    forget_oldest(catalog);
    id
}

fn store(catalog: &mut Catalog, event: &Event) {
    // a map of texts always serializes
    if let Ok(text) = serde_json::to_string(event) {
        Arc::make_mut(&mut catalog.properties).insert(property(event.id), text);
    }
}

fn deliver(catalog: &mut Catalog, deliveries: &[(Uuid, String)], now_millis: i64) -> bool {
    let mut has_changed = false;
    for (id, channel) in deliveries {
        let Some(mut event) = find(catalog, *id) else { continue };
        if event.pending.remove(channel) {
            event.delivered.insert(channel.clone(), now_millis);
            store(catalog, &event);
            has_changed = true;
        }
    }
    has_changed
}

fn forget_oldest(catalog: &mut Catalog) {
    if ids(catalog).count() <= EVENTS_MAX {
        return;
    }
    let events = of_catalog(catalog);
    let old = events.len().saturating_sub(EVENTS_MAX);
    let too_old = events.len().saturating_sub(UNDELIVERED_MAX);
    let due_age = catalog.age.millis.saturating_sub(UNDELIVERED_MILLIS);
    for (place, event) in events.iter().enumerate().take(old) {
        let is_waited_for = !event.pending.is_empty() && event.at_age > due_age;
        if is_waited_for && place >= too_old {
            continue;
        }
        if !event.pending.is_empty() {
            let channels = event.pending.iter().cloned().collect::<Vec<_>>().join(", ");
            tracing::error!(
                event = event.kind.as_str(),
                incident = event.incident,
                channels,
                "an event goes that these channels never delivered"
            );
        }
        Arc::make_mut(&mut catalog.properties).remove(&property(event.id));
    }
}

/// 100 ns units since 1970 in a time UUID.
fn ticks(id: Uuid) -> i64 {
    let Some(time) = id.get_timestamp() else { return i64::MIN };
    let (seconds, nanos) = time.to_unix();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    seconds.saturating_mul(10_000_000).saturating_add(i64::from(nanos / 100))
}

fn ids(catalog: &Catalog) -> impl Iterator<Item = Uuid> {
    let from_prefix = catalog.properties.range(PREFIX.to_owned()..);
    let names = from_prefix.map_while(|(name, _)| name.strip_prefix(PREFIX));
    names.filter_map(|id| Uuid::parse_str(id).ok())
}

fn find(catalog: &Catalog, id: Uuid) -> Option<Event> {
    // a text that does not parse was written by a newer version
    let event = serde_json::from_str(catalog.properties.get(&property(id))?).ok()?;
    Some(Event { id, ..event })
}

/// All events of a catalog, oldest first.
fn of_catalog(catalog: &Catalog) -> Vec<Event> {
    let mut events: Vec<Event> = ids(catalog).filter_map(|id| find(catalog, id)).collect();
    events.sort_by_key(|event| ticks(event.id));
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_storage::ClusterId;

    const NODE: [u8; 8] = [0x80, 1, 2, 3, 4, 5, 6, 7];

    fn event(kind: EventKind, table: &str) -> NewEvent {
        NewEvent {
            kind,
            keyspace: "ks".into(),
            table: table.into(),
            key_arn: Some("arn:aws:kms:us-east-1:000000000000:key/1".into()),
            state: "inaccessible".into(),
            since_millis: Some(5),
            deadline_millis: None,
            incident: [7; 16],
            todo: "enable the key".into(),
            detail: "DisabledException".into(),
        }
    }

    fn catalog() -> Catalog {
        Catalog::new(ClusterId([1; 16]))
    }

    #[test]
    fn the_order_of_ids_is_the_order_of_events_when_the_clock_goes_back() {
        let mut catalog = catalog();
        for (at, table) in [(5_000, "a"), (9_000, "b"), (1_000, "c"), (1_000, "d")] {
            record(&mut catalog, event(EventKind::KeyLost, table), at, NODE, &[]);
        }
        let events = of_catalog(&catalog);
        let tables: Vec<&str> = events.iter().map(|event| &*event.table).collect();
        assert_eq!(tables, ["a", "b", "c", "d"]);
        assert_eq!(events[2].at_millis, 1_000, "the time is told as it was");
        assert_eq!(events[0].id.get_version_num(), 1);
    }

    #[test]
    fn an_event_is_pending_for_each_channel_until_that_one_delivered_it() {
        let mut catalog = catalog();
        let channels = ["smtp".to_owned(), "webhook".to_owned()];
        let id = record(&mut catalog, event(EventKind::KeyLost, "t"), 1, NODE, &channels);
        assert!(deliver(&mut catalog, &[(id, "smtp".into())], 77));
        assert!(!deliver(&mut catalog, &[(id, "smtp".into())], 99), "told twice");
        let event = find(&catalog, id).unwrap();
        assert_eq!(event.pending, BTreeSet::from(["webhook".to_owned()]));
        assert_eq!(event.delivered, BTreeMap::from([("smtp".to_owned(), 77)]));
    }

    #[test]
    fn delivered_events_go_first_and_pending_ones_after_seven_days() {
        let mut catalog = catalog();
        let channels = ["webhook".to_owned()];
        let first = record(&mut catalog, event(EventKind::KeyLost, "waits"), 0, NODE, &channels);
        for at in 0..EVENTS_MAX {
            let at = i64::try_from(at).unwrap();
            record(&mut catalog, event(EventKind::Reachable, "t"), at, NODE, &[]);
        }
        let events = of_catalog(&catalog);
        // the pending one stays over the limit: there is one more than that
        assert_eq!((events.len(), events[0].id), (EVENTS_MAX + 1, first));
        record(&mut catalog, event(EventKind::Reachable, "t"), 2_000, NODE, &[]);
        assert_eq!(of_catalog(&catalog).len(), EVENTS_MAX + 1);
        catalog.age.millis = UNDELIVERED_MILLIS - 1;
        record(&mut catalog, event(EventKind::Reachable, "t"), 2_001, NODE, &[]);
        assert!(find(&catalog, first).is_some(), "it went before seven days");
        catalog.age.millis = UNDELIVERED_MILLIS;
        record(&mut catalog, event(EventKind::Reachable, "t"), 2_002, NODE, &[]);
        assert!(find(&catalog, first).is_none());
        assert_eq!(of_catalog(&catalog).len(), EVENTS_MAX);
    }

    #[test]
    fn properties_of_others_are_left_alone() {
        let mut catalog = catalog();
        let properties = Arc::make_mut(&mut catalog.properties);
        properties.insert("event/not-an-id".into(), "{}".into());
        properties.insert("health/1".into(), "{}".into());
        record(&mut catalog, event(EventKind::Purged, "t"), 1, NODE, &[]);
        assert_eq!(of_catalog(&catalog).len(), 1);
        assert_eq!(catalog.properties.len(), 3);
    }
}
