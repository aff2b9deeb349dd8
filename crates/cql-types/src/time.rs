//! Text forms of `date`, `time` and `timestamp`, always in UTC.

use crate::TypeError;

/// Serialized value of 1970-01-01 as a date.
pub const EPOCH_DATE: u32 = 1 << 31;
const DAY_MILLIS: i64 = 86_400_000;
const SECOND_NANOS: i64 = 1_000_000_000;
/// Nanoseconds of a day.
pub const DAY_NANOS: i64 = 86_400 * SECOND_NANOS;

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar.
///
/// After Howard Hinnant's `days_from_civil`: years begin in March, so the leap day is the last.
#[must_use]
pub const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
#[must_use]
pub const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `yyyy-MM-dd`; years beyond 9999 with `+` in front, before 0 with `-`.
fn write_civil(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    let sign = match year {
        i64::MIN..0 => "-",
        0..10_000 => "",
        _ => "+",
    };
    format!("{sign}{:04}-{month:02}-{day:02}", year.abs())
}

/// A serialized date as `yyyy-MM-dd`.
#[must_use]
pub fn format_date(date: u32) -> String {
    write_civil(i64::from(date) - i64::from(EPOCH_DATE))
}

/// A time as `HH:mm:ss.nnnnnnnnn`.
#[must_use]
pub fn format_time(nanos: i64) -> String {
    let (seconds, fraction) = (nanos / SECOND_NANOS, nanos % SECOND_NANOS);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{fraction:09}")
}

/// A timestamp as `yyyy-MM-dd'T'HH:mm:ss.SSSZ`.
#[must_use]
pub fn format_timestamp(millis: i64) -> String {
    let (date, of_day) = (millis.div_euclid(DAY_MILLIS), millis.rem_euclid(DAY_MILLIS));
    let (seconds, fraction) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z", write_civil(date))
}

/// Parses a date: `yyyy-MM-dd`, or the serialized number of days.
///
/// # Errors
/// [`TypeError::InvalidText`].
pub fn parse_date(text: &str) -> Result<u32, TypeError> {
    let invalid =
        || TypeError::text(format!("Unable to coerce '{text}' to a formatted date (long)"));
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| {
            TypeError::text(format!("Unable to make unsigned int (for date) from: '{text}'"))
        });
    }
    let mut scanner = Scanner { rest: text };
    let days = scanner.civil().filter(|_| scanner.rest.is_empty()).ok_or_else(invalid)?;
    u32::try_from(days + i64::from(EPOCH_DATE)).map_err(|_| invalid())
}

/// Parses a time: `HH:mm:ss[.fffffffff]`, or nanoseconds since midnight.
///
/// # Errors
/// [`TypeError::InvalidText`].
pub fn parse_time(text: &str) -> Result<i64, TypeError> {
    let invalid =
        || TypeError::text(format!("Unable to coerce '{text}' to a formatted time (long)"));
    let nanos = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        let mut scanner = Scanner { rest: text };
        scanner.time_of_day(true).filter(|_| scanner.rest.is_empty())
    };
    nanos.filter(|nanos| *nanos < DAY_NANOS).ok_or_else(invalid)
}

/// Parses a timestamp: milliseconds since 1970, or
/// `yyyy-MM-dd[(T| )HH:mm[:ss[.fraction]]][ ][Z|UTC|GMT|+HH|+HHmm|+HH:mm]`; without a zone, UTC.
///
/// # Errors
/// [`TypeError::InvalidText`].
pub fn parse_timestamp(text: &str) -> Result<i64, TypeError> {
    let invalid =
        || TypeError::text(format!("Unable to coerce '{text}' to a formatted date (long)"));
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| invalid());
    }
    let mut scanner = Scanner { rest: text };
    let millis = scanner.timestamp_millis().filter(|_| scanner.rest.is_empty());
    millis.ok_or_else(invalid)
}

/// Reads text from the front; `None` where it does not match.
struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    fn eat(&mut self, prefix: char) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Digits, at least `min` and at most `max` of them.
    fn digits(&mut self, min: usize, max: usize) -> Option<&str> {
        let count = self.rest.bytes().take_while(u8::is_ascii_digit).take(max).count();
        if count < min {
            return None;
        }
        let (digits, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(digits)
    }

    fn number(&mut self, min: usize, max: usize, limit: i64) -> Option<i64> {
        self.digits(min, max)?.parse().ok().filter(|number| *number <= limit)
    }

    /// Days since 1970-01-01.
    fn civil(&mut self) -> Option<i64> {
        let is_negative = self.eat('-');
        let year_digits_max = if is_negative || self.eat('+') { 9 } else { 4 };
        let year = self.number(1, year_digits_max, 999_999_999)?;
        let year = if is_negative { -year } else { year };
        let month = self.eat('-').then(|| self.number(1, 2, 12))??;
        let day = self.eat('-').then(|| self.number(1, 2, 31))??;
        if month == 0 || day == 0 || day > days_in_month(year, month) {
            return None;
        }
        Some(days_from_civil(year, month, day))
    }

    /// Nanoseconds since midnight.
    fn time_of_day(&mut self, needs_seconds: bool) -> Option<i64> {
        let hour = self.number(1, 2, 23)?;
        let minute = self.eat(':').then(|| self.number(1, 2, 59))??;
        let mut nanos = (hour * 3600 + minute * 60) * SECOND_NANOS;
        if self.eat(':') {
            nanos += self.number(1, 2, 59)? * SECOND_NANOS;
            if self.eat('.') {
                let fraction = self.digits(1, 9)?;
                nanos += format!("{fraction:0<9}").parse::<i64>().ok()?;
            }
        } else if needs_seconds {
            return None;
        }
        Some(nanos)
    }

    /// Minutes east of UTC.
    fn zone(&mut self) -> Option<i64> {
        self.rest = self.rest.trim_start_matches(' ');
        for name in ["UTC", "GMT", "Z"] {
            if let Some(rest) = self.rest.strip_prefix(name) {
                self.rest = rest;
                return Some(0);
            }
        }
        if self.rest.is_empty() {
            return Some(0);
        }
        let sign = if self.eat('-') { -1 } else { i64::from(self.eat('+')) };
        if sign == 0 {
            return None;
        }
        let hours = self.number(2, 2, 18)?;
        let has_minutes = self.eat(':') || !self.rest.is_empty();
        let minutes = if has_minutes { self.number(2, 2, 59)? } else { 0 };
        Some(sign * (hours * 60 + minutes))
    }

    fn timestamp_millis(&mut self) -> Option<i64> {
        let days = self.civil()?;
        let is_time = |rest: &str| {
            rest.strip_prefix(['T', ' '])
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let mut nanos = 0;
        if is_time(self.rest) {
            let _separator = self.eat('T') || self.eat(' ');
            nanos = self.time_of_day(false)?;
        }
        let zone_minutes = self.zone()?;
        days.checked_mul(DAY_MILLIS)?
            .checked_add(nanos / 1_000_000)?
            .checked_sub(zone_minutes * 60_000)
    }
}
