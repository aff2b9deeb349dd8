//! Figures of the CQL side, cheap to count: shards of counters that few connections share.
//!
//! A round of requests that are answered in place costs one look at the clock and one addition for
//! each kind of request in it.

mod collector;
mod endpoint;
mod families;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

pub(crate) use collector::Sources;
pub(crate) use endpoint::serve;

/// Sets of counters; connections are spread over them.
const SHARDS: usize = 16;
/// Bounds of latencies: 1 µs, 2 µs, 4 µs ... 8.4 s, and more.
const BUCKETS: usize = 25;
/// Error codes that have a counter of their own; the rest share the first.
const ERROR_CODES: [i32; 17] = [
    0x0000, 0x000A, 0x0100, 0x1000, 0x1001, 0x1002, 0x1003, 0x1100, 0x1200, 0x1300, 0x1400, 0x1500,
    0x2000, 0x2100, 0x2200, 0x2300, 0x2400,
];
/// Of prepared statements that left the cache.
const UNPREPARED: i32 = 0x2500;

/// The moment, for latencies.
#[expect(clippy::disallowed_methods, reason = "a latency is real time, whatever clock tests move")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Query,
    Execute,
    Batch,
    Prepare,
    /// Handshake, events.
    Other,
}

impl RequestKind {
    const ALL: [Self; 5] = [Self::Query, Self::Execute, Self::Batch, Self::Prepare, Self::Other];

    fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Execute => "execute",
            Self::Batch => "batch",
            Self::Prepare => "prepare",
            Self::Other => "other",
        }
    }
}

/// Numbers of latencies up to each bound, and their sum.
#[derive(Debug, Default)]
struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    requests: [Latencies; RequestKind::ALL.len()],
    errors: [AtomicU64; ERROR_CODES.len()],
    unprepared: AtomicU64,
}

/// Figures of all connections since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    shards: [CachePadded<Shard>; SHARDS],
    accepted: AtomicUsize,
    refused: AtomicU64,
    open: AtomicUsize,
}

/// Latencies of one kind of request, summed up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LatencySnapshot {
    /// Upper bound in seconds and the number of requests between it and the bound before.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) seconds: f64,
}

/// The bucket of a latency: the first bound that is not less.
fn bucket(latency: Duration) -> usize {
    let micros = latency.as_nanos().div_ceil(1000);
    let bits = u128::BITS.saturating_sub(micros.saturating_sub(1).leading_zeros());
    usize::try_from(bits).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The upper bound of a bucket, in seconds.
fn bound(bucket: usize) -> f64 {
    match i32::try_from(bucket) {
        Ok(power) if bucket < BUCKETS - 1 => 2_f64.powi(power) / 1e6,
        _ => f64::INFINITY,
    }
}

impl Metrics {
    /// Counts a connection as open until what is given back is dropped.
    pub(crate) fn connect(self: &Arc<Self>) -> ConnectionMetrics {
        self.open.fetch_add(1, Ordering::Relaxed);
        let shard = self.accepted.fetch_add(1, Ordering::Relaxed) % SHARDS;
        ConnectionMetrics { metrics: Arc::clone(self), shard, round: Default::default() }
    }

    /// A connection was refused because too many are open.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed) as u64
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed) as u64
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn latencies(&self, kind: RequestKind) -> LatencySnapshot {
        let of_kind = || self.shards.iter().filter_map(|shard| shard.requests.get(kind as usize));
        let counts = |index: usize| -> u64 {
            of_kind()
                .filter_map(|latencies| latencies.buckets.get(index))
                .map(|bucket| bucket.load(Ordering::Relaxed))
                .sum()
        };
        let buckets: Vec<_> = (0..BUCKETS).map(|index| (bound(index), counts(index))).collect();
        let nanos: u64 = of_kind().map(|latencies| latencies.nanos.load(Ordering::Relaxed)).sum();
        LatencySnapshot {
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
            seconds: Duration::from_nanos(nanos).as_secs_f64(),
        }
    }

    /// Error codes that were answered, with their numbers.
    fn errors(&self) -> Vec<(i32, u64)> {
        let of_code = |index: usize| -> u64 {
            let counters = self.shards.iter().filter_map(|shard| shard.errors.get(index));
            counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
        };
        let unprepared = self.shards.iter().map(|shard| shard.unprepared.load(Ordering::Relaxed));
        let named = ERROR_CODES.into_iter().enumerate().map(|(index, code)| (code, of_code(index)));
        named.chain([(UNPREPARED, unprepared.sum())]).filter(|(_, count)| *count > 0).collect()
    }
}

/// What one connection counts.
#[derive(Debug)]
pub(crate) struct ConnectionMetrics {
    metrics: Arc<Metrics>,
    shard: usize,
    /// Requests of the present round that were answered in place.
    round: [u32; RequestKind::ALL.len()],
}

impl ConnectionMetrics {
    /// A request of the present round was answered in place.
    pub(crate) fn answered_in_round(&mut self, kind: RequestKind) {
        if let Some(count) = self.round.get_mut(kind as usize) {
            *count = count.wrapping_add(1);
        }
    }

    /// The round has ended.
    pub(crate) fn end_round(&mut self, latency: Duration) {
        for (kind, count) in RequestKind::ALL.into_iter().zip(std::mem::take(&mut self.round)) {
            if count > 0 {
                self.add(kind, u64::from(count), latency);
            }
        }
    }

    /// A request of an earlier round was answered.
    pub(crate) fn answered(&self, kind: RequestKind, latency: Duration) {
        self.add(kind, 1, latency);
    }

    fn add(&self, kind: RequestKind, count: u64, latency: Duration) {
        let shard = self.metrics.shards.get(self.shard);
        if let Some(latencies) = shard.and_then(|shard| shard.requests.get(kind as usize)) {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            latencies.nanos.fetch_add(nanos.saturating_mul(count), Ordering::Relaxed);
            if let Some(bucket) = latencies.buckets.get(bucket(latency)) {
                bucket.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// An error was answered.
    pub(crate) fn failed(&self, code: i32) {
        let Some(shard) = self.metrics.shards.get(self.shard) else {
            return;
        };
        let index = ERROR_CODES.iter().position(|known| *known == code).unwrap_or_default();
        let counter =
            if code == UNPREPARED { Some(&shard.unprepared) } else { shard.errors.get(index) };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ConnectionMetrics {
    fn drop(&mut self) {
        self.metrics.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_counted_under_the_first_bound_that_is_not_less() {
        for (nanos, wanted) in
            [(0, 1e-6), (1000, 1e-6), (1001, 2e-6), (2000, 2e-6), (4_000_001, 4.096e-3)]
        {
            let found = bound(bucket(Duration::from_nanos(nanos)));
            assert!((found - wanted).abs() < 1e-12, "{nanos} ns: {found}");
        }
        assert_eq!(bound(bucket(Duration::from_secs(9))), f64::INFINITY);
        assert_eq!(bound(bucket(Duration::MAX)), f64::INFINITY);
        assert!(bound(bucket(Duration::from_secs(8))) < 9.0);
    }

    #[test]
    fn requests_and_errors_of_all_connections_are_summed_up() {
        let metrics = Arc::new(Metrics::default());
        let mut connections: Vec<_> = (0..SHARDS + 1).map(|_| metrics.connect()).collect();
        for connection in &mut connections {
            connection.answered_in_round(RequestKind::Execute);
            connection.answered_in_round(RequestKind::Execute);
            connection.end_round(Duration::from_micros(10));
            connection.end_round(Duration::from_micros(10));
            connection.answered(RequestKind::Query, Duration::from_secs(1));
            connection.failed(0x2200);
            connection.failed(UNPREPARED);
            connection.failed(0x7777);
        }
        let all = SHARDS as u64 + 1;
        assert_eq!(metrics.latencies(RequestKind::Execute).count, 2 * all);
        let query = metrics.latencies(RequestKind::Query);
        assert_eq!((query.count, query.seconds), (all, all as f64));
        assert_eq!(metrics.latencies(RequestKind::Batch).count, 0);
        assert_eq!(metrics.errors(), [(0, all), (0x2200, all), (UNPREPARED, all)]);
        assert_eq!((metrics.open(), metrics.accepted()), (all, all));
        connections.pop();
        assert_eq!((metrics.open(), metrics.accepted()), (all - 1, all));
    }
}
