//! CREATE FUNCTION and CREATE AGGREGATE.

use crate::ast::{CreateAggregate, CreateFunction, StatementKind, TypeName};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    /// From the last word before FUNCTION or AGGREGATE on.
    pub(super) fn create_function_or_aggregate(
        &mut self,
        or_replace: bool,
    ) -> Parsed<StatementKind> {
        self.advance();
        if self.accept(Keyword::Aggregate) {
            return self.create_aggregate(or_replace);
        }
        self.expect(Keyword::Function)?;
        self.create_function(or_replace)
    }

    fn create_function(&mut self, or_replace: bool) -> Parsed<StatementKind> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.function_name()?;
        self.expect_sign(b'(')?;
        let arguments = if self.at_sign(b')') {
            Vec::new()
        } else {
            self.list(|parser| Ok((parser.name()?, parser.type_name()?)))?
        };
        self.expect_sign(b')')?;
        let called_on_null_input = self.accept(Keyword::Called);
        if !called_on_null_input {
            if !self.accept(Keyword::Returns) {
                return self.no_viable();
            }
            self.expect(Keyword::Null)?;
        }
        self.expect_all(&[Keyword::On, Keyword::Null, Keyword::Input, Keyword::Returns])?;
        let returns = self.type_name()?;
        self.expect(Keyword::Language)?;
        if self.kind() != Kind::Identifier {
            return Err(self.mismatched("IDENT".into()));
        }
        let language = self.take_name();
        self.expect(Keyword::As)?;
        let body = self.take_string()?;
        Ok(StatementKind::CreateFunction(CreateFunction {
            name,
            or_replace,
            if_not_exists,
            arguments,
            called_on_null_input,
            returns,
            language,
            body,
        }))
    }

    fn create_aggregate(&mut self, or_replace: bool) -> Parsed<StatementKind> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.function_name()?;
        let argument_types = self.argument_types()?;
        self.expect(Keyword::Sfunc)?;
        let state_function = self.simple_function_name()?;
        self.expect(Keyword::Stype)?;
        let state_type = self.type_name()?;
        let final_function =
            if self.accept(Keyword::FinalFunc) { Some(self.simple_function_name()?) } else { None };
        let initial_condition =
            if self.accept(Keyword::InitCond) { Some(self.term()?) } else { None };
        Ok(StatementKind::CreateAggregate(CreateAggregate {
            name,
            or_replace,
            if_not_exists,
            argument_types,
            state_function,
            state_type,
            final_function,
            initial_condition,
        }))
    }

    /// `(type, ...)`
    pub(super) fn argument_types(&mut self) -> Parsed<Vec<TypeName>> {
        self.expect_sign(b'(')?;
        let types = if self.at_sign(b')') { Vec::new() } else { self.list(Self::type_name)? };
        self.expect_sign(b')')?;
        Ok(types)
    }
}
