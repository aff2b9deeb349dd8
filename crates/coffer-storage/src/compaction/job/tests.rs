//! Segments, merge and compaction against a plain list of writes, and what purging keeps.

use std::collections::BTreeMap;

use bytes::Bytes;
use coffer_model::{
    CellRef, ColumnId, DeletionTime, EntryKey, EntryKind, Expiry, Liveness, PartitionTombstones,
    RangeTombstone, RowBuilder, RowRef, TableId, Token, WriteTimestamp, entry_key,
};

use super::*;
use crate::block_cache::BlockCache;
use crate::ids::ClusterId;
use crate::memory_keys::MemoryKeys;
use crate::merge::{Advance, LiveRows, merge_point, merge_tombstones};
use crate::vfs::OsVfs;

const TABLE: TableId = TableId([3; 16]);
const COLLECTION: u32 = 4;

/// One write to one row or partition; timestamps are unique, so that nothing hangs on ties.
#[derive(Debug, Clone)]
struct Write {
    partition: u8,
    /// `None` for the static row.
    clustering: Option<u8>,
    timestamp: i64,
    /// Second in which a deletion was made.
    made_at: u32,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Liveness(Option<Expiry>),
    Cell(u32, u8, Vec<u8>, Option<Expiry>),
    CellTombstone(u32, u8),
    CollectionDeletion,
    RowDeletion,
    Range(u8, u8),
    Partition,
}

type Cells = BTreeMap<(u32, Vec<u8>), Vec<u8>>;
/// Timestamp and value, `None` for a tombstone.
type Newest = (i64, Option<Vec<u8>>);

struct Random(u64);

/// Names the seed when its test fails.
struct Seed(u64);

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "read by whoever runs the failing test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn byte(&mut self, limit: u8) -> u8 {
        u8::try_from(self.below(u64::from(limit))).expect("small")
    }

    fn secs(&mut self) -> u32 {
        1000 + u32::try_from(self.below(2000)).expect("small")
    }

    fn write(&mut self, timestamp: i64) -> Write {
        let expires_at = self.secs();
        let expiry = (self.below(3) == 0).then_some(Expiry { ttl: 100, expires_at });
        let column = 1 + u32::from(self.byte(4));
        let path = if column == COLLECTION { 1 + self.byte(3) } else { 0 };
        let what = match self.below(20) {
            0..3 => What::Liveness(expiry),
            3..12 => What::Cell(column, path, timestamp.to_string().into_bytes(), expiry),
            12..15 => What::CellTombstone(column, path),
            15 => What::CollectionDeletion,
            16 | 17 => What::RowDeletion,
            18 => {
                let start = self.byte(9);
                What::Range(start, start + 1 + self.byte(4))
            }
            _ => What::Partition,
        };
        let clustering = (self.below(6) > 0).then(|| self.byte(10));
        Write { partition: self.byte(5), clustering, timestamp, made_at: self.secs(), what }
    }
}

fn prefix(partition: u8) -> Vec<u8> {
    let partition_key = [partition];
    let mut prefix = Vec::new();
    entry_key::encode_partition_prefix(Token::of(&partition_key), &partition_key, &mut prefix);
    prefix
}

fn row_key(partition: u8, clustering: Option<u8>) -> Vec<u8> {
    let (kind, clustering) =
        clustering.map_or((EntryKind::StaticRow, vec![]), |c| (EntryKind::Row, vec![c, 0]));
    let partition_key = &[partition];
    EntryKey { token: Token::of(partition_key), partition_key, kind, clustering: &clustering }
        .to_vec()
}

fn tombstones_key(partition: u8) -> Vec<u8> {
    [prefix(partition).as_slice(), &[EntryKind::Tombstones.to_byte()]].concat()
}

fn path(path: u8) -> Vec<u8> {
    if path == 0 { Vec::new() } else { vec![path] }
}

impl Write {
    fn timestamp(&self) -> WriteTimestamp {
        WriteTimestamp(self.timestamp)
    }

    fn deletion(&self) -> DeletionTime {
        DeletionTime { marked_at: self.timestamp(), local_deletion_time: self.made_at }
    }

    /// As it stands in a segment.
    fn entry(&self) -> (Vec<u8>, Bytes) {
        let range = |start, end| RangeTombstone { start, end, deletion: self.deletion() };
        let mut row = RowBuilder::new(None, None);
        match &self.what {
            What::Partition => {
                let tombstones = PartitionTombstones::of_partition(self.deletion());
                return (tombstones_key(self.partition), tombstones.encode().into());
            }
            What::Range(start, end) => {
                let tombstones = PartitionTombstones::of_range(range(vec![*start], vec![*end]));
                return (tombstones_key(self.partition), tombstones.encode().into());
            }
            What::Liveness(expiry) => {
                row = RowBuilder::new(
                    Some(Liveness { timestamp: self.timestamp(), expiry: *expiry }),
                    None,
                );
            }
            What::RowDeletion => row = RowBuilder::new(None, Some(self.deletion())),
            What::Cell(column, at, value, expiry) => {
                let cell = CellRef::live(ColumnId(*column), self.timestamp(), value);
                row.push(&cell.at(&path(*at)).expiring(*expiry));
            }
            What::CellTombstone(column, at) => {
                let cell = CellRef::tombstone(ColumnId(*column), self.timestamp(), self.made_at);
                row.push(&cell.at(&path(*at)));
            }
            What::CollectionDeletion => {
                row.push(&CellRef::complex_deletion(ColumnId(COLLECTION), self.deletion()));
            }
        }
        (row_key(self.partition, self.clustering), row.finish())
    }

    /// Whether it deletes the row as a whole.
    fn deletes(&self, clustering: Option<u8>) -> bool {
        match self.what {
            What::Partition => true,
            What::Range(start, end) => clustering.is_some_and(|row| (start..end).contains(&row)),
            What::RowDeletion => self.clustering == clustering,
            _ => false,
        }
    }
}

/// What a client must see of a row, from the plain list of writes.
fn visible(writes: &[Write], partition: u8, clustering: Option<u8>, now: u32) -> Option<Cells> {
    let writes: Vec<&Write> = writes.iter().filter(|write| write.partition == partition).collect();
    let deleted =
        writes.iter().filter(|w| w.deletes(clustering)).map(|w| w.timestamp).max().unwrap_or(-1);
    let alive = |expiry: &Option<Expiry>| expiry.is_none_or(|expiry| expiry.expires_at > now);
    let own = || {
        writes.iter().filter(|write| write.clustering == clustering && write.timestamp > deleted)
    };
    let collection_deleted = own()
        .filter(|write| matches!(write.what, What::CollectionDeletion))
        .map(|write| write.timestamp)
        .max()
        .unwrap_or(-1);
    let mut newest: BTreeMap<(u32, Vec<u8>), Newest> = BTreeMap::new();
    let mut liveness = (-1, false);
    for write in own() {
        let (place, value) = match &write.what {
            What::Liveness(expiry) => {
                liveness = liveness.max((write.timestamp, alive(expiry)));
                continue;
            }
            What::Cell(column, at, value, expiry) => {
                ((*column, path(*at)), alive(expiry).then(|| value.clone()))
            }
            What::CellTombstone(column, at) => ((*column, path(*at)), None),
            _ => continue,
        };
        if place.0 == COLLECTION && write.timestamp < collection_deleted {
            continue;
        }
        let best = newest.entry(place).or_insert((-1, None));
        if write.timestamp > best.0 {
            *best = (write.timestamp, value);
        }
    }
    let cells: Cells =
        newest.into_iter().filter_map(|(place, (_, value))| Some((place, value?))).collect();
    (liveness.1 || !cells.is_empty()).then_some(cells)
}

fn cells_of(row: &[u8]) -> Cells {
    let row = RowRef::parse(row).expect("a row");
    let cell = |cell: CellRef<'_>| {
        ((cell.column.0, cell.path.to_vec()), cell.value().expect("alive").to_vec())
    };
    row.cells().map(cell).collect()
}

struct Fixture {
    directory: tempfile::TempDir,
    vfs: Arc<dyn Vfs>,
    keys: MemoryKeys,
    cache: Arc<BlockCache>,
    options: SegmentOptions,
}

impl Fixture {
    fn new() -> Self {
        let options = SegmentOptions {
            cluster: ClusterId([1; 16]),
            table: TABLE,
            block_bytes: 128,
            compress: true,
            bloom_filter_fp_chance: 0.1,
        };
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            vfs: Arc::new(OsVfs),
            keys: MemoryKeys::default(),
            cache: Arc::new(BlockCache::new(1 << 20)),
            options,
        }
    }

    fn open(&self, entry: &SegmentEntry) -> Arc<Segment> {
        let directory = self.directory.path();
        Segment::open(self.vfs.as_ref(), directory, TABLE, entry, &self.keys, &self.cache)
            .expect("opens")
    }

    fn segment(&self, writes: &[Write]) -> Arc<Segment> {
        let mut entries: BTreeMap<Vec<u8>, Vec<Bytes>> = BTreeMap::new();
        for write in writes {
            let (key, row) = write.entry();
            entries.entry(key).or_default().push(row);
        }
        let directory = self.directory.path();
        let mut writer = SegmentWriter::create(&self.vfs, directory, &self.options, &self.keys, 10)
            .expect("creates");
        for (key, versions) in entries {
            let tombstones = key.last() == Some(&0) && key == tombstones_key(key[10]);
            let row = if tombstones {
                merge_tombstones(&versions).expect("merges").encode().into()
            } else {
                let rows: Vec<RowRef<'_>> =
                    versions.iter().map(|row| RowRef::parse(row).expect("a row")).collect();
                coffer_model::reconcile::merge_rows(&rows)
            };
            writer.add(&key, &row).expect("adds");
        }
        self.open(&writer.finish().expect("finishes").expect("has entries"))
    }

    fn compact(
        &self,
        inputs: Vec<Arc<Segment>>,
        others: Vec<Arc<Segment>>,
        now: u32,
        gc: u32,
    ) -> Option<Arc<Segment>> {
        let limits = PurgeLimits {
            now_secs: now,
            gc_before_secs: gc,
            others,
            memtable_min_timestamp: i64::MAX,
        };
        let job = CompactionJob { inputs, options: self.options.clone(), limits };
        let directory = self.directory.path();
        let entry =
            job.run(&self.vfs, directory, &self.keys, &AtomicBool::new(false)).expect("compacts");
        entry.map(|entry| self.open(&entry))
    }
}

fn cursors(
    segments: &[Arc<Segment>],
    start: &[u8],
    end: Option<&[u8]>,
    direction: Direction,
) -> Merge<'static> {
    let open = |segment: &Arc<Segment>| {
        let cursor = segment.range(start, end, direction, Caching::Fill).expect("opens");
        Box::new(cursor) as Box<dyn EntrySource>
    };
    Merge::new(segments.iter().map(open).collect(), direction)
}

fn rows(mut rows: LiveRows<'_>) -> Vec<(Vec<u8>, Cells)> {
    let mut found = Vec::new();
    loop {
        match rows.advance().expect("reads") {
            Advance::Row => {
                found.push((rows.key().to_vec(), cells_of(rows.row())));
            }
            Advance::Pause => {}
            Advance::End => return found,
        }
    }
}

/// Everything the segments show, read in all the ways there are, is what the writes say.
fn check(segments: &[Arc<Segment>], writes: &[Write], now: u32, random: &mut Random) {
    let mut expected: BTreeMap<Vec<u8>, Cells> = BTreeMap::new();
    for partition in 0..5 {
        for clustering in (0..10).map(Some).chain([None]) {
            if let Some(cells) = visible(writes, partition, clustering, now) {
                expected.insert(row_key(partition, clustering), cells);
            }
        }
    }
    let scanned = rows(LiveRows::new(cursors(segments, &[], None, Direction::Forward), now));
    assert_eq!(scanned, expected.clone().into_iter().collect::<Vec<_>>());
    let partition = random.byte(5);
    let tombstones = gather(segments, &tombstones_key(partition));
    let (low, high) = (random.byte(10), random.byte(10));
    let start = row_key(partition, Some(low.min(high)));
    let end = row_key(partition, Some(low.max(high)));
    let slice = cursors(segments, &start, Some(&end), Direction::Reversed);
    let merged = merge_tombstones(&tombstones).expect("merges");
    let mut sliced =
        rows(LiveRows::new(slice, now).with_tombstones(prefix(partition).into(), merged));
    sliced.reverse();
    let wanted: Vec<_> =
        expected.range(start..end).map(|(key, cells)| (key.clone(), cells.clone())).collect();
    assert_eq!(sliced, wanted);
    for clustering in [None, Some(random.byte(10))] {
        let key = row_key(partition, clustering);
        let bytes = clustering.map(|clustering| vec![clustering, 0]);
        let point = merge_point(&gather(segments, &key), &tombstones, bytes.as_deref(), now)
            .expect("reads");
        assert_eq!(point.map(|row| cells_of(&row)).as_ref(), expected.get(&key));
    }
}

fn gather(segments: &[Arc<Segment>], key: &[u8]) -> Vec<Bytes> {
    segments.iter().filter_map(|segment| segment.get(key).expect("reads")).collect()
}

#[test]
fn reads_before_and_after_compactions_show_what_was_written() {
    for seed in 1..60_u64 {
        let _seed = Seed(seed);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let fixture = Fixture::new();
        let mut writes: Vec<Write> = (0..200).map(|timestamp| random.write(timestamp)).collect();
        // any write may be in any segment, as after flushes of writes with timestamps of the client's
        for place in (1..writes.len()).rev() {
            let other = usize::try_from(random.below(place as u64 + 1)).expect("small");
            writes.swap(place, other);
        }
        let mut segments: Vec<Arc<Segment>> =
            writes.chunks(29).map(|chunk| fixture.segment(chunk)).collect();
        let mut now = 900;
        while segments.len() > 1 {
            now += 300;
            check(&segments, &writes, now, &mut random);
            let at = usize::try_from(random.below(segments.len() as u64 - 1)).expect("small");
            let inputs: Vec<_> = segments.drain(at..at + 2).collect();
            let grace = u32::try_from(random.below(400)).expect("small");
            segments.extend(fixture.compact(inputs, segments.clone(), now, now - grace));
            check(&segments, &writes, now, &mut random);
        }
    }
}

fn write(timestamp: i64, made_at: u32, what: What) -> Write {
    Write { partition: 1, clustering: Some(1), timestamp, made_at, what }
}

fn cell(timestamp: i64) -> Write {
    write(timestamp, 0, What::Cell(1, 0, b"x".to_vec(), None))
}

#[test]
fn deleted_things_and_their_tombstones_go_once_their_grace_is_over() {
    for what in [What::CellTombstone(1, 0), What::RowDeletion, What::Range(0, 5), What::Partition] {
        let fixture = Fixture::new();
        let inputs =
            || vec![fixture.segment(&[cell(5)]), fixture.segment(&[write(6, 1000, what.clone())])];
        let within = fixture.compact(inputs(), vec![], 2000, 1000).expect("the tombstone stays");
        let statistics = within.statistics();
        assert_eq!(statistics.tombstones + statistics.partition_tombstones, 1);
        assert_eq!(statistics.min_timestamp, 6, "what it covers is gone at once");
        assert!(fixture.compact(inputs(), vec![], 2000, 1001).is_none(), "nothing is left");
    }
}

#[test]
fn a_tombstone_stays_while_another_segment_may_hold_what_it_covers() {
    let fixture = Fixture::new();
    let tombstone = || vec![fixture.segment(&[write(6, 1000, What::Partition)])];
    let older = fixture.segment(&[cell(5)]);
    let newer = fixture.segment(&[cell(7)]);
    assert!(fixture.compact(tombstone(), vec![older], 9000, 8000).is_some());
    assert!(fixture.compact(tombstone(), vec![newer], 9000, 8000).is_none());
}

#[test]
fn a_tombstone_stays_while_a_memtable_may_hold_what_it_covers() {
    let fixture = Fixture::new();
    let mut job = CompactionJob {
        inputs: vec![fixture.segment(&[write(6, 1000, What::RowDeletion)])],
        options: fixture.options.clone(),
        limits: PurgeLimits {
            now_secs: 9000,
            gc_before_secs: 8000,
            others: vec![],
            memtable_min_timestamp: 6,
        },
    };
    let run = |job: &CompactionJob| {
        job.run(&fixture.vfs, fixture.directory.path(), &fixture.keys, &AtomicBool::new(false))
            .expect("compacts")
    };
    assert!(run(&job).is_some());
    job.limits.memtable_min_timestamp = 7;
    assert!(run(&job).is_none());
}

#[test]
fn a_cancelled_compaction_leaves_its_inputs_and_no_output() {
    let fixture = Fixture::new();
    let input = fixture.segment(&[cell(5)]);
    let limits =
        PurgeLimits { now_secs: 1, gc_before_secs: 0, others: vec![], memtable_min_timestamp: 0 };
    let job =
        CompactionJob { inputs: vec![input.clone()], options: fixture.options.clone(), limits };
    let cancelled =
        job.run(&fixture.vfs, fixture.directory.path(), &fixture.keys, &AtomicBool::new(true));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    let names = fixture.vfs.list(fixture.directory.path()).expect("list");
    assert_eq!(names, [format!("{}.segment", input.entry().id)]);
}

#[test]
fn damage_in_an_input_stops_the_compaction() {
    let fixture = Fixture::new();
    let writes: Vec<Write> =
        (0..200).map(|timestamp| Random(timestamp + 1).write(timestamp as i64)).collect();
    let input = fixture.segment(&writes);
    let entry = input.entry().clone();
    drop(input);
    let path = entry.path(fixture.directory.path());
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[400] ^= 1;
    std::fs::remove_file(&path).expect("remove");
    std::fs::write(&path, bytes).expect("write");
    let limits =
        PurgeLimits { now_secs: 1, gc_before_secs: 0, others: vec![], memtable_min_timestamp: 0 };
    let job = CompactionJob {
        inputs: vec![fixture.open(&entry)],
        options: fixture.options.clone(),
        limits,
    };
    let result =
        job.run(&fixture.vfs, fixture.directory.path(), &fixture.keys, &AtomicBool::new(false));
    assert!(matches!(result, Err(Error::Tampered { .. })));
    assert_eq!(fixture.vfs.list(fixture.directory.path()).expect("list").len(), 1);
}
