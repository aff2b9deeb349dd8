//! CREATE TYPE.

use crate::ast::{CreateType, StatementKind, TypeName};
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn create_type(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_not_exists = self.if_not_exists()?;
        let name = self.user_type_name()?;
        self.expect_sign(b'(')?;
        let mut fields = vec![self.type_field()?];
        while self.accept_sign(b',') {
            if self.is_name(0) {
                fields.push(self.type_field()?);
            }
        }
        self.expect_sign(b')')?;
        Ok(StatementKind::CreateType(CreateType { name, if_not_exists, fields }))
    }

    fn type_field(&mut self) -> Parsed<(String, TypeName)> {
        Ok((self.name()?, self.type_name()?))
    }
}
