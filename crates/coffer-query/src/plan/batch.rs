//! BATCH as a statement.

use cql_parser::ast::{Batch, BatchKind, Modification, Term as Parsed};
use cql_types::CqlType;

use super::modification::ModificationPlan;
use super::term::{self, Receiver, Term, TermContext};
use crate::error::{Error, Result};

/// A planned batch. Logged and unlogged ones are the same here: both are one log record.
#[derive(Debug)]
pub(crate) struct BatchPlan {
    pub(crate) timestamp: Option<Term>,
    pub(crate) modifications: Vec<ModificationPlan>,
}

/// Checks what concerns the batch as a whole.
pub(crate) fn check(batch: &Batch) -> Result<()> {
    if batch.using.ttl.is_some() {
        return Err(Error::invalid("Global TTL on the BATCH statement is not supported."));
    }
    if batch.kind == BatchKind::Counter {
        return Err(if batch.statements.is_empty() {
            Error::invalid("counters are not yet supported (counter batch)")
        } else {
            Error::invalid("Cannot include non-counter statement in a counter batch")
        });
    }
    let has_own_timestamp = batch.statements.iter().any(|statement| match statement {
        Modification::Insert(insert) => insert.using.timestamp.is_some(),
        Modification::Update(update) => update.using.timestamp.is_some(),
        Modification::Delete(delete) => delete.timestamp.is_some(),
    });
    if batch.using.timestamp.is_some() && has_own_timestamp {
        return Err(Error::invalid(
            "Timestamp must be set either on BATCH or individual statements",
        ));
    }
    Ok(())
}

/// Prepares `USING TIMESTAMP` of a batch.
pub(crate) fn timestamp(context: &mut TermContext<'_>, term: &Parsed) -> Result<Term> {
    term::prepare(context, term, &Receiver::new("[timestamp]", &CqlType::BigInt))
}
