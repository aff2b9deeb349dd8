//! Relations on several clustering columns at once.

use std::sync::Arc;

use coffer_model::{Column, ColumnKind};
use cql_parser::ast::{InValues, Operator, Term as Parsed};
use cql_types::CqlType;

use super::{Bound, Collector, OnColumns, TupleChoice, TupleTerm, find_column, two_bounds};
use crate::error::{Error, Result};
use crate::plan::display;
use crate::plan::term::Term;

impl Collector<'_, '_> {
    /// First position and columns of a multi-column relation.
    fn tuple_columns(&self, names: &[String], shown: &str) -> Result<(usize, Vec<Column>)> {
        let mut columns: Vec<Column> = Vec::with_capacity(names.len());
        let mut first = 0;
        let mut next = None;
        for name in names {
            let column = find_column(self.context.table, name)?;
            let ColumnKind::Clustering { position, .. } = column.kind else {
                return Err(Error::invalid(format!(
                    "Multi-column relations can only be applied to clustering columns but was applied to: {name}"
                )));
            };
            if columns.iter().any(|known| known.id == column.id) {
                return Err(Error::invalid(format!(
                    "Column \"{name}\" appeared twice in a relation: {shown}"
                )));
            }
            let position = usize::from(position);
            match next {
                None => first = position,
                Some(next) if next == position => {}
                Some(_) => {
                    return Err(Error::invalid(format!(
                        "Clustering columns must appear in the PRIMARY KEY order in multi-column relations: {shown}"
                    )));
                }
            }
            next = Some(position + 1);
            columns.push(column.clone());
        }
        Ok((first, columns))
    }

    fn tuple_value(&mut self, columns: &[Column], value: &Parsed) -> Result<TupleTerm> {
        match value {
            Parsed::Tuple(items) => {
                if items.len() != columns.len() {
                    return Err(Error::invalid(format!(
                        "Expected {} elements in value tuple, but got {}: {}",
                        columns.len(),
                        items.len(),
                        display::term(value)
                    )));
                }
                let mut terms = Vec::with_capacity(items.len());
                for (item, column) in items.iter().zip(columns) {
                    if matches!(item, Parsed::Null) {
                        return Err(Error::invalid(format!(
                            "Invalid null value for column {}",
                            column.name
                        )));
                    }
                    terms.push(self.value(column, item)?);
                }
                Ok(TupleTerm::Terms(terms))
            }
            Parsed::BindMarker(marker) => {
                let ty = tuple_type(columns);
                let index = self.context.markers.bind(*marker, &tuple_name("", columns), &ty);
                Ok(TupleTerm::Bound(Term::Marker { index, ty }))
            }
            _ => Err(Error::invalid(format!(
                "Expected a tuple of {} values, but got {}",
                columns.len(),
                display::term(value)
            ))),
        }
    }

    pub(super) fn tuple(
        &mut self,
        names: &[String],
        operator: Operator,
        value: &Parsed,
    ) -> Result<()> {
        let shown = format!("({}) {} {}", names.join(", "), operator.text(), display::term(value));
        let (first, columns) = self.tuple_columns(names, &shown)?;
        let value = self.tuple_value(&columns, value)?;
        let count = columns.len();
        let inclusive = matches!(operator, Operator::GtEq | Operator::LtEq);
        let bound = Bound { value: value.clone(), inclusive };
        match operator {
            Operator::Eq => {
                self.check_free(&columns)?;
                match value {
                    TupleTerm::Terms(terms) => {
                        for (column, term) in columns.iter().zip(terms) {
                            self.merge(column, "eq")?.eq = Some(term);
                        }
                    }
                    bound @ TupleTerm::Bound(_) => {
                        let values = TupleChoice::Many(vec![bound]);
                        self.multi.push(OnColumns::Choice { first, count, values });
                    }
                }
                Ok(())
            }
            Operator::Gt | Operator::GtEq => self.tuple_slice(first, &columns, bound, true),
            Operator::Lt | Operator::LtEq => self.tuple_slice(first, &columns, bound, false),
            _ => Err(Error::invalid(format!(
                "{} cannot be used for multi-column relations",
                operator.text()
            ))),
        }
    }

    /// Adds the bound of one column to a slice of several that begins with it.
    pub(super) fn join_slice(
        &mut self,
        column: &Column,
        bound: impl FnOnce() -> Bound,
        is_lower: bool,
    ) -> Option<Result<()>> {
        let ColumnKind::Clustering { position, .. } = column.kind else { return None };
        let place = usize::from(position);
        let slice = self.multi.iter().find(|relation| {
            matches!(relation, OnColumns::Slice { .. })
                && (relation.first()..relation.first() + relation.count()).contains(&place)
        })?;
        if slice.first() == place {
            let columns = std::slice::from_ref(column);
            return Some(self.tuple_slice(place, columns, bound(), is_lower));
        }
        Some(Err(not_same_start(&column.name)))
    }

    /// Slices that single columns have so far become those of several columns.
    fn widen_slice(&mut self, first: usize, columns: &[Column]) -> Result<()> {
        for column in columns {
            let single = self.columns.iter_mut().find(|(known, _)| known.id == column.id);
            let Some((_, entry)) = single else { continue };
            if !entry.has_slice() {
                continue;
            }
            if columns.first().is_some_and(|first| first.id != column.id) {
                return Err(not_same_start(&column.name));
            }
            let side = |side: Option<(Term, bool)>| {
                side.map(|(term, inclusive)| Bound {
                    value: TupleTerm::Terms(vec![term]),
                    inclusive,
                })
            };
            let (lower, upper) = (side(entry.lower.take()), side(entry.upper.take()));
            self.multi.push(OnColumns::Slice { first, count: 1, lower, upper });
        }
        Ok(())
    }

    fn tuple_slice(
        &mut self,
        first: usize,
        columns: &[Column],
        bound: Bound,
        is_lower: bool,
    ) -> Result<()> {
        self.widen_slice(first, columns)?;
        let same = self.multi.iter_mut().find(|relation| relation.first() == first);
        if let Some(OnColumns::Slice { lower, upper, count, .. }) = same {
            *count = (*count).max(columns.len());
            let (side, name) = if is_lower { (lower, "start") } else { (upper, "end") };
            if side.is_some() {
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                return Err(two_bounds(name, &names.join(" ,")));
            }
            *side = Some(bound);
            return Ok(());
        }
        self.check_free(columns)?;
        let (lower, upper) = if is_lower { (Some(bound), None) } else { (None, Some(bound)) };
        self.multi.push(OnColumns::Slice { first, count: columns.len(), lower, upper });
        Ok(())
    }

    fn check_free(&mut self, columns: &[Column]) -> Result<()> {
        for column in columns {
            if self.entry(column)?.is_restricted() {
                return Err(Error::invalid(format!(
                    "{} cannot be restricted by more than one relation if it includes an Equal",
                    column.name
                )));
            }
            self.columns.retain(|(_, entry)| entry.is_restricted());
            self.merge(column, "eq")?;
            self.columns.retain(|(_, entry)| entry.is_restricted());
        }
        Ok(())
    }

    pub(super) fn tuple_in(&mut self, names: &[String], values: &InValues) -> Result<()> {
        let shown = format!("({}) IN", names.join(", "));
        let (first, columns) = self.tuple_columns(names, &shown)?;
        self.check_free(&columns)?;
        let values = match values {
            InValues::Terms(terms) => {
                let terms: Result<Vec<TupleTerm>> =
                    terms.iter().map(|value| self.tuple_value(&columns, value)).collect();
                TupleChoice::Many(terms?)
            }
            InValues::Marker(marker) => {
                let ty = CqlType::List(Arc::new(tuple_type(&columns)));
                let name = tuple_name("in", &columns);
                let index = self.context.markers.bind(*marker, &name, &ty);
                TupleChoice::Bound(Term::Marker { index, ty })
            }
        };
        self.multi.push(OnColumns::Choice { first, count: columns.len(), values });
        Ok(())
    }
}

fn not_same_start(name: &str) -> Error {
    Error::invalid(format!(
        "Column \"{name}\" cannot be restricted by two inequalities not starting with the same column"
    ))
}

fn tuple_type(columns: &[Column]) -> CqlType {
    CqlType::Tuple(columns.iter().map(|column| column.ty.clone()).collect())
}

fn tuple_name(prefix: &str, columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    format!("{prefix}({})", names.join(","))
}
