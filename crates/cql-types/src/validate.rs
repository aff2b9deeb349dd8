//! Whether bytes from outside are a value of a type.

use crate::collection::{Elements, elements, fields, map_elements};
use crate::vector::vector_elements;
use crate::{CqlType, Duration, TypeError};

/// Nanoseconds of a day.
const DAY_NANOS: i64 = 86_400_000_000_000;

/// Checks that `bytes` are a serialized value of the type. An empty value is one of most types.
///
/// # Errors
/// [`TypeError::InvalidBytes`] with Cassandra's message.
pub fn validate(ty: &CqlType, bytes: &[u8]) -> Result<(), TypeError> {
    match ty {
        CqlType::Ascii => match bytes.iter().find(|byte| !byte.is_ascii()) {
            None => Ok(()),
            Some(byte) => {
                let message = format!("Invalid byte for ascii: {}", byte.cast_signed());
                Err(TypeError::bytes(message))
            }
        },
        CqlType::Text => match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(_) => Err(TypeError::bytes("String didn't validate.")),
        },
        CqlType::Blob | CqlType::VarInt | CqlType::Custom(_) => Ok(()),
        CqlType::Empty if bytes.is_empty() => Ok(()),
        CqlType::Empty => Err(TypeError::bytes("EmptyType only accept empty values")),
        CqlType::Inet => match bytes.len() {
            0 | 4 | 16 => Ok(()),
            length => wrong_length("Expected 4 or 16 byte inetaddress; got", length),
        },
        CqlType::Decimal => match bytes.len() {
            length @ 1..4 => wrong_length("Expected 0 or at least 4 bytes", length),
            _ => Ok(()),
        },
        CqlType::Duration if bytes.is_empty() => Ok(()),
        CqlType::Duration => Duration::from_bytes(bytes).map(|_| ()),
        CqlType::List(element) => validate_items("list", bytes, elements, |_| element),
        CqlType::Set(element) => validate_items("set", bytes, elements, |_| element),
        CqlType::Map(key, value) => {
            validate_items("map", bytes, map_elements, |is_key| if is_key { key } else { value })
        }
        CqlType::Tuple(types) => validate_fields("tuple", types.iter(), bytes),
        CqlType::Udt(user_type) => {
            validate_fields("user type", user_type.fields.iter().map(|(_, ty)| ty), bytes)
        }
        CqlType::Vector(element, dimension) => vector_elements(element, *dimension, bytes)?
            .into_iter()
            .try_for_each(|item| validate(element, item)),
        CqlType::Frozen(inner) => validate(inner, bytes),
        _ => validate_fixed(ty, bytes),
    }
}

fn wrong_length<T>(expected: &str, length: usize) -> Result<T, TypeError> {
    Err(TypeError::bytes(format!("{expected} ({length})")))
}

/// The types with one length.
fn validate_fixed(ty: &CqlType, bytes: &[u8]) -> Result<(), TypeError> {
    let (length, may_be_empty, message) = match ty {
        CqlType::BigInt | CqlType::Counter => (8, true, "Expected 8 or 0 byte long"),
        CqlType::Boolean => (1, true, "Expected 1 or 0 byte value"),
        CqlType::Date => (4, false, "Expected 4 byte long for date"),
        CqlType::Double => (8, true, "Expected 8 or 0 byte value for a double"),
        CqlType::Float => (4, true, "Expected 4 or 0 byte value for a float"),
        CqlType::Int => (4, true, "Expected 4 or 0 byte int"),
        CqlType::SmallInt => (2, false, "Expected 2 bytes for a smallint"),
        CqlType::Time => (8, false, "Expected 8 byte long for time"),
        CqlType::Timestamp => (8, true, "Expected 8 or 0 byte long for date"),
        CqlType::TinyInt => (1, false, "Expected 1 byte for a tinyint"),
        _ => (16, true, "UUID should be 16 or 0 bytes"),
    };
    if bytes.len() != length && !(bytes.is_empty() && may_be_empty) {
        return wrong_length(message, bytes.len());
    }
    match (ty, bytes) {
        (CqlType::TimeUuid, [_, _, _, _, _, _, version, ..]) if version & 0xf0 != 0x10 => {
            Err(TypeError::bytes("Invalid version for TimeUUID type."))
        }
        (CqlType::Time, _) => match bytes.first_chunk().map(|nanos| i64::from_be_bytes(*nanos)) {
            Some(0..DAY_NANOS) => Ok(()),
            _ => Err(TypeError::bytes("Input long out of bounds for time of day in nanoseconds")),
        },
        _ => Ok(()),
    }
}

fn validate_items<'a, 't>(
    name: &'static str,
    bytes: &'a [u8],
    open: impl Fn(&'a [u8]) -> Result<Elements<'a>, TypeError>,
    element_type: impl Fn(bool) -> &'t CqlType,
) -> Result<(), TypeError> {
    let cut = |_| TypeError::bytes(format!("Not enough bytes to read a {name}"));
    let mut items = open(bytes).map_err(cut)?;
    let mut is_key = true;
    for item in items.by_ref() {
        let Some(item) = item.map_err(cut)? else {
            return Err(TypeError::bytes("null is not supported inside collections"));
        };
        validate(element_type(is_key), item)?;
        is_key = !is_key;
    }
    if items.rest().is_empty() {
        return Ok(());
    }
    Err(TypeError::bytes(format!("Unexpected extraneous bytes after {name} value")))
}

fn validate_fields<'t>(
    name: &'static str,
    types: impl Iterator<Item = &'t CqlType>,
    bytes: &[u8],
) -> Result<(), TypeError> {
    let mut items = fields(bytes);
    for (place, ty) in types.enumerate() {
        match items.next() {
            None => return Ok(()),
            Some(Ok(None)) => {}
            Some(Ok(Some(field))) => validate(ty, field)?,
            Some(Err(_)) => {
                let message = format!("Not enough bytes to read {place}th field of {name}");
                return Err(TypeError::bytes(message));
            }
        }
    }
    if items.rest().is_empty() {
        return Ok(());
    }
    Err(TypeError::bytes(format!("Invalid remaining data after end of {name} value")))
}
