//! Statements on data: SELECT, INSERT, UPDATE, DELETE, BATCH, TRUNCATE.

use super::{ArithmeticOperator, BindMarker, NativeType, QualifiedName, Term, TypeName};

/// `SELECT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// `SELECT JSON`
    pub json: bool,
    /// `SELECT DISTINCT`
    pub distinct: bool,
    /// What is selected.
    pub selection: Selection,
    /// The table or view.
    pub from: QualifiedName,
    /// Relations joined by AND; empty without WHERE.
    pub where_clause: Vec<Relation>,
    /// `GROUP BY`
    pub group_by: Vec<Selectable>,
    /// `ORDER BY`
    pub order_by: Vec<Ordering>,
    /// `PER PARTITION LIMIT`: an integer constant or a marker.
    pub per_partition_limit: Option<Term>,
    /// `LIMIT`: an integer constant or a marker.
    pub limit: Option<Term>,
    /// `ALLOW FILTERING`
    pub allow_filtering: bool,
}

/// What a SELECT asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// `*`
    All,
    /// At least one selector.
    Selectors(Vec<Selector>),
}

/// One result column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// What it shows.
    pub selectable: Selectable,
    /// `AS alias`
    pub alias: Option<String>,
}

/// An expression over a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selectable {
    /// A column.
    Column(String),
    /// A constant, `NULL` or a marker.
    Term(Term),
    /// `count(*)`
    CountRows,
    /// `writetime(c)`, with an element, slice or field of the column if one was named.
    WriteTime(Box<Selectable>),
    /// `maxwritetime(c)`
    MaxWriteTime(Box<Selectable>),
    /// `ttl(c)`
    Ttl(Box<Selectable>),
    /// `CAST(s AS type)`
    Cast {
        /// What is converted.
        selectable: Box<Selectable>,
        /// Into what.
        ty: NativeType,
    },
    /// `f(s, ...)`; `count(1)` too.
    Function {
        /// Name in lower case unless quoted.
        name: QualifiedName,
        /// Arguments in order.
        arguments: Vec<Selectable>,
    },
    /// `s.field`
    Field {
        /// The user type value.
        receiver: Box<Selectable>,
        /// The field's name.
        field: String,
    },
    /// `s[key]`
    Element {
        /// The set, map, list or vector.
        receiver: Box<Selectable>,
        /// The element or key.
        key: Term,
    },
    /// `s[from..to]`; at least one bound is there.
    Slice {
        /// The set or map.
        receiver: Box<Selectable>,
        /// First element, inclusive.
        from: Option<Term>,
        /// Last element, inclusive.
        to: Option<Term>,
    },
    /// `(type) s`
    TypeHint {
        /// The type the expression is said to have.
        ty: TypeName,
        /// The expression.
        selectable: Box<Selectable>,
    },
    /// `(a)` or `(a, b)`: with one element it is that element or a tuple of one, as the receiver's type says.
    Tuple(Vec<Selectable>),
    /// `[a, b]`
    List(Vec<Selectable>),
    /// `{a, b}` or `{}`
    Set(Vec<Selectable>),
    /// `{k: v}`: a map, or a user type value when every key is a [`Selectable::Column`].
    Map(Vec<(Selectable, Selectable)>),
    /// `a + b` and the like.
    Arithmetic {
        /// The operator.
        operator: ArithmeticOperator,
        /// Left operand.
        left: Box<Selectable>,
        /// Right operand.
        right: Box<Selectable>,
    },
    /// `-a`
    Negation(Box<Selectable>),
}

/// One `ORDER BY` item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordering {
    /// The column.
    pub column: String,
    /// `ANN OF term`
    pub ann_of: Option<Term>,
    /// `DESC`
    pub descending: bool,
}

/// Operators between a column and one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operator {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    Like,
    Contains,
    ContainsKey,
    NotContains,
    NotContainsKey,
}

impl Operator {
    /// As Cassandra's messages write it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "!=",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
            Self::Like => "LIKE",
            Self::Contains => "CONTAINS",
            Self::ContainsKey => "CONTAINS KEY",
            Self::NotContains => "NOT CONTAINS",
            Self::NotContainsKey => "NOT CONTAINS KEY",
        }
    }
}

/// The right side of `IN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InValues {
    /// `(a, b)`; may be empty. Under a multi-column relation: tuple literals, or only markers.
    Terms(Vec<Term>),
    /// `IN ?`: one marker for the whole list.
    Marker(BindMarker),
}

/// One condition of a WHERE clause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum Relation {
    /// `c = t`, `c LIKE t`, `c CONTAINS KEY t`
    Column { column: String, operator: Operator, value: Term },
    /// `c [NOT] IN (...)`
    ColumnIn { column: String, negated: bool, values: InValues },
    /// `c BETWEEN a AND b`
    ColumnBetween { column: String, low: Term, high: Term },
    /// `c IS NOT NULL`
    IsNotNull { column: String },
    /// `c[k] = t`
    Element { column: String, key: Term, operator: Operator, value: Term },
    /// `token(a, b) > t`
    Token { columns: Vec<String>, operator: Operator, value: Term },
    /// `token(a, b) BETWEEN x AND y`
    TokenBetween { columns: Vec<String>, low: Term, high: Term },
    /// `(a, b) > (x, y)` or `(a, b) > ?`
    Tuple { columns: Vec<String>, operator: Operator, value: Term },
    /// `(a, b) [NOT] IN (...)`
    TupleIn { columns: Vec<String>, negated: bool, values: InValues },
    /// `(a, b) BETWEEN (..) AND (..)`
    TupleBetween { columns: Vec<String>, low: Term, high: Term },
    /// `expr(index, t)`
    CustomIndex { index: QualifiedName, value: Term },
}

/// `USING TIMESTAMP .. AND TTL ..`: each an integer constant or a marker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Write timestamp in microseconds.
    pub timestamp: Option<Term>,
    /// Time to live in seconds.
    pub ttl: Option<Term>,
}

/// `INSERT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The table.
    pub table: QualifiedName,
    /// What is inserted.
    pub values: InsertValues,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// `USING ...`
    pub using: Attributes,
}

/// The two forms of INSERT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertValues {
    /// `(columns) VALUES (values)`; the numbers may differ, which is an Invalid error, not a syntax error.
    Columns {
        /// Column names in order.
        columns: Vec<String>,
        /// Values in order.
        values: Vec<Term>,
    },
    /// `JSON '...' [DEFAULT NULL | UNSET]`
    Json {
        /// A string constant or a marker.
        value: Term,
        /// `DEFAULT UNSET`
        default_unset: bool,
    },
}

/// `UPDATE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The table.
    pub table: QualifiedName,
    /// `USING ...`
    pub using: Attributes,
    /// `SET ...`, in order.
    pub assignments: Vec<Assignment>,
    /// `WHERE ...`
    pub where_clause: Vec<Relation>,
    /// `IF ...`
    pub conditions: Conditions,
}

/// One item of `SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The column.
    pub column: String,
    /// What happens to it.
    pub operation: Operation,
}

/// What an assignment does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `c = t`
    Set(Term),
    /// `c = c + t`, `c += t`
    Add(Term),
    /// `c = c - t`, `c -= t`. (`c = c -3` is `Add(-3)`, as in Cassandra.)
    Subtract(Term),
    /// `c = t + c`
    Prepend(Term),
    /// `c[key] = value`
    SetElement {
        /// List index or map key.
        key: Term,
        /// The new value.
        value: Term,
    },
    /// `c.field = value`
    SetField {
        /// The field.
        field: String,
        /// The new value.
        value: Term,
    },
}

/// `DELETE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// What is deleted; empty for whole rows.
    pub targets: Vec<DeleteTarget>,
    /// The table.
    pub table: QualifiedName,
    /// `USING TIMESTAMP ..`
    pub timestamp: Option<Term>,
    /// `WHERE ...`
    pub where_clause: Vec<Relation>,
    /// `IF ...`
    pub conditions: Conditions,
}

/// One item of a DELETE's list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum DeleteTarget {
    /// `c`
    Column(String),
    /// `c[key]`
    Element { column: String, key: Term },
    /// `c.field`
    Field { column: String, field: String },
}

/// `IF` at the end of UPDATE and DELETE.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Conditions {
    /// None.
    #[default]
    None,
    /// `IF EXISTS`
    Exists,
    /// `IF c = t AND ...`
    All(Vec<Condition>),
}

/// One condition of `IF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// Which part of it.
    pub part: ConditionPart,
    /// How it must compare.
    pub comparison: Comparison,
}

/// Which part of a column a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionPart {
    /// The whole value.
    Whole,
    /// `c[key]`
    Element(Term),
    /// `c.field`
    Field(String),
}

/// Operator and right side of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// `= t`, `CONTAINS t` and the like.
    Value(Operator, Term),
    /// `IN (...)`
    In(InValues),
}

/// The kinds of batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum BatchKind {
    Logged,
    Unlogged,
    Counter,
}

/// `BEGIN ... APPLY BATCH`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Logged, unlogged or counter.
    pub kind: BatchKind,
    /// `USING ...`
    pub using: Attributes,
    /// In order; may be empty.
    pub statements: Vec<Modification>,
}

/// A statement that may stand in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Modification {
    Insert(Insert),
    Update(Update),
    Delete(Delete),
}
