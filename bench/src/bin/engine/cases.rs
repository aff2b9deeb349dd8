//! What is measured. A case holds its engine between rounds; a round returns what it took.

use std::{collections::VecDeque, path::Path};

use coffer_model::Mutation;
use coffer_storage::{Durability, Engine, Lsn, PartitionRead};

use crate::fixture::{self, Cipher, House, Key, NOW_SECONDS, Result, TABLE, scatter};
use crate::measure::{Sample, timed};

const PERIODIC: Durability = Durability::Periodic { sync_interval_millis: 10_000 };
const CACHE_BYTES: u64 = 1 << 30;
/// Holds the index of a table of [`Sizes::rows`] rows and few of its rows.
const SMALL_CACHE_BYTES: u64 = 2 << 20;

/// How much a round does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: u64,
    pub(crate) reads: u64,
    pub(crate) slices: u64,
}

/// Something that can be measured again and again.
pub(crate) trait Case {
    /// One round.
    fn round(&mut self) -> Result<Sample>;
}

/// Makes a case in a directory.
pub(crate) type Make = fn(&Path, Cipher, Sizes) -> Result<Box<dyn Case>>;

/// Name of the case, the goal in microseconds of CPU time (0 for none), and how it is made.
pub(crate) const CASES: &[(&str, f64, Make)] = &[
    ("append, periodic, 1 in flight", 0.0, |at, cipher, sizes| {
        appends(at, cipher, PERIODIC, 1, 100, sizes.rows / 20)
    }),
    ("append, periodic, 32 in flight", 0.0, |at, cipher, sizes| {
        appends(at, cipher, PERIODIC, 32, 100, sizes.rows)
    }),
    ("append, periodic, 256 in flight", 1.5, |at, cipher, sizes| {
        appends(at, cipher, PERIODIC, 256, 100, sizes.rows)
    }),
    ("append, periodic, 256, 512 B values", 0.0, |at, cipher, sizes| {
        appends(at, cipher, PERIODIC, 256, 512, sizes.rows / 2)
    }),
    ("append, synced, 1 in flight", 0.0, |at, cipher, sizes| {
        appends(at, cipher, Durability::Synced, 1, 100, sizes.rows / 100)
    }),
    ("append, synced, 32 in flight", 0.0, |at, cipher, sizes| {
        appends(at, cipher, Durability::Synced, 32, 100, sizes.rows / 4)
    }),
    ("append, synced, 256 in flight", 1.5, |at, cipher, sizes| {
        appends(at, cipher, Durability::Synced, 256, 100, sizes.rows)
    }),
    ("read_row, memtable", 1.5, |at, cipher, sizes| {
        rows(at, cipher, &Reading { flushed: false, ..Reading::HOT }, sizes)
    }),
    ("read_row, hot block cache", 1.5, |at, cipher, sizes| rows(at, cipher, &Reading::HOT, sizes)),
    ("read_row, absent", 1.0, |at, cipher, sizes| {
        rows(at, cipher, &Reading { present: false, ..Reading::HOT }, sizes)
    }),
    ("read_row, cache miss, 4 KiB blocks", 0.0, |at, cipher, sizes| {
        rows(at, cipher, &Reading { cache_bytes: SMALL_CACHE_BYTES, ..Reading::HOT }, sizes)
    }),
    ("read_row, cache miss, 16 KiB blocks", 0.0, |at, cipher, sizes| {
        let reading =
            Reading { cache_bytes: SMALL_CACHE_BYTES, block_bytes: 16 << 10, ..Reading::HOT };
        rows(at, cipher, &reading, sizes)
    }),
    ("read_partition of 100, memtable", 10.0, |at, cipher, sizes| slices(at, cipher, false, sizes)),
    ("read_partition of 100, hot", 10.0, |at, cipher, sizes| slices(at, cipher, true, sizes)),
    ("flush, per row", 0.0, |at, cipher, sizes| {
        Ok(Box::new(Flush(Writes::new(at, cipher, PERIODIC, sizes.rows / 2)?)))
    }),
    ("compaction of 4, per row", 0.0, |at, cipher, sizes| {
        Ok(Box::new(Compaction(Writes::new(at, cipher, PERIODIC, sizes.rows / 2)?)))
    }),
];

/// An engine to which each round writes new rows.
struct Writes {
    engine: Engine,
    _house: House,
    rows: u64,
    value_bytes: usize,
    next: u64,
}

impl Writes {
    fn new(at: &Path, cipher: Cipher, durability: Durability, rows: u64) -> Result<Self> {
        let house = House::new(at)?;
        let engine = house.engine(cipher, fixture::options(durability, 4096, CACHE_BYTES))?;
        Ok(Self { engine, _house: house, rows, value_bytes: 100, next: 0 })
    }

    fn mutations(&mut self) -> Result<Vec<Mutation>> {
        let first = self.next;
        self.next += self.rows;
        (first..self.next)
            .map(|number| fixture::insert(TABLE, number, 0, self.value_bytes))
            .collect()
    }

    fn load(&mut self, rows: u64) -> Result<()> {
        let first = self.next;
        self.next += rows;
        fixture::load(&self.engine, TABLE, first..self.next, 1, self.value_bytes)
    }
}

struct Appends {
    writes: Writes,
    in_flight: usize,
}

fn appends(
    at: &Path,
    cipher: Cipher,
    durability: Durability,
    in_flight: usize,
    value_bytes: usize,
    rows: u64,
) -> Result<Box<dyn Case>> {
    let writes = Writes { value_bytes, ..Writes::new(at, cipher, durability, rows)? };
    Ok(Box::new(Appends { writes, in_flight }))
}

impl Case for Appends {
    /// Keeps so many appends under way, as connections do.
    fn round(&mut self) -> Result<Sample> {
        let mutations = self.writes.mutations()?;
        let engine = &self.writes.engine;
        let sample = timed(mutations.len() as u64, || {
            let mut waiting: VecDeque<Lsn> = VecDeque::with_capacity(self.in_flight);
            for mutation in &mutations {
                if waiting.len() == self.in_flight
                    && let Some(first) = waiting.front()
                {
                    engine.wait_committed(*first)?;
                    let committed = engine.committed();
                    while waiting.front().is_some_and(|lsn| *lsn <= committed) {
                        waiting.pop_front();
                    }
                }
                waiting.push_back(fixture::append(engine, mutation)?);
            }
            Ok(waiting.back().map_or(Ok(()), |last| engine.wait_committed(*last))?)
        })?;
        engine.truncate(TABLE)?;
        engine.open_table(TABLE)?;
        Ok(sample)
    }
}

/// How point reads find their rows.
struct Reading {
    flushed: bool,
    present: bool,
    block_bytes: u32,
    cache_bytes: u64,
}

impl Reading {
    const HOT: Self =
        Self { flushed: true, present: true, block_bytes: 4096, cache_bytes: CACHE_BYTES };
}

struct Rows {
    engine: Engine,
    _house: House,
    keys: Vec<Key>,
    present: bool,
}

fn rows(at: &Path, cipher: Cipher, reading: &Reading, sizes: Sizes) -> Result<Box<dyn Case>> {
    let house = House::new(at)?;
    let engine = house
        .engine(cipher, fixture::options(PERIODIC, reading.block_bytes, reading.cache_bytes))?;
    fixture::load(&engine, TABLE, 0..sizes.rows, 1, 100)?;
    if reading.flushed {
        engine.flush(TABLE)?;
    }
    let first = if reading.present { 0 } else { sizes.rows };
    let keys = (0..sizes.reads)
        .map(|number| fixture::key(first + scatter(number) % sizes.rows, 0))
        .collect();
    let mut rows = Rows { engine, _house: house, keys, present: reading.present };
    rows.round()?;
    Ok(Box::new(rows))
}

impl Case for Rows {
    fn round(&mut self) -> Result<Sample> {
        timed(self.keys.len() as u64, || {
            for Key { partition_key, token, clustering } in &self.keys {
                let row =
                    self.engine.read_row(TABLE, partition_key, *token, clustering, NOW_SECONDS)?;
                if row.is_some() != self.present {
                    return Err("a row is not as expected".into());
                }
            }
            Ok(())
        })
    }
}

/// Rows of a partition that slices are cut from.
const PARTITION_ROWS: u64 = 1000;
const SLICE_ROWS: u64 = 100;

struct Slices {
    engine: Engine,
    _house: House,
    partitions: u64,
    slices: u64,
}

fn slices(at: &Path, cipher: Cipher, flushed: bool, sizes: Sizes) -> Result<Box<dyn Case>> {
    let house = House::new(at)?;
    let engine = house.engine(cipher, fixture::options(PERIODIC, 4096, CACHE_BYTES))?;
    let partitions = (sizes.rows / PARTITION_ROWS).max(1);
    fixture::load(&engine, TABLE, 0..partitions, PARTITION_ROWS, 50)?;
    if flushed {
        engine.flush(TABLE)?;
    }
    let mut slices = Slices { engine, _house: house, partitions, slices: sizes.slices };
    slices.round()?;
    Ok(Box::new(slices))
}

impl Case for Slices {
    fn round(&mut self) -> Result<Sample> {
        timed(self.slices, || {
            for number in 0..self.slices {
                let key = fixture::key(scatter(number) % self.partitions, 0);
                let first = scatter(number ^ 7) % (PARTITION_ROWS - SLICE_ROWS);
                let read = PartitionRead {
                    partition_key: &key.partition_key,
                    token: key.token,
                    slices: &[(
                        fixture::clustering(first),
                        fixture::clustering(first + SLICE_ROWS),
                    )],
                    reversed: false,
                    statics: false,
                };
                let mut cursor = self.engine.read_partition(TABLE, &read, NOW_SECONDS)?;
                let mut rows = 0;
                while cursor.next_row()?.is_some() {
                    rows += 1;
                }
                if rows != SLICE_ROWS {
                    return Err("a slice is not as expected".into());
                }
            }
            Ok(())
        })
    }
}

struct Flush(Writes);

impl Case for Flush {
    fn round(&mut self) -> Result<Sample> {
        self.0.load(self.0.rows)?;
        let sample = timed(self.0.rows, || Ok(self.0.engine.flush(TABLE)?))?;
        self.0.engine.truncate(TABLE)?;
        self.0.engine.open_table(TABLE)?;
        Ok(sample)
    }
}

struct Compaction(Writes);

impl Case for Compaction {
    fn round(&mut self) -> Result<Sample> {
        for _ in 0..4 {
            self.0.load(self.0.rows / 4)?;
            self.0.engine.flush(TABLE)?;
        }
        let sample = timed(self.0.rows, || Ok(self.0.engine.compact(TABLE)?))?;
        self.0.engine.truncate(TABLE)?;
        self.0.engine.open_table(TABLE)?;
        Ok(sample)
    }
}
