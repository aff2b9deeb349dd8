//! Runs one workload at one number of requests in flight and takes its figures.

use std::{
    fs,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use scylla::client::{PoolSize, session::Session, session_builder::SessionBuilder};

use crate::{
    LoadArgs, Result,
    data::DataSet,
    workload::{Prepared, Workload},
};

/// Connections to each server.
const CONNECTIONS: usize = 4;
/// Clock ticks a second in `/proc/PID/stat`; fixed on Linux.
const TICKS_PER_SECOND: u32 = 100;

/// One server under load.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) session: Arc<Session>,
}

impl Target {
    /// Connects to `node`; `pid` is the server's process.
    pub(crate) async fn connect(name: &str, node: &str, pid: u32) -> Result<Self> {
        let pool = PoolSize::PerHost(NonZeroUsize::new(CONNECTIONS).unwrap_or(NonZeroUsize::MIN));
        let session = SessionBuilder::new().known_node(node).pool_size(pool).build().await?;
        Ok(Self { name: name.to_owned(), pid, session: Arc::new(session) })
    }
}

/// The figures of one line of the report.
pub(crate) struct Line {
    pub(crate) target: String,
    pub(crate) workload: Workload,
    pub(crate) in_flight: usize,
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    pub(crate) latency_micros: Histogram<u64>,
    pub(crate) resident_kib: u64,
}

impl Line {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        count(self.operations) / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the server's CPU for one operation.
    pub(crate) fn server_micros(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / count(self.operations)
    }

    /// Microseconds of this process's CPU for one operation.
    pub(crate) fn client_micros(&self) -> f64 {
        self.client_cpu.as_secs_f64() * 1e6 / count(self.operations)
    }
}

/// A count as a factor.
pub(crate) fn count(n: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let n = n as f64;
    n
}

/// Warms up, then measures `workload` for the asked time.
pub(crate) async fn measure(
    target: &Target,
    data: &DataSet,
    workload: Workload,
    in_flight: usize,
    load: &LoadArgs,
) -> Result<Line> {
    let prepared = Prepared::new(target, data, workload).await?;
    // Operation numbers differ in every call, so that appended rows are new ones.
    let started = SERIES.fetch_add(1 << 32, Ordering::Relaxed);
    let next = Arc::new(AtomicU64::new(started));
    drive(target, &prepared, in_flight, Duration::from_secs_f64(load.warmup), &next).await?;
    let server = Stopwatch::start(target.pid)?;
    let client = Stopwatch::start(std::process::id())?;
    let latency =
        drive(target, &prepared, in_flight, Duration::from_secs_f64(load.seconds), &next).await?;
    let (elapsed, server_cpu) = server.stop()?;
    let (_, client_cpu) = client.stop()?;
    Ok(Line {
        target: target.name.clone(),
        workload,
        in_flight,
        operations: latency.len(),
        elapsed,
        server_cpu,
        client_cpu,
        latency_micros: latency,
        resident_kib: resident_kib(target.pid)?,
    })
}

static SERIES: AtomicU64 = AtomicU64::new(0);

/// Keeps `in_flight` operations going for `duration`; gives their latencies in microseconds.
async fn drive(
    target: &Target,
    prepared: &Prepared,
    in_flight: usize,
    duration: Duration,
    next: &Arc<AtomicU64>,
) -> Result<Histogram<u64>> {
    let end = now() + duration;
    let mut tasks = Vec::new();
    for _ in 0..in_flight {
        let (target, prepared, next) = (target.clone(), prepared.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
            let mut began = now();
            while began < end {
                prepared.operate(&target, next.fetch_add(1, Ordering::Relaxed)).await?;
                let done = now();
                latency.saturating_record(u64::try_from((done - began).as_micros())?);
                began = done;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latency)
        }));
    }
    let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    for task in tasks {
        all.add(task.await??)?;
    }
    Ok(all)
}

#[expect(clippy::disallowed_methods, reason = "measuring real time is what this program is for")]
fn now() -> Instant {
    Instant::now()
}

/// Wall and CPU time of a process between two moments.
pub(crate) struct Stopwatch {
    pid: u32,
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts measuring process `pid`.
    pub(crate) fn start(pid: u32) -> Result<Self> {
        Ok(Self { pid, began: now(), cpu: cpu_time(pid)? })
    }

    /// Wall time and CPU time since the start.
    pub(crate) fn stop(&self) -> Result<(Duration, Duration)> {
        Ok((now() - self.began, cpu_time(self.pid)?.saturating_sub(self.cpu)))
    }
}

/// User and system time of all threads of `pid`.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    // After the name: state is field 0, utime field 11, stime field 12.
    let ticks: u32 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u32>)
        .sum::<std::result::Result<_, _>>()?;
    Ok(Duration::from_secs(ticks.into()) / TICKS_PER_SECOND)
}

/// Resident memory of `pid` in KiB.
fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
