//! Bound values of the primary key: partition keys, and slices of clustering bytes.

use std::borrow::Cow;

use bytes::Bytes;
use coffer_model::{Column, ColumnKind, ordered_bytes, partition_key};
use cql_types::{collection, compare};

use crate::bind::{Evaluation, Value};
use crate::error::{Error, Result};
use crate::plan::restrictions::{Bound, Choice, ClusteringRestriction, TupleChoice, TupleTerm};
use crate::plan::term::Term;

/// Most combinations of values that the INs of one statement may make.
const COMBINATIONS_MAX: usize = 65_536;

/// A half-open range of clustering bytes; an empty end has no bound.
pub(crate) type Slice = (Vec<u8>, Vec<u8>);

fn not_a_value(value: &Value<'_>, name: &str) -> Error {
    Error::invalid(match value {
        Value::Unset => format!("Invalid unset value for column {name}"),
        _ => format!("Invalid null value in condition for column {name}"),
    })
}

/// The value of one key column.
pub(crate) fn key_value<'a>(
    term: &'a Term,
    column: &Column,
    evaluation: &Evaluation<'a>,
) -> Result<Cow<'a, [u8]>> {
    match term.evaluate(evaluation)? {
        Value::Bytes(bytes) => Ok(bytes),
        other => Err(not_a_value(&other, &column.name)),
    }
}

/// The values of a column: sorted, without doubles.
pub(crate) fn choice_values(
    choice: &Choice,
    column: &Column,
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Bytes>> {
    let own = |bytes: Cow<'_, [u8]>| Bytes::from(bytes.into_owned());
    let mut values = match choice {
        Choice::One(term) => vec![own(key_value(term, column, evaluation)?)],
        Choice::Many(terms) => terms
            .iter()
            .map(|term| key_value(term, column, evaluation).map(own))
            .collect::<Result<Vec<_>>>()?,
        Choice::Bound(term) => {
            let list = key_value(term, column, evaluation)?;
            let mut values = Vec::new();
            for item in
                collection::elements(&list).map_err(|error| Error::invalid(error.to_string()))?
            {
                match item {
                    Ok(Some(bytes)) => values.push(Bytes::copy_from_slice(bytes)),
                    _ => return Err(not_a_value(&Value::Null, &column.name)),
                }
            }
            values
        }
    };
    if values.len() > COMBINATIONS_MAX {
        return Err(too_many());
    }
    let ty = column.ty.unfrozen();
    values.sort_by(|left, right| compare(ty, left, right));
    values.dedup();
    Ok(values)
}

fn too_many() -> Error {
    Error::invalid(format!("IN restrictions make more than {COMBINATIONS_MAX} combinations"))
}

fn key_error(error: &coffer_model::Error) -> Error {
    match error {
        coffer_model::Error::KeyTooLong { length, .. } => {
            Error::invalid(format!("Key length of {length} is longer than maximum of 65535"))
        }
        other => Error::invalid(other.to_string()),
    }
}

fn encode_key(components: &[Cow<'_, [u8]>]) -> Result<Bytes> {
    if let [only] = components
        && only.is_empty()
    {
        return Err(Error::invalid("Key may not be empty"));
    }
    partition_key::encode(components).map_err(|error| key_error(&error))
}

/// The partition keys that the choices make, in order of their values.
pub(crate) fn partition_keys(
    choices: &[Choice],
    columns: &[Column],
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Bytes>> {
    if choices.iter().all(|choice| matches!(choice, Choice::One(_))) {
        return Ok(vec![partition_key(choices, columns, evaluation)?]);
    }
    let mut combinations: Vec<Vec<Cow<'_, [u8]>>> = vec![Vec::new()];
    for (choice, column) in choices.iter().zip(columns) {
        let values = choice_values(choice, column, evaluation)?;
        if combinations.len().saturating_mul(values.len()) > COMBINATIONS_MAX {
            return Err(too_many());
        }
        combinations = combinations
            .iter()
            .flat_map(|known| {
                values.iter().map(|value| {
                    let mut longer = known.clone();
                    longer.push(Cow::Owned(value.to_vec()));
                    longer
                })
            })
            .collect();
    }
    combinations.iter().map(|components| encode_key(components)).collect()
}

/// The partition key when each component has one value.
pub(crate) fn partition_key(
    choices: &[Choice],
    columns: &[Column],
    evaluation: &Evaluation<'_>,
) -> Result<Bytes> {
    if let ([Choice::One(term)], [column]) = (choices, columns) {
        return encode_key(&[key_value(term, column, evaluation)?]);
    }
    let mut components = Vec::with_capacity(choices.len());
    for (choice, column) in choices.iter().zip(columns) {
        let Choice::One(term) = choice else {
            return Err(Error::Server("a partition key has several values".to_owned()));
        };
        components.push(key_value(term, column, evaluation)?);
    }
    encode_key(&components)
}

/// Appends a clustering value.
pub(crate) fn push_clustering(column: &Column, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let ColumnKind::Clustering { reversed, .. } = column.kind else {
        return Err(Error::Server("not a clustering column".to_owned()));
    };
    if value.len() > usize::from(u16::MAX) {
        return Err(Error::invalid(format!(
            "Key length of {} is longer than maximum of 65535",
            value.len()
        )));
    }
    ordered_bytes::encode(&column.ty, reversed, value, out)
        .map_err(|error| Error::invalid(error.to_string()))
}

fn is_reversed(column: &Column) -> bool {
    matches!(column.kind, ColumnKind::Clustering { reversed: true, .. })
}

fn tuple_values(
    value: &TupleTerm,
    columns: &[Column],
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Vec<u8>>> {
    match value {
        TupleTerm::Terms(terms) => terms
            .iter()
            .zip(columns)
            .map(|(term, column)| key_value(term, column, evaluation).map(Cow::into_owned))
            .collect(),
        TupleTerm::Bound(term) => match term.evaluate(evaluation)? {
            Value::Bytes(bytes) => tuple_fields(&bytes, columns),
            _ => Err(Error::invalid("Invalid null value for a multi-column restriction")),
        },
    }
}

fn tuple_fields(bytes: &[u8], columns: &[Column]) -> Result<Vec<Vec<u8>>> {
    let mut values = Vec::new();
    for (field, column) in collection::fields(bytes).zip(columns) {
        match field {
            Ok(Some(field)) => values.push(field.to_vec()),
            _ => {
                return Err(Error::invalid(format!(
                    "Invalid null value for column {}",
                    column.name
                )));
            }
        }
    }
    Ok(values)
}

fn tuples(
    choice: &TupleChoice,
    columns: &[Column],
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Vec<Vec<u8>>>> {
    match choice {
        TupleChoice::Many(values) => {
            values.iter().map(|value| tuple_values(value, columns, evaluation)).collect()
        }
        TupleChoice::Bound(term) => {
            let Value::Bytes(list) = term.evaluate(evaluation)? else {
                return Err(Error::invalid("Invalid null value for IN restriction"));
            };
            collection::elements(&list)
                .map_err(|error| Error::invalid(error.to_string()))?
                .map(|item| match item {
                    Ok(Some(bytes)) => tuple_fields(bytes, columns),
                    _ => Err(Error::invalid("Invalid null value in condition for columns")),
                })
                .collect()
        }
    }
}

/// The slices of clustering bytes that the restrictions make: ascending and disjoint.
pub(crate) fn slices(
    restrictions: &[ClusteringRestriction],
    columns: &[Column],
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Slice>> {
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = columns;
    for restriction in restrictions {
        let additions: Vec<Vec<u8>> = match restriction {
            ClusteringRestriction::Column(choice) => {
                let Some((column, after)) = rest.split_first() else { break };
                rest = after;
                let mut additions = Vec::new();
                for value in choice_values(choice, column, evaluation)? {
                    let mut bytes = Vec::new();
                    push_clustering(column, &value, &mut bytes)?;
                    additions.push(bytes);
                }
                additions
            }
            ClusteringRestriction::Columns(choice, count) => {
                let (own, after) = rest.split_at(rest.len().min(*count));
                rest = after;
                let mut additions = Vec::new();
                for tuple in tuples(choice, own, evaluation)? {
                    let mut bytes = Vec::new();
                    for (value, column) in tuple.iter().zip(own) {
                        push_clustering(column, value, &mut bytes)?;
                    }
                    additions.push(bytes);
                }
                additions
            }
            ClusteringRestriction::Slice { lower, upper } => {
                let mut out = Vec::new();
                for prefix in prefixes {
                    out.extend(bounded(
                        &prefix,
                        rest,
                        (lower.as_ref(), upper.as_ref()),
                        evaluation,
                    )?);
                }
                out.sort();
                return Ok(out);
            }
        };
        if prefixes.len().saturating_mul(additions.len()) > COMBINATIONS_MAX {
            return Err(too_many());
        }
        prefixes = prefixes
            .iter()
            .flat_map(|prefix| additions.iter().map(|more| [&prefix[..], &more[..]].concat()))
            .collect();
    }
    prefixes.sort();
    prefixes.dedup();
    Ok(prefixes.into_iter().map(|prefix| (prefix.clone(), after(&prefix))).collect())
}

/// Whether a row is in one of some ascending, disjoint slices.
pub(crate) fn is_inside(slices: &[Slice], clustering: &[u8]) -> bool {
    let begun = slices.partition_point(|(start, _)| start.as_slice() <= clustering);
    let last = begun.checked_sub(1).and_then(|place| slices.get(place));
    last.is_some_and(|(_, end)| end.is_empty() || clustering < end.as_slice())
}

/// The bound after all rows that begin with a prefix.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    if prefix.is_empty() { Vec::new() } else { [prefix, &[0xff]].concat() }
}

/// The slices of a prefix between two bounds of the next columns.
fn bounded(
    prefix: &[u8],
    columns: &[Column],
    (lower, upper): (Option<&Bound>, Option<&Bound>),
    evaluation: &Evaluation<'_>,
) -> Result<Vec<Slice>> {
    let whole = vec![(prefix.to_vec(), after(prefix))];
    let side = |bound: Option<&Bound>, above: bool| match bound {
        Some(bound) => {
            let values = tuple_values(&bound.value, columns, evaluation)?;
            one_side(prefix, columns, &values, bound.inclusive, above)
        }
        None => Ok(whole.clone()),
    };
    let (lower, upper) = (side(lower, true)?, side(upper, false)?);
    Ok(intersect(&lower, &upper))
}

/// The slices of rows above (or below) a tuple: for each column those equal before it and beyond
/// at it, which is one slice when all columns have one direction.
fn one_side(
    prefix: &[u8],
    columns: &[Column],
    values: &[Vec<u8>],
    inclusive: bool,
    above: bool,
) -> Result<Vec<Slice>> {
    let mut out = Vec::new();
    let mut equal = prefix.to_vec();
    for (value, column) in values.iter().zip(columns) {
        let outer = equal.clone();
        push_clustering(column, value, &mut equal)?;
        // Beyond in value is behind in bytes, unless the column is stored in descending order.
        if above != is_reversed(column) {
            out.push((after(&equal), after(&outer)));
        } else {
            out.push((outer, equal.clone()));
        }
    }
    if inclusive {
        out.push((equal.clone(), after(&equal)));
    }
    out.sort();
    Ok(join(out))
}

/// Joins slices that touch.
fn join(slices: Vec<Slice>) -> Vec<Slice> {
    let mut out: Vec<Slice> = Vec::with_capacity(slices.len());
    for (start, end) in slices {
        match out.last_mut() {
            Some(last) if last.1 == start && !start.is_empty() => last.1 = end,
            _ => out.push((start, end)),
        }
    }
    out
}

fn intersect(left: &[Slice], right: &[Slice]) -> Vec<Slice> {
    let mut out = Vec::new();
    for (left_start, left_end) in left {
        for (right_start, right_end) in right {
            let start = left_start.max(right_start);
            let end = match (left_end.is_empty(), right_end.is_empty()) {
                (true, _) => right_end,
                (_, true) => left_end,
                _ => left_end.min(right_end),
            };
            if end.is_empty() || start < end {
                out.push((start.clone(), end.clone()));
            }
        }
    }
    out
}
