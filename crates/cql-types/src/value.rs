//! Decoded values, for literals, functions, aggregates and formatting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use num_bigint::BigInt;
use uuid::Uuid;

use crate::collection::{CollectionWriter, elements, fields, map_elements, write_element};
use crate::vector::{vector_elements, write_vector};
use crate::{CqlType, Decimal, Duration, TypeError, compare, validate};

/// A value taken apart. [`CqlValue::Empty`] is the value of no bytes, for types that are not text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "named after the types")]
pub enum CqlValue {
    Ascii(String),
    BigInt(i64),
    Blob(Bytes),
    Boolean(bool),
    Counter(i64),
    /// Days, with 1970-01-01 at 2^31.
    Date(u32),
    Decimal(Decimal),
    Double(f64),
    Duration(Duration),
    Empty,
    Float(f32),
    Inet(IpAddr),
    Int(i32),
    SmallInt(i16),
    Text(String),
    /// Nanoseconds since midnight.
    Time(i64),
    /// Milliseconds since 1970.
    Timestamp(i64),
    TimeUuid(Uuid),
    TinyInt(i8),
    Uuid(Uuid),
    VarInt(BigInt),
    List(Vec<CqlValue>),
    Set(Vec<CqlValue>),
    Map(Vec<(CqlValue, CqlValue)>),
    /// Fields; null or missing ones are `None`.
    Tuple(Vec<Option<CqlValue>>),
    /// Fields with their names; null or missing ones are `None`.
    Udt(Vec<(String, Option<CqlValue>)>),
    Vector(Vec<CqlValue>),
}

impl CqlValue {
    /// Takes serialized bytes apart.
    ///
    /// # Errors
    /// [`TypeError::InvalidBytes`] when they are not a value of the type.
    pub fn decode(ty: &CqlType, bytes: &[u8]) -> Result<Self, TypeError> {
        validate(ty, bytes)?;
        Self::decode_valid(ty, bytes)
    }

    fn decode_valid(ty: &CqlType, bytes: &[u8]) -> Result<Self, TypeError> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match ty {
            CqlType::Frozen(inner) => return Self::decode_valid(inner, bytes),
            CqlType::Ascii => return Ok(Self::Ascii(text())),
            CqlType::Text => return Ok(Self::Text(text())),
            CqlType::Blob | CqlType::Custom(_) => {
                return Ok(Self::Blob(Bytes::copy_from_slice(bytes)));
            }
            CqlType::Tuple(types) => return decode_fields(types.iter(), bytes).map(Self::Tuple),
            CqlType::Udt(user_type) => {
                let types = user_type.fields.iter().map(|(_, ty)| ty);
                let names = user_type.fields.iter().map(|(name, _)| name.clone());
                return Ok(Self::Udt(names.zip(decode_fields(types, bytes)?).collect()));
            }
            _ if bytes.is_empty() => return Ok(Self::Empty),
            _ => {}
        }
        Ok(match ty {
            CqlType::List(element) => Self::List(decode_items(element, bytes)?),
            CqlType::Set(element) => Self::Set(decode_items(element, bytes)?),
            CqlType::Map(key, value) => Self::Map(decode_map(key, value, bytes)?),
            CqlType::Vector(element, dimension) => Self::Vector(
                vector_elements(element, *dimension, bytes)?
                    .into_iter()
                    .map(|item| Self::decode_valid(element, item))
                    .collect::<Result<_, _>>()?,
            ),
            CqlType::Decimal => Self::Decimal(Decimal::from_bytes(bytes)?),
            CqlType::VarInt => Self::VarInt(BigInt::from_signed_bytes_be(bytes)),
            CqlType::Duration => Self::Duration(Duration::from_bytes(bytes)?),
            CqlType::Inet => Self::Inet(decode_inet(bytes)?),
            _ => Self::decode_fixed(ty, bytes)?,
        })
    }

    fn decode_fixed(ty: &CqlType, bytes: &[u8]) -> Result<Self, TypeError> {
        Ok(match ty {
            CqlType::BigInt => Self::BigInt(i64::from_be_bytes(array(bytes)?)),
            CqlType::Counter => Self::Counter(i64::from_be_bytes(array(bytes)?)),
            CqlType::Time => Self::Time(i64::from_be_bytes(array(bytes)?)),
            CqlType::Timestamp => Self::Timestamp(i64::from_be_bytes(array(bytes)?)),
            CqlType::Double => Self::Double(f64::from_be_bytes(array(bytes)?)),
            CqlType::Float => Self::Float(f32::from_be_bytes(array(bytes)?)),
            CqlType::Int => Self::Int(i32::from_be_bytes(array(bytes)?)),
            CqlType::Date => Self::Date(u32::from_be_bytes(array(bytes)?)),
            CqlType::SmallInt => Self::SmallInt(i16::from_be_bytes(array(bytes)?)),
            CqlType::TinyInt => Self::TinyInt(i8::from_be_bytes(array(bytes)?)),
            CqlType::Boolean => Self::Boolean(array(bytes)? != [0]),
            CqlType::TimeUuid => Self::TimeUuid(Uuid::from_bytes(array(bytes)?)),
            CqlType::Uuid => Self::Uuid(Uuid::from_bytes(array(bytes)?)),
            _ => Self::Empty,
        })
    }

    /// Serializes the value as one of the type. Sets and maps are sorted, and of equal elements or
    /// keys the last one is kept.
    ///
    /// # Errors
    /// [`TypeError::InvalidBytes`] when the value is not one of the type.
    pub fn encode(&self, ty: &CqlType) -> Result<Bytes, TypeError> {
        let bytes: Vec<u8> = match (self, ty) {
            (_, CqlType::Frozen(inner)) => return self.encode(inner),
            (Self::Ascii(text) | Self::Text(text), CqlType::Ascii | CqlType::Text) => {
                text.as_bytes().to_vec()
            }
            (Self::Blob(blob), CqlType::Blob | CqlType::Custom(_)) => return Ok(blob.clone()),
            (Self::BigInt(value), CqlType::BigInt)
            | (Self::Counter(value), CqlType::Counter)
            | (Self::Time(value), CqlType::Time)
            | (Self::Timestamp(value), CqlType::Timestamp) => value.to_be_bytes().to_vec(),
            (Self::Boolean(value), CqlType::Boolean) => vec![u8::from(*value)],
            (Self::Date(value), CqlType::Date) => value.to_be_bytes().to_vec(),
            (Self::Decimal(value), CqlType::Decimal) => value.to_bytes(),
            (Self::Double(value), CqlType::Double) => value.to_be_bytes().to_vec(),
            (Self::Duration(value), CqlType::Duration) => value.to_bytes(),
            (Self::Float(value), CqlType::Float) => value.to_be_bytes().to_vec(),
            (Self::Inet(IpAddr::V4(address)), CqlType::Inet) => address.octets().to_vec(),
            (Self::Inet(IpAddr::V6(address)), CqlType::Inet) => address.octets().to_vec(),
            (Self::Int(value), CqlType::Int) => value.to_be_bytes().to_vec(),
            (Self::SmallInt(value), CqlType::SmallInt) => value.to_be_bytes().to_vec(),
            (Self::TinyInt(value), CqlType::TinyInt) => value.to_be_bytes().to_vec(),
            (Self::TimeUuid(uuid), CqlType::TimeUuid | CqlType::Uuid)
            | (Self::Uuid(uuid), CqlType::Uuid | CqlType::TimeUuid) => uuid.as_bytes().to_vec(),
            (Self::VarInt(value), CqlType::VarInt) => value.to_signed_bytes_be(),
            (Self::Empty, _) => Vec::new(),
            _ => return self.encode_nested(ty),
        };
        validate(ty, &bytes)?;
        Ok(bytes.into())
    }

    fn encode_nested(&self, ty: &CqlType) -> Result<Bytes, TypeError> {
        let all = |items: &[Self], ty: &CqlType| {
            items.iter().map(|item| item.encode(ty)).collect::<Result<Vec<Bytes>, _>>()
        };
        match (self, ty) {
            (Self::List(items), CqlType::List(element)) => {
                let mut writer = CollectionWriter::sequence();
                all(items, element)?.iter().for_each(|item| writer.push(item));
                Ok(writer.finish())
            }
            (Self::Set(items), CqlType::Set(element)) => {
                Ok(encode_set(element, all(items, element)?))
            }
            (Self::Map(entries), CqlType::Map(key_type, value_type)) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| Ok((key.encode(key_type)?, value.encode(value_type)?)))
                    .collect::<Result<_, TypeError>>()?;
                Ok(encode_map(key_type, entries))
            }
            (Self::Vector(items), CqlType::Vector(element, dimension))
                if items.len() == usize::from(*dimension) =>
            {
                Ok(write_vector(element, &all(items, element)?))
            }
            (Self::Tuple(items), CqlType::Tuple(types)) if items.len() <= types.len() => {
                encode_fields(items.iter().map(Option::as_ref), types.iter())
            }
            (Self::Udt(items), CqlType::Udt(user_type)) => {
                let named = |name: &String| {
                    items.iter().find(|(field, _)| field == name).and_then(|(_, v)| v.as_ref())
                };
                let known = |name: &String| user_type.fields.iter().any(|(field, _)| field == name);
                if !items.iter().all(|(name, _)| known(name)) {
                    return Err(TypeError::bytes(format!("unknown field of user type {ty}")));
                }
                let values = user_type.fields.iter().map(|(name, _)| named(name));
                encode_fields(values, user_type.fields.iter().map(|(_, ty)| ty))
            }
            _ => Err(TypeError::bytes(format!("value is not of type {ty}"))),
        }
    }
}

/// Serializes a set from serialized elements: sorted, each once.
#[must_use]
pub fn encode_set(element: &CqlType, mut items: Vec<Bytes>) -> Bytes {
    items.sort_by(|left, right| compare(element, left, right));
    items.dedup_by(|left, right| compare(element, left, right).is_eq());
    let mut writer = CollectionWriter::sequence();
    items.iter().for_each(|item| writer.push(item));
    writer.finish()
}

/// Serializes a map from serialized entries: sorted by key; of equal keys the last one given wins.
#[must_use]
pub fn encode_map(key_type: &CqlType, mut entries: Vec<(Bytes, Bytes)>) -> Bytes {
    entries.reverse();
    entries.sort_by(|(left, _), (right, _)| compare(key_type, left, right));
    entries.dedup_by(|(left, _), (right, _)| compare(key_type, left, right).is_eq());
    let mut writer = CollectionWriter::map();
    for (key, value) in &entries {
        writer.push(key);
        writer.push(value);
    }
    writer.finish()
}

/// Serializes fields, missing ones as null.
fn encode_fields<'v, 't>(
    values: impl Iterator<Item = Option<&'v CqlValue>>,
    types: impl Iterator<Item = &'t CqlType>,
) -> Result<Bytes, TypeError> {
    let mut out = Vec::new();
    let mut values = values;
    for ty in types {
        let value = values.next().flatten().map(|value| value.encode(ty)).transpose()?;
        write_element(&mut out, value.as_deref());
    }
    Ok(out.into())
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], TypeError> {
    bytes.try_into().map_err(|_| TypeError::bytes("wrong length"))
}

fn decode_inet(bytes: &[u8]) -> Result<IpAddr, TypeError> {
    Ok(match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(array::<4>(bytes)?)),
        _ => IpAddr::V6(Ipv6Addr::from(array::<16>(bytes)?)),
    })
}

fn required(item: Option<&[u8]>) -> Result<&[u8], TypeError> {
    item.ok_or_else(|| TypeError::bytes("null is not supported inside collections"))
}

fn decode_items(element: &CqlType, bytes: &[u8]) -> Result<Vec<CqlValue>, TypeError> {
    elements(bytes)?.map(|item| CqlValue::decode_valid(element, required(item?)?)).collect()
}

fn decode_map(
    key_type: &CqlType,
    value_type: &CqlType,
    bytes: &[u8],
) -> Result<Vec<(CqlValue, CqlValue)>, TypeError> {
    let mut items = map_elements(bytes)?;
    let mut entries = Vec::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        let key = CqlValue::decode_valid(key_type, required(key?)?)?;
        entries.push((key, CqlValue::decode_valid(value_type, required(value?)?)?));
    }
    Ok(entries)
}

fn decode_fields<'t>(
    types: impl Iterator<Item = &'t CqlType>,
    bytes: &[u8],
) -> Result<Vec<Option<CqlValue>>, TypeError> {
    let mut items = fields(bytes);
    types
        .map(|ty| {
            let field = items.next().transpose()?.flatten();
            field.map(|field| CqlValue::decode_valid(ty, field)).transpose()
        })
        .collect()
}
