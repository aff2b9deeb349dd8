//! The types of CQL.

use std::fmt;
use std::sync::Arc;

/// A CQL type. `Display` is CQL text as in `system_schema.columns`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CqlType {
    /// US-ASCII text.
    Ascii,
    /// 64-bit signed integer.
    BigInt,
    /// Any bytes.
    Blob,
    /// True or false.
    Boolean,
    /// Distributed 64-bit counter.
    Counter,
    /// Day, as days with 1970-01-01 at 2^31.
    Date,
    /// Decimal number of any precision.
    Decimal,
    /// 64-bit floating point.
    Double,
    /// Months, days and nanoseconds.
    Duration,
    /// The type of no value.
    Empty,
    /// 32-bit floating point.
    Float,
    /// IPv4 or IPv6 address.
    Inet,
    /// 32-bit signed integer.
    Int,
    /// 16-bit signed integer.
    SmallInt,
    /// UTF-8 text (`varchar`).
    Text,
    /// Nanoseconds since midnight.
    Time,
    /// Milliseconds since 1970.
    Timestamp,
    /// UUID of version 1.
    TimeUuid,
    /// 8-bit signed integer.
    TinyInt,
    /// UUID of any version.
    Uuid,
    /// Integer of any size.
    VarInt,
    /// List.
    List(Arc<CqlType>),
    /// Set.
    Set(Arc<CqlType>),
    /// Map of key and value.
    Map(Arc<CqlType>, Arc<CqlType>),
    /// Tuple.
    Tuple(Arc<[CqlType]>),
    /// User-defined type.
    Udt(Arc<UserType>),
    /// Fixed number of elements.
    Vector(Arc<CqlType>, u16),
    /// Class name of a type that is not one of these.
    Custom(Arc<str>),
    /// A collection, tuple or user type that is one value.
    Frozen(Arc<CqlType>),
}

/// A user-defined type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserType {
    /// Name of its keyspace.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Names and types of its fields in order.
    pub fields: Vec<(String, CqlType)>,
}

impl CqlType {
    /// Whether each element is a cell of its own: an unfrozen collection or user type.
    #[must_use]
    pub const fn is_multi_cell(&self) -> bool {
        matches!(self, Self::List(_) | Self::Set(_) | Self::Map(..) | Self::Udt(_))
    }

    /// The type without an outer `frozen`.
    #[must_use]
    pub fn unfrozen(&self) -> &Self {
        match self {
            Self::Frozen(inner) => inner.unfrozen(),
            other => other,
        }
    }

    /// The type as one value: collections, tuples and user types within and without are frozen;
    /// others stay as they are.
    #[must_use]
    pub fn frozen(&self) -> Self {
        let inner = match self.unfrozen() {
            Self::List(element) => Self::List(Arc::new(element.frozen())),
            Self::Set(element) => Self::Set(Arc::new(element.frozen())),
            Self::Map(key, value) => Self::Map(Arc::new(key.frozen()), Arc::new(value.frozen())),
            Self::Tuple(fields) => Self::Tuple(fields.iter().map(Self::frozen).collect()),
            Self::Udt(user_type) => Self::Udt(Arc::clone(user_type)),
            other => return other.clone(),
        };
        Self::Frozen(Arc::new(inner))
    }

    /// The type as a column has it: tuples, and whatever stands inside a collection or user type,
    /// are frozen; an outer collection or user type stays as it is.
    #[must_use]
    pub fn normalized(&self) -> Self {
        match self {
            Self::List(element) => Self::List(Arc::new(element.frozen())),
            Self::Set(element) => Self::Set(Arc::new(element.frozen())),
            Self::Map(key, value) => Self::Map(Arc::new(key.frozen()), Arc::new(value.frozen())),
            Self::Udt(_) => self.clone(),
            other => other.frozen(),
        }
    }

    /// Serialized length in bytes of every value, for the types that have one in a vector.
    #[must_use]
    pub fn fixed_bytes(&self) -> Option<usize> {
        match self.unfrozen() {
            Self::Boolean => Some(1),
            Self::Int | Self::Float => Some(4),
            Self::BigInt | Self::Double | Self::Timestamp => Some(8),
            Self::Uuid | Self::TimeUuid => Some(16),
            Self::Vector(element, dimension) => {
                Some(element.fixed_bytes()? * usize::from(*dimension))
            }
            _ => None,
        }
    }

    /// Whether the type is or holds this user type.
    #[must_use]
    pub fn mentions(&self, keyspace: &str, name: &str) -> bool {
        match self {
            Self::List(inner) | Self::Set(inner) | Self::Frozen(inner) | Self::Vector(inner, _) => {
                inner.mentions(keyspace, name)
            }
            Self::Map(key, value) => key.mentions(keyspace, name) || value.mentions(keyspace, name),
            Self::Tuple(fields) => fields.iter().any(|field| field.mentions(keyspace, name)),
            Self::Udt(user_type) => {
                (user_type.keyspace == keyspace && user_type.name == name)
                    || user_type.fields.iter().any(|(_, field)| field.mentions(keyspace, name))
            }
            _ => false,
        }
    }

    /// The native type of this name, any letter case (`varchar` is `text`).
    #[must_use]
    pub fn native(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "ascii" => Self::Ascii,
            "bigint" => Self::BigInt,
            "blob" => Self::Blob,
            "boolean" => Self::Boolean,
            "counter" => Self::Counter,
            "date" => Self::Date,
            "decimal" => Self::Decimal,
            "double" => Self::Double,
            "duration" => Self::Duration,
            "empty" => Self::Empty,
            "float" => Self::Float,
            "inet" => Self::Inet,
            "int" => Self::Int,
            "smallint" => Self::SmallInt,
            "text" | "varchar" => Self::Text,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timeuuid" => Self::TimeUuid,
            "tinyint" => Self::TinyInt,
            "uuid" => Self::Uuid,
            "varint" => Self::VarInt,
            _ => return None,
        })
    }

    const fn native_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Ascii => "ascii",
            Self::BigInt => "bigint",
            Self::Blob => "blob",
            Self::Boolean => "boolean",
            Self::Counter => "counter",
            Self::Date => "date",
            Self::Decimal => "decimal",
            Self::Double => "double",
            Self::Duration => "duration",
            Self::Empty => "empty",
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
            Self::VarInt => "varint",
            _ => return None,
        })
    }
}

impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.native_name() {
            return f.write_str(name);
        }
        match self {
            Self::List(element) => write!(f, "list<{element}>"),
            Self::Set(element) => write!(f, "set<{element}>"),
            Self::Map(key, value) => write!(f, "map<{key}, {value}>"),
            Self::Tuple(fields) => {
                f.write_str("tuple<")?;
                for (place, field) in fields.iter().enumerate() {
                    let separator = if place == 0 { "" } else { ", " };
                    write!(f, "{separator}{field}")?;
                }
                f.write_str(">")
            }
            Self::Udt(user_type) => f.write_str(&quote_identifier(&user_type.name)),
            Self::Vector(element, dimension) => write!(f, "vector<{element}, {dimension}>"),
            Self::Custom(class) => write!(f, "'{class}'"),
            Self::Frozen(inner) => write!(f, "frozen<{inner}>"),
            _ => Ok(()),
        }
    }
}

/// A name as CQL writes it: in double quotes unless it is all lower case.
pub(crate) fn quote_identifier(name: &str) -> String {
    let is_plain = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && name.starts_with(|first: char| first.is_ascii_lowercase());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
