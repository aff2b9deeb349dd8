//! The engine through its own doors, on disks that fail and directories that were changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coffer_crypto::clock::{ManualClock, SystemClock};
use coffer_crypto::{EncryptionType, HexBytes, KeyRecord, TableKeyId};
use coffer_model::{
    CellRef, Column, ColumnId, ColumnKind, CqlType, DeletionTime, KeyspaceSchema, Liveness,
    MutationBuilder, PartitionTombstones, RowBuilder, RowRef, TableOptions, TableSchema,
    WriteTimestamp,
};

use coffer_crypto::RootKey;

use super::*;
use crate::memory_keys::MemoryKeys;
use crate::options::Durability;
use crate::vfs::{CrashLoss, Fault, FaultVfs, OsVfs};
use crate::{Advance, ScanItem, TableEntry};

mod ages;
mod archives;
mod crashes;
mod failing_table;
mod histories;
mod inspection;
mod rollback;
mod root_keys;
mod snapshot_crashes;
mod snapshots;
mod tails;

const A: TableId = TableId([0xa1; 16]);
const B: TableId = TableId([0xb2; 16]);

/// A data directory with what it takes to open it again and again.
struct House {
    directory: tempfile::TempDir,
    root_key: Arc<RootKey>,
    keys: Arc<MemoryKeys>,
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    options: EngineOptions,
}

impl House {
    fn new() -> Self {
        Self::on(Arc::new(OsVfs))
    }

    fn on(vfs: Arc<dyn Vfs>) -> Self {
        let options = EngineOptions { log_file_bytes: 64 * 1024, ..EngineOptions::default() };
        Self {
            directory: tempfile::tempdir().unwrap(),
            root_key: Arc::new(RootKey::generate().unwrap()),
            keys: Arc::default(),
            vfs,
            clock: Arc::new(SystemClock),
            options,
        }
    }

    fn open(&self) -> Result<Engine> {
        self.open_with(Arc::clone(&self.root_key))
    }

    fn open_with(&self, root_keys: impl Into<RootKeys>) -> Result<Engine> {
        let keys: Arc<dyn DataKeySource> = self.keys.clone();
        Engine::open(
            &self.directory.path().join("data"),
            self.options.clone(),
            keys,
            root_keys,
            Arc::clone(&self.vfs),
            Arc::clone(&self.clock),
        )
    }

    fn open_at(&self, clock: &Arc<ManualClock>) -> Engine {
        let keys: Arc<dyn DataKeySource> = self.keys.clone();
        Engine::open(
            &self.directory.path().join("data"),
            self.options.clone(),
            keys,
            Arc::clone(&self.root_key),
            Arc::clone(&self.vfs),
            clock.clone(),
        )
        .unwrap()
    }

    fn with_tables(&self) -> Engine {
        let engine = self.open().unwrap();
        for table in [A, B] {
            create(&engine, table).unwrap();
            engine.open_table(table).unwrap();
        }
        engine
    }

    fn files(&self, part: &str, suffix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = vec![self.directory.path().join("data").join(part)];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    left.push(path);
                } else if path.to_string_lossy().ends_with(suffix) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn schema(id: TableId) -> TableSchema {
    let column = |number, name: &str, kind| Column {
        id: ColumnId(number),
        name: name.to_owned(),
        ty: CqlType::Int,
        kind,
    };
    TableSchema {
        id,
        keyspace: "k".into(),
        name: format!("t{id}"),
        columns: vec![
            column(0, "p", ColumnKind::PartitionKey { position: 0 }),
            column(1, "c", ColumnKind::Clustering { position: 0, reversed: true }),
            column(2, "v", ColumnKind::Regular),
        ],
        options: TableOptions::default(),
        custom_properties: BTreeMap::new(),
        dropped_columns: Vec::new(),
        next_column_id: 3,
        created_at_millis: 1,
    }
}

fn key_record() -> KeyRecord {
    KeyRecord {
        table_key_id: TableKeyId([7; 16]),
        encryption_type: EncryptionType::AwsOwned,
        kms_key_arn: None,
        blob: HexBytes(vec![1, 2, 3]),
        encryption_context: BTreeMap::new(),
        key_material_id: None,
        created_at_millis: 0,
        wraps: 0,
        older: Vec::new(),
        grants: Vec::new(),
        double_wrapped: false,
    }
}

fn create(engine: &Engine, table: TableId) -> Result<()> {
    let mut add = |old: &Catalog| {
        let mut new = old.clone();
        let keyspace = KeyspaceSchema {
            name: "k".into(),
            replication: BTreeMap::new(),
            durable_writes: true,
            tags: BTreeMap::new(),
            custom_properties: BTreeMap::new(),
            types: BTreeMap::new(),
        };
        new.keyspaces.insert("k".into(), Arc::new(keyspace));
        let id = engine.core.keys.create_data_key(&coffer_crypto::FileIdentity {
            format_version: coffer_crypto::FORMAT_VERSION,
            cluster_id: [0; 16],
            table_id: table.0,
            file_id: [0; 16],
        });
        let key = KeyRecord { table_key_id: id.unwrap().1.table_key_id, ..key_record() };
        new.tables.insert(table, Arc::new(TableEntry::new(Arc::new(schema(table)), Arc::new(key))));
        Ok(new)
    };
    engine.update_catalog(&mut add).map(drop)
}

fn row(timestamp: i64, value: &[u8]) -> RowBuilder {
    let liveness = Liveness { timestamp: WriteTimestamp(timestamp), expiry: None };
    let mut row = RowBuilder::new(Some(liveness), None);
    row.push(&CellRef::live(ColumnId(2), WriteTimestamp(timestamp), value));
    row
}

fn partition(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn insert(table: TableId, number: u32, clustering: &[u8], value: &[u8]) -> Mutation {
    let mut mutation = MutationBuilder::new(table, &partition(number)).unwrap();
    mutation.row(clustering, row(1, value));
    mutation.finish()
}

fn value_of(row: &[u8]) -> Vec<u8> {
    let row = RowRef::parse(row).unwrap();
    let cell = row.column(ColumnId(2)).next().unwrap();
    cell.value().unwrap().to_vec()
}

fn read(
    engine: &Engine,
    table: TableId,
    number: u32,
    clustering: &[u8],
) -> Result<Option<Vec<u8>>> {
    let key = partition(number);
    let row = engine.read_row(table, &key, Token::of(&key), clustering, 1)?;
    Ok(row.map(|row| value_of(&row)))
}

fn write(engine: &Engine, mutations: &[Mutation]) -> Result<()> {
    let lsn = engine.append(mutations)?;
    engine.wait_committed(lsn)
}

fn rows_of(engine: &Engine, table: TableId) -> usize {
    let mut cursor = engine.scan(table, &ScanRange::all(), 1).unwrap();
    let mut rows = 0;
    while let Some(item) = cursor.next_item().unwrap() {
        rows += usize::from(matches!(item, ScanItem::Row(_)));
    }
    rows
}

#[test]
fn rows_are_read_back_from_memtable_segment_compaction_and_after_a_restart() {
    let house = House::new();
    let engine = house.with_tables();
    for round in 0..4_u32 {
        for number in 0..50 {
            write(&engine, &[insert(A, round * 50 + number, b"c", b"v")]).unwrap();
        }
        engine.flush(A).unwrap();
    }
    write(&engine, &[insert(A, 1000, b"c", b"memtable")]).unwrap();
    engine.compact(A).unwrap();
    assert_eq!(engine.statistics(A).unwrap().segments, 1);
    let check = |engine: &Engine| {
        assert_eq!(rows_of(engine, A), 201);
        assert_eq!(read(engine, A, 199, b"c").unwrap().unwrap(), b"v");
        assert_eq!(read(engine, A, 1000, b"c").unwrap().unwrap(), b"memtable");
        assert_eq!(read(engine, A, 1000, b"d").unwrap(), None);
    };
    check(&engine);
    drop(engine);
    let engine = house.open().unwrap();
    assert!(matches!(read(&engine, A, 1, b"c"), Err(Error::TableNotOpen(A))));
    engine.open_table(A).unwrap();
    check(&engine);
    engine.shutdown();
    drop(engine);
    let engine = house.open().unwrap();
    engine.open_table(A).unwrap();
    check(&engine);
}

#[test]
fn a_second_engine_on_the_directory_is_refused() {
    let house = House::new();
    let _engine = house.with_tables();
    assert!(matches!(house.open(), Err(Error::Locked { .. })));
}

#[test]
fn partitions_are_read_in_slices_both_ways_with_statics_and_range_tombstones() {
    let house = House::new();
    let engine = house.with_tables();
    let mut mutation = MutationBuilder::new(A, &partition(7)).unwrap();
    mutation.static_row(row(1, b"static"));
    for clustering in 0..100_u8 {
        mutation.row(&[clustering], row(1, &[clustering]));
    }
    write(&engine, &[mutation.finish()]).unwrap();
    engine.flush(A).unwrap();
    let deletion = DeletionTime { marked_at: WriteTimestamp(5), local_deletion_time: 1 };
    let range = coffer_model::RangeTombstone { start: vec![10], end: vec![20], deletion };
    let mut mutation = MutationBuilder::new(A, &partition(7)).unwrap();
    mutation.tombstones(&PartitionTombstones::of_range(range));
    write(&engine, &[mutation.finish()]).unwrap();
    let key = partition(7);
    let read = |reversed, slices: &[(Vec<u8>, Vec<u8>)]| {
        let read = PartitionRead {
            partition_key: &key,
            token: Token::of(&key),
            slices,
            reversed,
            statics: true,
        };
        let cursor = engine.read_partition(A, &read, 1).unwrap();
        assert_eq!(value_of(cursor.static_row().unwrap()), b"static");
        cursor.map(|row| row.unwrap().clustering[0]).collect::<Vec<_>>()
    };
    let all: Vec<u8> = (0..10).chain(20..100).collect();
    assert_eq!(read(false, &[(vec![], vec![])]), all);
    assert_eq!(read(true, &[(vec![], vec![])]), all.iter().rev().copied().collect::<Vec<_>>());
    let slices = [(vec![5], vec![22]), (vec![98], vec![])];
    assert_eq!(read(false, &slices), [5, 6, 7, 8, 9, 20, 21, 98, 99]);
    assert_eq!(read(true, &slices), [99, 98, 21, 20, 9, 8, 7, 6, 5]);
    assert!(read(false, &[]).is_empty());
}

#[test]
fn a_reader_of_deleted_rows_pauses_and_still_finds_the_live_one() {
    let house = House::new();
    let engine = house.with_tables();
    let mut mutation = MutationBuilder::new(A, &partition(7)).unwrap();
    for clustering in 0..=250_u8 {
        mutation.row(&[clustering], row(1, &[clustering]));
    }
    let deletion = DeletionTime { marked_at: WriteTimestamp(5), local_deletion_time: 1 };
    let range = coffer_model::RangeTombstone { start: vec![0], end: vec![250], deletion };
    mutation.tombstones(&PartitionTombstones::of_range(range));
    write(&engine, &[mutation.finish()]).unwrap();

    let key = partition(7);
    let whole = [(vec![], vec![])];
    let read = PartitionRead {
        partition_key: &key,
        token: Token::of(&key),
        slices: &whole,
        reversed: false,
        statics: false,
    };
    let mut cursor = engine.read_partition(A, &read, 1).unwrap();
    let mut steps = Vec::new();
    while steps.last() != Some(&Advance::End) {
        steps.push(cursor.advance().unwrap());
    }
    let pauses = steps.iter().filter(|step| **step == Advance::Pause).count();
    let rows = steps.iter().filter(|step| **step == Advance::Row).count();
    assert!(pauses >= 10 && rows == 1, "{steps:?}");

    let mut scan = engine.scan(A, &ScanRange::all(), 1).unwrap();
    let items = std::iter::from_fn(|| scan.next_item().unwrap()).collect::<Vec<_>>();
    assert!(items.iter().filter(|item| matches!(item, ScanItem::Pause)).count() >= 10);
    assert_eq!(items.iter().filter(|item| matches!(item, ScanItem::Row(_))).count(), 1);
}

#[test]
fn a_scan_resumes_where_it_was_and_skips_partitions() {
    let house = House::new();
    let engine = house.with_tables();
    for number in 0..20 {
        let mut mutation = MutationBuilder::new(A, &partition(number)).unwrap();
        mutation.static_row(row(1, b"s"));
        for clustering in 0..60_u8 {
            mutation.row(&[clustering], row(1, b"v"));
        }
        write(&engine, &[mutation.finish()]).unwrap();
    }
    let mut seen = Vec::new();
    let mut position: Option<(Bytes, Token, Bytes)> = None;
    loop {
        let after = position.as_ref().map(|(key, token, clustering)| crate::ScanPosition {
            partition_key: key,
            token: *token,
            clustering: Some(clustering),
        });
        let mut cursor = engine.scan(A, &ScanRange { after, ..ScanRange::all() }, 1).unwrap();
        let before = seen.len();
        let mut current = None;
        while let Some(item) = cursor.next_item().unwrap() {
            match item {
                ScanItem::Partition { partition_key, token, static_row } => {
                    assert_eq!(value_of(&static_row.unwrap()), b"s");
                    current = Some((partition_key, token));
                }
                ScanItem::Row(row) => {
                    let (key, token) = current.clone().unwrap();
                    seen.push((key.clone(), row.clustering.clone()));
                    position = Some((key, token, row.clustering));
                }
                ScanItem::Pause => {}
            }
            if seen.len() == before + 37 {
                break;
            }
        }
        if seen.len() == before {
            break;
        }
    }
    assert_eq!(seen.len(), 20 * 60);
    seen.dedup();
    assert_eq!(seen.len(), 20 * 60);
    let mut cursor = engine.scan(A, &ScanRange::all(), 1).unwrap();
    let mut partitions = 0;
    while let Some(item) = cursor.next_item().unwrap() {
        assert!(matches!(item, ScanItem::Partition { .. }));
        partitions += 1;
        cursor.skip_partition();
    }
    assert_eq!(partitions, 20);
}

#[test]
fn four_writers_lose_nothing() {
    let house = House::new();
    let engine = house.with_tables();
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..500 {
                    let number = writer * 1000 + number;
                    let batch = [insert(A, number, b"c", b"v"), insert(B, number, b"c", b"v")];
                    while let Err(error) = write(engine, &batch) {
                        assert!(matches!(error, Error::Overloaded(_)), "{error}");
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert_eq!(rows_of(&engine, A), 2000);
    drop(engine);
    let engine = house.open().unwrap();
    for table in [A, B] {
        engine.open_table(table).unwrap();
        assert_eq!(rows_of(&engine, table), 2000);
    }
}

/// Writes until the file system refuses; returns how many rows were acknowledged.
fn write_until_refused(house: &House) -> u32 {
    let mut acknowledged = 0;
    let Ok(engine) = house.open() else { return 0 };
    for table in [A, B] {
        if engine.catalog().tables.contains_key(&table) || create(&engine, table).is_ok() {
            let _ = engine.open_table(table);
        }
    }
    for number in 0..40 {
        let batch = [insert(A, number, b"c", &[9; 2000]), insert(B, number, b"c", &[9; 100])];
        match write(&engine, &batch) {
            Ok(()) => acknowledged = number + 1,
            Err(Error::Overloaded(_)) => std::thread::yield_now(),
            Err(_) => break,
        }
        if number % 13 == 12 {
            let _ = engine.flush(A);
        }
    }
    let _ = engine.compact(A);
    engine.shutdown();
    acknowledged
}

#[test]
fn a_crash_at_any_file_operation_keeps_every_acknowledged_write() {
    let faultless = FaultVfs::new();
    write_until_refused(&House::on(Arc::new(faultless.clone())));
    let total = faultless.operations();
    assert!(total > 50, "{total}");
    for number in (1..total + 1).step_by(3) {
        for loss in [CrashLoss::Nothing, CrashLoss::Everything, CrashLoss::Random(number)] {
            let vfs = FaultVfs::new();
            let house = House::on(Arc::new(vfs.clone()));
            vfs.fail_from(number, Fault::Error(std::io::ErrorKind::Other));
            let acknowledged = write_until_refused(&house);
            vfs.crash(loss).unwrap();
            let engine = house.open().unwrap_or_else(|error| panic!("{number} {loss:?}: {error}"));
            if acknowledged == 0 {
                continue;
            }
            for table in [A, B] {
                engine
                    .open_table(table)
                    .unwrap_or_else(|error| panic!("{number} {loss:?}: {error}"));
                for row in 0..acknowledged {
                    let value = read(&engine, table, row, b"c").unwrap();
                    assert!(
                        value.is_some(),
                        "operation {number}, {loss:?}: row {row} of {acknowledged}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_failed_sync_poisons_writes_and_reads_go_on() {
    let vfs = FaultVfs::new();
    let house = House::on(Arc::new(vfs.clone()));
    let engine = house.with_tables();
    write(&engine, &[insert(A, 1, b"c", b"v")]).unwrap();
    vfs.fail_from(vfs.operations() + 2, Fault::Error(std::io::ErrorKind::Other));
    let mut refused = None;
    for number in 2..50 {
        if let Err(error) = write(&engine, &[insert(A, number, b"c", b"v")]) {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(Error::Poisoned(_))), "{refused:?}");
    vfs.heal();
    assert!(matches!(engine.append(&[insert(A, 3, b"c", b"v")]), Err(Error::Poisoned(_))));
    assert_eq!(read(&engine, A, 1, b"c").unwrap().unwrap(), b"v");
}

#[test]
fn a_table_whose_key_is_away_holds_up_nobody_and_gets_its_rows_back() {
    let mut house = House::new();
    house.options.log_total_bytes = 600 * 1024;
    let engine = house.with_tables();
    write(&engine, &[insert(A, 1, b"c", b"away"), insert(B, 1, b"c", b"here")]).unwrap();
    drop(engine);
    house.keys.take_away(A.0);
    let engine = house.open().unwrap();
    engine.open_table(B).unwrap();
    assert!(matches!(engine.open_table(A), Err(Error::KeyUnavailable(_))));
    assert!(matches!(
        engine.append(&[insert(B, 2, b"c", b"v"), insert(A, 2, b"c", b"v")]),
        Err(Error::TableNotOpen(A))
    ));
    let mut number = 10;
    let before = engine.catalog().log.oldest;
    while engine.catalog().log.oldest < before + 3 {
        match write(&engine, &[insert(B, number, b"c", &[5; 8000])]) {
            Ok(()) => number += 1,
            Err(Error::Overloaded(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(engine.statistics(A).unwrap().tails, 1);
    house.keys.bring_back(A.0);
    engine.open_table(A).unwrap();
    assert_eq!(read(&engine, A, 1, b"c").unwrap().unwrap(), b"away");
    engine.flush(A).unwrap();
    assert_eq!(engine.statistics(A).unwrap().tails, 0);
    assert!(house.files("tables", ".tail").is_empty());
    drop(engine);
    let engine = house.open().unwrap();
    engine.open_table(A).unwrap();
    engine.open_table(B).unwrap();
    assert_eq!(read(&engine, A, 1, b"c").unwrap().unwrap(), b"away");
    assert_eq!(rows_of(&engine, B), usize::try_from(number - 10 + 1).unwrap());
}

#[test]
fn a_forgotten_table_comes_back_with_all_rows() {
    let house = House::new();
    let engine = house.with_tables();
    write(&engine, &[insert(A, 1, b"c", b"flushed")]).unwrap();
    engine.flush(A).unwrap();
    let lsn = engine.append(&[insert(A, 2, b"c", b"logged")]).unwrap();
    engine.forget_key(A);
    assert!(engine.committed() >= lsn);
    assert!(matches!(read(&engine, A, 1, b"c"), Err(Error::TableNotOpen(A))));
    engine.open_table(A).unwrap();
    assert_eq!(read(&engine, A, 1, b"c").unwrap().unwrap(), b"flushed");
    assert_eq!(read(&engine, A, 2, b"c").unwrap().unwrap(), b"logged");
}

#[test]
fn truncate_and_drop_work_while_the_key_is_away_and_nothing_comes_back() {
    let house = House::new();
    let engine = house.with_tables();
    for table in [A, B] {
        write(&engine, &[insert(table, 1, b"c", b"v")]).unwrap();
        engine.flush(table).unwrap();
        write(&engine, &[insert(table, 2, b"c", b"v")]).unwrap();
        engine.forget_key(table);
        house.keys.take_away(table.0);
    }
    engine.truncate(A).unwrap();
    engine.drop_table(B).unwrap();
    assert!(matches!(engine.drop_table(B), Err(Error::NoSuchTable(B))));
    house.keys.bring_back(A.0);
    assert!(house.files("tables", ".segment").is_empty());
    engine.open_table(A).unwrap();
    write(&engine, &[insert(A, 3, b"c", b"after")]).unwrap();
    drop(engine);
    let engine = house.open().unwrap();
    engine.open_table(A).unwrap();
    assert_eq!(rows_of(&engine, A), 1);
    assert_eq!(read(&engine, A, 3, b"c").unwrap().unwrap(), b"after");
    assert!(matches!(engine.open_table(B), Err(Error::NoSuchTable(B))));
}

#[test]
fn beyond_the_memory_limit_writers_wait_for_room_and_the_data_is_all_there() {
    let mut house = House::new();
    house.options.log_file_bytes = 1 << 20;
    house.options.memtable_total_bytes = 512 * 1024;
    house.options.memtable_flush_bytes = 128 * 1024;
    let engine = house.with_tables();
    let mut refused = 0;
    let mut number = 0;
    let mut last = Lsn(0);
    while number < 2000 {
        match engine.append(&[insert(A, number, b"c", &[3; 1000])]) {
            Ok(lsn) => {
                number += 1;
                last = lsn;
            }
            Err(Error::Overloaded(_)) => {
                refused += 1;
                let used = engine.core.memory.bytes();
                assert!(used < 1024 * 1024, "{used}");
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    engine.wait_committed(last).unwrap();
    assert_eq!(rows_of(&engine, A), 2000);
    let limit = house.options.mutation_max_bytes;
    house.options.mutation_max_bytes = 4096;
    drop(engine);
    let engine = house.open().unwrap();
    engine.open_table(A).unwrap();
    let refused = engine.append(&[insert(A, 1, b"c", &[3; 5000])]);
    assert!(matches!(refused, Err(Error::TooLarge { limit: 4096, .. })) && limit > 4096);
}

/// Opens everything and reads everything.
fn reads_all(house: &House) -> Result<usize> {
    let engine = house.open()?;
    let mut rows = 0;
    for table in [A, B] {
        engine.open_table(table)?;
        let mut cursor = engine.scan(table, &ScanRange::all(), 1)?;
        while let Some(item) = cursor.next_item()? {
            rows += usize::from(matches!(item, ScanItem::Row(_)));
        }
    }
    Ok(rows)
}

fn copy_of(house: &House) -> House {
    let copy = House {
        directory: tempfile::tempdir().unwrap(),
        root_key: Arc::clone(&house.root_key),
        keys: Arc::clone(&house.keys),
        vfs: Arc::new(OsVfs),
        clock: Arc::clone(&house.clock),
        options: house.options.clone(),
    };
    let from = house.directory.path();
    for file in house.files("", "") {
        let to = copy.directory.path().join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        // a running engine renames its next log file meanwhile: as if the machine stopped before
        if let Err(error) = std::fs::copy(&file, to) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", file.display());
        }
    }
    copy
}

#[test]
fn any_changed_byte_of_log_and_catalog_is_named_and_no_row_is_lost_or_wrong() {
    let house = House::new();
    let engine = house.with_tables();
    for number in 0..5 {
        write(&engine, &[insert(A, number, b"c", b"v"), insert(B, number, b"c", b"v")]).unwrap();
    }
    drop(engine);
    assert_eq!(reads_all(&copy_of(&house)).unwrap(), 10);
    for (part, suffix) in [("log", ".log"), ("catalog", ".catalog")] {
        let first = house.files(part, suffix)[0].clone();
        let bytes = std::fs::read(&first).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for offset in (0..written).step_by(7).chain([written - 1, bytes.len() - 1]) {
            let copy = copy_of(&house);
            let path =
                copy.directory.path().join(first.strip_prefix(house.directory.path()).unwrap());
            let mut changed = bytes.clone();
            changed[offset] ^= 0x10;
            std::fs::write(&path, changed).unwrap();
            let error = reads_all(&copy).expect_err(&format!("{part} byte {offset}"));
            assert!(
                matches!(error, Error::Tampered { .. } | Error::WrongKey { .. }),
                "{part} byte {offset}: {error}"
            );
        }
        let copy = copy_of(&house);
        let path = copy.directory.path().join(first.strip_prefix(house.directory.path()).unwrap());
        std::fs::write(&path, &bytes[..bytes.len() - 512.min(bytes.len() / 2)]).unwrap();
        assert!(matches!(reads_all(&copy), Err(Error::Tampered { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(reads_all(&copy), Err(Error::Tampered { .. })));
    }
}

#[test]
fn files_are_inspected_with_and_without_the_root_key() {
    use crate::inspect::{inspect_catalog, inspect_log};
    let house = House::new();
    let engine = house.with_tables();
    for number in 0..5 {
        write(&engine, &[insert(A, number, b"c", b"v")]).unwrap();
    }
    engine.flush(A).unwrap();
    drop(engine);
    let log = house.files("log", ".log")[0].clone();
    assert_eq!(inspect_log(&OsVfs, &log, None).unwrap().frames, None);
    let frames = inspect_log(&OsVfs, &log, Some(&house.root_key)).unwrap().frames.unwrap();
    assert_eq!(frames.range, Some((Lsn(1), Lsn(5))));
    assert!(frames.ended);
    let tables: Vec<_> =
        frames.tables.iter().map(|((table, _), groups)| (*table, *groups)).collect();
    assert_eq!(tables, [(A, 5)]);
    let catalog = house.files("catalog", ".catalog")[0].clone();
    let structure = inspect_catalog(&OsVfs, &catalog, &house.root_key).unwrap();
    assert_eq!(structure.tables.get(&A).unwrap().segments, 1);
    let other = RootKey::generate().unwrap();
    assert!(matches!(inspect_catalog(&OsVfs, &catalog, &other), Err(Error::WrongKey { .. })));
}

#[test]
fn an_unfinished_frame_is_cut_and_a_changed_one_is_not() {
    let house = House::new();
    let engine = house.with_tables();
    write(&engine, &[insert(A, 1, b"c", b"v")]).unwrap();
    let log = house.files("log", ".log")[0].clone();
    let before = std::fs::read(&log).unwrap();
    let before = before.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    write(&engine, &[insert(A, 2, b"c", &[7; 3000])]).unwrap();
    let bytes = std::fs::read(&log).unwrap();
    // the state a crash leaves: nothing was ended
    let crashed = copy_of(&house);
    drop(engine);
    let path = crashed.directory.path().join(log.strip_prefix(house.directory.path()).unwrap());
    let open = |change: &dyn Fn(&mut Vec<u8>)| {
        let copy = copy_of(&crashed);
        let path = copy.directory.path().join(path.strip_prefix(crashed.directory.path()).unwrap());
        let mut changed = bytes.clone();
        change(&mut changed);
        std::fs::write(path, changed).unwrap();
        reads_all(&copy)
    };
    assert_eq!(open(&|_| {}).unwrap(), 2);
    for sector in 0..6 {
        let start = before + sector * 512;
        let cut = open(&|bytes| bytes[start..start + 512].fill(0));
        assert_eq!(cut.unwrap(), 1, "sector {sector}");
        let changed = open(&|bytes| bytes[start + 60] ^= 1);
        assert!(matches!(changed, Err(Error::Tampered { .. })), "sector {sector}");
    }
    let earlier = open(&|bytes| bytes[512..1024].fill(0));
    assert!(matches!(earlier, Err(Error::Tampered { .. })));
    let beyond = open(&|bytes| *bytes.last_mut().unwrap() = 1);
    assert!(matches!(beyond, Err(Error::Tampered { .. })));
}

#[test]
fn periodic_sync_makes_writes_durable_when_they_are_flushed() {
    let mut house = House::new();
    house.options.durability = Durability::Periodic { sync_interval_millis: 60_000 };
    let engine = house.with_tables();
    for number in 0..100 {
        write(&engine, &[insert(A, number, b"c", b"v")]).unwrap();
    }
    engine.flush(A).unwrap();
    assert!(engine.core.log.durable() >= engine.committed());
    drop(engine);
    assert_eq!(reads_all(&house).unwrap(), 100);
}

#[test]
fn a_full_disk_refuses_by_name_and_recovers() {
    let vfs = FaultVfs::new();
    let house = House::on(Arc::new(vfs.clone()));
    let engine = house.with_tables();
    write(&engine, &[insert(A, 1, b"c", b"v")]).unwrap();
    while engine.core.log.file_bytes() < 2 * house.options.log_file_bytes {
        std::thread::yield_now();
    }
    vfs.fail_from(vfs.operations() + 1, Fault::Error(std::io::ErrorKind::StorageFull));
    assert!(matches!(engine.flush(A), Err(Error::Io { .. })));
    assert_eq!(read(&engine, A, 1, b"c").unwrap().unwrap(), b"v");
    vfs.heal();
    engine.flush(A).unwrap();
    write(&engine, &[insert(A, 2, b"c", b"v")]).unwrap();
    assert_eq!(rows_of(&engine, A), 2);
}
