//! Batches: all mutations in one log record.

use cql_types::BoundValue;

use super::interrupt::Interrupt;
use super::write::{self, Moment};
use crate::bind::{self, Evaluation};
use crate::database::{BatchKind, BatchRequest, Database, QueryParameters, Step};
use crate::error::{Error, Result};
use crate::plan::batch::BatchPlan;
use crate::prepare::Plan;

/// Most statements of one batch.
const STATEMENTS_MAX: usize = 65_535;

/// Executes a batch that is one statement.
pub(crate) fn execute_batch_statement(
    plan: &BatchPlan,
    evaluation: &Evaluation<'_>,
    parameters: &QueryParameters<'_>,
) -> Result<Step, Interrupt> {
    let given = write::timestamp(plan.timestamp.as_ref(), evaluation)?;
    let moment = Moment::new(evaluation.database, given.or(parameters.default_timestamp))?;
    let mut mutations = Vec::with_capacity(plan.modifications.len());
    for modification in &plan.modifications {
        write::add_mutations(modification, evaluation, moment, &mut mutations)?;
    }
    write::commit(evaluation.database, &mutations)
}

/// Executes a protocol BATCH.
pub(crate) fn execute_batch(database: &Database, request: &BatchRequest<'_>) -> Result<Step> {
    run(database, request).or_else(Interrupt::into_step)
}

fn run(database: &Database, request: &BatchRequest<'_>) -> Result<Step, Interrupt> {
    if request.kind == BatchKind::Counter {
        return Err(
            Error::invalid("Cannot include non-counter statement in a counter batch").into()
        );
    }
    if request.items.len() > STATEMENTS_MAX {
        return Err(
            Error::invalid(format!("Batch has more than {STATEMENTS_MAX} statements")).into()
        );
    }
    super::check_write_consistency(request.consistency)?;
    let moment = Moment::new(database, request.default_timestamp)?;
    let mut mutations = Vec::with_capacity(request.items.len());
    for item in request.items {
        super::check_current(database, &item.prepared)?;
        super::check_authorized(database, &item.prepared, request.role)?;
        let Plan::Modification(plan) = &item.prepared.plan else {
            return Err(Error::invalid(
                "Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed.",
            )
            .into());
        };
        let values: &[BoundValue] = &item.values;
        bind::check_count(values, &item.prepared.bind)?;
        let evaluation = Evaluation { database, values };
        write::add_mutations(plan, &evaluation, moment, &mut mutations)?;
    }
    write::commit(database, &mutations)
}
