//! Syntax errors: they read as Cassandra's do, so that people and tools find what they know.

use std::borrow::Cow;
use std::fmt::Write as _;

use thiserror::Error;

use crate::depth::MAXIMUM_DEPTH;
use crate::lexer::{Kind, Lexeme, LexicalError};
use crate::parser::unquote;

/// The text is not CQL; answered with error class 0x2000.
///
/// The message starts with `line L:C` (lines from 1, columns from 0, in characters; `line 0:-1` at the end of the input)
/// and quotes the statement around the place: it belongs in the answer to its client and in no log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct SyntaxError {
    message: String,
}

/// How a rule failed; positions count lexemes.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing that could begin at `decision` goes on with what is `at`.
    NoViable { decision: usize, at: usize },
    /// Something else had to be here.
    Mismatched { at: usize, expecting: Cow<'static, str> },
    /// The grammar holds but not its side conditions; the message has no place.
    Message { at: usize, message: String },
    /// Nested deeper than [`MAXIMUM_DEPTH`].
    TooDeep { at: usize },
}

impl Failure {
    pub(crate) fn is_too_deep(&self) -> bool {
        matches!(self, Self::TooDeep { .. })
    }
}

/// How many pieces of text (lexemes and blanks) a message quotes before and after the place.
const QUOTED_BEFORE: usize = 10;
const QUOTED_AFTER: usize = 2;

/// In bytes.
const LONGEST_MESSAGE: usize = 4096;

impl SyntaxError {
    /// The message for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn too_long() -> Self {
        Self { message: "line 1:0 statement too long".to_owned() }
    }

    /// `looked_at`: the last lexeme that was looked at before the failure.
    pub(crate) fn new(
        text: &str,
        lexemes: &[Lexeme],
        lexical: Option<&LexicalError>,
        failure: &Failure,
        looked_at: usize,
    ) -> Self {
        let (decision, at) = match failure {
            Failure::NoViable { decision, at } => (*decision, *at),
            Failure::Mismatched { at, .. }
            | Failure::Message { at, .. }
            | Failure::TooDeep { at } => (*at, *at),
        };
        let looked_at = looked_at.max(at);
        if let Some(lexical) = lexical
            && lexemes
                .get(..=looked_at.min(lexemes.len().saturating_sub(1)))
                .unwrap_or(lexemes)
                .iter()
                .any(is_invalid)
        {
            return Self { message: shortened(lexical_message(text, lexical)) };
        }
        let problem = match failure {
            Failure::Message { message, .. } => {
                return Self { message: shortened(message.clone()) };
            }
            Failure::NoViable { .. } => "no viable alternative at input".to_owned(),
            Failure::Mismatched { .. } => "mismatched input".to_owned(),
            Failure::TooDeep { .. } => {
                format!("nested deeper than {MAXIMUM_DEPTH} levels at input")
            }
        };
        let mut message = match lexemes.get(at) {
            Some(lexeme) if lexeme.kind != Kind::End => {
                let (line, column) = place(text, lexeme.start as usize);
                format!(
                    "line {line}:{column} {problem} '{}'",
                    unquote(lexeme.kind, raw(text, *lexeme))
                )
            }
            _ => format!("line 0:-1 {problem} '<EOF>'"),
        };
        if let Failure::Mismatched { expecting, .. } = failure {
            let _ = write!(message, " expecting {expecting}");
        }
        if let Some(snippet) = snippet(text, lexemes, decision, looked_at) {
            message.push_str(&snippet);
        }
        Self { message: shortened(message) }
    }
}

fn is_invalid(lexeme: &Lexeme) -> bool {
    lexeme.kind == Kind::Invalid
}

fn raw(text: &str, lexeme: Lexeme) -> &str {
    text.get(lexeme.start as usize..lexeme.end as usize).unwrap_or_default()
}

fn lexical_message(text: &str, error: &LexicalError) -> String {
    let (line, column) = place(text, error.at);
    let character = match text.get(error.at..).and_then(|rest| rest.chars().next()) {
        Some('\n') => "\\n".to_owned(),
        Some('\r') => "\\r".to_owned(),
        Some('\t') => "\\t".to_owned(),
        Some(character) => character.to_string(),
        None => "<EOF>".to_owned(),
    };
    match error.expecting {
        Some(expecting) => {
            format!("line {line}:{column} mismatched character '{character}' expecting {expecting}")
        }
        None => format!("line {line}:{column} no viable alternative at character '{character}'"),
    }
}

/// Line from 1, column from 0 in characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before.get(line_start..).map_or(0, |line| line.chars().count()))
}

/// A lexeme or the blank between two of them.
#[derive(Clone, Copy)]
struct Piece {
    /// Byte offset.
    start: usize,
    /// Characters of its text without quotes: what Cassandra counts.
    length: usize,
}

impl Piece {
    /// Byte offset after `length` characters, or where the line ends before.
    fn end(self, text: &str) -> usize {
        let rest = text.get(self.start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        self.start + line.char_indices().nth(self.length).map_or(line.len(), |(offset, _)| offset)
    }
}

/// The statement around the place, with the lexeme where the decision was made in brackets: ` (SELECT [a] b...)`.
/// Nothing if the end of the input would be part of it.
fn snippet(text: &str, lexemes: &[Lexeme], decision: usize, looked_at: usize) -> Option<String> {
    let (pieces, offending) = pieces(text, lexemes, decision, looked_at)?;
    let from = (*pieces.get(offending.saturating_sub(QUOTED_BEFORE))?)?;
    let to = (*pieces.get((offending + QUOTED_AFTER).min(pieces.len().saturating_sub(1)))?)?;
    let offending = (*pieces.get(offending)?)?;

    let to_end = to.end(text);
    let offending_end = offending.end(text).min(to_end);
    let cut = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().replace('\n', "");
    let before = if from.start == 0 { "" } else { "..." };
    let after = if text.get(to_end..)?.trim_end_matches('\n').is_empty() { "" } else { "..." };
    Some(format!(
        " ({before}{}[{}]{}{after})",
        cut(from.start..offending.start),
        cut(offending.start..offending_end),
        cut(offending_end..to_end)
    ))
}

/// The pieces around the lexeme of the decision (the end of the input is a piece without a place), and which of them is
/// the lexeme.
fn pieces(
    text: &str,
    lexemes: &[Lexeme],
    decision: usize,
    looked_at: usize,
) -> Option<(Vec<Option<Piece>>, usize)> {
    let first = decision.saturating_sub(QUOTED_BEFORE);
    let mut offset = first
        .checked_sub(1)
        .and_then(|index| lexemes.get(index))
        .map_or(0, |lexeme| lexeme.end as usize);
    let mut pieces = Vec::new();
    let mut offending = None;
    for (index, lexeme) in lexemes.iter().enumerate().take(looked_at + 1).skip(first) {
        let start = lexeme.start as usize;
        let mut gap = text.get(offset..start)?;
        while !gap.is_empty() {
            let (piece, rest) = gap.split_at(blank_length(gap));
            pieces.push(Some(Piece { start: start - gap.len(), length: piece.chars().count() }));
            gap = rest;
        }
        if index == decision {
            offending = Some(pieces.len());
        }
        offset = lexeme.end as usize;
        if lexeme.kind == Kind::End {
            pieces.push(None);
            break;
        }
        let length = match lexeme.kind {
            Kind::EmptyQuotedName => 2,
            kind => unquote(kind, raw(text, *lexeme)).chars().count(),
        };
        pieces.push(Some(Piece { start, length }));
        if offending.is_some_and(|offending| pieces.len() > offending + QUOTED_AFTER) {
            break;
        }
    }
    Some((pieces, offending?))
}

/// How much of a gap between lexemes is one piece: a run of white space, or one comment.
fn blank_length(gap: &str) -> usize {
    let white = gap.len() - gap.trim_start_matches([' ', '\t', '\n', '\r']).len();
    if white > 0 {
        return white;
    }
    let length = if gap.starts_with("/*") {
        gap.find("*/").map(|end| end + 2)
    } else {
        gap.find(['\n', '\r']).map(|end| end + 1)
    };
    length.unwrap_or(gap.len())
}

/// No longer than [`LONGEST_MESSAGE`], so that a message fits its frame whatever it quotes.
fn shortened(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let end = message.floor_char_boundary(LONGEST_MESSAGE);
        message.truncate(end);
        message.push_str("...");
    }
    message
}
