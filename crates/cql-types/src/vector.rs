//! Serialized vectors: elements one after the other, each with its length in front (a vint) when
//! the element type has no fixed length.

use bytes::Bytes;

use crate::{CqlType, TypeError, vint};

/// Elements of a serialized vector.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when it does not hold exactly `dimension` elements.
pub fn vector_elements<'a>(
    element: &CqlType,
    dimension: u16,
    bytes: &'a [u8],
) -> Result<Vec<&'a [u8]>, TypeError> {
    let wrong = |dimension: u16| {
        TypeError::bytes(format!("Not enough bytes to read a vector<{element}, {dimension}>"))
    };
    let mut rest = bytes;
    let mut items = Vec::with_capacity(usize::from(dimension).min(bytes.len()));
    for _ in 0..dimension {
        let length = match element.fixed_bytes() {
            Some(length) => length,
            None => usize::try_from(vint::read_unsigned(&mut rest)?).unwrap_or(usize::MAX),
        };
        let (item, tail) = rest.split_at_checked(length).ok_or_else(|| wrong(dimension))?;
        items.push(item);
        rest = tail;
    }
    if !rest.is_empty() {
        let message = format!(
            "Unexpected {} extraneous bytes after vector<{element}, {dimension}> value",
            rest.len()
        );
        return Err(TypeError::bytes(message));
    }
    Ok(items)
}

/// Serializes a vector from its serialized elements.
#[must_use]
pub fn write_vector<V: AsRef<[u8]>>(element: &CqlType, items: &[V]) -> Bytes {
    let mut out = Vec::new();
    for item in items {
        let item = item.as_ref();
        if element.fixed_bytes().is_none() {
            vint::write_unsigned(&mut out, item.len() as u64);
        }
        out.extend_from_slice(item);
    }
    out.into()
}
