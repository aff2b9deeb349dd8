//! LEB128 lengths and ids: seven bits to a byte, lowest first, at most five bytes (`u32`).

use crate::Error;

/// Appends `value`.
#[inline]
pub fn write(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends the length of something and the thing itself.
///
/// # Panics
/// When `bytes` holds 4 GiB or more; every size is limited far below before it comes here.
#[inline]
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write(out, length(bytes));
    out.extend_from_slice(bytes);
}

#[expect(clippy::expect_used, reason = "sizes are limited to megabytes at the door")]
#[inline]
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("length below 4 GiB")
}

/// Takes a value from the front of `input`.
///
/// # Errors
/// [`Error::Malformed`] when it is cut or does not fit `u32`.
#[inline]
pub fn read(input: &mut &[u8]) -> Result<u32, Error> {
    if let Some((&first, rest)) = input.split_first()
        && first < 0x80
    {
        *input = rest;
        return Ok(u32::from(first));
    }
    read_long(input)
}

fn read_long(input: &mut &[u8]) -> Result<u32, Error> {
    let mut value = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = input.split_first().ok_or(Error::Malformed("varint"))?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map_err(|_| Error::Malformed("varint"));
        }
    }
    Err(Error::Malformed("varint"))
}

/// Takes a length and as many bytes from the front of `input`.
///
/// # Errors
/// [`Error::Malformed`] when fewer bytes are left.
#[inline]
pub fn read_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = read(input)? as usize;
    take(input, length)
}

/// Takes exactly `length` bytes from the front of `input`.
#[inline]
pub(crate) fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Error> {
    let (taken, rest) = input.split_at_checked(length).ok_or(Error::Malformed("length"))?;
    *input = rest;
    Ok(taken)
}

/// Takes a fixed number of bytes from the front of `input`.
#[inline]
pub(crate) fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Error> {
    let (taken, rest) = input.split_first_chunk::<N>().ok_or(Error::Malformed("length"))?;
    *input = rest;
    Ok(*taken)
}
