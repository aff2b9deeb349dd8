//! One table that is watched.

use coffer_health::{HealthEvent, TableHealth};
use serde::{Deserialize, Serialize};

use crate::events::EventKind;

/// What is kept of a table in the catalog.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The KMS key it is about.
    key_arn: String,
    health: TableHealth,
}

/// Something that is to be told, not durable yet.
#[derive(Debug, Clone)]
pub(super) struct Untold {
    pub(super) kind: EventKind,
    pub(super) days_left: Option<u32>,
    /// What was seen; empty for the last answer of the KMS.
    pub(super) detail: String,
    /// The transition, where it has an id of its own.
    pub(super) incident: Option<[u8; 16]>,
}

impl Untold {
    pub(super) const fn new(kind: EventKind, detail: String) -> Untold {
        Untold { kind, days_left: None, detail, incident: None }
    }
}

/// A table under a KMS key.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) key_arn: String,
    pub(super) health: TableHealth,
    /// As it stands in the catalog.
    pub(super) kept: Option<String>,
    /// When to ask, on the clock of key ages, as the next three.
    pub(super) next_probe: i64,
    /// When the question was asked that was answered last.
    pub(super) last_asked: i64,
    /// When to try again what failed of a snapshot or a drop.
    pub(super) retry_at: i64,
    pub(super) pause: i64,
    /// Whether a success was seen since the start, and from whom.
    pub(super) is_known: bool,
    pub(super) untold: Vec<Untold>,
    /// When the KMS deletes its key, milliseconds since 1970.
    pub(super) deletion_millis: Option<i64>,
    /// The last answer that was none.
    pub(super) detail: String,
}

/// First and longest pause after a snapshot that could not be had.
const PAUSE_MILLIS: (i64, i64) = (5_000, 600_000);

fn parse(text: &str) -> Option<Kept> {
    let parsed = serde_json::from_str(text);
    if let Err(error) = &parsed {
        tracing::error!(%error, "what is kept of a table's key cannot be read: it is watched anew");
    }
    parsed.ok()
}

/// What is told when a table is not under this key any more, and its loss was.
fn left_loss(kept: &Kept) -> Option<Untold> {
    let series = kept.health.series.as_ref().filter(|series| series.is_confirmed)?;
    let lost = uuid::Uuid::from_bytes(series.incident);
    let detail = format!("now under another key; {} was lost (incident {lost})", kept.key_arn);
    Some(Untold::new(EventKind::Recovered, detail))
}

/// As for a table under another KMS key, for one that is under none now.
pub(super) fn left_kms(kept: &str) -> Option<Untold> {
    left_loss(&parse(kept)?)
}

impl Watched {
    /// A table that comes under watch. One with a loss that runs is asked about at once, any other
    /// one after `pause`.
    pub(super) fn new(key_arn: String, kept: Option<String>, now: i64, pause: i64) -> Watched {
        let parsed = kept.as_deref().and_then(parse);
        let left_loss = parsed.as_ref().filter(|kept| kept.key_arn != key_arn).and_then(left_loss);
        let health = parsed.filter(|kept| kept.key_arn == key_arn).map(|kept| kept.health);
        let health = health.unwrap_or_default();
        let pause = if health.series.is_some() { 0 } else { pause };
        Watched {
            key_arn,
            health,
            kept,
            next_probe: now.saturating_add(pause),
            last_asked: i64::MIN,
            retry_at: i64::MIN,
            pause: 0,
            is_known: false,
            untold: left_loss.into_iter().collect(),
            deletion_millis: None,
            detail: String::new(),
        }
    }

    /// What the catalog is to hold. An outage that nobody was told of is not worth a write.
    pub(super) fn text(&self) -> Option<String> {
        let mut health = self.health.clone();
        health.outage = health.outage.filter(|outage| outage.is_told);
        if health == TableHealth::default() && self.kept.is_none() {
            return None;
        }
        serde_json::to_string(&Kept { key_arn: self.key_arn.clone(), health }).ok()
    }

    pub(super) fn is_due(&self, now: i64) -> bool {
        now >= self.next_probe
    }

    /// Whether a success would change nothing.
    pub(super) fn is_fine(&self) -> bool {
        self.is_known && self.health.series.is_none() && self.health.outage.is_none()
    }

    /// Whether a success at `at` is as good as a probe now.
    pub(super) fn is_fine_since(&self, at: i64, now: i64, interval: i64) -> bool {
        self.is_fine() && at >= self.last_asked && now.saturating_sub(at) < interval
    }

    pub(super) fn asked(&mut self, at: i64) {
        self.last_asked = self.last_asked.max(at);
    }

    pub(super) fn tell(&mut self, events: Vec<HealthEvent>) {
        for event in events {
            let (kind, days_left) = match event {
                HealthEvent::KeyLost => (EventKind::KeyLost, None),
                HealthEvent::Reminder(days) => (EventKind::Reminder, Some(days)),
                HealthEvent::Recovered => (EventKind::Recovered, None),
                HealthEvent::Unreachable => (EventKind::Unreachable, None),
                HealthEvent::Reachable => (EventKind::Reachable, None),
            };
            let series = self.health.series.as_ref().map(|series| series.incident);
            let incident = series.filter(|_| kind == EventKind::KeyLost);
            self.untold.push(Untold { kind, days_left, detail: String::new(), incident });
        }
    }

    /// Tries again later, with growing pauses.
    pub(super) fn postpone(&mut self, now: i64) {
        let (first, longest) = PAUSE_MILLIS;
        self.pause = self.pause.saturating_mul(2).clamp(first, longest);
        self.retry_at = now.saturating_add(self.pause);
    }
}

#[cfg(test)]
mod tests {
    use coffer_health::{Answer, Moment, Observation, Policy};

    use super::*;

    #[test]
    fn a_table_that_left_its_lost_key_is_told_as_recovered() {
        let policy = Policy { confirmations: 1, ..Policy::default() };
        let mut watched = Watched::new("old".to_owned(), None, 0, 0);
        watched.health = TableHealth::trusting("us");
        let now = Moment { age_millis: 5, start_age_millis: 0, wall_millis: 5, incident: [7; 16] };
        let refused = Observation { answer: Answer::Refused, identity: Some("us") };
        let events = watched.health.observe(&now, &policy, refused);
        watched.tell(events);
        assert_eq!(watched.untold.first().unwrap().incident, Some([7; 16]));
        let kept = watched.text();
        let same = Watched::new("old".to_owned(), kept.clone(), 9, 0);
        assert!(same.untold.is_empty() && same.health.series.is_some());
        let left = Watched::new("new".to_owned(), kept, 9, 0);
        assert_eq!(left.health, TableHealth::default());
        let told = left.untold.first().unwrap();
        assert_eq!(told.kind, EventKind::Recovered);
        assert!(told.detail.contains("under another key"), "{}", told.detail);
        assert!(left.text().unwrap().contains("new"));
    }
}
