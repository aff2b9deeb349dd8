//! `WITH name = value AND ...`

use std::collections::HashSet;

use crate::ast::{Constant, Property, PropertyValue};
use crate::keyword::{Class, Keyword};
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

/// The properties whose maps hold maps: Keyspaces' own.
const NESTED: [&str; 2] = ["custom_properties", "autoscaling_settings"];

impl Parser<'_> {
    /// `property AND property ...`
    pub(super) fn properties(&mut self) -> Parsed<Vec<Property>> {
        let mut properties = Vec::new();
        loop {
            self.property(&mut properties)?;
            if !self.accept(Keyword::And) {
                self.refuse_repeated(&properties)?;
                return Ok(properties);
            }
        }
    }

    /// A property's name may come once.
    pub(super) fn refuse_repeated(&self, properties: &[Property]) -> Parsed<()> {
        match first_repeated(properties.iter().map(|property| property.name.as_str())) {
            Some(name) => self.refuse(format!("Multiple definitions for property '{name}'")),
            None => Ok(()),
        }
    }

    /// `[WITH properties]`
    pub(super) fn optional_properties(&mut self) -> Parsed<Vec<Property>> {
        if self.accept(Keyword::With) { self.properties() } else { Ok(Vec::new()) }
    }

    /// One property more.
    pub(super) fn property(&mut self, properties: &mut Vec<Property>) -> Parsed<()> {
        let decision = self.position();
        let name = self.name()?;
        if !self.accept_sign(b'=') {
            return self.no_viable_since(decision);
        }
        let value = match self.kind() {
            Kind::Sign(b'{') => {
                let nested = NESTED.contains(&name.as_str());
                self.map(nested)?
            }
            Kind::Keyword(keyword) if keyword.class() != Class::Reserved => {
                PropertyValue::Keyword(self.name()?)
            }
            _ => match self.constant()? {
                Some(constant) => PropertyValue::Constant(constant),
                None => return self.no_viable_since(decision),
            },
        };
        properties.push(Property { name, value });
        Ok(())
    }

    /// `{'key': value, ...}` of constants, or of maps too.
    pub(super) fn map(&mut self, nested: bool) -> Parsed<PropertyValue> {
        self.nested(|parser| parser.map_entries(nested))
    }

    fn map_entries(&mut self, nested: bool) -> Parsed<PropertyValue> {
        self.expect_sign(b'{')?;
        let mut entries: Vec<(Constant, PropertyValue)> = Vec::new();
        if self.accept_sign(b'}') {
            return Ok(PropertyValue::Map(entries));
        }
        loop {
            let Some(key) = self.property_constant("name", None)? else {
                return self.no_viable();
            };
            self.look_past();
            self.expect_sign(b':')?;
            let value = if nested && self.at_sign(b'{') {
                self.map(true)?
            } else {
                match self.property_constant("value", Some(&key))? {
                    Some(value) => PropertyValue::Constant(value),
                    None => return self.no_viable(),
                }
            };
            self.look_past();
            entries.push((key, value));
            if !self.accept_sign(b',') {
                break;
            }
        }
        if let Some(key) = first_repeated(entries.iter().map(|(key, _)| key.text())) {
            return self.refuse(format!("Multiple definition for property {key}"));
        }
        self.expect_sign(b'}')?;
        Ok(PropertyValue::Map(entries))
    }

    /// A constant; other terms are refused in words, and what is no term is nothing.
    fn property_constant(
        &mut self,
        what: &str,
        key: Option<&Constant>,
    ) -> Parsed<Option<Constant>> {
        if let Some(constant) = self.constant()? {
            return if self.may_follow_term() { Ok(Some(constant)) } else { self.no_viable() };
        }
        let start = self.position();
        let is_marker = matches!(self.kind(), Kind::QuestionMark | Kind::Sign(b':'));
        self.term()?;
        let mut message = format!("Invalid property {what}: {}", self.text_since(start));
        if let Some(key) = key {
            let quote = if matches!(key, Constant::String(_)) { "'" } else { "" };
            message.push_str(&format!(" for property: {quote}{}{quote}", key.text()));
        }
        if is_marker {
            message.push_str(" (bind variables are not supported in DDL queries)");
        }
        self.refuse(message)
    }
}

fn first_repeated<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|&name| !seen.insert(name))
}
