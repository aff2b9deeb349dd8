//! Patterns of policies: `*` stands for any characters, `?` for one.

/// One piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    AnyOne,
    Any,
}

/// A pattern, or a plain text when nothing in it is a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    is_case_blind: bool,
}

impl Pattern {
    /// `*` and `?` are wildcards. With `has_variables` (policies of version 2012-10-17) `${*}`,
    /// `${?}` and `${$}` stand for the characters themselves; the error is any other variable.
    pub(super) fn parse(text: &str, has_variables: bool) -> Result<Self, String> {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if has_variables && rest.starts_with("${") {
                let end = rest.find('}').ok_or_else(|| rest.to_owned())?;
                let (variable, after) = rest.split_at(end.saturating_add(1));
                pieces.push(Piece::Char(match variable {
                    "${*}" => '*',
                    "${?}" => '?',
                    "${$}" => '$',
                    other => return Err(other.to_owned()),
                }));
                rest = after;
                continue;
            }
            // stars in a row mean what one does, and cost nothing
            match character {
                '*' if pieces.last() == Some(&Piece::Any) => {}
                '*' => pieces.push(Piece::Any),
                '?' => pieces.push(Piece::AnyOne),
                other => pieces.push(Piece::Char(other)),
            }
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
        }
        Ok(Self { pieces, is_case_blind: false })
    }

    /// The same pattern, blind to upper and lower case.
    pub(super) fn case_blind(mut self) -> Self {
        self.is_case_blind = true;
        self
    }

    /// Whether the whole of `text` matches. Time is at most the product of both lengths.
    pub(super) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut piece, mut at) = (0_usize, 0_usize);
        // where to go on when the last star has to take one character more
        let mut star: Option<(usize, usize)> = None;
        loop {
            let step = match (self.pieces.get(piece), text.get(at)) {
                (None, None) => return true,
                (Some(Piece::Any), _) => {
                    star = Some((piece, at));
                    piece = piece.saturating_add(1);
                    continue;
                }
                (Some(Piece::AnyOne), Some(_)) => true,
                (Some(Piece::Char(expected)), Some(found)) => self.is_same(*expected, *found),
                _ => false,
            };
            if step {
                piece = piece.saturating_add(1);
                at = at.saturating_add(1);
                continue;
            }
            let Some((star_piece, star_at)) = star else {
                return false;
            };
            if star_at >= text.len() {
                return false;
            }
            at = star_at.saturating_add(1);
            star = Some((star_piece, at));
            piece = star_piece.saturating_add(1);
        }
    }

    fn is_same(&self, left: char, right: char) -> bool {
        left == right || (self.is_case_blind && left.to_lowercase().eq(right.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern, true).unwrap().matches(text)
    }

    #[test]
    fn stars_and_question_marks_match_as_in_policies() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "kms:Decrypt"),
            ("kms:ReEncrypt*", "kms:ReEncryptFrom"),
            ("kms:ReEncrypt*", "kms:ReEncrypt"),
            ("cassandra.*.amazonaws.com", "cassandra.us-east-1.amazonaws.com"),
            ("a*b*c", "a-b-b-c"),
            ("a?c", "abc"),
            ("a**c", "ac"),
            ("*a?", "xaab"),
            ("${*}${?}${$}", "*?$"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("kms:ReEncrypt*", "kms:ReEncryp"),
            ("a?c", "ac"),
            ("a*b", "abc"),
            ("${*}", "x"),
            ("A", "a"),
            ("a?", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(Pattern::parse("KMS:dec*", false).unwrap().case_blind().matches("kms:Decrypt"));
    }

    #[test]
    fn other_variables_are_refused_and_old_policies_have_none() {
        assert_eq!(Pattern::parse("a${aws:username}b", true), Err("${aws:username}".to_owned()));
        assert_eq!(Pattern::parse("a${b", true), Err("${b".to_owned()));
        assert!(Pattern::parse("${aws:username}", false).unwrap().matches("${aws:username}"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_quick() {
        let pattern = Pattern::parse(&"*a".repeat(2_000), true).unwrap();
        assert!(!pattern.matches(&"a".repeat(1_999)));
        assert!(pattern.matches(&"ba".repeat(2_000)));
    }
}
