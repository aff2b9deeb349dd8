//! Tests of the lexer.

use super::*;

fn kinds(text: &str) -> Vec<Kind> {
    read(text).0.into_iter().map(|lexeme| lexeme.kind).filter(|&kind| kind != Kind::End).collect()
}

#[test]
fn literals_are_told_apart() {
    let cases = [
        ("12", Kind::Integer),
        ("-12", Kind::Integer),
        ("1.5", Kind::Float),
        ("1.", Kind::Float),
        ("1e10", Kind::Float),
        ("-1.5E-3", Kind::Float),
        ("0xCAFE", Kind::Hex),
        ("0x", Kind::Hex),
        ("12345678-1234-1234-1234-123456789abc", Kind::Uuid),
        ("abcdefab-1234-1234-1234-123456789abc", Kind::Uuid),
        ("1d", Kind::Duration),
        ("1e5d", Kind::Float),
        ("P1D", Kind::Duration),
        ("P1X", Kind::Identifier),
        ("p1d", Kind::Identifier),
        ("TRUE", Kind::Boolean),
        ("-nan", Kind::NegativeNan),
        ("-Infinity", Kind::NegativeInfinity),
        ("''", Kind::String),
        ("\"\"", Kind::EmptyQuotedName),
        ("\"\"\"\"", Kind::QuotedName),
        ("$$it's$$", Kind::DollarString),
    ];
    for (text, kind) in cases {
        assert_eq!(kinds(text).first(), Some(&kind), "{text}");
    }
}

#[test]
fn a_range_between_integers_is_three_lexemes() {
    assert_eq!(kinds("1..2"), [Kind::Integer, Kind::Range, Kind::Integer]);
}

#[test]
fn a_minus_before_digits_belongs_to_the_number() {
    assert_eq!(kinds("a -3"), [Kind::Identifier, Kind::Integer]);
    assert_eq!(kinds("a - 3"), [Kind::Identifier, Kind::Sign(b'-'), Kind::Integer]);
}

#[test]
fn lexical_errors_name_their_place() {
    let cases = [
        ("a 'bc", 5, Some("'''")),
        ("a \"bc", 5, Some("'\"'")),
        ("a $b", 3, Some("'$'")),
        ("a ! b", 3, Some("'='")),
        ("a ^ b", 2, None),
        ("a /* b", 6, Some("'*'")),
    ];
    for (text, at, expecting) in cases {
        assert_eq!(read(text).1, Some(LexicalError { at, expecting }), "{text}");
    }
}
