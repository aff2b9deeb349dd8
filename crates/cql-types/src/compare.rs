//! How two serialized values of a type compare: Cassandra's comparators.

use std::cmp::Ordering;

use crate::collection::{Elements, elements, fields, map_elements};
use crate::vector::vector_elements;
use crate::{CqlType, Decimal, big_integer, uuid_order};

/// Compares two serialized values of a type.
///
/// An empty value sorts before all others. Values that are not of the type (they cannot come from
/// a table) compare as bytes, so that the order is total.
#[must_use]
pub fn compare(ty: &CqlType, left: &[u8], right: &[u8]) -> Ordering {
    if left.is_empty() || right.is_empty() {
        return left.len().cmp(&right.len());
    }
    match ty {
        CqlType::Ascii
        | CqlType::Text
        | CqlType::Blob
        | CqlType::Inet
        | CqlType::Date
        | CqlType::Duration
        | CqlType::Empty
        | CqlType::Custom(_) => left.cmp(right),
        CqlType::Int => by(left, right, |bytes| Some(i32::from_be_bytes(bytes))),
        CqlType::BigInt | CqlType::Counter | CqlType::Timestamp | CqlType::Time => {
            by(left, right, |bytes| Some(i64::from_be_bytes(bytes)))
        }
        CqlType::SmallInt => by(left, right, |bytes| Some(i16::from_be_bytes(bytes))),
        CqlType::TinyInt => by(left, right, |bytes| Some(i8::from_be_bytes(bytes))),
        CqlType::Boolean => by(left, right, |[byte]: [u8; 1]| Some(byte != 0)),
        CqlType::Float => by(left, right, |bytes| Some(float_order(f32::from_be_bytes(bytes)))),
        CqlType::Double => by(left, right, |bytes| Some(double_order(f64::from_be_bytes(bytes)))),
        CqlType::Uuid => by(left, right, |bytes| Some(uuid_order::uuid_to_ordered(bytes))),
        CqlType::TimeUuid => by(left, right, |bytes| Some(uuid_order::timeuuid_to_ordered(bytes))),
        CqlType::VarInt => big_integer::compare(left, right),
        CqlType::Decimal => match (Decimal::from_bytes(left), Decimal::from_bytes(right)) {
            (Ok(left), Ok(right)) => left.compare(&right),
            _ => left.cmp(right),
        },
        CqlType::List(element) | CqlType::Set(element) => {
            compare_collections(left, right, elements, |_| element)
        }
        CqlType::Map(key, value) => {
            compare_collections(
                left,
                right,
                map_elements,
                |is_key| if is_key { key } else { value },
            )
        }
        CqlType::Tuple(types) => compare_fields(types.iter(), left, right),
        CqlType::Udt(user_type) => {
            compare_fields(user_type.fields.iter().map(|(_, ty)| ty), left, right)
        }
        CqlType::Vector(element, dimension) => compare_vectors(element, *dimension, left, right),
        CqlType::Frozen(inner) => compare(inner, left, right),
    }
}

fn by<const N: usize, K: Ord>(
    left: &[u8],
    right: &[u8],
    key: impl Fn([u8; N]) -> Option<K>,
) -> Ordering {
    match (left.try_into().ok().and_then(&key), right.try_into().ok().and_then(&key)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.cmp(right),
    }
}

/// A number that sorts as Java compares floats: -0.0 before 0.0, NaN last and equal to any NaN.
#[must_use]
pub fn float_order(value: f32) -> i32 {
    let value = if value.is_nan() { f32::NAN.copysign(1.0) } else { value };
    let bits = value.to_bits().cast_signed();
    bits ^ (((bits >> 31).cast_unsigned()) >> 1).cast_signed()
}

/// As [`float_order`].
#[must_use]
pub fn double_order(value: f64) -> i64 {
    let value = if value.is_nan() { f64::NAN.copysign(1.0) } else { value };
    let bits = value.to_bits().cast_signed();
    bits ^ (((bits >> 63).cast_unsigned()) >> 1).cast_signed()
}

fn compare_collections<'a, 't>(
    left: &'a [u8],
    right: &'a [u8],
    open: impl Fn(&'a [u8]) -> Result<Elements<'a>, crate::TypeError>,
    element_type: impl Fn(bool) -> &'t CqlType,
) -> Ordering {
    let (Ok(mut left_items), Ok(mut right_items)) = (open(left), open(right)) else {
        return left.cmp(right);
    };
    let mut is_key = true;
    loop {
        match (left_items.next(), right_items.next()) {
            (Some(Ok(one)), Some(Ok(other))) => {
                let ordering = compare_nullable(element_type(is_key), one, other);
                if ordering.is_ne() {
                    return ordering;
                }
                is_key = !is_key;
            }
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            _ => return left.cmp(right),
        }
    }
}

/// Null sorts before all values.
fn compare_nullable(ty: &CqlType, left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => compare(ty, left, right),
        _ => left.is_some().cmp(&right.is_some()),
    }
}

/// Compares field by field; fields that are missing at the end are null.
fn compare_fields<'t>(
    types: impl Iterator<Item = &'t CqlType>,
    left: &[u8],
    right: &[u8],
) -> Ordering {
    let (mut left_fields, mut right_fields) = (fields(left), fields(right));
    for ty in types {
        let (one, other) = match (left_fields.next().transpose(), right_fields.next().transpose()) {
            (Ok(one), Ok(other)) => (one.flatten(), other.flatten()),
            _ => return left.cmp(right),
        };
        let ordering = compare_nullable(ty, one, other);
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

fn compare_vectors(element: &CqlType, dimension: u16, left: &[u8], right: &[u8]) -> Ordering {
    let (Ok(one), Ok(other)) =
        (vector_elements(element, dimension, left), vector_elements(element, dimension, right))
    else {
        return left.cmp(right);
    };
    one.iter()
        .zip(&other)
        .map(|(one, other)| compare(element, one, other))
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal)
}
