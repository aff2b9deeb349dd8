//! WHERE clauses: which partitions, which rows of them, and what is left to filter.

mod finish;
mod multi_column;

use coffer_model::{Column, ColumnKind, TableSchema};
use cql_parser::ast::{InValues, Operator, Relation, Term as Parsed};
use cql_types::CqlType;
use std::sync::Arc;

use super::display;
use super::term::{self, Receiver, Term, TermContext};
use crate::error::{Error, Result};

/// Answer to queries that would have to filter.
pub(crate) const REQUIRES_FILTERING: &str = "Cannot execute this query as it might involve data filtering and thus may have unpredictable performance. If you want to execute this query despite the performance unpredictability, use ALLOW FILTERING";

/// One value or several.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// `= t`
    One(Term),
    /// `IN (t, t)`
    Many(Vec<Term>),
    /// `IN ?`: a bound list.
    Bound(Term),
}

/// A value for several columns.
#[derive(Debug, Clone)]
pub(crate) enum TupleTerm {
    /// One term for each column.
    Terms(Vec<Term>),
    /// A bound tuple.
    Bound(Term),
}

/// Values for several columns.
#[derive(Debug, Clone)]
pub(crate) enum TupleChoice {
    /// Listed.
    Many(Vec<TupleTerm>),
    /// A bound list of tuples.
    Bound(Term),
}

/// A bound of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) value: TupleTerm,
    pub(crate) inclusive: bool,
}

/// A restriction that narrows the rows of a partition, on the columns that follow those of the one
/// before.
#[derive(Debug, Clone)]
pub(crate) enum ClusteringRestriction {
    /// One column.
    Column(Choice),
    /// Several columns, `=` or `IN`.
    Columns(TupleChoice, usize),
    /// The last one: a slice.
    Slice { lower: Option<Bound>, upper: Option<Bound> },
}

/// Which partitions.
#[derive(Debug, Clone)]
pub(crate) enum PartitionRestriction {
    /// All components are given.
    Keys(Vec<Choice>),
    /// A range of tokens, or all.
    Tokens { lower: Option<(Term, bool)>, upper: Option<(Term, bool)> },
}

/// What a row must satisfy.
#[derive(Debug, Clone)]
pub(crate) enum FilterOperation {
    Compare(Operator, Term),
    In(Choice),
    Contains(Term),
    ContainsKey(Term),
    /// `c[k] = v`
    Element {
        key: Term,
        value: Term,
    },
}

/// A condition on one column that is checked on each row.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) column: Column,
    pub(crate) operation: FilterOperation,
}

/// A WHERE clause.
#[derive(Debug, Clone)]
pub(crate) struct Restrictions {
    pub(crate) partition: PartitionRestriction,
    pub(crate) clustering: Vec<ClusteringRestriction>,
    pub(crate) filters: Vec<Filter>,
    /// Whether the partition key has an IN.
    pub(crate) partition_in: bool,
    /// Whether any column of the partition key has an IN, be it filtered.
    pub(crate) key_in: bool,
    /// Whether anything is said about the partition key.
    pub(crate) restricts_partition: bool,
    /// Whether rows of a scan are chosen by their clustering key, which asks for ALLOW FILTERING.
    pub(crate) scan_filters: bool,
    /// Whether any restricted column is neither of the partition key nor static.
    pub(crate) restricts_rows: bool,
}

/// What the statement is, for messages and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementType {
    Select { allow_filtering: bool, selects_only_statics: bool },
    Update,
    Delete,
}

impl StatementType {
    fn name(self) -> &'static str {
        match self {
            StatementType::Select { .. } => "SELECT",
            StatementType::Update => "UPDATE",
            StatementType::Delete => "DELETE",
        }
    }

    fn is_select(self) -> bool {
        matches!(self, StatementType::Select { .. })
    }
}

/// All that is said about one column.
#[derive(Debug, Clone, Default)]
struct OnColumn {
    eq: Option<Term>,
    among: Option<Choice>,
    lower: Option<(Term, bool)>,
    upper: Option<(Term, bool)>,
    contains: Vec<FilterOperation>,
}

impl OnColumn {
    fn is_restricted(&self) -> bool {
        self.eq.is_some() || self.among.is_some() || self.has_slice() || !self.contains.is_empty()
    }

    fn has_slice(&self) -> bool {
        self.lower.is_some() || self.upper.is_some()
    }

    fn choice(&self) -> Option<Choice> {
        self.eq.clone().map(Choice::One).or_else(|| self.among.clone())
    }

    fn into_filters(self, column: &Column) -> Vec<Filter> {
        let compare = |operator, term| FilterOperation::Compare(operator, term);
        let mut operations = Vec::new();
        operations.extend(self.eq.map(|term| compare(Operator::Eq, term)));
        operations.extend(self.among.map(FilterOperation::In));
        operations.extend(self.lower.map(|(term, inclusive)| {
            compare(if inclusive { Operator::GtEq } else { Operator::Gt }, term)
        }));
        operations.extend(self.upper.map(|(term, inclusive)| {
            compare(if inclusive { Operator::LtEq } else { Operator::Lt }, term)
        }));
        operations.extend(self.contains);
        operations
            .into_iter()
            .map(|operation| Filter { column: column.clone(), operation })
            .collect()
    }
}

/// A multi-column relation; its columns follow each other from `first`.
#[derive(Debug, Clone)]
enum OnColumns {
    Choice { first: usize, count: usize, values: TupleChoice },
    Slice { first: usize, count: usize, lower: Option<Bound>, upper: Option<Bound> },
}

impl OnColumns {
    fn first(&self) -> usize {
        match self {
            OnColumns::Choice { first, .. } | OnColumns::Slice { first, .. } => *first,
        }
    }

    fn count(&self) -> usize {
        match self {
            OnColumns::Choice { count, .. } | OnColumns::Slice { count, .. } => *count,
        }
    }
}

/// Collects relations and then plans them.
struct Collector<'a, 'c> {
    context: &'a mut TermContext<'c>,
    statement: StatementType,
    columns: Vec<(Column, OnColumn)>,
    multi: Vec<OnColumns>,
    token_lower: Option<(Term, bool)>,
    token_upper: Option<(Term, bool)>,
    token_eq: bool,
    has_token: bool,
}

/// Plans a WHERE clause.
pub(crate) fn plan(
    context: &mut TermContext<'_>,
    relations: &[Relation],
    statement: StatementType,
) -> Result<Restrictions> {
    let mut collector = Collector {
        context,
        statement,
        columns: Vec::new(),
        multi: Vec::new(),
        token_lower: None,
        token_upper: None,
        token_eq: false,
        has_token: false,
    };
    for relation in relations {
        collector.add(relation)?;
    }
    collector.finish()
}

/// The column of a name.
pub(crate) fn find_column<'t>(table: &'t TableSchema, name: &str) -> Result<&'t Column> {
    table.column(name).ok_or_else(|| {
        Error::invalid(format!(
            "Undefined column name {} in table {}.{}",
            display::identifier(name),
            table.keyspace,
            table.name
        ))
    })
}

impl Collector<'_, '_> {
    fn add(&mut self, relation: &Relation) -> Result<()> {
        match relation {
            Relation::Column { column, operator, value } => self.column(column, *operator, value),
            Relation::ColumnIn { column, negated: false, values } => self.column_in(column, values),
            Relation::Element { column, key, operator: Operator::Eq, value } => {
                self.element(column, key, value)
            }
            Relation::Token { columns, operator, value } => self.token(columns, *operator, value),
            Relation::Tuple { columns, operator, value } => self.tuple(columns, *operator, value),
            Relation::TupleIn { columns, negated: false, values } => self.tuple_in(columns, values),
            Relation::ColumnIn { column, .. } => {
                Err(Error::invalid(format!("Unsupported \"NOT IN\" relation on {column}")))
            }
            Relation::TupleIn { .. } => Err(Error::invalid("Unsupported \"NOT IN\" relation")),
            Relation::Element { column, operator, .. } => Err(Error::invalid(format!(
                "Unsupported \"{}\" relation on an element of {column}",
                operator.text()
            ))),
            Relation::IsNotNull { column } => {
                Err(Error::invalid(format!("Unsupported restriction: {column} IS NOT NULL")))
            }
            Relation::ColumnBetween { .. }
            | Relation::TokenBetween { .. }
            | Relation::TupleBetween { .. } => Err(Error::invalid("BETWEEN is not yet supported")),
            Relation::CustomIndex { .. } => {
                Err(Error::invalid("secondary indexes are not yet supported (expr)"))
            }
        }
    }

    fn entry(&mut self, column: &Column) -> Result<&mut OnColumn> {
        let place = match self.columns.iter().position(|(known, _)| known.id == column.id) {
            Some(place) => place,
            None => {
                self.columns.push((column.clone(), OnColumn::default()));
                self.columns.len() - 1
            }
        };
        match self.columns.get_mut(place) {
            Some((_, entry)) => Ok(entry),
            None => Err(Error::Server("a restricted column was lost".to_owned())),
        }
    }

    /// The entry of a column, after checking that it can take one more relation.
    fn merge(&mut self, column: &Column, kind: &str) -> Result<&mut OnColumn> {
        let name = column.name.clone();
        let multi = match column.kind {
            ColumnKind::Clustering { position, .. } => self.multi.iter().any(|relation| {
                (relation.first()..relation.first() + relation.count())
                    .contains(&usize::from(position))
            }),
            _ => false,
        };
        let entry = self.entry(column)?;
        let equal = |name: &str| {
            format!("{name} cannot be restricted by more than one relation if it includes an Equal")
        };
        let message = if entry.eq.is_some() || (multi && kind == "eq") {
            equal(&name)
        } else if entry.among.is_some() {
            format!("{name} cannot be restricted by more than one relation if it includes a IN")
        } else if entry.has_slice() && kind != "slice" {
            format!(
                "Column \"{name}\" cannot be restricted by both an equality and an inequality relation"
            )
        } else if multi {
            format!(
                "Column \"{name}\" cannot be restricted by both a tuple notation inequality and a single column relation"
            )
        } else {
            return Ok(entry);
        };
        Err(Error::invalid(message))
    }

    fn column(&mut self, name: &str, operator: Operator, value: &Parsed) -> Result<()> {
        let column = find_column(self.context.table, name)?.clone();
        self.check_operator(&column, operator, value)?;
        match operator {
            Operator::Eq => {
                let term = self.value(&column, value)?;
                self.merge(&column, "eq")?.eq = Some(term);
            }
            Operator::Contains | Operator::ContainsKey => {
                return self.contains(&column, operator, value);
            }
            Operator::Lt | Operator::LtEq => {
                let term = self.value(&column, value)?;
                let bound = || single(&term, operator == Operator::LtEq);
                if let Some(joined) = self.join_slice(&column, bound, false) {
                    return joined;
                }
                let entry = self.merge(&column, "slice")?;
                if entry.upper.is_some() {
                    return Err(two_bounds("end", name));
                }
                entry.upper = Some((term, operator == Operator::LtEq));
            }
            _ => {
                let term = self.value(&column, value)?;
                let bound = || single(&term, operator == Operator::GtEq);
                if let Some(joined) = self.join_slice(&column, bound, true) {
                    return joined;
                }
                let entry = self.merge(&column, "slice")?;
                if entry.lower.is_some() {
                    return Err(two_bounds("start", name));
                }
                entry.lower = Some((term, operator == Operator::GtEq));
            }
        }
        Ok(())
    }

    fn check_operator(&self, column: &Column, operator: Operator, value: &Parsed) -> Result<()> {
        let (name, ty) = (&column.name, &column.ty);
        let shown = || format!("{name} {} {}", operator.text(), display::term(value));
        match operator {
            Operator::NotEq | Operator::NotContains | Operator::NotContainsKey => {
                return Err(Error::invalid(format!(
                    "Unsupported \"{}\" relation: {}",
                    operator.text(),
                    shown()
                )));
            }
            Operator::Like => {
                return Err(Error::invalid(format!(
                    "LIKE restriction is only supported on properly indexed columns. {} is not valid.",
                    shown()
                )));
            }
            Operator::Contains | Operator::ContainsKey => return Ok(()),
            _ => {}
        }
        if ty.is_multi_cell() {
            return Err(Error::invalid(if matches!(ty, CqlType::Udt(_)) {
                format!(
                    "Non-frozen UDT column '{name}' ({ty}) cannot be restricted by any relation"
                )
            } else {
                format!(
                    "Collection column '{name}' ({ty}) cannot be restricted by a '{}' relation",
                    operator.text()
                )
            }));
        }
        if operator != Operator::Eq && mentions_duration(ty) {
            return Err(Error::invalid(format!(
                "Slice restrictions are not supported on {} columns",
                if *ty == CqlType::Duration { "duration" } else { "duration-containing" }
            )));
        }
        Ok(())
    }

    fn value(&mut self, column: &Column, value: &Parsed) -> Result<Term> {
        let receiver = Receiver::new(column.name.clone(), &column.ty);
        let term = term::prepare(self.context, value, &receiver)?;
        if let Term::Marker { index, .. } = &term {
            self.context.markers.target(*index, &column.name);
        }
        Ok(term)
    }

    fn contains(&mut self, column: &Column, operator: Operator, value: &Parsed) -> Result<()> {
        let name = &column.name;
        if !self.statement.is_select() {
            return Err(Error::invalid(format!(
                "Cannot use {} with {}",
                self.statement.name(),
                operator.text()
            )));
        }
        let (key, element) = match column.ty.unfrozen() {
            CqlType::List(element) | CqlType::Set(element) => (None, element),
            CqlType::Map(key, value) => (Some(key), value),
            _ => {
                return Err(Error::invalid(format!(
                    "Cannot use {} on non-collection column {name}",
                    operator.text()
                )));
            }
        };
        let operation = if operator == Operator::Contains {
            let receiver = Receiver::new(format!("value({name})"), element);
            FilterOperation::Contains(term::prepare(self.context, value, &receiver)?)
        } else {
            let key = key.ok_or_else(|| {
                Error::invalid(format!("Cannot use CONTAINS KEY on non-map column {name}"))
            })?;
            let receiver = Receiver::new(format!("key({name})"), key);
            FilterOperation::ContainsKey(term::prepare(self.context, value, &receiver)?)
        };
        self.merge(column, "contains")?.contains.push(operation);
        Ok(())
    }

    fn element(&mut self, name: &str, key: &Parsed, value: &Parsed) -> Result<()> {
        let column = find_column(self.context.table, name)?.clone();
        let CqlType::Map(key_type, value_type) = column.ty.unfrozen() else {
            return Err(Error::invalid(format!(
                "Column {name} cannot be used as a map: map-entry equality predicates are only supported on maps"
            )));
        };
        if matches!(column.ty, CqlType::Frozen(_)) {
            return Err(Error::invalid(format!(
                "Map-entry equality predicates on frozen map column {name} are not supported"
            )));
        }
        let key_receiver = Receiver::new(format!("key({name})"), key_type);
        let value_receiver = Receiver::new(format!("value({name})"), value_type);
        let key = term::prepare(self.context, key, &key_receiver)?;
        let value = term::prepare(self.context, value, &value_receiver)?;
        self.merge(&column, "contains")?.contains.push(FilterOperation::Element { key, value });
        Ok(())
    }

    fn column_in(&mut self, name: &str, values: &InValues) -> Result<()> {
        let column = find_column(self.context.table, name)?.clone();
        if column.ty.is_multi_cell() {
            return Err(Error::invalid(format!(
                "Collection column '{name}' ({}) cannot be restricted by a 'IN' relation",
                column.ty
            )));
        }
        let choice = match values {
            InValues::Terms(terms) => {
                let terms: Result<Vec<Term>> =
                    terms.iter().map(|value| self.value(&column, value)).collect();
                let mut terms = terms?;
                match (terms.pop(), terms.is_empty()) {
                    (Some(only), true) => Choice::One(only),
                    (Some(last), false) => {
                        terms.push(last);
                        Choice::Many(terms)
                    }
                    (None, _) => Choice::Many(Vec::new()),
                }
            }
            InValues::Marker(marker) => {
                let list = CqlType::List(Arc::new(column.ty.clone()));
                let index = self.context.markers.bind(*marker, &format!("in({name})"), &list);
                Choice::Bound(Term::Marker { index, ty: list })
            }
        };
        let entry = self.merge(&column, "in")?;
        match choice {
            Choice::One(term) => entry.eq = Some(term),
            choice => entry.among = Some(choice),
        }
        Ok(())
    }

    fn token(&mut self, names: &[String], operator: Operator, value: &Parsed) -> Result<()> {
        let key: Vec<String> =
            self.context.table.partition_key().iter().map(|column| column.name.clone()).collect();
        for name in names {
            find_column(self.context.table, name)?;
        }
        if names.iter().any(|name| !key.contains(name)) && names.len() >= key.len() {
            let all_missing = key.iter().any(|name| !names.contains(name));
            return Err(Error::invalid(if all_missing {
                "The token() function must be applied to all partition key components or none of them"
            } else {
                "The token() function must contains only partition key components"
            }));
        }
        if names.len() < key.len() || key.iter().any(|name| !names.contains(name)) {
            return Err(Error::invalid(
                "The token() function must be applied to all partition key components or none of them",
            ));
        }
        if *names != key {
            return Err(Error::invalid(format!(
                "The token function arguments must be in the partition key order: {}",
                key.join(", ")
            )));
        }
        self.has_token = true;
        let receiver = Receiver::new("partition key token", &CqlType::BigInt);
        let term = term::prepare(self.context, value, &receiver)?;
        let shown = key.join(", ");
        let more = format!(
            "{shown} cannot be restricted by more than one relation if it includes an Equal"
        );
        let is_eq = operator == Operator::Eq;
        let any = self.token_lower.is_some() || self.token_upper.is_some();
        if self.token_eq || (is_eq && any) {
            return Err(Error::invalid(more));
        }
        self.token_eq = is_eq;
        if matches!(operator, Operator::Gt | Operator::GtEq | Operator::Eq) {
            if self.token_lower.is_some() {
                return Err(two_bounds("start", &shown));
            }
            self.token_lower = Some((term.clone(), operator != Operator::Gt));
        }
        if matches!(operator, Operator::Lt | Operator::LtEq | Operator::Eq) {
            if self.token_upper.is_some() {
                return Err(two_bounds("end", &shown));
            }
            self.token_upper = Some((term, operator != Operator::Lt));
        }
        Ok(())
    }
}

fn single(term: &Term, inclusive: bool) -> Bound {
    Bound { value: TupleTerm::Terms(vec![term.clone()]), inclusive }
}

fn two_bounds(side: &str, name: &str) -> Error {
    Error::invalid(format!("More than one restriction was found for the {side} bound on {name}"))
}

fn mentions_duration(ty: &CqlType) -> bool {
    match ty.unfrozen() {
        CqlType::Duration => true,
        CqlType::List(inner) | CqlType::Set(inner) => mentions_duration(inner),
        CqlType::Map(key, value) => mentions_duration(key) || mentions_duration(value),
        CqlType::Tuple(fields) => fields.iter().any(mentions_duration),
        CqlType::Udt(user) => user.fields.iter().any(|(_, ty)| mentions_duration(ty)),
        _ => false,
    }
}
