//! Tail files: log records outside of the log, with their commit times.

use coffer_crypto::clock::ManualClock;

use super::*;
use crate::TailRecord;
use crate::commit_log::read_tail;

/// Four rows of table A in a tail file, committed a second from each other, the first at 10,000.
fn tail_of_four_rows() -> (House, Engine, TailRecord) {
    let clock = ManualClock::at(10_000);
    let mut house = House::new();
    house.clock = clock.clone();
    let engine = house.with_tables();
    for number in 0..4 {
        write(&engine, &[insert(A, number, b"c", b"v")]).unwrap();
        clock.advance(1000);
    }
    house.keys.take_away(A.0);
    engine.forget_key(A);
    engine.core.set_aside(A).unwrap();
    house.keys.bring_back(A.0);
    let tail = engine.catalog().tables[&A].tails[0].clone();
    (house, engine, tail)
}

fn groups_read(house: &House, engine: &Engine, tail: &TailRecord) -> Result<usize> {
    let directory = engine.core.table_directory(A);
    let mut groups = 0;
    let mut count = |_: Lsn, _: &Bytes| {
        groups += 1;
        Ok(())
    };
    read_tail(&OsVfs, house.keys.as_ref(), &directory, A, tail, &mut count).map(|()| groups)
}

#[test]
fn a_tail_knows_when_its_records_were_committed_and_later_ones_can_be_left_out() {
    let (house, engine, tail) = tail_of_four_rows();
    assert_eq!(tail.committed_millis, (10_000, 13_000));
    assert_eq!(tail.table, A);
    let structure = crate::inspect::inspect_tail(&OsVfs, &house.files("tables", ".tail")[0]);
    assert_eq!(structure.unwrap().committed_millis, Some((10_000, 13_000)));
    for (until, groups) in
        [(None, 4), (Some(13_000), 4), (Some(12_999), 3), (Some(10_000), 1), (Some(9_999), 0)]
    {
        let tail = TailRecord { read_until_millis: until, ..tail.clone() };
        assert_eq!(groups_read(&house, &engine, &tail).unwrap(), groups, "until {until:?}");
    }
    engine
        .core
        .update_table(A, |entry| {
            entry.tails[0].read_until_millis = Some(11_000);
            Ok(())
        })
        .unwrap();
    engine.open_table(A).unwrap();
    assert_eq!(rows_of(&engine, A), 2);
}

#[test]
fn a_tail_of_another_table_or_of_an_unknown_version_is_refused_by_name() {
    let (house, engine, tail) = tail_of_four_rows();
    let other = TailRecord { table: B, ..tail.clone() };
    let refused = groups_read(&house, &engine, &other).unwrap_err();
    assert!(matches!(refused, Error::Tampered { .. }), "{refused}");

    let path = house.files("tables", ".tail").remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..10].copy_from_slice(&7_u16.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let sha256 = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
    let future = TailRecord { sha256, ..tail };
    for refused in [
        groups_read(&house, &engine, &future).unwrap_err(),
        crate::inspect::inspect_tail(&OsVfs, &path).unwrap_err(),
    ] {
        let text = refused.to_string();
        assert!(matches!(refused, Error::CorruptFile { .. }), "{text}");
        assert!(text.contains("version 7") && text.contains(".tail"), "{text}");
    }
}
