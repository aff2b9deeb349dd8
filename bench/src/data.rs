//! The data every workload runs on: `kv`, one row a partition, and `ts`, a time series per device.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    Result,
    measure::{Stopwatch, Target},
};

/// Rows of one partition of `ts`.
pub(crate) const ROWS_PER_DEVICE: u64 = 1000;
const LOADERS: u64 = 256;

/// How many rows each of the two tables holds.
#[derive(Clone, Copy)]
pub(crate) struct DataSet {
    pub(crate) rows: u64,
}

/// What a load took.
pub(crate) struct Loaded {
    pub(crate) rows: u64,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
}

impl DataSet {
    /// Creates keyspace and tables anew, with `options` added to `WITH` of both tables.
    pub(crate) async fn create(&self, target: &Target, options: Option<&str>) -> Result<()> {
        let with = options.map(|text| format!(" WITH {text}")).unwrap_or_default();
        for statement in [
            "DROP KEYSPACE IF EXISTS bench".to_owned(),
            "CREATE KEYSPACE bench WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned(),
            format!("CREATE TABLE bench.kv (k bigint PRIMARY KEY, v blob){with}"),
            format!("CREATE TABLE bench.ts (dev bigint, t bigint, a double, b text, v blob, PRIMARY KEY (dev, t)){with}"),
        ] {
            target.session.query_unpaged(statement, &[]).await?;
        }
        Ok(())
    }

    /// Fills both tables with [`LOADERS`] requests in flight.
    pub(crate) async fn load(&self, target: &Target) -> Result<Loaded> {
        let watch = Stopwatch::start(target.pid)?;
        let kv = target.session.prepare(INSERT_KV).await?;
        let ts = target.session.prepare(INSERT_TS).await?;
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for _ in 0..LOADERS {
            let (session, kv, ts) = (target.session.clone(), kv.clone(), ts.clone());
            let (next, rows) = (next.clone(), self.rows);
            tasks.push(tokio::spawn(async move {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= rows {
                        return Ok::<(), scylla::errors::ExecutionError>(());
                    }
                    session.execute_unpaged(&kv, (key(i), value(i))).await?;
                    let (device, at) = (i / ROWS_PER_DEVICE, i % ROWS_PER_DEVICE);
                    session.execute_unpaged(&ts, series_row(device, at)).await?;
                }
            }));
        }
        for task in tasks {
            task.await??;
        }
        let (elapsed, server_cpu) = watch.stop()?;
        Ok(Loaded { rows: self.rows * 2, elapsed, server_cpu })
    }

    /// The number of whole partitions of `ts`.
    pub(crate) fn devices(&self) -> u64 {
        (self.rows / ROWS_PER_DEVICE).max(1)
    }
}

pub(crate) const INSERT_KV: &str = "INSERT INTO bench.kv (k, v) VALUES (?, ?)";
pub(crate) const INSERT_TS: &str = "INSERT INTO bench.ts (dev, t, a, b, v) VALUES (?, ?, ?, ?, ?)";

/// The key of row `i`: spread over all of bigint so that insertion order is not key order.
pub(crate) fn key(i: u64) -> i64 {
    mix(i).cast_signed()
}

/// 100 bytes, half of them compressible, that depend on `i` only.
pub(crate) fn value(i: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(104);
    for word in 0..6 {
        bytes.extend_from_slice(&mix(i.wrapping_mul(31).wrapping_add(word)).to_be_bytes());
    }
    bytes.resize(100, b'v');
    bytes
}

/// The values of the row of device `device` at time `at`, in the order of [`INSERT_TS`].
pub(crate) fn series_row(device: u64, at: u64) -> (i64, i64, f64, String, Vec<u8>) {
    let i = device.wrapping_mul(ROWS_PER_DEVICE).wrapping_add(at);
    #[expect(clippy::cast_precision_loss, reason = "a made-up reading")]
    let reading = (i % 10_000) as f64 / 100.0;
    (device.cast_signed(), at.cast_signed(), reading, format!("status-{}", i % 16), value(i))
}

/// SplitMix64: a cheap bijection, so that keys are spread and repeat in every run.
pub(crate) fn mix(i: u64) -> u64 {
    let mut z = i.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
