//! All operations of the engine against a model, with disks that fail and machines that crash.

use std::collections::BTreeMap;

use coffer_model::RangeTombstone;

use super::*;

/// Rows by table, partition and clustering.
pub(super) type Rows = BTreeMap<(TableId, u32, u8), Vec<u8>>;

const PARTITIONS: u32 = 3;
const CLUSTERINGS: u8 = 6;

/// A small generator whose seed replays a run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Insert { table: TableId, partition: u32, clustering: u8, bytes: usize },
    DeleteRow { table: TableId, partition: u32, clustering: u8 },
    DeleteRange { table: TableId, partition: u32, from: u8, to: u8 },
    DeletePartition { table: TableId, partition: u32 },
    Batch { partition: u32, clustering: u8 },
    Flush(TableId),
    Compact(TableId),
    Truncate(TableId),
    DropAndCreate(TableId),
    Forget(TableId),
    KeyAway(TableId),
    Restart,
}

impl Action {
    pub(super) fn choose(random: &mut Random) -> Self {
        let table = if random.below(2) == 0 { A } else { B };
        let partition = u32::try_from(random.below(PARTITIONS.into())).unwrap();
        let clustering = u8::try_from(random.below(CLUSTERINGS.into())).unwrap();
        let other = u8::try_from(random.below(CLUSTERINGS.into())).unwrap();
        match random.below(40) {
            0..14 => {
                let bytes = if random.below(6) == 0 { 6000 } else { 20 };
                Self::Insert { table, partition, clustering, bytes }
            }
            14..17 => Self::DeleteRow { table, partition, clustering },
            17..20 => {
                let (from, to) = (clustering.min(other), clustering.max(other) + 1);
                Self::DeleteRange { table, partition, from, to }
            }
            20 => Self::DeletePartition { table, partition },
            21..24 => Self::Batch { partition, clustering },
            24..29 => Self::Flush(table),
            29..32 => Self::Compact(table),
            32 => Self::Truncate(table),
            33 => Self::DropAndCreate(table),
            34 | 35 => Self::Forget(table),
            36..38 => Self::KeyAway(table),
            _ => Self::Restart,
        }
    }

    /// What the action does to the rows when it succeeds.
    pub(super) fn apply(self, rows: &mut Rows, time: i64) {
        match self {
            Self::Insert { table, partition, clustering, bytes } => {
                rows.insert((table, partition, clustering), value_at(time, bytes));
            }
            Self::DeleteRow { table, partition, clustering } => {
                rows.remove(&(table, partition, clustering));
            }
            Self::DeleteRange { table, partition, from, to } => {
                rows.retain(|(t, p, c), _| {
                    (*t, *p) != (table, partition) || !(from..to).contains(c)
                });
            }
            Self::DeletePartition { table, partition } => {
                rows.retain(|(t, p, _), _| (*t, *p) != (table, partition));
            }
            Self::Batch { partition, clustering } => {
                for table in [A, B] {
                    rows.insert((table, partition, clustering), value_at(time, 20));
                }
            }
            Self::Truncate(table) | Self::DropAndCreate(table) => {
                rows.retain(|(t, _, _), _| *t != table)
            }
            Self::Flush(_)
            | Self::Compact(_)
            | Self::Forget(_)
            | Self::KeyAway(_)
            | Self::Restart => {}
        }
    }
}

fn value_at(time: i64, bytes: usize) -> Vec<u8> {
    let mut value = time.to_be_bytes().to_vec();
    value.resize(bytes.max(8), 0x5a);
    value
}

fn deletion_at(time: i64) -> DeletionTime {
    DeletionTime { marked_at: WriteTimestamp(time), local_deletion_time: 1 }
}

pub(super) fn inserted(
    table: TableId,
    number: u32,
    clustering: u8,
    time: i64,
    bytes: usize,
) -> Mutation {
    let mut mutation = MutationBuilder::new(table, &partition(number)).unwrap();
    mutation.row(&[clustering], row(time, &value_at(time, bytes)));
    mutation.finish()
}

fn deleted(table: TableId, number: u32, tombstones: &PartitionTombstones) -> Mutation {
    let mut mutation = MutationBuilder::new(table, &partition(number)).unwrap();
    mutation.tombstones(tombstones);
    mutation.finish()
}

/// Appends with the patience a client has.
pub(super) fn commit(engine: &Engine, mutations: &[Mutation]) -> Result<()> {
    for _ in 0..20_000 {
        match write(engine, mutations) {
            Err(Error::Overloaded(_)) => {
                engine.core.housekeeping.notify();
                std::thread::yield_now();
            }
            result => return result,
        }
    }
    Err(Error::Overloaded("test"))
}

pub(super) fn perform(
    house: &House,
    engine: &mut Option<Engine>,
    action: Action,
    time: i64,
) -> Result<()> {
    let running = engine.as_ref().ok_or(Error::ShutDown)?;
    match action {
        Action::Insert { table, partition, clustering, bytes } => {
            commit(running, &[inserted(table, partition, clustering, time, bytes)])
        }
        Action::DeleteRow { table, partition: number, clustering } => {
            let mut mutation = MutationBuilder::new(table, &partition(number)).unwrap();
            mutation.row(&[clustering], RowBuilder::new(None, Some(deletion_at(time))));
            commit(running, &[mutation.finish()])
        }
        Action::DeleteRange { table, partition, from, to } => {
            let range =
                RangeTombstone { start: vec![from], end: vec![to], deletion: deletion_at(time) };
            commit(running, &[deleted(table, partition, &PartitionTombstones::of_range(range))])
        }
        Action::DeletePartition { table, partition } => {
            let tombstones = PartitionTombstones::of_partition(deletion_at(time));
            commit(running, &[deleted(table, partition, &tombstones)])
        }
        Action::Batch { partition, clustering } => {
            let one = inserted(A, partition, clustering, time, 20);
            commit(running, &[one, inserted(B, partition, clustering, time, 20)])
        }
        Action::Flush(table) => running.flush(table),
        Action::Compact(table) => running.compact(table),
        Action::Truncate(table) => running.truncate(table).and_then(|()| running.open_table(table)),
        Action::DropAndCreate(table) => {
            running.drop_table(table)?;
            create(running, table)?;
            running.open_table(table)
        }
        Action::Forget(table) => {
            running.forget_key(table);
            running.open_table(table)
        }
        Action::KeyAway(table) => {
            running.forget_key(table);
            house.keys.take_away(table.0);
            let set_aside = running.core.set_aside(table);
            house.keys.bring_back(table.0);
            set_aside?;
            running.open_table(table)
        }
        Action::Restart => {
            if let Some(engine) = engine.take() {
                engine.shutdown();
            }
            *engine = Some(reopened(house)?);
            Ok(())
        }
    }
}

/// An engine with the tables that there are, open.
pub(super) fn reopened(house: &House) -> Result<Engine> {
    let engine = house.open()?;
    for table in [A, B] {
        if !engine.catalog().tables.contains_key(&table) {
            create(&engine, table)?;
        }
        engine.open_table(table)?;
    }
    Ok(engine)
}

/// All rows as scans have them; slices both ways and point reads must agree.
fn rows_in(engine: &Engine) -> Rows {
    let mut rows = Rows::new();
    for table in [A, B] {
        let mut cursor = engine.scan(table, &ScanRange::all(), 1).unwrap();
        let mut current = 0;
        while let Some(item) = cursor.next_item().unwrap() {
            match item {
                ScanItem::Partition { partition_key, .. } => {
                    current = u32::from_be_bytes(partition_key.as_ref().try_into().unwrap());
                }
                ScanItem::Row(row) => {
                    rows.insert((table, current, row.clustering[0]), value_of(&row.row));
                }
                ScanItem::Pause => {}
            }
        }
        for number in 0..PARTITIONS {
            let expected: Vec<u8> = rows
                .range((table, number, 0)..=(table, number, u8::MAX))
                .map(|((_, _, c), _)| *c)
                .collect();
            for reversed in [false, true] {
                let mut found = sliced(engine, table, number, reversed);
                if reversed {
                    found.reverse();
                }
                assert_eq!(found, expected, "partition {number}, reversed {reversed}");
            }
            for clustering in 0..CLUSTERINGS {
                let value = read(engine, table, number, &[clustering]).unwrap();
                assert_eq!(
                    value.as_ref(),
                    rows.get(&(table, number, clustering)),
                    "{number} {clustering}"
                );
            }
        }
    }
    rows
}

fn sliced(engine: &Engine, table: TableId, number: u32, reversed: bool) -> Vec<u8> {
    let key = partition(number);
    let slices = [(vec![], vec![2]), (vec![2], vec![3]), (vec![3], vec![])];
    let read = PartitionRead {
        partition_key: &key,
        token: Token::of(&key),
        slices: &slices,
        reversed,
        statics: false,
    };
    let cursor = engine.read_partition(table, &read, 1).unwrap();
    cursor.map(|row| row.unwrap().clustering[0]).collect()
}

/// What a run may find after a crash: with what was acknowledged alone, or with what failed too.
struct Model {
    acknowledged: Rows,
    /// Each action after the first that failed may count or not.
    possible: Vec<Rows>,
}

impl Model {
    fn new(rows: Rows) -> Self {
        Self { possible: vec![rows.clone()], acknowledged: rows }
    }

    fn succeeded(&mut self, action: Action, time: i64) {
        action.apply(&mut self.acknowledged, time);
        for rows in &mut self.possible {
            action.apply(rows, time);
        }
    }

    fn failed(&mut self, action: Action, time: i64) {
        let mut with = self.possible.clone();
        for rows in &mut with {
            action.apply(rows, time);
        }
        self.possible.append(&mut with);
        self.possible.sort();
        self.possible.dedup();
    }
}

pub(super) fn options() -> EngineOptions {
    EngineOptions {
        log_file_bytes: 64 * 1024,
        log_total_bytes: 512 * 1024,
        memtable_flush_bytes: 24 * 1024,
        compaction_segments_min: 3,
        ..EngineOptions::default()
    }
}

/// One life: actions until one fails or all are done.
fn live(
    house: &House,
    engine: &mut Option<Engine>,
    random: &mut Random,
    model: &mut Model,
    time: &mut i64,
) {
    for _ in 0..20 + random.below(40) {
        *time += 1;
        let action = Action::choose(random);
        match perform(house, engine, action, *time) {
            Ok(()) => model.succeeded(action, *time),
            Err(_) => return model.failed(action, *time),
        }
    }
}

fn crash_run(seed: u64, durability: Durability) {
    let vfs = FaultVfs::new();
    let mut house = House::on(Arc::new(vfs.clone()));
    house.options = EngineOptions { durability, ..options() };
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut model = Model::new(Rows::new());
    let mut time = 10;
    let mut engine = Some(reopened(&house).unwrap());
    for life in 0..4 {
        let first = vfs.operations() + 1 + random.below(400);
        // now and then the disk works again, which must not make things worse than a crash does
        let kind = std::io::ErrorKind::StorageFull;
        match random.below(3) {
            0 => vfs.fail_from(first, Fault::ShortWrite),
            1 => vfs.fail_operation(first, Fault::Error(kind)),
            _ => {
                (first..first + 3).for_each(|number| vfs.fail_operation(number, Fault::Error(kind)))
            }
        }
        live(&house, &mut engine, &mut random, &mut model, &mut time);
        let loss = match random.below(4) {
            0 => CrashLoss::Nothing,
            1 => CrashLoss::Everything,
            _ => CrashLoss::Random(random.below(u64::MAX >> 33)),
        };
        // threads that are still at work must not reach the disk after the crash
        vfs.fail_from(vfs.operations() + 1, Fault::Error(std::io::ErrorKind::Other));
        drop(engine.take());
        vfs.crash(loss).unwrap();
        let opened = reopened(&house)
            .unwrap_or_else(|error| panic!("seed {seed}, life {life}, {loss:?}: {error}"));
        let found = rows_in(&opened);
        if durability == Durability::Synced {
            let count = |rows: &Rows| rows.keys().cloned().collect::<Vec<_>>();
            assert!(
                model.possible.contains(&found),
                "seed {seed}, life {life}, {loss:?}: {:?} is none of {:?}",
                count(&found),
                model.possible.iter().map(count).collect::<Vec<_>>()
            );
        }
        model = Model::new(found);
        engine = Some(opened);
    }
}

#[test]
fn what_a_start_found_in_the_log_a_later_loss_of_power_does_not_take() {
    let kind = std::io::ErrorKind::Other;
    let mut found = Vec::new();
    for durability in [Durability::Synced, Durability::Periodic { sync_interval_millis: 600_000 }] {
        // the disk fails before the write, at its sync, or after it; then the process dies, the machine does not
        for works in 1..8 {
            let vfs = FaultVfs::new();
            let mut house = House::on(Arc::new(vfs.clone()));
            house.options = EngineOptions { durability, ..options() };
            let engine = reopened(&house).unwrap();
            commit(&engine, &[inserted(A, 0, 0, 1, 20)]).unwrap();
            vfs.fail_from(vfs.operations() + works, Fault::Error(kind));
            let written = commit(&engine, &[inserted(A, 0, 1, 2, 6000)]).is_ok();
            drop(engine);
            vfs.crash(CrashLoss::Nothing).unwrap();
            let engine = reopened(&house).unwrap();
            let rows = rows_in(&engine);
            assert!(
                rows.len() == 2 || !written && rows.len() == 1,
                "{durability:?}, {works}: {rows:?}"
            );
            vfs.fail_from(vfs.operations() + 1, Fault::Error(kind));
            drop(engine);
            vfs.crash(CrashLoss::Everything).unwrap();
            let engine =
                reopened(&house).unwrap_or_else(|error| panic!("{durability:?}, {works}: {error}"));
            assert_eq!(rows_in(&engine), rows, "{durability:?}, {works}");
            found.push((written, rows.len()));
        }
    }
    // a row that was not acknowledged, and is there
    assert!(found.contains(&(false, 2)), "{found:?}");
}

#[test]
fn whatever_fails_and_whenever_it_crashes_all_that_was_acknowledged_is_there_and_nothing_else() {
    for seed in 0..seeds(20) {
        crash_run(seed, Durability::Synced);
    }
}

#[test]
fn a_loss_of_power_with_periodic_syncs_is_never_taken_for_tampering() {
    for seed in 0..seeds(15) {
        crash_run(seed, Durability::Periodic { sync_interval_millis: 5 });
    }
}

/// How many seeds: `COFFER_SEEDS` or a few.
pub(super) fn seeds(usual: u64) -> u64 {
    std::env::var("COFFER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}
