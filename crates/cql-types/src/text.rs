//! Values from text: what stands in a quoted literal, and numbers.

use std::net::IpAddr;

use bytes::Bytes;
use num_bigint::BigInt;
use uuid::Uuid;

use crate::{CqlType, CqlValue, Decimal, Duration, TypeError, time, validate};

/// The serialized value that text stands for. For collections, tuples and user types there is no
/// such form.
///
/// # Errors
/// [`TypeError::InvalidText`].
pub fn from_text(ty: &CqlType, text: &str) -> Result<Bytes, TypeError> {
    let value = match ty {
        CqlType::Frozen(inner) => return from_text(inner, text),
        CqlType::Ascii | CqlType::Text => CqlValue::Text(text.to_owned()),
        CqlType::Blob => CqlValue::Blob(parse_hex(text)?),
        CqlType::Boolean => CqlValue::Boolean(parse_boolean(text)?),
        CqlType::BigInt => CqlValue::BigInt(number(text, "long")?),
        CqlType::Counter => CqlValue::Counter(number(text, "long")?),
        CqlType::Int => CqlValue::Int(number(text, "int")?),
        CqlType::SmallInt => CqlValue::SmallInt(number(text, "short")?),
        CqlType::TinyInt => CqlValue::TinyInt(number(text, "byte")?),
        CqlType::VarInt => CqlValue::VarInt(number::<BigInt>(text, "int")?),
        CqlType::Float => CqlValue::Float(number(text, "float")?),
        CqlType::Double => CqlValue::Double(number(text, "double")?),
        CqlType::Decimal => CqlValue::Decimal(text.parse::<Decimal>()?),
        CqlType::Duration => CqlValue::Duration(text.parse::<Duration>()?),
        CqlType::Date => CqlValue::Date(time::parse_date(text)?),
        CqlType::Time => CqlValue::Time(time::parse_time(text)?),
        CqlType::Timestamp => CqlValue::Timestamp(time::parse_timestamp(text)?),
        CqlType::Inet => CqlValue::Inet(parse_inet(text)?),
        CqlType::Uuid => CqlValue::Uuid(parse_uuid(text)?),
        CqlType::TimeUuid => CqlValue::TimeUuid(parse_uuid(text)?),
        _ => return Err(TypeError::text(format!("no text form for type {ty}"))),
    };
    let bytes = value.encode(ty)?;
    validate(ty, &bytes)?;
    Ok(bytes)
}

fn number<N: std::str::FromStr>(text: &str, name: &str) -> Result<N, TypeError> {
    text.parse().map_err(|_| TypeError::text(format!("Unable to make {name} from '{text}'")))
}

/// # Errors
/// [`TypeError::InvalidText`] unless it is `true` or `false` in any letter case.
fn parse_boolean(text: &str) -> Result<bool, TypeError> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(TypeError::text(format!("Unable to make boolean from '{text}'")))
    }
}

/// Parses an address.
///
/// # Errors
/// [`TypeError::InvalidText`]; host names are not looked up.
pub fn parse_inet(text: &str) -> Result<IpAddr, TypeError> {
    // As in Java, an IPv4 address mapped into IPv6 is the IPv4 address.
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| TypeError::text(format!("Unable to make inet address from '{text}'")))
}

/// Parses a UUID in its form with hyphens.
///
/// # Errors
/// [`TypeError::InvalidText`].
pub fn parse_uuid(text: &str) -> Result<Uuid, TypeError> {
    let invalid = || TypeError::text(format!("Unable to make UUID from '{text}'"));
    if text.len() != 36 {
        return Err(invalid());
    }
    Uuid::try_parse(text).map_err(|_| invalid())
}

/// Parses hexadecimal digits, two to a byte, with or without `0x` in front.
///
/// # Errors
/// [`TypeError::InvalidText`].
pub fn parse_hex(text: &str) -> Result<Bytes, TypeError> {
    let invalid = || TypeError::text("An hex string representing bytes must have an even length");
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or_else(|| TypeError::text("Non-hex characters in a hex string"))
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid());
    }
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}
