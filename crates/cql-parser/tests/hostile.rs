//! Hostile text: deep, long, broken. Nothing panics, overflows the stack or takes long.

use cql_parser::{MAXIMUM_DEPTH, parse_statement};

/// A statement whose value is nested `depth` levels deep.
fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("INSERT INTO t (a) VALUES ({}{inner}{})", open.repeat(depth), close.repeat(depth))
}

#[test]
fn literals_nest_to_the_limit_and_no_further() {
    let limit = usize::from(MAXIMUM_DEPTH);
    for (open, inner, close) in [
        ("[", "1", "]"),
        ("{", "1", "}"),
        ("(", "1", ")"),
        ("f(", "1", ")"),
        ("{a: ", "1", "}"),
        ("(int)", "1", ""),
    ] {
        // a type hint's parentheses and its term are two levels
        let limit = if open == "(int)" { limit / 2 } else { limit };
        let at = nested(open, inner, close, limit);
        assert!(
            parse_statement(&at).is_ok(),
            "{open} at the limit: {:?}",
            parse_statement(&at).err()
        );
        match parse_statement(&nested(open, inner, close, limit + 1)) {
            Err(error) => assert!(
                error.message().contains("nested deeper than 128 levels"),
                "{open}: {error}"
            ),
            Ok(_) => panic!("{open} parses past the limit"),
        }
    }
}

#[test]
fn types_and_selections_and_chains_stop_at_the_limit() {
    let limit = usize::from(MAXIMUM_DEPTH);
    let make: [fn(usize) -> String; 7] = [
        |n| format!("CREATE TABLE t (a {}int{} PRIMARY KEY)", "list<".repeat(n), ">".repeat(n)),
        |n| format!("SELECT {}a{} FROM t", "(".repeat(n), ")".repeat(n)),
        |n| format!("SELECT {}a FROM t", "- ".repeat(n)),
        |n| format!("SELECT a{} FROM t", " + a".repeat(n)),
        |n| format!("SELECT a{} FROM t", ".b".repeat(n)),
        |n| format!("INSERT INTO t (a) VALUES (1{})", " * 1".repeat(n)),
        |n| format!("SELECT * FROM t WHERE {}a = 1{}", "(".repeat(n), ")".repeat(n)),
    ];
    for (case, make) in make.into_iter().enumerate() {
        assert!(parse_statement(&make(limit)).is_ok(), "case {case} at the limit");
        assert!(parse_statement(&make(limit + 1)).is_err(), "case {case} past the limit");
    }
}

#[test]
fn endless_openings_are_refused_without_harm() {
    for open in [
        "(",
        "[",
        "{",
        "{1:",
        "f(",
        "-",
        "a.",
        "a[",
        "CAST(",
        "(int)",
        "list<",
        "{'a':",
        "JSON ",
        "DISTINCT ",
        "--",
        "/*",
        "'",
    ] {
        for start in [
            "SELECT ",
            "SELECT * FROM t WHERE a = ",
            "SELECT * FROM t WHERE ",
            "INSERT INTO t (a) VALUES (",
            "CREATE TABLE t (a ",
            "CREATE TABLE t (a int PRIMARY KEY) WITH custom_properties = ",
            "",
        ] {
            let statement = format!("{start}{}", open.repeat(19_999));
            assert!(parse_statement(&statement).is_err(), "{start}{open}...");
        }
    }
}

#[test]
fn a_long_list_parses_and_its_error_stays_short() {
    let items = "1, ".repeat(300_000);
    assert!(parse_statement(&format!("INSERT INTO t (a) VALUES ([{items}1])")).is_ok());
    let error = parse_statement(&format!(
        "INSERT INTO t (a) VALUES ([{items}'{}' 1])",
        "x".repeat(100_000)
    ));
    assert!(error.is_err_and(|error| error.message().len() < 5000));
    let assignments = (0..50_000).map(|n| format!("c{n} = {n}")).collect::<Vec<_>>().join(", ");
    assert!(parse_statement(&format!("UPDATE t SET {assignments} WHERE k = 1")).is_ok());
}

#[test]
fn markers_are_counted_to_the_protocols_limit() {
    let statement =
        |markers: usize| format!("INSERT INTO t (a) VALUES ([{}?])", "?, ".repeat(markers - 1));
    assert!(
        parse_statement(&statement(65_536))
            .is_ok_and(|statement| statement.bind_markers.len() == 65_536)
    );
    assert!(parse_statement(&statement(65_537)).is_err());
}

/// Numbers that are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

/// What the fuzzer runs: any text gives a statement or an error with a message.
fn fuzz_parse(text: &str) {
    if let Err(error) = parse_statement(text) {
        assert!(!error.message().is_empty(), "no message for {text}");
    }
}

#[test]
fn mutated_statements_never_panic() {
    let corpus: Vec<&str> = include_str!("accepted.txt")
        .lines()
        .chain(include_str!("syntax_errors.txt").lines())
        .collect();
    let pieces: Vec<&str> = corpus.iter().flat_map(|line| line.split_inclusive(' ')).collect();
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for round in 0..40_000 {
        let Some(line) = corpus.get(numbers.below(corpus.len())) else {
            continue;
        };
        let mut bytes = line.replace("\\n", "\n").into_bytes();
        for _ in 0..=numbers.below(3) {
            let at = numbers.below(bytes.len() + 1);
            match numbers.below(5) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => {
                    bytes.remove(at);
                }
                2 => bytes.insert(at, b"'\"()[]{}<>,.;:?$=+-*/ \n\xC2\xB5"[numbers.below(25)]),
                3 => {
                    let piece = pieces
                        .get(numbers.below(pieces.len()))
                        .map_or(&[][..], |piece| piece.as_bytes());
                    bytes.splice(at..at, piece.iter().copied());
                }
                _ => {
                    let random = u8::try_from(numbers.below(256)).unwrap_or(0);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = random;
                    }
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        fuzz_parse(&text);
        assert!(round < 40_000);
    }
}
