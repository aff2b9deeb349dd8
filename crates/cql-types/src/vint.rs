//! Cassandra's variable-length integers: the leading ones of the first byte count the bytes that
//! follow; the rest is big endian. Used inside `duration` and `vector`.

use crate::TypeError;

/// Takes an unsigned integer from the front of `input`.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when it is cut.
pub fn read_unsigned(input: &mut &[u8]) -> Result<u64, TypeError> {
    let cut = || TypeError::bytes("Not enough bytes to read a variable-length integer");
    let (&first, rest) = input.split_first().ok_or_else(cut)?;
    let extra = first.leading_ones() as usize;
    let (tail, rest) = rest.split_at_checked(extra).ok_or_else(cut)?;
    *input = rest;
    let head = if extra >= 7 { 0 } else { u64::from(first & (0xff >> (extra + 1))) };
    Ok(tail.iter().fold(head, |value, byte| (value << 8) | u64::from(*byte)))
}

/// Takes a signed (zigzag) integer from the front of `input`.
///
/// # Errors
/// [`TypeError::InvalidBytes`] when it is cut.
pub fn read_signed(input: &mut &[u8]) -> Result<i64, TypeError> {
    let value = read_unsigned(input)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Appends an unsigned integer.
pub fn write_unsigned(out: &mut Vec<u8>, value: u64) {
    let bits = 64 - value.leading_zeros();
    // Each byte carries seven bits, but nine carry all sixty-four.
    let extra = (bits.saturating_sub(1) / 7).min(8) as usize;
    let bytes = value.to_be_bytes();
    if extra == 8 {
        out.push(0xff);
    }
    let start = out.len();
    out.extend_from_slice(bytes.get(7 - extra.min(7)..).unwrap_or_default());
    if extra < 8
        && let Some(first) = out.get_mut(start)
    {
        *first |= !(0xffu8.checked_shr(u32::try_from(extra).unwrap_or(8)).unwrap_or(0));
    }
}

/// Appends a signed (zigzag) integer.
pub fn write_signed(out: &mut Vec<u8>, value: i64) {
    write_unsigned(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

#[cfg(test)]
mod tests;
