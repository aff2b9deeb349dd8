//! UPDATE.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::ast::{Assignment, Constant, Operation, Term, Update};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn update(&mut self) -> Parsed<Update> {
        self.expect(Keyword::Update)?;
        let table = self.table()?;
        let using = self.using()?;
        self.expect(Keyword::Set)?;
        let assignments = self.list(Self::assignment)?;
        self.refuse_conflicts(&assignments)?;
        self.expect(Keyword::Where)?;
        let where_clause = self.where_clause()?;
        Ok(Update { table, using, assignments, where_clause, conditions: self.conditions()? })
    }

    /// A column may be set twice only part by part: element with element, or field with another field.
    fn refuse_conflicts(&self, assignments: &[Assignment]) -> Parsed<()> {
        if assignments.len() < 2 {
            return Ok(());
        }
        let mut seen: HashMap<&str, Parts<'_>> = HashMap::new();
        for Assignment { column, operation } in assignments {
            let compatible = match (seen.entry(column), operation) {
                (Entry::Vacant(entry), operation) => {
                    entry.insert(match operation {
                        Operation::SetElement { .. } => Parts::Elements,
                        Operation::SetField { field, .. } => {
                            Parts::Fields(HashSet::from([field.as_str()]))
                        }
                        _ => Parts::All,
                    });
                    true
                }
                (Entry::Occupied(mut entry), operation) => match (entry.get_mut(), operation) {
                    (Parts::Elements, Operation::SetElement { .. }) => true,
                    (Parts::Fields(fields), Operation::SetField { field, .. }) => {
                        fields.insert(field)
                    }
                    _ => false,
                },
            };
            if !compatible {
                return self.refuse(format!("Multiple incompatible setting of column {column}"));
            }
        }
        Ok(())
    }

    fn assignment(&mut self) -> Parsed<Assignment> {
        let column = self.column()?;
        let operation = match self.kind() {
            Kind::Sign(b'=') => {
                self.advance();
                self.whole_value(&column)?
            }
            Kind::PlusEq => {
                self.advance();
                Operation::Add(self.term()?)
            }
            Kind::MinusEq => {
                self.advance();
                Operation::Subtract(self.term()?)
            }
            Kind::Sign(b'[') => {
                self.advance();
                let key = self.term()?;
                self.expect_sign(b']')?;
                self.expect_sign(b'=')?;
                Operation::SetElement { key, value: self.term()? }
            }
            Kind::Sign(b'.') => {
                self.advance();
                let field = self.name()?;
                self.expect_sign(b'=')?;
                Operation::SetField { field, value: self.term()? }
            }
            _ => return self.no_viable(),
        };
        Ok(Assignment { column, operation })
    }

    /// What stands after `column =`.
    fn whole_value(&mut self, column: &str) -> Parsed<Operation> {
        let is_column = self.is_name(0) || self.kind() == Kind::EmptyQuotedName;
        let operator = self.peek(1);
        if is_column && matches!(operator, Kind::Sign(b'+' | b'-') | Kind::Integer) {
            return self.changed_value(column, operator);
        }
        let value = self.term()?;
        if !self.accept_sign(b'+') {
            return Ok(Operation::Set(value));
        }
        if self.column()? != column {
            return self
                .refuse("Only expressions of the form X = <value> + X are supported.".to_owned());
        }
        Ok(Operation::Prepend(value))
    }

    /// `column + value`, `column - value` and `column -3`, which reads as a column and an integer.
    fn changed_value(&mut self, column: &str, operator: Kind) -> Parsed<Operation> {
        let same = self.column()? == column;
        if operator == Kind::Integer {
            let integer = self.raw(0).to_owned();
            self.advance();
            if !same {
                let sign = if integer.starts_with('-') { '-' } else { '+' };
                return self.refuse(format!(
                    "Only expressions of the form X = X {sign} <value> are supported."
                ));
            }
            return Ok(Operation::Add(Term::Constant(Constant::Integer(integer))));
        }
        self.advance();
        let value = self.term()?;
        let added = operator == Kind::Sign(b'+');
        if !same {
            let sign = if added { '+' } else { '-' };
            return self.refuse(format!(
                "Only expressions of the form X = X {sign}<value> are supported."
            ));
        }
        Ok(if added { Operation::Add(value) } else { Operation::Subtract(value) })
    }
}

/// Which parts of a column are set so far.
enum Parts<'a> {
    All,
    Elements,
    Fields(HashSet<&'a str>),
}
