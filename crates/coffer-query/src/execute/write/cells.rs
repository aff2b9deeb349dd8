//! Values and collection operations to cells.

use coffer_model::{
    CellRef, Column, DeletionTime, Expiry, RowBuilder, WriteTimestamp, ordered_bytes,
};
use cql_types::{CqlType, collection};

use crate::error::{Error, Result};

/// Most elements that one write may put into a collection.
const ELEMENTS_MAX: usize = 65_535;

fn type_error(error: &cql_types::TypeError) -> Error {
    Error::invalid(error.to_string())
}

/// The path of a set element or map key.
pub(crate) fn element_path(ty: &CqlType, element: &[u8]) -> Result<Vec<u8>> {
    if element.len() > usize::from(u16::MAX) {
        return Err(Error::invalid(format!(
            "The size of a collection element or map key must not exceed 65535 bytes, but was {}",
            element.len()
        )));
    }
    let mut path = Vec::with_capacity(element.len() + 4);
    ordered_bytes::encode(ty, false, element, &mut path)
        .map_err(|error| Error::invalid(error.to_string()))?;
    Ok(path)
}

/// Deletes all that a multi-cell column held before `timestamp`.
pub(crate) fn push_complex_deletion(
    row: &mut RowBuilder,
    column: &Column,
    timestamp: WriteTimestamp,
    now: u32,
) {
    // One earlier, so that the cells of the same write stay.
    let marked_at = WriteTimestamp(timestamp.0.saturating_sub(1));
    let deletion = DeletionTime { marked_at, local_deletion_time: now };
    row.push(&CellRef::complex_deletion(column.id, deletion));
}

/// Appends the cells of a whole value; the cells of a multi-cell column are added to what is there.
pub(crate) fn push_value(
    row: &mut RowBuilder,
    column: &Column,
    value: &[u8],
    timestamp: WriteTimestamp,
    expiry: Option<Expiry>,
) -> Result<()> {
    let cell = |value| CellRef::live(column.id, timestamp, value).expiring(expiry);
    match &column.ty {
        CqlType::List(_) => push_list(row, column, value, timestamp, expiry, &ListPlace::start()),
        CqlType::Set(element) => {
            for item in items(value)? {
                row.push(&cell(&[]).at(&element_path(element, item)?));
            }
            Ok(())
        }
        CqlType::Map(key, _) => {
            let mut entries =
                collection::map_elements(value).map_err(|error| type_error(&error))?;
            while let (Some(name), Some(content)) = (entries.next(), entries.next()) {
                let (Ok(Some(name)), Ok(Some(content))) = (name, content) else {
                    return Err(null_inside());
                };
                row.push(&cell(content).at(&element_path(key, name)?));
            }
            Ok(())
        }
        CqlType::Udt(_) => {
            for (index, field) in collection::fields(value).enumerate() {
                let path = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
                if let Some(field) = field.map_err(|error| type_error(&error))? {
                    row.push(&cell(field).at(&path));
                }
            }
            Ok(())
        }
        _ => {
            row.push(&cell(value));
            Ok(())
        }
    }
}

fn null_inside() -> Error {
    Error::invalid("null is not supported inside collections")
}

/// The elements of a serialized list or set, none of them null.
pub(crate) fn items(value: &[u8]) -> Result<Vec<&[u8]>> {
    let elements = collection::elements(value).map_err(|error| type_error(&error))?;
    let mut out = Vec::new();
    for element in elements {
        match element.map_err(|error| type_error(&error))? {
            Some(bytes) => out.push(bytes),
            None => return Err(null_inside()),
        }
    }
    if out.len() > ELEMENTS_MAX {
        return Err(Error::invalid(format!(
            "Too many elements in a collection: {} (at most {ELEMENTS_MAX})",
            out.len()
        )));
    }
    Ok(out)
}

/// Where elements are put into a list: 16 bytes that sort as the elements stand.
pub(crate) struct ListPlace([u8; 8]);

impl ListPlace {
    /// In order from the start, for lists that are made whole.
    pub(crate) fn start() -> ListPlace {
        ListPlace((1u64 << 63).to_be_bytes())
    }

    /// After all that was appended before; `micros` must rise from write to write.
    pub(crate) fn append(micros: i64) -> ListPlace {
        ListPlace((micros.cast_unsigned() | (1 << 63)).to_be_bytes())
    }

    /// Before all that was prepended before.
    pub(crate) fn prepend(micros: i64) -> ListPlace {
        ListPlace((i64::MAX - micros.max(0)).cast_unsigned().to_be_bytes())
    }

    fn path(&self, place: usize) -> [u8; 16] {
        let mut path = [0; 16];
        let (head, tail) = path.split_at_mut(8);
        head.copy_from_slice(&self.0);
        tail.copy_from_slice(&(place as u64).to_be_bytes());
        path
    }
}

/// Appends the cells of list elements at a place.
pub(crate) fn push_list(
    row: &mut RowBuilder,
    column: &Column,
    value: &[u8],
    timestamp: WriteTimestamp,
    expiry: Option<Expiry>,
    place: &ListPlace,
) -> Result<()> {
    for (index, item) in items(value)?.into_iter().enumerate() {
        let cell = CellRef::live(column.id, timestamp, item).expiring(expiry);
        row.push(&cell.at(&place.path(index)));
    }
    Ok(())
}
