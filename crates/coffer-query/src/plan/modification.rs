//! INSERT, UPDATE, DELETE: from the syntax tree to a plan.

use std::collections::BTreeSet;
use std::sync::Arc;

use coffer_model::{Column, ColumnKind, TableSchema};
use cql_parser::ast::{
    Assignment, Attributes, Conditions, Delete, DeleteTarget, Insert, InsertValues, Modification,
    Operation as Parsed, QualifiedName, Term as ParsedTerm, Update,
};
use cql_types::CqlType;

use super::display;
use super::restrictions::{
    self, Choice, ClusteringRestriction, PartitionRestriction, StatementType, TupleChoice,
    find_column,
};
use super::term::{self, Receiver, Term, TermContext};
use crate::error::{Error, Result};
use crate::schema::Table;

/// What happens to a column.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// The value is replaced; null deletes it.
    Set(Term),
    /// Appended to a list, added to a set, put into a map.
    Add(Term),
    /// Put before a list.
    Prepend(Term),
    /// Values taken out of a list, elements out of a set, keys out of a map.
    Subtract(Term),
    /// One element of a list by index, or one entry of a map.
    SetElement { key: Term, value: Term },
    /// One field of an unfrozen user type.
    SetField { index: u16, value: Term },
    /// Deleted.
    Delete,
    /// One element deleted.
    DeleteElement(Term),
    /// One field deleted.
    DeleteField(u16),
}

/// One change of one column.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) column: Column,
    pub(crate) action: Action,
}

impl Operation {
    /// Whether the list as it is has to be read.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.column.ty, CqlType::List(_))
            && matches!(
                self.action,
                Action::Subtract(_) | Action::SetElement { .. } | Action::DeleteElement(_)
            )
    }
}

/// Which rows of a partition change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Rows by their whole key.
    Single,
    /// Rows of ranges; DELETE only.
    Range,
    /// None but the static row.
    StaticOnly,
}

/// A planned modification.
#[derive(Debug)]
pub(crate) struct ModificationPlan {
    pub(crate) table: Arc<Table>,
    pub(crate) partition_columns: Vec<Column>,
    pub(crate) clustering_columns: Vec<Column>,
    pub(crate) keys: Vec<Choice>,
    pub(crate) clustering: Vec<ClusteringRestriction>,
    pub(crate) rows: Rows,
    /// Changes of regular columns, by column id.
    pub(crate) operations: Vec<Operation>,
    /// Changes of static columns, by column id.
    pub(crate) static_operations: Vec<Operation>,
    /// Whether the row exists from now on, whatever its columns (INSERT).
    pub(crate) makes_row: bool,
    /// Whether whole rows are deleted (DELETE without columns).
    pub(crate) deletes_rows: bool,
    pub(crate) timestamp: Option<Term>,
    pub(crate) ttl: Option<Term>,
}

/// The table that a modification names.
pub(crate) fn table_of(modification: &Modification) -> &QualifiedName {
    match modification {
        Modification::Insert(insert) => &insert.table,
        Modification::Update(update) => &update.table,
        Modification::Delete(delete) => &delete.table,
    }
}

/// Plans a modification.
pub(crate) fn plan(
    context: &mut TermContext<'_>,
    table: &Arc<Table>,
    modification: &Modification,
) -> Result<ModificationPlan> {
    if table.schema.is_counter() {
        return Err(Error::invalid(match modification {
            Modification::Insert(_) => {
                "INSERT statements are not allowed on counter tables, use UPDATE instead"
            }
            _ => "counters are not yet supported",
        }));
    }
    match modification {
        Modification::Insert(insert) => plan_insert(context, table, insert),
        Modification::Update(update) => plan_update(context, table, update),
        Modification::Delete(delete) => plan_delete(context, table, delete),
    }
}

fn plan_attributes(
    context: &mut TermContext<'_>,
    using: &Attributes,
) -> Result<(Option<Term>, Option<Term>)> {
    let timestamp = Receiver::new("[timestamp]", &CqlType::BigInt);
    let ttl = Receiver::new("[ttl]", &CqlType::Int);
    let mut prepare = |term: &Option<ParsedTerm>, receiver: &Receiver| {
        term.as_ref().map(|term| term::prepare(context, term, receiver)).transpose()
    };
    Ok((prepare(&using.timestamp, &timestamp)?, prepare(&using.ttl, &ttl)?))
}

fn no_conditions() -> Error {
    Error::invalid("conditional updates (IF) are not yet supported")
}

fn plan_insert(
    context: &mut TermContext<'_>,
    table: &Arc<Table>,
    insert: &Insert,
) -> Result<ModificationPlan> {
    let InsertValues::Columns { columns, values } = &insert.values else {
        return Err(Error::invalid("INSERT JSON is not yet supported"));
    };
    if insert.if_not_exists {
        return Err(no_conditions());
    }
    let schema = Arc::clone(&table.schema);
    if columns.len() != values.len() {
        return Err(Error::invalid("Unmatched column names/values"));
    }
    if columns.is_empty() {
        return Err(Error::invalid("No columns provided to INSERT"));
    }
    if columns.iter().collect::<BTreeSet<_>>().len() != columns.len() {
        return Err(Error::invalid("The column names contains duplicates"));
    }
    let mut key: Vec<(Column, Term)> = Vec::new();
    let mut given: Vec<(Column, &ParsedTerm)> = Vec::new();
    let mut operations = Vec::new();
    for (name, value) in columns.iter().zip(values) {
        let column = find_column(&schema, name)?.clone();
        if column.kind.is_primary_key() {
            given.push((column, value));
        } else {
            let action = Action::Set(prepare_value(context, &column, value)?);
            operations.push(Operation { column, action });
        }
    }
    for (column, value) in given {
        let term = prepare_value(context, &column, value)?;
        key.push((column, term));
    }
    let take = |wanted: &Column| {
        key.iter().find(|(column, _)| column.id == wanted.id).map(|(_, term)| term.clone())
    };
    let keys = all_or_missing(&schema.partition_key(), take, "partition key parts")?;
    let clustering_columns = schema.clustering();
    let no_clustering = clustering_columns.iter().all(|column| take(column).is_none());
    let only_statics = !operations.is_empty()
        && operations.iter().all(|operation| operation.column.kind == ColumnKind::Static);
    let static_only = no_clustering && !clustering_columns.is_empty() && only_statics;
    let clustering = if static_only {
        Vec::new()
    } else {
        all_or_missing(&clustering_columns, take, "clustering keys")?
    };
    let (timestamp, ttl) = plan_attributes(context, &insert.using)?;
    let (operations, static_operations) = split(operations);
    Ok(ModificationPlan {
        partition_columns: owned(schema.partition_key()),
        clustering_columns: owned(clustering_columns),
        table: Arc::clone(table),
        keys,
        clustering: clustering.into_iter().map(ClusteringRestriction::Column).collect(),
        rows: if static_only { Rows::StaticOnly } else { Rows::Single },
        operations,
        static_operations,
        makes_row: !static_only,
        deletes_rows: false,
        timestamp,
        ttl,
    })
}

fn owned(columns: Vec<&Column>) -> Vec<Column> {
    columns.into_iter().cloned().collect()
}

fn all_or_missing(
    columns: &[&Column],
    take: impl Fn(&Column) -> Option<Term>,
    what: &str,
) -> Result<Vec<Choice>> {
    let missing: Vec<&str> = columns
        .iter()
        .filter(|column| take(column).is_none())
        .map(|column| column.name.as_str())
        .collect();
    if !missing.is_empty() {
        return Err(Error::invalid(format!("Some {what} are missing: {}", missing.join(", "))));
    }
    Ok(columns.iter().filter_map(|column| take(column)).map(Choice::One).collect())
}

/// Regular and static operations, each by column id.
fn split(operations: Vec<Operation>) -> (Vec<Operation>, Vec<Operation>) {
    let (mut statics, mut regulars): (Vec<_>, Vec<_>) =
        operations.into_iter().partition(|operation| operation.column.kind == ColumnKind::Static);
    statics.sort_by_key(|operation| operation.column.id);
    regulars.sort_by_key(|operation| operation.column.id);
    (regulars, statics)
}

fn prepare_value(
    context: &mut TermContext<'_>,
    column: &Column,
    value: &ParsedTerm,
) -> Result<Term> {
    let receiver = Receiver::new(column.name.clone(), &column.ty);
    let term = term::prepare(context, value, &receiver)?;
    if let Term::Marker { index, .. } = &term {
        context.markers.target(*index, &column.name);
    }
    Ok(term)
}

fn plan_update(
    context: &mut TermContext<'_>,
    table: &Arc<Table>,
    update: &Update,
) -> Result<ModificationPlan> {
    if update.conditions != Conditions::None {
        return Err(no_conditions());
    }
    let schema = Arc::clone(&table.schema);
    let (timestamp, ttl) = plan_attributes(context, &update.using)?;
    let mut operations = Vec::with_capacity(update.assignments.len());
    for assignment in &update.assignments {
        operations.push(plan_assignment(context, &schema, assignment)?);
    }
    let restrictions = restrictions::plan(context, &update.where_clause, StatementType::Update)?;
    let (operations, static_operations) = split(operations);
    let PartitionRestriction::Keys(keys) = restrictions.partition else {
        return Err(Error::Server("a modification has no partition key".to_owned()));
    };
    let clustering_columns = owned(schema.clustering());
    let only_statics = operations.is_empty() && !static_operations.is_empty();
    let rows = if only_statics && restrictions.clustering.is_empty() {
        if clustering_columns.is_empty() { Rows::Single } else { Rows::StaticOnly }
    } else if only_statics {
        return Err(only_static("UPDATE"));
    } else {
        require_whole_key(&restrictions.clustering, &clustering_columns)?;
        Rows::Single
    };
    Ok(ModificationPlan {
        partition_columns: owned(schema.partition_key()),
        clustering_columns,
        table: Arc::clone(table),
        keys,
        clustering: restrictions.clustering,
        rows,
        operations,
        static_operations,
        makes_row: false,
        deletes_rows: false,
        timestamp,
        ttl,
    })
}

fn only_static(statement: &str) -> Error {
    Error::invalid(format!(
        "Invalid restrictions on clustering columns since the {statement} statement modifies only static columns"
    ))
}

/// How many clustering columns the restrictions give values for, before any slice.
fn covered(clustering: &[ClusteringRestriction]) -> usize {
    clustering
        .iter()
        .map(|restriction| match restriction {
            ClusteringRestriction::Column(_) => 1,
            ClusteringRestriction::Columns(TupleChoice::Many(_) | TupleChoice::Bound(_), count) => {
                *count
            }
            ClusteringRestriction::Slice { .. } => 0,
        })
        .sum()
}

fn require_whole_key(clustering: &[ClusteringRestriction], columns: &[Column]) -> Result<()> {
    let missing: Vec<&str> =
        columns.iter().skip(covered(clustering)).map(|column| column.name.as_str()).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid(format!("Some clustering keys are missing: {}", missing.join(", "))))
    }
}

fn assignment_text(assignment: &Assignment) -> String {
    let column = &assignment.column;
    let shown = display::term;
    match &assignment.operation {
        Parsed::Set(term) => format!("{column} = {}", shown(term)),
        Parsed::Add(term) => format!("{column} = {column} + {}", shown(term)),
        Parsed::Subtract(term) => format!("{column} = {column} - {}", shown(term)),
        // Cassandra's own text has the minus.
        Parsed::Prepend(term) => format!("{column} = {} - {column}", shown(term)),
        Parsed::SetElement { key, value } => format!("{column}[{}] = {}", shown(key), shown(value)),
        Parsed::SetField { field, value } => format!("{column}.{field} = {}", shown(value)),
    }
}

fn invalid_operation(assignment: &Assignment, reason: &str) -> Error {
    Error::invalid(format!(
        "Invalid operation ({}) for {reason} column {}",
        assignment_text(assignment),
        assignment.column
    ))
}

fn plan_assignment(
    context: &mut TermContext<'_>,
    schema: &TableSchema,
    assignment: &Assignment,
) -> Result<Operation> {
    let column = find_column(schema, &assignment.column)?.clone();
    if column.kind.is_primary_key() {
        return Err(Error::invalid(format!("PRIMARY KEY part {} found in SET part", column.name)));
    }
    if !matches!(assignment.operation, Parsed::Set(_)) {
        check_assignable(&column, assignment)?;
    }
    let name = column.name.as_str();
    let action = match (&assignment.operation, &column.ty) {
        (Parsed::Set(term), _) => Action::Set(prepare_value(context, &column, term)?),
        (Parsed::Add(term), _) => {
            if matches!(column.ty, CqlType::Map(..))
                && !matches!(
                    term,
                    ParsedTerm::Map(_) | ParsedTerm::BindMarker(_) | ParsedTerm::Null
                )
                && !matches!(term, ParsedTerm::Set(items) if items.is_empty())
            {
                return Err(Error::invalid(format!(
                    "Value for a map addition has to be a map, but was: '{}'",
                    display::term(term)
                )));
            }
            let receiver = Receiver::new(name, &column.ty);
            Action::Add(term::prepare(context, term, &receiver)?)
        }
        (Parsed::Prepend(term), _) => {
            Action::Prepend(term::prepare(context, term, &Receiver::new(name, &column.ty))?)
        }
        (Parsed::Subtract(term), ty) => {
            let mut removed = ty.clone();
            if let CqlType::Map(key, _) = ty {
                if matches!(term, ParsedTerm::Map(_)) {
                    return Err(Error::invalid(format!(
                        "Value for a map substraction has to be a set, but was: '{}'",
                        display::term(term)
                    )));
                }
                removed = CqlType::Set(Arc::clone(key));
            }
            Action::Subtract(term::prepare(context, term, &Receiver::new(name, &removed))?)
        }
        (Parsed::SetElement { key, value }, ty) => {
            plan_element(context, name, ty, key, Some(value))?
        }
        (Parsed::SetField { field, value }, ty) => {
            let (index, ty) = field_of(ty, field, name)?;
            let receiver = Receiver::new(format!("{name}.{field}"), &ty);
            Action::SetField { index, value: term::prepare(context, value, &receiver)? }
        }
    };
    Ok(Operation { column, action })
}

/// Whether an assignment other than `c = t` suits the column's type.
fn check_assignable(column: &Column, assignment: &Assignment) -> Result<()> {
    let frozen = matches!(column.ty, CqlType::Frozen(_));
    let is_udt = matches!(column.ty.unfrozen(), CqlType::Udt(_));
    let is_collection =
        matches!(column.ty.unfrozen(), CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..));
    let reason = match (&assignment.operation, &column.ty) {
        (Parsed::SetField { .. }, _) if !is_udt => "non-UDT",
        (Parsed::SetField { .. }, _) if frozen => "frozen UDT",
        (Parsed::SetField { .. }, _) => return Ok(()),
        (Parsed::SetElement { .. }, _) if !is_collection => "non collection",
        (Parsed::Prepend(_), _) if !is_collection => "non list",
        _ if !is_collection => "non counter",
        _ if frozen => "frozen collection",
        (Parsed::SetElement { .. }, CqlType::Set(_)) => "set",
        (Parsed::Prepend(_), CqlType::Set(_) | CqlType::Map(..)) => "non list",
        _ => return Ok(()),
    };
    Err(invalid_operation(assignment, reason))
}

/// An element of a list by index or of a map by key: set to a value, or deleted.
fn plan_element(
    context: &mut TermContext<'_>,
    name: &str,
    ty: &CqlType,
    key: &ParsedTerm,
    value: Option<&ParsedTerm>,
) -> Result<Action> {
    let (key_receiver, value_type) = match ty {
        CqlType::Map(key, value) => (Receiver::new(format!("key({name})"), key), value),
        CqlType::Set(element) => (Receiver::new(format!("value({name})"), element), element),
        CqlType::List(element) => (Receiver::new(format!("idx({name})"), &CqlType::Int), element),
        _ => return Err(Error::Server("not a collection".to_owned())),
    };
    let key = term::prepare(context, key, &key_receiver)?;
    if matches!(key, Term::Null) && matches!(ty, CqlType::Map(..)) {
        return Err(Error::invalid("Invalid null map key"));
    }
    Ok(match value {
        Some(value) => {
            let receiver = Receiver::new(format!("value({name})"), value_type);
            Action::SetElement { key, value: term::prepare(context, value, &receiver)? }
        }
        None => Action::DeleteElement(key),
    })
}

fn field_of(ty: &CqlType, field: &str, column: &str) -> Result<(u16, CqlType)> {
    let CqlType::Udt(user) = ty.unfrozen() else {
        return Err(Error::Server("not a user type".to_owned()));
    };
    let found = user.fields.iter().position(|(name, _)| name == field);
    found
        .and_then(|index| {
            let ty = user.fields.get(index).map(|(_, ty)| ty.clone())?;
            Some((u16::try_from(index).ok()?, ty))
        })
        .ok_or_else(|| {
            Error::invalid(format!("UDT column {column} does not have a field named {field}"))
        })
}

fn plan_target(
    context: &mut TermContext<'_>,
    schema: &TableSchema,
    target: &DeleteTarget,
) -> Result<Operation> {
    let (DeleteTarget::Column(name)
    | DeleteTarget::Element { column: name, .. }
    | DeleteTarget::Field { column: name, .. }) = target;
    let column = find_column(schema, name)?.clone();
    if column.kind.is_primary_key() {
        return Err(Error::invalid(format!(
            "Invalid identifier {name} for deletion (should not be a PRIMARY KEY part)"
        )));
    }
    let inner = column.ty.unfrozen();
    let frozen = matches!(column.ty, CqlType::Frozen(_));
    let action = match target {
        DeleteTarget::Column(_) => Action::Delete,
        DeleteTarget::Element { key, .. } => {
            if !matches!(inner, CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..)) {
                return Err(Error::invalid(format!(
                    "Invalid deletion operation for non collection column {name}"
                )));
            }
            if frozen {
                return Err(Error::invalid(format!(
                    "Invalid deletion operation for frozen collection column {name}"
                )));
            }
            plan_element(context, name, &column.ty, key, None)?
        }
        DeleteTarget::Field { field, .. } => {
            if !matches!(inner, CqlType::Udt(_)) {
                return Err(Error::invalid(format!(
                    "Invalid field deletion operation for non-UDT column {name}"
                )));
            }
            if frozen {
                return Err(Error::invalid(format!(
                    "Frozen UDT column {name} does not support field deletions"
                )));
            }
            Action::DeleteField(field_of(&column.ty, field, name)?.0)
        }
    };
    Ok(Operation { column, action })
}

fn plan_delete(
    context: &mut TermContext<'_>,
    table: &Arc<Table>,
    delete: &Delete,
) -> Result<ModificationPlan> {
    if delete.conditions != Conditions::None {
        return Err(no_conditions());
    }
    let schema = Arc::clone(&table.schema);
    let using = Attributes { timestamp: delete.timestamp.clone(), ttl: None };
    let mut operations = Vec::with_capacity(delete.targets.len());
    for target in &delete.targets {
        operations.push(plan_target(context, &schema, target)?);
    }
    let (timestamp, ttl) = plan_attributes(context, &using)?;
    let restrictions = restrictions::plan(context, &delete.where_clause, StatementType::Delete)?;
    let PartitionRestriction::Keys(keys) = restrictions.partition else {
        return Err(Error::Server("a modification has no partition key".to_owned()));
    };
    let (operations, static_operations) = split(operations);
    let clustering_columns = owned(schema.clustering());
    let whole = covered(&restrictions.clustering) == clustering_columns.len();
    let deletes_rows = delete.targets.is_empty();
    let rows = if deletes_rows {
        if whole && !clustering_columns.is_empty() { Rows::Single } else { Rows::Range }
    } else if operations.is_empty() {
        if !restrictions.clustering.is_empty() {
            return Err(only_static("DELETE"));
        }
        Rows::StaticOnly
    } else if whole {
        Rows::Single
    } else {
        return Err(Error::invalid("Range deletions are not supported for specific columns"));
    };
    Ok(ModificationPlan {
        partition_columns: owned(schema.partition_key()),
        clustering_columns,
        table: Arc::clone(table),
        keys,
        clustering: restrictions.clustering,
        rows,
        operations,
        static_operations,
        makes_row: false,
        deletes_rows,
        timestamp,
        ttl,
    })
}
