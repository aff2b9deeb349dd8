//! What the background does with cached keys: refreshes those in use ahead of their age, wipes those
//! whose age or idle time is over.
//!
//! Only keys that somebody asks for are refreshed: a key that was asked for in the second half of
//! its lease is confirmed at 70 to 90 % of its age, spread by table. So a busy table never waits for
//! a `Decrypt`, and an idle one costs none; its next request makes one.

use super::{DropReason, Keyring, entry::Entry};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// Longest pause between two passes: so soon after its end a key has left memory.
const PASS_INTERVAL_MILLIS_MAX: i64 = 500;

impl Keyring {
    /// Refreshes and wipes keys for as long as it is polled: spawn it once, abort it at the end. A
    /// slow KMS call for one table holds up no other.
    pub async fn run_refresh(self: Arc<Self>) {
        let shortest = self.options.max_age_millis.min(self.options.idle_millis);
        let interval = (shortest / 20).clamp(10, PASS_INTERVAL_MILLIS_MAX);
        let interval = Duration::from_millis(interval.unsigned_abs());
        loop {
            tokio::time::sleep(interval).await;
            drop(self.start_refreshes());
        }
    }

    /// One pass of [`Self::run_refresh`] that waits for the calls it started. Returns how many.
    pub async fn refresh_once(self: &Arc<Self>) -> usize {
        let started = self.start_refreshes();
        let count = started.len();
        for mut done in started {
            // closed without a result: the runtime stops
            let _ = done.wait_for(Option::is_some).await;
        }
        count
    }

    fn start_refreshes(self: &Arc<Self>) -> Vec<watch::Receiver<Option<crate::Result<()>>>> {
        let now = self.clock.key_now_millis();
        self.sweep(now);
        self.authorizations.sweep(now);
        let due: Vec<Arc<Entry>> = {
            let tables = self.tables.lock();
            let may_try = |entry: &&Arc<Entry>| {
                tables.failing.get(&entry.table.id).is_none_or(|failing| failing.is_due(now))
                    && !tables.opening.contains_key(&entry.table.id)
            };
            let entries = tables.open.values().filter(|entry| self.is_due(entry, now));
            entries.filter(may_try).cloned().collect()
        };
        let mut started = Vec::new();
        for entry in due {
            if !self.bucket.take(self.clock.monotonic_millis()) {
                break;
            }
            // a further attempt after this one needs new interest
            entry.last_asked_millis.store(i64::MIN, Ordering::Relaxed);
            started.push(self.start_opening(&entry.table, &entry.record()));
        }
        started
    }

    /// Notes who was asked for since the last pass, and wipes what is over.
    fn sweep(&self, now: i64) {
        let mut dropped = Vec::new();
        {
            let tables = self.tables.lock();
            for entry in tables.open.values().filter(|entry| !entry.is_owned()) {
                if entry.lease.take_asked() {
                    entry.last_asked_millis.store(now, Ordering::Relaxed);
                }
                if entry.keys().is_none() {
                    continue;
                }
                let asked = entry.last_asked_millis.load(Ordering::Relaxed);
                let confirmed = entry.confirmed_at_millis.load(Ordering::Relaxed);
                let idle_since = asked.max(confirmed);
                let reason = if now >= entry.lease.until_millis() {
                    DropReason::Aged
                } else if now.saturating_sub(idle_since) >= self.options.idle_millis {
                    DropReason::Idle
                } else {
                    continue;
                };
                // who asked while the lease ended asks for the next one
                let still_asked = reason == DropReason::Aged && asked == now;
                if entry.wipe(now) {
                    dropped.push((entry.table.clone(), reason));
                }
                if still_asked {
                    entry.last_asked_millis.store(now, Ordering::Relaxed);
                }
            }
        }
        for (table, reason) in dropped {
            tracing::debug!(%table, ?reason, "table key wiped");
            self.tell_dropped(&table, reason);
        }
    }

    fn is_due(&self, entry: &Entry, now: i64) -> bool {
        if entry.is_owned() {
            return false;
        }
        let max_age = self.options.max_age_millis;
        let until = entry.lease.until_millis();
        let left = until.saturating_sub(now);
        let spread = i64::from(entry.table.id.first().copied().unwrap_or(0)) % 21;
        left <= max_age.saturating_mul(10 + spread) / 100
            && entry.last_asked_millis.load(Ordering::Relaxed) >= until.saturating_sub(max_age / 2)
    }
}
