//! Time, as a parameter: wall clock, monotonic clock, and the clock of key ages.
//!
//! Key ages, probes and KMS deletion dates may be moved by a test clock; cell timestamps and TTLs
//! never are.

use parking_lot::Mutex;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// Source of time. All values are milliseconds.
pub trait Clock: Send + Sync {
    /// Wall clock: milliseconds since 1970.
    fn now_millis(&self) -> i64;

    /// Wall clock: microseconds since 1970.
    fn now_micros(&self) -> i64 {
        self.now_millis().saturating_mul(1000)
    }

    /// Milliseconds since some fixed moment; never goes back and goes on while the machine sleeps.
    fn monotonic_millis(&self) -> i64;

    /// What the test clock adds to key ages and KMS dates; 0 without one.
    fn key_offset_millis(&self) -> i64 {
        0
    }

    /// Monotonic clock of key ages: what [`crate::KeyLease`] is measured in.
    fn key_now_millis(&self) -> i64 {
        self.monotonic_millis().saturating_add(self.key_offset_millis())
    }

    /// Wall clock of key states: creation and deletion dates.
    fn key_wall_millis(&self) -> i64 {
        self.now_millis().saturating_add(self.key_offset_millis())
    }
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_millis(&self) -> i64 {
        self.now_micros() / 1000
    }

    fn now_micros(&self) -> i64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000)
    }

    fn monotonic_millis(&self) -> i64 {
        // Boottime goes on while the machine sleeps, so a key does not outlive its age in a nap
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(id);
        now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
    key_offset: AtomicI64,
}

impl ManualClock {
    /// Starts at this wall clock, milliseconds since 1970; the monotonic clock starts at 1,000.
    #[must_use]
    pub fn at(wall_millis: i64) -> Arc<Self> {
        Arc::new(Self {
            wall: AtomicI64::new(wall_millis),
            monotonic: AtomicI64::new(1_000),
            key_offset: AtomicI64::new(0),
        })
    }

    /// Moves all clocks on.
    pub fn advance(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.monotonic.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets what is added to key ages only.
    pub fn set_key_offset(&self, millis: i64) {
        self.key_offset.store(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_millis(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn monotonic_millis(&self) -> i64 {
        self.monotonic.load(Ordering::SeqCst)
    }

    fn key_offset_millis(&self) -> i64 {
        self.key_offset.load(Ordering::SeqCst)
    }
}

/// The system's clocks with an offset for key ages, read from the file of `--test-clock`: one
/// signed integer, seconds; a missing or unreadable file is 0.
#[derive(Debug)]
pub struct OffsetClock {
    file: PathBuf,
    offset_millis: AtomicI64,
    read_at: AtomicI64,
    reading: Mutex<()>,
}

impl OffsetClock {
    const REREAD_MILLIS: i64 = 500;

    /// Reads the offset from `file`, at most every half second, when somebody asks for the time.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self {
            file,
            offset_millis: AtomicI64::new(0),
            read_at: AtomicI64::new(i64::MIN),
            reading: Mutex::new(()),
        }
    }

    fn reread(&self, now: i64) {
        // one reader is enough; the others use the offset as it is
        let Some(_reading) = self.reading.try_lock() else {
            return;
        };
        let seconds = std::fs::read_to_string(&self.file)
            .ok()
            .and_then(|text| text.trim().parse::<i64>().ok())
            .unwrap_or(0);
        self.offset_millis.store(seconds.saturating_mul(1000), Ordering::Release);
        self.read_at.store(now, Ordering::Release);
    }
}

impl Clock for OffsetClock {
    fn now_millis(&self) -> i64 {
        SystemClock.now_millis()
    }

    fn now_micros(&self) -> i64 {
        SystemClock.now_micros()
    }

    fn monotonic_millis(&self) -> i64 {
        SystemClock.monotonic_millis()
    }

    fn key_offset_millis(&self) -> i64 {
        let now = SystemClock.monotonic_millis();
        if now.saturating_sub(self.read_at.load(Ordering::Acquire)) >= Self::REREAD_MILLIS {
            self.reread(now);
        }
        self.offset_millis.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_of_the_file_moves_key_ages_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("coffer-clock-{}", std::process::id()));
        std::fs::write(&path, "-86400\n").unwrap();
        let clock = OffsetClock::new(path.clone());
        assert_eq!(clock.key_offset_millis(), -86_400_000);
        assert!((clock.now_millis() - SystemClock.now_millis()).abs() < 60_000);
        assert!(clock.key_wall_millis() < clock.now_millis() - 86_000_000);
        std::fs::remove_file(&path).unwrap();
        clock.read_at.store(i64::MIN, Ordering::Release);
        assert_eq!(clock.key_offset_millis(), 0);
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(5_000);
        let before = clock.key_now_millis();
        clock.advance(7);
        assert_eq!((clock.now_millis(), clock.key_now_millis()), (5_007, before + 7));
        clock.set_key_offset(100);
        assert_eq!((clock.now_millis(), clock.key_now_millis()), (5_007, before + 107));
    }
}
