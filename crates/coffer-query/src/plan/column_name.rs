//! Names of result columns without an alias.

use cql_parser::ast::{Selectable, Term as Parsed};
use cql_types::CqlType;

use super::display;
use super::selectable::{infer, is_count_rows};
use super::term::TermContext;

fn list(terms: &TermContext<'_>, parts: &[Selectable]) -> String {
    parts.iter().map(|part| column_name(terms, part)).collect::<Vec<_>>().join(", ")
}

/// The name Cassandra gives to the result column of a selector without alias.
pub(crate) fn column_name(terms: &TermContext<'_>, selectable: &Selectable) -> String {
    let name = |selectable: &Selectable| column_name(terms, selectable);
    match selectable {
        Selectable::Column(name) => name.clone(),
        Selectable::Term(term) => display::term(term),
        Selectable::CountRows => "count".to_owned(),
        Selectable::WriteTime(inner) => format!("writetime({})", name(inner)),
        Selectable::MaxWriteTime(inner) => format!("maxwritetime({})", name(inner)),
        Selectable::Ttl(inner) => format!("ttl({})", name(inner)),
        Selectable::Cast { selectable: inner, ty }
            if infer(terms, inner).is_some_and(|own| CqlType::native(ty.name()) == Some(own)) =>
        {
            name(inner)
        }
        Selectable::Cast { selectable: inner, ty } => {
            format!("cast({} as {})", name(inner), ty.name())
        }
        Selectable::Function { .. } if is_count_rows(selectable) => "count".to_owned(),
        Selectable::Function { name: function, arguments } => {
            format!("system.{}({})", function.name, list(terms, arguments))
        }
        Selectable::Field { receiver, field } => {
            format!("{}.{}", name(receiver), display::identifier(field))
        }
        Selectable::Element { receiver, key } => {
            format!("{}[{}]", name(receiver), display::term(key))
        }
        Selectable::Slice { receiver, from, to } => {
            let bound = |term: &Option<Parsed>| term.as_ref().map_or(String::new(), display::term);
            format!("{}[{}..{}]", name(receiver), bound(from), bound(to))
        }
        Selectable::TypeHint { ty, selectable: inner } => {
            format!("({}){}", display::type_name(ty), name(inner))
        }
        Selectable::Tuple(parts) => format!("({})", list(terms, parts)),
        Selectable::List(parts) => format!("[{}]", list(terms, parts)),
        Selectable::Set(parts) => format!("{{{}}}", list(terms, parts)),
        Selectable::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", name(key), name(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Selectable::Arithmetic { operator, left, right } => {
            format!("{} {} {}", name(left), operator.sign(), name(right))
        }
        Selectable::Negation(inner) => format!("-{}", name(inner)),
    }
}
