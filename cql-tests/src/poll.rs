//! Waiting for something to become so, with an end.
#![expect(clippy::disallowed_methods, reason = "a test waits in real time")]

use std::time::{Duration, Instant};

use crate::Result;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `look` until it gives something, at most for `within`; what it last said is part of the error.
///
/// # Errors
/// When the time is over, or at once when `look` fails.
pub fn until<T>(
    within: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        match look()? {
            Ok(found) => return Ok(found),
            Err(seen) if begun.elapsed() > within => {
                return Err(format!("{what}: not within {within:?}, but {seen}").into());
            }
            Err(_) => std::thread::park_timeout(PAUSE),
        }
    }
}

/// What `action` gives, and how long it took.
///
/// # Errors
/// Those of `action`.
pub fn timed<T>(action: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let value = action()?;
    Ok((value, begun.elapsed()))
}

/// The real time, milliseconds since 1970.
#[must_use]
pub fn wall_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or_default()
}
