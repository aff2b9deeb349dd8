//! DESCRIBE.

use crate::ast::{Describe, DescribeTarget, QualifiedName, StatementKind};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn describe(&mut self) -> Parsed<StatementKind> {
        self.advance();
        let target = self.describe_target()?;
        let with_internals = self.accept(Keyword::With);
        if with_internals {
            self.expect(Keyword::Internals)?;
        }
        Ok(StatementKind::Describe(Describe { target, with_internals }))
    }

    fn describe_target(&mut self) -> Parsed<DescribeTarget> {
        let Kind::Keyword(keyword) = self.kind() else {
            return self.any_target();
        };
        // some of the words are names too: they are when nothing that they need comes next
        let names_next = self.is_name(1);
        match keyword {
            Keyword::Full => {
                self.advance();
                self.expect(Keyword::Schema)?;
                return Ok(DescribeTarget::Schema { full: true });
            }
            Keyword::Only => {
                let next = self.peek(1);
                if matches!(next, Kind::Keyword(Keyword::Keyspace | Keyword::Schema)) {
                    self.advance();
                    return self.described_keyspace(true);
                }
                if next != Kind::End
                    && !matches!(next, Kind::Sign(b'.' | b';') | Kind::Keyword(Keyword::With))
                {
                    return self.no_viable_ahead(1);
                }
                return self.any_target();
            }
            Keyword::Keyspace => return self.described_keyspace(false),
            Keyword::Schema if names_next => return self.described_keyspace(false),
            Keyword::Schema => {
                self.advance();
                return Ok(DescribeTarget::Schema { full: false });
            }
            Keyword::Materialized => {
                self.advance();
                self.expect(Keyword::View)?;
                return Ok(DescribeTarget::MaterializedView(self.table()?));
            }
            Keyword::Table | Keyword::ColumnFamily => {
                self.advance();
                return Ok(DescribeTarget::Table(self.table()?));
            }
            Keyword::Index => {
                self.advance();
                return Ok(DescribeTarget::Index(self.table()?));
            }
            Keyword::Type if names_next => {
                self.advance();
                return Ok(DescribeTarget::Type(self.user_type_name()?));
            }
            Keyword::Function if names_next => {
                self.advance();
                return Ok(DescribeTarget::Function(self.function_name()?));
            }
            Keyword::Aggregate if names_next => {
                self.advance();
                return Ok(DescribeTarget::Aggregate(self.function_name()?));
            }
            _ => {}
        }
        if self.peek(1) != Kind::Sign(b'.')
            && let Some(list) = described_list(keyword)
        {
            self.advance();
            return Ok(list);
        }
        self.any_target()
    }

    fn described_keyspace(&mut self, only: bool) -> Parsed<DescribeTarget> {
        self.advance();
        let named = self.is_name(0) || self.kind() == Kind::QuestionMark;
        Ok(DescribeTarget::Keyspace {
            name: if named { Some(self.keyspace()?) } else { None },
            only,
        })
    }

    fn any_target(&mut self) -> Parsed<DescribeTarget> {
        let mut name = QualifiedName { keyspace: None, name: self.name()? };
        if self.accept_sign(b'.') {
            name = QualifiedName { keyspace: Some(name.name), name: self.name()? };
        }
        Ok(DescribeTarget::Any(name))
    }
}

fn described_list(keyword: Keyword) -> Option<DescribeTarget> {
    Some(match keyword {
        Keyword::Cluster => DescribeTarget::Cluster,
        Keyword::Keyspaces => DescribeTarget::Keyspaces,
        Keyword::Tables | Keyword::ColumnFamilies => DescribeTarget::Tables,
        Keyword::Types => DescribeTarget::Types,
        Keyword::Functions => DescribeTarget::Functions,
        Keyword::Aggregates => DescribeTarget::Aggregates,
        _ => return None,
    })
}
