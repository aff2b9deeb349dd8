//! Numbers, dates and addresses as conditions write them.

use std::net::IpAddr;
use time::{OffsetDateTime, format_description::well_known::Iso8601};

/// A decimal number; no exponents, infinities or hexadecimal.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_plain && text.len() <= 32 { text.parse().ok() } else { None }
}

/// Milliseconds since 1970 of an ISO 8601 date with time and offset, of a plain date (midnight
/// UTC), or of a number of seconds since 1970.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    if let Some(seconds) = parse_number(text) {
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
        return Some((seconds * 1000.0) as i64);
    }
    if text.len() > 40 {
        return None;
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let date = OffsetDateTime::parse(&whole, &Iso8601::DEFAULT).ok()?;
    i64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Addresses with a common prefix: `203.0.113.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IpRange {
    address: IpAddr,
    prefix_len: u8,
}

impl IpRange {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match prefix_len {
            Some(len) if len.bytes().all(|byte| byte.is_ascii_digit()) => len.parse().ok()?,
            Some(_) => return None,
            None => longest,
        };
        (prefix_len <= longest).then_some(Self { address, prefix_len })
    }

    /// An IPv4 address that came over IPv6 (`::ffff:a.b.c.d`) counts as the IPv4 address.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let address = address.to_canonical();
        if address.is_ipv4() != self.address.is_ipv4() {
            return false;
        }
        let differing = bits(address) ^ bits(self.address);
        let shift = 128_u32.saturating_sub(u32::from(self.prefix_len));
        differing.checked_shr(shift).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_what_shares_their_prefix() {
        let contains = |range: &str, address: &str| {
            IpRange::parse(range).unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("203.0.113.0/24", "203.0.113.255"));
        assert!(contains("203.0.113.0/24", "::ffff:203.0.113.7"));
        assert!(!contains("203.0.113.0/24", "203.0.114.0"));
        assert!(contains("127.0.0.1", "127.0.0.1"));
        assert!(!contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("0.0.0.0/0", "8.8.8.8"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(contains("::/0", "::1"));
        for bad in ["", "1.2.3", "1.2.3.4/33", "::1/129", "1.2.3.4/", "1.2.3.4/+8", "host/8"] {
            assert_eq!(IpRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_are_iso_8601_or_seconds() {
        assert_eq!(parse_date("1970-01-02T00:00:00Z"), Some(86_400_000));
        assert_eq!(parse_date("1970-01-02"), Some(86_400_000));
        assert_eq!(parse_date("1970-01-01T02:00:00+01:00"), Some(3_600_000));
        assert_eq!(parse_date("86400"), Some(86_400_000));
        for bad in ["", "tomorrow", "1970-13-01T00:00:00Z", "1e9", "NaN", "0x10"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }
}
