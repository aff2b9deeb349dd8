//! Selectors of a SELECT to expressions, with their types and column names.

use std::sync::Arc;

use coffer_model::{Column, TableSchema};
use cql_parser::ast::{Selectable, Term as Parsed};
use cql_types::CqlType;

use super::column_name::column_name;
use super::display;
use super::restrictions::find_column;
use super::term::{self, Receiver, Term, TermContext, same_type};
use crate::aggregate::Aggregation;
use crate::error::{Error, Result};
use crate::functions::{self, AggregateKind, Argument, Function};
use crate::selection::{CellChoice, CellTime, Expression, SelectedAggregate};

/// Prepares the selectors of one SELECT.
pub(crate) struct SelectableContext<'a, 'c> {
    pub(crate) terms: &'a mut TermContext<'c>,
    pub(crate) aggregates: Vec<SelectedAggregate>,
    inside_aggregate: bool,
}

impl<'a, 'c> SelectableContext<'a, 'c> {
    pub(crate) fn new(terms: &'a mut TermContext<'c>) -> Self {
        SelectableContext { terms, aggregates: Vec::new(), inside_aggregate: false }
    }

    /// The expression of a selector, its type and the name of its result column.
    pub(crate) fn selector(
        &mut self,
        selectable: &Selectable,
    ) -> Result<(Expression, CqlType, String)> {
        let name = column_name(self.terms, selectable);
        let (expression, ty) = self.prepare(selectable, None)?;
        Ok((expression, ty, name))
    }

    fn prepare(
        &mut self,
        selectable: &Selectable,
        receiver: Option<&CqlType>,
    ) -> Result<(Expression, CqlType)> {
        match selectable {
            Selectable::Column(name) => {
                let column = find_column(self.terms.table, name)?.clone();
                let ty = column.ty.clone();
                Ok((Expression::Column(column), ty))
            }
            Selectable::Term(term) => self.term(term, receiver),
            Selectable::CountRows => Ok((
                self.aggregate(AggregateKind::CountRows, None, &CqlType::BigInt)?,
                CqlType::BigInt,
            )),
            Selectable::WriteTime(inner) => self.time(inner, CellTime::WriteTime),
            Selectable::MaxWriteTime(inner) => self.time(inner, CellTime::MaxWriteTime),
            Selectable::Ttl(inner) => self.time(inner, CellTime::Ttl),
            Selectable::Function { name, arguments } => {
                if is_count_rows(selectable) {
                    return self.prepare(&Selectable::CountRows, receiver);
                }
                let function = resolve(self.terms, selectable, receiver)?
                    .ok_or_else(|| functions::unknown_in_selection(name))?;
                self.call(function, &arguments.iter().collect::<Vec<_>>())
            }
            Selectable::Cast { selectable: inner, .. } | Selectable::Negation(inner) => {
                let function = self.resolved(selectable, receiver)?;
                self.call(function, &[inner])
            }
            Selectable::Arithmetic { left, right, .. } => {
                let function = self.resolved(selectable, receiver)?;
                self.call(function, &[left, right])
            }
            Selectable::Field { receiver: inner, field } => self.field(inner, field),
            Selectable::Element { receiver: inner, key } => self.element(inner, key),
            Selectable::Slice { receiver: inner, from, to } => {
                self.slice(inner, from.as_ref(), to.as_ref())
            }
            Selectable::TypeHint { ty, selectable: inner } => self.hint(ty, inner, selectable),
            Selectable::Tuple(_)
            | Selectable::List(_)
            | Selectable::Set(_)
            | Selectable::Map(_) => self.composite(selectable, receiver),
        }
    }

    fn resolved(&self, selectable: &Selectable, receiver: Option<&CqlType>) -> Result<Function> {
        resolve(self.terms, selectable, receiver)?
            .ok_or_else(|| Error::Server("an operator has no function".to_owned()))
    }

    fn term(&mut self, term: &Parsed, receiver: Option<&CqlType>) -> Result<(Expression, CqlType)> {
        let Some(ty) = receiver else {
            return Err(cannot_infer(&display::term(term)));
        };
        let receiver = Receiver::new("[selection]", ty);
        let term = term::prepare(self.terms, term, &receiver)?;
        Ok((Expression::Term(term), ty.clone()))
    }

    fn aggregate(
        &mut self,
        kind: AggregateKind,
        argument: Option<Expression>,
        ty: &CqlType,
    ) -> Result<Expression> {
        if self.inside_aggregate {
            return Err(Error::invalid(
                "aggregate functions cannot be used as arguments of aggregate functions",
            ));
        }
        let aggregation = Aggregation::Function(kind);
        self.aggregates.push(SelectedAggregate { aggregation, argument, ty: ty.clone() });
        Ok(Expression::Aggregate(self.aggregates.len() - 1))
    }

    fn call(
        &mut self,
        function: Function,
        arguments: &[&Selectable],
    ) -> Result<(Expression, CqlType)> {
        let is_aggregate = function.is_aggregate();
        if is_aggregate && self.inside_aggregate {
            return Err(Error::invalid(
                "aggregate functions cannot be used as arguments of aggregate functions",
            ));
        }
        self.inside_aggregate |= is_aggregate;
        let prepared = self.arguments(&function, arguments);
        if is_aggregate {
            self.inside_aggregate = false;
        }
        let mut prepared = prepared?;
        let result = function.result.clone();
        match function.aggregate() {
            Some(kind) => {
                let ty = function.arguments.first().cloned().unwrap_or(CqlType::Blob);
                Ok((self.aggregate(kind, prepared.pop(), &ty)?, result))
            }
            None => Ok((Expression::Call { function, arguments: prepared }, result)),
        }
    }

    fn arguments(
        &mut self,
        function: &Function,
        arguments: &[&Selectable],
    ) -> Result<Vec<Expression>> {
        let mut prepared = Vec::with_capacity(arguments.len());
        for (place, argument) in arguments.iter().enumerate() {
            let ty = function.arguments.get(place);
            prepared.push(self.prepare(argument, ty)?.0);
        }
        Ok(prepared)
    }

    /// `writetime(c)`, `ttl(c.f)`, `writetime(c[k])`.
    fn time(&mut self, inner: &Selectable, time: CellTime) -> Result<(Expression, CqlType)> {
        let function = match time {
            CellTime::WriteTime => "writetime",
            CellTime::MaxWriteTime => "maxwritetime",
            CellTime::Ttl => "ttl",
        };
        let column = find_column(self.terms.table, base_column(inner)?)?.clone();
        if column.kind.is_primary_key() {
            return Err(Error::invalid(format!(
                "Cannot use selection function {function} on PRIMARY KEY part {}",
                column.name
            )));
        }
        let choice = self.cell_choice(inner, &column, function)?;
        let number = if time == CellTime::Ttl { CqlType::Int } else { CqlType::BigInt };
        let many = column.ty.is_multi_cell()
            && time != CellTime::MaxWriteTime
            && matches!(choice, CellChoice::All | CellChoice::Slice(..));
        let ty = if many { CqlType::List(Arc::new(number)) } else { number };
        Ok((Expression::Time { column, choice, time }, ty))
    }

    fn cell_choice(
        &mut self,
        inner: &Selectable,
        column: &Column,
        function: &str,
    ) -> Result<CellChoice> {
        if !column.ty.is_multi_cell() {
            return Ok(CellChoice::All);
        }
        Ok(match (inner, &column.ty) {
            (Selectable::Field { field, .. }, CqlType::Udt(_)) => {
                let index = field_index(&column.ty, field, &column.name)?;
                CellChoice::Field(u16::try_from(index).unwrap_or(u16::MAX))
            }
            (Selectable::Element { key, .. }, CqlType::Set(ty) | CqlType::Map(ty, _)) => {
                CellChoice::Element(self.bound_term(key, &column.name, &column.ty, ty)?)
            }
            (Selectable::Slice { from, to, .. }, CqlType::Set(ty) | CqlType::Map(ty, _)) => {
                let from =
                    from.as_ref().map(|term| self.bound_term(term, &column.name, &column.ty, ty));
                let to =
                    to.as_ref().map(|term| self.bound_term(term, &column.name, &column.ty, ty));
                CellChoice::Slice(from.transpose()?, to.transpose()?)
            }
            (Selectable::Column(_), _) => CellChoice::All,
            _ => {
                return Err(Error::invalid(format!(
                    "Cannot use selection function {function} on {}",
                    column_name(self.terms, inner)
                )));
            }
        })
    }

    /// A key of a map or an element of a set.
    fn bound_term(
        &mut self,
        term: &Parsed,
        name: &str,
        of: &CqlType,
        ty: &CqlType,
    ) -> Result<Term> {
        let what = if matches!(of.unfrozen(), CqlType::Set(_)) { "value" } else { "key" };
        term::prepare(self.terms, term, &Receiver::new(format!("{what}({name})"), ty))
    }

    fn field(&mut self, inner: &Selectable, field: &str) -> Result<(Expression, CqlType)> {
        let shown = column_name(self.terms, inner);
        let (expression, ty) = self.prepare(inner, None)?;
        let index = field_index(&ty, field, &shown)?;
        let CqlType::Udt(user) = ty.unfrozen() else { return Err(no_field(&ty, field, &shown)) };
        let ty = user.fields.get(index).map(|(_, ty)| ty.clone());
        let ty = ty.ok_or_else(|| no_field(&CqlType::Udt(Arc::clone(user)), field, &shown))?;
        Ok((Expression::Field { receiver: Box::new(expression), index }, ty))
    }

    fn element_type(&self, inner: &Selectable, ty: &CqlType) -> Result<(CqlType, CqlType)> {
        let shown = column_name(self.terms, inner);
        match ty.unfrozen() {
            CqlType::Set(element) => Ok((element.as_ref().clone(), element.as_ref().clone())),
            CqlType::Map(key, value) => Ok((key.as_ref().clone(), value.as_ref().clone())),
            CqlType::List(_) => Err(Error::invalid(format!(
                "Element selection is only allowed on sets and maps, but {shown} is a list"
            ))),
            _ => Err(Error::invalid(format!(
                "Invalid element selection: {shown} is of type {ty} is not a collection"
            ))),
        }
    }

    fn element(&mut self, inner: &Selectable, key: &Parsed) -> Result<(Expression, CqlType)> {
        let (expression, ty) = self.prepare(inner, None)?;
        let (key_type, result) = self.element_type(inner, &ty)?;
        let name = column_name(self.terms, inner);
        let key = self.bound_term(key, &name, &ty, &key_type)?;
        Ok((Expression::Element { receiver: Box::new(expression), ty, key }, result))
    }

    fn slice(
        &mut self,
        inner: &Selectable,
        from: Option<&Parsed>,
        to: Option<&Parsed>,
    ) -> Result<(Expression, CqlType)> {
        let (expression, ty) = self.prepare(inner, None)?;
        let (key_type, _) = self.element_type(inner, &ty)?;
        let name = column_name(self.terms, inner);
        let from = from.map(|term| self.bound_term(term, &name, &ty, &key_type)).transpose()?;
        let to = to.map(|term| self.bound_term(term, &name, &ty, &key_type)).transpose()?;
        let receiver = Box::new(expression);
        Ok((Expression::Slice { receiver, ty: ty.clone(), from, to }, ty.unfrozen().clone()))
    }

    fn hint(
        &mut self,
        ty: &cql_parser::ast::TypeName,
        inner: &Selectable,
        whole: &Selectable,
    ) -> Result<(Expression, CqlType)> {
        let hinted = term::resolve_type(self.terms, ty)?;
        if !(SelectedArgument { terms: self.terms, selectable: inner }).is_assignable(&hinted) {
            let shown = column_name(self.terms, whole);
            return Err(Error::invalid(format!(
                "Cannot assign value {shown} to {shown} of type {hinted}"
            )));
        }
        let (expression, _) = self.prepare(inner, Some(&hinted))?;
        Ok((expression, hinted))
    }

    fn composite(
        &mut self,
        selectable: &Selectable,
        receiver: Option<&CqlType>,
    ) -> Result<(Expression, CqlType)> {
        let ty = receiver
            .cloned()
            .or_else(|| infer(self.terms, selectable))
            .ok_or_else(|| cannot_infer(&column_name(self.terms, selectable)))?;
        let mut items = Vec::new();
        match (selectable, ty.unfrozen()) {
            (Selectable::Tuple(parts), CqlType::Tuple(types)) => {
                for (part, ty) in parts.iter().zip(types.iter()) {
                    items.push(self.prepare(part, Some(ty))?.0);
                }
                return Ok((Expression::Fields(items), ty));
            }
            (Selectable::Tuple(parts), _) if parts.len() == 1 => {
                let part = parts.first().ok_or_else(|| cannot_infer("()"))?;
                return self.prepare(part, Some(&ty));
            }
            (Selectable::List(parts), CqlType::List(element) | CqlType::Vector(element, _))
            | (Selectable::Set(parts), CqlType::Set(element)) => {
                for part in parts {
                    items.push(self.prepare(part, Some(element))?.0);
                }
            }
            (Selectable::Map(entries), CqlType::Map(key, value)) => {
                for (name, content) in entries {
                    items.push(self.prepare(name, Some(key))?.0);
                    items.push(self.prepare(content, Some(value))?.0);
                }
            }
            (Selectable::Map(entries), CqlType::Udt(user)) => {
                for (field, ty) in &user.fields {
                    let given = entries.iter().find(
                        |(name, _)| matches!(name, Selectable::Column(name) if name == field),
                    );
                    items.push(match given {
                        Some((_, content)) => self.prepare(content, Some(ty))?.0,
                        None => Expression::Term(Term::Null),
                    });
                }
                return Ok((Expression::Fields(items), ty));
            }
            _ => return Err(cannot_infer(&column_name(self.terms, selectable))),
        }
        Ok((Expression::Collection { ty: ty.clone(), items }, ty))
    }
}

/// Checks the names of columns and, where there are static columns, of functions: they are looked up
/// before anything else. Calls `visit` with each column.
pub(crate) fn check_names(
    terms: &TermContext<'_>,
    selectable: &Selectable,
    visit: &mut dyn FnMut(&Column),
) -> Result<()> {
    match selectable {
        Selectable::Column(name) => visit(find_column(terms.table, name)?),
        Selectable::Function { name, arguments } => {
            for argument in arguments {
                check_names(terms, argument, visit)?;
            }
            let looks_up = terms.table.has_statics() && !is_count_rows(selectable);
            if looks_up && !functions::is_known(name, terms.table) {
                return Err(functions::unknown_in_selection(name));
            }
        }
        Selectable::WriteTime(inner)
        | Selectable::MaxWriteTime(inner)
        | Selectable::Ttl(inner)
        | Selectable::Negation(inner)
        | Selectable::Cast { selectable: inner, .. }
        | Selectable::TypeHint { selectable: inner, .. }
        | Selectable::Field { receiver: inner, .. }
        | Selectable::Element { receiver: inner, .. }
        | Selectable::Slice { receiver: inner, .. } => check_names(terms, inner, visit)?,
        Selectable::Arithmetic { left, right, .. } => {
            check_names(terms, left, visit)?;
            check_names(terms, right, visit)?;
        }
        Selectable::Tuple(items) | Selectable::List(items) | Selectable::Set(items) => {
            for item in items {
                check_names(terms, item, visit)?;
            }
        }
        // The keys of a map may be fields of a user type.
        Selectable::Map(entries) => {
            for (_, content) in entries {
                check_names(terms, content, visit)?;
            }
        }
        Selectable::CountRows | Selectable::Term(_) => {}
    }
    Ok(())
}

fn cannot_infer(shown: &str) -> Error {
    Error::invalid(format!(
        "Cannot infer type for term {shown} in selection clause (try using a cast to force a type)"
    ))
}

fn base_column(selectable: &Selectable) -> Result<&str> {
    match selectable {
        Selectable::Column(name) => Ok(name),
        Selectable::Field { receiver, .. }
        | Selectable::Element { receiver, .. }
        | Selectable::Slice { receiver, .. } => base_column(receiver),
        _ => Err(Error::invalid("writetime and ttl can only be used on columns")),
    }
}

fn no_field(ty: &CqlType, field: &str, shown: &str) -> Error {
    Error::invalid(match ty.unfrozen() {
        CqlType::Udt(_) => format!("{shown} of type {ty} has no field {field}"),
        _ => format!("Invalid field selection: {shown} of type {ty} is not a user type"),
    })
}

fn field_index(ty: &CqlType, field: &str, shown: &str) -> Result<usize> {
    let CqlType::Udt(user) = ty.unfrozen() else { return Err(no_field(ty, field, shown)) };
    user.fields.iter().position(|(name, _)| name == field).ok_or_else(|| no_field(ty, field, shown))
}

/// The function behind a call, cast or operator; `None` when no function has that name.
fn resolve(
    terms: &TermContext<'_>,
    selectable: &Selectable,
    receiver: Option<&CqlType>,
) -> Result<Option<Function>> {
    if !terms.markers.may_resolve() {
        return Err(term::too_many_calls());
    }
    let argument = |selectable| SelectedArgument { terms, selectable };
    let resolved = match selectable {
        Selectable::Function { name, arguments } => {
            let described: Vec<SelectedArgument<'_, '_>> = arguments.iter().map(argument).collect();
            let dynamic: Vec<&dyn Argument> =
                described.iter().map(|argument| argument as &dyn Argument).collect();
            functions::resolve(name, &dynamic, terms.table, receiver)
        }
        Selectable::Cast { selectable: inner, ty } => {
            functions::cast(&argument(inner), *ty).map(Some)
        }
        Selectable::Negation(inner) => functions::negation(&argument(inner), receiver).map(Some),
        Selectable::Arithmetic { operator, left, right } => {
            let (left, right) = (argument(left), argument(right));
            functions::arithmetic((*operator).into(), &left, &right, receiver).map(Some)
        }
        _ => Ok(None),
    };
    resolved.map_err(|error| term::named_if_too_many(terms, error))
}

pub(super) fn is_count_rows(selectable: &Selectable) -> bool {
    let Selectable::Function { name, arguments } = selectable else { return false };
    let is_one = matches!(
        arguments.as_slice(),
        [Selectable::Term(Parsed::Constant(cql_parser::ast::Constant::Integer(_)))]
    );
    name.keyspace.as_deref().is_none_or(|keyspace| keyspace == "system")
        && name.name == "count"
        && is_one
}

/// The type of a selectable by itself.
pub(super) fn infer(terms: &TermContext<'_>, selectable: &Selectable) -> Option<CqlType> {
    let table: &TableSchema = terms.table;
    match selectable {
        Selectable::Column(name) => table.column(name).map(|column| column.ty.clone()),
        Selectable::Term(Parsed::TypeHint { ty, .. }) | Selectable::TypeHint { ty, .. } => {
            term::resolve_type(terms, ty).ok()
        }
        Selectable::Term(_) | Selectable::Set(_) if is_empty_set(selectable) => None,
        Selectable::Term(_) => None,
        Selectable::CountRows | Selectable::WriteTime(_) | Selectable::MaxWriteTime(_) => {
            Some(CqlType::BigInt)
        }
        Selectable::Ttl(_) => Some(CqlType::Int),
        Selectable::Function { .. }
        | Selectable::Cast { .. }
        | Selectable::Negation(_)
        | Selectable::Arithmetic { .. } => {
            resolve(terms, selectable, None).ok()?.map(|function| function.result)
        }
        Selectable::Field { receiver, field } => match infer(terms, receiver)?.unfrozen() {
            CqlType::Udt(user) => {
                user.fields.iter().find(|(name, _)| name == field).map(|(_, ty)| ty.clone())
            }
            _ => None,
        },
        Selectable::Element { receiver, .. } => match infer(terms, receiver)?.unfrozen() {
            CqlType::Map(_, value) => Some(value.as_ref().clone()),
            CqlType::Set(element) => Some(element.as_ref().clone()),
            _ => None,
        },
        Selectable::Slice { receiver, .. } => {
            infer(terms, receiver).map(|ty| ty.unfrozen().clone())
        }
        Selectable::Tuple(parts) => {
            let types: Option<Vec<CqlType>> = parts.iter().map(|part| infer(terms, part)).collect();
            Some(CqlType::Tuple(types?.into()))
        }
        Selectable::List(parts) => {
            parts.iter().find_map(|part| infer(terms, part)).map(|ty| CqlType::List(Arc::new(ty)))
        }
        Selectable::Set(parts) => {
            parts.iter().find_map(|part| infer(terms, part)).map(|ty| CqlType::Set(Arc::new(ty)))
        }
        Selectable::Map(_) => None,
    }
}

fn is_empty_set(selectable: &Selectable) -> bool {
    matches!(selectable, Selectable::Set(parts) if parts.is_empty())
}

/// A selectable as an argument of a function that is looked for.
struct SelectedArgument<'a, 'c> {
    terms: &'a TermContext<'c>,
    selectable: &'a Selectable,
}

impl Argument for SelectedArgument<'_, '_> {
    fn ty(&self) -> Option<CqlType> {
        infer(self.terms, self.selectable)
    }

    fn is_assignable(&self, ty: &CqlType) -> bool {
        if let Selectable::Term(term) = self.selectable {
            return term::assignable(self.terms, term, ty);
        }
        match infer(self.terms, self.selectable) {
            Some(own) => is_value_compatible(own.unfrozen(), ty.unfrozen()),
            None => matches!(
                self.selectable,
                Selectable::Map(_) | Selectable::Set(_) | Selectable::List(_)
            ),
        }
    }

    fn text(&self) -> String {
        column_name(self.terms, self.selectable)
    }
}

/// Whether bytes of one type are also a value of the other.
fn is_value_compatible(own: &CqlType, ty: &CqlType) -> bool {
    same_type(own, ty)
        || matches!(
            (own, ty),
            (_, CqlType::Blob)
                | (CqlType::Ascii, CqlType::Text)
                | (CqlType::TimeUuid, CqlType::Uuid)
                | (CqlType::Int | CqlType::BigInt | CqlType::Timestamp, CqlType::VarInt)
                | (CqlType::Timestamp, CqlType::BigInt)
                | (CqlType::BigInt, CqlType::Timestamp)
        )
}
