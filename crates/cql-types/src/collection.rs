//! Serialized collections, tuples and user types: elements without copying, and writers.
//!
//! A list or set is `count i32, (length i32, bytes)*`, a map the same with keys and values in turn,
//! a tuple or user type `(length i32, bytes)*`. A length below zero is null.

use bytes::Bytes;

use crate::TypeError;

/// Iterator over elements of a serialized collection, tuple or user type; `None` is null.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: Option<usize>,
}

/// Elements of a serialized list or set.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when the count is missing or negative.
pub fn elements(bytes: &[u8]) -> Result<Elements<'_>, TypeError> {
    let (count, rest) = read_count(bytes)?;
    Ok(Elements { rest, left: Some(count) })
}

/// Keys and values, in turn, of a serialized map.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when the count is missing or negative.
pub fn map_elements(bytes: &[u8]) -> Result<Elements<'_>, TypeError> {
    let (count, rest) = read_count(bytes)?;
    Ok(Elements { rest, left: Some(count.saturating_mul(2)) })
}

/// Fields of a serialized tuple or user type. There may be fewer than the type has: the rest is
/// null.
#[must_use]
pub const fn fields(bytes: &[u8]) -> Elements<'_> {
    Elements { rest: bytes, left: None }
}

/// Number of elements of a serialized list or set, or entries of a map.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when the count is missing or negative.
pub fn count(bytes: &[u8]) -> Result<usize, TypeError> {
    Ok(read_count(bytes)?.0)
}

fn read_count(bytes: &[u8]) -> Result<(usize, &[u8]), TypeError> {
    let (count, rest) = bytes.split_first_chunk::<4>().ok_or_else(not_enough)?;
    let count = usize::try_from(i32::from_be_bytes(*count)).map_err(|_| not_enough())?;
    Ok((count, rest))
}

fn not_enough() -> TypeError {
    TypeError::bytes("Not enough bytes to read a collection")
}

impl<'a> Elements<'a> {
    /// The bytes after the last element.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Result<Option<&'a [u8]>, TypeError> {
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(not_enough)?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Ok(None);
        };
        let (element, rest) = rest.split_at_checked(length).ok_or_else(not_enough)?;
        self.rest = rest;
        Ok(Some(element))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Option<&'a [u8]>, TypeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None if self.rest.is_empty() => return None,
            None => {}
        }
        let element = self.read();
        if element.is_err() {
            self.left = Some(0);
        }
        Some(element)
    }
}

/// Writes a list, set or map.
#[derive(Debug, Clone)]
pub struct CollectionWriter {
    bytes: Vec<u8>,
    items: u32,
    items_per_entry: u32,
}

impl CollectionWriter {
    /// A list or set: call [`CollectionWriter::push`] for each element.
    #[must_use]
    pub fn sequence() -> Self {
        Self { bytes: vec![0; 4], items: 0, items_per_entry: 1 }
    }

    /// A map: call [`CollectionWriter::push`] for each key and each value in turn.
    #[must_use]
    pub fn map() -> Self {
        Self { bytes: vec![0; 4], items: 0, items_per_entry: 2 }
    }

    /// Adds an element, key or value.
    pub fn push(&mut self, element: &[u8]) {
        write_element(&mut self.bytes, Some(element));
        self.items += 1;
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The serialized collection.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let count = self.items / self.items_per_entry;
        if let Some(head) = self.bytes.first_chunk_mut::<4>() {
            *head = count.to_be_bytes();
        }
        self.bytes.into()
    }
}

/// Appends an element as it stands in a collection, tuple or user type; `None` is null.
///
/// # Panics
/// When the element is 2 GiB or longer; sizes are limited far below before.
#[expect(clippy::expect_used, reason = "sizes are limited to megabytes at the door")]
pub fn write_element(out: &mut Vec<u8>, element: Option<&[u8]>) {
    match element {
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            let length = i32::try_from(bytes.len()).expect("element below 2 GiB");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}
