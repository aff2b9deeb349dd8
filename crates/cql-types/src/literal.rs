//! Values as text: CQL literals as Cassandra prints them, and the plain text of `CAST ... AS text`.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::{CqlType, CqlValue, TypeError, time};

/// A serialized value as a CQL literal: text in quotes, collections in their brackets.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when the bytes are not a value of the type.
pub fn to_literal(ty: &CqlType, bytes: &[u8]) -> Result<String, TypeError> {
    let mut out = String::new();
    write_literal(&mut out, &CqlValue::decode(ty, bytes)?);
    Ok(out)
}

/// A serialized value as plain text: as the literal, but text, dates and the like without quotes.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when the bytes are not a value of the type.
pub fn to_text(ty: &CqlType, bytes: &[u8]) -> Result<String, TypeError> {
    let mut out = String::new();
    let value = CqlValue::decode(ty, bytes)?;
    match &value {
        CqlValue::Empty => {}
        _ => match quoted_text(&value) {
            Some(text) => out = text,
            None => write_literal(&mut out, &value),
        },
    }
    Ok(out)
}

/// The text of values whose literals are quoted.
fn quoted_text(value: &CqlValue) -> Option<String> {
    match value {
        CqlValue::Ascii(text) | CqlValue::Text(text) => Some(text.clone()),
        CqlValue::Date(days) => Some(time::format_date(*days)),
        CqlValue::Time(nanos) => Some(time::format_time(*nanos)),
        CqlValue::Timestamp(millis) => Some(time::format_timestamp(*millis)),
        CqlValue::Inet(address) => Some(format_inet(*address)),
        CqlValue::Empty => Some(String::new()),
        _ => None,
    }
}

fn write_literal(out: &mut String, value: &CqlValue) {
    if let Some(text) = quoted_text(value) {
        write_quoted(out, &text);
        return;
    }
    match value {
        CqlValue::BigInt(value) | CqlValue::Counter(value) => push(out, value),
        CqlValue::Int(value) => push(out, value),
        CqlValue::SmallInt(value) => push(out, value),
        CqlValue::TinyInt(value) => push(out, value),
        CqlValue::VarInt(value) => push(out, value),
        CqlValue::Decimal(value) => push(out, value),
        CqlValue::Duration(value) => push(out, value),
        CqlValue::Boolean(value) => push(out, value),
        CqlValue::Double(value) => out.push_str(&format_double(*value)),
        CqlValue::Float(value) => out.push_str(&format_float(*value)),
        CqlValue::Uuid(uuid) | CqlValue::TimeUuid(uuid) => push(out, uuid),
        CqlValue::Blob(bytes) => write_hex(out, bytes),
        CqlValue::List(items) | CqlValue::Vector(items) => {
            write_sequence(out, ['[', ']'], items, write_literal);
        }
        CqlValue::Set(items) => write_sequence(out, ['{', '}'], items, write_literal),
        CqlValue::Map(entries) => write_sequence(out, ['{', '}'], entries, |out, (key, value)| {
            write_literal(out, key);
            out.push_str(": ");
            write_literal(out, value);
        }),
        CqlValue::Tuple(fields) => write_sequence(out, ['(', ')'], fields, write_nullable),
        CqlValue::Udt(fields) => write_sequence(out, ['{', '}'], fields, |out, (name, value)| {
            out.push_str(&crate::cql_type::quote_identifier(name));
            out.push_str(": ");
            write_nullable(out, value);
        }),
        _ => {}
    }
}

fn push(out: &mut String, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

fn write_nullable(out: &mut String, value: &Option<CqlValue>) {
    match value {
        Some(value) => write_literal(out, value),
        None => out.push_str("null"),
    }
}

fn write_sequence<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: &[T],
    write_item: impl Fn(&mut String, &T),
) {
    out.push(open);
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        write_item(out, item);
    }
    out.push(close);
}

fn write_quoted(out: &mut String, text: &str) {
    out.push('\'');
    out.push_str(&text.replace('\'', "''"));
    out.push('\'');
}

fn write_hex(out: &mut String, bytes: &[u8]) {
    out.push_str("0x");
    for byte in bytes {
        push(out, format_args!("{byte:02x}"));
    }
}

/// An address as Java prints it: no group of an IPv6 address is left out.
fn format_inet(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let groups: Vec<String> =
                address.segments().iter().map(|group| format!("{group:x}")).collect();
            groups.join(":")
        }
    }
}

/// As Java's `Double.toString`: plain from 10^-3 to 10^7, else with an exponent; at least one
/// digit after the point.
#[must_use]
pub fn format_double(value: f64) -> String {
    let two_digits = format!("{value:.1e}");
    let is_exact = two_digits.parse() == Ok(value);
    let shortest = if is_exact { two_digits } else { format!("{value:e}") };
    format_java(&shortest, value.is_nan(), value.is_infinite())
}

/// As Java's `Float.toString`.
#[must_use]
pub fn format_float(value: f32) -> String {
    let two_digits = format!("{value:.1e}");
    let is_exact = two_digits.parse() == Ok(value);
    let shortest = if is_exact { two_digits } else { format!("{value:e}") };
    format_java(&shortest, value.is_nan(), value.is_infinite())
}

/// From the shortest scientific form; Java takes two digits where one would do.
fn format_java(shortest: &str, is_nan: bool, is_infinite: bool) -> String {
    if is_nan {
        return "NaN".to_owned();
    }
    let (sign, shortest) = match shortest.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", shortest),
    };
    if is_infinite {
        return format!("{sign}Infinity");
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        significant => significant,
    };
    let or_zero = |text: &str| {
        if text.is_empty() { "0".to_owned() } else { text.to_owned() }
    };
    match exponent {
        _ if digits == "0" => format!("{sign}0.0"),
        0..7 => {
            let whole = usize::try_from(exponent).unwrap_or(0) + 1;
            let padded = format!("{digits:0<whole$}");
            let (whole, fraction) = padded.split_at(whole);
            format!("{sign}{whole}.{}", or_zero(fraction))
        }
        -3..0 => {
            let zeros = "0".repeat(usize::try_from(-exponent).unwrap_or(1) - 1);
            format!("{sign}0.{zeros}{digits}")
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            format!("{sign}{first}.{}E{exponent}", or_zero(rest))
        }
    }
}

#[cfg(test)]
mod tests;
