//! DELETE.

use crate::ast::{Delete, DeleteTarget};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn delete(&mut self) -> Parsed<Delete> {
        self.expect(Keyword::Delete)?;
        let mut targets = Vec::new();
        if self.is_name(0) || self.kind() == Kind::EmptyQuotedName {
            targets = self.list(Self::delete_target)?;
        }
        self.expect(Keyword::From)?;
        let table = self.table()?;
        let mut timestamp = None;
        if self.accept(Keyword::Using) {
            self.expect(Keyword::Timestamp)?;
            timestamp = Some(self.integer_or_marker()?);
        }
        self.expect(Keyword::Where)?;
        let where_clause = self.where_clause()?;
        Ok(Delete { targets, table, timestamp, where_clause, conditions: self.conditions()? })
    }

    fn delete_target(&mut self) -> Parsed<DeleteTarget> {
        let decision = self.position();
        let column = self.column()?;
        match self.kind() {
            Kind::Sign(b'[') => {
                self.advance();
                let key = self.term()?;
                self.expect_sign(b']')?;
                Ok(DeleteTarget::Element { column, key })
            }
            Kind::Sign(b'.') => {
                self.advance();
                Ok(DeleteTarget::Field { column, field: self.name()? })
            }
            Kind::Sign(b',') | Kind::Keyword(Keyword::From) => Ok(DeleteTarget::Column(column)),
            _ => self.no_viable_since(decision),
        }
    }
}
