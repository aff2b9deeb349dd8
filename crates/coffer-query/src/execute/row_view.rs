//! One row as selections and filters see it: key components, static cells, cells.

use std::borrow::Cow;

use bytes::Bytes;
use coffer_model::{
    CellContent, CellRef, Column, ColumnKind, RowRef, ordered_bytes, partition_key,
};
use cql_types::{CqlType, collection};

use crate::error::{Error, Result};

/// A partition while its rows are read.
#[derive(Debug, Clone)]
pub(crate) struct PartitionView {
    /// Partition key bytes.
    pub(crate) key: Bytes,
    /// Its components.
    pub(crate) components: Vec<Bytes>,
    /// The live static row.
    pub(crate) static_row: Option<Bytes>,
}

impl PartitionView {
    pub(crate) fn new(key: Bytes, count: usize, static_row: Option<Bytes>) -> Result<Self> {
        let components = if count == 1 {
            vec![key.clone()]
        } else {
            partition_key::decode(&key, count)
                .map_err(|error| malformed(&error))?
                .into_iter()
                .map(|component| key.slice_ref(component))
                .collect()
        };
        Ok(PartitionView { key, components, static_row })
    }

    /// Cells of the static row.
    pub(crate) fn static_cells(&self) -> Result<Vec<CellRef<'_>>> {
        match &self.static_row {
            Some(row) => {
                let row = RowRef::parse(row).map_err(|error| malformed(&error))?;
                Ok(row.cells().collect())
            }
            None => Ok(Vec::new()),
        }
    }
}

pub(crate) fn malformed(error: &coffer_model::Error) -> Error {
    Error::ReadFailure(format!("stored row is damaged: {error}"))
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowView<'a> {
    pub(crate) partition: &'a PartitionView,
    pub(crate) static_cells: &'a [CellRef<'a>],
    /// Empty for a partition that has only a static row.
    pub(crate) clustering: &'a ClusteringValues,
    pub(crate) cells: &'a [CellRef<'a>],
}

/// Decoded clustering values of one row; taken up again for the next.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusteringValues {
    bytes: Vec<u8>,
    /// Where each value ends.
    ends: Vec<usize>,
}

impl ClusteringValues {
    /// Replaces the values by those of another row.
    pub(crate) fn decode(&mut self, columns: &[Column], bytes: &[u8]) -> Result<()> {
        self.bytes.clear();
        self.ends.clear();
        let mut rest = bytes;
        for column in columns {
            let ColumnKind::Clustering { reversed, .. } = column.kind else { continue };
            ordered_bytes::decode_into(&column.ty, reversed, &mut rest, &mut self.bytes)
                .map_err(|error| malformed(&error))?;
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    /// The value of the clustering column at a position.
    pub(crate) fn get(&self, position: usize) -> Option<&[u8]> {
        let end = *self.ends.get(position)?;
        let start = match position.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..end)
    }
}

/// An emptied vector of cells with the allocation of the last one.
pub(crate) fn recycle<'b>(mut cells: Vec<CellRef<'_>>) -> Vec<CellRef<'b>> {
    cells.clear();
    // Collected in place: nothing is mapped, only the allocation moves on.
    cells.into_iter().map(|cell| CellRef::live(cell.column, cell.timestamp, &[])).collect()
}

impl<'a> RowView<'a> {
    /// Cells of a static or regular column.
    pub(crate) fn cells_of(&self, column: &Column) -> &'a [CellRef<'a>] {
        let cells = if column.kind == ColumnKind::Static { self.static_cells } else { self.cells };
        let start = cells.partition_point(|cell| cell.column < column.id);
        let rest = cells.get(start..).unwrap_or_default();
        let count = rest.iter().take_while(|cell| cell.column == column.id).count();
        rest.get(..count).unwrap_or_default()
    }

    /// The value of a column.
    pub(crate) fn value(&self, column: &Column) -> Result<Option<Cow<'a, [u8]>>> {
        match column.kind {
            ColumnKind::PartitionKey { position } => {
                let component = self.partition.components.get(usize::from(position));
                Ok(component.map(|bytes| Cow::Borrowed(&bytes[..])))
            }
            ColumnKind::Clustering { position, .. } => {
                Ok(self.clustering.get(usize::from(position)).map(Cow::Borrowed))
            }
            _ if column.ty.is_multi_cell() => {
                Ok(assemble(&column.ty, self.cells_of(column))?.map(Cow::Owned))
            }
            _ => Ok(self.cells_of(column).first().and_then(CellRef::value).map(Cow::Borrowed)),
        }
    }

    /// Appends the value as a protocol cell.
    pub(crate) fn write(&self, column: &Column, out: &mut Vec<u8>) -> Result<()> {
        let value = self.value(column)?;
        collection::write_element(out, value.as_deref());
        Ok(())
    }
}

/// The serialized value of a multi-cell column; `None` when it has no cells.
fn assemble(ty: &CqlType, cells: &[CellRef<'_>]) -> Result<Option<Vec<u8>>> {
    let live = || {
        cells.iter().filter_map(|cell| match cell.content {
            CellContent::Live { value, .. } => Some((cell.path, value)),
            _ => None,
        })
    };
    if live().next().is_none() {
        return Ok(None);
    }
    let mut out = Vec::new();
    if let CqlType::Udt(user) = ty {
        let mut fields = vec![None; user.fields.len()];
        for (path, value) in live() {
            let index =
                path.try_into().map_or(usize::MAX, |path| usize::from(u16::from_be_bytes(path)));
            if let Some(field) = fields.get_mut(index) {
                *field = Some(value);
            }
        }
        for field in fields {
            collection::write_element(&mut out, field);
        }
        return Ok(Some(out));
    }
    let count = u32::try_from(live().count()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for (path, value) in live() {
        match ty {
            CqlType::Set(element) => {
                collection::write_element(&mut out, Some(&path_value(element, path)?));
            }
            CqlType::Map(key, _) => {
                collection::write_element(&mut out, Some(&path_value(key, path)?));
                collection::write_element(&mut out, Some(value));
            }
            _ => collection::write_element(&mut out, Some(value)),
        }
    }
    Ok(Some(out))
}

/// The set element or map key that a cell path stands for.
pub(crate) fn path_value(ty: &CqlType, path: &[u8]) -> Result<Bytes> {
    ordered_bytes::decode(ty, false, &mut &path[..]).map_err(|error| malformed(&error))
}
