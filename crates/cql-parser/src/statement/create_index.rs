//! CREATE INDEX and CREATE TRIGGER.

use crate::ast::{CreateIndex, CreateTrigger, IndexTarget, IndexedPart, StatementKind};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn create_index(&mut self) -> Parsed<StatementKind> {
        self.advance();
        let custom = self.accept(Keyword::Custom);
        self.expect(Keyword::Index)?;
        let if_not_exists = self.if_not_exists()?;
        let name = if self.is_name(0) || self.kind() == Kind::QuestionMark {
            Some(self.name_of("index names")?)
        } else {
            None
        };
        self.expect(Keyword::On)?;
        let table = self.table()?;
        self.expect_sign(b'(')?;
        let indexes = self.is_name(0)
            || matches!(
                self.kind(),
                Kind::EmptyQuotedName | Kind::Keyword(Keyword::Entries | Keyword::Full)
            );
        let targets = if indexes { self.list(Self::index_target)? } else { Vec::new() };
        self.expect_sign(b')')?;
        let using = if self.accept(Keyword::Using) { Some(self.take_string()?) } else { None };
        let properties = self.optional_properties()?;
        Ok(StatementKind::CreateIndex(CreateIndex {
            custom,
            if_not_exists,
            name,
            table,
            targets,
            using,
            properties,
        }))
    }

    fn index_target(&mut self) -> Parsed<IndexTarget> {
        let part = match (self.kind(), self.peek(1)) {
            (Kind::Keyword(Keyword::Values), Kind::Sign(b'(')) => IndexedPart::Values,
            (Kind::Keyword(Keyword::Keys), Kind::Sign(b'(')) => IndexedPart::Keys,
            (Kind::Keyword(Keyword::Entries), _) => IndexedPart::Entries,
            (Kind::Keyword(Keyword::Full), _) => IndexedPart::Full,
            _ => {
                return Ok(IndexTarget { column: self.column()?, part: IndexedPart::Simple });
            }
        };
        self.advance();
        self.expect_sign(b'(')?;
        let column = self.column()?;
        self.expect_sign(b')')?;
        Ok(IndexTarget { column, part })
    }

    pub(super) fn create_trigger(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_not_exists = self.if_not_exists()?;
        let name = self.name()?;
        self.expect(Keyword::On)?;
        let table = self.table()?;
        self.expect(Keyword::Using)?;
        let class = self.take_string()?;
        Ok(StatementKind::CreateTrigger(CreateTrigger { name, table, class, if_not_exists }))
    }
}
