//! From a type as written to a type of the schema, with Cassandra's rules for what may be within
//! what.

use std::collections::BTreeMap;
use std::sync::Arc;

use cql_parser::ast::{QualifiedName, TypeName};
use cql_types::{CqlType, UserType};

use crate::error::{Error, Result};

/// Largest dimension of a vector.
const VECTOR_DIMENSION_MAX: i64 = 8192;

/// Resolves types of one keyspace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TypeResolver<'a> {
    /// The keyspace of the statement.
    pub keyspace: &'a str,
    /// Its user types.
    pub types: &'a BTreeMap<String, Arc<UserType>>,
}

impl TypeResolver<'_> {
    /// The type of a column or field; tuples are frozen, as Cassandra stores them.
    ///
    /// # Errors
    /// Invalid or Syntax, in Cassandra's words.
    pub(crate) fn resolve(&self, name: &TypeName) -> Result<CqlType> {
        match name {
            TypeName::Frozen(inner) => self.frozen(inner),
            TypeName::Tuple(_) => Ok(self.inner(name)?.frozen()),
            other => self.inner(other),
        }
    }

    fn frozen(&self, inner: &TypeName) -> Result<CqlType> {
        match inner {
            TypeName::Native(native) => Err(Error::Syntax(format!(
                "frozen<> is only allowed on collections, tuples, and user-defined types (got {})",
                native.name()
            ))),
            TypeName::Frozen(inner) => self.frozen(inner),
            // all that is within a frozen type is frozen too, written or not
            other => Ok(self.within_frozen(other)?.frozen()),
        }
    }

    fn within_frozen(&self, name: &TypeName) -> Result<CqlType> {
        Ok(match name {
            TypeName::Frozen(inner) => return self.within_frozen(inner),
            TypeName::List(element) => {
                no_counter(element, name)?;
                CqlType::List(Arc::new(self.within_frozen(element)?))
            }
            TypeName::Set(element) => {
                no_counter(element, name)?;
                no_duration(element, || {
                    format!("Durations are not allowed inside sets: {}", text(name))
                })?;
                CqlType::Set(Arc::new(self.within_frozen(element)?))
            }
            TypeName::Map(key, value) => {
                no_counter(key, name)?;
                no_counter(value, name)?;
                no_duration(key, || {
                    format!("Durations are not allowed as map keys: {}", text(name))
                })?;
                CqlType::Map(
                    Arc::new(self.within_frozen(key)?),
                    Arc::new(self.within_frozen(value)?),
                )
            }
            TypeName::Tuple(fields) => self.tuple(fields)?,
            other => return self.inner(other),
        })
    }

    fn tuple(&self, fields: &[TypeName]) -> Result<CqlType> {
        let mut types = Vec::with_capacity(fields.len());
        for field in fields {
            if is_counter(field) {
                return Err(Error::invalid("Counters are not allowed inside tuples"));
            }
            types.push(self.within_frozen(field)?);
        }
        Ok(CqlType::Tuple(types.into()))
    }

    fn inner(&self, name: &TypeName) -> Result<CqlType> {
        match name {
            TypeName::Native(native) => CqlType::native(native.name())
                .ok_or_else(|| Error::Server(format!("type {} is not known", native.name()))),
            TypeName::List(element) => {
                element_rules(element, name)?;
                Ok(CqlType::List(Arc::new(self.resolve(element)?)))
            }
            TypeName::Set(element) => {
                element_rules(element, name)?;
                no_duration(element, || {
                    format!("Durations are not allowed inside sets: {}", text(name))
                })?;
                Ok(CqlType::Set(Arc::new(self.resolve(element)?)))
            }
            TypeName::Map(key, value) => {
                element_rules(key, name)?;
                element_rules(value, name)?;
                no_duration(key, || {
                    format!("Durations are not allowed as map keys: {}", text(name))
                })?;
                Ok(CqlType::Map(Arc::new(self.resolve(key)?), Arc::new(self.resolve(value)?)))
            }
            TypeName::Tuple(fields) => self.tuple(fields),
            TypeName::Frozen(inner) => self.frozen(inner),
            TypeName::UserType(name) => self.user_type(name),
            TypeName::Vector(_, dimension) => Err(vector_error(*dimension)),
            TypeName::Custom(class) => custom(class),
        }
    }

    fn user_type(&self, name: &QualifiedName) -> Result<CqlType> {
        if let Some(keyspace) = &name.keyspace
            && keyspace != self.keyspace
        {
            return Err(Error::Invalid(format!(
                "Statement on keyspace {} cannot refer to a user type in keyspace {keyspace}; \
                 user types can only be used in the keyspace they are defined in",
                self.keyspace
            )));
        }
        match self.types.get(&name.name) {
            Some(user_type) => Ok(CqlType::Udt(Arc::clone(user_type))),
            None => Err(Error::Invalid(format!("Unknown type {}.{}", self.keyspace, name.name))),
        }
    }
}

fn vector_error(dimension: i64) -> Error {
    if dimension <= 0 {
        return Error::Invalid(format!(
            "vectors may only have positive dimensions; given {dimension}"
        ));
    }
    if dimension > VECTOR_DIMENSION_MAX {
        return Error::Invalid(format!(
            "vectors may only have up to {VECTOR_DIMENSION_MAX} dimensions; given {dimension}"
        ));
    }
    Error::invalid("the vector type is not supported by this version")
}

/// Elements of an unfrozen collection.
fn element_rules(element: &TypeName, collection: &TypeName) -> Result<()> {
    no_counter(element, collection)?;
    match element {
        TypeName::List(_) | TypeName::Set(_) | TypeName::Map(..) => Err(Error::Invalid(format!(
            "Non-frozen collections are not allowed inside collections: {}",
            text(collection)
        ))),
        TypeName::UserType(_) => Err(Error::Invalid(format!(
            "Non-frozen UDTs are not allowed inside collections: {}",
            text(collection)
        ))),
        _ => Ok(()),
    }
}

fn is_counter(name: &TypeName) -> bool {
    matches!(name, TypeName::Native(cql_parser::ast::NativeType::Counter))
}

fn no_counter(element: &TypeName, collection: &TypeName) -> Result<()> {
    if is_counter(element) {
        return Err(Error::Invalid(format!(
            "Counters are not allowed inside collections: {}",
            text(collection)
        )));
    }
    Ok(())
}

fn no_duration(element: &TypeName, message: impl FnOnce() -> String) -> Result<()> {
    if matches!(element, TypeName::Native(cql_parser::ast::NativeType::Duration)) {
        return Err(Error::Invalid(message()));
    }
    Ok(())
}

/// A type given by its Java class; the native ones are the CQL types, others are not known here.
fn custom(class: &str) -> Result<CqlType> {
    let prefix = "org.apache.cassandra.db.marshal.";
    let short = class.strip_prefix(prefix).unwrap_or(class);
    Ok(match short {
        "AsciiType" => CqlType::Ascii,
        "BooleanType" => CqlType::Boolean,
        "BytesType" => CqlType::Blob,
        "ByteType" => CqlType::TinyInt,
        "CounterColumnType" => CqlType::Counter,
        "DateType" | "TimestampType" => CqlType::Timestamp,
        "DecimalType" => CqlType::Decimal,
        "DoubleType" => CqlType::Double,
        "DurationType" => CqlType::Duration,
        "FloatType" => CqlType::Float,
        "InetAddressType" => CqlType::Inet,
        "Int32Type" => CqlType::Int,
        "IntegerType" => CqlType::VarInt,
        "LongType" => CqlType::BigInt,
        "ShortType" => CqlType::SmallInt,
        "SimpleDateType" => CqlType::Date,
        "TimeType" => CqlType::Time,
        "TimeUUIDType" => CqlType::TimeUuid,
        "UTF8Type" => CqlType::Text,
        "UUIDType" => CqlType::Uuid,
        _ => {
            let full =
                if class.contains('.') { class.to_owned() } else { format!("{prefix}{class}") };
            return Err(Error::Syntax(format!(
                "Error setting type {class}: Unable to find abstract-type class '{full}'"
            )));
        }
    })
}

/// A type as written, for messages.
pub(crate) fn text(name: &TypeName) -> String {
    match name {
        TypeName::Native(native) => native.name().to_owned(),
        TypeName::List(element) => format!("list<{}>", text(element)),
        TypeName::Set(element) => format!("set<{}>", text(element)),
        TypeName::Map(key, value) => format!("map<{}, {}>", text(key), text(value)),
        TypeName::Tuple(fields) => {
            format!("tuple<{}>", fields.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        TypeName::Vector(element, dimension) => format!("vector<{}, {dimension}>", text(element)),
        TypeName::Frozen(inner) => format!("frozen<{}>", text(inner)),
        TypeName::UserType(name) => match &name.keyspace {
            Some(keyspace) => format!("{keyspace}.{}", name.name),
            None => name.name.clone(),
        },
        TypeName::Custom(class) => format!("'{class}'"),
    }
}

/// Whether a duration is in it anywhere, outside of which order it has none.
pub(crate) fn mentions_duration(ty: &CqlType) -> bool {
    match ty {
        CqlType::Duration => true,
        CqlType::List(inner) | CqlType::Set(inner) | CqlType::Frozen(inner) => {
            mentions_duration(inner)
        }
        CqlType::Map(key, value) => mentions_duration(key) || mentions_duration(value),
        CqlType::Tuple(fields) => fields.iter().any(mentions_duration),
        CqlType::Udt(user_type) => {
            user_type.fields.iter().any(|(_, field)| mentions_duration(field))
        }
        _ => false,
    }
}

/// The type with every mention of a user type replaced by its new definition.
pub(crate) fn with_user_type(ty: &CqlType, changed: &Arc<UserType>) -> CqlType {
    let again = |inner: &CqlType| Arc::new(with_user_type(inner, changed));
    match ty {
        CqlType::List(inner) => CqlType::List(again(inner)),
        CqlType::Set(inner) => CqlType::Set(again(inner)),
        CqlType::Frozen(inner) => CqlType::Frozen(again(inner)),
        CqlType::Vector(inner, dimension) => CqlType::Vector(again(inner), *dimension),
        CqlType::Map(key, value) => CqlType::Map(again(key), again(value)),
        CqlType::Tuple(fields) => {
            CqlType::Tuple(fields.iter().map(|field| with_user_type(field, changed)).collect())
        }
        CqlType::Udt(user_type)
            if user_type.keyspace == changed.keyspace && user_type.name == changed.name =>
        {
            CqlType::Udt(Arc::clone(changed))
        }
        CqlType::Udt(user_type) => CqlType::Udt(Arc::new(user_type_with(user_type, changed))),
        other => other.clone(),
    }
}

/// A user type with mentions of another in its fields replaced.
pub(crate) fn user_type_with(user_type: &UserType, changed: &Arc<UserType>) -> UserType {
    let fields = user_type.fields.iter();
    UserType {
        keyspace: user_type.keyspace.clone(),
        name: user_type.name.clone(),
        fields: fields.map(|(name, ty)| (name.clone(), with_user_type(ty, changed))).collect(),
    }
}
