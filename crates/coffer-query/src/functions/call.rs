//! What the native functions give.

use std::borrow::Cow;

use bytes::Bytes;
use coffer_model::{Token, partition_key};
use cql_types::{CqlType, collection};

use super::{Function, Kind, MathKind};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::number::{Arithmetic, Number};

/// Between 1582-10-15 and 1970-01-01, in 100 ns.
const UUID_EPOCH_TICKS: i64 = 0x01b2_1dd2_1381_4000;
const DAY_MILLIS: i64 = 86_400_000;

impl Function {
    /// Calls a scalar function. A null argument gives null.
    pub(crate) fn call(
        &self,
        arguments: &[Option<Cow<'_, [u8]>>],
        database: &Database,
    ) -> Result<Option<Bytes>> {
        if self.kind == Kind::Token {
            return self.token(arguments);
        }
        let mut given: Vec<&[u8]> = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match argument {
                Some(bytes) => given.push(bytes),
                None => return Ok(None),
            }
        }
        let first = given.first().copied().unwrap_or_default();
        match self.kind {
            Kind::Now => Ok(Some(Bytes::copy_from_slice(&database.next_timeuuid()))),
            Kind::Uuid => Ok(Some(Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes()))),
            Kind::CurrentDate => Ok(Some(date_bytes(database.clock().now_millis()))),
            Kind::CurrentTimestamp => Ok(Some(long(database.clock().now_millis()))),
            Kind::CurrentTime => {
                Ok(Some(long(database.clock().now_millis().rem_euclid(DAY_MILLIS) * 1_000_000)))
            }
            Kind::ToDate => Ok(self.millis(first).map(date_bytes)),
            Kind::ToTimestamp | Kind::ToUnixTimestamp => Ok(self.millis(first).map(long)),
            Kind::MinTimeUuid => Ok(self.millis(first).map(|millis| bound_timeuuid(millis, false))),
            Kind::MaxTimeUuid => Ok(self.millis(first).map(|millis| bound_timeuuid(millis, true))),
            Kind::Reinterpret => self.reinterpret(first),
            Kind::Cast => Ok(self.cast(first)),
            Kind::Arithmetic(operation) => self.arithmetic(operation, &given),
            Kind::Negation => Ok(self
                .number(0, first)
                .and_then(|number| number.negate(&self.result))
                .map(|number| number.encode(&self.result))),
            Kind::Math(kind) => Ok(self
                .number(0, first)
                .map(|number| self.math(kind, &number).encode(&self.result))),
            Kind::CollectionCount => {
                let count = collection::count(first).unwrap_or(0);
                Ok(Some(Number::Integer(i64::try_from(count).unwrap_or(0)).encode(&CqlType::Int)))
            }
            Kind::MapKeys => Ok(Some(every_second(first, 0))),
            Kind::MapValues => Ok(Some(every_second(first, 1))),
            Kind::Token | Kind::Aggregate(_) => {
                Err(Error::Server("an aggregate was called as a scalar".to_owned()))
            }
        }
    }

    fn number(&self, place: usize, bytes: &[u8]) -> Option<Number> {
        Number::decode(self.arguments.get(place)?.unfrozen(), bytes)
    }

    fn token(&self, arguments: &[Option<Cow<'_, [u8]>>]) -> Result<Option<Bytes>> {
        let mut components: Vec<&[u8]> = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match argument {
                Some(bytes) => components.push(bytes),
                None => return Ok(None),
            }
        }
        let key = partition_key::encode(&components)
            .map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Some(long(Token::of(&key).0)))
    }

    /// Milliseconds since 1970 in a date, timestamp or timeuuid.
    fn millis(&self, bytes: &[u8]) -> Option<i64> {
        match self.arguments.first()?.unfrozen() {
            CqlType::Date => {
                let days = u32::from_be_bytes(bytes.try_into().ok()?);
                Some((i64::from(days) - (1 << 31)) * DAY_MILLIS)
            }
            CqlType::TimeUuid => timeuuid_millis(bytes),
            _ => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        }
    }

    fn reinterpret(&self, bytes: &[u8]) -> Result<Option<Bytes>> {
        if cql_types::validate(&self.result, bytes).is_err() {
            let short = self.name.strip_prefix("system.").unwrap_or(&self.name);
            return Err(Error::invalid(format!(
                "In call to function {}, value 0x{} is not a valid binary representation for type {}",
                format_args!("system.{short}"),
                bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                self.result
            )));
        }
        Ok(Some(Bytes::copy_from_slice(bytes)))
    }

    fn cast(&self, bytes: &[u8]) -> Option<Bytes> {
        let from = self.arguments.first()?.unfrozen();
        match &self.result {
            to if from == to => Some(Bytes::copy_from_slice(bytes)),
            CqlType::Text | CqlType::Ascii => {
                if matches!(from, CqlType::Ascii | CqlType::Text) {
                    return Some(Bytes::copy_from_slice(bytes));
                }
                if bytes.is_empty() {
                    return None;
                }
                cql_types::to_text(from, bytes).ok().map(Bytes::from)
            }
            CqlType::Date => self.millis(bytes).map(date_bytes),
            CqlType::Timestamp => self.millis(bytes).map(long),
            to => Some(Number::decode(from, bytes)?.encode(to)),
        }
    }

    fn arithmetic(&self, operation: Arithmetic, given: &[&[u8]]) -> Result<Option<Bytes>> {
        let [left, right] = given else { return Ok(None) };
        let (Some(left), Some(right)) = (self.number(0, left), self.number(1, right)) else {
            return Ok(None);
        };
        match Number::apply(operation, &left, &right, &self.result) {
            Some(number) => Ok(Some(number.encode(&self.result))),
            None => Err(Error::FunctionFailure {
                keyspace: "system".to_owned(),
                function: operation.sign().to_string(),
                argument_types: self.arguments.iter().map(ToString::to_string).collect(),
                message: format!(
                    "the operation '{} {} {}' failed: / by zero",
                    left.to_cql_text(&self.result),
                    operation.sign(),
                    right.to_cql_text(&self.result)
                ),
            }),
        }
    }

    fn math(&self, kind: MathKind, number: &Number) -> Number {
        let through_double = |f: fn(f64) -> f64| Number::Double(f(number.to_f64()));
        match kind {
            MathKind::Abs => {
                let zero = Number::zero(&self.result).to_f64();
                if number.to_f64() < zero {
                    number.negate(&self.result).unwrap_or_else(|| number.clone())
                } else {
                    number.clone()
                }
            }
            MathKind::Exp => through_double(f64::exp),
            MathKind::Log => through_double(f64::ln),
            MathKind::Log10 => through_double(f64::log10),
            MathKind::Round => match number {
                Number::Integer(_) | Number::VarInt(_) => number.clone(),
                _ => through_double(|value| (value + 0.5).floor()),
            },
        }
    }
}

fn every_second(bytes: &[u8], offset: usize) -> Bytes {
    let mut writer = collection::CollectionWriter::sequence();
    if let Ok(items) = collection::map_elements(bytes) {
        for item in items.skip(offset).step_by(2).flatten().flatten() {
            writer.push(item);
        }
    }
    writer.finish()
}

fn long(value: i64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

fn date_bytes(millis: i64) -> Bytes {
    let days = millis.div_euclid(DAY_MILLIS) + (1 << 31);
    Bytes::copy_from_slice(&u32::try_from(days).unwrap_or(u32::MAX).to_be_bytes())
}

/// Milliseconds since 1970 of a version 1 UUID.
pub(crate) fn timeuuid_millis(bytes: &[u8]) -> Option<i64> {
    let (high, _) = bytes.split_first_chunk::<8>()?;
    let high = u64::from_be_bytes(*high);
    let ticks = (high >> 32) | ((high & 0xffff_0000) << 16) | ((high & 0x0fff) << 48);
    Some((i64::try_from(ticks).ok()? - UUID_EPOCH_TICKS).div_euclid(10_000))
}

/// A version 1 UUID of a moment, in 100 ns since 1970.
pub(crate) fn timeuuid(ticks: i64, clock_sequence_and_node: [u8; 8]) -> [u8; 16] {
    let ticks = ticks.wrapping_add(UUID_EPOCH_TICKS).cast_unsigned();
    let high = (ticks << 32) | ((ticks >> 16) & 0xffff_0000) | ((ticks >> 48) & 0x0fff) | 0x1000;
    let mut uuid = [0; 16];
    let (first, last) = uuid.split_at_mut(8);
    first.copy_from_slice(&high.to_be_bytes());
    last.copy_from_slice(&clock_sequence_and_node);
    uuid
}

/// The smallest or largest timeuuid of a millisecond, as Cassandra orders them.
fn bound_timeuuid(millis: i64, largest: bool) -> Bytes {
    let ticks = millis.saturating_mul(10_000);
    let uuid = if largest {
        timeuuid(ticks.saturating_add(9_999), [0x7f; 8])
    } else {
        timeuuid(ticks, [0x80; 8])
    };
    Bytes::copy_from_slice(&uuid)
}
