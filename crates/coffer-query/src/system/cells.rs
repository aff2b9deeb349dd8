//! Values of computed rows, serialized.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use cql_types::collection::CollectionWriter;
use uuid::Uuid;

/// A cell of a computed row; `None` is null.
pub(crate) type Cell = Option<Bytes>;

pub(crate) fn text(value: &str) -> Cell {
    Some(Bytes::copy_from_slice(value.as_bytes()))
}

pub(crate) fn blob(value: &[u8]) -> Cell {
    Some(Bytes::copy_from_slice(value))
}

pub(crate) fn optional_text(value: Option<&str>) -> Cell {
    value.and_then(text)
}

pub(crate) fn int(value: i32) -> Cell {
    Some(Bytes::copy_from_slice(&value.to_be_bytes()))
}

/// An `int` from a count; what does not fit shows as the largest.
pub(crate) fn count(value: impl TryInto<i32>) -> Cell {
    int(value.try_into().unwrap_or(i32::MAX))
}

pub(crate) fn bigint(value: i64) -> Cell {
    Some(Bytes::copy_from_slice(&value.to_be_bytes()))
}

pub(crate) fn double(value: f64) -> Cell {
    Some(Bytes::copy_from_slice(&value.to_be_bytes()))
}

pub(crate) fn boolean(value: bool) -> Cell {
    Some(Bytes::from_static(if value { &[1] } else { &[0] }))
}

pub(crate) fn uuid(value: Uuid) -> Cell {
    Some(Bytes::copy_from_slice(value.as_bytes()))
}

/// Milliseconds since 1970.
pub(crate) fn timestamp(millis: i64) -> Cell {
    Some(Bytes::copy_from_slice(&millis.to_be_bytes()))
}

pub(crate) fn inet(value: IpAddr) -> Cell {
    Some(match value {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    })
}

/// A list or set of text; sets must be given in order.
pub(crate) fn texts<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> Cell {
    let mut writer = CollectionWriter::sequence();
    for value in values {
        writer.push(value.as_ref().as_bytes());
    }
    Some(writer.finish())
}

pub(crate) fn text_map(values: &BTreeMap<String, String>) -> Cell {
    let mut writer = CollectionWriter::map();
    for (key, value) in values {
        writer.push(key.as_bytes());
        writer.push(value.as_bytes());
    }
    Some(writer.finish())
}

pub(crate) fn blob_map(values: &BTreeMap<String, Vec<u8>>) -> Cell {
    let mut writer = CollectionWriter::map();
    for (key, value) in values {
        writer.push(key.as_bytes());
        writer.push(value);
    }
    Some(writer.finish())
}

/// `map<text, frozen<map<text, text>>>`
pub(crate) fn nested_map(values: &BTreeMap<String, BTreeMap<String, String>>) -> Cell {
    let mut writer = CollectionWriter::map();
    for (key, value) in values {
        writer.push(key.as_bytes());
        writer.push(&text_map(value).unwrap_or_default());
    }
    Some(writer.finish())
}
