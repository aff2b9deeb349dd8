//! How long is waited for a key, and who decides it.

/// Milliseconds of one hour.
pub const HOUR_MILLIS: i64 = 3_600_000;
/// Milliseconds of one day.
pub const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;

/// Longest time that a lost key may be waited for, other than for ever.
const DELETE_AFTER_DAYS_MAX: i64 = 36_500;
/// Most reminders of one loss.
const REMINDERS_MAX: usize = 16;

/// Rules for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Age of a loss at which the table is dropped, counted from the first refusal; `None` is never.
    pub delete_after_millis: Option<i64>,
    /// Refusals that make a table inaccessible.
    pub confirmations: u32,
    /// Shortest time between two refusals that both count: requests of clients in a row are one.
    pub confirmation_gap_millis: i64,
    /// Days that are left when somebody is reminded.
    pub reminder_days: Vec<u32>,
    /// Age at which an outage is told.
    pub unreachable_after_millis: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            delete_after_millis: Some(7 * DAY_MILLIS),
            confirmations: 3,
            confirmation_gap_millis: 5_000,
            reminder_days: vec![3, 1],
            unreachable_after_millis: 600_000,
        }
    }
}

/// A rule that says nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No such time.
    #[error(
        "'{0}' is not a time to wait for a lost key: give days as '7d', hours as '12h', or 'never'"
    )]
    DeleteAfter(String),
    /// No such list.
    #[error(
        "'{0}' is not a list of days that are left at a reminder: give whole days, separated by \
         commas, as '3,1', at most 16"
    )]
    ReminderDays(String),
}

/// Reads `7d`, `12h` or `never`, the latter as `None`.
///
/// # Errors
/// [`PolicyError::DeleteAfter`].
pub fn delete_after(text: &str) -> Result<Option<i64>, PolicyError> {
    let refused = || PolicyError::DeleteAfter(text.chars().take(40).collect());
    let wanted = text.trim().to_ascii_lowercase();
    if wanted == "never" {
        return Ok(None);
    }
    let (number, unit) = match (wanted.strip_suffix('d'), wanted.strip_suffix('h')) {
        (Some(number), _) => (number, DAY_MILLIS),
        (_, Some(number)) => (number, HOUR_MILLIS),
        _ => return Err(refused()),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let number: i64 = number.parse().map_err(|_| refused())?;
    let millis = number.checked_mul(unit).ok_or_else(refused)?;
    if (1..=DELETE_AFTER_DAYS_MAX * DAY_MILLIS).contains(&millis) {
        Ok(Some(millis))
    } else {
        Err(refused())
    }
}

/// Reads `3,1`; the empty text is no reminder.
///
/// # Errors
/// [`PolicyError::ReminderDays`].
pub fn reminder_days(text: &str) -> Result<Vec<u32>, PolicyError> {
    let refused = || PolicyError::ReminderDays(text.chars().take(40).collect());
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let days = text.split(',').map(|day| day.trim().parse::<u16>().map(u32::from));
    let mut days: Vec<u32> = days.collect::<Result<_, _>>().map_err(|_| refused())?;
    days.sort_unstable_by(|a, b| b.cmp(a));
    days.dedup();
    if days.contains(&0) || days.len() > REMINDERS_MAX {
        return Err(refused());
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_hours_or_never() {
        for (text, expected) in [
            ("7d", Some(7 * DAY_MILLIS)),
            (" 30D ", Some(30 * DAY_MILLIS)),
            ("12h", Some(12 * HOUR_MILLIS)),
            ("never", None),
            ("NEVER", None),
        ] {
            assert_eq!(delete_after(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "d",
            "7",
            "0d",
            "0h",
            "-1d",
            "+1d",
            "1.5d",
            "7 d",
            "7m",
            "36501d",
            "99999999999999999999d",
        ] {
            let error = delete_after(text).unwrap_err().to_string();
            assert!(error.contains("'never'"), "{text}: {error}");
        }
    }

    #[test]
    fn reminders_are_sorted_and_said_once() {
        assert_eq!(reminder_days("1, 3,1"), Ok(vec![3, 1]));
        assert_eq!(reminder_days(""), Ok(vec![]));
        for text in ["0", "x", "1,,2", "-1", "70000"] {
            assert!(reminder_days(text).is_err(), "{text}");
        }
    }
}
