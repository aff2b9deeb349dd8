//! Tests of `vint`.

use super::*;

#[test]
fn integers_come_back_in_the_fewest_bytes() {
    for shift in 0..64 {
        for value in [(1u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
            let mut bytes = Vec::new();
            write_unsigned(&mut bytes, value);
            let bits = (64 - value.leading_zeros()).max(1) as usize;
            assert_eq!(bytes.len(), bits.div_ceil(7).min(9), "{value}");
            assert_eq!(read_unsigned(&mut bytes.as_slice()), Ok(value));
            assert!(read_unsigned(&mut &bytes[..bytes.len() - 1]).is_err());
        }
    }
    for value in [i64::MIN, -1, 0, 1, i64::MAX] {
        let mut bytes = Vec::new();
        write_signed(&mut bytes, value);
        assert_eq!(read_signed(&mut bytes.as_slice()), Ok(value));
    }
}

/// From Cassandra's documentation of the encoding: `256000` is `C3 E8 00`.
#[test]
fn the_first_byte_counts_those_that_follow() {
    let mut bytes = Vec::new();
    write_unsigned(&mut bytes, 256_000);
    assert_eq!(bytes, [0xc3, 0xe8, 0x00]);
}
