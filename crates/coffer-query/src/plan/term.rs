//! Terms with their types: what a literal, marker or function call gives for one column.

mod composite;

use std::borrow::Cow;

use bytes::Bytes;
use coffer_model::TableSchema;
use composite::{prepare_list, prepare_map, prepare_set, prepare_tuple, prepare_user_type};
use cql_parser::ast::{BindMarker, Constant, QualifiedName, Term as Parsed, TypeName};
use cql_types::{CqlType, collection, compare};

use super::display;
use super::type_name::TypeResolver;
use crate::bind::{Evaluation, Markers, Value};
use crate::error::{Error, Result};
use crate::functions::{self, Argument, Function};
use crate::schema::Schema;

/// What a term is for: the name in messages and bind metadata, and the type.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    pub(crate) name: String,
    pub(crate) ty: CqlType,
}

impl Receiver {
    pub(crate) fn new(name: impl Into<String>, ty: &CqlType) -> Receiver {
        Receiver { name: name.into(), ty: ty.clone() }
    }
}

/// What preparing terms needs to know.
pub(crate) struct TermContext<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) table: &'a TableSchema,
    pub(crate) markers: &'a mut Markers,
}

/// A term that is ready to be evaluated.
#[derive(Debug, Clone)]
pub(crate) enum Term {
    /// Null.
    Null,
    /// A serialized constant.
    Constant(Bytes),
    /// A bound value, checked against the type when it comes.
    Marker { index: usize, ty: CqlType },
    /// A collection with parts that are not constant; a map has keys and values in turn.
    Collection { ty: CqlType, items: Vec<Term> },
    /// A tuple or user type with parts that are not constant.
    Fields { ty: CqlType, fields: Vec<Term> },
    /// A function call.
    Call { function: Function, arguments: Vec<Term> },
}

impl Term {
    /// The value for this execution.
    pub(crate) fn evaluate<'a>(&'a self, evaluation: &Evaluation<'a>) -> Result<Value<'a>> {
        match self {
            Term::Null => Ok(Value::Null),
            Term::Constant(bytes) => Ok(Value::Bytes(Cow::Borrowed(bytes))),
            Term::Marker { index, ty } => {
                let bound = evaluation
                    .values
                    .get(*index)
                    .ok_or_else(|| Error::invalid("Invalid amount of bind variables"))?;
                let value = Value::from(bound);
                if let Value::Bytes(bytes) = &value {
                    cql_types::validate(ty, bytes)
                        .map_err(|error| Error::invalid(error.to_string()))?;
                }
                Ok(value)
            }
            Term::Collection { ty, items } => evaluate_collection(ty, items, evaluation),
            Term::Fields { ty, fields } => evaluate_fields(ty, fields, evaluation),
            Term::Call { function, arguments } => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(match argument.evaluate(evaluation)? {
                        Value::Bytes(bytes) => Some(bytes),
                        Value::Null => None,
                        Value::Unset => {
                            return Err(Error::invalid(format!(
                                "Invalid unset value for argument in call to function {}",
                                function.name
                            )));
                        }
                    });
                }
                Ok(match function.call(&values, evaluation.database)? {
                    Some(bytes) => Value::owned(bytes),
                    None => Value::Null,
                })
            }
        }
    }

    /// The value if it is known without an execution.
    fn constant(&self) -> Option<&Bytes> {
        match self {
            Term::Constant(bytes) => Some(bytes),
            _ => None,
        }
    }
}

fn evaluate_collection<'a>(
    ty: &CqlType,
    items: &'a [Term],
    evaluation: &Evaluation<'a>,
) -> Result<Value<'a>> {
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        match item.evaluate(evaluation)? {
            Value::Bytes(bytes) => values.push(bytes),
            Value::Null => {
                return Err(Error::invalid("null is not supported inside collections"));
            }
            Value::Unset => {
                return Err(Error::invalid("unset value is not supported inside collections"));
            }
        }
    }
    Ok(Value::owned(build_collection(ty, values)))
}

/// A serialized collection of elements (or keys and values in turn), sorted and without doubles
/// where the type asks for that.
pub(crate) fn build_collection(ty: &CqlType, values: Vec<Cow<'_, [u8]>>) -> Bytes {
    match ty.unfrozen() {
        CqlType::Map(key, _) => {
            let mut entries = Vec::with_capacity(values.len() / 2);
            let mut values = values.into_iter();
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                entries.push((key, value));
            }
            entries.sort_by(|left, right| compare(key, &left.0, &right.0));
            let mut writer = collection::CollectionWriter::map();
            let mut entries = entries.into_iter().peekable();
            while let Some((name, value)) = entries.next() {
                // Of equal keys the last one given stays.
                if entries.peek().is_some_and(|next| compare(key, &next.0, &name).is_eq()) {
                    continue;
                }
                writer.push(&name);
                writer.push(&value);
            }
            writer.finish()
        }
        CqlType::Set(element) => {
            let mut values = values;
            values.sort_by(|left, right| compare(element, left, right));
            values.dedup_by(|left, right| compare(element, left, right).is_eq());
            sequence(&values)
        }
        CqlType::Vector(element, _) => cql_types::vector::write_vector(element, &values),
        _ => sequence(&values),
    }
}

fn sequence(values: &[Cow<'_, [u8]>]) -> Bytes {
    let mut writer = collection::CollectionWriter::sequence();
    for value in values {
        writer.push(value);
    }
    writer.finish()
}

fn evaluate_fields<'a>(
    ty: &CqlType,
    fields: &'a [Term],
    evaluation: &Evaluation<'a>,
) -> Result<Value<'a>> {
    let mut out = Vec::new();
    for (place, field) in fields.iter().enumerate() {
        match field.evaluate(evaluation)? {
            Value::Bytes(bytes) => collection::write_element(&mut out, Some(&bytes)),
            Value::Null => collection::write_element(&mut out, None),
            Value::Unset => {
                return Err(Error::invalid(match ty.unfrozen() {
                    CqlType::Udt(user) => format!(
                        "Invalid unset value for field '{}' of user defined type {}",
                        user.fields.get(place).map_or("", |(name, _)| name),
                        user.name
                    ),
                    _ => format!("Invalid unset value for tuple field number {place}"),
                }));
            }
        }
    }
    Ok(Value::owned(out))
}

/// Prepares a term for a receiver.
pub(crate) fn prepare(
    context: &mut TermContext<'_>,
    term: &Parsed,
    receiver: &Receiver,
) -> Result<Term> {
    match term {
        Parsed::Null => Ok(Term::Null),
        Parsed::BindMarker(marker) => Ok(prepare_marker(context, *marker, receiver)),
        Parsed::Constant(Constant::String(text)) if is_now(text, receiver) => {
            let name = QualifiedName { keyspace: None, name: "current_timestamp".to_owned() };
            prepare_call(context, &Parsed::Function { name, arguments: Vec::new() }, receiver)
        }
        Parsed::Constant(constant) => encode_constant(constant, receiver).map(Term::Constant),
        Parsed::List(items) => prepare_list(context, items, term, receiver),
        Parsed::Set(items) => prepare_set(context, items, term, receiver),
        Parsed::Map(entries) => prepare_map(context, entries, receiver),
        Parsed::Tuple(items) => prepare_tuple(context, items, receiver),
        Parsed::UserType(fields) => prepare_user_type(context, fields, receiver),
        Parsed::Function { .. }
        | Parsed::Cast { .. }
        | Parsed::Arithmetic { .. }
        | Parsed::Negation(_) => prepare_call(context, term, receiver),
        Parsed::TypeHint { ty, term: inner } => {
            let hinted = resolve_type(context, ty)?;
            let inner_receiver = Receiver::new(receiver.name.clone(), &hinted);
            if !assignable(context, inner, &hinted) {
                return Err(Error::invalid(format!(
                    "Cannot cast value {} to type {hinted}",
                    display::term(inner)
                )));
            }
            if !same_type(&hinted, &receiver.ty) {
                return Err(Error::invalid(format!(
                    "Cannot assign value {} to {} of type {}",
                    display::term(term),
                    receiver.name,
                    receiver.ty
                )));
            }
            prepare(context, inner, &inner_receiver)
        }
    }
}

fn prepare_marker(context: &mut TermContext<'_>, marker: BindMarker, receiver: &Receiver) -> Term {
    let index = context.markers.bind(marker, &receiver.name, &receiver.ty);
    Term::Marker { index, ty: receiver.ty.clone() }
}

/// Function calls, casts and arithmetic.
fn prepare_call(context: &mut TermContext<'_>, term: &Parsed, receiver: &Receiver) -> Result<Term> {
    let (function, arguments) = resolve_call(context, term, Some(&receiver.ty))?;
    if function.is_aggregate() {
        return Err(Error::invalid(
            "Aggregate function are not supported in the where clause".to_owned(),
        ));
    }
    if !function.returns(&receiver.ty) {
        return Err(Error::invalid(match term {
            Parsed::Function { .. } => format!(
                "Type error: cannot assign result of function {} (type {}) to {} (type {})",
                function.name, function.result, receiver.name, receiver.ty
            ),
            _ => format!(
                "Cannot assign value {} to {} of type {}",
                display::term(term),
                receiver.name,
                receiver.ty
            ),
        }));
    }
    let mut prepared = Vec::with_capacity(arguments.len());
    for (place, argument) in arguments.iter().enumerate() {
        let ty = function.arguments.get(place).cloned().unwrap_or(CqlType::Blob);
        let name = format!("arg{place}({})", function.name);
        prepared.push(prepare(context, argument, &Receiver::new(name, &ty))?);
    }
    Ok(Term::Call { function, arguments: prepared })
}

/// The function behind a call, a cast or an operator, and the terms it is applied to.
fn resolve_call<'t>(
    context: &TermContext<'_>,
    term: &'t Parsed,
    receiver: Option<&CqlType>,
) -> Result<(Function, Vec<&'t Parsed>)> {
    if !context.markers.may_resolve() {
        return Err(too_many_calls());
    }
    let (resolved, arguments): (Result<Function>, Vec<&'t Parsed>) = match term {
        Parsed::Function { name, arguments } => {
            let described: Vec<TermArgument<'_, '_>> =
                arguments.iter().map(|term| TermArgument { context, term }).collect();
            let dynamic: Vec<&dyn Argument> =
                described.iter().map(|argument| argument as &dyn Argument).collect();
            let unknown =
                || Error::invalid(format!("Unknown function {} called", display::qualified(name)));
            let function = functions::resolve(name, &dynamic, context.table, receiver)
                .and_then(|function| function.ok_or_else(unknown));
            (function, arguments.iter().collect())
        }
        Parsed::Cast { term: inner, ty } => {
            let argument = TermArgument { context, term: inner };
            (functions::cast(&argument, *ty), vec![inner])
        }
        Parsed::Arithmetic { operator, left, right } => {
            let arguments =
                [TermArgument { context, term: left }, TermArgument { context, term: right }];
            let [left_argument, right_argument] = &arguments;
            let function =
                functions::arithmetic((*operator).into(), left_argument, right_argument, receiver);
            (function, vec![left, right])
        }
        Parsed::Negation(inner) => {
            let argument = TermArgument { context, term: inner };
            (functions::negation(&argument, receiver), vec![inner])
        }
        _ => return Err(Error::Server("not a function call".to_owned())),
    };
    let resolved = resolved.map_err(|error| named_if_too_many(context, error));
    Ok((resolved?, arguments))
}

/// A call seems not to fit when its arguments could not be looked at to the end.
pub(crate) fn named_if_too_many(context: &TermContext<'_>, error: Error) -> Error {
    if context.markers.may_resolve() { error } else { too_many_calls() }
}

pub(crate) fn too_many_calls() -> Error {
    Error::invalid("the statement nests too many function calls")
}

/// A term as an argument of a function that is looked for.
struct TermArgument<'a, 'c> {
    context: &'a TermContext<'c>,
    term: &'a Parsed,
}

impl Argument for TermArgument<'_, '_> {
    fn ty(&self) -> Option<CqlType> {
        infer(self.context, self.term)
    }

    fn is_assignable(&self, ty: &CqlType) -> bool {
        assignable(self.context, self.term, ty)
    }

    fn text(&self) -> String {
        display::term(self.term)
    }
}

/// The type a term has by itself.
fn infer(context: &TermContext<'_>, term: &Parsed) -> Option<CqlType> {
    match term {
        Parsed::TypeHint { ty, .. } => resolve_type(context, ty).ok(),
        Parsed::Function { .. }
        | Parsed::Cast { .. }
        | Parsed::Arithmetic { .. }
        | Parsed::Negation(_) => {
            resolve_call(context, term, None).ok().map(|(function, _)| function.result)
        }
        _ => None,
    }
}

/// The type behind a written name, user types looked up in the keyspace of the table.
pub(crate) fn resolve_type(context: &TermContext<'_>, ty: &TypeName) -> Result<CqlType> {
    let keyspace = &context.table.keyspace;
    let found = context
        .schema
        .keyspace(keyspace)
        .ok_or_else(|| Error::invalid(format!("keyspace {keyspace} does not exist")))?;
    TypeResolver { keyspace, types: &found.schema.types }.resolve(ty)
}

/// Whether two types are the same, frozen or not.
pub(crate) fn same_type(left: &CqlType, right: &CqlType) -> bool {
    left == right || left.frozen() == right.frozen()
}

/// Whether a term can be a value of the type.
pub(crate) fn assignable(context: &TermContext<'_>, term: &Parsed, ty: &CqlType) -> bool {
    let all =
        |items: &[Parsed], ty: &CqlType| items.iter().all(|item| assignable(context, item, ty));
    match (term, ty.unfrozen()) {
        (Parsed::Null | Parsed::BindMarker(_), _) => true,
        (Parsed::Constant(constant), ty) => constant_fits(constant, ty),
        (Parsed::List(items), CqlType::List(element) | CqlType::Vector(element, _))
        | (Parsed::Set(items), CqlType::Set(element)) => all(items, element),
        (Parsed::Set(items), CqlType::Map(..) | CqlType::Udt(_)) => items.is_empty(),
        (Parsed::Map(entries), CqlType::Map(key, value)) => entries
            .iter()
            .all(|(k, v)| assignable(context, k, key) && assignable(context, v, value)),
        (Parsed::Tuple(items), CqlType::Tuple(types)) => {
            items.len() <= types.len()
                && items.iter().zip(types.iter()).all(|(item, ty)| assignable(context, item, ty))
        }
        (Parsed::Tuple(items), CqlType::Udt(user)) => {
            items.len() <= user.fields.len()
                && items
                    .iter()
                    .zip(&user.fields)
                    .all(|(item, (_, ty))| assignable(context, item, ty))
        }
        (Parsed::Tuple(items), ty) => items.len() == 1 && all(items, ty),
        (Parsed::UserType(fields), CqlType::Udt(user)) => fields.iter().all(|(name, term)| {
            let field = user.fields.iter().find(|(field, _)| field == name);
            field.is_some_and(|(_, ty)| assignable(context, term, ty))
        }),
        (Parsed::TypeHint { ty: hint, .. }, ty) => {
            resolve_type(context, hint).is_ok_and(|hint| same_type(&hint, ty))
        }
        (
            Parsed::Function { .. }
            | Parsed::Cast { .. }
            | Parsed::Arithmetic { .. }
            | Parsed::Negation(_),
            ty,
        ) => resolve_call(context, term, Some(ty)).is_ok_and(|(function, _)| function.returns(ty)),
        _ => false,
    }
}

fn kind_of(constant: &Constant) -> &'static str {
    match constant {
        Constant::String(_) => "STRING",
        Constant::Integer(_) => "INTEGER",
        Constant::Float(_) => "FLOAT",
        Constant::Boolean(_) => "BOOLEAN",
        Constant::Duration(_) => "DURATION",
        Constant::Uuid(_) => "UUID",
        Constant::Hex(_) => "HEX",
    }
}

/// Whether Cassandra accepts this kind of literal for the type.
pub(crate) fn constant_fits(constant: &Constant, ty: &CqlType) -> bool {
    use CqlType as T;
    match constant {
        Constant::String(_) => matches!(
            ty,
            T::Ascii | T::Text | T::Inet | T::Date | T::Time | T::Timestamp | T::Custom(_)
        ),
        Constant::Integer(_) => matches!(
            ty,
            T::BigInt
                | T::Counter
                | T::Date
                | T::Decimal
                | T::Double
                | T::Duration
                | T::Float
                | T::Int
                | T::SmallInt
                | T::Time
                | T::Timestamp
                | T::TinyInt
                | T::VarInt
        ),
        Constant::Float(_) => matches!(ty, T::Decimal | T::Double | T::Float),
        Constant::Boolean(_) => matches!(ty, T::Boolean),
        Constant::Duration(_) => matches!(ty, T::Duration),
        Constant::Uuid(_) => matches!(ty, T::Uuid | T::TimeUuid),
        Constant::Hex(_) => matches!(ty, T::Blob),
    }
}

/// The one literal that is not always the same value.
fn is_now(text: &str, receiver: &Receiver) -> bool {
    receiver.ty == CqlType::Timestamp && text.eq_ignore_ascii_case("now")
}

/// Serializes a literal for a receiver.
fn encode_constant(constant: &Constant, receiver: &Receiver) -> Result<Bytes> {
    if !constant_fits(constant, receiver.ty.unfrozen()) {
        return Err(Error::invalid(format!(
            "Invalid {} constant ({}) for \"{}\" of type {}",
            kind_of(constant),
            constant.text(),
            receiver.name,
            receiver.ty
        )));
    }
    cql_types::from_text(receiver.ty.unfrozen(), constant.text())
        .map_err(|error| text_error(&error, constant, &receiver.ty))
}

/// Cassandra's parsers of literals word some errors apart from those of bytes.
fn text_error(error: &cql_types::TypeError, constant: &Constant, ty: &CqlType) -> Error {
    let text = constant.text();
    Error::invalid(match ty {
        CqlType::Ascii => "Invalid ASCII character in string literal: java.nio.charset.UnmappableCharacterException: Input length = 1".to_owned(),
        CqlType::TimeUuid => "TimeUUID supports only version 1 UUIDs".to_owned(),
        CqlType::Timestamp => format!("Unable to parse a date/time from '{text}'"),
        CqlType::Time => format!("(TimeType) Unable to coerce '{text}' to a formatted time (long)"),
        _ => error.to_string(),
    })
}
