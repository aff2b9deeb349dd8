//! Running aggregates: count, min, max, sum, avg, and the first row's value.

use std::cmp::Ordering;

use bytes::Bytes;
use cql_types::CqlType;

use crate::functions::AggregateKind;
use crate::number::{Arithmetic, Number};

/// What is aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregation {
    /// An aggregate function.
    Function(AggregateKind),
    /// The value in the first row, for what stands beside an aggregate.
    First,
}

/// An aggregate while rows come in.
#[derive(Debug, Clone)]
pub(crate) struct Accumulator {
    aggregation: Aggregation,
    ty: CqlType,
    rows: i64,
    count: i64,
    value: Option<Bytes>,
    sum: Option<Number>,
}

impl Accumulator {
    /// Over values of a type.
    pub(crate) fn new(aggregation: Aggregation, ty: &CqlType) -> Accumulator {
        let ty = ty.unfrozen().clone();
        Accumulator { aggregation, ty, rows: 0, count: 0, value: None, sum: None }
    }

    /// The next row's value.
    pub(crate) fn add(&mut self, value: Option<&[u8]>) {
        self.rows += 1;
        let is_first = self.rows == 1;
        let Some(value) = value else { return };
        self.count += 1;
        match self.aggregation {
            Aggregation::First if is_first => self.value = Some(Bytes::copy_from_slice(value)),
            Aggregation::Function(AggregateKind::Min) => self.keep(value, Ordering::Less),
            Aggregation::Function(AggregateKind::Max) => self.keep(value, Ordering::Greater),
            Aggregation::Function(AggregateKind::Sum | AggregateKind::Avg) => {
                self.add_number(value)
            }
            _ => {}
        }
    }

    fn keep(&mut self, value: &[u8], wanted: Ordering) {
        let better = self
            .value
            .as_ref()
            .is_none_or(|kept| cql_types::compare(&self.ty, value, kept) == wanted);
        if better {
            self.value = Some(Bytes::copy_from_slice(value));
        }
    }

    /// Type of the running sum: averages of narrow types must not overflow, sums wrap as Java's.
    fn sum_type(&self) -> CqlType {
        match (self.aggregation, &self.ty) {
            (Aggregation::Function(AggregateKind::Avg), CqlType::Float | CqlType::Double) => {
                CqlType::Double
            }
            (Aggregation::Function(AggregateKind::Avg), CqlType::Decimal) => CqlType::Decimal,
            (Aggregation::Function(AggregateKind::Avg), _) => CqlType::VarInt,
            (_, ty) => ty.clone(),
        }
    }

    fn is_running_mean(&self) -> bool {
        self.aggregation == Aggregation::Function(AggregateKind::Avg) && self.ty == CqlType::Decimal
    }

    fn add_number(&mut self, value: &[u8]) {
        let Some(number) = Number::decode(&self.ty, value) else {
            self.count -= 1;
            return;
        };
        let ty = self.sum_type();
        let sum = self.sum.take().unwrap_or_else(|| Number::zero(&ty));
        self.sum = if self.is_running_mean() {
            // Cassandra's way, with its rounding at each step.
            Number::apply(Arithmetic::Subtract, &number, &sum, &ty)
                .and_then(|difference| difference.average(self.count, &ty))
                .and_then(|step| Number::apply(Arithmetic::Add, &sum, &step, &ty))
        } else {
            Number::apply(Arithmetic::Add, &sum, &number, &ty)
        };
    }

    /// The result.
    pub(crate) fn finish(&self) -> Option<Bytes> {
        let long = |value: i64| Some(Bytes::copy_from_slice(&value.to_be_bytes()));
        match self.aggregation {
            Aggregation::Function(AggregateKind::CountRows) => long(self.rows),
            Aggregation::Function(AggregateKind::Count) => long(self.count),
            Aggregation::Function(AggregateKind::Sum) => {
                let sum = self.sum.clone().unwrap_or_else(|| Number::zero(&self.ty));
                Some(sum.encode(&self.ty))
            }
            Aggregation::Function(AggregateKind::Avg) => {
                let sum = self.sum.clone().unwrap_or_else(|| Number::zero(&self.sum_type()));
                if self.is_running_mean() {
                    return Some(sum.encode(&self.ty));
                }
                let mean = sum.average(self.count.max(1), &self.sum_type())?;
                Some(mean.encode(&self.ty))
            }
            _ => self.value.clone(),
        }
    }
}
