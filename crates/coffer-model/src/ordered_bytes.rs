//! Bytes whose `memcmp` order is the order of the values; what clustering columns, set elements
//! and map keys are stored as.
//!
//! One component is a marker and then, unless it is empty, the value:
//!
//! | marker | then |
//! |---|---|
//! | 0x01 | nothing: null (fields of tuples only) |
//! | 0x02 | nothing: the empty value |
//! | 0x03 | the value |
//!
//! No component is a prefix of another, so components stand one after the other. Those of a
//! descending column have all their bits inverted. A bound before everything that begins with some
//! components is their bytes; the bound after it is their bytes and 0xFF, which no component
//! begins with.
//!
//! Values: signed integers big endian with the sign bit flipped; floating point in Java's order;
//! text, blobs, addresses with 0x00 as `00 FF` and `00 01` at the end; UUIDs as
//! `cql_types::uuid_order`; varint as length and digits; collections and tuples 0x04 before each
//! item, 0x00 at the end; a vector its items.
//!
//! Values that are equal but written differently come back in one way: decimals without trailing
//! zeros, varints in their shortest form, one NaN, one `true`, tuples with all their fields.

use bytes::Bytes;
use cql_types::collection::{elements, fields, map_elements, write_element};
use cql_types::vector::{vector_elements, write_vector};
use cql_types::{
    CollectionWriter, CqlType, Decimal, DecimalDigits, big_integer, double_order, float_order,
    uuid_order,
};

use crate::Error;
use crate::varint::{take, take_array};

const NULL: u8 = 0x01;
const EMPTY: u8 = 0x02;
const VALUE: u8 = 0x03;
const ITEM: u8 = 0x04;
const END: u8 = 0x00;

/// What follows a prefix in the bound after everything that begins with it.
pub const AFTER_PREFIX: u8 = 0xff;

/// Appends a serialized value as one component.
///
/// # Errors
/// [`Error::Malformed`] when the bytes are not a value of the type; they should have been
/// validated.
pub fn encode(ty: &CqlType, reversed: bool, value: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    encode_component(ty, value, out)?;
    if reversed {
        invert(out.get_mut(start..).unwrap_or_default());
    }
    Ok(())
}

/// Takes a component from the front of `input` and gives the serialized value.
///
/// # Errors
/// [`Error::Malformed`] when it is not a component of a value of the type.
pub fn decode(ty: &CqlType, reversed: bool, input: &mut &[u8]) -> Result<Bytes, Error> {
    let mut value = Vec::new();
    decode_into(ty, reversed, input, &mut value)?;
    Ok(value.into())
}

/// As [`decode`], appending the serialized value to `out`; nothing is allocated for types of fixed
/// length.
///
/// # Errors
/// [`Error::Malformed`]; `out` is as before then.
pub fn decode_into(
    ty: &CqlType,
    reversed: bool,
    input: &mut &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    if let Some(length) = fixed_length(ty)
        && let Some((component, rest)) = input.split_at_checked(1 + length)
    {
        let mut buffer = [0u8; FIXED_LENGTH_MAX + 1];
        let copy = buffer.get_mut(..=length).ok_or(malformed())?;
        copy.copy_from_slice(component);
        if reversed {
            invert(copy);
        }
        if let Some((&mut VALUE, value)) = copy.split_first_mut() {
            decode_fixed(ty, value)?;
            out.extend_from_slice(value);
            *input = rest;
            return Ok(());
        }
    }
    let value = if reversed {
        let mut inverted = input.to_vec();
        invert(&mut inverted);
        let mut rest = inverted.as_slice();
        let value = decode_component(ty, &mut rest)?.ok_or(malformed())?;
        let length = inverted.len() - rest.len();
        take(input, length)?;
        value
    } else {
        decode_component(ty, input)?.ok_or(malformed())?
    };
    out.extend_from_slice(&value);
    Ok(())
}

fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

const fn malformed() -> Error {
    Error::Malformed("ordered bytes")
}

fn exact<const N: usize>(value: &[u8]) -> Result<[u8; N], Error> {
    value.try_into().map_err(|_| malformed())
}

fn encode_component(ty: &CqlType, value: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if value.is_empty() {
        out.push(EMPTY);
        return Ok(());
    }
    out.push(VALUE);
    match ty {
        CqlType::Ascii | CqlType::Text | CqlType::Blob => encode_escaped(value, out),
        CqlType::Inet | CqlType::Duration | CqlType::Custom(_) | CqlType::Empty => {
            encode_escaped(value, out);
        }
        CqlType::Boolean => out.push(u8::from(exact(value)? != [0])),
        CqlType::TinyInt => out.extend(flip_sign(exact::<1>(value)?)),
        CqlType::SmallInt => out.extend(flip_sign(exact::<2>(value)?)),
        CqlType::Int => out.extend(flip_sign(exact::<4>(value)?)),
        CqlType::BigInt | CqlType::Counter | CqlType::Timestamp | CqlType::Time => {
            out.extend(flip_sign(exact::<8>(value)?));
        }
        CqlType::Date => out.extend(exact::<4>(value)?),
        CqlType::Float => {
            let order = float_order(f32::from_be_bytes(exact(value)?));
            out.extend(flip_sign(order.to_be_bytes()));
        }
        CqlType::Double => {
            let order = double_order(f64::from_be_bytes(exact(value)?));
            out.extend(flip_sign(order.to_be_bytes()));
        }
        CqlType::Uuid => out.extend(uuid_order::uuid_to_ordered(exact(value)?)),
        CqlType::TimeUuid => out.extend(uuid_order::timeuuid_to_ordered(exact(value)?)),
        CqlType::VarInt => encode_varint(value, out),
        CqlType::Decimal => encode_decimal(&Decimal::from_bytes(value)?.to_digits(), out),
        CqlType::Frozen(inner) => {
            out.pop();
            return encode_component(inner, value, out);
        }
        _ => return encode_nested(ty, value, out),
    }
    Ok(())
}

fn encode_nested(ty: &CqlType, value: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    match ty {
        CqlType::List(element) | CqlType::Set(element) => {
            for item in elements(value)? {
                out.push(ITEM);
                encode_component(element, item?.ok_or(malformed())?, out)?;
            }
        }
        CqlType::Map(key, value_type) => {
            let mut types = [key, value_type].into_iter().cycle();
            for (item, ty) in map_elements(value)?.zip(&mut types) {
                out.push(ITEM);
                encode_component(ty, item?.ok_or(malformed())?, out)?;
            }
        }
        CqlType::Tuple(types) => encode_fields(types.iter(), value, out)?,
        CqlType::Udt(user_type) => {
            encode_fields(user_type.fields.iter().map(|(_, ty)| ty), value, out)?;
        }
        CqlType::Vector(element, dimension) => {
            for item in vector_elements(element, *dimension, value)? {
                encode_component(element, item, out)?;
            }
            return Ok(());
        }
        _ => return Err(malformed()),
    }
    out.push(END);
    Ok(())
}

/// Fields up to the last one that is not null, so that a field added to a user type later changes
/// nothing.
fn encode_fields<'t>(
    types: impl Iterator<Item = &'t CqlType>,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut kept = out.len();
    for (field, ty) in fields(value).zip(types) {
        out.push(ITEM);
        match field? {
            None => out.push(NULL),
            Some(field) => {
                encode_component(ty, field, out)?;
                kept = out.len();
            }
        }
    }
    out.truncate(kept);
    Ok(())
}

/// 0x00 becomes `00 FF`; `00 01` ends the value.
fn encode_escaped(value: &[u8], out: &mut Vec<u8>) {
    let mut parts = value.split(|byte| *byte == 0);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend_from_slice(&[0x00, 0xff]);
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[0x00, 0x01]);
}

fn decode_escaped(input: &mut &[u8]) -> Result<Vec<u8>, Error> {
    let mut value = Vec::new();
    loop {
        let zero = input.iter().position(|byte| *byte == 0).ok_or(malformed())?;
        value.extend_from_slice(take(input, zero)?);
        match take_array(input)? {
            [0x00, 0x01] => return Ok(value),
            [0x00, 0xff] => value.push(0),
            _ => return Err(malformed()),
        }
    }
}

fn flip_sign<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    if let Some(first) = bytes.first_mut() {
        *first ^= 0x80;
    }
    bytes
}

/// Longest varint whose length stands in one byte.
const SHORT_VARINT_BYTES: usize = 0x7e;

/// Length and bytes of the shortest form. The length byte is 0x80 + length, of negative numbers
/// 0x7F - length; where it is 0xFF or 0x00 four bytes of length follow, inverted for negative ones.
fn encode_varint(value: &[u8], out: &mut Vec<u8>) {
    let value = big_integer::minimal(value);
    let is_negative = big_integer::is_negative(value);
    let sign = |byte: u8| if is_negative { !byte } else { byte };
    match u8::try_from(value.len()) {
        Ok(length) if value.len() <= SHORT_VARINT_BYTES => out.push(sign(0x80 + length)),
        _ => {
            out.push(sign(0xff));
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            out.extend(length.to_be_bytes().map(sign));
        }
    }
    out.extend_from_slice(value);
}

fn decode_varint(input: &mut &[u8]) -> Result<Bytes, Error> {
    let [first] = take_array(input)?;
    let is_negative = first < 0x80;
    let sign = |byte: u8| if is_negative { !byte } else { byte };
    let length = match sign(first) - 0x80 {
        0x7f => u32::from_be_bytes(take_array::<4>(input)?.map(sign)) as usize,
        length => usize::from(length),
    };
    let value = take(input, length)?;
    if value.is_empty() || big_integer::is_negative(value) != is_negative {
        return Err(malformed());
    }
    Ok(Bytes::copy_from_slice(value))
}

const NEGATIVE: u8 = 0x40;
const ZERO: u8 = 0x80;
const POSITIVE: u8 = 0xc0;

/// Sign; exponent (8 bytes, sign bit flipped), digits plus one, and 0x00, all of them inverted for
/// negative numbers.
fn encode_decimal(parts: &DecimalDigits, out: &mut Vec<u8>) {
    if parts.digits.is_empty() {
        out.push(ZERO);
        return;
    }
    out.push(if parts.is_negative { NEGATIVE } else { POSITIVE });
    let sign = |byte: u8| if parts.is_negative { !byte } else { byte };
    out.extend(flip_sign(parts.exponent.to_be_bytes()).map(sign));
    out.extend(parts.digits.iter().map(|digit| sign(digit + 1)));
    out.push(sign(0));
}

fn decode_decimal(input: &mut &[u8]) -> Result<Bytes, Error> {
    let is_negative = match take_array(input)? {
        [ZERO] => return Ok(vec![0, 0, 0, 0, 0].into()),
        [NEGATIVE] => true,
        [POSITIVE] => false,
        _ => return Err(malformed()),
    };
    let sign = |byte: u8| if is_negative { !byte } else { byte };
    let exponent = i64::from_be_bytes(flip_sign(take_array::<8>(input)?.map(sign)));
    let end = input.iter().position(|byte| sign(*byte) == 0).ok_or(malformed())?;
    let digits: Vec<u8> = take(input, end)?.iter().map(|byte| sign(*byte) - 1).collect();
    take(input, 1)?;
    if digits.is_empty() || digits.iter().any(|digit| *digit > 9) {
        return Err(malformed());
    }
    let parts = DecimalDigits { is_negative, exponent, digits };
    Ok(Decimal::from_digits(&parts)?.to_bytes().into())
}

/// `None` is null.
fn decode_component(ty: &CqlType, input: &mut &[u8]) -> Result<Option<Bytes>, Error> {
    match take_array(input)? {
        [NULL] => return Ok(None),
        [EMPTY] => return Ok(Some(Bytes::new())),
        [VALUE] => {}
        _ => return Err(malformed()),
    }
    decode_value(ty, input).map(Some)
}

/// Longest value of fixed length.
const FIXED_LENGTH_MAX: usize = 16;

/// Length of every value but null and empty, where there is one.
fn fixed_length(ty: &CqlType) -> Option<usize> {
    Some(match ty {
        CqlType::Boolean | CqlType::TinyInt => 1,
        CqlType::SmallInt => 2,
        CqlType::Int | CqlType::Date | CqlType::Float => 4,
        CqlType::BigInt
        | CqlType::Counter
        | CqlType::Timestamp
        | CqlType::Time
        | CqlType::Double => 8,
        CqlType::Uuid | CqlType::TimeUuid => 16,
        _ => return None,
    })
}

/// The serialized value, in place, of a type with a [`fixed_length`]; `bytes` are as long.
fn decode_fixed(ty: &CqlType, bytes: &mut [u8]) -> Result<(), Error> {
    match ty {
        CqlType::Boolean if *bytes != [0] && *bytes != [1] => return Err(malformed()),
        CqlType::Boolean | CqlType::Date => {}
        // Java's order keeps the bits of positive numbers and inverts all but the sign of others.
        CqlType::Float | CqlType::Double => match bytes {
            [first, ..] if *first >= 0x80 => *first ^= 0x80,
            _ => invert(bytes),
        },
        CqlType::Uuid => bytes.copy_from_slice(&uuid_order::uuid_from_ordered(exact(bytes)?)),
        CqlType::TimeUuid => {
            bytes.copy_from_slice(&uuid_order::timeuuid_from_ordered(exact(bytes)?));
        }
        _ => {
            if let Some(first) = bytes.first_mut() {
                *first ^= 0x80;
            }
        }
    }
    Ok(())
}

fn decode_value(ty: &CqlType, input: &mut &[u8]) -> Result<Bytes, Error> {
    if let Some(length) = fixed_length(ty) {
        let mut value = take(input, length)?.to_vec();
        decode_fixed(ty, &mut value)?;
        return Ok(value.into());
    }
    Ok(match ty {
        CqlType::VarInt => decode_varint(input)?,
        CqlType::Decimal => decode_decimal(input)?,
        CqlType::List(element) | CqlType::Set(element) => {
            let mut writer = CollectionWriter::sequence();
            while has_item(input)? {
                writer.push(&decode_component(element, input)?.ok_or(malformed())?);
            }
            writer.finish()
        }
        CqlType::Map(key, value) => {
            let mut writer = CollectionWriter::map();
            while has_item(input)? {
                writer.push(&decode_component(key, input)?.ok_or(malformed())?);
                if !has_item(input)? {
                    return Err(malformed());
                }
                writer.push(&decode_component(value, input)?.ok_or(malformed())?);
            }
            writer.finish()
        }
        CqlType::Tuple(types) => decode_fields(types.iter(), input)?,
        CqlType::Udt(user_type) => decode_fields(user_type.fields.iter().map(|(_, ty)| ty), input)?,
        CqlType::Vector(element, dimension) => {
            let items = (0..*dimension)
                .map(|_| decode_component(element, input)?.ok_or(malformed()))
                .collect::<Result<Vec<Bytes>, Error>>()?;
            let length = element.fixed_bytes();
            if items.iter().any(|item| length.is_some_and(|length| item.len() != length)) {
                return Err(malformed());
            }
            write_vector(element, &items)
        }
        CqlType::Frozen(inner) => decode_value(inner, input)?,
        _ => decode_escaped(input)?.into(),
    })
}

/// Whether another item follows.
fn has_item(input: &mut &[u8]) -> Result<bool, Error> {
    match take_array(input)? {
        [ITEM] => Ok(true),
        [END] => Ok(false),
        _ => Err(malformed()),
    }
}

fn decode_fields<'t>(
    types: impl Iterator<Item = &'t CqlType>,
    input: &mut &[u8],
) -> Result<Bytes, Error> {
    let mut out = Vec::new();
    let mut has_ended = false;
    for ty in types {
        has_ended = has_ended || !has_item(input)?;
        let field = if has_ended { None } else { decode_component(ty, input)? };
        write_element(&mut out, field.as_deref());
    }
    if !has_ended && has_item(input)? {
        return Err(malformed());
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests;
