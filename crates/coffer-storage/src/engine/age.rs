//! How long the data directory has lived: the clock of all timers that outlast a process.
//!
//! While the engine runs it grows with the monotonic clock. Over a stop nobody can be sure: the wall
//! clock is believed up to a day, and never backwards. So no jump of a clock shortens a timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use coffer_crypto::clock::Clock;

use super::Engine;
use crate::catalog::Age;
use crate::core::Core;
use crate::error::Result;

const HOUR_MILLIS: i64 = 3_600_000;
/// Longest stop that counts.
const CREDIT_MAX_MILLIS: i64 = 24 * HOUR_MILLIS;

/// The age of a data directory that is open.
pub(crate) struct AgeClock {
    clock: Arc<dyn Clock>,
    /// At the start.
    base: i64,
    started_at: i64,
    /// What was told; the age never goes back, whatever the test clock does.
    highest: AtomicI64,
}

impl AgeClock {
    /// Goes on from what was noted last.
    pub(crate) fn start(clock: Arc<dyn Clock>, noted: Age) -> Self {
        // 0: nothing was noted yet
        let stopped = match noted.noted_at_millis {
            0 => 0,
            at => clock.key_wall_millis().saturating_sub(at).clamp(0, CREDIT_MAX_MILLIS),
        };
        let base = noted.millis.saturating_add(stopped);
        let started_at = clock.key_now_millis();
        Self { clock, base, started_at, highest: AtomicI64::new(base) }
    }

    pub(crate) fn millis(&self) -> i64 {
        let running = self.clock.key_now_millis().saturating_sub(self.started_at);
        let now = self.base.saturating_add(running);
        self.highest.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// What the catalog is to say.
    pub(crate) fn noted(&self) -> Age {
        Age { millis: self.millis(), noted_at_millis: self.clock.key_wall_millis() }
    }
}

impl Core {
    fn is_age_due(&self) -> bool {
        let noted = self.catalog.current().age.millis;
        self.age.millis().saturating_sub(noted) >= HOUR_MILLIS
    }

    /// Has the catalog know the age at least once in an hour.
    pub(crate) fn note_age(&self) -> Result<()> {
        if self.is_age_due() {
            // each version notes it
            self.update(|old| Ok(old.clone()))?;
        }
        Ok(())
    }
}

impl Engine {
    /// How many milliseconds the data directory has lived, as far as is sure. Never goes back; no
    /// jump of the wall clock moves it on by more than a day.
    #[must_use]
    pub fn age_millis(&self) -> i64 {
        if self.core.is_age_due() {
            self.core.housekeeping.notify();
        }
        self.core.age.millis()
    }

    /// The time of a write that is committed now, milliseconds since 1970: the server's clock, held
    /// where it was set back by minutes.
    #[must_use]
    pub fn write_clock_millis(&self) -> i64 {
        self.core.log.stamp_millis()
    }
}
