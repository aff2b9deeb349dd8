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
            Failure::Mismatched { at, .. } | Failure::Message { at, .. } | Failure::TooDeep { at } => (*at, *at),
        };
        let looked_at = looked_at.max(at);
        if let Some(lexical) = lexical
            && lexemes.get(..=looked_at.min(lexemes.len().saturating_sub(1))).unwrap_or(lexemes).iter().any(is_invalid)
        {
            return Self { message: lexical_message(text, lexical) };
        }
        let problem = match failure {
            Failure::Message { message, .. } => return Self { message: message.clone() },
            Failure::NoViable { .. } => "no viable alternative at input".to_owned(),
            Failure::Mismatched { .. } => "mismatched input".to_owned(),
            Failure::TooDeep { .. } => format!("nested deeper than {MAXIMUM_DEPTH} levels at input"),
        };
        let mut message = match lexemes.get(at) {
            Some(lexeme) if lexeme.kind != Kind::End => {
                let (line, column) = place(text, lexeme.start as usize);
                format!("line {line}:{column} {problem} '{}'", unquote(lexeme.kind, raw(text, *lexeme)))
            }
            _ => format!("line 0:-1 {problem} '<EOF>'"),
        };
        if let Failure::Mismatched { expecting, .. } = failure {
            let _ = write!(message, " expecting {expecting}");
        }
        if let Some(snippet) = snippet(text, lexemes, decision, looked_at) {
            message.push_str(&snippet);
        }
        Self { message }
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
        Some(expecting) => format!("line {line}:{column} mismatched character '{character}' expecting {expecting}"),
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
struct Piece {
    line: usize,
    column: usize,
    /// Of its text without quotes: what Cassandra counts.
    length: usize,
}

impl Piece {
    fn end(&self) -> usize {
        self.column + self.length
    }
}

/// The statement around the place, with the lexeme where the decision was made in brackets: ` (SELECT [a] b...)`.
/// Nothing if the end of the input would be part of it.
fn snippet(text: &str, lexemes: &[Lexeme], decision: usize, looked_at: usize) -> Option<String> {
    let (pieces, offending) = pieces(text, lexemes, decision, looked_at)?;
    let from = pieces.get(offending.saturating_sub(QUOTED_BEFORE))?;
    let to = pieces.get((offending + QUOTED_AFTER).min(pieces.len().saturating_sub(1)))?.as_ref()?;
    let (from, offending) = (from.as_ref()?, pieces.get(offending)?.as_ref()?);

    let mut lines: Vec<Vec<char>> = text.split('\n').map(|line| line.chars().collect()).collect();
    let from_start = from.line == 1 && from.column == 0;
    let to_end = to.line == lines.len() && lines.last().is_some_and(|line| line.len() == to.end());
    lines.get_mut(to.line - 1)?.truncate(to.end());
    let line = lines.get_mut(offending.line - 1)?;
    line.insert(offending.end().min(line.len()), ']');
    line.insert(offending.column.min(line.len()), '[');
    let line = lines.get_mut(from.line - 1)?;
    line.drain(..from.column.min(line.len()));

    let mut quoted = String::from(" (");
    if !from_start {
        quoted.push_str("...");
    }
    quoted.extend(lines.get(from.line - 1..to.line)?.iter().flatten());
    if !to_end {
        quoted.push_str("...");
    }
    quoted.push(')');
    Some(quoted)
}

/// The pieces up to the last one looked at (the end of the input is a piece without a place), and which of them is the
/// lexeme of the decision.
fn pieces(
    text: &str,
    lexemes: &[Lexeme],
    decision: usize,
    looked_at: usize,
) -> Option<(Vec<Option<Piece>>, usize)> {
    let mut pieces = Vec::new();
    let mut offending = None;
    let mut offset = 0;
    for (index, lexeme) in lexemes.iter().enumerate().take(looked_at + 1) {
        let start = lexeme.start as usize;
        let mut gap = text.get(offset..start)?;
        while !gap.is_empty() {
            let length = blank_length(gap);
            let (line, column) = place(text, start - gap.len());
            let (piece, rest) = gap.split_at(length);
            pieces.push(Some(Piece { line, column, length: piece.chars().count() }));
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
        let (line, column) = place(text, start);
        let length = match lexeme.kind {
            Kind::EmptyQuotedName => 2,
            kind => unquote(kind, raw(text, *lexeme)).chars().count(),
        };
        pieces.push(Some(Piece { line, column, length }));
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
