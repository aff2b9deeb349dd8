//! INSERT, UPDATE, DELETE: values to mutations.

pub(crate) mod cells;
mod operation;

use bytes::Bytes;
use coffer_model::{
    DeletionTime, Expiry, Liveness, Mutation, MutationBuilder, PartitionTombstones, RangeTombstone,
    RowBuilder, Token, WriteTimestamp,
};

use super::interrupt::Interrupt;
use super::keys;
use crate::bind::{Evaluation, Value};
use crate::database::{Database, OutcomeKind, QueryParameters, Step};
use crate::error::{Error, Result};
use crate::plan::modification::{ModificationPlan, Rows};
use crate::plan::restrictions::{Choice, ClusteringRestriction};
use crate::plan::term::Term;
use crate::table_source::TableSource;
use operation::Row;

/// Longest time to live, in seconds (20 years).
const TTL_MAX: i32 = 630_720_000;

/// The moment of a write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Timestamp of cells that the statement gives none.
    pub(crate) timestamp: i64,
    /// Seconds of the wall clock.
    pub(crate) now: u32,
}

/// Times of one statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) timestamp: WriteTimestamp,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) now: u32,
}

impl Times {
    pub(crate) fn deletion(&self) -> DeletionTime {
        DeletionTime { marked_at: self.timestamp, local_deletion_time: self.now }
    }
}

/// Executes one modification.
pub(crate) fn execute_modification(
    plan: &ModificationPlan,
    evaluation: &Evaluation<'_>,
    parameters: &QueryParameters<'_>,
) -> Result<Step, Interrupt> {
    let moment = Moment::new(evaluation.database, parameters.default_timestamp)?;
    let mut mutations = Vec::with_capacity(1);
    add_mutations(plan, evaluation, moment, &mut mutations)?;
    commit(evaluation.database, &mutations)
}

/// Hands mutations to the engine.
pub(crate) fn commit(database: &Database, mutations: &[Mutation]) -> Result<Step, Interrupt> {
    if mutations.is_empty() {
        return Ok(Step::Done(OutcomeKind::Void.into()));
    }
    let lsn = database.engine().append(mutations)?;
    Ok(Step::Commit { lsn, outcome: OutcomeKind::Void.into() })
}

impl Moment {
    /// Now, unless the client gave a timestamp.
    pub(crate) fn new(database: &Database, given: Option<i64>) -> Result<Moment> {
        if let Some(timestamp) = given {
            check_timestamp(timestamp)?;
        }
        let timestamp = given.unwrap_or_else(|| database.next_timestamp());
        Ok(Moment { timestamp, now: database.now_seconds() })
    }
}

/// Refuses the one timestamp that stands for none.
pub(crate) fn check_timestamp(timestamp: i64) -> Result<i64> {
    if timestamp == i64::MIN {
        return Err(Error::invalid(format!(
            "Out of bound timestamp, must be in [{}, {}]",
            i64::MIN + 1,
            i64::MAX
        )));
    }
    Ok(timestamp)
}

/// The value of `USING TIMESTAMP`.
pub(crate) fn timestamp(term: Option<&Term>, evaluation: &Evaluation<'_>) -> Result<Option<i64>> {
    let Some(term) = term else { return Ok(None) };
    match term.evaluate(evaluation)? {
        Value::Unset => Ok(None),
        Value::Null => Err(Error::invalid("Invalid null value of timestamp")),
        Value::Bytes(bytes) => {
            let value = bytes.as_ref().try_into().map(i64::from_be_bytes);
            let value = value.map_err(|_| Error::invalid("Invalid timestamp value"))?;
            check_timestamp(value).map(Some)
        }
    }
}

fn time_to_live(plan: &ModificationPlan, evaluation: &Evaluation<'_>) -> Result<u32> {
    let default = plan.table.schema.options.default_time_to_live;
    let Some(term) = &plan.ttl else { return Ok(default) };
    match term.evaluate(evaluation)? {
        Value::Null | Value::Unset => Ok(default),
        Value::Bytes(bytes) => {
            let ttl = bytes.as_ref().try_into().map(i32::from_be_bytes);
            let ttl = ttl.map_err(|_| Error::invalid("Invalid TTL value"))?;
            if ttl > TTL_MAX {
                return Err(Error::invalid(format!(
                    "ttl is too large. requested ({ttl}) maximum ({TTL_MAX})"
                )));
            }
            u32::try_from(ttl).map_err(|_| {
                Error::invalid(format!("A TTL must be greater or equal to 0, but was {ttl}"))
            })
        }
    }
}

fn times(plan: &ModificationPlan, evaluation: &Evaluation<'_>, moment: Moment) -> Result<Times> {
    let timestamp = timestamp(plan.timestamp.as_ref(), evaluation)?.unwrap_or(moment.timestamp);
    let ttl = time_to_live(plan, evaluation)?;
    let expiry = (ttl > 0).then(|| Expiry { ttl, expires_at: moment.now.saturating_add(ttl) });
    Ok(Times { timestamp: WriteTimestamp(timestamp), expiry, now: moment.now })
}

/// Appends the mutations that a modification makes.
pub(crate) fn add_mutations(
    plan: &ModificationPlan,
    evaluation: &Evaluation<'_>,
    moment: Moment,
    out: &mut Vec<Mutation>,
) -> Result<(), Interrupt> {
    if matches!(plan.table.source, TableSource::Virtual(_)) {
        return Err(Error::invalid(format!(
            "{}.{} is a system table and cannot be modified",
            plan.table.schema.keyspace, plan.table.schema.name
        ))
        .into());
    }
    let times = times(plan, evaluation, moment)?;
    let clusterings = clusterings(plan, evaluation)?;
    for key in keys::partition_keys(&plan.keys, &plan.partition_columns, evaluation)? {
        let builder = MutationBuilder::new(plan.table.schema.id, &key)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let mutation = match plan.rows {
            Rows::Range => Some(delete_ranges(plan, evaluation, &times, builder)?),
            _ => change_rows(plan, evaluation, &times, (&key, &clusterings), builder)?,
        };
        out.extend(mutation);
    }
    Ok(())
}

/// Clustering bytes of the rows that change.
fn clusterings(plan: &ModificationPlan, evaluation: &Evaluation<'_>) -> Result<Vec<Vec<u8>>> {
    if plan.rows != Rows::Single {
        return Ok(Vec::new());
    }
    let mut single = Vec::with_capacity(32);
    for (restriction, column) in plan.clustering.iter().zip(&plan.clustering_columns) {
        let ClusteringRestriction::Column(Choice::One(term)) = restriction else {
            let slices = keys::slices(&plan.clustering, &plan.clustering_columns, evaluation)?;
            return Ok(slices.into_iter().map(|(start, _)| start).collect());
        };
        let value = keys::key_value(term, column, evaluation)?;
        keys::push_clustering(column, &value, &mut single)?;
    }
    Ok(vec![single])
}

/// Deletes whole partitions or ranges of rows.
fn delete_ranges(
    plan: &ModificationPlan,
    evaluation: &Evaluation<'_>,
    times: &Times,
    mut builder: MutationBuilder,
) -> Result<Mutation> {
    let deletion = times.deletion();
    if plan.clustering.is_empty() {
        builder.tombstones(&PartitionTombstones::of_partition(deletion));
        return Ok(builder.finish());
    }
    let mut tombstones = PartitionTombstones::new();
    for (start, end) in keys::slices(&plan.clustering, &plan.clustering_columns, evaluation)? {
        let end = if end.is_empty() { vec![0xff] } else { end };
        tombstones.insert(RangeTombstone { start, end, deletion });
    }
    builder.tombstones(&tombstones);
    Ok(builder.finish())
}

/// Changes rows and the static row; `None` when there is nothing to change.
fn change_rows(
    plan: &ModificationPlan,
    evaluation: &Evaluation<'_>,
    times: &Times,
    (key, clusterings): (&Bytes, &[Vec<u8>]),
    mut builder: MutationBuilder,
) -> Result<Option<Mutation>, Interrupt> {
    let table = plan.table.schema.id;
    if !plan.static_operations.is_empty() {
        let stored = if plan.static_operations.iter().any(|operation| operation.reads()) {
            evaluation.database.engine().read_static_row(table, key, Token::of(key), times.now)?
        } else {
            None
        };
        let mut row = Row::new(RowBuilder::new(None, None), times, stored);
        for operation in &plan.static_operations {
            row.apply(operation, evaluation)?;
        }
        if !row.builder.is_empty() {
            builder.static_row(row.builder);
        }
    }
    let reads = plan.operations.iter().any(|operation| operation.reads());
    for clustering in clusterings {
        let stored = if reads {
            let engine = evaluation.database.engine();
            engine.read_row(table, key, Token::of(key), clustering, times.now)?
        } else {
            None
        };
        let liveness =
            plan.makes_row.then_some(Liveness { timestamp: times.timestamp, expiry: times.expiry });
        let deletion = plan.deletes_rows.then(|| times.deletion());
        let mut row = Row::new(RowBuilder::new(liveness, deletion), times, stored);
        for operation in &plan.operations {
            row.apply(operation, evaluation)?;
        }
        if !row.builder.is_empty() {
            builder.row(clustering, row.builder);
        }
    }
    Ok((!builder.is_empty()).then(|| builder.finish()))
}
