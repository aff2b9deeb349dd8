//! SELECT.

use crate::ast::{Ordering, Select};
use crate::keyword::Keyword;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn select(&mut self) -> Parsed<Select> {
        self.expect(Keyword::Select)?;
        let (json, distinct, selection) = self.select_clause()?;
        self.expect(Keyword::From)?;
        let from = self.table()?;
        let where_clause =
            if self.accept(Keyword::Where) { self.where_clause()? } else { Vec::new() };
        let mut group_by = Vec::new();
        if self.accept(Keyword::Group) {
            self.expect(Keyword::By)?;
            group_by = self.list(Self::selectable)?;
        }
        let mut order_by = Vec::new();
        if self.accept(Keyword::Order) {
            self.expect(Keyword::By)?;
            order_by = self.list(Self::ordering)?;
        }
        let mut per_partition_limit = None;
        if self.accept(Keyword::Per) {
            self.expect_all(&[Keyword::Partition, Keyword::Limit])?;
            per_partition_limit = Some(self.integer_or_marker()?);
        }
        let limit =
            if self.accept(Keyword::Limit) { Some(self.integer_or_marker()?) } else { None };
        let allow_filtering = self.accept(Keyword::Allow);
        if allow_filtering {
            self.expect(Keyword::Filtering)?;
        }
        Ok(Select {
            json,
            distinct,
            selection,
            from,
            where_clause,
            group_by,
            order_by,
            per_partition_limit,
            limit,
            allow_filtering,
        })
    }

    fn ordering(&mut self) -> Parsed<Ordering> {
        let column = self.column()?;
        let mut ann_of = None;
        if self.accept(Keyword::Ann) {
            self.expect(Keyword::Of)?;
            ann_of = Some(self.term()?);
        }
        let descending = !self.accept(Keyword::Asc) && self.accept(Keyword::Desc);
        Ok(Ordering { column, ann_of, descending })
    }
}
