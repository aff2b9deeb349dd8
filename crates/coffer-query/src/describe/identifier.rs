//! Names as a statement must write them.

/// Words that cannot be names without quotes.
const RESERVED: &str = "\
    add allow alter and apply asc authorize batch begin by columnfamily create default delete \
    desc describe drop entries execute from full grant if in index infinity insert into is \
    keyspace limit materialized mbean mbeans modify nan norecursive not null of on or order \
    primary rename replace revoke schema select set table to token truncate unlogged unset \
    update use using view where with";

/// The name, in double quotes when it would not be read back without.
pub(crate) fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !RESERVED.split(' ').any(|word| word == name);
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn names_are_quoted_only_when_needed() {
        assert_eq!(identifier("abc_1"), "abc_1");
        assert_eq!(identifier("key"), "key");
        assert_eq!(identifier("Abc"), "\"Abc\"");
        assert_eq!(identifier("select"), "\"select\"");
        assert_eq!(identifier("with"), "\"with\"");
        assert_eq!(identifier("x y"), "\"x y\"");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(identifier("1a"), "\"1a\"");
    }
}
