//! How often the background may ask the KMS, and when after a failure.

use super::Keyring;
use crate::KeyError;
use coffer_crypto::{clock::Clock, random_array};
use parking_lot::Mutex;
use std::time::Duration;

/// Failures in a row after which requests get the last answer again for a while.
const FAILURES_BEFORE_HOLD: u32 = 8;
/// First and longest time for which requests get the last answer again.
const HOLD_MILLIS: (i64, i64) = (250, 5_000);
/// Pause of a background call that waits for its turn.
const TURN_PAUSE: Duration = Duration::from_millis(20);
const MILLITOKENS: i64 = 1_000;

/// Calls of the background in each second. Requests do not take part: they never wait for it.
pub(super) struct TokenBucket {
    per_second: i64,
    state: Mutex<BucketState>,
}

struct BucketState {
    millitokens: i64,
    filled_at_millis: i64,
}

impl TokenBucket {
    pub(super) fn new(per_second: u32, clock: &dyn Clock) -> Self {
        let per_second = i64::from(per_second.max(1));
        let (millitokens, filled_at_millis) = (per_second * MILLITOKENS, clock.monotonic_millis());
        Self { per_second, state: Mutex::new(BucketState { millitokens, filled_at_millis }) }
    }

    /// Takes one call out, if there is one.
    pub(super) fn take(&self, now_millis: i64) -> bool {
        let mut state = self.state.lock();
        let elapsed = now_millis.saturating_sub(state.filled_at_millis).clamp(0, MILLITOKENS);
        state.filled_at_millis = now_millis;
        // millitokens per millisecond are tokens per second
        let filled = state.millitokens.saturating_add(elapsed * self.per_second);
        state.millitokens = filled.min(self.per_second * MILLITOKENS);
        if state.millitokens < MILLITOKENS {
            return false;
        }
        state.millitokens -= MILLITOKENS;
        true
    }
}

/// A table whose last calls failed.
pub(super) struct Failing {
    count: u32,
    error: KeyError,
    background_at_millis: i64,
    held_until_millis: i64,
}

impl Failing {
    /// Counts one more failure.
    pub(super) fn next(
        before: Option<&Self>,
        error: KeyError,
        now: i64,
        retry: (i64, i64),
    ) -> Self {
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        let pause = jittered(backoff(retry, count - 1));
        let hold = match count.checked_sub(FAILURES_BEFORE_HOLD) {
            None => 0,
            Some(step) => backoff(HOLD_MILLIS, step),
        };
        Self {
            count,
            error,
            background_at_millis: now.saturating_add(pause),
            held_until_millis: now.saturating_add(hold),
        }
    }

    /// Whether the background may try again.
    pub(super) fn is_due(&self, now: i64) -> bool {
        now >= self.background_at_millis
    }

    /// The last answer, while requests are to get it again without a call.
    pub(super) fn held(&self, now: i64) -> Option<&KeyError> {
        (now < self.held_until_millis).then_some(&self.error)
    }
}

/// Doubles from the first to the longest pause.
fn backoff((first, longest): (i64, i64), step: u32) -> i64 {
    first.saturating_mul(1_i64.checked_shl(step.min(32)).unwrap_or(i64::MAX)).min(longest)
}

/// Between half of the pause and all of it.
fn jittered(millis: i64) -> i64 {
    let random = random_array::<2>().map_or(0, |bytes| i64::from(u16::from_be_bytes(bytes)));
    let half = millis / 2;
    half.saturating_add(half.saturating_mul(random) / i64::from(u16::MAX))
}

impl Keyring {
    /// Waits until the background may make one more call.
    pub(super) async fn background_turn(&self) {
        while !self.bucket.take(self.clock.monotonic_millis()) {
            tokio::time::sleep(TURN_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableName;
    use coffer_crypto::clock::ManualClock;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let clock = ManualClock::at(0);
        let bucket = TokenBucket::new(10, &*clock);
        let taken = |millis: i64| {
            clock.advance(millis);
            (0..100).filter(|_| bucket.take(clock.monotonic_millis())).count()
        };
        assert_eq!(taken(0), 10, "a second's worth to begin with");
        assert_eq!((taken(99), taken(1), taken(500)), (0, 1, 5));
        assert_eq!(taken(3_600_000), 10, "what was not used does not add up");
        assert_eq!(taken(-5_000), 0, "nor does a clock that goes back");
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_vary() {
        let error = || KeyError::Superseded(TableName::new([0; 16], "ks", "t"));
        let mut failing = None;
        for (step, longest) in [1_000, 2_000, 4_000, 8_000, 8_000].into_iter().enumerate() {
            let next = Failing::next(failing.as_ref(), error(), 0, (1_000, 8_000));
            let pause = next.background_at_millis;
            assert!((longest / 2..=longest).contains(&pause), "{step}: {pause}");
            assert!(next.held(0).is_none());
            failing = Some(next);
        }
        for _ in 0..40 {
            failing = Some(Failing::next(failing.as_ref(), error(), 0, (1_000, 8_000)));
        }
        let failing = failing.unwrap();
        assert!(failing.held(4_999).is_some() && failing.held(5_000).is_none());
    }
}
