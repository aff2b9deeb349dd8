//! Look-up and walks of a block against a plain list.

use super::super::block_builder::BlockBuilder;
use super::*;

fn keys(count: usize) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|n| format!("{:04}{}", n * 7 % 1000, "x".repeat(n % 5)).into_bytes())
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn block_of(keys: &[Vec<u8>]) -> Block {
    let mut builder = BlockBuilder::default();
    for key in keys {
        builder.add(key, &[key.as_slice(), b"!"].concat());
    }
    let length = builder.length();
    let mut bytes = Vec::new();
    builder.finish_into(&mut bytes);
    assert_eq!(bytes.len(), length);
    Block::parse(bytes.into()).expect("a block")
}

fn value(key: &[u8]) -> Bytes {
    [key, b"!"].concat().into()
}

#[test]
fn the_bytes_of_a_small_block_are_as_documented() {
    let mut builder = BlockBuilder::default();
    builder.add(b"ab", b"1");
    builder.add(b"ac", b"2");
    let mut bytes = Vec::new();
    builder.finish_into(&mut bytes);
    assert_eq!(hex::encode(bytes), "000201616231010101633200000000000000 01".replace(' ', ""));
}

#[test]
fn look_up_finds_each_key_and_the_next_one_for_others() {
    for count in [1, 2, 15, 16, 17, 200] {
        let keys = keys(count);
        let block = block_of(&keys);
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(block.lower_bound(key).expect("reads"), Some((value(key), true)));
            let above = [key.as_slice(), b"\0"].concat();
            let next = keys.get(place + 1).map(|next| (value(next), false));
            assert_eq!(block.lower_bound(&above).expect("reads"), next);
        }
        assert_eq!(block.lower_bound(b"").expect("reads"), Some((value(&keys[0]), false)));
        assert_eq!(block.lower_bound(b"zzz").expect("reads"), None);
    }
}

#[test]
fn a_cursor_walks_both_ways_from_any_place() {
    let keys = keys(100);
    let block = block_of(&keys);
    for start in 0..keys.len() {
        let mut cursor = BlockCursor::new(block.clone());
        cursor.seek(&keys[start]).expect("seeks");
        for key in &keys[start..] {
            assert_eq!((cursor.key(), cursor.shared_value()), (key.as_slice(), value(key)));
            cursor.next().expect("walks");
        }
        assert!(!cursor.is_valid());
        cursor.seek(&keys[start]).expect("seeks");
        for key in keys[..=start].iter().rev() {
            assert_eq!((cursor.key(), cursor.shared_value()), (key.as_slice(), value(key)));
            cursor.prev().expect("walks");
        }
        assert!(!cursor.is_valid());
    }
    let mut cursor = BlockCursor::new(block);
    cursor.last().expect("seeks");
    assert_eq!(cursor.key(), keys[keys.len() - 1]);
    cursor.first().expect("seeks");
    assert_eq!(cursor.key(), keys[0]);
}

#[test]
fn damaged_blocks_never_panic() {
    let keys = keys(40);
    let mut builder = BlockBuilder::default();
    for key in &keys {
        builder.add(key, b"value");
    }
    let mut bytes = Vec::new();
    builder.finish_into(&mut bytes);
    for length in 0..bytes.len() {
        exercise(&bytes[..length]);
    }
    for place in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] ^= mask;
            exercise(&damaged);
        }
    }
}

/// Reads all there is; what comes out does not matter.
fn exercise(bytes: &[u8]) {
    let Ok(block) = Block::parse(Bytes::copy_from_slice(bytes)) else { return };
    let mut seen = 0;
    let mut cursor = BlockCursor::new(block.clone());
    let mut step = cursor.first();
    while step.is_ok() && cursor.is_valid() && seen < 1000 {
        seen += cursor.value().len().min(1) + 1;
        step = cursor.next();
    }
    let mut step = cursor.last();
    while step.is_ok() && cursor.is_valid() && seen < 2000 {
        seen += 1;
        step = cursor.prev();
    }
    for target in [&b""[..], b"0500", b"zzz"] {
        seen += usize::from(block.lower_bound(target).is_ok() && cursor.seek(target).is_ok());
    }
    assert!(seen < 3000, "walks end");
}
