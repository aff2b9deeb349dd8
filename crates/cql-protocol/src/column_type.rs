//! `[option]`: the type of a column in result and bind metadata.

use std::fmt::Write as _;
use std::sync::Arc;

use cql_types::{CqlType, UserType};

use crate::error::{ProtocolError, Result};
use crate::reader::Reader;
use crate::writer::Writer;

/// Levels of nesting that [`decode_type`] follows.
const DEPTH_MAX: u8 = 32;
const MARSHAL: &str = "org.apache.cassandra.db.marshal.";

const CUSTOM: u16 = 0x0000;
const LIST: u16 = 0x0020;
const MAP: u16 = 0x0021;
const SET: u16 = 0x0022;
const UDT: u16 = 0x0030;
const TUPLE: u16 = 0x0031;

/// Codes of the native types that version 4 has; a duration is a custom type there.
const NATIVE: [(u16, CqlType); 19] = [
    (0x0001, CqlType::Ascii),
    (0x0002, CqlType::BigInt),
    (0x0003, CqlType::Blob),
    (0x0004, CqlType::Boolean),
    (0x0005, CqlType::Counter),
    (0x0006, CqlType::Decimal),
    (0x0007, CqlType::Double),
    (0x0008, CqlType::Float),
    (0x0009, CqlType::Int),
    (0x000B, CqlType::Timestamp),
    (0x000C, CqlType::Uuid),
    (0x000D, CqlType::Text),
    (0x000E, CqlType::VarInt),
    (0x000F, CqlType::TimeUuid),
    (0x0010, CqlType::Inet),
    (0x0011, CqlType::Date),
    (0x0012, CqlType::Time),
    (0x0013, CqlType::SmallInt),
    (0x0014, CqlType::TinyInt),
];

fn native_code(ty: &CqlType) -> Option<u16> {
    NATIVE.iter().find(|(_, native)| native == ty).map(|(code, _)| *code)
}

/// Appends the `[option]` of a type; `frozen` is not told to clients.
pub fn encode_type(writer: &mut Writer<'_>, ty: &CqlType) {
    let ty = ty.unfrozen();
    if let Some(code) = native_code(ty) {
        return writer.short(code);
    }
    match ty {
        CqlType::List(element) => {
            writer.short(LIST);
            encode_type(writer, element);
        }
        CqlType::Set(element) => {
            writer.short(SET);
            encode_type(writer, element);
        }
        CqlType::Map(key, value) => {
            writer.short(MAP);
            encode_type(writer, key);
            encode_type(writer, value);
        }
        CqlType::Tuple(fields) => {
            writer.short(TUPLE);
            writer.short_length(fields.len());
            fields.iter().for_each(|field| encode_type(writer, field));
        }
        CqlType::Udt(user_type) => {
            writer.short(UDT);
            writer.string(&user_type.keyspace);
            writer.string(&user_type.name);
            writer.short_length(user_type.fields.len());
            for (name, field) in &user_type.fields {
                writer.string(name);
                encode_type(writer, field);
            }
        }
        other => {
            writer.short(CUSTOM);
            writer.string(&class_name(other));
        }
    }
}

/// The Java class by which clients know a type that has no code of its own.
fn class_name(ty: &CqlType) -> String {
    let simple = |name: &str| format!("{MARSHAL}{name}");
    let of = |name: &str, parameters: &[&CqlType]| {
        let parameters: Vec<String> = parameters.iter().map(|ty| class_name(ty)).collect();
        format!("{MARSHAL}{name}({})", parameters.join(","))
    };
    match ty {
        CqlType::Ascii => simple("AsciiType"),
        CqlType::BigInt => simple("LongType"),
        CqlType::Blob => simple("BytesType"),
        CqlType::Boolean => simple("BooleanType"),
        CqlType::Counter => simple("CounterColumnType"),
        CqlType::Date => simple("SimpleDateType"),
        CqlType::Decimal => simple("DecimalType"),
        CqlType::Double => simple("DoubleType"),
        CqlType::Duration => simple("DurationType"),
        CqlType::Empty => simple("EmptyType"),
        CqlType::Float => simple("FloatType"),
        CqlType::Inet => simple("InetAddressType"),
        CqlType::Int => simple("Int32Type"),
        CqlType::SmallInt => simple("ShortType"),
        CqlType::Text => simple("UTF8Type"),
        CqlType::Time => simple("TimeType"),
        CqlType::Timestamp => simple("TimestampType"),
        CqlType::TimeUuid => simple("TimeUUIDType"),
        CqlType::TinyInt => simple("ByteType"),
        CqlType::Uuid => simple("UUIDType"),
        CqlType::VarInt => simple("IntegerType"),
        CqlType::List(element) => of("ListType", &[element]),
        CqlType::Set(element) => of("SetType", &[element]),
        CqlType::Map(key, value) => of("MapType", &[key, value]),
        CqlType::Tuple(fields) => of("TupleType", &fields.iter().collect::<Vec<_>>()),
        CqlType::Udt(user_type) => user_type_class(user_type),
        CqlType::Vector(element, dimension) => {
            format!("{MARSHAL}VectorType({} , {dimension})", class_name(element))
        }
        CqlType::Custom(class) => class.to_string(),
        CqlType::Frozen(inner) => of("FrozenType", &[inner]),
        // `CqlType` may grow; a type unknown here reaches clients as bytes
        _ => simple("BytesType"),
    }
}

fn user_type_class(user_type: &UserType) -> String {
    let hex = |text: &str| {
        text.bytes().fold(String::new(), |mut out, byte| {
            // writing to a String cannot fail
            let _ = write!(out, "{byte:02x}");
            out
        })
    };
    let mut class = format!("{MARSHAL}UserType({},{}", user_type.keyspace, hex(&user_type.name));
    for (name, field) in &user_type.fields {
        let _ = write!(class, ",{}:{}", hex(name), class_name(field));
    }
    class.push(')');
    class
}

/// Reads an `[option]`.
///
/// # Errors
/// [`ProtocolError::UnknownCode`], [`ProtocolError::TooDeep`] and those of [`Reader`].
pub fn decode_type(reader: &mut Reader) -> Result<CqlType> {
    decode_nested(reader, DEPTH_MAX)
}

fn decode_nested(reader: &mut Reader, depth: u8) -> Result<CqlType> {
    let depth = depth.checked_sub(1).ok_or(ProtocolError::TooDeep(DEPTH_MAX))?;
    let code = reader.short()?;
    if let Some((_, native)) = NATIVE.iter().find(|(native, _)| *native == code) {
        return Ok(native.clone());
    }
    Ok(match code {
        CUSTOM => {
            let class = reader.string()?;
            match class.strip_prefix(MARSHAL) {
                Some("DurationType") => CqlType::Duration,
                Some("EmptyType") => CqlType::Empty,
                _ => CqlType::Custom(Arc::from(class.as_str())),
            }
        }
        LIST => CqlType::List(Arc::new(decode_nested(reader, depth)?)),
        SET => CqlType::Set(Arc::new(decode_nested(reader, depth)?)),
        MAP => CqlType::Map(
            Arc::new(decode_nested(reader, depth)?),
            Arc::new(decode_nested(reader, depth)?),
        ),
        TUPLE => {
            let count = reader.short_count(2)?;
            let fields = (0..count).map(|_| decode_nested(reader, depth));
            CqlType::Tuple(fields.collect::<Result<_>>()?)
        }
        UDT => {
            let keyspace = reader.string()?.to_string();
            let name = reader.string()?.to_string();
            let count = reader.short_count(4)?;
            let fields = (0..count)
                .map(|_| Ok((reader.string()?.to_string(), decode_nested(reader, depth)?)));
            let fields = fields.collect::<Result<_>>()?;
            CqlType::Udt(Arc::new(UserType { keyspace, name, fields }))
        }
        code => {
            return Err(ProtocolError::UnknownCode { what: "type", code: i64::from(code) });
        }
    })
}
