//! SELECT: from the syntax tree to a plan.

use std::sync::Arc;

use coffer_model::{Column, ColumnKind, TableSchema};
use cql_parser::ast::{Ordering, Relation, Select, Selection as Parsed, Term as ParsedTerm};
use cql_types::CqlType;

use super::restrictions::{
    self, ClusteringRestriction, PartitionRestriction, REQUIRES_FILTERING, Restrictions,
    StatementType, find_column,
};
use super::selectable::{self, SelectableContext};
use super::term::{self, Receiver, Term, TermContext};
use crate::aggregate::Aggregation;
use crate::error::{Error, Result};
use crate::metadata::{ColumnSpec, ResultMetadata};
use crate::schema::Table;
use crate::selection::{Expression, SelectedAggregate, Selection, is_static};

/// A planned SELECT.
#[derive(Debug)]
pub(crate) struct SelectPlan {
    pub(crate) table: Arc<Table>,
    pub(crate) partition_columns: Vec<Column>,
    pub(crate) clustering_columns: Vec<Column>,
    pub(crate) selection: Selection,
    pub(crate) metadata: Arc<ResultMetadata>,
    pub(crate) restrictions: Restrictions,
    /// Rows of a partition come in descending order of their bytes.
    pub(crate) reversed: bool,
    /// Rows of all partitions of an IN are sorted together.
    pub(crate) sorts: bool,
    /// Places of the clustering columns they are sorted by.
    pub(crate) ordering: Vec<usize>,
    pub(crate) limit: Option<Term>,
    pub(crate) per_partition_limit: Option<Term>,
    pub(crate) distinct: bool,
    /// Whether the static row is read.
    pub(crate) statics: bool,
    /// Whether a partition without rows shows as one row with its statics.
    pub(crate) lone_statics: bool,
    /// Whether all key columns are given by `=`: at most one row, read directly.
    pub(crate) is_point: bool,
    pub(crate) warnings: Vec<String>,
}

/// Plans a SELECT.
pub(crate) fn plan(
    context: &mut TermContext<'_>,
    table: &Arc<Table>,
    select: &Select,
) -> Result<SelectPlan> {
    refuse_unsupported(select)?;
    let schema = Arc::clone(&table.schema);
    if schema.is_counter() {
        return Err(Error::invalid("counters are not yet supported"));
    }
    // Where several things are wrong, the order of the checks decides which is named.
    let selects_only_statics = check_names(context, &select.selection)?;
    let statement =
        StatementType::Select { allow_filtering: select.allow_filtering, selects_only_statics };
    let mut planned = None;
    if schema.has_statics() {
        planned = Some(plan_selection(context, &schema, &select.selection)?);
    }
    let restrictions = restrictions::plan(context, &select.where_clause, statement)?;
    let (selection, metadata) = match planned {
        Some(planned) => planned,
        None => plan_selection(context, &schema, &select.selection)?,
    };
    let is_aggregate = !selection.aggregates.is_empty();
    check_per_partition_limit(select, is_aggregate)?;
    if select.distinct {
        check_distinct_relations(&schema, &select.where_clause)?;
        let sorts = restrictions.partition_in && !select.order_by.is_empty();
        check_distinct(&schema, &selection, if sorts { &select.order_by } else { &[] })?;
    }
    let reversed = plan_order(&schema, &select.order_by, &restrictions)?;
    if restrictions.scan_filters && !select.allow_filtering {
        return Err(Error::invalid(REQUIRES_FILTERING));
    }
    let ordering =
        select.order_by.iter().filter_map(|item| clustering_place(&schema, &item.column));
    let ordering = ordering.collect();
    let sorts = restrictions.partition_in && !select.order_by.is_empty();
    let per_partition_limit =
        plan_limit(context, select.per_partition_limit.as_ref(), "[per_partition_limit]")?;
    let limit = plan_limit(context, select.limit.as_ref(), "[limit]")?;
    let clustering_columns: Vec<Column> = schema.clustering().into_iter().cloned().collect();
    let lone_statics = schema.has_statics() && !restrictions.restricts_rows;
    let statics = lone_statics
        || selection.uses_statics
        || restrictions.filters.iter().any(|filter| is_static(&filter.column));
    let is_point = is_point(&restrictions, clustering_columns.len())
        && !is_aggregate
        && !sorts
        && !lone_statics
        && !select.distinct;
    let warnings = if is_aggregate { aggregation_warnings(&restrictions) } else { Vec::new() };
    Ok(SelectPlan {
        partition_columns: schema.partition_key().into_iter().cloned().collect(),
        clustering_columns,
        table: Arc::clone(table),
        selection,
        metadata: Arc::new(metadata),
        restrictions,
        reversed,
        sorts,
        ordering,
        limit,
        per_partition_limit,
        distinct: select.distinct,
        statics,
        lone_statics,
        is_point,
        warnings,
    })
}

/// What Cassandra warns of when an aggregate reads more than one partition.
fn aggregation_warnings(restrictions: &Restrictions) -> Vec<String> {
    let mut warnings = Vec::new();
    if !restrictions.restricts_partition {
        warnings.push("Aggregation query used without partition key".to_owned());
    }
    if restrictions.key_in {
        warnings
            .push("Aggregation query used on multiple partition keys (IN restriction)".to_owned());
    }
    warnings
}

/// Checks the names of columns and functions. True when static columns are selected and nothing else
/// but the partition key.
fn check_names(context: &TermContext<'_>, parsed: &Parsed) -> Result<bool> {
    let Parsed::Selectors(selectors) = parsed else { return Ok(false) };
    let (mut statics, mut others) = (false, false);
    for selector in selectors {
        selectable::check_names(context, &selector.selectable, &mut |column| match column.kind {
            ColumnKind::Static => statics = true,
            ColumnKind::PartitionKey { .. } => {}
            _ => others = true,
        })?;
    }
    Ok(statics && !others)
}

fn refuse_unsupported(select: &Select) -> Result<()> {
    if select.json {
        return Err(Error::invalid("SELECT JSON is not yet supported"));
    }
    if !select.group_by.is_empty() {
        return Err(Error::invalid("GROUP BY is not yet supported"));
    }
    if select.order_by.iter().any(|item| item.ann_of.is_some()) {
        return Err(Error::invalid("vector search (ORDER BY ... ANN OF) is not yet supported"));
    }
    Ok(())
}

fn check_per_partition_limit(select: &Select, is_aggregate: bool) -> Result<()> {
    if select.per_partition_limit.is_none() {
        return Ok(());
    }
    if select.distinct {
        return Err(Error::invalid(
            "PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries",
        ));
    }
    if is_aggregate {
        return Err(Error::invalid("PER PARTITION LIMIT is not allowed with aggregate queries."));
    }
    Ok(())
}

fn is_point(restrictions: &Restrictions, clustering: usize) -> bool {
    let PartitionRestriction::Keys(keys) = &restrictions.partition else { return false };
    let one = |choice: &restrictions::Choice| matches!(choice, restrictions::Choice::One(_));
    keys.iter().all(one)
        && restrictions.clustering.len() == clustering
        && restrictions.clustering.iter().all(
            |restriction| matches!(restriction, ClusteringRestriction::Column(choice) if one(choice)),
        )
}

fn plan_selection(
    context: &mut TermContext<'_>,
    schema: &TableSchema,
    parsed: &Parsed,
) -> Result<(Selection, ResultMetadata)> {
    let keyspace: Arc<str> = Arc::from(schema.keyspace.as_str());
    let table: Arc<str> = Arc::from(schema.name.as_str());
    let spec = |name: &str, ty: &CqlType| ColumnSpec {
        keyspace: Arc::clone(&keyspace),
        table: Arc::clone(&table),
        name: Arc::from(name),
        ty: ty.clone(),
    };
    let mut expressions = Vec::new();
    let mut columns = Vec::new();
    let mut aggregates = Vec::new();
    match parsed {
        Parsed::All => {
            for column in schema.columns_in_select_order() {
                expressions.push(Expression::Column(column.clone()));
                columns.push(spec(&column.name, &column.ty));
            }
        }
        Parsed::Selectors(selectors) => {
            let mut selectables = SelectableContext::new(context);
            for selector in selectors {
                let (expression, ty, name) = selectables.selector(&selector.selectable)?;
                columns.push(spec(selector.alias.as_deref().unwrap_or(&name), &ty));
                expressions.push(expression);
            }
            aggregates = selectables.aggregates;
        }
    }
    if !aggregates.is_empty() {
        keep_first_values(&mut expressions, &mut aggregates);
    }
    let mut uses_statics = false;
    let arguments = aggregates.iter().filter_map(|aggregate| aggregate.argument.as_ref());
    for expression in expressions.iter().chain(arguments) {
        expression.columns(&mut |column| uses_statics |= is_static(column));
    }
    let plain = expressions
        .iter()
        .map(|expression| match expression {
            Expression::Column(column) => Some(column.clone()),
            _ => None,
        })
        .collect();
    let selection = Selection { expressions, plain, aggregates, uses_statics };
    Ok((selection, ResultMetadata { columns }))
}

/// Beside aggregates, other expressions show the first row.
fn keep_first_values(expressions: &mut [Expression], aggregates: &mut Vec<SelectedAggregate>) {
    for expression in expressions {
        if !expression.has_aggregate() {
            let place = Expression::Aggregate(aggregates.len());
            let argument = Some(std::mem::replace(expression, place));
            aggregates.push(SelectedAggregate {
                aggregation: Aggregation::First,
                argument,
                ty: CqlType::Blob,
            });
        }
    }
}

/// DISTINCT looks at no rows.
fn check_distinct_relations(schema: &TableSchema, relations: &[Relation]) -> Result<()> {
    let on_rows = |relation: &Relation| match relation {
        Relation::Column { column, .. }
        | Relation::ColumnIn { column, .. }
        | Relation::Element { column, .. } => schema.column(column).is_some_and(|column| {
            matches!(column.kind, ColumnKind::Clustering { .. } | ColumnKind::Regular)
        }),
        Relation::Tuple { .. } | Relation::TupleIn { .. } => true,
        _ => false,
    };
    if relations.iter().any(on_rows) {
        return Err(Error::invalid(
            "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns.",
        ));
    }
    Ok(())
}

fn check_distinct(
    schema: &TableSchema,
    selection: &Selection,
    order_by: &[Ordering],
) -> Result<()> {
    let mut wrong = None;
    let mut selected = Vec::new();
    for expression in &selection.expressions {
        expression.columns(&mut |column| {
            selected.push(column.name.clone());
            let fits = matches!(column.kind, ColumnKind::PartitionKey { .. } | ColumnKind::Static);
            if !fits && wrong.is_none() {
                wrong = Some(column.name.clone());
            }
        });
    }
    // What the rows of several partitions are ordered by is read as if it were selected.
    let ordering = order_by.iter().map(|item| &item.column).find(|name| {
        schema
            .column(name)
            .is_some_and(|column| matches!(column.kind, ColumnKind::Clustering { .. }))
    });
    if let Some(name) = wrong.as_ref().or(ordering) {
        return Err(Error::invalid(format!(
            "SELECT DISTINCT queries must only request partition key columns and/or static columns (not {name})"
        )));
    }
    for column in schema.partition_key() {
        if !selected.contains(&column.name) {
            return Err(Error::invalid(format!(
                "SELECT DISTINCT queries must request all the partition key columns (missing {})",
                column.name
            )));
        }
    }
    Ok(())
}

/// Whether partitions are read backwards.
fn plan_order(
    schema: &TableSchema,
    order_by: &[Ordering],
    restrictions: &Restrictions,
) -> Result<bool> {
    if order_by.is_empty() {
        return Ok(false);
    }
    if matches!(restrictions.partition, PartitionRestriction::Tokens { .. }) {
        return Err(Error::invalid(
            "ORDER BY is only supported when the partition key is restricted by an EQ or an IN.",
        ));
    }
    let mut backwards: Option<bool> = None;
    let mut expected = 0usize;
    for item in order_by {
        let column = find_column(schema, &item.column)?;
        let ColumnKind::Clustering { position, reversed } = column.kind else {
            return Err(Error::invalid(format!(
                "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got {}",
                item.column
            )));
        };
        let position = usize::from(position);
        while expected < position && is_fixed(restrictions, expected) {
            expected += 1;
        }
        if expected != position {
            return Err(Error::invalid(
                "Order by currently only supports the ordering of columns following their declared order in the PRIMARY KEY",
            ));
        }
        expected += 1;
        let turned = item.descending != reversed;
        if backwards.is_some_and(|backwards| backwards != turned) {
            return Err(Error::invalid("Unsupported order by relation"));
        }
        backwards = Some(turned);
    }
    Ok(backwards.unwrap_or(false))
}

fn clustering_place(schema: &TableSchema, name: &str) -> Option<usize> {
    match schema.column(name)?.kind {
        ColumnKind::Clustering { position, .. } => Some(usize::from(position)),
        _ => None,
    }
}

/// Whether a clustering column has one value by `=`.
fn is_fixed(restrictions: &Restrictions, position: usize) -> bool {
    matches!(
        restrictions.clustering.get(position),
        Some(ClusteringRestriction::Column(restrictions::Choice::One(_)))
    )
}

fn plan_limit(
    context: &mut TermContext<'_>,
    limit: Option<&ParsedTerm>,
    name: &str,
) -> Result<Option<Term>> {
    let receiver = Receiver::new(name, &CqlType::Int);
    limit.map(|limit| term::prepare(context, limit, &receiver)).transpose()
}
