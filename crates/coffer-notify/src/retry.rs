//! When a channel that failed is tried again.

/// First pause after a failure.
const FAILED_MILLIS_MIN: i64 = 1_000;
/// Longest pause after a failure.
const FAILED_MILLIS_MAX: i64 = 5 * 60_000;
/// First pause of a message that its receiver refused.
const REFUSED_MILLIS_MIN: i64 = 30_000;
/// Longest pause of a message that its receiver refused.
const REFUSED_MILLIS_MAX: i64 = 3_600_000;

/// The pause after the failure of that number (1 is the first), milliseconds: it doubles each time up
/// to a limit, and is then made shorter by up to a quarter, so that not all come at once. `random` is
/// any number.
#[must_use]
pub fn pause_millis(failures: u32, is_refused: bool, random: u64) -> i64 {
    let (least, most) = if is_refused {
        (REFUSED_MILLIS_MIN, REFUSED_MILLIS_MAX)
    } else {
        (FAILED_MILLIS_MIN, FAILED_MILLIS_MAX)
    };
    let doublings = failures.saturating_sub(1).min(30);
    let pause = least.saturating_mul(1_i64 << doublings).min(most);
    let jitter = i64::try_from(random % 1_000).unwrap_or_default();
    pause - pause / 4 * jitter / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_and_are_never_longer() {
        assert_eq!([1, 2, 3, 4].map(|n| pause_millis(n, false, 0)), [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(pause_millis(u32::MAX, false, 0), FAILED_MILLIS_MAX);
        assert_eq!(pause_millis(1, true, 0), REFUSED_MILLIS_MIN);
        assert_eq!(pause_millis(u32::MAX, true, 0), REFUSED_MILLIS_MAX);
        for random in [0, 1, 500, 999, 1_000, u64::MAX] {
            let pause = pause_millis(2, false, random);
            assert!((1_500..=2_000).contains(&pause), "{pause}");
        }
        assert_ne!(pause_millis(2, false, 1), pause_millis(2, false, 999));
    }
}
