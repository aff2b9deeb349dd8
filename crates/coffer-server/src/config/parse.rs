//! Texts to values of options.

use std::fmt::Display;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn number<T>(text: &str, least: T, most: T) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display,
{
    let number: T = text.trim().parse().map_err(|_| format!("{text:?} is not a number"))?;
    if number < least || number > most {
        return Err(format!("{number} is not between {least} and {most}"));
    }
    Ok(number)
}

/// A number of bytes, with an optional unit: `65536`, `64KiB`, `64 MiB`, `1GiB`.
pub(super) fn bytes(text: &str, least: u64, most: u64) -> Parsed<u64> {
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|end: char| !end.is_ascii_digit());
    let unit: u64 = match trimmed.strip_prefix(digits).unwrap_or("").trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("{text:?} is not a number of bytes")),
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is not a number of bytes"))?;
    if bytes < least || bytes > most {
        return Err(format!("{bytes} bytes is not between {least} and {most}"));
    }
    Ok(bytes)
}

pub(super) fn size(text: &str, least: usize, most: usize) -> Parsed<usize> {
    let widen = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let bytes = bytes(text, widen(least), widen(most))?;
    usize::try_from(bytes).map_err(|_| format!("{bytes} bytes is too much for this machine"))
}

pub(super) fn truth(text: &str) -> Parsed<bool> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Parsed<T> {
    let found = choices.iter().find(|(name, _)| *name == text.trim());
    found.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is not one of them"))
}

/// A non-empty text of letters that are safe in ARNs, file names and logs.
pub(super) fn name(text: &str, length_max: usize) -> Parsed<String> {
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || " ._-".contains(letter);
    if text.is_empty() || text.len() > length_max || !text.chars().all(is_safe) {
        return Err(format!("{text:?} is empty, too long, or has other letters"));
    }
    Ok(text.to_owned())
}

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    let wrong = || format!("{text:?} is not an address and a port");
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    // a host name such as localhost; the first address is taken, IPv4 before IPv6
    let mut addresses: Vec<SocketAddr> = text.to_socket_addrs().map_err(|_| wrong())?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.into_iter().next().ok_or_else(wrong)
}
