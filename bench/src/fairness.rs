//! Whether one client's work starves another's: point reads of one client alone, then the same reads
//! while other clients scan the whole table in pages of 10,000 rows.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use scylla::{
    response::{PagingState, PagingStateResponse},
    statement::{Statement, prepared::PreparedStatement},
};

use crate::{
    FairnessArgs, LoadArgs, NodeArgs, Result,
    data::DataSet,
    measure::{Line, Target, count, measure},
    report,
    workload::Workload,
};

/// Rows of one page of a scan.
const PAGE_ROWS: i32 = 10_000;

/// Loads the data unless told not to, measures twice, and prints both lines and their ratios.
/// More than `ratio_max` between the 99th percentiles is an error.
pub(crate) async fn run(node: &NodeArgs, args: &FairnessArgs) -> Result<()> {
    let reader = Target::connect("alone", &node.node, node.pid).await?;
    let data = DataSet { rows: args.rows };
    if !args.reuse {
        data.create(&reader, None).await?;
        report::loaded(&reader, data.load(&reader).await?, false);
    }
    let load = LoadArgs::of_one(Workload::Read, args.in_flight, args.seconds, args.rows);
    let alone = measure(&reader, &data, Workload::Read, args.in_flight, &load).await?;

    let scans = Scans::start(node, args.scanners).await?;
    let crowded = Target { name: format!("beside {} scans", args.scanners), ..reader };
    let beside = measure(&crowded, &data, Workload::Read, args.in_flight, &load).await?;
    let rows = scans.stop().await?;
    report::heading(false);
    let ratio = p99(&beside) / p99(&alone);
    report::lines(&[alone, beside], false);
    println!("scanned meanwhile: {rows} rows; p99 beside scans / p99 alone = {ratio:.2}");
    if ratio > args.ratio_max {
        return Err(format!("the ratio is above {:.2}", args.ratio_max).into());
    }
    Ok(())
}

fn p99(line: &Line) -> f64 {
    count(line.latency_micros.value_at_quantile(0.99).max(1))
}

/// Clients that scan without end, each with connections of its own.
struct Scans {
    is_stopping: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Scans {
    async fn start(node: &NodeArgs, scanners: usize) -> Result<Self> {
        let (is_stopping, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..scanners {
            let target = Target::connect("scan", &node.node, node.pid).await?;
            let text = Statement::new("SELECT * FROM bench.ts").with_page_size(PAGE_ROWS);
            let scan = target.session.prepare(text).await?;
            let (is_stopping, rows) = (is_stopping.clone(), rows.clone());
            tasks.push(tokio::spawn(async move {
                while !is_stopping.load(Ordering::Relaxed) {
                    scan_once(&target, &scan, &is_stopping, &rows).await?;
                }
                Ok(())
            }));
        }
        Ok(Self { is_stopping, rows, tasks })
    }

    /// The rows that came; a scan that failed is an error.
    async fn stop(self) -> Result<u64> {
        self.is_stopping.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        Ok(self.rows.load(Ordering::Relaxed))
    }
}

/// The whole table, page after page; the rows are counted, not looked at.
async fn scan_once(
    target: &Target,
    scan: &PreparedStatement,
    is_stopping: &AtomicBool,
    rows: &AtomicU64,
) -> Result<()> {
    let mut state = PagingState::start();
    while !is_stopping.load(Ordering::Relaxed) {
        let (page, next) = target.session.execute_single_page(scan, &[], state).await?;
        let count = page.into_rows_result()?.rows_num();
        rows.fetch_add(u64::try_from(count)?, Ordering::Relaxed);
        match next {
            PagingStateResponse::HasMorePages { state: next } => state = next,
            PagingStateResponse::NoMorePages => break,
        }
    }
    Ok(())
}
