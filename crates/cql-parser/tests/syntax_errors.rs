//! Syntax errors against the collected messages of Apache Cassandra.

use cql_parser::parse_statement;

/// `line L:C kind`, which must be right even where the rest differs.
fn place_and_kind(message: &str) -> String {
    message.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[test]
fn syntax_errors_read_as_cassandras() {
    let (mut total, mut exact, mut placed) = (0, 0, 0);
    let mut differences = String::new();
    for line in include_str!("syntax_errors.txt").lines().filter(|line| !line.starts_with('#')) {
        let Some((statement, expected)) = line.split_once("\t=>\t") else {
            panic!("no case: {line}");
        };
        let statement = statement.replace("\\n", "\n");
        let found = match parse_statement(&statement) {
            Ok(statement) => panic!("parsed although Cassandra refuses it: {line}\n{statement:?}"),
            Err(error) => error.to_string(),
        };
        total += 1;
        if found == expected {
            exact += 1;
            placed += 1;
            continue;
        }
        if place_and_kind(&found) == place_and_kind(expected) {
            placed += 1;
        }
        differences.push_str(&format!("{line}\n\t   \t{found}\n"));
    }
    assert!(total > 300, "only {total} cases");
    assert!(exact * 100 >= total * 98, "{differences}only {exact} of {total} exact");
    assert!(
        placed * 100 >= total * 99,
        "{differences}only {placed} of {total} with the same place and kind"
    );
}
