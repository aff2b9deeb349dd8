//! `coffer-bench`: closed-loop load over CQL with an ordinary driver.
//!
//! `run` measures one server; `compare` measures two, line by line in turn, on the same data and in the
//! same run, and prints the ratios; `fairness` measures point reads beside scans, `swap` reads and writes
//! beside swaps of their table's key. CPU per operation is read from `/proc/PID/stat` of the server, so it
//! counts everything the server does meanwhile (log, flush, compaction).

mod data;
mod fairness;
mod measure;
mod report;
mod swap;
mod workload;

use std::error::Error;

use clap::{Args, Parser, Subcommand};

use crate::{
    data::DataSet,
    measure::{Line, Target, measure},
    workload::Workload,
};

/// Any failure ends the run with its text.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "coffer-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures one server.
    Run {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Measures two servers in turn and prints both and the ratios.
    Compare {
        #[command(flatten)]
        node: NodeArgs,
        /// What the first server is called in the report.
        #[arg(long, default_value = "coffer")]
        name: String,
        /// Address of the second server.
        #[arg(long)]
        peer_node: String,
        /// Process id of the second server.
        #[arg(long)]
        peer_pid: u32,
        /// What the second server is called in the report.
        #[arg(long, default_value = "peer")]
        peer_name: String,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Measures point reads alone and beside scanning clients; fails when their p99 differs too much.
    Fairness {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        fairness: FairnessArgs,
    },
    /// Measures reads and writes alone and while their table's key is swapped; fails when the p99 differs
    /// too much.
    Swap {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        swap: SwapArgs,
    },
}

#[derive(Args, Clone)]
struct SwapArgs {
    /// ARNs of the KMS keys to swap between, beside the owned key.
    #[arg(long, value_delimiter = ',', required = true)]
    keys: Vec<String>,
    /// Requests in flight.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Seconds measured for each line and turn.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often each of the two is measured.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Seconds from one swap to the next.
    #[arg(long, default_value_t = 0.1)]
    pause: f64,
    /// Rows loaded into each of the two tables first.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Use the data an earlier run left instead of loading it anew.
    #[arg(long)]
    reuse: bool,
    /// Largest allowed ratio of the 99th percentiles.
    #[arg(long, default_value_t = 1.2)]
    ratio_max: f64,
}

#[derive(Args, Clone)]
struct FairnessArgs {
    /// Clients that scan the whole table in pages of 10,000 rows.
    #[arg(long, default_value_t = 4)]
    scanners: usize,
    /// Point reads in flight.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// Seconds measured for each line.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rows loaded into each of the two tables first.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Use the data an earlier run left instead of loading it anew.
    #[arg(long)]
    reuse: bool,
    /// Largest allowed ratio of the 99th percentiles.
    #[arg(long, default_value_t = 3.0)]
    ratio_max: f64,
}

#[derive(Args)]
struct NodeArgs {
    /// Address of the server.
    #[arg(long, default_value = "127.0.0.1:9042")]
    node: String,
    /// Process id of the server, for its CPU time.
    #[arg(long)]
    pid: u32,
}

#[derive(Args, Clone)]
struct LoadArgs {
    /// Which workloads, by name.
    #[arg(long, value_delimiter = ',', default_value = "read,insert,slice,append,mixed")]
    workloads: Vec<Workload>,
    /// Requests in flight; one line for each.
    #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
    in_flight: Vec<usize>,
    /// Seconds measured for each line.
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Seconds of warm-up before each line.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Rows loaded into each of the two tables first.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Use the data an earlier run left instead of loading it anew.
    #[arg(long)]
    reuse: bool,
    /// Added to `WITH` of both tables, e.g. "CUSTOM_PROPERTIES = {...}" (first server only).
    #[arg(long)]
    table_options: Option<String>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

impl LoadArgs {
    /// What one line takes that needs no data of its own.
    fn of_one(workload: Workload, in_flight: usize, seconds: f64, rows: u64) -> Self {
        Self {
            workloads: vec![workload],
            in_flight: vec![in_flight],
            seconds,
            warmup: 2.0,
            rows,
            reuse: true,
            table_options: None,
            json: false,
        }
    }
}

fn main() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(Cli::parse()))
}

async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run { node, load } => {
            let target = Target::connect("server", &node.node, node.pid).await?;
            measure_all(&[target], &load).await
        }
        Command::Compare { node, name, peer_node, peer_pid, peer_name, load } => {
            let first = Target::connect(&name, &node.node, node.pid).await?;
            let second = Target::connect(&peer_name, &peer_node, peer_pid).await?;
            measure_all(&[first, second], &load).await
        }
        Command::Fairness { node, fairness } => fairness::run(&node, &fairness).await,
        Command::Swap { node, swap } => swap::run(&node, &swap).await,
    }
}

/// Loads every target, then measures each line on each target in turn.
async fn measure_all(targets: &[Target], load: &LoadArgs) -> Result<()> {
    let data = DataSet { rows: load.rows };
    for (position, target) in targets.iter().enumerate() {
        let options = load.table_options.as_deref().filter(|_| position == 0);
        if !load.reuse {
            data.create(target, options).await?;
            report::loaded(target, data.load(target).await?, load.json);
        }
    }
    report::heading(load.json);
    for &workload in &load.workloads {
        for &in_flight in &load.in_flight {
            let mut lines: Vec<Line> = Vec::new();
            for target in targets {
                lines.push(measure(target, &data, workload, in_flight, load).await?);
            }
            report::lines(&lines, load.json);
        }
    }
    Ok(())
}
