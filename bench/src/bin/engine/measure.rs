//! Rounds that take turns, and medians of them.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::fixture::Result;

/// What one round took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) operations: u64,
    pub(crate) wall: Duration,
    /// CPU time of all threads of the process.
    pub(crate) cpu: Duration,
}

/// Runs a round and takes its times.
#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
pub(crate) fn timed(operations: u64, round: impl FnOnce() -> Result<()>) -> Result<Sample> {
    let (cpu, wall) = (process_cpu(), Instant::now());
    round()?;
    Ok(Sample { operations, wall: wall.elapsed(), cpu: process_cpu().saturating_sub(cpu) })
}

fn process_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// The rounds of one line of the report.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// Median CPU time of an operation, microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.median(|sample| per_operation(sample.cpu, sample.operations))
    }

    /// Median elapsed time of an operation, microseconds.
    pub(crate) fn wall_micros(&self) -> f64 {
        self.median(|sample| per_operation(sample.wall, sample.operations))
    }

    fn median(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.0.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn per_operation(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() * 1e6 / operations.max(1) as f64
}
