//! Sends the same scripts to two servers and shows where the answers differ.
//!
//! `cargo run -p cql-tests --bin differential -- --node 127.0.0.1:9042 --peer 127.0.0.1:9142`
//! compares results, metadata, error classes and texts. Differences that a script explains with
//! `-- differs: REASON` are counted apart. Exits with 1 when an unexplained one is left.
#![expect(
    clippy::print_stdout,
    reason = "the comparison is this program's output"
)]

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use cql_tests::{Result, Script, run_script};

#[derive(Parser)]
struct Arguments {
    /// Address of Coffer.
    #[arg(long)]
    node: SocketAddr,
    /// Address of Apache Cassandra.
    #[arg(long)]
    peer: SocketAddr,
    /// Scripts; all of `cases` when none is given.
    scripts: Vec<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
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
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .ok_or("a script has no name")?;
        let script = Script::parse(name, &std::fs::read_to_string(&path)?);
        if script.is_only_coffer() {
            continue;
        }
        let ours = run_script(arguments.node, &script)?;
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
    Ok(if different == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
