//! Terms: everything that stands for a value.

use super::{NativeType, QualifiedName, TypeName};

/// A literal of one token. Numbers keep their text: `1e400` or a varint of 100 digits is for the column's type to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constant {
    /// `'text'` or `$$text$$`, unescaped.
    String(String),
    /// Digits with an optional leading minus.
    Integer(String),
    /// As written, or `NaN`, `Infinity`, `-Infinity`.
    Float(String),
    /// `true` or `false`.
    Boolean(bool),
    /// `1d2h`, or one of the ISO 8601 forms.
    Duration(String),
    /// As written, in any letter case.
    Uuid(String),
    /// With its leading `0x`; may hold an odd number of digits.
    Hex(String),
}

impl Constant {
    /// The raw text, without quotes.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Boolean(true) => "true",
            Self::Boolean(false) => "false",
            Self::String(text)
            | Self::Integer(text)
            | Self::Float(text)
            | Self::Duration(text)
            | Self::Uuid(text)
            | Self::Hex(text) => text,
        }
    }
}

/// A place for a value to be bound; counted from 0 in the order of the text.
/// Its name, if it has one, is in [`Statement::bind_markers`](super::Statement::bind_markers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindMarker {
    /// Position among the statement's markers.
    pub index: u16,
}

/// The operators of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ArithmeticOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl ArithmeticOperator {
    /// The operator's sign.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
            Self::Modulo => '%',
        }
    }
}

/// A value: a literal, a marker or what is computed from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// A literal of one token.
    Constant(Constant),
    /// `NULL`
    Null,
    /// `?` or `:name`
    BindMarker(BindMarker),
    /// `[a, b]`: a list or a vector.
    List(Vec<Term>),
    /// `{a, b}`; `{}` is an empty set here, and is an empty map for a map column.
    Set(Vec<Term>),
    /// `{k: v}` with at least one entry.
    Map(Vec<(Term, Term)>),
    /// `(a, b)`; `(a)` is a tuple of one.
    Tuple(Vec<Term>),
    /// `{field: value}`
    UserType(Vec<(String, Term)>),
    /// `f(a, b)`
    Function {
        /// Name in lower case unless quoted.
        name: QualifiedName,
        /// Arguments in order.
        arguments: Vec<Term>,
    },
    /// `CAST(a AS type)`
    Cast {
        /// What is converted.
        term: Box<Term>,
        /// Into what.
        ty: NativeType,
    },
    /// `(type) a`
    TypeHint {
        /// The type that the term is said to have.
        ty: TypeName,
        /// The term.
        term: Box<Term>,
    },
    /// `a + b` and the like.
    Arithmetic {
        /// The operator.
        operator: ArithmeticOperator,
        /// Left operand.
        left: Box<Term>,
        /// Right operand.
        right: Box<Term>,
    },
    /// `-a`
    Negation(Box<Term>),
}
