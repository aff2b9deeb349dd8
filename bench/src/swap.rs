//! What clients notice while the key of a table is swapped: reads and writes alone, and the same while
//! one ALTER TABLE follows another, in turn, on the same table and in the same run.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    LoadArgs, NodeArgs, Result, SwapArgs,
    data::DataSet,
    measure::{Line, Target, count, measure},
    report,
    workload::Workload,
};

/// Loads the data unless told not to, measures without and with swaps in turn, and prints the ratios. More
/// than `ratio_max` between the 99th percentiles is an error.
pub(crate) async fn run(node: &NodeArgs, args: &SwapArgs) -> Result<()> {
    let target = Target::connect("alone", &node.node, node.pid).await?;
    let data = DataSet { rows: args.rows };
    if !args.reuse {
        data.create(&target, Some(&encryption(args.keys.first()))).await?;
        report::loaded(&target, data.load(&target).await?, false);
    }
    let mut over_limit = Vec::new();
    report::heading(false);
    for workload in [Workload::Read, Workload::Insert] {
        let load = LoadArgs::of_one(workload, args.in_flight, args.seconds, args.rows);
        // In turn, several times: what else the machine does meets both alike.
        let (mut alone, mut swapped) = (None, None);
        let mut swaps = 0;
        for _ in 0..args.turns {
            add(&mut alone, measure(&target, &data, workload, args.in_flight, &load).await?)?;
            let swapping = Swaps::start(node, args).await?;
            let beside = Target { name: "beside swaps".to_owned(), ..target.clone() };
            add(&mut swapped, measure(&beside, &data, workload, args.in_flight, &load).await?)?;
            swaps += swapping.stop().await?;
        }
        let (alone, swapped) = (alone.ok_or("no turns")?, swapped.ok_or("no turns")?);
        let ratio = quantile(&swapped, 0.99) / quantile(&alone, 0.99);
        let half = quantile(&swapped, 0.5) / quantile(&alone, 0.5);
        report::lines(&[alone, swapped], false);
        println!("{swaps} swaps; p99 with / without = {ratio:.2}, p50 = {half:.2}");
        if ratio > args.ratio_max {
            over_limit.push(ratio);
        }
    }
    if over_limit.is_empty() {
        return Ok(());
    }
    Err(format!("ratios above {:.2}: {over_limit:.2?}", args.ratio_max).into())
}

/// Adds the figures of a turn to those before it.
fn add(sum: &mut Option<Line>, line: Line) -> Result<()> {
    let Some(sum) = sum else {
        *sum = Some(line);
        return Ok(());
    };
    let mut latency: Histogram<u64> = sum.latency_micros.clone();
    latency.add(&line.latency_micros)?;
    sum.latency_micros = latency;
    sum.operations += line.operations;
    sum.elapsed += line.elapsed;
    sum.server_cpu += line.server_cpu;
    sum.client_cpu += line.client_cpu;
    sum.resident_kib = line.resident_kib;
    Ok(())
}

fn quantile(line: &Line, quantile: f64) -> f64 {
    count(line.latency_micros.value_at_quantile(quantile).max(1))
}

/// The property that puts a table under a KMS key, or under the owned key.
fn encryption(key: Option<&String>) -> String {
    let specification = match key {
        Some(arn) => format!(
            "{{'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}"
        ),
        None => "{'encryption_type': 'AWS_OWNED_KMS_KEY'}".to_owned(),
    };
    format!("CUSTOM_PROPERTIES = {{'encryption_specification': {specification}}}")
}

/// A client that swaps the key of `bench.kv` again and again.
struct Swaps {
    is_stopping: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Swaps {
    async fn start(node: &NodeArgs, args: &SwapArgs) -> Result<Self> {
        let target = Target::connect("swaps", &node.node, node.pid).await?;
        let (is_stopping, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, counted) = (is_stopping.clone(), done.clone());
        let ways: Vec<String> = [None]
            .into_iter()
            .chain(args.keys.iter().map(Some))
            .map(|key| format!("ALTER TABLE bench.kv WITH {}", encryption(key)))
            .collect();
        let pause = Duration::from_secs_f64(args.pause);
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(pause);
            for way in ways.iter().cycle() {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                tick.tick().await;
                target.session.query_unpaged(way.as_str(), &[]).await?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self { is_stopping, done, task })
    }

    /// The swaps that were made; one that failed is an error.
    async fn stop(self) -> Result<u64> {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.done.load(Ordering::Relaxed))
    }
}
