//! How much a SELECT asks for: row limits and ranges of tokens.

use coffer_model::Token;

use crate::bind::{Evaluation, Value};
use crate::error::{Error, Result};
use crate::plan::term::Term;

/// No LIMIT.
pub(super) const UNLIMITED: u32 = u32::MAX;

/// The value of a LIMIT.
pub(super) fn limit(term: Option<&Term>, evaluation: &Evaluation<'_>, what: &str) -> Result<u32> {
    let Some(term) = term else { return Ok(UNLIMITED) };
    match term.evaluate(evaluation)? {
        Value::Unset => Ok(UNLIMITED),
        Value::Null => Err(Error::invalid(format!("Invalid null value of {what}"))),
        Value::Bytes(bytes) => {
            let value = bytes.as_ref().try_into().map_or(0, i32::from_be_bytes);
            u32::try_from(value)
                .ok()
                .filter(|value| *value > 0)
                .ok_or_else(|| Error::invalid("LIMIT must be strictly positive"))
        }
    }
}

fn token_bound(
    bound: Option<&(Term, bool)>,
    evaluation: &Evaluation<'_>,
) -> Result<Option<(i64, bool)>> {
    let Some((term, inclusive)) = bound else { return Ok(None) };
    match term.evaluate(evaluation)? {
        Value::Bytes(bytes) => {
            let token = bytes.as_ref().try_into().map(i64::from_be_bytes);
            let token = token.map_err(|_| Error::invalid("Invalid null token value"))?;
            Ok(Some((token, *inclusive)))
        }
        _ => Err(Error::invalid("Invalid null token value")),
    }
}

/// First and last token of a restriction, both inclusive; `None` when nothing is between them.
pub(super) fn token_range(
    lower: Option<&(Term, bool)>,
    upper: Option<&(Term, bool)>,
    evaluation: &Evaluation<'_>,
) -> Result<Option<(Token, Token)>> {
    let first = match token_bound(lower, evaluation)? {
        None => Some(i64::MIN),
        Some((token, true)) => Some(token),
        Some((token, false)) => token.checked_add(1),
    };
    let last = match token_bound(upper, evaluation)? {
        // The smallest token as an upper bound stands for the end of the ring.
        None | Some((i64::MIN, _)) => Some(i64::MAX),
        Some((token, true)) => Some(token),
        Some((token, false)) => token.checked_sub(1),
    };
    Ok(first
        .zip(last)
        .filter(|(first, last)| first <= last)
        .map(|(first, last)| (Token(first), Token(last))))
}
