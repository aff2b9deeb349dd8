//! CREATE MATERIALIZED VIEW.

use super::create_table::TableOptions;
use crate::ast::{CreateMaterializedView, StatementKind};
use crate::keyword::Keyword;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn create_view(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        self.expect(Keyword::View)?;
        let if_not_exists = self.if_not_exists()?;
        let name = self.table()?;
        self.expect_all(&[Keyword::As, Keyword::Select])?;
        let selection = self.selection()?;
        self.expect(Keyword::From)?;
        let base = self.table()?;
        let where_clause =
            if self.accept(Keyword::Where) { self.where_clause()? } else { Vec::new() };
        let primary_key = self.primary_key()?;
        let TableOptions { properties, clustering_order, compact_storage } =
            self.table_options()?;
        if compact_storage {
            return self.refuse(
                "COMPACT STORAGE tables are not allowed starting with version 4.0".to_owned(),
            );
        }
        Ok(StatementKind::CreateMaterializedView(CreateMaterializedView {
            name,
            if_not_exists,
            selection,
            base,
            where_clause,
            primary_key,
            properties,
            clustering_order,
        }))
    }
}
