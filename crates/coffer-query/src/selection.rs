//! What a SELECT shows of each row: expressions prepared from selectors, and their values.

use std::borrow::Cow;

use bytes::Bytes;
use coffer_model::{CellContent, CellRef, Column, ColumnKind};
use cql_types::{CqlType, collection, compare};

use crate::aggregate::{Accumulator, Aggregation};
use crate::bind::{Evaluation, Value};
use crate::error::{Error, Result};
use crate::execute::row_view::RowView;
use crate::functions::Function;
use crate::plan::term::{Term, build_collection};

/// Which of the times of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellTime {
    WriteTime,
    MaxWriteTime,
    Ttl,
}

/// Which cells of a multi-cell column.
#[derive(Debug, Clone)]
pub(crate) enum CellChoice {
    /// All, or the one of a simple column.
    All,
    /// The one of a user type's field.
    Field(u16),
    /// The one of a set element or map key.
    Element(Term),
    /// Those of a range of elements or keys.
    Slice(Option<Term>, Option<Term>),
}

/// An expression over a row.
#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Column(Column),
    Term(Term),
    Time {
        column: Column,
        choice: CellChoice,
        time: CellTime,
    },
    Call {
        function: Function,
        arguments: Vec<Expression>,
    },
    /// The result of an aggregate, by its place in [`Selection::aggregates`].
    Aggregate(usize),
    Field {
        receiver: Box<Expression>,
        index: usize,
    },
    Element {
        receiver: Box<Expression>,
        ty: CqlType,
        key: Term,
    },
    Slice {
        receiver: Box<Expression>,
        ty: CqlType,
        from: Option<Term>,
        to: Option<Term>,
    },
    /// A list, set or map (keys and values in turn).
    Collection {
        ty: CqlType,
        items: Vec<Expression>,
    },
    /// A tuple or user type.
    Fields(Vec<Expression>),
}

/// An aggregate of a selection.
#[derive(Debug, Clone)]
pub(crate) struct SelectedAggregate {
    pub(crate) aggregation: Aggregation,
    pub(crate) argument: Option<Expression>,
    pub(crate) ty: CqlType,
}

/// What a SELECT shows.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// One for each result column.
    pub(crate) expressions: Vec<Expression>,
    /// The columns, when all expressions are columns: the fast path.
    pub(crate) plain: Option<Vec<Column>>,
    /// Aggregates; when there are any the result has one row.
    pub(crate) aggregates: Vec<SelectedAggregate>,
    /// Whether a static column is looked at.
    pub(crate) uses_statics: bool,
}

impl Selection {
    /// Accumulators for one execution.
    pub(crate) fn accumulators(&self) -> Vec<Accumulator> {
        self.aggregates
            .iter()
            .map(|aggregate| Accumulator::new(aggregate.aggregation, &aggregate.ty))
            .collect()
    }

    /// Feeds a row to the accumulators.
    pub(crate) fn accumulate(
        &self,
        row: &RowView<'_>,
        evaluation: &Evaluation<'_>,
        accumulators: &mut [Accumulator],
    ) -> Result<()> {
        for (aggregate, accumulator) in self.aggregates.iter().zip(accumulators) {
            match &aggregate.argument {
                Some(argument) => {
                    let value = argument.evaluate(Some(row), evaluation, &[])?;
                    accumulator.add(value.as_deref());
                }
                None => accumulator.add(None),
            }
        }
        Ok(())
    }

    /// Appends the cells of a row.
    pub(crate) fn write(
        &self,
        row: &RowView<'_>,
        evaluation: &Evaluation<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if let Some(columns) = &self.plain {
            return columns.iter().try_for_each(|column| row.write(column, out));
        }
        for expression in &self.expressions {
            let value = expression.evaluate(Some(row), evaluation, &[])?;
            collection::write_element(out, value.as_deref());
        }
        Ok(())
    }

    /// Appends the one row of an aggregate query.
    pub(crate) fn write_aggregates(
        &self,
        accumulators: &[Accumulator],
        evaluation: &Evaluation<'_>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let results: Vec<Option<Bytes>> = accumulators.iter().map(Accumulator::finish).collect();
        for expression in &self.expressions {
            let value = expression.evaluate(None, evaluation, &results)?;
            collection::write_element(out, value.as_deref());
        }
        Ok(())
    }
}

type Evaluated<'a> = Result<Option<Cow<'a, [u8]>>>;

impl Expression {
    /// Whether an aggregate is in it.
    pub(crate) fn has_aggregate(&self) -> bool {
        match self {
            Expression::Aggregate(_) => true,
            Expression::Call { arguments: items, .. }
            | Expression::Collection { items, .. }
            | Expression::Fields(items) => items.iter().any(Expression::has_aggregate),
            Expression::Field { receiver, .. }
            | Expression::Element { receiver, .. }
            | Expression::Slice { receiver, .. } => receiver.has_aggregate(),
            Expression::Column(_) | Expression::Term(_) | Expression::Time { .. } => false,
        }
    }

    /// Calls `visit` with each column in it.
    pub(crate) fn columns(&self, visit: &mut dyn FnMut(&Column)) {
        match self {
            Expression::Column(column) | Expression::Time { column, .. } => visit(column),
            Expression::Call { arguments: items, .. }
            | Expression::Collection { items, .. }
            | Expression::Fields(items) => items.iter().for_each(|item| item.columns(visit)),
            Expression::Field { receiver, .. }
            | Expression::Element { receiver, .. }
            | Expression::Slice { receiver, .. } => receiver.columns(visit),
            Expression::Term(_) | Expression::Aggregate(_) => {}
        }
    }

    /// The value for a row, or for the results of aggregates.
    fn evaluate<'a>(
        &'a self,
        row: Option<&RowView<'a>>,
        evaluation: &Evaluation<'a>,
        results: &'a [Option<Bytes>],
    ) -> Evaluated<'a> {
        match self {
            Expression::Column(column) => match row {
                Some(row) => row.value(column),
                None => Ok(None),
            },
            Expression::Term(term) => bytes_of(term, evaluation),
            Expression::Time { column, choice, time } => match row {
                Some(row) => times(row, column, choice, *time, evaluation),
                None => Ok(None),
            },
            Expression::Call { function, arguments } => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(argument.evaluate(row, evaluation, results)?);
                }
                let result = function.call(&values, evaluation.database)?;
                Ok(result.map(|bytes| Cow::Owned(bytes.into())))
            }
            Expression::Aggregate(place) => {
                let result = results.get(*place).and_then(Option::as_ref);
                Ok(result.map(|bytes| Cow::Borrowed(&bytes[..])))
            }
            Expression::Field { receiver, index } => {
                let value = receiver.evaluate(row, evaluation, results)?;
                Ok(value.and_then(|value| {
                    let field = collection::fields(&value).nth(*index)?.ok()??;
                    Some(Cow::Owned(field.to_vec()))
                }))
            }
            Expression::Element { receiver, ty, key } => {
                let value = receiver.evaluate(row, evaluation, results)?;
                let key = bytes_of(key, evaluation)?;
                Ok(value.zip(key).and_then(|(value, key)| element(ty, &value, &key)))
            }
            Expression::Slice { receiver, ty, from, to } => {
                let value = receiver.evaluate(row, evaluation, results)?;
                let bound = |term: &'a Option<Term>| match term {
                    Some(term) => bytes_of(term, evaluation),
                    None => Ok(None),
                };
                let (from, to) = (bound(from)?, bound(to)?);
                let sliced = value.map(|value| slice(ty, &value, from.as_deref(), to.as_deref()));
                // No cells are no collection.
                let is_empty = |bytes: &Cow<'_, [u8]>| **bytes == 0u32.to_be_bytes();
                Ok(sliced.filter(|bytes| !(ty.is_multi_cell() && is_empty(bytes))))
            }
            Expression::Collection { ty, items } => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    let value = item.evaluate(row, evaluation, results)?;
                    values.push(value.unwrap_or_default());
                }
                Ok(Some(Cow::Owned(build_collection(ty, values).into())))
            }
            Expression::Fields(items) => {
                let mut out = Vec::new();
                for item in items {
                    let value = item.evaluate(row, evaluation, results)?;
                    collection::write_element(&mut out, value.as_deref());
                }
                Ok(Some(Cow::Owned(out)))
            }
        }
    }
}

fn bytes_of<'a>(term: &'a Term, evaluation: &Evaluation<'a>) -> Evaluated<'a> {
    match term.evaluate(evaluation)? {
        Value::Bytes(bytes) => Ok(Some(bytes)),
        Value::Null => Ok(None),
        Value::Unset => Err(Error::invalid("Invalid unset value in the selection clause")),
    }
}

/// One element of a serialized set or map; lists by index.
fn element(ty: &CqlType, value: &[u8], key: &[u8]) -> Option<Cow<'static, [u8]>> {
    match ty.unfrozen() {
        CqlType::Map(key_type, _) => {
            let mut items = collection::map_elements(value).ok()?;
            while let (Some(Ok(Some(name))), Some(Ok(content))) = (items.next(), items.next()) {
                if compare(key_type, name, key).is_eq() {
                    return content.map(|content| Cow::Owned(content.to_vec()));
                }
            }
            None
        }
        CqlType::Set(element_type) => collection::elements(value)
            .ok()?
            .flatten()
            .flatten()
            .find(|item| compare(element_type, item, key).is_eq())
            .map(|item| Cow::Owned(item.to_vec())),
        _ => None,
    }
}

/// The elements or entries of a serialized set or map between two bounds, both inclusive.
fn slice(ty: &CqlType, value: &[u8], from: Option<&[u8]>, to: Option<&[u8]>) -> Cow<'static, [u8]> {
    let within = |ty: &CqlType, item: &[u8]| {
        from.is_none_or(|from| compare(ty, item, from).is_ge())
            && to.is_none_or(|to| compare(ty, item, to).is_le())
    };
    let bytes = match ty.unfrozen() {
        CqlType::Map(key_type, _) => {
            let mut writer = collection::CollectionWriter::map();
            if let Ok(mut items) = collection::map_elements(value) {
                while let (Some(Ok(Some(name))), Some(Ok(Some(content)))) =
                    (items.next(), items.next())
                {
                    if within(key_type, name) {
                        writer.push(name);
                        writer.push(content);
                    }
                }
            }
            writer.finish()
        }
        CqlType::Set(element_type) => {
            let mut writer = collection::CollectionWriter::sequence();
            if let Ok(items) = collection::elements(value) {
                items
                    .flatten()
                    .flatten()
                    .filter(|item| within(element_type, item))
                    .for_each(|item| writer.push(item));
            }
            writer.finish()
        }
        _ => Bytes::copy_from_slice(value),
    };
    Cow::Owned(bytes.into())
}

fn is_chosen(
    column: &Column,
    choice: &CellChoice,
    cell: &CellRef<'_>,
    evaluation: &Evaluation<'_>,
) -> Result<bool> {
    let (CqlType::Set(ty) | CqlType::Map(ty, _)) = &column.ty else {
        return Ok(match choice {
            CellChoice::Field(index) => cell.path == index.to_be_bytes(),
            _ => true,
        });
    };
    let path = crate::execute::row_view::path_value(ty, cell.path)?;
    Ok(match choice {
        CellChoice::Element(key) => {
            bytes_of(key, evaluation)?.is_some_and(|key| compare(ty, &path, &key).is_eq())
        }
        CellChoice::Slice(from, to) => {
            let mut inside = true;
            if let Some(from) = from {
                inside &= bytes_of(from, evaluation)?
                    .is_none_or(|from| compare(ty, &path, &from).is_ge());
            }
            if let Some(to) = to {
                inside &=
                    bytes_of(to, evaluation)?.is_none_or(|to| compare(ty, &path, &to).is_le());
            }
            inside
        }
        _ => true,
    })
}

/// `writetime`, `maxwritetime` and `ttl`: of a multi-cell column a list, of a simple one a number.
fn times<'a>(
    row: &RowView<'_>,
    column: &Column,
    choice: &CellChoice,
    time: CellTime,
    evaluation: &Evaluation<'_>,
) -> Evaluated<'a> {
    let now = evaluation.database.now_seconds();
    let number = |cell: &CellRef<'_>| -> Option<Vec<u8>> {
        match (time, cell.content) {
            (CellTime::Ttl, CellContent::Live { expiry: Some(expiry), .. }) => {
                let left = i32::try_from(expiry.expires_at.saturating_sub(now)).ok()?;
                Some(left.to_be_bytes().to_vec())
            }
            (CellTime::Ttl, _) => None,
            _ => Some(cell.timestamp.0.to_be_bytes().to_vec()),
        }
    };
    let cells = row.cells_of(column).iter().filter(|cell| cell.value().is_some());
    let mut chosen = Vec::new();
    for cell in cells {
        if is_chosen(column, choice, cell, evaluation)? {
            chosen.push(cell);
        }
    }
    if time == CellTime::MaxWriteTime {
        let newest = chosen.into_iter().max_by_key(|cell| cell.timestamp);
        return Ok(newest.and_then(number).map(Cow::Owned));
    }
    let single = !column.ty.is_multi_cell()
        || matches!(choice, CellChoice::Field(_) | CellChoice::Element(_));
    if single {
        return Ok(chosen.first().and_then(|cell| number(cell)).map(Cow::Owned));
    }
    if chosen.is_empty() {
        return Ok(None);
    }
    let mut out = Vec::new();
    let places: Vec<Option<&CellRef<'_>>> = match &column.ty {
        CqlType::Udt(user) => (0..user.fields.len())
            .map(|index| {
                let path = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
                chosen.iter().copied().find(|cell| cell.path == path)
            })
            .collect(),
        _ => chosen.into_iter().map(Some).collect(),
    };
    out.extend_from_slice(&u32::try_from(places.len()).unwrap_or(0).to_be_bytes());
    for place in places {
        collection::write_element(&mut out, place.and_then(number).as_deref());
    }
    Ok(Some(Cow::Owned(out)))
}

/// Whether the column is static.
pub(crate) fn is_static(column: &Column) -> bool {
    column.kind == ColumnKind::Static
}
