//! CREATE TABLE and RESTORE TABLE.

use crate::ast::{
    ColumnDefinition, CreateTable, CreateTableLike, Mask, PrimaryKey, Property, QualifiedName,
    RestoreTable, StatementKind,
};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

/// What WITH says about a table or a view.
#[derive(Default)]
pub(super) struct TableOptions {
    pub(super) properties: Vec<Property>,
    pub(super) clustering_order: Vec<(String, bool)>,
    pub(super) compact_storage: bool,
}

impl Parser<'_> {
    pub(super) fn create_table(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_not_exists = self.if_not_exists()?;
        let name = self.table()?;
        if self.accept(Keyword::Like) {
            return self.create_table_like(name, if_not_exists);
        }
        self.expect_sign(b'(')?;
        let mut columns = Vec::new();
        let mut primary_keys = Vec::new();
        self.table_item(&mut columns, &mut primary_keys)?;
        while self.accept_sign(b',') {
            if self.is_name(0) || self.at_keyword(Keyword::Primary) {
                self.table_item(&mut columns, &mut primary_keys)?;
            }
        }
        self.expect_sign(b')')?;
        let TableOptions { properties, clustering_order, compact_storage } =
            self.table_options()?;
        Ok(StatementKind::CreateTable(CreateTable {
            name,
            if_not_exists,
            columns,
            primary_keys,
            properties,
            clustering_order,
            compact_storage,
        }))
    }

    fn create_table_like(
        &mut self,
        name: QualifiedName,
        if_not_exists: bool,
    ) -> Parsed<StatementKind> {
        let source = self.table()?;
        let mut indexes = false;
        let mut properties = Vec::new();
        if self.accept(Keyword::With) {
            loop {
                if self.at_word(0, "indexes") && self.peek(1) != Kind::Sign(b'=') {
                    self.advance();
                    indexes = true;
                } else {
                    self.property(&mut properties)?;
                }
                if !self.accept(Keyword::And) {
                    break;
                }
            }
            self.refuse_repeated(&properties)?;
        }
        Ok(StatementKind::CreateTableLike(CreateTableLike {
            name,
            source,
            if_not_exists,
            indexes,
            properties,
        }))
    }

    /// A column or a PRIMARY KEY clause.
    fn table_item(
        &mut self,
        columns: &mut Vec<ColumnDefinition>,
        primary_keys: &mut Vec<PrimaryKey>,
    ) -> Parsed<()> {
        if self.at_keyword(Keyword::Primary) {
            primary_keys.push(self.primary_key()?);
            return Ok(());
        }
        let column = self.column_definition()?;
        if self.accept(Keyword::Primary) {
            self.expect(Keyword::Key)?;
            primary_keys.push(PrimaryKey {
                partition_key: vec![column.name.clone()],
                clustering: Vec::new(),
            });
        }
        columns.push(column);
        Ok(())
    }

    /// `name type [STATIC] [MASKED WITH ..]`
    pub(super) fn column_definition(&mut self) -> Parsed<ColumnDefinition> {
        let name = self.name()?;
        let ty = self.type_name()?;
        let is_static = self.accept(Keyword::Static);
        let mask = if self.at_keyword(Keyword::Masked) { Some(self.mask()?) } else { None };
        Ok(ColumnDefinition { name, ty, is_static, mask })
    }

    pub(super) fn mask(&mut self) -> Parsed<Mask> {
        if self.peek(1) != Kind::Keyword(Keyword::With) {
            return self.no_viable_ahead(1);
        }
        if !self.is_name(2) && !self.is_function_name(2) {
            return self.no_viable_ahead(2);
        }
        self.advance();
        self.advance();
        if self.at_keyword(Keyword::Default) && self.peek(1) != Kind::Sign(b'(') {
            self.advance();
            let function = QualifiedName { keyspace: None, name: "mask_default".to_owned() };
            return Ok(Mask { function, arguments: Vec::new() });
        }
        let function = self.function_name()?;
        self.expect_sign(b'(')?;
        let arguments = if self.at_sign(b')') { Vec::new() } else { self.list(Self::term)? };
        self.expect_sign(b')')?;
        Ok(Mask { function, arguments })
    }

    /// `PRIMARY KEY ((a, b), c)`
    pub(super) fn primary_key(&mut self) -> Parsed<PrimaryKey> {
        self.expect_all(&[Keyword::Primary, Keyword::Key])?;
        self.expect_sign(b'(')?;
        let partition_key = if self.accept_sign(b'(') {
            let names = self.list(Self::name)?;
            self.expect_sign(b')')?;
            names
        } else {
            vec![self.name()?]
        };
        let mut clustering = Vec::new();
        while self.accept_sign(b',') {
            clustering.push(self.name()?);
        }
        self.expect_sign(b')')?;
        Ok(PrimaryKey { partition_key, clustering })
    }

    /// `[WITH ...]` of a table or a view.
    pub(super) fn table_options(&mut self) -> Parsed<TableOptions> {
        let mut options = TableOptions::default();
        if !self.accept(Keyword::With) {
            return Ok(options);
        }
        loop {
            let is_property = self.peek(1) == Kind::Sign(b'=');
            if !is_property && self.accept(Keyword::Compact) {
                if self.kind() == Kind::End {
                    return self.no_viable();
                }
                self.expect(Keyword::Storage)?;
                options.compact_storage = true;
            } else if !is_property && self.accept(Keyword::Clustering) {
                self.expect_all(&[Keyword::Order, Keyword::By])?;
                self.expect_sign(b'(')?;
                options.clustering_order.extend(self.list(Self::clustering_order)?);
                self.expect_sign(b')')?;
            } else {
                self.property(&mut options.properties)?;
            }
            if !self.accept(Keyword::And) {
                self.refuse_repeated(&options.properties)?;
                return Ok(options);
            }
        }
    }

    fn clustering_order(&mut self) -> Parsed<(String, bool)> {
        let column = self.name()?;
        let descending = self.accept(Keyword::Desc);
        if !descending && !self.accept(Keyword::Asc) {
            return self.no_viable();
        }
        Ok((column, descending))
    }

    /// Keyspaces' `RESTORE TABLE a FROM TABLE b [WITH ..]`
    pub(super) fn restore_table(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.expect_table_word()?;
        let name = self.table()?;
        self.expect(Keyword::From)?;
        self.expect_table_word()?;
        let source = self.table()?;
        let properties = self.optional_properties()?;
        Ok(StatementKind::RestoreTable(RestoreTable { name, source, properties }))
    }
}
