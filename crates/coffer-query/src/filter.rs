//! Conditions that are checked on each row (ALLOW FILTERING).

use bytes::Bytes;
use coffer_model::Column;
use cql_parser::ast::Operator;
use cql_types::{CqlType, collection, compare};

use crate::bind::{Evaluation, Value};
use crate::error::{Error, Result};
use crate::execute::keys::choice_values;
use crate::execute::row_view::RowView;
use crate::plan::restrictions::{Filter, FilterOperation};
use crate::plan::term::Term;

/// A condition with its values.
#[derive(Debug, Clone)]
pub(crate) struct BoundFilter {
    column: Column,
    condition: Condition,
}

#[derive(Debug, Clone)]
enum Condition {
    Compare(Operator, Bytes),
    In(Vec<Bytes>),
    Contains(Bytes),
    ContainsKey(Bytes),
    Element(Bytes, Bytes),
}

fn value(term: &Term, column: &Column, evaluation: &Evaluation<'_>) -> Result<Bytes> {
    match term.evaluate(evaluation)? {
        Value::Bytes(bytes) => Ok(Bytes::from(bytes.into_owned())),
        Value::Null => {
            Err(Error::invalid(format!("Unsupported null value for column {}", column.name)))
        }
        Value::Unset => {
            Err(Error::invalid(format!("Unsupported unset value for column {}", column.name)))
        }
    }
}

impl BoundFilter {
    /// The filter for one execution.
    pub(crate) fn bind(filter: &Filter, evaluation: &Evaluation<'_>) -> Result<BoundFilter> {
        let column = filter.column.clone();
        let condition = match &filter.operation {
            FilterOperation::Compare(operator, term) => {
                Condition::Compare(*operator, value(term, &column, evaluation)?)
            }
            FilterOperation::In(choice) => {
                Condition::In(choice_values(choice, &column, evaluation)?)
            }
            FilterOperation::Contains(term) => {
                Condition::Contains(value(term, &column, evaluation)?)
            }
            FilterOperation::ContainsKey(term) => {
                Condition::ContainsKey(value(term, &column, evaluation)?)
            }
            FilterOperation::Element { key, value: content } => Condition::Element(
                value(key, &column, evaluation)?,
                value(content, &column, evaluation)?,
            ),
        };
        Ok(BoundFilter { column, condition })
    }

    /// Whether the row satisfies the condition; null satisfies none.
    pub(crate) fn accepts(&self, row: &RowView<'_>) -> Result<bool> {
        let Some(own) = row.value(&self.column)? else { return Ok(false) };
        let ty = self.column.ty.unfrozen();
        Ok(match &self.condition {
            Condition::Compare(operator, other) => {
                let order = compare(ty, &own, other);
                match operator {
                    Operator::Eq => order.is_eq(),
                    Operator::Lt => order.is_lt(),
                    Operator::LtEq => order.is_le(),
                    Operator::Gt => order.is_gt(),
                    Operator::GtEq => order.is_ge(),
                    _ => false,
                }
            }
            Condition::In(values) => values.iter().any(|other| compare(ty, &own, other).is_eq()),
            Condition::Contains(wanted) => contains(ty, &own, wanted, false),
            Condition::ContainsKey(wanted) => contains(ty, &own, wanted, true),
            Condition::Element(key, wanted) => has_entry(ty, &own, key, wanted),
        })
    }
}

fn contains(ty: &CqlType, own: &[u8], wanted: &[u8], key: bool) -> bool {
    match ty {
        CqlType::List(element) | CqlType::Set(element) => collection::elements(own)
            .is_ok_and(|mut items| items.any(|item| is_same(element, item, wanted))),
        CqlType::Map(key_type, value_type) => {
            let (offset, element) = if key { (0, key_type) } else { (1, value_type) };
            collection::map_elements(own).is_ok_and(|items| {
                items.skip(offset).step_by(2).any(|item| is_same(element, item, wanted))
            })
        }
        _ => false,
    }
}

fn is_same(
    ty: &CqlType,
    item: std::result::Result<Option<&[u8]>, cql_types::TypeError>,
    wanted: &[u8],
) -> bool {
    matches!(item, Ok(Some(item)) if compare(ty, item, wanted).is_eq())
}

fn has_entry(ty: &CqlType, own: &[u8], key: &[u8], wanted: &[u8]) -> bool {
    let CqlType::Map(key_type, value_type) = ty else { return false };
    let Ok(mut items) = collection::map_elements(own) else { return false };
    while let (Some(name), Some(content)) = (items.next(), items.next()) {
        if is_same(key_type, name, key) {
            return is_same(value_type, content, wanted);
        }
    }
    false
}
