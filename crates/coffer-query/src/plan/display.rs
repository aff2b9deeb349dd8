//! Terms as Cassandra's messages and column names write them.

use cql_parser::ast::{Constant, QualifiedName, Term, TypeName};

/// A term as text.
pub(crate) fn term(term: &Term) -> String {
    match term {
        Term::Constant(Constant::String(text)) => format!("'{}'", text.replace('\'', "''")),
        Term::Constant(constant) => constant.text().to_owned(),
        Term::Null => "null".to_owned(),
        Term::BindMarker(_) => "?".to_owned(),
        Term::List(items) => format!("[{}]", terms(items)),
        Term::Set(items) => format!("{{{}}}", terms(items)),
        Term::Tuple(items) => format!("({})", terms(items)),
        Term::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", self::term(key), self::term(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Term::UserType(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", self::term(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Term::Function { name, arguments } => {
            format!("{}({})", qualified(name), terms(arguments))
        }
        Term::Cast { term: inner, ty } => format!("cast({} as {})", self::term(inner), ty.name()),
        Term::TypeHint { ty, term: inner } => format!("({}){}", type_name(ty), self::term(inner)),
        Term::Arithmetic { operator, left, right } => {
            format!("{} {} {}", self::term(left), operator.sign(), self::term(right))
        }
        Term::Negation(inner) => format!("-{}", self::term(inner)),
    }
}

/// Terms separated by commas.
pub(crate) fn terms(items: &[Term]) -> String {
    items.iter().map(term).collect::<Vec<_>>().join(", ")
}

/// `[keyspace.]name`
pub(crate) fn qualified(name: &QualifiedName) -> String {
    match &name.keyspace {
        Some(keyspace) => format!("{keyspace}.{}", name.name),
        None => name.name.clone(),
    }
}

/// A type as it was written.
pub(crate) fn type_name(ty: &TypeName) -> String {
    match ty {
        TypeName::Native(native) => native.name().to_owned(),
        TypeName::List(element) => format!("list<{}>", type_name(element)),
        TypeName::Set(element) => format!("set<{}>", type_name(element)),
        TypeName::Map(key, value) => format!("map<{}, {}>", type_name(key), type_name(value)),
        TypeName::Tuple(fields) => {
            let fields: Vec<String> = fields.iter().map(type_name).collect();
            format!("tuple<{}>", fields.join(", "))
        }
        TypeName::Vector(element, dimension) => {
            format!("vector<{}, {dimension}>", type_name(element))
        }
        TypeName::Frozen(inner) => format!("frozen<{}>", type_name(inner)),
        TypeName::UserType(name) => qualified(name),
        TypeName::Custom(class) => format!("'{class}'"),
    }
}

/// A name in double quotes, unless it needs none.
pub(crate) fn identifier(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
