//! Types of random columns, and literals of them from small sets, with the edges of each type.

use super::Random;

/// Statements that make the user types of the columns.
pub(super) const USER_TYPES: [&str; 2] = [
    "CREATE TYPE address (street text, number int, tags frozen<set<text>>)",
    "CREATE TYPE pair (first int, second frozen<list<text>>)",
];

/// Native types that may be part of a key.
const KEY_NATIVES: [&str; 20] = [
    "ascii",
    "bigint",
    "blob",
    "boolean",
    "date",
    "decimal",
    "double",
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
    "varint",
    "int",
    "text",
];

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Native(&'static str),
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Tuple(Vec<Type>),
    User(&'static str),
    Frozen(Box<Type>),
}

impl Type {
    pub(super) fn native(random: &mut Random) -> Type {
        Type::Native(random.pick::<&str>(&KEY_NATIVES))
    }

    /// A type of a key column or of what is inside another type.
    pub(super) fn frozen(random: &mut Random) -> Type {
        if random.chance(80) {
            return Type::native(random);
        }
        Type::Frozen(Box::new(Type::composite(random)))
    }

    /// The type of a static or regular column.
    pub(super) fn any(random: &mut Random) -> Type {
        match random.below(10) {
            0..4 => Type::native(random),
            4 => Type::Native("duration"),
            5 => Type::Frozen(Box::new(Type::composite(random))),
            _ => Type::composite(random),
        }
    }

    fn composite(random: &mut Random) -> Type {
        let inner = |random: &mut Random| Box::new(Type::native(random));
        match random.below(5) {
            0 => Type::List(inner(random)),
            1 => Type::Set(inner(random)),
            2 => Type::Map(inner(random), inner(random)),
            3 => Type::Tuple((0..2).map(|_| Type::native(random)).collect()),
            _ => Type::User(random.pick::<&str>(&["address", "pair"])),
        }
    }

    pub(super) fn unfrozen(&self) -> &Type {
        match self {
            Type::Frozen(inner) => inner,
            other => other,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Type::Native(name) | Type::User(name) => (*name).to_owned(),
            Type::List(element) => format!("list<{}>", element.text()),
            Type::Set(element) => format!("set<{}>", element.text()),
            Type::Map(key, value) => format!("map<{}, {}>", key.text(), value.text()),
            Type::Tuple(fields) => {
                let fields: Vec<String> = fields.iter().map(Type::text).collect();
                format!("tuple<{}>", fields.join(", "))
            }
            Type::Frozen(inner) => format!("frozen<{}>", inner.text()),
        }
    }

    /// A literal.
    pub(super) fn literal(&self, random: &mut Random) -> String {
        let many = |ty: &Type, random: &mut Random| -> Vec<String> {
            (0..random.below(4)).map(|_| ty.literal(random)).collect()
        };
        match self {
            Type::Native(name) => native_literal(name, random),
            Type::List(element) => format!("[{}]", many(element, random).join(", ")),
            Type::Set(element) => format!("{{{}}}", many(element, random).join(", ")),
            Type::Map(key, value) => {
                // Of doubles any value may stay, and an empty one is taken for a set.
                let mut keys = many(key, random);
                keys.push(key.literal(random));
                keys.sort();
                keys.dedup();
                let entries: Vec<String> =
                    keys.iter().map(|key| format!("{key}: {}", value.literal(random))).collect();
                format!("{{{}}}", entries.join(", "))
            }
            Type::Tuple(fields) => {
                let items: Vec<String> =
                    fields.iter().map(|field| or_null(field, random)).collect();
                format!("({})", items.join(", "))
            }
            Type::User("address") => {
                let street = or_null(&Type::Native("text"), random);
                let number = or_null(&Type::Native("int"), random);
                if random.chance(30) {
                    return format!("{{street: {street}, number: {number}}}");
                }
                let tags = Type::Set(Box::new(Type::Native("text"))).literal(random);
                format!("{{street: {street}, number: {number}, tags: {tags}}}")
            }
            Type::User(_) => {
                let first = or_null(&Type::Native("int"), random);
                let second = Type::List(Box::new(Type::Native("text"))).literal(random);
                format!("{{first: {first}, second: {second}}}")
            }
            Type::Frozen(inner) => inner.literal(random),
        }
    }
}

fn or_null(ty: &Type, random: &mut Random) -> String {
    if random.chance(15) { "null".to_owned() } else { ty.literal(random) }
}

fn native_literal(name: &str, random: &mut Random) -> String {
    let texts: &[&str] = match name {
        "ascii" => &["''", "'a'", "'b'", "'ab'", "'Z'"],
        "text" => {
            if random.chance(5) {
                return format!("'{}'", "long ".repeat(60 + random.below(60)));
            }
            &["''", "'a'", "'ab'", "'é'", "'日本'", "'B'", "'it''s'"]
        }
        "bigint" => &["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "256"],
        "blob" => &["0x", "0x00", "0xff", "0x0001", "0x00ff", "0xcafe"],
        "boolean" => &["true", "false"],
        "date" => &["'1970-01-01'", "'2024-02-29'", "'1969-12-31'", "'-0044-03-15'", "0"],
        "decimal" => &["0", "1.5", "-1.5", "1e3", "0.001", "-123456789.123456789", "2"],
        "double" => &["0.0", "1.5", "-1.5", "1e300", "NaN", "Infinity", "-Infinity", "-0.0"],
        "float" => &["0.0", "1.5", "-1.5", "1e30", "NaN", "Infinity", "-Infinity"],
        "inet" => &["'127.0.0.1'", "'10.0.0.1'", "'::1'", "'2001:db8::1'", "'255.255.255.255'"],
        "int" => &["0", "1", "2", "-1", "2147483647", "-2147483648", "3"],
        "smallint" => &["0", "1", "-1", "32767", "-32768"],
        "time" => &["'00:00:00'", "'23:59:59.999999999'", "'12:30:00.5'"],
        "timestamp" => &["0", "-1", "'2024-02-29T12:00:00.123Z'", "1700000000000"],
        "timeuuid" => &[
            "00000000-0000-1000-8000-000000000000",
            "8e2a7000-1dd2-11b2-8080-808080808080",
            "50554d6e-29bb-11e5-b345-feff819cdc9f",
            "50554d6e-29bb-11e5-b345-feff819cdca0",
            "ffffffff-ffff-1fff-bfff-ffffffffffff",
        ],
        "tinyint" => &["0", "1", "-1", "127", "-128"],
        "uuid" => &[
            "00000000-0000-0000-0000-000000000000",
            "50554d6e-29bb-11e5-b345-feff819cdc9f",
            "123e4567-e89b-42d3-a456-426614174000",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        ],
        "varint" => &["0", "1", "-1", "128", "-129", "123456789012345678901234567890", "65536"],
        _ => &["1h", "12h30m", "1mo2d", "-1d", "P1Y2M", "0s"],
    };
    (*random.pick(texts)).to_owned()
}
