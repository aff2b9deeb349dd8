//! ALTER of everything but roles.

use crate::ast::{
    AlterKeyspace, AlterTable, AlterType, KeyspaceChange, StatementKind, TableChange, TypeChange,
};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn alter(&mut self) -> Parsed<StatementKind> {
        let Kind::Keyword(word) = self.peek(1) else {
            return self.no_viable_ahead(1);
        };
        match word {
            Keyword::Keyspace | Keyword::Schema => self.alter_keyspace(),
            Keyword::Table | Keyword::ColumnFamily => self.alter_table(),
            Keyword::Type => self.alter_type(),
            Keyword::Materialized => {
                self.advance();
                self.advance();
                self.expect(Keyword::View)?;
                let if_exists = self.if_exists()?;
                let name = self.table()?;
                self.expect(Keyword::With)?;
                Ok(StatementKind::AlterMaterializedView {
                    name,
                    if_exists,
                    properties: self.properties()?,
                })
            }
            Keyword::Role => self.alter_role(),
            Keyword::User => self.alter_user(),
            _ => self.no_viable_ahead(1),
        }
    }

    fn alter_keyspace(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_exists = self.if_exists()?;
        let name = self.keyspace()?;
        let change = match self.tags()? {
            Some((true, tags)) => KeyspaceChange::AddTags(tags),
            Some((false, tags)) => KeyspaceChange::DropTags(tags),
            None => {
                self.expect(Keyword::With)?;
                KeyspaceChange::Properties(self.properties()?)
            }
        };
        Ok(StatementKind::AlterKeyspace(AlterKeyspace { name, if_exists, change }))
    }

    /// Keyspaces' `ADD TAGS {..}` (true) and `DROP TAGS {..}` (false), if one of them is next.
    fn tags(&mut self) -> Parsed<Option<(bool, crate::ast::PropertyValue)>> {
        let add = match self.kind() {
            Kind::Keyword(Keyword::Add) => true,
            Kind::Keyword(Keyword::Drop) => false,
            _ => return Ok(None),
        };
        if !(self.at_word(1, "tags") && self.peek(2) == Kind::Sign(b'{')) {
            return Ok(None);
        }
        self.advance();
        self.advance();
        Ok(Some((add, self.map(false)?)))
    }

    fn alter_table(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_exists = self.if_exists()?;
        let name = self.table()?;
        let change = match self.tags()? {
            Some((true, tags)) => TableChange::AddTags(tags),
            Some((false, tags)) => TableChange::DropTags(tags),
            None => self.table_change()?,
        };
        Ok(StatementKind::AlterTable(AlterTable { name, if_exists, change }))
    }

    fn table_change(&mut self) -> Parsed<TableChange> {
        match self.kind() {
            Kind::Keyword(Keyword::Alter) => self.alter_column(),
            Kind::Keyword(Keyword::Add) => {
                self.advance();
                let if_not_exists = self.if_not_exists()?;
                let columns = if self.accept_sign(b'(') {
                    let columns = self.list(Self::column_definition)?;
                    self.expect_sign(b')')?;
                    columns
                } else {
                    vec![self.column_definition()?]
                };
                Ok(TableChange::AddColumns { if_not_exists, columns })
            }
            Kind::Keyword(Keyword::Drop) => self.drop_columns(),
            Kind::Keyword(Keyword::Rename) => {
                self.advance();
                let if_exists = self.if_exists()?;
                Ok(TableChange::RenameColumns { if_exists, renames: self.renames()? })
            }
            Kind::Keyword(Keyword::With) => {
                self.advance();
                Ok(TableChange::Properties(self.properties()?))
            }
            _ => self.no_viable(),
        }
    }

    fn alter_column(&mut self) -> Parsed<TableChange> {
        let decision = self.position();
        self.advance();
        let if_exists = self.if_exists()?;
        let column = self.column()?;
        match self.kind() {
            Kind::Keyword(Keyword::Type) if !if_exists => {
                self.advance();
                Ok(TableChange::AlterType { column, ty: self.type_name()? })
            }
            Kind::Keyword(Keyword::Masked) => {
                Ok(TableChange::AlterMask { column, if_exists, mask: Some(self.mask()?) })
            }
            Kind::Keyword(Keyword::Drop) => {
                self.advance();
                self.expect(Keyword::Masked)?;
                Ok(TableChange::AlterMask { column, if_exists, mask: None })
            }
            _ => self.no_viable_since(decision),
        }
    }

    fn drop_columns(&mut self) -> Parsed<TableChange> {
        self.advance();
        if self.at_keyword(Keyword::Compact) && self.peek(1) == Kind::Keyword(Keyword::Storage) {
            self.advance();
            self.advance();
            return Ok(TableChange::DropCompactStorage);
        }
        let if_exists = self.if_exists()?;
        let columns = if self.accept_sign(b'(') {
            let columns = self.list(Self::name)?;
            self.expect_sign(b')')?;
            columns
        } else {
            vec![self.name()?]
        };
        let mut timestamp = None;
        if self.accept(Keyword::Using) {
            self.expect(Keyword::Timestamp)?;
            if self.kind() != Kind::Integer {
                return Err(self.mismatched("INTEGER".into()));
            }
            timestamp = Some(self.raw(0).to_owned());
            self.advance();
        }
        Ok(TableChange::DropColumns { if_exists, columns, timestamp })
    }

    /// `a TO b AND c TO d`
    fn renames(&mut self) -> Parsed<Vec<(String, String)>> {
        let mut renames = Vec::new();
        loop {
            let from = self.name()?;
            self.expect(Keyword::To)?;
            renames.push((from, self.name()?));
            if !self.accept(Keyword::And) {
                return Ok(renames);
            }
        }
    }

    fn alter_type(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_exists = self.if_exists()?;
        let name = self.user_type_name()?;
        let change = match self.kind() {
            Kind::Keyword(Keyword::Alter) => {
                self.advance();
                let field = self.name()?;
                self.expect(Keyword::Type)?;
                TypeChange::AlterField { field, ty: self.type_name()? }
            }
            Kind::Keyword(Keyword::Add) => {
                self.advance();
                let if_not_exists = self.if_not_exists()?;
                TypeChange::AddField { if_not_exists, field: self.name()?, ty: self.type_name()? }
            }
            Kind::Keyword(Keyword::Rename) => {
                self.advance();
                let if_exists = self.if_exists()?;
                TypeChange::RenameFields { if_exists, renames: self.renames()? }
            }
            _ => return self.no_viable(),
        };
        Ok(StatementKind::AlterType(AlterType { name, if_exists, change }))
    }
}
