//! Watches the KMS keys of all tables: asks about those nobody uses, keeps what was answered, and sees
//! to it that a table whose key is lost for good is told of, kept in a snapshot and dropped.
//!
//! What follows from an answer is decided by `coffer-health`, which knows neither clock nor disk. Here
//! is when to ask, where the state is kept (the property `health/<table id>` of the sealed catalog,
//! written at transitions only, those of all tables in one publication), and the work that is due.

mod certificate;
mod kept_keys;
mod loss;
mod purge;
mod reading;
mod shown;
mod watched;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use coffer_health::{Answer, DAY_MILLIS, Due, Moment, Observation, Policy};
use coffer_keys::{KeyError, Probe};
use coffer_model::TableId;
use coffer_storage::{Catalog, TableEntry};
use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;

use crate::database::Database;
use crate::error::Result;
use crate::events;
use crate::execute::schema_change::{SchemaChangeEvent, is_customer_managed};
use crate::table_keys::table_name;
use watched::{Untold, Watched};

pub use shown::KeyCondition;

/// Pause between two questions about a table that was refused and is not confirmed, or is about to be
/// dropped.
const SUSPECT_INTERVAL_MILLIS: i64 = 10_000;
/// Most rounds of one pass: ask, snapshot, ask again, drop.
const ROUNDS_MAX: usize = 4;
/// What the catalog property of a table's key begins with.
const PREFIX: &str = "health/";

/// How the keys of tables are watched, and how long what is kept of lost tables lives.
#[derive(Debug, Clone)]
pub struct KeyHealthOptions {
    /// Time between two questions about the key of a table, on average.
    pub probe_interval_millis: i64,
    /// Rules for tables that have none of their own.
    pub policy: Policy,
    /// How long the snapshot of a table that was dropped for its key is kept.
    pub snapshot_keep_millis: i64,
}

impl Default for KeyHealthOptions {
    fn default() -> Self {
        Self {
            probe_interval_millis: 60_000,
            policy: Policy::default(),
            snapshot_keep_millis: 35 * DAY_MILLIS,
        }
    }
}

/// What the monitor knows. Only [`Database::watch_keys`] changes the tables.
#[derive(Debug)]
pub(crate) struct KeyMonitor {
    /// Held by the pass that runs.
    turn: Turn<()>,
    tables: Mutex<HashMap<TableId, Watched>>,
    /// What was answered to requests since the last pass.
    seen: Mutex<Vec<Seen>>,
    /// Age of the data directory at the start.
    start_age_millis: i64,
    purge: Mutex<purge::Purge>,
    /// Held from the erase of what was kept until it is in the audit log.
    erasing: Mutex<()>,
    kept_keys: Mutex<kept_keys::KeptKeys>,
    reading: Mutex<Option<reading::Reading>>,
}

/// The answer to a use of a table's key.
#[derive(Debug, Clone)]
struct Seen {
    table: TableId,
    answer: Answer,
    /// The KMS key that was refused.
    key_arn: Option<String>,
    /// Clock of key ages.
    at_millis: i64,
    detail: String,
}

impl KeyMonitor {
    pub(crate) fn new(start_age_millis: i64) -> KeyMonitor {
        KeyMonitor {
            turn: Turn::default(),
            tables: Mutex::default(),
            seen: Mutex::default(),
            start_age_millis,
            purge: Mutex::default(),
            erasing: Mutex::default(),
            kept_keys: Mutex::default(),
            reading: Mutex::default(),
        }
    }

    /// Notes that a table's key was used, or made.
    pub(crate) fn used(&self, table: TableId, at_millis: i64) {
        let (answer, detail) = (Answer::Usable, String::new());
        self.note(Seen { table, answer, key_arn: None, at_millis, detail });
    }

    /// Notes that a table's key could not be used.
    pub(crate) fn failed(&self, table: TableId, error: &KeyError, at_millis: i64) {
        let answer = answer_of(&Err(error.clone()));
        let key_arn = error.refusal().map(|refusal| refusal.arn.clone());
        self.note(Seen { table, answer, key_arn, at_millis, detail: error.to_string() });
    }

    /// Many requests that got the same answer are one or two.
    fn note(&self, seen: Seen) {
        let mut all = self.seen.lock();
        let mut of_table = all.iter_mut().rev().filter(|other| other.table == seen.table);
        let is_same = |other: &Seen| other.answer == seen.answer;
        if let (Some(last), Some(before)) = (of_table.next(), of_table.next())
            && is_same(last)
            && is_same(before)
        {
            *last = seen;
        } else {
            all.push(seen);
        }
    }
}

fn answer_of(outcome: &Result<(), KeyError>) -> Answer {
    match outcome {
        Ok(()) => Answer::Usable,
        Err(KeyError::Definitive(refusal)) if refusal.principal.is_none() => Answer::Refused,
        Err(_) => Answer::Unclear,
    }
}

/// Between three and five quarters of a time.
fn jittered(millis: i64) -> i64 {
    let random =
        coffer_crypto::random_array::<2>().map_or(0, |bytes| i64::from(u16::from_be_bytes(bytes)));
    let half = millis / 2;
    let quarter = half / 2;
    millis.saturating_sub(quarter).saturating_add(half.saturating_mul(random) / i64::from(u16::MAX))
}

impl Database {
    /// One pass of the monitor: cheap when nothing is due. Call it over and over, at least twice a
    /// second, where blocking is allowed. Returns what the clients that registered for it are to be
    /// told: tables that were dropped.
    pub async fn watch_keys(&self) -> Vec<SchemaChangeEvent> {
        let mut dropped = Vec::new();
        let Ok(_turn) = self.key_monitor().turn.try_lock() else { return dropped };
        self.follow_catalog();
        for _ in 0..ROUNDS_MAX {
            self.take_seen().await;
            self.probe_due().await;
            self.let_time_pass();
            if let Err(error) = self.publish_health() {
                // nothing may follow from what is not durable
                tracing::error!(%error, "states of keys are not written, trying again");
                return dropped;
            }
            if !self.advance_losses(&mut dropped).await {
                break;
            }
        }
        self.purge_expired();
        self.ask_about_kept_keys().await;
        dropped
    }

    /// Takes new tables in, forgets those that are gone, begins anew with those under another key.
    fn follow_catalog(&self) {
        let catalog = self.engine().catalog();
        let now = self.clock().key_now_millis();
        let interval = self.options().key_health.probe_interval_millis;
        self.forget_owned(&catalog);
        let mut tables = self.key_monitor().tables.lock();
        tables.retain(|id, watched| {
            let entry = catalog.tables.get(id);
            entry.is_some_and(|entry| entry.key.kms_key_arn.as_deref() == Some(&*watched.key_arn))
        });
        for (id, entry) in &catalog.tables {
            if !is_customer_managed(entry) || tables.contains_key(id) {
                continue;
            }
            let Some(arn) = entry.key.kms_key_arn.clone() else { continue };
            let kept = catalog.properties.get(&property(*id)).cloned();
            tables.insert(*id, Watched::new(arn, kept, now, jittered(interval)));
        }
    }

    /// Removes the states of tables that are not under a KMS key any more; of a loss, that it is over is
    /// told.
    fn forget_owned(&self, catalog: &Catalog) {
        let is_left = |catalog: &Catalog, entry: &TableEntry| {
            !is_customer_managed(entry)
                && catalog.properties.contains_key(&property(entry.schema.id))
        };
        if !catalog.tables.values().any(|entry| is_left(catalog, entry)) {
            return;
        }
        let removed = self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            for entry in catalog.tables.values().filter(|entry| is_left(catalog, entry)) {
                let kept = Arc::make_mut(&mut next.properties).remove(&property(entry.schema.id));
                let untold = kept.as_deref().and_then(watched::left_kms);
                if let Some(event) = untold.and_then(|untold| self.event_of(entry, &untold)) {
                    self.record_event(&mut next, event);
                }
            }
            Ok(next)
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "states of keys that tables left stay, trying again");
        }
    }

    /// Takes in what requests were answered.
    async fn take_seen(&self) {
        let mut seen = std::mem::take(&mut *self.key_monitor().seen.lock());
        seen.sort_by_key(|seen| seen.at_millis);
        for seen in seen {
            let arn = {
                let mut tables = self.key_monitor().tables.lock();
                let Some(watched) = tables.get_mut(&seen.table) else { continue };
                if seen.key_arn.as_ref().is_some_and(|arn| *arn != watched.key_arn) {
                    continue;
                }
                if seen.answer == Answer::Usable && watched.is_fine() {
                    watched.asked(seen.at_millis);
                    continue;
                }
                watched.key_arn.clone()
            };
            let identity = self.keyring().identity(&arn).await;
            let found = (seen.answer, seen.at_millis, identity);
            self.take_in(seen.table, found, seen.detail);
        }
    }

    /// Asks about the tables whose time has come.
    async fn probe_due(&self) {
        let now = self.clock().key_now_millis();
        let catalog = self.engine().catalog();
        let interval = self.options().key_health.probe_interval_millis;
        let (mut due, mut cached) = (Vec::new(), Vec::new());
        {
            let mut tables = self.key_monitor().tables.lock();
            for (id, watched) in tables.iter_mut().filter(|(_, watched)| watched.is_due(now)) {
                let Some(entry) = catalog.tables.get(id) else { continue };
                // a key in use was asked about by its use
                let confirmed = self.keyring().confirmed_at_millis(&id.0);
                if let Some(at) = confirmed.filter(|at| watched.is_fine_since(*at, now, interval)) {
                    watched.asked(at);
                    watched.next_probe = at.saturating_add(jittered(interval));
                    continue;
                }
                let question = (table_name(entry), Arc::clone(&entry.key));
                if watched.is_fine() && self.keyring().is_usable(&id.0) {
                    watched.next_probe = now.saturating_add(jittered(interval));
                    cached.push((watched.key_arn.clone(), question));
                } else {
                    due.push(question);
                }
            }
        }
        // its refreshes ask about a key in memory; here is only whether the KMS key was switched off
        let arns: HashSet<String> = cached.iter().map(|(arn, _)| arn.clone()).collect();
        if !arns.is_empty() {
            let usable = self.keyring().usable(arns).await;
            let off = cached.into_iter().filter(|(arn, _)| usable.get(arn) == Some(&false));
            due.extend(off.map(|(_, question)| question));
        }
        if due.is_empty() {
            return;
        }
        for probe in self.keyring().probe(due).await {
            self.take_probe(probe);
        }
    }

    fn take_probe(&self, probe: Probe) {
        let id = TableId(probe.table.id);
        let answer = answer_of(&probe.outcome);
        let state = probe.kms_state;
        self.key_healths().probed(id.0, probe.outcome.as_ref().err(), state, &**self.clock());
        let detail = probe.outcome.err().map_or_else(String::new, |error| error.to_string());
        {
            let mut tables = self.key_monitor().tables.lock();
            let Some(watched) = tables.get_mut(&id) else { return };
            // swapped meanwhile
            if probe.record.kms_key_arn.as_deref() != Some(&*watched.key_arn) {
                return;
            }
            if state.is_some() {
                watched.deletion_millis = probe.deletion_millis;
            }
        }
        self.take_in(id, (answer, probe.asked_at_millis, probe.identity), detail);
    }

    /// Takes one answer in: what, when it was asked (clock of key ages), and whom.
    fn take_in(
        &self,
        table: TableId,
        (answer, at_millis, identity): (Answer, i64, Option<String>),
        detail: String,
    ) {
        let (Some(moment), Some(policy)) = (self.moment(at_millis), self.policy_of(table)) else {
            return;
        };
        let mut tables = self.key_monitor().tables.lock();
        let Some(watched) = tables.get_mut(&table) else { return };
        // an older refusal says nothing new; a success does, whenever it was
        if answer != Answer::Usable && at_millis < watched.last_asked {
            return;
        }
        if answer == Answer::Usable && identity.is_some() {
            watched.is_known = true;
        }
        // what a key that is back was refused with is of no use any more
        if answer == Answer::Usable || !detail.is_empty() {
            watched.detail = detail;
        }
        watched.asked(at_millis);
        let observation = Observation { answer, identity: identity.as_deref() };
        let events = watched.health.observe(&moment, &policy, observation);
        watched.tell(events);
        let interval = self.options().key_health.probe_interval_millis;
        let pause = match (&watched.health.series, watched.health.due(&moment)) {
            (Some(series), Due::Nothing) if series.is_confirmed => interval,
            (Some(_), _) => interval.min(SUSPECT_INTERVAL_MILLIS),
            (None, _) => interval,
        };
        watched.next_probe = at_millis.saturating_add(jittered(pause));
    }

    fn let_time_pass(&self) {
        let running: Vec<TableId> = {
            let tables = self.key_monitor().tables.lock();
            let is_running = |watched: &Watched| {
                watched.health.series.is_some() || watched.health.outage.is_some()
            };
            tables.iter().filter(|(_, watched)| is_running(watched)).map(|(id, _)| *id).collect()
        };
        if running.is_empty() {
            return;
        }
        let Some(moment) = self.moment(self.clock().key_now_millis()) else { return };
        for table in running {
            let Some(policy) = self.policy_of(table) else { continue };
            let mut tables = self.key_monitor().tables.lock();
            let Some(watched) = tables.get_mut(&table) else { continue };
            let events = watched.health.pass(&moment, &policy);
            watched.tell(events);
            if watched.health.due(&moment) == Due::Probe {
                let soon = watched.last_asked.saturating_add(SUSPECT_INTERVAL_MILLIS);
                watched.next_probe = watched.next_probe.min(soon);
            }
        }
    }

    /// Makes durable what changed, and what is to be told of it, in one publication.
    fn publish_health(&self) -> Result<()> {
        struct Change {
            table: TableId,
            text: String,
            untold: Vec<Untold>,
        }
        let changes: Vec<Change> = {
            let tables = self.key_monitor().tables.lock();
            let changed = tables.iter().filter_map(|(table, watched)| {
                let text = watched.text()?;
                let is_kept = watched.kept.as_ref() == Some(&text);
                let untold = watched.untold.clone();
                (!is_kept || !untold.is_empty()).then_some(Change { table: *table, text, untold })
            });
            changed.collect()
        };
        if changes.is_empty() {
            return Ok(());
        }
        self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            for change in &changes {
                // dropped meanwhile
                let Some(entry) = catalog.tables.get(&change.table) else { continue };
                for untold in &change.untold {
                    if let Some(event) = self.event_of(entry, untold) {
                        self.record_event(&mut next, event);
                    }
                }
                let properties = Arc::make_mut(&mut next.properties);
                properties.insert(property(change.table), change.text.clone());
            }
            forget_gone(&mut next);
            Ok(next)
        })?;
        let mut tables = self.key_monitor().tables.lock();
        for change in changes {
            if let Some(watched) = tables.get_mut(&change.table) {
                watched.kept = Some(change.text);
                watched.untold.drain(..change.untold.len().min(watched.untold.len()));
            }
        }
        Ok(())
    }

    /// The moment at which the clock of key ages showed `at_millis`.
    fn moment(&self, at_millis: i64) -> Option<Moment> {
        let ago = self.clock().key_now_millis().saturating_sub(at_millis).max(0);
        let incident = match events::new_incident() {
            Ok(incident) => incident,
            Err(error) => {
                tracing::error!(%error, "no answer about keys is taken in");
                return None;
            }
        };
        Some(Moment {
            age_millis: self.engine().age_millis().saturating_sub(ago),
            start_age_millis: self.key_monitor().start_age_millis,
            wall_millis: self.clock().key_wall_millis().saturating_sub(ago),
            incident,
        })
    }

    /// The rules for a table: its own, over those of the server.
    fn policy_of(&self, table: TableId) -> Option<Policy> {
        let catalog = self.engine().catalog();
        catalog.tables.get(&table).map(|entry| self.policy_of_entry(entry))
    }

    fn policy_of_entry(&self, entry: &TableEntry) -> Policy {
        let mut policy = self.options().key_health.policy.clone();
        if let Some(own) = delete_after_of(entry) {
            policy.delete_after_millis = own;
        }
        policy
    }
}

/// What the table's own `key_loss` says.
fn delete_after_of(entry: &TableEntry) -> Option<Option<i64>> {
    let said = entry.schema.custom_properties.get("key_loss")?.get("delete_after")?;
    // checked when it was set; one of a newer version that says something else never drops
    Some(coffer_health::delete_after(said).unwrap_or(None))
}

fn property(table: TableId) -> String {
    format!("{PREFIX}{table}")
}

/// States of tables that are not there any more.
fn gone(catalog: &Catalog) -> Vec<String> {
    let states = catalog.properties.keys().filter(|name| name.starts_with(PREFIX));
    let mut gone: HashSet<&String> = states.collect();
    if !gone.is_empty() {
        for table in catalog.tables.keys() {
            gone.remove(&property(*table));
        }
    }
    gone.into_iter().cloned().collect()
}

/// Removes the states of tables that were dropped.
fn forget_gone(catalog: &mut Catalog) {
    let gone = gone(catalog);
    if !gone.is_empty() {
        let properties = Arc::make_mut(&mut catalog.properties);
        for name in gone {
            properties.remove(&name);
        }
    }
}
