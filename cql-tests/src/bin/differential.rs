//! Sends the same scripts to two servers and shows where the answers differ.
//!
//! `cargo run -p cql-tests --bin differential -- --node 127.0.0.1:9042 --peer 127.0.0.1:9142`
//! compares results, metadata, error classes and texts. Differences that a script explains with
//! `-- differs: REASON` are counted apart. Exits with 1 when an unexplained one is left.
//!
//! `... --bin differential -- --random SEED --statements N --peer 127.0.0.1:9142` sends random statements
//! instead, to a Coffer of its own with little memory, which it also restarts.
#![expect(clippy::print_stdout, reason = "the comparison is this program's output")]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use cql_tests::{Client, Result, Script, Server, ServerBuilder, random, run_script};

#[derive(Parser)]
struct Arguments {
    /// Address of Coffer; one of its own when none is given.
    #[arg(long)]
    node: Option<SocketAddr>,
    /// Address of Apache Cassandra.
    #[arg(long)]
    peer: SocketAddr,
    /// Seed of random statements.
    #[arg(long)]
    random: Option<u64>,
    /// Shows the changes of the table before each difference.
    #[arg(long)]
    history: bool,
    /// How many of them.
    #[arg(long, default_value_t = 10_000)]
    statements: usize,
    /// Scripts; all of `cases` when none is given.
    scripts: Vec<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.random {
        return random_statements(&arguments, seed);
    }
    let own = match arguments.node {
        Some(_) => None,
        None => Some(Server::start()?),
    };
    let node = arguments.node.or(own.as_ref().map(Server::address));
    let node = node.ok_or("no server to compare")?;
    let mut scripts = arguments.scripts;
    if scripts.is_empty() {
        let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cases");
        for entry in std::fs::read_dir(cases)? {
            scripts.push(entry?.path());
        }
        scripts.retain(|path| path.extension().is_some_and(|extension| extension == "cql"));
        scripts.sort();
    }
    let (mut same, mut explained, mut different) = (0, 0, 0);
    for path in scripts {
        let name = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a script has no name")?;
        let script = Script::parse(name, &std::fs::read_to_string(&path)?);
        if script.is_only_coffer() {
            continue;
        }
        let ours = run_script(node, &script)?;
        let theirs = run_script(arguments.peer, &script)?;
        for ((statement, our, reason), (_, their, _)) in ours.steps.iter().zip(&theirs.steps) {
            match (our == their, reason) {
                (true, _) => same += 1,
                (false, Some(_)) => explained += 1,
                (false, None) => {
                    different += 1;
                    println!(
                        "{name}: {statement}\n  coffer:\n{}  peer:\n{}",
                        indent(our),
                        indent(their)
                    );
                }
            }
        }
    }
    println!(
        "{same} answers are the same, {explained} differ for a stated reason, {different} differ"
    );
    Ok(if different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn random_statements(arguments: &Arguments, seed: u64) -> Result<ExitCode> {
    let count = arguments.statements;
    let mut node = ServerBuilder::default()
        .arguments(&["--memtable-flush-bytes", "65536", "--log-file-bytes", "65536"])
        .arguments(&["--log-total-bytes", "1048576"])
        .start()?;
    let mut peer = Client::connect(arguments.peer)?;
    let mut different = 0;
    let other_texts = random::run(&mut node, &mut peer, seed, count, &mut |found| {
        different += 1;
        if arguments.history {
            let changes = found.before.iter().filter(|text| !text.starts_with("SELECT"));
            changes.for_each(|text| println!("{text};"));
        }
        println!(
            "{}\n{}\n  coffer:\n{}  peer:\n{}",
            found.schema,
            found.statement,
            indent(&found.ours),
            indent(&found.theirs)
        );
    })?;
    println!(
        "seed {seed}: {different} answers of {count} differ, {other_texts} errors have another text"
    );
    Ok(if different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
