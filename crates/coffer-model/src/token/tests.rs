//! Tests of `token`.

use super::*;

/// Asked of Apache Cassandra 5.0: `SELECT k, token(k)`.
#[test]
fn tokens_are_cassandras() {
    let cases = [
        ("0102030405060708", -7_140_443_302_367_346_724),
        ("80", -5_284_281_814_142_962_636),
        ("ff00ff80", -3_741_069_756_937_627_004),
        ("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0ef", -1_915_466_248_129_221_231),
        ("8182838485868788f98a8b8c8d8e8f", 1_178_284_485_538_903_053),
        ("8182838485868788f9", 4_733_310_622_352_076_951),
        ("000102030405060708090a0b0c0d0e0f", 4_920_504_430_128_807_728),
        ("00", 5_048_724_184_180_415_669),
        (
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0dfdedddcdbdad9d8",
            5_100_599_603_293_811_552,
        ),
    ];
    for (key, token) in cases {
        let key = cql_types::text::parse_hex(key).unwrap();
        assert_eq!(Token::of(&key), Token(token), "{key:x?}");
    }
}

#[test]
fn an_empty_key_has_the_smallest_token() {
    assert_eq!(Token::of(b""), Token::MIN);
}

#[test]
fn ordered_bytes_sort_as_tokens_and_come_back() {
    let tokens = [i64::MIN, -2, -1, 0, 1, i64::MAX].map(Token);
    assert!(tokens.map(Token::to_ordered_bytes).is_sorted());
    assert_eq!(tokens.map(|token| Token::from_ordered_bytes(token.to_ordered_bytes())), tokens);
}
