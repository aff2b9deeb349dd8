//! Literals of collections, tuples and user types.

use std::borrow::Cow;

use cql_parser::ast::Term as Parsed;
use cql_types::{CqlType, UserType, collection};

use super::{Receiver, Term, TermContext, assignable, build_collection, prepare};
use crate::error::{Error, Result};
use crate::plan::display;

fn element_receiver(receiver: &Receiver, ty: &CqlType) -> Receiver {
    Receiver::new(format!("value({})", receiver.name), ty)
}

/// Serializes at once when all parts are known.
fn fold_collection(receiver: &Receiver, items: Vec<Term>) -> Result<Term> {
    if items.iter().any(|item| matches!(item, Term::Null)) {
        return Err(Error::invalid("null is not supported inside collections"));
    }
    let known: Option<Vec<Cow<'_, [u8]>>> =
        items.iter().map(|item| item.constant().map(|bytes| Cow::Borrowed(&bytes[..]))).collect();
    Ok(match known {
        Some(values) => Term::Constant(build_collection(&receiver.ty, values)),
        None => Term::Collection { ty: receiver.ty.clone(), items },
    })
}

pub(super) fn prepare_list(
    context: &mut TermContext<'_>,
    items: &[Parsed],
    term: &Parsed,
    receiver: &Receiver,
) -> Result<Term> {
    let element = match receiver.ty.unfrozen() {
        CqlType::List(element) => element.as_ref().clone(),
        CqlType::Vector(element, dimension) => {
            if items.len() != usize::from(*dimension) {
                return Err(Error::invalid(format!(
                    "Invalid vector literal for {} of type {}; expected {dimension} elements, but given {}",
                    receiver.name,
                    receiver.ty,
                    items.len()
                )));
            }
            element.as_ref().clone()
        }
        other => {
            return Err(Error::invalid(format!(
                "Unexpected receiver type '{other}'; only list and vector are expected"
            )));
        }
    };
    prepare_elements(context, items, term, receiver, &element, "list")
}

fn prepare_elements(
    context: &mut TermContext<'_>,
    items: &[Parsed],
    _term: &Parsed,
    receiver: &Receiver,
    element: &CqlType,
    kind: &str,
) -> Result<Term> {
    let inner = element_receiver(receiver, element);
    let mut prepared = Vec::with_capacity(items.len());
    for item in items {
        if !assignable(context, item, element) {
            return Err(Error::invalid(format!(
                "Invalid {kind} literal for {}: value {} is not of type {element}",
                receiver.name,
                display::term(item)
            )));
        }
        prepared.push(prepare(context, item, &inner)?);
    }
    fold_collection(receiver, prepared)
}

pub(super) fn prepare_set(
    context: &mut TermContext<'_>,
    items: &[Parsed],
    term: &Parsed,
    receiver: &Receiver,
) -> Result<Term> {
    match receiver.ty.unfrozen().clone() {
        CqlType::Set(element) => prepare_elements(context, items, term, receiver, &element, "set"),
        CqlType::Map(..) if items.is_empty() => fold_collection(receiver, Vec::new()),
        CqlType::Udt(_) if items.is_empty() => prepare_user_type(context, &[], receiver),
        _ => Err(Error::invalid(format!(
            "Invalid set literal for {} of type {}",
            receiver.name, receiver.ty
        ))),
    }
}

pub(super) fn prepare_map(
    context: &mut TermContext<'_>,
    entries: &[(Parsed, Parsed)],
    receiver: &Receiver,
) -> Result<Term> {
    let CqlType::Map(key_type, value_type) = receiver.ty.unfrozen().clone() else {
        return Err(Error::invalid(format!(
            "Invalid map literal for {} of type {}",
            receiver.name, receiver.ty
        )));
    };
    let key_receiver = Receiver::new(format!("key({})", receiver.name), &key_type);
    let value_receiver = element_receiver(receiver, &value_type);
    let mut prepared = Vec::with_capacity(entries.len() * 2);
    for (key, value) in entries {
        for (what, part, part_receiver) in
            [("key", key, &key_receiver), ("value", value, &value_receiver)]
        {
            if !assignable(context, part, &part_receiver.ty) {
                return Err(Error::invalid(format!(
                    "Invalid map literal for {}: {what} {} is not of type {}",
                    receiver.name,
                    display::term(part),
                    part_receiver.ty
                )));
            }
            prepared.push(prepare(context, part, part_receiver)?);
        }
    }
    fold_collection(receiver, prepared)
}

pub(super) fn prepare_tuple(
    context: &mut TermContext<'_>,
    items: &[Parsed],
    receiver: &Receiver,
) -> Result<Term> {
    let types: Vec<CqlType> = match receiver.ty.unfrozen() {
        CqlType::Tuple(types) => types.to_vec(),
        CqlType::Udt(user) => user.fields.iter().map(|(_, ty)| ty.clone()).collect(),
        _ => {
            // A single value in parentheses.
            if let [item] = items {
                return prepare(context, item, receiver);
            }
            return Err(Error::invalid(format!(
                "Invalid tuple type literal for {} of type {}",
                receiver.name, receiver.ty
            )));
        }
    };
    if items.len() > types.len() {
        return Err(Error::invalid(format!(
            "Invalid tuple literal for {}: too many elements. Type {} expects {} but got {}",
            receiver.name,
            receiver.ty,
            types.len(),
            items.len()
        )));
    }
    let mut fields = Vec::with_capacity(items.len());
    for (place, (item, ty)) in items.iter().zip(&types).enumerate() {
        if !assignable(context, item, ty) {
            return Err(Error::invalid(format!(
                "Invalid tuple literal for {}: component {place} is not of type {ty}",
                receiver.name
            )));
        }
        let inner = Receiver::new(format!("{}[{place}]", receiver.name), ty);
        fields.push(prepare(context, item, &inner)?);
    }
    Ok(fold_fields(receiver, fields))
}

fn fold_fields(receiver: &Receiver, fields: Vec<Term>) -> Term {
    let known = fields.iter().all(|field| matches!(field, Term::Null | Term::Constant(_)));
    if !known {
        return Term::Fields { ty: receiver.ty.clone(), fields };
    }
    let mut out = Vec::new();
    for field in &fields {
        collection::write_element(&mut out, field.constant().map(|bytes| &bytes[..]));
    }
    Term::Constant(out.into())
}

pub(super) fn prepare_user_type(
    context: &mut TermContext<'_>,
    given: &[(String, Parsed)],
    receiver: &Receiver,
) -> Result<Term> {
    let CqlType::Udt(user) = receiver.ty.unfrozen().clone() else {
        return Err(Error::invalid(format!(
            "Invalid user type literal for {} of type {}",
            receiver.name, receiver.ty
        )));
    };
    check_user_type_fields(context, given, &user, receiver)?;
    let mut fields = Vec::with_capacity(user.fields.len());
    for (name, ty) in &user.fields {
        let term = given.iter().find(|(field, _)| field == name).map(|(_, term)| term);
        let inner = Receiver::new(format!("{}.{name}", receiver.name), ty);
        fields.push(match term {
            Some(term) => prepare(context, term, &inner)?,
            None => Term::Null,
        });
    }
    Ok(fold_fields(receiver, fields))
}

fn check_user_type_fields(
    context: &TermContext<'_>,
    given: &[(String, Parsed)],
    user: &UserType,
    receiver: &Receiver,
) -> Result<()> {
    for (name, term) in given {
        let Some((_, ty)) = user.fields.iter().find(|(field, _)| field == name) else {
            return Err(Error::invalid(format!(
                "Unknown field '{name}' in value of user defined type {}",
                user.name
            )));
        };
        if !assignable(context, term, ty) {
            return Err(Error::invalid(format!(
                "Invalid user type literal for {}: field {name} is not of type {ty}",
                receiver.name
            )));
        }
    }
    Ok(())
}
