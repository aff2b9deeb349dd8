//! Refreshing of table keys ahead of their age, in the background.
//!
//! Only keys that somebody asks for are refreshed: interest is watched from the middle of a lease,
//! and a key that is asked for is confirmed at 70 to 90 % of its age, spread by table. So a busy
//! table never waits for a `Decrypt`, and an idle one costs none; its next request makes one.

use super::{Keyring, open_keys::OpenKeys};
use coffer_crypto::EncryptionType;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// Most calls that one pass starts, so that thousands of tables do not ask at once.
const REFRESHES_PER_PASS_MAX: usize = 64;

/// Longest pause between two passes.
const PASS_INTERVAL_MILLIS_MAX: i64 = 1_000;

impl Keyring {
    /// Refreshes keys for as long as it is polled: spawn it once, abort it at the end. A slow KMS
    /// call for one table holds up no other.
    pub async fn run_refresh(self: Arc<Self>) {
        let interval = (self.options.max_age_millis / 20).clamp(10, PASS_INTERVAL_MILLIS_MAX);
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
        let open: Vec<_> = self.tables.lock().open.values().cloned().collect();
        open.into_iter()
            .filter(|keys| self.is_due(keys, now))
            .take(REFRESHES_PER_PASS_MAX)
            .map(|keys| {
                let retry_at = now.saturating_add(self.options.refresh_retry_millis);
                keys.retry_at_millis.store(retry_at, Ordering::Relaxed);
                // a further attempt after this one needs new interest
                keys.lease.take_asked();
                self.start_opening(&keys.table, &keys.record)
            })
            .collect()
    }

    fn is_due(&self, keys: &OpenKeys, now: i64) -> bool {
        if keys.record.encryption_type == EncryptionType::AwsOwned {
            return false;
        }
        let max_age = self.options.max_age_millis;
        let left = keys.lease.until_millis().saturating_sub(now);
        if left > max_age / 2 {
            return false;
        }
        if !keys.watched.swap(true, Ordering::Relaxed) {
            keys.lease.take_asked();
            return false;
        }
        let spread = i64::from(keys.table.id.first().copied().unwrap_or(0)) % 21;
        left <= max_age.saturating_mul(10 + spread) / 100
            && keys.lease.was_asked()
            && now >= keys.retry_at_millis.load(Ordering::Relaxed)
    }
}
