//! Big-endian two's complement, as `varint` and the digits of `decimal` are serialized.

/// The shortest form of the same number: redundant sign bytes at the front left out. An empty
/// value stays empty.
#[must_use]
pub fn minimal(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let Some(second) = rest.first()
        && ((*first == 0x00 && *second < 0x80) || (*first == 0xff && *second >= 0x80))
    {
        bytes = rest;
    }
    bytes
}

/// Whether the number is negative.
#[must_use]
pub fn is_negative(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first >= 0x80)
}

/// Compares two numbers.
#[must_use]
pub fn compare(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    let (left, right) = (minimal(left), minimal(right));
    match (is_negative(left), is_negative(right)) {
        (false, true) => std::cmp::Ordering::Greater,
        (true, false) => std::cmp::Ordering::Less,
        (false, false) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        (true, true) => right.len().cmp(&left.len()).then_with(|| left.cmp(right)),
    }
}
