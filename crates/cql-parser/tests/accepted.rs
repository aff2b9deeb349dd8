//! Statements that must parse.

use cql_parser::parse_statement;

#[test]
fn every_form_of_cql_and_of_keyspaces_parses() {
    let mut refused = String::new();
    let mut total = 0;
    for line in include_str!("accepted.txt").lines().filter(|line| !line.starts_with(['#', '-'])) {
        total += 1;
        if let Err(error) = parse_statement(&line.replace("\\n", "\n")) {
            refused.push_str(&format!("{line}\n\t{error}\n"));
        }
    }
    assert!(total > 150, "only {total} statements");
    if !refused.is_empty() {
        panic!("refused:\n{refused}");
    }
}
