//! Numbers of any CQL type: casts, arithmetic, sums and averages, with Java's overflow and rounding.

use bytes::Bytes;
use cql_types::CqlType;
use num_bigint::{BigInt, Sign};

/// Digits after the point that a division of decimals keeps.
const DIVISION_SCALE_MAX: i32 = 1000;

/// A decoded number. The integer types keep their width, because sums wrap within it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Number {
    Integer(i64),
    Float(f32),
    Double(f64),
    VarInt(BigInt),
    /// Unscaled value and scale.
    Decimal(BigInt, i32),
}

/// The four operations and remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Arithmetic {
    pub(crate) fn sign(self) -> char {
        match self {
            Arithmetic::Add => '+',
            Arithmetic::Subtract => '-',
            Arithmetic::Multiply => '*',
            Arithmetic::Divide => '/',
            Arithmetic::Modulo => '%',
        }
    }
}

impl From<cql_parser::ast::ArithmeticOperator> for Arithmetic {
    fn from(operator: cql_parser::ast::ArithmeticOperator) -> Self {
        use cql_parser::ast::ArithmeticOperator as Parsed;
        match operator {
            Parsed::Add => Arithmetic::Add,
            Parsed::Subtract => Arithmetic::Subtract,
            Parsed::Multiply => Arithmetic::Multiply,
            Parsed::Divide => Arithmetic::Divide,
            Parsed::Modulo => Arithmetic::Modulo,
        }
    }
}

/// Whether values of the type are numbers.
pub(crate) fn is_numeric(ty: &CqlType) -> bool {
    rank(ty).is_some()
}

/// Integer types by width, then the others.
fn rank(ty: &CqlType) -> Option<u8> {
    Some(match ty {
        CqlType::TinyInt => 1,
        CqlType::SmallInt => 2,
        CqlType::Int => 3,
        CqlType::BigInt | CqlType::Counter => 4,
        CqlType::Float => 5,
        CqlType::Double => 6,
        CqlType::VarInt => 7,
        CqlType::Decimal => 8,
        _ => return None,
    })
}

/// Type of an operation on two numbers, as Cassandra's documentation tabulates it.
pub(crate) fn arithmetic_type(left: &CqlType, right: &CqlType) -> Option<CqlType> {
    let (low, high) = {
        let (left, right) = (rank(left)?, rank(right)?);
        (left.min(right), left.max(right))
    };
    Some(match (low, high) {
        (4, 5) => CqlType::Double,
        (5 | 6, 7) => CqlType::Decimal,
        (_, 1) => CqlType::TinyInt,
        (_, 2) => CqlType::SmallInt,
        (_, 3) => CqlType::Int,
        (_, 4) => CqlType::BigInt,
        (_, 5) => CqlType::Float,
        (_, 6) => CqlType::Double,
        (_, 7) => CqlType::VarInt,
        _ => CqlType::Decimal,
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

impl Number {
    /// The number in a serialized value; `None` when it is empty or not a number.
    pub(crate) fn decode(ty: &CqlType, bytes: &[u8]) -> Option<Number> {
        Some(match ty {
            CqlType::TinyInt => Number::Integer(i8::from_be_bytes(fixed(bytes)?).into()),
            CqlType::SmallInt => Number::Integer(i16::from_be_bytes(fixed(bytes)?).into()),
            CqlType::Int => Number::Integer(i32::from_be_bytes(fixed(bytes)?).into()),
            CqlType::BigInt | CqlType::Counter | CqlType::Timestamp | CqlType::Time => {
                Number::Integer(i64::from_be_bytes(fixed(bytes)?))
            }
            CqlType::Float => Number::Float(f32::from_be_bytes(fixed(bytes)?)),
            CqlType::Double => Number::Double(f64::from_be_bytes(fixed(bytes)?)),
            CqlType::VarInt if !bytes.is_empty() => {
                Number::VarInt(BigInt::from_signed_bytes_be(bytes))
            }
            CqlType::Decimal => {
                let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
                if unscaled.is_empty() {
                    return None;
                }
                Number::Decimal(BigInt::from_signed_bytes_be(unscaled), i32::from_be_bytes(*scale))
            }
            _ => return None,
        })
    }

    /// The zero of a type.
    pub(crate) fn zero(ty: &CqlType) -> Number {
        Number::Integer(0).convert(ty)
    }

    /// The number as the type holds it: integers are cut as Java's casts cut them, fractions are
    /// dropped where the type has none.
    pub(crate) fn convert(&self, ty: &CqlType) -> Number {
        match ty {
            CqlType::TinyInt => Number::Integer(narrow::<8>(self.to_i32_like())),
            CqlType::SmallInt => Number::Integer(narrow::<16>(self.to_i32_like())),
            CqlType::Int => Number::Integer(self.to_i32_like()),
            CqlType::Float => Number::Float(self.to_f32()),
            CqlType::Double => Number::Double(self.to_f64()),
            CqlType::VarInt => Number::VarInt(self.to_big_int()),
            CqlType::Decimal => {
                let (unscaled, scale) = self.to_decimal();
                Number::Decimal(unscaled, scale)
            }
            _ => Number::Integer(self.to_i64()),
        }
    }

    /// Serializes; the number must have been converted to the type.
    pub(crate) fn encode(&self, ty: &CqlType) -> Bytes {
        match (self.convert(ty), ty) {
            (Number::Integer(value), CqlType::TinyInt) => last_bytes(value, 1),
            (Number::Integer(value), CqlType::SmallInt) => last_bytes(value, 2),
            (Number::Integer(value), CqlType::Int) => last_bytes(value, 4),
            (Number::Integer(value), _) => last_bytes(value, 8),
            (Number::Float(value), _) => Bytes::copy_from_slice(&value.to_be_bytes()),
            (Number::Double(value), _) => Bytes::copy_from_slice(&value.to_be_bytes()),
            (Number::VarInt(value), _) => value.to_signed_bytes_be().into(),
            (Number::Decimal(unscaled, scale), _) => {
                let mut bytes = scale.to_be_bytes().to_vec();
                bytes.extend_from_slice(&unscaled.to_signed_bytes_be());
                bytes.into()
            }
        }
    }

    /// Java narrows `double` and `float` to int by saturating, and wider integers by cutting.
    #[expect(clippy::cast_possible_truncation, reason = "Java's conversions, the same rules")]
    fn to_i32_like(&self) -> i64 {
        match self {
            Number::Float(value) => i64::from(*value as i32),
            Number::Double(value) => i64::from(*value as i32),
            other => i64::from(other.to_i64() as i32),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "Java's conversions, the same rules")]
    pub(crate) fn to_i64(&self) -> i64 {
        match self {
            Number::Integer(value) => *value,
            Number::Float(value) => *value as i64,
            Number::Double(value) => *value as i64,
            Number::VarInt(_) | Number::Decimal(..) => {
                let bytes = self.to_big_int().to_signed_bytes_be();
                let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
                let start = if negative { -1i64 } else { 0 };
                bytes.iter().fold(start, |sum, byte| (sum << 8) | i64::from(*byte))
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "nearest float is what is asked for")]
    #[expect(clippy::cast_precision_loss, reason = "nearest float is what is asked for")]
    fn to_f32(&self) -> f32 {
        match self {
            Number::Integer(value) => *value as f32,
            Number::Float(value) => *value,
            Number::Double(value) => *value as f32,
            other => other.to_text().parse().unwrap_or(f32::NAN),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nearest double is what is asked for")]
    pub(crate) fn to_f64(&self) -> f64 {
        match self {
            Number::Integer(value) => *value as f64,
            Number::Float(value) => f64::from(*value),
            Number::Double(value) => *value,
            other => other.to_text().parse().unwrap_or(f64::NAN),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Number::VarInt(value) => value.to_string(),
            Number::Decimal(unscaled, scale) => {
                format!("{unscaled}e{}", i64::from(*scale).saturating_neg())
            }
            Number::Integer(value) => value.to_string(),
            Number::Float(value) => value.to_string(),
            Number::Double(value) => value.to_string(),
        }
    }

    fn to_big_int(&self) -> BigInt {
        match self {
            Number::Integer(value) => BigInt::from(*value),
            Number::VarInt(value) => value.clone(),
            other => {
                let (unscaled, scale) = other.to_decimal();
                rescale_down(unscaled, scale)
            }
        }
    }

    fn to_decimal(&self) -> (BigInt, i32) {
        match self {
            Number::Integer(value) => (BigInt::from(*value), 0),
            Number::VarInt(value) => (value.clone(), 0),
            Number::Decimal(unscaled, scale) => (unscaled.clone(), *scale),
            Number::Float(value) => decimal_of_text(&format!("{value:?}")),
            Number::Double(value) => decimal_of_text(&format!("{value:?}")),
        }
    }

    /// Text as CAST to text gives it.
    pub(crate) fn to_cql_text(&self, ty: &CqlType) -> String {
        cql_types::to_text(ty, &self.encode(ty)).unwrap_or_default()
    }

    /// An operation on two numbers in the type of the result; `None` for a division by zero.
    pub(crate) fn apply(
        operation: Arithmetic,
        left: &Number,
        right: &Number,
        ty: &CqlType,
    ) -> Option<Number> {
        let (left, right) = (left.convert(ty), right.convert(ty));
        let result = match (left, right) {
            (Number::Integer(left), Number::Integer(right)) => {
                Number::Integer(integers(operation, left, right)?)
            }
            (Number::Float(left), Number::Float(right)) => Number::Float(match operation {
                Arithmetic::Add => left + right,
                Arithmetic::Subtract => left - right,
                Arithmetic::Multiply => left * right,
                Arithmetic::Divide => left / right,
                Arithmetic::Modulo => left % right,
            }),
            (Number::Double(left), Number::Double(right)) => Number::Double(match operation {
                Arithmetic::Add => left + right,
                Arithmetic::Subtract => left - right,
                Arithmetic::Multiply => left * right,
                Arithmetic::Divide => left / right,
                Arithmetic::Modulo => left % right,
            }),
            (Number::VarInt(left), Number::VarInt(right)) => {
                Number::VarInt(big_integers(operation, left, right)?)
            }
            (left, right) => {
                let (unscaled, scale) = decimals(operation, left.to_decimal(), right.to_decimal())?;
                Number::Decimal(unscaled, scale)
            }
        };
        Some(match result {
            Number::Integer(value) if *ty == CqlType::Int => Number::Integer(narrow::<32>(value)),
            other => other.convert(ty),
        })
    }

    /// The number with its sign changed.
    pub(crate) fn negate(&self, ty: &CqlType) -> Option<Number> {
        match self {
            Number::Float(value) => Some(Number::Float(-value)),
            Number::Double(value) => Some(Number::Double(-value)),
            _ => Number::apply(Arithmetic::Subtract, &Number::zero(ty), self, ty),
        }
    }

    /// The mean of `count` numbers with this sum, in the type of the column.
    pub(crate) fn average(&self, count: i64, ty: &CqlType) -> Option<Number> {
        let divisor = match ty {
            CqlType::Decimal => Number::Decimal(BigInt::from(count), 0),
            _ => Number::Integer(count),
        };
        match (self, ty) {
            (Number::Double(sum), _) => Some(Number::Double(sum / divisor.to_f64())),
            (Number::VarInt(_), _) => {
                Number::apply(Arithmetic::Divide, self, &divisor, &CqlType::VarInt)
            }
            (Number::Decimal(unscaled, scale), _) => {
                let (quotient, remainder) =
                    (unscaled / BigInt::from(count), unscaled % BigInt::from(count));
                Some(Number::Decimal(round_half_even(quotient, remainder, count), *scale))
            }
            _ => Number::apply(Arithmetic::Divide, self, &divisor, &CqlType::BigInt),
        }
    }
}

/// Rounds a truncated quotient to the nearest, ties to even, as Java's `HALF_EVEN`.
fn round_half_even(quotient: BigInt, remainder: BigInt, divisor: i64) -> BigInt {
    let negative = remainder.sign() == Sign::Minus;
    let doubled = BigInt::from(2) * if negative { -remainder } else { remainder };
    let divisor = BigInt::from(divisor);
    let odd = (&quotient % BigInt::from(2)).sign() != Sign::NoSign;
    if doubled > divisor || (doubled == divisor && odd) {
        if negative { quotient - 1 } else { quotient + 1 }
    } else {
        quotient
    }
}

fn last_bytes(value: i64, count: usize) -> Bytes {
    let bytes = value.to_be_bytes();
    Bytes::copy_from_slice(bytes.get(8 - count..).unwrap_or_default())
}

/// Cuts to `BITS` bits, keeping the sign bit of that width.
fn narrow<const BITS: u32>(value: i64) -> i64 {
    (value << (64 - BITS)) >> (64 - BITS)
}

fn integers(operation: Arithmetic, left: i64, right: i64) -> Option<i64> {
    match operation {
        Arithmetic::Add => Some(left.wrapping_add(right)),
        Arithmetic::Subtract => Some(left.wrapping_sub(right)),
        Arithmetic::Multiply => Some(left.wrapping_mul(right)),
        Arithmetic::Divide => (right != 0).then(|| left.wrapping_div(right)),
        Arithmetic::Modulo => (right != 0).then(|| left.wrapping_rem(right)),
    }
}

fn big_integers(operation: Arithmetic, left: BigInt, right: BigInt) -> Option<BigInt> {
    match operation {
        Arithmetic::Add => Some(left + right),
        Arithmetic::Subtract => Some(left - right),
        Arithmetic::Multiply => Some(left * right),
        Arithmetic::Divide => (right.sign() != Sign::NoSign).then(|| left / right),
        Arithmetic::Modulo => (right.sign() != Sign::NoSign).then(|| left % right),
    }
}

fn power_of_ten(exponent: i64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(exponent.clamp(0, 100_000)).unwrap_or(0))
}

fn rescale_down(unscaled: BigInt, scale: i32) -> BigInt {
    if scale > 0 {
        unscaled / power_of_ten(scale.into())
    } else {
        unscaled * power_of_ten(-i64::from(scale))
    }
}

/// Both with the larger of the two scales.
fn align(left: (BigInt, i32), right: (BigInt, i32)) -> (BigInt, BigInt, i32) {
    let scale = left.1.max(right.1);
    let lift = |value: (BigInt, i32)| {
        value.0 * power_of_ten(i64::from(scale).saturating_sub(value.1.into()))
    };
    (lift(left), lift(right), scale)
}

fn decimals(
    operation: Arithmetic,
    left: (BigInt, i32),
    right: (BigInt, i32),
) -> Option<(BigInt, i32)> {
    if operation == Arithmetic::Multiply {
        return Some((left.0 * right.0, left.1.saturating_add(right.1)));
    }
    let (left_value, right_value, scale) = align(left, right);
    match operation {
        Arithmetic::Add => Some((left_value + right_value, scale)),
        Arithmetic::Subtract => Some((left_value - right_value, scale)),
        Arithmetic::Modulo => {
            (right_value.sign() != Sign::NoSign).then(|| (left_value % right_value, scale))
        }
        _ => {
            let scale = scale.clamp(32, DIVISION_SCALE_MAX);
            (right_value.sign() != Sign::NoSign)
                .then(|| strip_zeros(left_value * power_of_ten(scale.into()) / right_value, scale))
        }
    }
}

fn strip_zeros(mut unscaled: BigInt, mut scale: i32) -> (BigInt, i32) {
    let ten = BigInt::from(10);
    while scale > 0 && (&unscaled % &ten).sign() == Sign::NoSign {
        unscaled /= &ten;
        scale -= 1;
    }
    (unscaled, scale)
}

fn decimal_of_text(text: &str) -> (BigInt, i32) {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = i32::try_from(fraction.len()).unwrap_or(0) - exponent;
    let unscaled = format!("{whole}{fraction}").parse().unwrap_or_default();
    (unscaled, scale)
}
