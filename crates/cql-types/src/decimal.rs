//! Decimal numbers of any precision: an integer and how many of its digits are fraction.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use num_bigint::{BigInt, Sign};

use crate::TypeError;

/// `unscaled * 10^-scale`.
///
/// Two decimals are equal here when they are written alike: 1.0 and 1.00 are not. [`Decimal::compare`]
/// compares the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// All digits.
    pub unscaled: BigInt,
    /// How many of them are fraction; negative for zeros to append.
    pub scale: i32,
}

/// A decimal as sign, exponent and digits without zeros at either end: `0.digits * 10^exponent`.
/// Each number has one such form, zero has no digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecimalDigits {
    /// Whether it is below zero.
    pub is_negative: bool,
    /// Power of ten the fraction is multiplied with.
    pub exponent: i64,
    /// Digits, each 0 to 9.
    pub digits: Vec<u8>,
}

impl Decimal {
    /// From serialized bytes: scale (4 bytes) and unscaled value.
    ///
    /// # Errors
    /// [`TypeError::InvalidBytes`] when shorter than four bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TypeError> {
        let (scale, unscaled) = split(bytes)?;
        Ok(Self { unscaled: BigInt::from_signed_bytes_be(unscaled), scale })
    }

    /// The serialized form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.scale.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.unscaled.to_signed_bytes_be());
        bytes
    }

    /// Compares the numbers: 1.0 equals 1.00.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let sign = self.unscaled.sign();
        let by_sign = sign.cmp(&other.unscaled.sign());
        if by_sign.is_ne() || sign == Sign::NoSign {
            return by_sign;
        }
        if self.scale == other.scale {
            return self.unscaled.cmp(&other.unscaled);
        }
        let magnitude = match self.magnitude_bounds().partial_cmp_to(&other.magnitude_bounds()) {
            Some(ordering) => ordering,
            None => self.compare_aligned(other),
        };
        if sign == Sign::Minus { magnitude.reverse() } else { magnitude }
    }

    /// Bounds of the decimal logarithm of a number that is not zero.
    fn magnitude_bounds(&self) -> Bounds {
        #[expect(clippy::cast_precision_loss, reason = "bounds are a unit apart")]
        let bits = self.unscaled.bits() as f64;
        let scale = f64::from(self.scale);
        let log = std::f64::consts::LOG10_2;
        Bounds { low: (bits - 1.0) * log - scale - 0.01, high: bits * log - scale + 0.01 }
    }

    /// Compares absolute values whose magnitudes are about equal, so that the difference of the
    /// scales is about the difference of the numbers of digits.
    fn compare_aligned(&self, other: &Self) -> Ordering {
        let shift = i64::from(self.scale) - i64::from(other.scale);
        let power = BigInt::from(10).pow(u32::try_from(shift.unsigned_abs()).unwrap_or(u32::MAX));
        let (left, right) = (self.unscaled.magnitude(), other.unscaled.magnitude());
        if shift < 0 {
            (left * power.magnitude()).cmp(right)
        } else {
            left.cmp(&(right * power.magnitude()))
        }
    }

    /// Sign, exponent and digits.
    #[must_use]
    pub fn to_digits(&self) -> DecimalDigits {
        let (sign, mut digits) = self.unscaled.to_radix_be(10);
        if sign == Sign::NoSign {
            return DecimalDigits { is_negative: false, exponent: 0, digits: Vec::new() };
        }
        let exponent = i64::try_from(digits.len()).unwrap_or(i64::MAX) - i64::from(self.scale);
        let kept = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        digits.truncate(kept);
        DecimalDigits { is_negative: sign == Sign::Minus, exponent, digits }
    }

    /// Inverse of [`Decimal::to_digits`], with the smallest scale; zero is 0 with scale 0.
    ///
    /// # Errors
    /// [`TypeError::InvalidBytes`] when a digit is above 9 or the scale does not fit.
    pub fn from_digits(parts: &DecimalDigits) -> Result<Self, TypeError> {
        let invalid = || TypeError::bytes("Invalid decimal");
        if parts.digits.is_empty() {
            return Ok(Self { unscaled: BigInt::ZERO, scale: 0 });
        }
        let mut digits = parts.digits.clone();
        let length = i64::try_from(digits.len()).map_err(|_| invalid())?;
        let mut scale = length.checked_sub(parts.exponent).ok_or_else(invalid)?;
        // Zeros stripped from a number with the smallest scale come back.
        while scale < i64::from(i32::MIN) && digits.len() < 1 << 20 {
            digits.push(0);
            scale += 1;
        }
        let scale = i32::try_from(scale).map_err(|_| invalid())?;
        let sign = if parts.is_negative { Sign::Minus } else { Sign::Plus };
        let unscaled = BigInt::from_radix_be(sign, &digits, 10).ok_or_else(invalid)?;
        Ok(Self { unscaled, scale })
    }
}

struct Bounds {
    low: f64,
    high: f64,
}

impl Bounds {
    /// The order, unless the bounds overlap.
    fn partial_cmp_to(&self, other: &Self) -> Option<Ordering> {
        if self.high < other.low {
            Some(Ordering::Less)
        } else if self.low > other.high {
            Some(Ordering::Greater)
        } else {
            None
        }
    }
}

/// Scale and unscaled value of a serialized decimal.
fn split(bytes: &[u8]) -> Result<(i32, &[u8]), TypeError> {
    let (scale, unscaled) = bytes.split_first_chunk::<4>().ok_or_else(|| {
        TypeError::bytes(format!("Expected 0 or at least 4 bytes ({})", bytes.len()))
    })?;
    Ok((i32::from_be_bytes(*scale), unscaled))
}

impl FromStr for Decimal {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let invalid = || TypeError::text(format!("unable to make BigDecimal from '{text}'"));
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i64>().map_err(|_| invalid())?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = whole.strip_prefix(['+', '-']).unwrap_or(whole);
        if !is_digits(unsigned) || !is_digits(fraction) || unsigned.len() + fraction.len() == 0 {
            return Err(invalid());
        }
        let fraction_digits = i64::try_from(fraction.len()).map_err(|_| invalid())?;
        let scale = fraction_digits.checked_sub(exponent).ok_or_else(invalid)?;
        let scale = i32::try_from(scale).map_err(|_| invalid())?;
        let digits = format!("{}{fraction}", whole.strip_prefix('+').unwrap_or(whole));
        let unscaled = digits.parse::<BigInt>().map_err(|_| invalid())?;
        Ok(Self { unscaled, scale })
    }
}

/// As Java's `BigDecimal.toString`: plain unless the exponent is below -6 or the scale negative.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled.sign() == Sign::Minus { "-" } else { "" };
        let digits = self.unscaled.magnitude().to_string();
        let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let scale = i64::from(self.scale);
        let adjusted = count - 1 - scale;
        if scale >= 0 && adjusted >= -6 {
            let fraction = usize::try_from(scale).unwrap_or(0);
            if fraction == 0 {
                return write!(f, "{sign}{digits}");
            }
            let padded = format!("{digits:0>width$}", width = fraction + 1);
            let (whole, fraction) = padded.split_at(padded.len() - fraction);
            return write!(f, "{sign}{whole}.{fraction}");
        }
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        write!(f, "{sign}{first}{point}{rest}E{adjusted:+}")
    }
}

#[cfg(test)]
mod tests;
