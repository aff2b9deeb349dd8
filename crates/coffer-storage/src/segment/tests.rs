//! Whole segments: written, read, damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{
    CellRef, ColumnId, DeletionTime, EntryKey, EntryKind, Expiry, Liveness, PartitionTombstones,
    RowBuilder, TableId, Token, WriteTimestamp,
};

use super::iter::SegmentCursor;
use super::*;
use crate::block_cache::BlockCache;
use crate::error::Error;
use crate::ids::ClusterId;
use crate::memory_keys::MemoryKeys;
use crate::merge::{Direction, EntrySource};
use crate::vfs::{Fault, FaultVfs, OsVfs, Vfs};

const TABLE: TableId = TableId([7; 16]);
type Entries = BTreeMap<Vec<u8>, Bytes>;

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
            block_bytes: 4096,
            compress: true,
            bloom_filter_fp_chance: 0.01,
        };
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            vfs: Arc::new(OsVfs),
            keys: MemoryKeys::default(),
            cache: Arc::new(BlockCache::new(1 << 20)),
            options,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, entries: &Entries) -> crate::Result<Option<SegmentEntry>> {
        let count = entries.len() as u64;
        let mut writer =
            SegmentWriter::create(&self.vfs, self.path(), &self.options, &self.keys, count)?;
        for (key, row) in entries {
            writer.add(key, row)?;
        }
        writer.finish()
    }

    fn open(&self, entry: &SegmentEntry) -> crate::Result<Arc<Segment>> {
        Segment::open(self.vfs.as_ref(), self.path(), TABLE, entry, &self.keys, &self.cache)
    }

    fn segment(&self, entries: &Entries) -> Arc<Segment> {
        let entry = self.write(entries).expect("writes").expect("has entries");
        self.open(&entry).expect("opens")
    }
}

fn key(partition: u32, clustering: u32) -> Vec<u8> {
    let partition_key = partition.to_be_bytes();
    EntryKey {
        token: Token::of(&partition_key),
        partition_key: &partition_key,
        kind: EntryKind::Row,
        clustering: &clustering.to_be_bytes(),
    }
    .to_vec()
}

fn row(timestamp: i64, value: &[u8]) -> Bytes {
    let timestamp = WriteTimestamp(timestamp);
    let mut row = RowBuilder::new(Some(Liveness { timestamp, expiry: None }), None);
    row.push(&CellRef::live(ColumnId(1), timestamp, value));
    row.finish()
}

/// Rows of `partitions` partitions with `rows` each; values compress well.
fn entries(partitions: u32, rows: u32) -> Entries {
    let mut entries = Entries::new();
    for partition in 0..partitions {
        for clustering in 0..rows {
            let value =
                format!("value {partition} {clustering} and some more text that repeats itself");
            entries.insert(
                key(partition, clustering * 2),
                row(i64::from(clustering), value.as_bytes()),
            );
        }
    }
    entries
}

fn collect(mut cursor: SegmentCursor) -> crate::Result<Vec<(Vec<u8>, Bytes)>> {
    let mut found = Vec::new();
    while let Some(key) = cursor.key() {
        found.push((key.to_vec(), cursor.shared_row()));
        cursor.advance()?;
    }
    Ok(found)
}

fn expected(entries: &Entries, start: &[u8], end: Option<&[u8]>) -> Vec<(Vec<u8>, Bytes)> {
    let inside =
        |key: &&Vec<u8>| key.as_slice() >= start && end.is_none_or(|end| key.as_slice() < end);
    entries.keys().filter(inside).map(|key| (key.clone(), entries[key].clone())).collect()
}

#[test]
fn everything_written_is_found_by_key_whatever_the_block_size() {
    let all = entries(300, 7);
    for (block_bytes, compress) in
        [(4096, true), (4096, false), (16384, true), (65536, false), (1, true)]
    {
        let mut fixture = Fixture::new();
        fixture.options.block_bytes = block_bytes;
        fixture.options.compress = compress;
        let segment = fixture.segment(&all);
        for (key, row) in &all {
            assert_eq!(segment.get(key).expect("reads").as_ref(), Some(row));
            assert!(segment.may_contain(EntryKey::decode(key).expect("a key").token));
        }
        for absent in [key(0, 1), key(400, 0), vec![], vec![0xff; 40]] {
            assert_eq!(segment.get(&absent).expect("reads"), None);
        }
        segment.verify().expect("all units open");
    }
}

#[test]
fn ranges_are_walked_in_both_directions() {
    let fixture = Fixture::new();
    let all = entries(40, 30);
    let segment = fixture.segment(&all);
    let keys: Vec<&Vec<u8>> = all.keys().collect();
    let mut bounds: Vec<Vec<u8>> =
        (0..keys.len()).step_by(37).map(|place| keys[place].clone()).collect();
    bounds.extend([vec![], vec![0xff; 30], [keys[17].as_slice(), b"\0"].concat()]);
    for start in &bounds {
        for end in bounds.iter().map(Some).chain([None]) {
            let end = end.map(Vec::as_slice);
            let mut wanted = expected(&all, start, end);
            let forward =
                segment.range(start, end, Direction::Forward, Caching::Bypass).expect("opens");
            assert_eq!(collect(forward).expect("reads"), wanted);
            wanted.reverse();
            let reversed =
                segment.range(start, end, Direction::Reversed, Caching::Fill).expect("opens");
            assert_eq!(collect(reversed).expect("reads"), wanted);
        }
    }
}

#[test]
fn a_large_segment_has_many_index_blocks() {
    let mut fixture = Fixture::new();
    fixture.options.block_bytes = 64;
    let all = entries(2000, 3);
    let segment = fixture.segment(&all);
    assert_eq!(segment.statistics().partitions, 2000);
    for key in all.keys().step_by(11) {
        assert!(segment.get(key).expect("reads").is_some());
    }
    let walked =
        collect(segment.range(&[], None, Direction::Reversed, Caching::Bypass).expect("opens"));
    assert!(walked.expect("reads").into_iter().rev().eq(all));
    assert!(segment.verify().expect("all units open") > 3000);
}

#[test]
fn rows_larger_than_any_block_are_kept_whole() {
    let fixture = Fixture::new();
    let mut all = entries(3, 3);
    let large: Vec<u8> =
        (0..17_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    all.insert(key(1, 1), row(5, &large));
    all.insert(key(1, 3), row(5, &vec![0; 17 << 20]));
    let segment = fixture.segment(&all);
    for (key, row) in &all {
        assert_eq!(segment.get(key).expect("reads").as_ref(), Some(row));
    }
    assert!(fixture.cache.bytes() <= 1 << 20);
}

#[test]
fn nothing_written_gives_no_segment_and_no_file() {
    let fixture = Fixture::new();
    assert_eq!(fixture.write(&Entries::new()).expect("writes"), None);
    assert_eq!(fixture.vfs.list(fixture.path()).expect("list"), [""; 0]);
}

#[test]
fn keys_that_do_not_rise_are_refused() {
    let fixture = Fixture::new();
    let mut writer =
        SegmentWriter::create(&fixture.vfs, fixture.path(), &fixture.options, &fixture.keys, 1)
            .expect("creates");
    writer.add(&key(1, 2), &row(1, b"")).expect("adds");
    assert!(matches!(writer.add(&key(1, 2), &row(1, b"")), Err(Error::Internal(_))));
    assert!(writer.add(b"no key", &row(1, b"")).is_err());
    drop(writer);
    assert_eq!(fixture.vfs.list(fixture.path()).expect("list"), [""; 0]);
}

#[test]
fn statistics_tell_counts_and_bounds() {
    let fixture = Fixture::new();
    let mut all = entries(2, 2);
    let deletion = DeletionTime { marked_at: WriteTimestamp(-9), local_deletion_time: 77 };
    let partition_key = 0_u32.to_be_bytes();
    let token = Token::of(&partition_key);
    let entry =
        |kind| EntryKey { token, partition_key: &partition_key, kind, clustering: &[] }.to_vec();
    all.insert(
        entry(EntryKind::Tombstones),
        PartitionTombstones::of_partition(deletion).encode().into(),
    );
    let expiry = Some(Expiry { ttl: 10, expires_at: 5000 });
    let mut fixed = RowBuilder::new(None, None);
    fixed.push(&CellRef::live(ColumnId(1), WriteTimestamp(100), b"x").expiring(expiry));
    fixed.push(&CellRef::tombstone(ColumnId(2), WriteTimestamp(99), 4000));
    all.insert(entry(EntryKind::StaticRow), fixed.finish());
    let segment = fixture.segment(&all);
    let statistics = segment.statistics();
    let counts =
        (statistics.rows, statistics.partitions, statistics.static_rows, statistics.tombstones);
    assert_eq!(counts, (5, 2, 1, 1));
    assert_eq!((statistics.min_timestamp, statistics.max_timestamp), (-9, 100));
    assert_eq!((statistics.min_deletion_secs, statistics.max_deletion_secs), (77, 5000));
    assert!(statistics.has_partition_tombstones() && statistics.has_static_rows());
    assert_eq!(Some(&statistics.min_key), all.keys().next());
    assert_eq!(Some(&statistics.max_key), all.keys().next_back());
}

/// What a reader that looks at everything finds, or the error it meets.
fn read_all(fixture: &Fixture, entry: &SegmentEntry) -> crate::Result<Vec<(Vec<u8>, Bytes)>> {
    let segment = fixture.open(entry)?;
    segment.verify()?;
    collect(segment.range(&[], None, Direction::Forward, Caching::Bypass)?)
}

fn refused(result: &crate::Result<Vec<(Vec<u8>, Bytes)>>) -> bool {
    matches!(result, Err(Error::Tampered { .. } | Error::WrongKey { .. }))
}

fn rewrite(path: &PathBuf, bytes: &[u8]) {
    std::fs::remove_file(path).expect("remove");
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn every_flipped_bit_is_refused() {
    let fixture = Fixture::new();
    let entry = fixture.write(&entries(3, 20)).expect("writes").expect("has entries");
    let path = entry.path(fixture.path());
    let whole = std::fs::read(&path).expect("read");
    assert_eq!(whole.len() as u64, entry.length);
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << bit;
            rewrite(&path, &damaged);
            assert!(refused(&read_all(&fixture, &entry)), "byte {place} bit {bit}");
        }
    }
    rewrite(&path, &whole);
    assert_eq!(read_all(&fixture, &entry).expect("undamaged").len(), 60);
}

#[test]
fn a_cut_or_longer_file_is_refused() {
    let fixture = Fixture::new();
    let entry = fixture.write(&entries(3, 20)).expect("writes").expect("has entries");
    let path = entry.path(fixture.path());
    let whole = std::fs::read(&path).expect("read");
    for length in 0..whole.len() {
        rewrite(&path, &whole[..length]);
        assert!(refused(&read_all(&fixture, &entry)), "length {length}");
        // also when the catalog is believed to say so
        let cut = SegmentEntry { length: length as u64, ..entry.clone() };
        assert!(refused(&read_all(&fixture, &cut)), "length {length}");
    }
    rewrite(&path, &[whole.as_slice(), b"0"].concat());
    assert!(refused(&read_all(&fixture, &entry)));
}

#[test]
fn swapped_units_are_refused() {
    let mut fixture = Fixture::new();
    fixture.options.compress = false;
    fixture.options.block_bytes = 256;
    // rows of one length, so that blocks of one length stand next to each other
    let all: Entries = (0..200).map(|n| (key(1, n), row(1, &[b'a'; 20]))).collect();
    let entry = fixture.write(&all).expect("writes").expect("has entries");
    let path = entry.path(fixture.path());
    let whole = std::fs::read(&path).expect("read");
    let (start, mut length) = (format::HEADER_LEN, 0);
    for candidate in 100..2000 {
        let mut swapped = whole.clone();
        let (left, right) = swapped[start..start + 2 * candidate].split_at_mut(candidate);
        left.swap_with_slice(right);
        rewrite(&path, &swapped);
        assert!(refused(&read_all(&fixture, &entry)), "units of {candidate} bytes");
        length = candidate;
    }
    assert!(length > 400, "a unit is shorter than the longest that was tried");
}

#[test]
fn a_file_in_the_place_of_another_is_refused() {
    let fixture = Fixture::new();
    let all = entries(3, 20);
    let first = fixture.write(&all).expect("writes").expect("has entries");
    let second = fixture.write(&all).expect("writes").expect("has entries");
    assert_ne!((first.id, first.sha256), (second.id, second.sha256));
    std::fs::copy(first.path(fixture.path()), second.path(fixture.path())).expect("copy");
    assert!(refused(&read_all(&fixture, &second)));
    assert!(read_all(&fixture, &first).is_ok());
    for wrong in [
        SegmentEntry { cluster: ClusterId([9; 16]), ..first.clone() },
        SegmentEntry { table: TableId([9; 16]), ..first.clone() },
        SegmentEntry { table_key: coffer_crypto::TableKeyId([9; 16]), ..first },
    ] {
        assert!(refused(&read_all(&fixture, &wrong)));
    }
}

#[test]
fn another_key_is_named_as_such_and_an_absent_one_too() {
    let mut fixture = Fixture::new();
    let entry = fixture.write(&entries(1, 1)).expect("writes").expect("has entries");
    fixture.keys.take_away(TABLE.0);
    assert!(matches!(fixture.open(&entry), Err(Error::KeyUnavailable(_))));
    assert!(matches!(fixture.write(&entries(1, 1)), Err(Error::KeyUnavailable(_))));
    fixture.keys.bring_back(TABLE.0);
    assert!(fixture.open(&entry).is_ok());
    fixture.keys = MemoryKeys::default();
    assert!(matches!(fixture.open(&entry), Err(Error::WrongKey { .. })));
}

#[test]
fn the_catalog_entry_has_the_digest_of_the_file() {
    use sha2::Digest as _;
    let fixture = Fixture::new();
    let entry = fixture.write(&entries(50, 50)).expect("writes").expect("has entries");
    let bytes = std::fs::read(entry.path(fixture.path())).expect("read");
    assert_eq!(entry.sha256, <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
    let text = serde_json::to_string(&entry).expect("encodes");
    assert_eq!(serde_json::from_str::<SegmentEntry>(&text).expect("decodes"), entry);
}

#[test]
fn a_file_is_inspected_and_verified_with_and_without_its_key() {
    use crate::inspect::{compare_with_catalog, inspect_segment, is_segment, verify_segment};
    let fixture = Fixture::new();
    let entry = fixture.write(&entries(50, 50)).expect("writes").expect("has entries");
    let path = entry.path(fixture.path());
    let vfs = fixture.vfs.as_ref();
    assert_eq!(inspect_segment(vfs, &path).expect("reads").to_entry(), entry);
    assert!(verify_segment(vfs, &path, TABLE, &entry, &fixture.keys).expect("verifies") > 10);
    compare_with_catalog(vfs, &path, &entry).expect("is the catalog's");
    let mut bytes = std::fs::read(&path).expect("read");
    assert!(is_segment(&bytes) && !is_segment(&bytes[1..]));
    bytes[3000] ^= 1;
    rewrite(&path, &bytes);
    assert!(matches!(compare_with_catalog(vfs, &path, &entry), Err(Error::Tampered { .. })));
    assert!(matches!(
        verify_segment(vfs, &path, TABLE, &entry, &fixture.keys),
        Err(Error::Tampered { .. })
    ));
    fixture.keys.take_away(TABLE.0);
    assert!(matches!(
        verify_segment(vfs, &path, TABLE, &entry, &fixture.keys),
        Err(Error::KeyUnavailable(_))
    ));
}

#[test]
fn no_plaintext_is_in_the_file() {
    let fixture = Fixture::new();
    let mut all = Entries::new();
    let partition_key = b"marker-partition";
    let token = Token::of(partition_key);
    let key =
        EntryKey { token, partition_key, kind: EntryKind::Row, clustering: b"marker-clustering" }
            .to_vec();
    all.insert(key, row(1, b"marker-value"));
    let entry = fixture.write(&all).expect("writes").expect("has entries");
    let bytes = std::fs::read(entry.path(fixture.path())).expect("read");
    assert!(!bytes.windows(6).any(|window| window == b"marker"));
}

#[test]
fn a_failing_disk_leaves_no_segment_behind() {
    let mut fixture = Fixture::new();
    let faults = FaultVfs::new();
    fixture.vfs = Arc::new(faults.clone());
    let all = entries(500, 100);
    fixture.write(&all).expect("writes");
    let operations = faults.operations();
    std::fs::read_dir(fixture.path()).expect("list").for_each(|file| {
        std::fs::remove_file(file.expect("a file").path()).expect("remove");
    });
    for step in 1..operations {
        faults.fail_operation(faults.operations() + step, Fault::ShortWrite);
        assert!(
            matches!(fixture.write(&all), Err(Error::Io { .. })),
            "step {step} of {operations}"
        );
        assert_eq!(fixture.vfs.list(fixture.path()).expect("list"), [""; 0], "step {step}");
        faults.heal();
    }
}

#[test]
fn a_closed_segment_leaves_nothing_in_the_cache() {
    let fixture = Fixture::new();
    let all = entries(100, 10);
    let segment = fixture.segment(&all);
    let some = key(5, 0);
    assert!(segment.get(&some).expect("reads").is_some());
    assert!(fixture.cache.bytes() > 0);
    segment.close();
    assert!(segment.get(&some).expect("a read under way goes on").is_some());
    assert_eq!(fixture.cache.bytes(), 0);
    let segment = fixture.segment(&all);
    segment.get(&some).expect("reads");
    drop(segment);
    assert_eq!(fixture.cache.bytes(), 0);
}
