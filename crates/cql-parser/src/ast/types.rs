//! Types as they are written; whether a user type exists is for the caller to find out.

use super::QualifiedName;

/// A type as written in a column definition, a field, a function or a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeName {
    /// A native type.
    Native(NativeType),
    /// `list<t>`
    List(Box<TypeName>),
    /// `set<t>`
    Set(Box<TypeName>),
    /// `map<k, v>`
    Map(Box<TypeName>, Box<TypeName>),
    /// `tuple<t, ...>`
    Tuple(Vec<TypeName>),
    /// `vector<t, dimension>`; the dimension as written, which may be out of bounds.
    Vector(Box<TypeName>, i64),
    /// `frozen<t>`
    Frozen(Box<TypeName>),
    /// A user-defined type.
    UserType(QualifiedName),
    /// A class name in quotes.
    Custom(String),
}

/// The types that CQL has words for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum NativeType {
    Ascii,
    BigInt,
    Blob,
    Boolean,
    Counter,
    Date,
    Decimal,
    Double,
    Duration,
    Float,
    Inet,
    Int,
    SmallInt,
    Text,
    Time,
    Timestamp,
    TimeUuid,
    TinyInt,
    Uuid,
    /// Another word for `text`; Cassandra prints it as `text`.
    VarChar,
    VarInt,
}

impl NativeType {
    /// The CQL word, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ascii => "ascii",
            Self::BigInt => "bigint",
            Self::Blob => "blob",
            Self::Boolean => "boolean",
            Self::Counter => "counter",
            Self::Date => "date",
            Self::Decimal => "decimal",
            Self::Double => "double",
            Self::Duration => "duration",
            Self::Float => "float",
            Self::Inet => "inet",
            Self::Int => "int",
            Self::SmallInt => "smallint",
            Self::Text => "text",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimeUuid => "timeuuid",
            Self::TinyInt => "tinyint",
            Self::Uuid => "uuid",
            Self::VarChar => "varchar",
            Self::VarInt => "varint",
        }
    }
}
