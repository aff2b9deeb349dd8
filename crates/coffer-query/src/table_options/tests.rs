//! Options of Cassandra 5, right and wrong, with what Cassandra 5.0.6 answered to each.

use cql_parser::StatementKind;

use super::*;

fn apply_text(options: &str) -> Result<TableOptions> {
    let cql = format!("CREATE TABLE k.o (a int PRIMARY KEY) WITH {options}");
    let statement = cql_parser::parse_statement(&cql).expect("test statement parses");
    let StatementKind::CreateTable(create) = statement.kind else { panic!("not CREATE TABLE") };
    let options = apply(&TableOptions::default(), &create.properties)?;
    validate(&options)?;
    Ok(options)
}

#[test]
fn wrong_options_answer_in_the_words_of_cassandra() {
    for case in include_str!("tests/wrong_options.txt").lines().filter(|line| !line.is_empty()) {
        let mut parts = case.splitn(3, '|').map(str::trim);
        let (options, class, text) =
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let error = apply_text(options).expect_err(options);
        let found = match &error {
            Error::Syntax(_) => "syntax",
            Error::Configuration(_) => "configuration",
            Error::Invalid(_) => "invalid",
            _ => "other",
        };
        assert_eq!((found, error.to_string().as_str()), (class, text), "{options}");
    }
}

#[test]
fn options_are_kept_as_cassandra_keeps_them() {
    let options = apply_text(
        "compaction = {'class': 'LeveledCompactionStrategy'} AND caching = {'keys': 'none'} \
         AND compression = {'class': 'ZstdCompressor', 'chunk_length_in_kb': 64} \
         AND speculative_retry = '50percentile' AND additional_write_policy = 'MAX(99p,10ms)' \
         AND read_repair = 'none' AND extensions = {'a': 0x01ff}",
    )
    .unwrap();
    assert_eq!(
        options.compaction["class"],
        "org.apache.cassandra.db.compaction.LeveledCompactionStrategy"
    );
    assert_eq!(options.compaction["max_threshold"], "32");
    assert_eq!(options.caching["keys"], "NONE");
    assert_eq!(options.compression["class"], "org.apache.cassandra.io.compress.ZstdCompressor");
    assert_eq!(options.speculative_retry, "50p");
    assert_eq!(options.additional_write_policy, "MAX(99p,10ms)");
    assert_eq!(options.read_repair, "NONE");
    assert_eq!(options.extensions["a"], [1, 255]);
    let off = apply_text("compression = {'enabled': false}").unwrap();
    assert_eq!(
        off.compression.into_iter().collect::<Vec<_>>(),
        [("enabled".into(), "false".into())]
    );
}
