//! Reads the text that `Display` of a type writes; the catalog stores types this way.

use std::collections::BTreeMap;
use std::sync::Arc;

use cql_types::{CqlType, UserType};

use crate::Error;

/// Nesting deeper than this is refused. More than any statement can make (the parser of CQL ends
/// at 128 levels, each of which may add a `frozen`): a catalog that was written can be read.
const DEPTH_MAX: usize = 512;

/// The type of a text as in `system_schema.columns`; user types are looked up in `types`.
///
/// # Errors
/// [`Error::Malformed`] for any other text, unknown user types included.
pub fn parse_type(text: &str, types: &BTreeMap<String, Arc<UserType>>) -> Result<CqlType, Error> {
    let mut parser = Parser { rest: text, types };
    let ty = parser.parse(0)?;
    if parser.rest.trim().is_empty() { Ok(ty) } else { Err(MALFORMED) }
}

const MALFORMED: Error = Error::Malformed("type");

struct Parser<'a> {
    rest: &'a str,
    types: &'a BTreeMap<String, Arc<UserType>>,
}

impl Parser<'_> {
    fn parse(&mut self, depth: usize) -> Result<CqlType, Error> {
        if depth > DEPTH_MAX {
            return Err(MALFORMED);
        }
        self.rest = self.rest.trim_start();
        if let Some(quoted) = self.rest.strip_prefix('\'') {
            let (class, rest) = quoted.split_once('\'').ok_or(MALFORMED)?;
            self.rest = rest;
            return Ok(CqlType::Custom(class.into()));
        }
        if self.rest.starts_with('"') {
            let name = self.quoted()?;
            return self.user_type(&name);
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        if self.eat('<') {
            return self.parameters(name, depth + 1);
        }
        match CqlType::native(name) {
            Some(native) => Ok(native),
            None => self.user_type(name),
        }
    }

    fn parameters(&mut self, name: &str, depth: usize) -> Result<CqlType, Error> {
        let first = Arc::new(self.parse(depth)?);
        let ty = match name {
            "list" => CqlType::List(first),
            "set" => CqlType::Set(first),
            "frozen" => CqlType::Frozen(first),
            "map" if self.eat(',') => CqlType::Map(first, Arc::new(self.parse(depth)?)),
            "vector" if self.eat(',') => CqlType::Vector(first, self.dimension()?),
            "tuple" => {
                let mut fields = vec![first.as_ref().clone()];
                while self.eat(',') {
                    fields.push(self.parse(depth)?);
                }
                CqlType::Tuple(fields.into())
            }
            _ => return Err(MALFORMED),
        };
        if self.eat('>') { Ok(ty) } else { Err(MALFORMED) }
    }

    fn dimension(&mut self) -> Result<u16, Error> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().map_err(|_| MALFORMED)
    }

    fn quoted(&mut self) -> Result<String, Error> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((place, c)) = chars.next() {
            if c != '"' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                self.rest = self.rest.get(place + 1..).ok_or(MALFORMED)?;
                return Ok(name);
            }
        }
        Err(MALFORMED)
    }

    fn user_type(&self, name: &str) -> Result<CqlType, Error> {
        self.types.get(name).map(|ty| CqlType::Udt(Arc::clone(ty))).ok_or(MALFORMED)
    }

    fn eat(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_type_is_read_back_as_it_is_written() {
        let fields = vec![("f".to_owned(), CqlType::Int)];
        let odd = UserType { keyspace: "k".into(), name: "Odd \"name".into(), fields };
        let plain = UserType { name: "plain".into(), ..odd.clone() };
        let types: BTreeMap<_, _> = [odd, plain].map(|ty| (ty.name.clone(), Arc::new(ty))).into();
        for text in [
            "int",
            "frozen<map<text, frozen<list<timeuuid>>>>",
            "tuple<int, text, frozen<plain>>",
            "set<frozen<\"Odd \"\"name\">>",
            "vector<float, 12>",
            "'org.example.Type'",
        ] {
            assert_eq!(parse_type(text, &types).unwrap().to_string(), text);
        }
        for text in ["", "list<int", "list<>", "unknown", "int int", "map<int>", "\"open"] {
            assert_eq!(parse_type(text, &types), Err(MALFORMED), "{text}");
        }
    }

    #[test]
    fn what_a_statement_can_nest_is_read_back_and_more_is_refused() {
        let nested =
            |levels: usize| format!("{}int{}", "frozen<list<".repeat(levels), ">>".repeat(levels));
        let types = BTreeMap::new();
        assert_eq!(parse_type(&nested(128), &types).unwrap().to_string(), nested(128));
        assert_eq!(parse_type(&nested(100_000), &types), Err(MALFORMED));
    }
}
