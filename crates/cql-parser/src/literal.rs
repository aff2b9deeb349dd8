//! Recognisers of the lexemes that are more than one sign: each takes the text from its first byte on and leaves the rest.

use nom::branch::alt;
use nom::bytes::complete::{
    is_not, tag, tag_no_case, take_until, take_while, take_while_m_n, take_while1,
};
use nom::character::complete::{char, digit0, digit1, one_of};
use nom::combinator::{opt, recognize};
use nom::multi::{many0_count, many1_count};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

type Recognised<'a> = IResult<&'a [u8], &'a [u8]>;

fn hex(least: usize, most: usize) -> impl FnMut(&[u8]) -> IResult<&[u8], &[u8]> {
    move |input| take_while_m_n(least, most, |b: u8| b.is_ascii_hexdigit()).parse(input)
}

/// White space and comments; a line comment may also end with the text.
pub(crate) fn blank(input: &[u8]) -> Recognised<'_> {
    recognize(many0_count(alt((
        take_while1(|b: u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r')),
        comment,
    ))))
    .parse(input)
}

fn comment(input: &[u8]) -> Recognised<'_> {
    alt((
        recognize((alt((tag("--"), tag("//"))), opt(is_not("\r\n")))),
        recognize((tag("/*"), take_until("*/"), tag("*/"))),
    ))
    .parse(input)
}

/// A letter, then letters, digits and underscores.
pub(crate) fn identifier(input: &[u8]) -> Recognised<'_> {
    recognize((
        take_while_m_n(1, 1, |b: u8| b.is_ascii_alphabetic()),
        take_while(|b: u8| b.is_ascii_alphanumeric() || b == b'_'),
    ))
    .parse(input)
}

/// `550e8400-e29b-41d4-a716-446655440000`
pub(crate) fn uuid(input: &[u8]) -> Recognised<'_> {
    recognize((
        hex(8, 8),
        char('-'),
        hex(4, 4),
        char('-'),
        hex(4, 4),
        char('-'),
        hex(4, 4),
        char('-'),
        hex(12, 12),
    ))
    .parse(input)
}

/// `0xCAFE`
pub(crate) fn blob(input: &[u8]) -> Recognised<'_> {
    recognize((tag_no_case("0x"), take_while(|b: u8| b.is_ascii_hexdigit()))).parse(input)
}

/// `12`
pub(crate) fn integer(input: &[u8]) -> Recognised<'_> {
    recognize((opt(char('-')), digit1)).parse(input)
}

/// What follows an integer's digits in a float: `.5`, `.`, `e10`, `.5e-3`. Two dots are a range, which is none.
pub(crate) fn fraction(input: &[u8]) -> Recognised<'_> {
    if input.starts_with(b"..") && !input.starts_with(b"...") {
        return exponent(input);
    }
    alt((recognize((char('.'), digit0, opt(exponent))), exponent)).parse(input)
}

fn exponent(input: &[u8]) -> Recognised<'_> {
    recognize((one_of("eE"), opt(one_of("+-")), digit1)).parse(input)
}

/// `1y2mo3w4d5h6m7s8ms9us10ns` in any order
pub(crate) fn duration(input: &[u8]) -> Recognised<'_> {
    recognize((opt(char('-')), many1_count((digit1, duration_unit)))).parse(input)
}

fn duration_unit(input: &[u8]) -> Recognised<'_> {
    alt((
        tag_no_case("mo"),
        tag_no_case("ms"),
        tag_no_case("us"),
        tag("µs"),
        tag("µS"),
        tag_no_case("ns"),
        recognize(one_of("yYwWdDhHmMsS")),
    ))
    .parse(input)
}

/// The forms of ISO 8601: `P1Y2M3DT4H5M6S`, `P3W` and `P0001-02-03T04:05:06`
pub(crate) fn iso_duration(input: &[u8]) -> Recognised<'_> {
    recognize((opt(char('-')), char('P'), alt((iso_alternative, iso_weeks, iso_designators))))
        .parse(input)
}

fn iso_alternative(input: &[u8]) -> Recognised<'_> {
    let digits = |count| take_while_m_n(count, count, |b: u8| b.is_ascii_digit());
    recognize((
        (digits(4), char('-'), digits(2), char('-'), digits(2), char('T')),
        (digits(2), char(':'), digits(2), char(':'), digits(2)),
    ))
    .parse(input)
}

fn iso_weeks(input: &[u8]) -> Recognised<'_> {
    terminated(digit1, char('W')).parse(input)
}

fn iso_designators(input: &[u8]) -> Recognised<'_> {
    let part = |designator| opt((digit1, char(designator)));
    let (rest, date) = recognize((part('Y'), part('M'), part('D'))).parse(input)?;
    let (rest, time) =
        opt(preceded(char('T'), recognize((part('H'), part('M'), part('S'))))).parse(rest)?;
    if (date.is_empty() && time.is_none()) || time.is_some_and(<[u8]>::is_empty) {
        return digit1(&[][..]);
    }
    Ok((rest, date))
}

/// `'it''s'`, with its quotes.
pub(crate) fn string(input: &[u8]) -> Recognised<'_> {
    quoted('\'', "'", input)
}

/// `"Name"`, with its quotes.
pub(crate) fn quoted_name(input: &[u8]) -> Recognised<'_> {
    quoted('"', "\"", input)
}

fn quoted<'a>(quote: char, text: &'static str, input: &'a [u8]) -> Recognised<'a> {
    let doubled = (char(quote), char(quote));
    recognize(delimited(
        char(quote),
        many0_count(alt((is_not(text), recognize(doubled)))),
        char(quote),
    ))
    .parse(input)
}

/// `$$anything$$`, with its dollars.
pub(crate) fn dollar_string(input: &[u8]) -> Recognised<'_> {
    recognize(delimited(tag("$$"), take_until("$$"), tag("$$"))).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(recogniser: fn(&[u8]) -> Recognised<'_>, text: &str) -> Option<String> {
        recogniser(text.as_bytes())
            .ok()
            .map(|(rest, _)| text.get(..text.len() - rest.len()).unwrap_or("?").to_owned())
    }

    #[test]
    fn durations_of_every_form_are_taken_whole() {
        for text in ["1d", "12h30m", "1mo", "89h4m48s", "1Y3MO", "-5ns", "3us", "3µs"] {
            assert_eq!(taken(duration, text).as_deref(), Some(text));
        }
        for text in ["P1Y", "P1Y2M3DT4H5M6S", "PT2H", "P3W", "P0001-02-03T04:05:06", "-P1D"] {
            assert_eq!(taken(iso_duration, text).as_deref(), Some(text));
        }
        for text in ["P", "PT", "P1DT", "P1X"] {
            assert_eq!(taken(iso_duration, text), None, "{text}");
        }
    }

    #[test]
    fn quotes_are_doubled_inside_quotes() {
        assert_eq!(taken(string, "'it''s' x").as_deref(), Some("'it''s'"));
        assert_eq!(taken(string, "'' x").as_deref(), Some("''"));
        assert_eq!(taken(string, "'open"), None);
        assert_eq!(taken(quoted_name, "\"a\"\"b\"").as_deref(), Some("\"a\"\"b\""));
        assert_eq!(taken(dollar_string, "$$ it's $ $$").as_deref(), Some("$$ it's $ $$"));
    }

    #[test]
    fn blanks_are_spaces_and_all_three_comments() {
        assert_eq!(
            taken(blank, " \t-- a\n// b\r\n/* c\n*/ x").as_deref(),
            Some(" \t-- a\n// b\r\n/* c\n*/ ")
        );
        assert_eq!(taken(blank, "/* open").as_deref(), Some(""));
        assert_eq!(taken(blank, "- x").as_deref(), Some(""));
    }

    #[test]
    fn a_range_is_no_fraction() {
        assert_eq!(taken(fraction, ".5e-3,").as_deref(), Some(".5e-3"));
        assert_eq!(taken(fraction, ".").as_deref(), Some("."));
        assert_eq!(taken(fraction, "..5"), None);
    }
}
