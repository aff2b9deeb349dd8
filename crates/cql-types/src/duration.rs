//! `duration`: months, days and nanoseconds, all of one sign.

use std::fmt;
use std::str::FromStr;

use crate::{TypeError, vint};

/// Months, days and nanoseconds. They are kept apart, because months and days differ in length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Duration {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Nanoseconds.
    pub nanoseconds: i64,
}

const MICRO: i64 = 1_000;
const MILLI: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

impl Duration {
    /// From serialized bytes: three vints.
    ///
    /// # Errors
    /// [`TypeError::InvalidBytes`] when it is cut or too long, months or days do not fit 32 bits,
    /// or signs differ.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TypeError> {
        if bytes.len() < 3 {
            let message = format!("Expected at least 3 bytes for a duration ({})", bytes.len());
            return Err(TypeError::bytes(message));
        }
        let mut rest = bytes;
        let months = vint::read_signed(&mut rest)?;
        let days = vint::read_signed(&mut rest)?;
        let nanoseconds = vint::read_signed(&mut rest)?;
        let wide =
            |what| TypeError::bytes(format!("The duration {what} must be a 32 bits integer"));
        let months = i32::try_from(months).map_err(|_| wide("months"))?;
        let days = i32::try_from(days).map_err(|_| wide("days"))?;
        if !rest.is_empty() {
            return Err(TypeError::bytes("Unexpected extraneous bytes after duration value"));
        }
        let has =
            |test: fn(i64) -> bool| test(months.into()) || test(days.into()) || test(nanoseconds);
        if has(|part| part < 0) && has(|part| part > 0) {
            return Err(TypeError::bytes(
                "The duration months, days and nanoseconds must be all of the same sign",
            ));
        }
        Ok(Self { months, days, nanoseconds })
    }

    /// The serialized form.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12);
        vint::write_signed(&mut bytes, self.months.into());
        vint::write_signed(&mut bytes, self.days.into());
        vint::write_signed(&mut bytes, self.nanoseconds);
        bytes
    }
}

/// As Cassandra writes it: `1y2mo3d4h5m6s7ms8us9ns`, parts that are zero left out.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.months < 0 || self.days < 0 || self.nanoseconds < 0 {
            f.write_str("-")?;
        }
        let months = self.months.unsigned_abs();
        let mut nanoseconds = self.nanoseconds.unsigned_abs();
        let mut part = |amount: u64, unit: &str| {
            if amount == 0 { Ok(()) } else { write!(f, "{amount}{unit}") }
        };
        part((months / 12).into(), "y")?;
        part((months % 12).into(), "mo")?;
        part(self.days.unsigned_abs().into(), "d")?;
        let units =
            [(HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (MILLI, "ms"), (MICRO, "us"), (1, "ns")];
        for (size, unit) in units {
            let size = size.unsigned_abs();
            part(nanoseconds / size, unit)?;
            nanoseconds %= size;
        }
        Ok(())
    }
}

/// Adds up parts in descending order of their units.
struct Sum {
    months: i64,
    days: i64,
    nanoseconds: i64,
    last_rank: u8,
}

impl Sum {
    const fn new() -> Self {
        Self { months: 0, days: 0, nanoseconds: 0, last_rank: 0 }
    }

    /// `None` when the unit is unknown, out of order, or the sum overflows.
    fn add(&mut self, amount: i64, unit: &str) -> Option<()> {
        let (rank, field, size) = match unit {
            "y" => (1, &mut self.months, 12),
            "mo" => (2, &mut self.months, 1),
            "w" => (3, &mut self.days, 7),
            "d" => (4, &mut self.days, 1),
            "h" => (5, &mut self.nanoseconds, HOUR),
            "m" => (6, &mut self.nanoseconds, MINUTE),
            "s" => (7, &mut self.nanoseconds, SECOND),
            "ms" => (8, &mut self.nanoseconds, MILLI),
            "us" | "µs" => (9, &mut self.nanoseconds, MICRO),
            "ns" => (10, &mut self.nanoseconds, 1),
            _ => return None,
        };
        if rank <= self.last_rank {
            return None;
        }
        self.last_rank = rank;
        *field = field.checked_add(amount.checked_mul(size)?)?;
        Some(())
    }

    fn finish(self, is_negative: bool) -> Option<Duration> {
        let sign = if is_negative { -1 } else { 1 };
        Some(Duration {
            months: i32::try_from(self.months * sign).ok()?,
            days: i32::try_from(self.days * sign).ok()?,
            nanoseconds: self.nanoseconds * sign,
        })
    }
}

impl FromStr for Duration {
    type Err = TypeError;

    /// The short form (`1y2mo`), ISO 8601 (`P1Y2M3DT4H`, `P3W`), and its alternative
    /// (`P0001-02-03T04:05:06`), each with an optional `-` in front.
    fn from_str(text: &str) -> Result<Self, TypeError> {
        let (is_negative, body) = match text.strip_prefix('-') {
            Some(body) => (true, body),
            None => (false, text),
        };
        let sum = match body.strip_prefix('P') {
            Some(iso) if iso.contains('-') => parse_alternative(iso),
            Some(iso) => parse_iso(iso),
            None => parse_short(body),
        };
        sum.and_then(|sum| sum.finish(is_negative))
            .ok_or_else(|| TypeError::text(format!("Unable to convert '{text}' to a duration")))
    }
}

/// Takes digits and the letters after them off the front.
fn next_part(text: &str) -> Option<(i64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (amount, rest) = text.split_at_checked(digits)?;
    let unit = rest.find(|c: char| c.is_ascii_digit() || c == 'T').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(unit)?;
    Some((amount.parse().ok()?, unit, rest))
}

fn parse_short(mut text: &str) -> Option<Sum> {
    let mut sum = Sum::new();
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let (amount, unit, rest) = next_part(text)?;
        sum.add(amount, &unit.to_lowercase())?;
        text = rest;
    }
    Some(sum)
}

fn parse_iso(text: &str) -> Option<Sum> {
    let (mut date, mut time) = text.split_once('T').unwrap_or((text, ""));
    let mut sum = Sum::new();
    while !date.is_empty() {
        let (amount, unit, rest) = next_part(date)?;
        let unit = match unit {
            "Y" => "y",
            "M" => "mo",
            "W" => "w",
            "D" => "d",
            _ => return None,
        };
        sum.add(amount, unit)?;
        date = rest;
    }
    while !time.is_empty() {
        let (amount, unit, rest) = next_part(time)?;
        let unit = match unit {
            "H" => "h",
            "M" => "m",
            "S" => "s",
            _ => return None,
        };
        sum.add(amount, unit)?;
        time = rest;
    }
    Some(sum)
}

fn parse_alternative(text: &str) -> Option<Sum> {
    let (date, time) = text.split_once('T')?;
    let mut sum = Sum::new();
    let parts = [(date, '-', ["y", "mo", "d"]), (time, ':', ["h", "m", "s"])];
    for (text, separator, units) in parts {
        let amounts: Vec<&str> = text.split(separator).collect();
        if amounts.len() != units.len() {
            return None;
        }
        for (amount, unit) in amounts.into_iter().zip(units) {
            if !amount.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            sum.add(amount.parse().ok()?, unit)?;
        }
    }
    Some(sum)
}
