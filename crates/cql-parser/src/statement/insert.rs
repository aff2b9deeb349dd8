//! INSERT, and the USING clause.

use crate::ast::{Attributes, Constant, Insert, InsertValues, Term};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn insert(&mut self) -> Parsed<Insert> {
        self.expect_all(&[Keyword::Insert, Keyword::Into])?;
        let table = self.table()?;
        let values = if self.accept(Keyword::Json) {
            self.json_values()?
        } else if self.accept_sign(b'(') {
            let columns = self.list(Self::column)?;
            self.expect_sign(b')')?;
            self.expect(Keyword::Values)?;
            self.expect_sign(b'(')?;
            let values = self.list(Self::term)?;
            self.expect_sign(b')')?;
            InsertValues::Columns { columns, values }
        } else {
            return self.no_viable();
        };
        let if_not_exists = self.if_not_exists()?;
        Ok(Insert { table, values, if_not_exists, using: self.using()? })
    }

    fn json_values(&mut self) -> Parsed<InsertValues> {
        let value = match self.kind() {
            Kind::String | Kind::DollarString => {
                Term::Constant(Constant::String(self.take_string()?))
            }
            _ => match self.marker()? {
                Some(marker) => Term::BindMarker(marker),
                None => return self.no_viable(),
            },
        };
        let mut default_unset = false;
        if self.accept(Keyword::Default) {
            default_unset = self.accept(Keyword::Unset);
            if !default_unset && !self.accept(Keyword::Null) {
                return self.no_viable();
            }
        }
        Ok(InsertValues::Json { value, default_unset })
    }

    /// `USING ...`, if there is one; what is named twice counts as named last.
    pub(super) fn using(&mut self) -> Parsed<Attributes> {
        let mut attributes = Attributes::default();
        if !self.accept(Keyword::Using) {
            return Ok(attributes);
        }
        loop {
            if self.accept(Keyword::Timestamp) {
                attributes.timestamp = Some(self.integer_or_marker()?);
            } else if self.accept(Keyword::Ttl) {
                attributes.ttl = Some(self.integer_or_marker()?);
            } else {
                return self.no_viable();
            }
            if !self.accept(Keyword::And) {
                return Ok(attributes);
            }
        }
    }
}
