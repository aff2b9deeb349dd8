//! The orders of `uuid` and `timeuuid`, as sixteen bytes whose unsigned order they are.

/// Sorts as Cassandra's `timeuuid`: by time, then the other half byte by byte, as signed bytes.
#[must_use]
pub fn timeuuid_to_ordered(bytes: [u8; 16]) -> [u8; 16] {
    let (high, low) = halves(bytes);
    join(by_time(high), low ^ SIGNS)
}

/// Inverse of [`timeuuid_to_ordered`].
#[must_use]
pub fn timeuuid_from_ordered(bytes: [u8; 16]) -> [u8; 16] {
    let (high, low) = halves(bytes);
    join(from_by_time(high), low ^ SIGNS)
}

/// Sorts as Cassandra's `uuid`: by version; version 1 by time, others by their bytes.
#[must_use]
pub fn uuid_to_ordered(bytes: [u8; 16]) -> [u8; 16] {
    let (high, low) = halves(bytes);
    let version = (high >> 12) & 0xf;
    let high = if version == 1 {
        by_time(high)
    } else {
        (version << 60) | ((high >> 4) & 0x0fff_ffff_ffff_f000) | (high & 0xfff)
    };
    join(high, low)
}

/// Inverse of [`uuid_to_ordered`].
#[must_use]
pub fn uuid_from_ordered(bytes: [u8; 16]) -> [u8; 16] {
    let (high, low) = halves(bytes);
    let version = high >> 60;
    let high = if version == 1 {
        from_by_time(high)
    } else {
        ((high & 0x0fff_ffff_ffff_f000) << 4) | (version << 12) | (high & 0xfff)
    };
    join(high, low)
}

const SIGNS: u64 = 0x8080_8080_8080_8080;

/// Version, then time from its highest bits down.
const fn by_time(high: u64) -> u64 {
    (high << 48) | ((high << 16) & 0xffff_0000_0000) | (high >> 32)
}

const fn from_by_time(ordered: u64) -> u64 {
    (ordered << 32) | ((ordered >> 16) & 0xffff_0000) | (ordered >> 48)
}

fn halves(bytes: [u8; 16]) -> (u64, u64) {
    let whole = u128::from_be_bytes(bytes);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let halves = ((whole >> 64) as u64, whole as u64);
    halves
}

fn join(high: u64, low: u64) -> [u8; 16] {
    ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
}
