//! The words of CQL: which there are, and which of them may also be names.

use std::borrow::Cow;

/// How freely a keyword may be used as a name; as Cassandra's grammar has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Only with quotes.
    Reserved,
    /// Any name.
    Free,
    /// Any name but a user type's: the native types.
    Type,
    /// A column, table or keyspace, but no function and no user type.
    NoFunction,
}

macro_rules! keywords {
    ($($name:ident $text:literal $class:ident)*) => {
        /// A keyword; several spellings may share one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Keyword { $($name,)* }

        /// Every keyword; sorted by spelling.
        const KEYWORDS: &[(&str, Keyword)] = &[$(($text, Keyword::$name),)*];

        impl Keyword {
            pub(crate) fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }

            /// In lower case.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

keywords! {
    Access "access" Free
    Add "add" Reserved
    Aggregate "aggregate" Free
    Aggregates "aggregates" Free
    All "all" Free
    Allow "allow" Reserved
    Alter "alter" Reserved
    And "and" Reserved
    Ann "ann" Free
    Apply "apply" Reserved
    As "as" Free
    Asc "asc" Reserved
    Ascii "ascii" Type
    Authorize "authorize" Reserved
    Batch "batch" Reserved
    Begin "begin" Reserved
    Between "between" Free
    BigInt "bigint" Type
    Blob "blob" Type
    Boolean "boolean" Type
    By "by" Reserved
    Called "called" Free
    Cast "cast" NoFunction
    Cidrs "cidrs" Free
    Cluster "cluster" Free
    Clustering "clustering" Free
    ColumnFamilies "columnfamilies" Free
    ColumnFamily "columnfamily" Reserved
    Compact "compact" Free
    Contains "contains" Free
    Count "count" NoFunction
    Counter "counter" Type
    Create "create" Reserved
    Custom "custom" Free
    Datacenters "datacenters" Free
    Date "date" Type
    Decimal "decimal" Type
    Default "default" Free
    Delete "delete" Reserved
    Desc "desc" Reserved
    Describe "describe" Reserved
    Distinct "distinct" NoFunction
    Double "double" Type
    Drop "drop" Reserved
    Duration "duration" Type
    Entries "entries" Reserved
    Execute "execute" Reserved
    Exists "exists" Free
    Filtering "filtering" Free
    FinalFunc "finalfunc" Free
    Float "float" Type
    From "from" Reserved
    Frozen "frozen" Free
    Full "full" Reserved
    Function "function" Free
    Functions "functions" Free
    Generated "generated" Free
    Grant "grant" Reserved
    Group "group" Free
    Hashed "hashed" Free
    Identity "identity" Free
    If "if" Reserved
    In "in" Reserved
    Index "index" Reserved
    Inet "inet" Type
    Infinity "infinity" Reserved
    InitCond "initcond" Free
    Input "input" Free
    Insert "insert" Reserved
    Int "int" Type
    Internals "internals" Free
    Into "into" Reserved
    Is "is" Reserved
    Json "json" NoFunction
    Key "key" NoFunction
    Keys "keys" Free
    Keyspace "keyspace" Reserved
    Keyspaces "keyspaces" Free
    Language "language" Free
    Like "like" Free
    Limit "limit" Reserved
    List "list" Free
    Login "login" Free
    Map "map" Free
    Masked "masked" Free
    Materialized "materialized" Reserved
    MaxWriteTime "maxwritetime" NoFunction
    Mbean "mbean" Free
    Mbeans "mbeans" Free
    Modify "modify" Reserved
    Nan "nan" Reserved
    NoLogin "nologin" Free
    NoRecursive "norecursive" Reserved
    NoSuperUser "nosuperuser" Free
    Not "not" Reserved
    Null "null" Reserved
    Of "of" Reserved
    On "on" Reserved
    Only "only" Free
    Options "options" Free
    Or "or" Reserved
    Order "order" Reserved
    Partition "partition" Free
    Password "password" Free
    Per "per" Free
    Permission "permission" Free
    Permissions "permissions" Free
    Primary "primary" Reserved
    Rename "rename" Reserved
    Replace "replace" Free
    Returns "returns" Free
    Revoke "revoke" Reserved
    Role "role" Free
    Roles "roles" Free
    Schema "schema" Reserved
    Select "select" Reserved
    SelectMasked "select_masked" Free
    Set "set" Reserved
    Sfunc "sfunc" Free
    SmallInt "smallint" Type
    Static "static" Free
    Storage "storage" Free
    Stype "stype" Free
    SuperUser "superuser" Free
    SuperUsers "superusers" Free
    Table "table" Reserved
    Tables "tables" Free
    Text "text" Type
    Time "time" Type
    Timestamp "timestamp" Type
    TimeUuid "timeuuid" Type
    TinyInt "tinyint" Type
    To "to" Reserved
    Token "token" Reserved
    Trigger "trigger" Free
    Truncate "truncate" Reserved
    Ttl "ttl" NoFunction
    Tuple "tuple" Free
    Type "type" Free
    Types "types" Free
    Unlogged "unlogged" Reserved
    Unmask "unmask" Free
    Unset "unset" Free
    Update "update" Reserved
    Use "use" Reserved
    User "user" Free
    Users "users" Free
    Using "using" Reserved
    Uuid "uuid" Type
    Values "values" Free
    VarChar "varchar" Type
    VarInt "varint" Type
    Vector "vector" Free
    View "view" Reserved
    Where "where" Reserved
    With "with" Reserved
    WriteTime "writetime" NoFunction
}

/// Where the keywords of each first letter start in [`KEYWORDS`], and where the last ones end.
const STARTS: [usize; 27] = starts();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn starts() -> [usize; 27] {
    let mut starts = [0; 27];
    let mut letter = 0;
    let mut index = 0;
    while letter < 26 {
        starts[letter] = index;
        while index < KEYWORDS.len()
            && KEYWORDS[index].0.as_bytes()[0] as usize == letter + b'a' as usize
        {
            index += 1;
        }
        letter += 1;
    }
    starts[26] = index;
    starts
}

/// The keyword a word is, in any letter case.
pub(crate) fn lookup(word: &[u8]) -> Option<Keyword> {
    let letter = usize::from(word.first()?.to_ascii_lowercase().checked_sub(b'a')?);
    let range = *STARTS.get(letter)?..*STARTS.get(letter + 1)?;
    KEYWORDS
        .get(range)?
        .iter()
        .find(|(text, _)| text.len() == word.len() && text.as_bytes().eq_ignore_ascii_case(word))
        .map(|&(_, keyword)| keyword)
}

/// A name as CQL reads it back: in double quotes if it needs them.
#[must_use]
pub fn quoted_name(name: &str) -> Cow<'_, str> {
    if needs_quotes(name) {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(name)
    }
}

fn needs_quotes(name: &str) -> bool {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    !plain
        || matches!(name, "true" | "false")
        || lookup(name.as_bytes()).is_some_and(|k| k.class() == Class::Reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_found_in_any_letter_case() {
        for &(text, keyword) in KEYWORDS {
            assert_eq!(lookup(text.as_bytes()), Some(keyword), "{text}");
            assert_eq!(lookup(text.to_ascii_uppercase().as_bytes()), Some(keyword), "{text}");
        }
        assert!(KEYWORDS.is_sorted_by_key(|(text, _)| text.as_bytes().first()));
    }

    #[test]
    fn words_that_only_begin_like_keywords_are_none() {
        for word in ["", "_", "selec", "selects", "zebra", "9", "tags", "restore"] {
            assert_eq!(lookup(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn reserved_and_odd_names_need_quotes() {
        for name in ["select", "Upper", "a b", "", "1a", "true", "token", "é"] {
            assert!(needs_quotes(name), "{name}");
        }
        for name in ["a", "a_1", "ttl", "key", "text", "values"] {
            assert!(!needs_quotes(name), "{name}");
        }
    }
}
