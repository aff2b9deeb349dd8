//! WHERE clauses and IF conditions.

use crate::ast::{
    Comparison, Condition, ConditionPart, Conditions, InValues, Operator, Relation, Term,
};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    /// What stands after WHERE.
    pub(crate) fn where_clause(&mut self) -> Parsed<Vec<Relation>> {
        let mut relations = vec![self.relation()?];
        while self.accept(Keyword::And) {
            relations.push(self.relation()?);
        }
        Ok(relations)
    }

    fn relation(&mut self) -> Parsed<Relation> {
        match self.kind() {
            Kind::ExprOpen => self.custom_index(),
            Kind::Keyword(Keyword::Token) => self.token_relation(),
            Kind::Sign(b'(')
                if self.is_column(1)
                    && matches!(self.peek(2), Kind::Sign(b',' | b')') | Kind::End) =>
            {
                self.tuple_relation()
            }
            Kind::Sign(b'(') => self.nested(|parser| {
                parser.advance();
                let relation = parser.relation()?;
                parser.expect_sign(b')')?;
                Ok(relation)
            }),
            _ => self.column_relation(),
        }
    }

    fn is_column(&self, ahead: usize) -> bool {
        self.is_name(ahead) || self.peek(ahead) == Kind::EmptyQuotedName
    }

    fn custom_index(&mut self) -> Parsed<Relation> {
        self.advance();
        let name = self.name_of("index names")?;
        self.expect_sign(b',')?;
        let value = self.term()?;
        self.expect_sign(b')')?;
        Ok(Relation::CustomIndex {
            index: crate::ast::QualifiedName { keyspace: None, name },
            value,
        })
    }

    fn token_relation(&mut self) -> Parsed<Relation> {
        self.advance();
        let columns = self.columns()?;
        if self.accept(Keyword::Between) {
            let (low, high) = self.between(Self::term)?;
            return Ok(Relation::TokenBetween { columns, low, high });
        }
        let operator = self.operator()?;
        Ok(Relation::Token { columns, operator, value: self.term()? })
    }

    fn columns(&mut self) -> Parsed<Vec<String>> {
        self.expect_sign(b'(')?;
        let columns = self.list(Self::column)?;
        self.expect_sign(b')')?;
        Ok(columns)
    }

    fn between(
        &mut self,
        mut bound: impl FnMut(&mut Self) -> Parsed<Term>,
    ) -> Parsed<(Term, Term)> {
        let low = bound(self)?;
        self.expect(Keyword::And)?;
        Ok((low, bound(self)?))
    }

    fn tuple_relation(&mut self) -> Parsed<Relation> {
        let columns = self.columns()?;
        let decision = self.position();
        let negated = self.at_keyword(Keyword::Not) && self.peek(1) == Kind::Keyword(Keyword::In);
        if negated {
            self.advance();
        }
        if self.accept(Keyword::In) {
            return Ok(Relation::TupleIn { columns, negated, values: self.tuple_in_values()? });
        }
        if self.accept(Keyword::Between) {
            let (low, high) = self.between(|parser| parser.tuple_or_marker(decision))?;
            return Ok(Relation::TupleBetween { columns, low, high });
        }
        let operator = self.operator()?;
        Ok(Relation::Tuple { columns, operator, value: self.tuple_or_marker(decision)? })
    }

    fn tuple_or_marker(&mut self, decision: usize) -> Parsed<Term> {
        if self.at_sign(b'(') {
            return self.nested(Self::tuple);
        }
        match self.marker()? {
            Some(marker) => Ok(Term::BindMarker(marker)),
            None => self.no_viable_since(decision),
        }
    }

    fn tuple_in_values(&mut self) -> Parsed<InValues> {
        if let Some(marker) = self.marker()? {
            return Ok(InValues::Marker(marker));
        }
        if !self.at_sign(b'(') {
            return self.no_viable();
        }
        self.advance();
        let decision = self.position();
        let items = if self.at_sign(b')') {
            Vec::new()
        } else {
            self.list(|parser| parser.tuple_or_marker(decision.max(parser.position())))?
        };
        self.expect_sign(b')')?;
        Ok(InValues::Terms(items))
    }

    fn column_relation(&mut self) -> Parsed<Relation> {
        let decision = self.position();
        let column = self.column()?;
        let negates = matches!(self.peek(1), Kind::Keyword(Keyword::In | Keyword::Contains));
        let negated = negates && self.accept(Keyword::Not);
        let operator = match self.kind() {
            Kind::Keyword(Keyword::In) => {
                self.advance();
                let values = self.in_values(decision)?;
                return Ok(Relation::ColumnIn { column, negated, values });
            }
            Kind::Keyword(Keyword::Contains) => self.contains(negated),
            Kind::Keyword(Keyword::Between) => {
                self.advance();
                let (low, high) = self.between(Self::term)?;
                return Ok(Relation::ColumnBetween { column, low, high });
            }
            Kind::Keyword(Keyword::Is) => {
                self.advance();
                self.expect_all(&[Keyword::Not, Keyword::Null])?;
                return Ok(Relation::IsNotNull { column });
            }
            Kind::Sign(b'[') => return self.element_relation(column),
            Kind::Keyword(Keyword::Like) => {
                self.advance();
                Operator::Like
            }
            _ if self.at_operator() => self.operator()?,
            _ => return self.no_viable_since(decision),
        };
        let value = self.term()?;
        Ok(Relation::Column { column, operator, value })
    }

    /// `[key] operator value` after a column.
    fn element_relation(&mut self, column: String) -> Parsed<Relation> {
        self.advance();
        let key = self.term()?;
        self.expect_sign(b']')?;
        let operator = self.operator()?;
        let value = self.term()?;
        Ok(Relation::Element { column, key, operator, value })
    }

    /// `CONTAINS [KEY]`, of which the first word is next.
    fn contains(&mut self, negated: bool) -> Operator {
        self.advance();
        match (negated, self.accept(Keyword::Key)) {
            (false, false) => Operator::Contains,
            (false, true) => Operator::ContainsKey,
            (true, false) => Operator::NotContains,
            (true, true) => Operator::NotContainsKey,
        }
    }

    fn at_operator(&self) -> bool {
        matches!(
            self.kind(),
            Kind::Sign(b'=' | b'<' | b'>') | Kind::LtEq | Kind::GtEq | Kind::NotEq
        )
    }

    fn operator(&mut self) -> Parsed<Operator> {
        let operator = match self.kind() {
            Kind::Sign(b'=') => Operator::Eq,
            Kind::Sign(b'<') => Operator::Lt,
            Kind::Sign(b'>') => Operator::Gt,
            Kind::LtEq => Operator::LtEq,
            Kind::GtEq => Operator::GtEq,
            Kind::NotEq => Operator::NotEq,
            _ => return self.no_viable(),
        };
        self.advance();
        Ok(operator)
    }

    fn in_values(&mut self, decision: usize) -> Parsed<InValues> {
        if let Some(marker) = self.marker()? {
            return Ok(InValues::Marker(marker));
        }
        if !self.at_sign(b'(') {
            return self.no_viable_since(decision);
        }
        self.advance();
        let items = if self.at_sign(b')') { Vec::new() } else { self.list(Self::term)? };
        self.expect_sign(b')')?;
        Ok(InValues::Terms(items))
    }

    /// `IF ...` at the end of UPDATE and DELETE.
    pub(crate) fn conditions(&mut self) -> Parsed<Conditions> {
        if !self.accept(Keyword::If) {
            return Ok(Conditions::None);
        }
        let goes_on = matches!(self.peek(1), Kind::Sign(b'[' | b'.' | b'=' | b'<' | b'>'))
            || matches!(self.peek(1), Kind::LtEq | Kind::GtEq | Kind::NotEq)
            || matches!(self.peek(1), Kind::Keyword(Keyword::In | Keyword::Contains));
        if self.at_keyword(Keyword::Exists) && !goes_on {
            self.advance();
            return Ok(Conditions::Exists);
        }
        let mut conditions = vec![self.condition()?];
        while self.accept(Keyword::And) {
            conditions.push(self.condition()?);
        }
        Ok(Conditions::All(conditions))
    }

    fn condition(&mut self) -> Parsed<Condition> {
        let column = self.column()?;
        let part = if self.accept_sign(b'[') {
            let key = self.term()?;
            self.expect_sign(b']')?;
            ConditionPart::Element(key)
        } else if self.accept_sign(b'.') {
            ConditionPart::Field(self.name()?)
        } else {
            ConditionPart::Whole
        };
        let decision = self.position();
        let comparison = if self.accept(Keyword::In) {
            Comparison::In(self.in_values(decision)?)
        } else if part == ConditionPart::Whole && self.at_keyword(Keyword::Contains) {
            let operator = self.contains(false);
            Comparison::Value(operator, self.term()?)
        } else {
            let operator = self.operator()?;
            Comparison::Value(operator, self.term()?)
        };
        Ok(Condition { column, part, comparison })
    }
}
