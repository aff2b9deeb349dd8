//! UUIDs of version 1: made, bounded, and taken apart. Times are given, never asked for.

use uuid::Uuid;

/// 1582-10-15, where version 1 counts from, to 1970, in units of 100 ns.
const GREGORIAN_OFFSET: i64 = 0x01b2_1dd2_1381_4000;
const UNITS_PER_MILLI: i64 = 10_000;
const UNITS_PER_MICRO: i64 = 10;
const TIME_BITS: u64 = (1 << 60) - 1;

/// Makes version 1 UUIDs that are unique within a node and never go back.
///
/// `clock_sequence_and_node` are eight random bytes of the process.
#[derive(Debug)]
pub struct TimeUuidGenerator {
    low: u64,
    last_units: std::sync::atomic::AtomicI64,
}

impl TimeUuidGenerator {
    /// A generator with its random part.
    #[must_use]
    pub const fn new(clock_sequence_and_node: [u8; 8]) -> Self {
        // Variant 10 in front, and the multicast bit of the node, which says that it is random.
        let low = u64::from_be_bytes(clock_sequence_and_node) & 0x3fff_ffff_ffff_ffff
            | 0x8000_0100_0000_0000;
        Self { low, last_units: std::sync::atomic::AtomicI64::new(i64::MIN) }
    }

    /// A UUID for a time in microseconds since 1970, or just after the last one made.
    pub fn next(&self, now_micros: i64) -> Uuid {
        use std::sync::atomic::Ordering::Relaxed;
        let wanted = now_micros.saturating_mul(UNITS_PER_MICRO);
        let after = |last: i64| wanted.max(last.saturating_add(1));
        let last = self
            .last_units
            .fetch_update(Relaxed, Relaxed, |last| Some(after(last)))
            .unwrap_or_else(|last| last);
        from_parts(after(last), self.low)
    }
}

fn from_parts(units_since_1970: i64, low: u64) -> Uuid {
    let time = units_since_1970.saturating_add(GREGORIAN_OFFSET).cast_unsigned() & TIME_BITS;
    let high = (time << 32) | ((time >> 16) & 0xffff_0000) | 0x1000 | (time >> 48);
    Uuid::from_u64_pair(high, low)
}

/// Units of 100 ns since 1970; `None` when it is not of version 1.
fn units(uuid: &Uuid) -> Option<i64> {
    let (high, _) = uuid.as_u64_pair();
    if (high >> 12) & 0xf != 1 {
        return None;
    }
    let time = (high >> 32) | ((high & 0xffff_0000) << 16) | ((high & 0x0fff) << 48);
    Some(time.cast_signed() - GREGORIAN_OFFSET)
}

/// Milliseconds since 1970; `None` when it is not of version 1.
#[must_use]
pub fn to_millis(uuid: &Uuid) -> Option<i64> {
    units(uuid).map(|units| units.div_euclid(UNITS_PER_MILLI))
}

/// Microseconds since 1970; `None` when it is not of version 1.
#[must_use]
pub fn to_micros(uuid: &Uuid) -> Option<i64> {
    units(uuid).map(|units| units.div_euclid(UNITS_PER_MICRO))
}

/// The smallest `timeuuid` of a millisecond (`minTimeuuid`). It is a bound, not unique.
#[must_use]
pub fn min_timeuuid(millis: i64) -> Uuid {
    from_parts(millis.saturating_mul(UNITS_PER_MILLI), 0x8080_8080_8080_8080)
}

/// The largest `timeuuid` of a millisecond (`maxTimeuuid`). It is a bound, not unique.
#[must_use]
pub fn max_timeuuid(millis: i64) -> Uuid {
    let units = millis.saturating_add(1).saturating_mul(UNITS_PER_MILLI).saturating_sub(1);
    from_parts(units, 0x7f7f_7f7f_7f7f_7f7f)
}

#[cfg(test)]
mod tests;
