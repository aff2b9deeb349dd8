//! The native functions: how a call is resolved by its arguments.

mod call;

pub(crate) use call::timeuuid;

use std::sync::Arc;

use coffer_model::TableSchema;
use cql_parser::ast::{NativeType, QualifiedName};
use cql_types::CqlType;

use crate::error::{Error, Result};
use crate::number::{Arithmetic, arithmetic_type, is_numeric};
use crate::plan::display;
use crate::plan::term::same_type;

/// An argument of a call that is being resolved.
pub(crate) trait Argument {
    /// Its type, when it has one by itself; literals and markers have none.
    fn ty(&self) -> Option<CqlType>;
    /// Whether it can be of the type.
    fn is_assignable(&self, ty: &CqlType) -> bool;
    /// As messages write it.
    fn text(&self) -> String;
}

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateKind {
    CountRows,
    Count,
    Min,
    Max,
    Sum,
    Avg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MathKind {
    Abs,
    Exp,
    Log,
    Log10,
    Round,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Now,
    Uuid,
    CurrentDate,
    CurrentTime,
    CurrentTimestamp,
    ToDate,
    ToTimestamp,
    ToUnixTimestamp,
    MinTimeUuid,
    MaxTimeUuid,
    /// The bytes as they are, checked against the result type when that is not blob.
    Reinterpret,
    Token,
    Cast,
    Arithmetic(Arithmetic),
    Negation,
    Math(MathKind),
    CollectionCount,
    MapKeys,
    MapValues,
    Aggregate(AggregateKind),
}

/// A function with the types it is called with.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    /// `system.now`
    pub(crate) name: String,
    /// Types of the arguments.
    pub(crate) arguments: Vec<CqlType>,
    /// Type of the result.
    pub(crate) result: CqlType,
    kind: Kind,
}

struct Signature {
    arguments: Vec<CqlType>,
    result: CqlType,
    kind: Kind,
}

fn signature(arguments: &[CqlType], result: &CqlType, kind: Kind) -> Signature {
    Signature { arguments: arguments.to_vec(), result: result.clone(), kind }
}

/// The native types that have conversions from and to blob, by the name in the function.
const BLOB_TYPES: &[&str] = &[
    "ascii",
    "bigint",
    "boolean",
    "counter",
    "date",
    "decimal",
    "double",
    "duration",
    "float",
    "inet",
    "int",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timeuuid",
    "tinyint",
    "uuid",
    "varchar",
    "varint",
];

fn signatures(name: &str, table: &TableSchema) -> Vec<Signature> {
    use CqlType as T;
    match name {
        "now" | "current_timeuuid" | "currenttimeuuid" => {
            vec![signature(&[], &T::TimeUuid, Kind::Now)]
        }
        "uuid" => vec![signature(&[], &T::Uuid, Kind::Uuid)],
        "currentdate" | "current_date" => vec![signature(&[], &T::Date, Kind::CurrentDate)],
        "currenttime" | "current_time" => vec![signature(&[], &T::Time, Kind::CurrentTime)],
        "currenttimestamp" | "current_timestamp" => {
            vec![signature(&[], &T::Timestamp, Kind::CurrentTimestamp)]
        }
        "todate" | "to_date" => vec![
            signature(&[T::Timestamp], &T::Date, Kind::ToDate),
            signature(&[T::TimeUuid], &T::Date, Kind::ToDate),
        ],
        "totimestamp" | "to_timestamp" => vec![
            signature(&[T::Date], &T::Timestamp, Kind::ToTimestamp),
            signature(&[T::TimeUuid], &T::Timestamp, Kind::ToTimestamp),
        ],
        "tounixtimestamp" | "to_unix_timestamp" => vec![
            signature(&[T::Timestamp], &T::BigInt, Kind::ToUnixTimestamp),
            signature(&[T::Date], &T::BigInt, Kind::ToUnixTimestamp),
            signature(&[T::TimeUuid], &T::BigInt, Kind::ToUnixTimestamp),
        ],
        "dateof" => vec![signature(&[T::TimeUuid], &T::Timestamp, Kind::ToTimestamp)],
        "unixtimestampof" => vec![signature(&[T::TimeUuid], &T::BigInt, Kind::ToUnixTimestamp)],
        "mintimeuuid" | "min_timeuuid" => {
            vec![signature(&[T::Timestamp], &T::TimeUuid, Kind::MinTimeUuid)]
        }
        "maxtimeuuid" | "max_timeuuid" => {
            vec![signature(&[T::Timestamp], &T::TimeUuid, Kind::MaxTimeUuid)]
        }
        "token" => {
            let types: Vec<CqlType> =
                table.partition_key().iter().map(|column| column.ty.clone()).collect();
            vec![signature(&types, &T::BigInt, Kind::Token)]
        }
        "abs" | "exp" | "log" | "log10" | "round" => math_signatures(name),
        "sum" | "avg" => numeric_types()
            .iter()
            .map(|ty| {
                let kind = if name == "sum" { AggregateKind::Sum } else { AggregateKind::Avg };
                signature(std::slice::from_ref(ty), ty, Kind::Aggregate(kind))
            })
            .collect(),
        _ => blob_signature(name).into_iter().collect(),
    }
}

fn numeric_types() -> [CqlType; 9] {
    use CqlType as T;
    [
        T::TinyInt,
        T::SmallInt,
        T::Int,
        T::BigInt,
        T::Counter,
        T::Float,
        T::Double,
        T::VarInt,
        T::Decimal,
    ]
}

fn math_signatures(name: &str) -> Vec<Signature> {
    let kind = match name {
        "abs" => MathKind::Abs,
        "exp" => MathKind::Exp,
        "log" => MathKind::Log,
        "log10" => MathKind::Log10,
        _ => MathKind::Round,
    };
    numeric_types()
        .iter()
        .map(|ty| signature(std::slice::from_ref(ty), ty, Kind::Math(kind)))
        .collect()
}

/// `intasblob`, `int_as_blob`, `blobasint`, `blob_as_int`.
fn blob_signature(name: &str) -> Option<Signature> {
    let native = |name: &str| BLOB_TYPES.contains(&name).then(|| CqlType::native(name)).flatten();
    if let Some(ty) = name.strip_suffix("_as_blob").or_else(|| name.strip_suffix("asblob"))
        && let Some(ty) = native(ty)
    {
        return Some(signature(&[ty], &CqlType::Blob, Kind::Reinterpret));
    }
    let ty = name.strip_prefix("blob_as_").or_else(|| name.strip_prefix("blobas"))?;
    Some(signature(&[CqlType::Blob], &native(ty)?, Kind::Reinterpret))
}

/// Functions whose types follow their argument.
fn generic(name: &str, argument: &CqlType) -> Option<Signature> {
    let ty = argument.unfrozen();
    let own = std::slice::from_ref(argument);
    Some(match (name, ty) {
        ("count", _) => signature(own, &CqlType::BigInt, Kind::Aggregate(AggregateKind::Count)),
        ("min", _) => signature(own, argument, Kind::Aggregate(AggregateKind::Min)),
        ("max", _) => signature(own, argument, Kind::Aggregate(AggregateKind::Max)),
        ("collection_count", CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..)) => {
            signature(own, &CqlType::Int, Kind::CollectionCount)
        }
        ("map_keys", CqlType::Map(key, _)) => {
            signature(own, &CqlType::Set(Arc::clone(key)), Kind::MapKeys)
        }
        ("map_values", CqlType::Map(_, value)) => {
            signature(own, &CqlType::List(Arc::clone(value)), Kind::MapValues)
        }
        _ => return None,
    })
}

const GENERIC: &[&str] = &["count", "min", "max", "collection_count", "map_keys", "map_values"];
const JSON: &[&str] = &["to_json", "tojson", "from_json", "fromjson"];

/// Finds the function of a name that takes these arguments; `None` when no function has the name.
///
/// # Errors
/// When the arguments fit none, or more than one, of its signatures.
pub(crate) fn resolve(
    name: &QualifiedName,
    arguments: &[&dyn Argument],
    table: &TableSchema,
    receiver: Option<&CqlType>,
) -> Result<Option<Function>> {
    if name.keyspace.as_deref().is_some_and(|keyspace| keyspace != "system") {
        return Ok(None);
    }
    let short = name.name.as_str();
    if JSON.contains(&short) {
        return Err(Error::invalid(format!("JSON is not yet supported (function {short})")));
    }
    let full = format!("system.{short}");
    let found = if GENERIC.contains(&short) {
        vec![resolve_generic(short, &full, arguments)?]
    } else {
        signatures(short, table)
    };
    if found.is_empty() {
        return Ok(None);
    }
    choose(&full, found, arguments, receiver).map(Some)
}

/// Whether a function has the name, whatever its arguments.
pub(crate) fn is_known(name: &QualifiedName, table: &TableSchema) -> bool {
    let short = name.name.as_str();
    name.keyspace.as_deref().is_none_or(|keyspace| keyspace == "system")
        && (GENERIC.contains(&short)
            || JSON.contains(&short)
            || !signatures(short, table).is_empty())
}

fn resolve_generic(name: &str, full: &str, arguments: &[&dyn Argument]) -> Result<Signature> {
    let [argument] = arguments else {
        return Err(Error::invalid(match name {
            "count" => format!(
                "Invalid number of arguments in call to function {full}: 1 required but {} provided",
                arguments.len()
            ),
            _ => format!("Invalid number of arguments for function {full}(any)"),
        }));
    };
    let ty = argument.ty().ok_or_else(|| {
        Error::invalid(format!("Cannot infer type of argument {} in call to function {full}: use type casts to disambiguate", argument.text()))
    })?;
    generic(name, &ty).ok_or_else(|| {
        Error::invalid(format!(
            "Function {full} requires a collection argument, but found argument {} of type {ty}",
            argument.text()
        ))
    })
}

fn choose(
    full: &str,
    mut found: Vec<Signature>,
    arguments: &[&dyn Argument],
    receiver: Option<&CqlType>,
) -> Result<Function> {
    if let [only] = found.as_slice() {
        check_arguments(full, only, arguments)?;
    }
    let fits = |signature: &Signature| {
        signature.arguments.len() == arguments.len()
            && signature.arguments.iter().zip(arguments).all(|(ty, given)| given.is_assignable(ty))
    };
    let exact = |signature: &Signature| {
        signature
            .arguments
            .iter()
            .zip(arguments)
            .all(|(ty, given)| given.ty().is_some_and(|given| same_type(&given, ty)))
    };
    let known: Vec<String> = found.iter().map(|signature| describe(full, signature)).collect();
    found.retain(fits);
    if found.len() > 1
        && let Some(place) = found.iter().position(exact)
    {
        found = vec![found.swap_remove(place)];
    }
    if let Some(receiver) = receiver
        && found.iter().filter(|one| same_type(&one.result, receiver)).count() == 1
    {
        found.retain(|one| same_type(&one.result, receiver));
    }
    let short = full.strip_prefix("system.").unwrap_or(full);
    if found.len() > 1 {
        let fitting: Vec<String> = found.iter().map(|one| describe(full, one)).collect();
        return Err(Error::invalid(format!(
            "Ambiguous call to function {short} (can be matched by following signatures: {}): use type casts to disambiguate",
            fitting.join(", ")
        )));
    }
    let Some(chosen) = found.pop() else {
        return Err(Error::invalid(format!(
            "Invalid call to function {short}, none of its type signatures match (known type signatures: {})",
            known.join(", ")
        )));
    };
    Ok(Function {
        name: full.to_owned(),
        arguments: chosen.arguments,
        result: chosen.result,
        kind: chosen.kind,
    })
}

fn check_arguments(full: &str, only: &Signature, arguments: &[&dyn Argument]) -> Result<()> {
    if only.arguments.len() != arguments.len() {
        return Err(Error::invalid(format!(
            "Invalid number of arguments in call to function {full}: {} required but {} provided",
            only.arguments.len(),
            arguments.len()
        )));
    }
    for (place, (ty, given)) in only.arguments.iter().zip(arguments).enumerate() {
        if !given.is_assignable(ty) {
            return Err(Error::invalid(format!(
                "Type error: {} cannot be passed as argument {place} of function {full} of type {ty}",
                given.text()
            )));
        }
    }
    Ok(())
}

fn describe(full: &str, signature: &Signature) -> String {
    let arguments: Vec<String> = signature.arguments.iter().map(ToString::to_string).collect();
    format!("{full} : ({}) -> {}", arguments.join(", "), signature.result)
}

/// `CAST(argument AS target)`
///
/// # Errors
/// When there is no such conversion.
pub(crate) fn cast(argument: &dyn Argument, target: NativeType) -> Result<Function> {
    let target = CqlType::native(target.name())
        .ok_or_else(|| Error::Server("a native type has no name".to_owned()))?;
    let source = argument.ty().ok_or_else(|| {
        Error::invalid(format!(
            "Cannot infer type for term {} in selection clause (try using a cast to force a type)",
            argument.text()
        ))
    })?;
    if !is_cast_target(&target) {
        return Err(Error::invalid(format!("{} cannot be cast to {target}", argument.text())));
    }
    if !can_cast(source.unfrozen(), &target) {
        return Err(Error::invalid(format!(
            "Invalid call to function system.cast_as_{target}, none of its type signatures match ({source} cannot be cast to {target})"
        )));
    }
    Ok(Function {
        name: format!("system.cast_as_{target}"),
        arguments: vec![source],
        result: target,
        kind: Kind::Cast,
    })
}

fn is_cast_target(ty: &CqlType) -> bool {
    let text_or_time =
        matches!(ty, CqlType::Text | CqlType::Ascii | CqlType::Date | CqlType::Timestamp);
    (is_numeric(ty) && *ty != CqlType::Counter) || text_or_time
}

fn can_cast(from: &CqlType, to: &CqlType) -> bool {
    use CqlType as T;
    match to {
        _ if from == to => true,
        T::Ascii | T::Text => {
            is_numeric(from)
                || matches!(
                    from,
                    T::Ascii
                        | T::Boolean
                        | T::Date
                        | T::Time
                        | T::Timestamp
                        | T::TimeUuid
                        | T::Uuid
                        | T::Inet
                ) && !(matches!(from, T::Text) && matches!(to, T::Ascii))
        }
        T::Date => matches!(from, T::TimeUuid | T::Timestamp),
        T::Timestamp => matches!(from, T::TimeUuid | T::Date),
        _ => is_numeric(from),
    }
}

/// `left operator right`
///
/// # Errors
/// When the operands are not numbers.
pub(crate) fn arithmetic(
    operation: Arithmetic,
    left: &dyn Argument,
    right: &dyn Argument,
    receiver: Option<&CqlType>,
) -> Result<Function> {
    let numeric_receiver = receiver.filter(|ty| is_numeric(ty)).cloned();
    let literal = |known: &CqlType, other: &dyn Argument| {
        let wider = [CqlType::Double, CqlType::Decimal];
        std::iter::once(known).chain(&wider).find(|ty| other.is_assignable(ty)).cloned()
    };
    let types = match (left.ty(), right.ty()) {
        (Some(left), Some(right)) => Some((left, right)),
        (Some(known), None) => literal(&known, right).map(|other| (known, other)),
        (None, Some(known)) => literal(&known, left).map(|other| (other, known)),
        (None, None) => {
            let defaults = [CqlType::Int, CqlType::BigInt, CqlType::VarInt, CqlType::Double];
            let fits = |ty: &CqlType| left.is_assignable(ty) && right.is_assignable(ty);
            numeric_receiver
                .filter(|ty| fits(ty))
                .or_else(|| defaults.into_iter().find(|ty| fits(ty)))
                .map(|ty| (ty.clone(), ty))
        }
    };
    let resolved = types.and_then(|(left, right)| {
        let result = arithmetic_type(left.unfrozen(), right.unfrozen())?;
        Some((left, right, result))
    });
    let Some((left, right, result)) = resolved else {
        return Err(Error::invalid(format!(
            "the '{}' operation is not supported between {} and {}",
            operation.sign(),
            left.text(),
            right.text()
        )));
    };
    Ok(Function {
        name: format!("system._{operation:?}").to_lowercase(),
        arguments: vec![left, right],
        result,
        kind: Kind::Arithmetic(operation),
    })
}

/// `-argument`
///
/// # Errors
/// When the operand is not a number.
pub(crate) fn negation(argument: &dyn Argument, receiver: Option<&CqlType>) -> Result<Function> {
    let ty = argument.ty().or_else(|| receiver.cloned()).filter(is_numeric).ok_or_else(|| {
        Error::invalid(format!("the '-' operation is not supported on {}", argument.text()))
    })?;
    Ok(Function {
        name: "system._negate".to_owned(),
        arguments: vec![ty.clone()],
        result: ty,
        kind: Kind::Negation,
    })
}

impl Function {
    pub(crate) fn is_aggregate(&self) -> bool {
        matches!(self.kind, Kind::Aggregate(_))
    }

    pub(crate) fn aggregate(&self) -> Option<AggregateKind> {
        match self.kind {
            Kind::Aggregate(kind) => Some(kind),
            _ => None,
        }
    }

    /// Whether the result can be a value of the type.
    pub(crate) fn returns(&self, ty: &CqlType) -> bool {
        let (own, ty) = (self.result.unfrozen(), ty.unfrozen());
        same_type(own, ty)
            || matches!(
                (own, ty),
                (CqlType::TimeUuid, CqlType::Uuid)
                    | (CqlType::Ascii, CqlType::Text)
                    | (CqlType::BigInt, CqlType::Counter | CqlType::Timestamp)
            )
            || matches!(ty, CqlType::Blob) && matches!(self.kind, Kind::Reinterpret)
    }
}

/// The message for a function that does not exist, in a selection.
pub(crate) fn unknown_in_selection(name: &QualifiedName) -> Error {
    Error::invalid(format!("Unknown function '{}'", display::qualified(name)))
}
