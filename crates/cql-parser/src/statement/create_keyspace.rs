//! CREATE KEYSPACE.

use crate::ast::{CreateKeyspace, StatementKind};
use crate::keyword::Keyword;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn create_keyspace(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_not_exists = self.if_not_exists()?;
        let name = self.keyspace()?;
        self.expect(Keyword::With)?;
        Ok(StatementKind::CreateKeyspace(CreateKeyspace {
            name,
            if_not_exists,
            properties: self.properties()?,
        }))
    }
}
