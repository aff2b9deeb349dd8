//! Tests of `ordered_bytes`.

use std::cmp::Ordering;
use std::sync::Arc;

use cql_types::{UserType, compare, validate};

use super::*;
use crate::test_random::Random;

fn types() -> Vec<CqlType> {
    let list = |ty: CqlType| CqlType::Frozen(Arc::new(CqlType::List(Arc::new(ty))));
    let user_type = UserType {
        keyspace: "k".to_owned(),
        name: "u".to_owned(),
        fields: vec![("a".to_owned(), CqlType::Text), ("b".to_owned(), CqlType::VarInt)],
    };
    vec![
        CqlType::Ascii,
        CqlType::BigInt,
        CqlType::Blob,
        CqlType::Boolean,
        CqlType::Date,
        CqlType::Decimal,
        CqlType::Double,
        CqlType::Float,
        CqlType::Inet,
        CqlType::Int,
        CqlType::SmallInt,
        CqlType::Text,
        CqlType::Time,
        CqlType::Timestamp,
        CqlType::TimeUuid,
        CqlType::TinyInt,
        CqlType::Uuid,
        CqlType::VarInt,
        list(CqlType::Blob),
        list(CqlType::Decimal),
        list(list(CqlType::TinyInt)),
        CqlType::Set(Arc::new(CqlType::SmallInt)),
        CqlType::Map(Arc::new(CqlType::Text), Arc::new(CqlType::TinyInt)),
        CqlType::Tuple([CqlType::TinyInt, CqlType::Text, CqlType::Double].into()),
        CqlType::Udt(Arc::new(user_type)),
        CqlType::Vector(Arc::new(CqlType::Float), 2),
        CqlType::Vector(Arc::new(CqlType::Text), 2),
    ]
}

/// A value of the type; small alphabets, so that ties and common prefixes happen.
fn value(ty: &CqlType, random: &mut Random, nested: bool) -> Vec<u8> {
    const BYTES: [u8; 6] = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];
    let bytes = |random: &mut Random, count: usize| {
        (0..count).map(|_| *random.pick(&BYTES)).collect::<Vec<u8>>()
    };
    let bytes_max = |random: &mut Random, count| {
        let count = random.below(count);
        bytes(random, count)
    };
    let may_be_empty = !matches!(
        ty.unfrozen(),
        CqlType::List(_)
            | CqlType::Set(_)
            | CqlType::Map(..)
            | CqlType::Date
            | CqlType::Time
            | CqlType::SmallInt
            | CqlType::TinyInt
            | CqlType::Vector(..)
    );
    if may_be_empty && !nested && random.below(12) == 0 {
        return Vec::new();
    }
    match ty {
        CqlType::Frozen(inner) => value(inner, random, nested),
        CqlType::Ascii => (0..random.below(4)).map(|_| *random.pick(&[0, 1, 0x7f])).collect(),
        CqlType::Text => (0..random.below(4))
            .map(|_| *random.pick(&["\0", "\u{1}", "a", "é", "😀"]))
            .collect::<String>()
            .into(),
        CqlType::Blob => bytes_max(random, 5),
        CqlType::VarInt => {
            let count = random.pick(&[1, 2, 3, 9, 126, 127, 128, 300]).to_owned();
            bytes(random, count)
        }
        CqlType::Boolean => vec![*random.pick(&[0, 1, 2])],
        CqlType::TinyInt => bytes(random, 1),
        CqlType::SmallInt => bytes(random, 2),
        CqlType::Int | CqlType::Date => bytes(random, 4),
        CqlType::Float => random
            .pick(&[0.0, -0.0, 1.5, -1.5, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY])
            .to_be_bytes()
            .to_vec(),
        CqlType::Double => random
            .pick(&[0.0, -0.0, 1e300, -1e-300, f64::NAN, f64::MIN, f64::INFINITY, f64::EPSILON])
            .to_be_bytes()
            .to_vec(),
        CqlType::Time => (random.below(86_400) as i64 * 1_000_000_000).to_be_bytes().to_vec(),
        CqlType::BigInt | CqlType::Timestamp => bytes(random, 8),
        CqlType::Inet => {
            let count = *random.pick(&[4, 16]);
            bytes(random, count)
        }
        CqlType::Decimal => {
            let scale = *random.pick(&[-400i32, -2, -1, 0, 1, 2, 3, 400]);
            let unscaled = *random.pick(&[-1000i16, -101, -100, -1, 0, 1, 10, 100, 101, 1000]);
            [&scale.to_be_bytes()[..], &unscaled.to_be_bytes()].concat()
        }
        CqlType::Uuid | CqlType::TimeUuid => {
            let mut uuid = bytes(random, 16);
            let version = *random.pick(if *ty == CqlType::Uuid { &[1, 4, 7, 15] } else { &[1] });
            uuid[6] = (uuid[6] & 0x0f) | (version << 4);
            uuid
        }
        nested => nested_value(nested, random),
    }
}

fn nested_value(ty: &CqlType, random: &mut Random) -> Vec<u8> {
    match ty {
        CqlType::List(element) | CqlType::Set(element) => {
            let mut writer = CollectionWriter::sequence();
            (0..random.below(4)).for_each(|_| writer.push(&value(element, random, true)));
            writer.finish().to_vec()
        }
        CqlType::Map(key, value_type) => {
            let mut writer = CollectionWriter::map();
            for _ in 0..random.below(3) {
                writer.push(&value(key, random, true));
                writer.push(&value(value_type, random, true));
            }
            writer.finish().to_vec()
        }
        CqlType::Tuple(types) => fields_of(types, random),
        CqlType::Udt(user_type) => {
            let types: Vec<_> = user_type.fields.iter().map(|(_, ty)| ty.clone()).collect();
            fields_of(&types, random)
        }
        CqlType::Vector(element, dimension) => {
            let items: Vec<_> = (0..*dimension).map(|_| value(element, random, true)).collect();
            write_vector(element, &items).to_vec()
        }
        other => panic!("no values of {other}"),
    }
}

fn fields_of(types: &[CqlType], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for ty in types.iter().take(random.below(types.len() + 1)) {
        let field = (random.below(3) > 0).then(|| value(ty, random, true));
        write_element(&mut out, field.as_deref());
    }
    out
}

#[test]
fn order_of_bytes_is_order_of_values_and_values_come_back() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        for ty in types() {
            let values: Vec<_> = (0..16).map(|_| value(&ty, &mut random, false)).collect();
            for reversed in [false, true] {
                check_order_and_round_trip(&ty, reversed, &values, seed);
            }
        }
    }
}

fn check_order_and_round_trip(ty: &CqlType, reversed: bool, values: &[Vec<u8>], seed: u64) {
    let encoded: Vec<Vec<u8>> = values
        .iter()
        .map(|value| {
            validate(ty, value).unwrap();
            let mut out = Vec::new();
            encode(ty, reversed, value, &mut out).unwrap();
            out
        })
        .collect();
    for (left, left_bytes) in values.iter().zip(&encoded) {
        let mut rest = left_bytes.as_slice();
        let decoded = decode(ty, reversed, &mut rest).unwrap();
        assert!(rest.is_empty(), "{ty} seed {seed}");
        assert_eq!(compare(ty, &decoded, left), Ordering::Equal, "{ty} seed {seed} {left:x?}");
        let mut again = Vec::new();
        encode(ty, reversed, &decoded, &mut again).unwrap();
        assert_eq!(&again, left_bytes);
        for (right, right_bytes) in values.iter().zip(&encoded) {
            let wanted = compare(ty, left, right);
            let wanted = if reversed { wanted.reverse() } else { wanted };
            // Another component follows: it must not matter.
            let behind = [right_bytes.as_slice(), &[0x00]].concat();
            let before = [left_bytes.as_slice(), &[0xfe]].concat();
            assert_eq!(left_bytes.cmp(right_bytes), wanted, "{ty} {left:x?} {right:x?}");
            if wanted.is_ne() {
                assert_eq!(before.cmp(&behind), wanted, "{ty} {left:x?} {right:x?}");
            }
            // Bounds: the prefix before, the prefix and 0xFF after all that begin with it.
            let after = [left_bytes.as_slice(), &[AFTER_PREFIX]].concat();
            assert!(*left_bytes < before && before < after);
            assert_eq!(
                after.cmp(right_bytes),
                if wanted.is_eq() { Ordering::Greater } else { wanted }
            );
        }
    }
}

#[test]
fn plain_values_come_back_as_they_were() {
    let mut random = Random::new(7);
    for ty in [
        CqlType::Int,
        CqlType::Text,
        CqlType::Blob,
        CqlType::Uuid,
        CqlType::TimeUuid,
        CqlType::Inet,
    ] {
        for _ in 0..200 {
            let value = value(&ty, &mut random, false);
            let mut out = Vec::new();
            encode(&ty, true, &value, &mut out).unwrap();
            out.push(0x17);
            let mut rest = out.as_slice();
            assert_eq!(decode(&ty, true, &mut rest).unwrap(), value);
            assert_eq!(rest, [0x17]);
        }
    }
}

#[test]
fn a_field_added_to_a_user_type_changes_no_key() {
    let of = |types: &[CqlType]| CqlType::Tuple(types.into());
    let (old, new) = (of(&[CqlType::Int]), of(&[CqlType::Int, CqlType::Text]));
    let old_value = [&[0, 0, 0, 4][..], &5i32.to_be_bytes()].concat();
    let mut key = Vec::new();
    encode(&old, false, &old_value, &mut key).unwrap();
    let read = decode(&new, false, &mut key.as_slice()).unwrap();
    assert_eq!(read, [&old_value[..], &[0xff; 4]].concat());
    let mut new_key = Vec::new();
    encode(&new, false, &read, &mut new_key).unwrap();
    assert_eq!(key, new_key);
}

#[test]
fn hostile_bytes_are_errors_or_values_but_never_panics() {
    let mut random = Random::new(11);
    let mut refused = 0;
    for ty in types() {
        for _ in 0..400 {
            let mut bytes: Vec<u8> = (0..random.below(24))
                .map(|_| *random.pick(&[0, 1, 2, 3, 4, 0x40, 0x7f, 0x80, 0xc0, 0xff]))
                .collect();
            bytes.insert(0, VALUE);
            for reversed in [false, true] {
                let decoded = decode(&ty, reversed, &mut bytes.as_slice());
                refused += usize::from(decoded.is_err());
                if let Ok(value) = decoded {
                    encode(&ty, reversed, &value, &mut Vec::new()).unwrap();
                }
            }
        }
    }
    assert!(refused > 0);
}
