//! Bytes to lexemes.

use crate::keyword::{self, Keyword};
use crate::literal;

/// The kinds of lexemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Keyword(Keyword),
    Identifier,
    QuotedName,
    /// `""`
    EmptyQuotedName,
    String,
    DollarString,
    Integer,
    Float,
    Boolean,
    Duration,
    Uuid,
    Hex,
    NegativeNan,
    NegativeInfinity,
    /// `expr(`, one lexeme as in Cassandra's grammar.
    ExprOpen,
    QuestionMark,
    /// A sign of one byte.
    Sign(u8),
    /// `..`
    Range,
    LtEq,
    GtEq,
    NotEq,
    PlusEq,
    MinusEq,
    /// Text that is no lexeme; nothing comes after it but the end.
    Invalid,
    End,
}

/// A lexeme and where it is in the text, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexeme {
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// What the lexer found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LexicalError {
    /// Byte offset of the place.
    pub(crate) at: usize,
    /// What was expected there; nothing: any lexeme.
    pub(crate) expecting: Option<&'static str>,
}

/// Reads the whole text. The last lexeme is always [`Kind::End`]; it follows [`Kind::Invalid`] if there is an error.
pub(crate) fn read(text: &str) -> (Vec<Lexeme>, Option<LexicalError>) {
    let bytes = text.as_bytes();
    let mut lexemes = Vec::with_capacity(bytes.len() / 3 + 4);
    let mut rest = bytes;
    let mut error = None;
    let offset = |rest: &[u8]| u32::try_from(bytes.len() - rest.len()).unwrap_or(u32::MAX);
    loop {
        while let [b' ' | b'\t' | b'\n' | b'\r', tail @ ..] = rest {
            rest = tail;
        }
        if matches!(rest, [b'-' | b'/', ..]) {
            rest = literal::blank(rest).map_or(rest, |(rest, _)| rest);
        }
        if rest.is_empty() {
            break;
        }
        let start = offset(rest);
        match next(rest) {
            Ok((kind, length)) => {
                rest = rest.get(length..).unwrap_or_default();
                lexemes.push(Lexeme { kind, start, end: offset(rest) });
            }
            Err(found) => {
                error = Some(LexicalError { at: found.at + bytes.len() - rest.len(), ..found });
                lexemes.push(Lexeme { kind: Kind::Invalid, start, end: offset(&[]) });
                break;
            }
        }
    }
    lexemes.push(Lexeme { kind: Kind::End, start: offset(&[]), end: offset(&[]) });
    (lexemes, error)
}

/// The kind and the length of the first lexeme.
fn next(input: &[u8]) -> Result<(Kind, usize), LexicalError> {
    let [first, tail @ ..] = input else {
        return Err(unexpected(0, None));
    };
    match (first, tail) {
        (b'a'..=b'z' | b'A'..=b'Z', _) => Ok(word(input)),
        (b'0'..=b'9', _) => number(input),
        (b'-', _) => Ok(minus(input)),
        (b'\'', _) => match literal::string(input) {
            Ok((rest, _)) => Ok((Kind::String, input.len() - rest.len())),
            Err(_) => Err(unexpected(input.len(), Some("'''"))),
        },
        (b'"', [b'"', third, ..]) if *third != b'"' => Ok((Kind::EmptyQuotedName, 2)),
        (b'"', [b'"']) => Ok((Kind::EmptyQuotedName, 2)),
        (b'"', _) => match literal::quoted_name(input) {
            Ok((rest, _)) => Ok((Kind::QuotedName, input.len() - rest.len())),
            Err(_) => Err(unexpected(input.len(), Some("'\"'"))),
        },
        (b'$', [b'$', ..]) => match literal::dollar_string(input) {
            Ok((rest, _)) => Ok((Kind::DollarString, input.len() - rest.len())),
            Err(_) => Err(unexpected(input.len(), Some("'$'"))),
        },
        (b'$', _) => Err(unexpected(1, Some("'$'"))),
        (b'?', _) => Ok((Kind::QuestionMark, 1)),
        (b'.', [b'.', ..]) => Ok((Kind::Range, 2)),
        (b'<', [b'=', ..]) => Ok((Kind::LtEq, 2)),
        (b'>', [b'=', ..]) => Ok((Kind::GtEq, 2)),
        (b'!', [b'=', ..]) => Ok((Kind::NotEq, 2)),
        (b'!', _) => Err(unexpected(1, Some("'='"))),
        (b'+', [b'=', ..]) => Ok((Kind::PlusEq, 2)),
        (b'/', [b'*', ..]) => Err(unexpected(input.len(), Some("'*'"))),
        (
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b',' | b';' | b':' | b'.' | b'=' | b'<'
            | b'>' | b'+' | b'*' | b'/' | b'%',
            _,
        ) => Ok((Kind::Sign(*first), 1)),
        _ => Err(unexpected(0, None)),
    }
}

fn unexpected(at: usize, expecting: Option<&'static str>) -> LexicalError {
    LexicalError { at, expecting }
}

fn word(input: &[u8]) -> (Kind, usize) {
    let Ok((rest, name)) = literal::identifier(input) else {
        return (Kind::Invalid, 1);
    };
    let length = name.len();
    if length == 8
        && rest.first() == Some(&b'-')
        && let Ok((_, uuid)) = literal::uuid(input)
    {
        return (Kind::Uuid, uuid.len());
    }
    if name.first() == Some(&b'P')
        && let Ok((_, duration)) = literal::iso_duration(input)
        && duration.len() >= length
    {
        return (Kind::Duration, duration.len());
    }
    if name == b"expr" && rest.first() == Some(&b'(') {
        return (Kind::ExprOpen, length + 1);
    }
    let kind = match keyword::lookup(name) {
        Some(keyword) => Kind::Keyword(keyword),
        None if name.eq_ignore_ascii_case(b"true") || name.eq_ignore_ascii_case(b"false") => {
            Kind::Boolean
        }
        None => Kind::Identifier,
    };
    (kind, length)
}

/// Digits, with or without a minus before them.
fn number(input: &[u8]) -> Result<(Kind, usize), LexicalError> {
    let Ok((rest, digits)) = literal::integer(input) else {
        return Err(unexpected(0, None));
    };
    let length = digits.len();
    match rest.first() {
        Some(b'.' | b'e' | b'E' | b'-' | b'a'..=b'z' | b'A'..=b'Z' | 0xC2) => {}
        _ => return Ok((Kind::Integer, length)),
    }
    if let Ok((_, uuid)) = literal::uuid(input) {
        return Ok((Kind::Uuid, uuid.len()));
    }
    if let Ok((_, hex)) = literal::blob(input) {
        return Ok((Kind::Hex, hex.len()));
    }
    if let Ok((_, duration)) = literal::duration(input) {
        return Ok((Kind::Duration, duration.len()));
    }
    if let Ok((_, fraction)) = literal::fraction(rest) {
        return Ok((Kind::Float, length + fraction.len()));
    }
    if matches!(rest.first(), Some(b'e' | b'E')) {
        return Err(unexpected(length + 1, None));
    }
    Ok((Kind::Integer, length))
}

/// What begins with a minus and is no comment.
fn minus(input: &[u8]) -> (Kind, usize) {
    let tail = input.get(1..).unwrap_or_default();
    match tail.first() {
        Some(b'=') => return (Kind::MinusEq, 2),
        Some(b'0'..=b'9') => {
            return match number(input) {
                Ok(found) => found,
                Err(_) => (Kind::Sign(b'-'), 1),
            };
        }
        Some(b'P') => {
            if let Ok((_, duration)) = literal::iso_duration(input) {
                return (Kind::Duration, duration.len());
            }
        }
        _ => {}
    }
    match literal::identifier(tail) {
        Ok((_, name)) if name.eq_ignore_ascii_case(b"nan") => (Kind::NegativeNan, 4),
        Ok((_, name)) if name.eq_ignore_ascii_case(b"infinity") => (Kind::NegativeInfinity, 9),
        _ => (Kind::Sign(b'-'), 1),
    }
}

#[cfg(test)]
mod tests;
