//! Whole statements: which rule the first words choose.

mod alter;
mod batch;
mod create_function;
mod create_index;
mod create_keyspace;
mod create_table;
mod create_type;
mod create_view;
mod delete;
mod describe;
mod drop;
mod insert;
mod permission;
mod properties;
mod role;
mod select;
mod selection;
mod update;

use crate::ast::{Statement, StatementKind};
use crate::error::SyntaxError;
use crate::keyword::Keyword;
use crate::lexer::{self, Kind};
use crate::parser::{Parsed, Parser};

/// Parses one statement, with or without a trailing semicolon. Takes time and memory in proportion to the text.
///
/// # Errors
/// [`SyntaxError`], in the words of Cassandra's parser.
pub fn parse_statement(cql: &str) -> Result<Statement, SyntaxError> {
    if u32::try_from(cql.len()).is_err() {
        return Err(SyntaxError::too_long());
    }
    let (lexemes, lexical) = lexer::read(cql);
    let mut parser = Parser::new(cql, &lexemes);
    match whole(&mut parser) {
        Ok(kind) => Ok(Statement { kind, bind_markers: parser.bind_markers }),
        Err(failure) => {
            Err(SyntaxError::new(cql, &lexemes, lexical.as_ref(), &failure, parser.looked_at()))
        }
    }
}

fn whole(parser: &mut Parser<'_>) -> Parsed<StatementKind> {
    let kind = parser.statement()?;
    while parser.accept_sign(b';') {}
    if parser.kind() == Kind::End { Ok(kind) } else { Err(parser.mismatched("EOF".into())) }
}

impl Parser<'_> {
    fn statement(&mut self) -> Parsed<StatementKind> {
        let Kind::Keyword(keyword) = self.kind() else {
            if self.at_word(0, "restore")
                && matches!(self.peek(1), Kind::Keyword(Keyword::Table | Keyword::ColumnFamily))
            {
                return self.restore_table();
            }
            return self.no_viable();
        };
        match keyword {
            Keyword::Select => Ok(StatementKind::Select(Box::new(self.select()?))),
            Keyword::Insert => Ok(StatementKind::Insert(self.insert()?)),
            Keyword::Update => Ok(StatementKind::Update(self.update()?)),
            Keyword::Delete => Ok(StatementKind::Delete(self.delete()?)),
            Keyword::Begin => Ok(StatementKind::Batch(self.batch()?)),
            Keyword::Use => {
                self.advance();
                Ok(StatementKind::Use(self.keyspace()?))
            }
            Keyword::Truncate => {
                self.advance();
                self.accept_table_word();
                Ok(StatementKind::Truncate(self.table()?))
            }
            Keyword::Create => self.create(),
            Keyword::Alter => self.alter(),
            Keyword::Drop => self.drop_statement(),
            Keyword::Grant => self.grant(),
            Keyword::Revoke => self.revoke(),
            Keyword::List => self.list_statement(),
            Keyword::Describe | Keyword::Desc => self.describe(),
            Keyword::Add => self.add_identity(),
            _ => self.no_viable(),
        }
    }

    /// `TABLE` or `COLUMNFAMILY`
    fn accept_table_word(&mut self) -> bool {
        self.accept(Keyword::Table) || self.accept(Keyword::ColumnFamily)
    }

    fn expect_table_word(&mut self) -> Parsed<()> {
        if self.accept_table_word() { Ok(()) } else { self.expect(Keyword::Table) }
    }

    fn create(&mut self) -> Parsed<StatementKind> {
        let Kind::Keyword(word) = self.peek(1) else {
            return self.no_viable_ahead(1);
        };
        if word == Keyword::Or {
            let replaced = self.peek(2) == Kind::Keyword(Keyword::Replace);
            let ahead = if replaced { 3 } else { 2 };
            if !(replaced
                && matches!(self.peek(3), Kind::Keyword(Keyword::Function | Keyword::Aggregate)))
            {
                return self.no_viable_ahead(ahead);
            }
        }
        match word {
            Keyword::Keyspace | Keyword::Schema => self.create_keyspace(),
            Keyword::Table | Keyword::ColumnFamily => self.create_table(),
            Keyword::Type => self.create_type(),
            Keyword::Custom | Keyword::Index => self.create_index(),
            Keyword::Materialized => self.create_view(),
            Keyword::Trigger => self.create_trigger(),
            Keyword::Role => self.create_role(),
            Keyword::User => self.create_user(),
            Keyword::Or => {
                self.advance();
                self.advance();
                self.create_function_or_aggregate(true)
            }
            Keyword::Function | Keyword::Aggregate => self.create_function_or_aggregate(false),
            _ => self.no_viable_ahead(1),
        }
    }
}
