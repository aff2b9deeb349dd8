//! One change of one column, as cells.

use bytes::Bytes;
use coffer_model::{CellRef, Column, RowBuilder, RowRef};
use cql_types::CqlType;

use super::Times;
use super::cells::{ListPlace, element_path, items, push_complex_deletion, push_list, push_value};
use crate::bind::{Evaluation, Value};
use crate::error::{Error, Result};
use crate::execute::row_view::malformed;
use crate::plan::modification::{Action, Operation};
use crate::plan::term::Term;

/// A row while its operations are applied.
pub(super) struct Row<'a> {
    pub(super) builder: RowBuilder,
    times: &'a Times,
    /// The row as it is stored, when an operation needs it.
    stored: Option<Bytes>,
}

fn invalid_unset(what: &str) -> Error {
    Error::invalid(format!("Invalid unset value for {what}"))
}

impl Row<'_> {
    pub(super) fn new(builder: RowBuilder, times: &Times, stored: Option<Bytes>) -> Row<'_> {
        Row { builder, times, stored }
    }

    fn tombstone<'c>(&self, column: &Column) -> CellRef<'c> {
        CellRef::tombstone(column.id, self.times.timestamp, self.times.now)
    }

    /// Applies a change; unset values change nothing.
    pub(super) fn apply(
        &mut self,
        operation: &Operation,
        evaluation: &Evaluation<'_>,
    ) -> Result<()> {
        let column = &operation.column;
        match &operation.action {
            Action::Set(term) => self.set(column, term.evaluate(evaluation)?, evaluation),
            Action::Add(term) => self.add(column, term.evaluate(evaluation)?, evaluation),
            Action::Prepend(term) => match term.evaluate(evaluation)? {
                Value::Bytes(value) => {
                    let place = ListPlace::prepend(evaluation.database.next_timestamp());
                    self.list(column, &value, &place)
                }
                _ => Ok(()),
            },
            Action::Subtract(term) => self.subtract(column, term.evaluate(evaluation)?),
            Action::SetElement { key, value } => {
                let value = value.evaluate(evaluation)?;
                self.set_element(column, key, value, evaluation)
            }
            Action::SetField { index, value } => {
                match value.evaluate(evaluation)? {
                    Value::Unset => {}
                    Value::Null => {
                        let cell = self.tombstone(column);
                        self.builder.push(&cell.at(&index.to_be_bytes()));
                    }
                    Value::Bytes(value) => self.live(column, &index.to_be_bytes(), &value),
                }
                Ok(())
            }
            Action::Delete if column.ty.is_multi_cell() => {
                let deletion = self.times.deletion();
                self.builder.push(&CellRef::complex_deletion(column.id, deletion));
                Ok(())
            }
            Action::Delete => self.set(column, Value::Null, evaluation),
            Action::DeleteElement(key) => self.set_element(column, key, Value::Null, evaluation),
            Action::DeleteField(index) => {
                let cell = self.tombstone(column);
                self.builder.push(&cell.at(&index.to_be_bytes()));
                Ok(())
            }
        }
    }

    fn live(&mut self, column: &Column, path: &[u8], value: &[u8]) {
        let cell = CellRef::live(column.id, self.times.timestamp, value);
        self.builder.push(&cell.expiring(self.times.expiry).at(path));
    }

    fn list(&mut self, column: &Column, value: &[u8], place: &ListPlace) -> Result<()> {
        let times = self.times;
        push_list(&mut self.builder, column, value, times.timestamp, times.expiry, place)
    }

    fn set(
        &mut self,
        column: &Column,
        value: Value<'_>,
        evaluation: &Evaluation<'_>,
    ) -> Result<()> {
        let times = self.times;
        if !column.ty.is_multi_cell() {
            match value {
                Value::Unset => {}
                Value::Null => self.builder.push(&self.tombstone(column)),
                Value::Bytes(value) => self.live(column, &[], &value),
            }
            return Ok(());
        }
        match value {
            Value::Unset => Ok(()),
            // As with any value that is set: only what is older goes.
            Value::Null => {
                push_complex_deletion(&mut self.builder, column, times.timestamp, times.now);
                Ok(())
            }
            Value::Bytes(value) => {
                push_complex_deletion(&mut self.builder, column, times.timestamp, times.now);
                if matches!(column.ty, CqlType::List(_)) {
                    // Lists of one timestamp stay side by side, so each has places of its own.
                    let place = ListPlace::append(evaluation.database.next_timestamp());
                    return self.list(column, &value, &place);
                }
                push_value(&mut self.builder, column, &value, times.timestamp, times.expiry)
            }
        }
    }

    fn add(
        &mut self,
        column: &Column,
        value: Value<'_>,
        evaluation: &Evaluation<'_>,
    ) -> Result<()> {
        let Value::Bytes(value) = value else { return Ok(()) };
        let times = self.times;
        if matches!(column.ty, CqlType::List(_)) {
            // The timestamp of the write may be the client's; positions follow our clock.
            let place = ListPlace::append(evaluation.database.next_timestamp());
            return self.list(column, &value, &place);
        }
        push_value(&mut self.builder, column, &value, times.timestamp, times.expiry)
    }

    fn subtract(&mut self, column: &Column, value: Value<'_>) -> Result<()> {
        let Value::Bytes(value) = value else { return Ok(()) };
        let removed = items(&value)?;
        if let CqlType::Set(element) | CqlType::Map(element, _) = &column.ty {
            for item in removed {
                let path = element_path(element, item)?;
                let cell = self.tombstone(column);
                self.builder.push(&cell.at(&path));
            }
            return Ok(());
        }
        self.with_stored(column, |row, cells| {
            for cell in cells
                .iter()
                .filter(|cell| cell.value().is_some_and(|value| removed.contains(&value)))
            {
                let tombstone = row.tombstone(column);
                row.builder.push(&tombstone.at(cell.path));
            }
            Ok(())
        })
    }

    /// Calls `change` with the live cells of a column as they are stored.
    fn with_stored(
        &mut self,
        column: &Column,
        change: impl FnOnce(&mut Self, &[CellRef<'_>]) -> Result<()>,
    ) -> Result<()> {
        let Some(stored) = self.stored.take() else { return change(self, &[]) };
        let row = RowRef::parse(&stored).map_err(|error| malformed(&error))?;
        let cells: Vec<CellRef<'_>> =
            row.column(column.id).filter(|cell| cell.value().is_some()).collect();
        let changed = change(self, &cells);
        self.stored = Some(stored);
        changed
    }

    fn set_element(
        &mut self,
        column: &Column,
        key: &Term,
        value: Value<'_>,
        evaluation: &Evaluation<'_>,
    ) -> Result<()> {
        let is_list = matches!(column.ty, CqlType::List(_));
        let key = match key.evaluate(evaluation)? {
            Value::Bytes(key) => key,
            Value::Null if is_list => {
                return Err(Error::invalid("Invalid null value for list index"));
            }
            Value::Null => return Err(Error::invalid("Invalid null map key")),
            Value::Unset if is_list => return Err(invalid_unset("list index")),
            Value::Unset => return Err(invalid_unset("map key")),
        };
        if is_list {
            return self.set_index(column, &key, &value);
        }
        let (CqlType::Map(ty, _) | CqlType::Set(ty)) = &column.ty else {
            return Err(Error::Server("not a collection".to_owned()));
        };
        let path = element_path(ty, &key)?;
        match value {
            Value::Unset => {}
            Value::Null => {
                let cell = self.tombstone(column);
                self.builder.push(&cell.at(&path));
            }
            Value::Bytes(value) => self.live(column, &path, &value),
        }
        Ok(())
    }

    fn set_index(&mut self, column: &Column, key: &[u8], value: &Value<'_>) -> Result<()> {
        let index = key.try_into().map_or(-1, i32::from_be_bytes);
        let deletes = matches!(value, Value::Null);
        self.with_stored(column, |row, cells| {
            if cells.is_empty() {
                return Err(Error::invalid(if deletes {
                    "Attempted to delete an element from a list which is null"
                } else {
                    "Attempted to set an element on a list which is null"
                }));
            }
            let place = usize::try_from(index).ok().and_then(|index| cells.get(index));
            let cell = place.ok_or_else(|| {
                Error::invalid(format!(
                    "List index {index} out of bound, list has size {}",
                    cells.len()
                ))
            })?;
            match value {
                Value::Unset => {}
                Value::Null => {
                    let tombstone = row.tombstone(column);
                    row.builder.push(&tombstone.at(cell.path));
                }
                Value::Bytes(value) => row.live(column, cell.path, value),
            }
            Ok(())
        })
    }
}
