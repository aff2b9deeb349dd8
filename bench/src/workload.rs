//! The workloads: what one operation of each sends.

use clap::ValueEnum;
use scylla::statement::prepared::PreparedStatement;

use crate::{
    Result,
    data::{self, DataSet, ROWS_PER_DEVICE},
    measure::Target,
};

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One row of `kv` by its key.
    Read,
    /// One row into `kv`, half of them new.
    Insert,
    /// 100 rows of a partition of `ts`.
    Slice,
    /// One new row at the end of a partition of `ts`.
    Append,
    /// Reads and inserts in turn.
    Mixed,
}

impl Workload {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Read => "read",
            Workload::Insert => "insert",
            Workload::Slice => "slice",
            Workload::Append => "append",
            Workload::Mixed => "mixed",
        }
    }
}

/// A workload with its statements prepared on one server.
#[derive(Clone)]
pub(crate) struct Prepared {
    workload: Workload,
    data: DataSet,
    read: PreparedStatement,
    insert: PreparedStatement,
    slice: PreparedStatement,
    append: PreparedStatement,
}

impl Prepared {
    /// Prepares the statements of `workload`.
    pub(crate) async fn new(target: &Target, data: &DataSet, workload: Workload) -> Result<Self> {
        let session = &target.session;
        Ok(Self {
            workload,
            data: *data,
            read: session.prepare("SELECT v FROM bench.kv WHERE k = ?").await?,
            insert: session.prepare(data::INSERT_KV).await?,
            slice: session
                .prepare("SELECT t, a, b, v FROM bench.ts WHERE dev = ? AND t >= ? LIMIT 100")
                .await?,
            append: session.prepare(data::INSERT_TS).await?,
        })
    }

    /// Does operation number `n`; a read that finds nothing is an error.
    pub(crate) async fn operate(&self, target: &Target, n: u64) -> Result<()> {
        let random = data::mix(n ^ 0x5DEE_CE66);
        match self.workload {
            Workload::Read => self.read(target, random).await,
            Workload::Insert => self.insert(target, random).await,
            Workload::Mixed if n.is_multiple_of(2) => self.read(target, random).await,
            Workload::Mixed => self.insert(target, random).await,
            Workload::Slice => {
                let device = (random % self.data.devices()).cast_signed();
                let from = (random >> 32) % (ROWS_PER_DEVICE - 100);
                let result = target
                    .session
                    .execute_unpaged(&self.slice, (device, from.cast_signed()))
                    .await?;
                let rows = result.into_rows_result()?.rows_num();
                if rows == 100 {
                    Ok(())
                } else {
                    Err(format!("a slice has {rows} rows, not 100").into())
                }
            }
            Workload::Append => {
                let row = data::series_row(random % self.data.devices(), ROWS_PER_DEVICE + n);
                target.session.execute_unpaged(&self.append, row).await?;
                Ok(())
            }
        }
    }

    async fn read(&self, target: &Target, random: u64) -> Result<()> {
        let key = data::key(random % self.data.rows);
        let result = target.session.execute_unpaged(&self.read, (key,)).await?;
        match result.into_rows_result()?.rows_num() {
            1 => Ok(()),
            rows => Err(format!("a read by key has {rows} rows").into()),
        }
    }

    async fn insert(&self, target: &Target, random: u64) -> Result<()> {
        let i = random % (self.data.rows * 2);
        target.session.execute_unpaged(&self.insert, (data::key(i), data::value(i))).await?;
        Ok(())
    }
}
