//! Partition key bytes, as Cassandra lays them out.
//!
//! One component stands raw; several are each `length (u16 BE) | bytes | 0x00`.

use bytes::Bytes;

use crate::Error;
use crate::varint::{take, take_array};

/// Longest partition key, and longest component of one, in bytes.
pub const PARTITION_KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Puts the serialized components together.
///
/// # Errors
/// [`Error::KeyTooLong`] when a component or the whole is longer than 65535 bytes.
pub fn encode<V: AsRef<[u8]>>(components: &[V]) -> Result<Bytes, Error> {
    if let [one] = components {
        check_length(one.as_ref().len())?;
        return Ok(Bytes::copy_from_slice(one.as_ref()));
    }
    let total: usize = components.iter().map(|component| component.as_ref().len() + 3).sum();
    check_length(total)?;
    let mut out = Vec::with_capacity(total);
    for component in components {
        let component = component.as_ref();
        let length = u16::try_from(component.len())
            .map_err(|_| Error::KeyTooLong { what: "partition key", length: component.len() })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(component);
        out.push(0x00);
    }
    Ok(out.into())
}

fn check_length(length: usize) -> Result<(), Error> {
    if length > PARTITION_KEY_BYTES_MAX {
        return Err(Error::KeyTooLong { what: "partition key", length });
    }
    Ok(())
}

/// Takes a key of `count` components apart.
///
/// # Errors
/// [`Error::Malformed`] when it does not have exactly `count` components.
pub fn decode(key: &[u8], count: usize) -> Result<Vec<&[u8]>, Error> {
    if count == 1 {
        return Ok(vec![key]);
    }
    let mut rest = key;
    let mut components = Vec::with_capacity(count);
    for _ in 0..count {
        let length = u16::from_be_bytes(take_array(&mut rest)?);
        components.push(take(&mut rest, usize::from(length))?);
        if take_array(&mut rest)? != [0x00] {
            return Err(Error::Malformed("partition key"));
        }
    }
    if rest.is_empty() { Ok(components) } else { Err(Error::Malformed("partition key")) }
}
