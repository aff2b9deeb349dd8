//! Encoded rows, written cell by cell.

use bytes::Bytes;

use crate::row::{cell_flag, row_flag};
use crate::{
    CellContent, CellRef, ColumnId, DeletionTime, Expiry, Liveness, RowRef, WriteTimestamp,
    reconcile, varint,
};

/// Builds an encoded row.
///
/// Cells may come in any order; in the order of (column id, complex deletion first, path) they are
/// encoded as they come, otherwise they are put in order at the end, and of two for the same place
/// the one that reconciles wins.
#[derive(Debug, Clone)]
pub struct RowBuilder {
    bytes: Vec<u8>,
    liveness: Option<WriteTimestamp>,
    last: Option<Place>,
    out_of_order: bool,
}

/// Where the last cell went; the path is given by its place in the bytes written.
#[derive(Debug, Clone, Copy)]
struct Place {
    column: ColumnId,
    is_complex_deletion: bool,
    path_start: usize,
    path_end: usize,
}

impl RowBuilder {
    /// A row without cells yet.
    #[must_use]
    pub fn new(liveness: Option<Liveness>, deletion: Option<DeletionTime>) -> Self {
        Self::with_buffer(Vec::with_capacity(128), liveness, deletion)
    }

    /// As [`RowBuilder::new`], in a buffer that is emptied first.
    #[must_use]
    pub fn with_buffer(
        mut bytes: Vec<u8>,
        liveness: Option<Liveness>,
        deletion: Option<DeletionTime>,
    ) -> Self {
        bytes.clear();
        bytes.push(0);
        let mut flags = row_flag::PLAIN;
        if let Some(liveness) = liveness {
            flags |= row_flag::LIVENESS;
            bytes.extend_from_slice(&liveness.timestamp.0.to_be_bytes());
            if let Some(expiry) = liveness.expiry {
                flags |= row_flag::LIVENESS_EXPIRES;
                flags &= !row_flag::PLAIN;
                write_expiry(&mut bytes, expiry);
            }
        }
        if let Some(deletion) = deletion {
            flags |= row_flag::DELETION;
            flags &= !row_flag::PLAIN;
            deletion.write(&mut bytes);
        }
        if let Some(first) = bytes.first_mut() {
            *first = flags;
        }
        let liveness = liveness.map(|liveness| liveness.timestamp);
        Self { bytes, liveness, last: None, out_of_order: false }
    }

    /// Adds a cell.
    #[inline]
    pub fn push(&mut self, cell: &CellRef<'_>) {
        let is_complex_deletion = matches!(cell.content, CellContent::ComplexDeletion { .. });
        self.note_order(cell, is_complex_deletion);
        varint::write(&mut self.bytes, cell.column.0);
        let (mut flags, value) = match cell.content {
            CellContent::Live { value, expiry: None } => (0, value),
            CellContent::Live { value, expiry: Some(_) } => (cell_flag::EXPIRING, value),
            CellContent::Tombstone { .. } => (cell_flag::TOMBSTONE, &[][..]),
            CellContent::ComplexDeletion { .. } => (cell_flag::COMPLEX_DELETION, &[][..]),
        };
        let plain = flags == 0;
        let path = if is_complex_deletion { &[] } else { cell.path };
        if self.liveness == Some(cell.timestamp) {
            flags |= cell_flag::LIVENESS_TIMESTAMP;
        }
        if !path.is_empty() {
            flags |= cell_flag::PATH;
        }
        if !value.is_empty() {
            flags |= cell_flag::VALUE;
        }
        self.bytes.push(flags);
        if flags & cell_flag::LIVENESS_TIMESTAMP == 0 {
            self.bytes.extend_from_slice(&cell.timestamp.0.to_be_bytes());
        }
        if !plain {
            self.write_times(cell.content);
        }
        if !path.is_empty() {
            varint::write_bytes(&mut self.bytes, path);
        }
        let path_end = self.bytes.len();
        let path_start = path_end - path.len();
        self.last = Some(Place { column: cell.column, is_complex_deletion, path_start, path_end });
        if !value.is_empty() {
            varint::write_bytes(&mut self.bytes, value);
        }
    }

    fn write_times(&mut self, content: CellContent<'_>) {
        if let Some(flags) = self.bytes.first_mut() {
            *flags &= !row_flag::PLAIN;
        }
        match content {
            CellContent::Live { expiry, .. } => {
                if let Some(expiry) = expiry {
                    write_expiry(&mut self.bytes, expiry);
                }
            }
            CellContent::Tombstone { local_deletion_time }
            | CellContent::ComplexDeletion { local_deletion_time } => {
                self.bytes.extend_from_slice(&local_deletion_time.to_be_bytes());
            }
        }
    }

    #[inline]
    fn note_order(&mut self, cell: &CellRef<'_>, is_complex_deletion: bool) {
        let Some(last) = self.last else { return };
        if last.column < cell.column {
            return;
        }
        let path = self.bytes.get(last.path_start..last.path_end).unwrap_or_default();
        let after = last.column == cell.column
            && !is_complex_deletion
            && (last.is_complex_deletion || path < cell.path);
        self.out_of_order |= !after;
    }

    /// Whether nothing was put in: no liveness, no deletion, no cell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    /// The encoded row.
    #[must_use]
    pub fn finish(self) -> Bytes {
        Bytes::from(self.into_vec())
    }

    /// The encoded row, in the buffer it was built in.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        if !self.out_of_order {
            return self.bytes;
        }
        let Ok(row) = RowRef::parse(&self.bytes) else {
            return self.bytes;
        };
        let mut cells: Vec<CellRef<'_>> = row.cells().collect();
        cells.sort_by(reconcile::order_of_places);
        let mut ordered = Self::new(row.liveness(), row.deletion());
        let mut cells = cells.into_iter();
        let mut kept = cells.next();
        for cell in cells {
            kept = match kept {
                Some(last) if reconcile::order_of_places(&last, &cell).is_eq() => {
                    Some(reconcile::reconcile_cells(last, cell))
                }
                Some(last) => {
                    ordered.push(&last);
                    Some(cell)
                }
                None => Some(cell),
            };
        }
        if let Some(last) = kept {
            ordered.push(&last);
        }
        ordered.bytes
    }
}

fn write_expiry(out: &mut Vec<u8>, expiry: Expiry) {
    out.extend_from_slice(&expiry.ttl.to_be_bytes());
    out.extend_from_slice(&expiry.expires_at.to_be_bytes());
}
