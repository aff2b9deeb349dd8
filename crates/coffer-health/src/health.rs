//! The state of one table's key, and its transitions.

use serde::{Deserialize, Serialize};

use crate::policy::{DAY_MILLIS, HOUR_MILLIS, Policy};

/// A suspicion without a refusal for longer than this begins anew: else it could turn into a loss with
/// hardly any time left, and nobody told.
const DOUBT_MILLIS_MAX: i64 = HOUR_MILLIS;
/// A drop rests on a verification of this process that is not older than this.
const VERIFIED_MILLIS_MAX: i64 = DAY_MILLIS;
/// And on a refusal that is not older than this.
const REFUSED_MILLIS_MAX: i64 = 30_000;
/// Least time that a shorter policy leaves to a loss that runs already.
const SHORTENED_MILLIS_MIN: i64 = DAY_MILLIS;

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Age of the data directory, milliseconds.
    pub age_millis: i64,
    /// Its age when this process started.
    pub start_age_millis: i64,
    /// Wall clock, milliseconds since 1970; shown, never reckoned with.
    pub wall_millis: i64,
    /// Random; the id of an incident that begins now.
    pub incident: [u8; 16],
}

/// What a KMS said about a table's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The key can be used.
    Usable,
    /// It cannot, for good: until somebody changes the key, its policy or its grants.
    Refused,
    /// Neither is known.
    Unclear,
}

/// An answer, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation<'a> {
    /// What was said.
    pub answer: Answer,
    /// Provider, endpoint and caller; `None` when that is not known.
    pub identity: Option<&'a str>,
}

/// What is shown of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing speaks against its key.
    Accessible,
    /// Refused, not confirmed yet.
    Suspect,
    /// Refused and confirmed.
    Inaccessible,
    /// No clear answer.
    Unreachable,
}

impl State {
    /// Its name in tables and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accessible => "ACCESSIBLE",
            Self::Suspect => "SUSPECT",
            Self::Inaccessible => "INACCESSIBLE",
            Self::Unreachable => "UNREACHABLE",
        }
    }
}

/// What somebody is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthEvent {
    /// The loss is confirmed.
    KeyLost,
    /// So many days are left.
    Reminder(u32),
    /// The key is back after a confirmed loss.
    Recovered,
    /// There is no clear answer for longer than is usual.
    Unreachable,
    /// There are clear answers again.
    Reachable,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing but to go on asking.
    Nothing,
    /// Ask now: the next step needs a fresh refusal.
    Probe,
    /// Take a snapshot.
    Snapshot,
    /// Verify this one.
    Verify([u8; 16]),
    /// Drop the table; this verified snapshot stays.
    Drop([u8; 16]),
}

/// Refusals in a row, without an answer in between that shows the key to be usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Its id.
    pub incident: [u8; 16],
    /// Age at the first refusal: what all of its time is counted from.
    pub first_age: i64,
    /// Wall clock at the first refusal, to be shown.
    pub first_wall_millis: i64,
    /// Refusals that count.
    pub confirmations: u32,
    /// Age at the last refusal that counted.
    pub confirmed_age: i64,
    /// Whether there were enough of them: the table is inaccessible.
    pub is_confirmed: bool,
    /// The time to wait as the policy last said, `None` is never.
    pub delete_after_millis: Option<i64>,
    /// A policy that was made shorter while the series ran does not drop before this age.
    pub not_before_age: i64,
    /// Days left at the last reminder.
    pub reminded_days: Option<u32>,
    /// The snapshot.
    pub snapshot: Option<Snapshot>,
    /// Whether somebody was told that the snapshot cannot be had.
    pub is_blocked_told: bool,
}

/// The snapshot of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Its id.
    pub id: [u8; 16],
    /// Age at which it was verified.
    pub verified_age: Option<i64>,
}

/// Time without a clear answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Its id.
    pub incident: [u8; 16],
    /// Age at its first unclear answer.
    pub since_age: i64,
    /// Wall clock at that, to be shown.
    pub since_wall_millis: i64,
    /// Whether somebody was told.
    pub is_told: bool,
}

/// What is known of one table's key. Serialized, it is what outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableHealth {
    /// Provider, endpoint and caller at the last success. `None` before the first: then nobody knows
    /// that the key was ever within reach of this configuration, and refusals only warn.
    pub trusted: Option<String>,
    /// Refusals in a row.
    pub series: Option<Series>,
    /// Time without a clear answer.
    pub outage: Option<Outage>,
    /// Age at the last refusal in this process. Not kept: a drop needs one of the latest start.
    #[serde(skip)]
    fresh_age: Option<i64>,
}

impl TableHealth {
    /// A table whose key was just made with, or opened by, this identity.
    #[must_use]
    pub fn trusting(identity: impl Into<String>) -> Self {
        Self { trusted: Some(identity.into()), ..Self::default() }
    }

    /// Takes an answer in; returns what is to be told.
    pub fn observe(
        &mut self,
        now: &Moment,
        policy: &Policy,
        seen: Observation<'_>,
    ) -> Vec<HealthEvent> {
        let mut events = Vec::new();
        let is_trusted = seen.identity.is_some() && seen.identity == self.trusted.as_deref();
        match seen.answer {
            Answer::Usable => {
                if let Some(identity) = seen.identity
                    && !is_trusted
                {
                    self.trusted = Some(identity.to_owned());
                }
                self.end_outage(&mut events);
                self.fresh_age = None;
                let ended = self.series.take();
                if ended.is_some_and(|series| series.is_confirmed) {
                    events.push(HealthEvent::Recovered);
                }
            }
            Answer::Refused if is_trusted => {
                self.end_outage(&mut events);
                self.refused(now, policy, &mut events);
            }
            // somebody else's refusal says nothing about the key that the table was made with
            Answer::Refused | Answer::Unclear => self.unclear(now),
        }
        events.extend(self.pass(now, policy));
        events
    }

    /// Lets time pass; returns what is to be told.
    pub fn pass(&mut self, now: &Moment, policy: &Policy) -> Vec<HealthEvent> {
        let mut events = Vec::new();
        if let Some(outage) = &mut self.outage {
            let lasted = now.age_millis.saturating_sub(outage.since_age);
            if !outage.is_told && lasted >= policy.unreachable_after_millis {
                outage.is_told = true;
                events.push(HealthEvent::Unreachable);
            }
        }
        if let Some(series) = &mut self.series {
            series.follow(now, policy);
            events.extend(series.reminder(now, policy).map(HealthEvent::Reminder));
        }
        events
    }

    /// What is to be done. Call [`Self::pass`] before.
    #[must_use]
    pub fn due(&self, now: &Moment) -> Due {
        let Some(series) = self.series.as_ref().filter(|series| series.is_confirmed) else {
            return Due::Nothing;
        };
        let Some(deadline) = series.deadline_age() else { return Due::Nothing };
        if now.age_millis < deadline {
            return Due::Nothing;
        }
        let is_refused_since = |age: i64| {
            self.fresh_age.is_some_and(|fresh| fresh >= age && fresh >= now.start_age_millis)
        };
        if !is_refused_since(deadline) {
            return Due::Probe;
        }
        match series.snapshot {
            None => Due::Snapshot,
            Some(Snapshot { id, verified_age: None }) => Due::Verify(id),
            // disks rot, and files are touched while a process is down
            Some(Snapshot { id, verified_age: Some(age) })
                if age < now.start_age_millis
                    || now.age_millis.saturating_sub(age) > VERIFIED_MILLIS_MAX =>
            {
                Due::Verify(id)
            }
            // verifying takes its time, and the key may have come back meanwhile
            Some(Snapshot { verified_age: Some(age), .. }) if !is_refused_since(age) => Due::Probe,
            Some(_) if !is_refused_since(now.age_millis.saturating_sub(REFUSED_MILLIS_MAX)) => {
                Due::Probe
            }
            Some(Snapshot { id, .. }) => Due::Drop(id),
        }
    }

    /// Notes the snapshot of the series that runs.
    pub fn snapshot_taken(&mut self, id: [u8; 16]) {
        if let Some(series) = &mut self.series {
            series.snapshot = Some(Snapshot { id, verified_age: None });
        }
    }

    /// Notes that the snapshot is whole. The refusals so far do not count for the drop. True when
    /// somebody is to be told: once for a snapshot, however often it is verified.
    pub fn snapshot_verified(&mut self, now: &Moment) -> bool {
        self.fresh_age = None;
        let snapshot = self.series.as_mut().and_then(|series| series.snapshot.as_mut());
        let Some(snapshot) = snapshot else { return false };
        snapshot.verified_age.replace(now.age_millis).is_none()
    }

    /// Notes that the snapshot is not there, or not whole, and another one is needed. True when
    /// somebody is to be told: once in a series.
    pub fn snapshot_failed(&mut self) -> bool {
        let Some(series) = &mut self.series else { return false };
        series.snapshot = None;
        !std::mem::replace(&mut series.is_blocked_told, true)
    }

    /// Notes that the snapshot is not there any more: another one is needed.
    pub fn snapshot_gone(&mut self) {
        if let Some(series) = &mut self.series {
            series.snapshot = None;
        }
    }

    /// What is shown.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.series, &self.outage) {
            (Some(series), _) if series.is_confirmed => State::Inaccessible,
            (_, Some(_)) => State::Unreachable,
            (Some(_), None) => State::Suspect,
            (None, None) => State::Accessible,
        }
    }

    /// Age at which the table may be dropped; `None` when that is never, or nothing is lost.
    #[must_use]
    pub fn deadline_age(&self) -> Option<i64> {
        self.series.as_ref().and_then(Series::deadline_age)
    }

    fn refused(&mut self, now: &Moment, policy: &Policy, events: &mut Vec<HealthEvent>) {
        self.fresh_age = Some(now.age_millis);
        let series = match self.series.as_mut() {
            Some(series) if !series.is_stale(now, policy) => series,
            _ => self.series.insert(Series::begin(now, policy)),
        };
        series.confirm(now, policy);
        if !series.is_confirmed && series.confirmations >= policy.confirmations.max(1) {
            series.is_confirmed = true;
            events.push(HealthEvent::KeyLost);
        }
    }

    fn unclear(&mut self, now: &Moment) {
        self.outage.get_or_insert(Outage {
            incident: now.incident,
            since_age: now.age_millis,
            since_wall_millis: now.wall_millis,
            is_told: false,
        });
    }

    fn end_outage(&mut self, events: &mut Vec<HealthEvent>) {
        if self.outage.take().is_some_and(|outage| outage.is_told) {
            events.push(HealthEvent::Reachable);
        }
    }
}

impl Series {
    fn begin(now: &Moment, policy: &Policy) -> Self {
        Self {
            incident: now.incident,
            first_age: now.age_millis,
            first_wall_millis: now.wall_millis,
            confirmations: 0,
            confirmed_age: now.age_millis,
            is_confirmed: false,
            delete_after_millis: policy.delete_after_millis,
            not_before_age: i64::MIN,
            reminded_days: None,
            snapshot: None,
            is_blocked_told: false,
        }
    }

    /// Whether so much time lies between the last refusal and this one that they are not one loss:
    /// unclear answers, or a stop.
    fn is_stale(&self, now: &Moment, policy: &Policy) -> bool {
        let silent = now.age_millis.saturating_sub(self.confirmed_age);
        let most = DOUBT_MILLIS_MAX.max(policy.confirmation_gap_millis.saturating_mul(2));
        !self.is_confirmed && silent > most
    }

    fn confirm(&mut self, now: &Moment, policy: &Policy) {
        if self.is_confirmed {
            return;
        }
        let gap = now.age_millis.saturating_sub(self.confirmed_age);
        if self.confirmations == 0 || gap >= policy.confirmation_gap_millis {
            self.confirmations = self.confirmations.saturating_add(1);
            self.confirmed_age = now.age_millis;
        }
    }

    /// Takes over the policy as it is now.
    fn follow(&mut self, now: &Moment, policy: &Policy) {
        if self.delete_after_millis == policy.delete_after_millis {
            return;
        }
        let before = self.deadline_age();
        self.delete_after_millis = policy.delete_after_millis;
        self.reminded_days = None;
        let Some(wait) = policy.delete_after_millis else { return };
        let is_sooner = before.is_none_or(|before| self.first_age.saturating_add(wait) < before);
        if is_sooner {
            let least = wait.min(SHORTENED_MILLIS_MIN);
            self.not_before_age = self.not_before_age.max(now.age_millis.saturating_add(least));
        }
    }

    /// Age at which the table may be dropped; `None` is never.
    #[must_use]
    pub fn deadline_age(&self) -> Option<i64> {
        let wait = self.delete_after_millis?;
        Some(self.first_age.saturating_add(wait).max(self.not_before_age))
    }

    /// The reminder that is due: of several that are, the one with the fewest days.
    fn reminder(&mut self, now: &Moment, policy: &Policy) -> Option<u32> {
        if !self.is_confirmed {
            return None;
        }
        let left = self.deadline_age()?.saturating_sub(now.age_millis);
        let whole = self.delete_after_millis?;
        let is_due = |days: &&u32| {
            let days = i64::from(**days).saturating_mul(DAY_MILLIS);
            left <= days && days < whole
        };
        let days = *policy.reminder_days.iter().filter(is_due).min()?;
        if left <= 0 || self.reminded_days.is_some_and(|reminded| reminded <= days) {
            return None;
        }
        self.reminded_days = Some(days);
        Some(days)
    }
}
