//! DROP of everything.

use crate::ast::{DropFunction, QualifiedName, StatementKind};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn drop_statement(&mut self) -> Parsed<StatementKind> {
        let Kind::Keyword(word) = self.peek(1) else {
            return self.no_viable_ahead(1);
        };
        if !is_droppable(word) {
            return self.no_viable_ahead(1);
        }
        self.advance();
        self.advance();
        if word == Keyword::Materialized {
            self.expect(Keyword::View)?;
        }
        let if_exists = self.if_exists()?;
        Ok(match word {
            Keyword::Keyspace | Keyword::Schema => {
                StatementKind::DropKeyspace { name: self.keyspace()?, if_exists }
            }
            Keyword::Type => StatementKind::DropType { name: self.user_type_name()?, if_exists },
            Keyword::Index => StatementKind::DropIndex { name: self.index_name()?, if_exists },
            Keyword::Materialized => {
                StatementKind::DropMaterializedView { name: self.table()?, if_exists }
            }
            Keyword::Function => StatementKind::DropFunction(self.dropped_function(if_exists)?),
            Keyword::Aggregate => StatementKind::DropAggregate(self.dropped_function(if_exists)?),
            Keyword::Trigger => {
                let name = self.name()?;
                self.expect(Keyword::On)?;
                StatementKind::DropTrigger { name, table: self.table()?, if_exists }
            }
            Keyword::Role => StatementKind::DropRole { name: self.role()?, if_exists },
            Keyword::User => StatementKind::DropRole { name: self.user()?, if_exists },
            Keyword::Identity => {
                StatementKind::DropIdentity { identity: self.identity()?, if_exists }
            }
            _ => StatementKind::DropTable { name: self.table()?, if_exists },
        })
    }

    fn index_name(&mut self) -> Parsed<QualifiedName> {
        let mut keyspace = None;
        if self.peek(1) == Kind::Sign(b'.') {
            keyspace = Some(self.keyspace()?);
            self.advance();
        }
        let decision = self.position();
        let name = self.name_of("index names")?;
        if keyspace.is_none()
            && !matches!(self.kind(), Kind::End | Kind::Invalid | Kind::Sign(b';'))
        {
            return self.no_viable_since(decision);
        }
        Ok(QualifiedName { keyspace, name })
    }

    fn dropped_function(&mut self, if_exists: bool) -> Parsed<DropFunction> {
        let name = self.function_name()?;
        let argument_types = if self.at_sign(b'(') { Some(self.argument_types()?) } else { None };
        Ok(DropFunction { name, if_exists, argument_types })
    }
}

fn is_droppable(word: Keyword) -> bool {
    matches!(
        word,
        Keyword::Keyspace
            | Keyword::Schema
            | Keyword::Table
            | Keyword::ColumnFamily
            | Keyword::Type
            | Keyword::Index
            | Keyword::Materialized
            | Keyword::Function
            | Keyword::Aggregate
            | Keyword::Trigger
            | Keyword::Role
            | Keyword::User
            | Keyword::Identity
    )
}
