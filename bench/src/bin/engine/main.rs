//! `engine`: the storage engine without a server: CPU time and rate of appends, reads, flushes and
//! compactions, and what a start with many tables takes.
//!
//! Rounds of all variants of a case take turns, and the report shows medians. With the cargo feature
//! `null-cipher` each case also runs on an engine whose cipher copies bytes through, in the same process,
//! and the report has what sealing costs.

mod cases;
mod fixture;
mod measure;

use std::path::PathBuf;

use clap::Parser;
use coffer_model::TableId;
use coffer_storage::Durability;

use cases::{CASES, Sizes};
use fixture::{Cipher, House, Result, TABLE};
use measure::{Samples, timed};

#[derive(Parser)]
#[command(name = "engine", about = "Measures the storage engine without a server.")]
struct Cli {
    /// Only cases whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds of each variant of a case.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Rows of a table.
    #[arg(long, default_value_t = 200_000)]
    rows: u64,
    /// Compares a table whose history is kept with one whose history is not, and nothing else.
    #[arg(long)]
    archive: bool,
    /// Where data directories are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

#[cfg(feature = "null-cipher")]
const CIPHERS: &[Cipher] = &[Cipher::Sealed, Cipher::Null];
#[cfg(not(feature = "null-cipher"))]
const CIPHERS: &[Cipher] = &[Cipher::Sealed];

#[expect(clippy::print_stdout, reason = "a report for the terminal")]
fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.archive {
        return archive(&cli);
    }
    let sizes = Sizes { rows: cli.rows, reads: cli.rows, slices: cli.rows / 40 };
    println!(
        "{:<38} {:>9} {:>9} {:>11} {:>6} {:>8}",
        "case", "cpu us", "wall us", "per second", "goal", "tax"
    );
    for (name, goal, make) in CASES.iter().filter(|(name, ..)| name.contains(&cli.only)) {
        let mut made = Vec::new();
        for cipher in CIPHERS {
            made.push((make(&cli.dir, *cipher, sizes)?, Samples::default()));
        }
        for _ in 0..cli.rounds {
            for (case, samples) in &mut made {
                samples.push(case.round()?);
            }
        }
        report(name, *goal, made.iter().map(|(_, samples)| samples));
    }
    if "start".contains(&cli.only) || cli.only.contains("start") {
        start(&cli)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a report for the terminal")]
fn report<'a>(name: &str, goal: f64, mut variants: impl Iterator<Item = &'a Samples>) {
    let Some(sealed) = variants.next() else { return };
    let (cpu, wall) = (sealed.cpu_micros(), sealed.wall_micros());
    let goal = if goal > 0.0 { format!("{goal:.1}") } else { String::new() };
    let tax =
        variants.next().map(|null| format!("{:+.1} %", (cpu / null.cpu_micros() - 1.0) * 100.0));
    let rate = 1e6 / wall;
    println!(
        "{name:<38} {cpu:>9.3} {wall:>9.3} {rate:>11.0} {goal:>6} {:>8}",
        tax.unwrap_or_default()
    );
}

/// A start with a hundred tables, and opening all of them.
#[expect(clippy::print_stdout, reason = "a report for the terminal")]
fn start(cli: &Cli) -> Result<()> {
    let options = || fixture::options(Durability::Synced, 4096, 256 << 20);
    let tables: Vec<TableId> = (1..=100).map(|number| TableId([number; 16])).collect();
    let house = House::new(&cli.dir)?;
    let engine = house.open(options())?;
    house.create(&engine, &tables)?;
    for table in &tables {
        engine.open_table(*table)?;
        for part in 0..4 {
            fixture::load(&engine, *table, part * 1000..(part + 1) * 1000, 1, 100)?;
            if part < 3 {
                engine.flush(*table)?;
            }
        }
    }
    // as after a crash: what was not flushed is in the log
    drop(engine);
    let mut engine = None;
    let started = timed(1, || {
        engine = Some(house.open(options())?);
        Ok(())
    })?;
    let engine = engine.ok_or("no engine")?;
    let opened = timed(1, || tables.iter().try_for_each(|table| Ok(engine.open_table(*table)?)))?;
    println!(
        "start with 100 tables: {:.1} ms; opening all, 1000 rows of each from the log: {:.1} ms",
        started.wall.as_secs_f64() * 1e3,
        opened.wall.as_secs_f64() * 1e3
    );
    Ok(())
}

/// What keeping the history of a table costs: appends and flushes with and without it in turn, bytes
/// archived, and a restore to this moment.
#[expect(clippy::print_stdout, reason = "a report for the terminal")]
fn archive(cli: &Cli) -> Result<()> {
    const VALUE_BYTES: usize = 100;
    let mut samples: [(Samples, Samples); 2] = Default::default();
    let (mut appended, mut archived, mut restored) = (0, 0, 0.0);
    for _ in 0..cli.rounds {
        for (kept, (appends, flushes)) in [false, true].into_iter().zip(&mut samples) {
            let house = House::new(&cli.dir)?;
            let options = fixture::options(Durability::Synced, 4096, 256 << 20);
            let engine = house.engine(Cipher::Sealed, options)?;
            if kept {
                engine.start_archive(TABLE)?;
            }
            appends.push(timed(cli.rows, || {
                fixture::load(&engine, TABLE, 0..cli.rows, 1, VALUE_BYTES)
            })?);
            flushes.push(timed(1, || Ok(engine.flush(TABLE)?))?);
            if kept {
                let source = timed(1, || {
                    engine.restore_source(TABLE, Some(now_millis()?))?;
                    Ok(())
                })?;
                restored += source.wall.as_secs_f64() * 1e3;
                let statistics = engine.archive_statistics(TABLE).ok_or("no archive")?;
                archived += statistics.log_bytes;
                for row in 0..cli.rows {
                    let mutation = fixture::insert(TABLE, row, 0, VALUE_BYTES)?;
                    appended += mutation.bytes().len() as u64;
                }
            }
        }
    }
    for (what, (appends, flushes)) in ["without archive", "with archive"].into_iter().zip(&samples)
    {
        println!(
            "{what:<16} append {:>7.3} us cpu {:>7.3} us wall, flush of {} rows {:>8.1} ms",
            appends.cpu_micros(),
            appends.wall_micros(),
            cli.rows,
            flushes.wall_micros() / 1e3
        );
    }
    let (archived, appended) = (archived as f64, appended as f64);
    println!(
        "archived {:.3} bytes for each byte of a mutation; archiving all of it for a restore: {:.1} ms",
        archived / appended,
        restored / f64::from(cli.rounds)
    );
    Ok(())
}

fn now_millis() -> Result<i64> {
    Ok(i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_millis())?)
}
