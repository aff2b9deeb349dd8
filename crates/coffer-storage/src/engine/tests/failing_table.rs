//! A table that cannot be flushed, beside others that can.

use super::*;

#[test]
fn a_table_whose_flush_keeps_failing_holds_up_no_other() {
    let mut house = House::new();
    house.options.memtable_flush_bytes = 4096;
    let engine = house.with_tables();
    // a file stands where the directory of the table's segments was
    let directory = engine.core.table_directory(A);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&directory, b"").unwrap();
    write(&engine, &[insert(A, 1, b"c", &[1; 8000])]).unwrap();
    let deadline = SystemClock.monotonic_millis() + 20_000;
    for number in 0..8 {
        write(&engine, &[insert(B, number, b"c", &[2; 8000])]).unwrap();
        while engine.statistics(B).unwrap().memtable_bytes > 0 {
            assert!(
                SystemClock.monotonic_millis() < deadline,
                "table B waits for table A after {number} flushes"
            );
            std::thread::yield_now();
        }
    }
    assert!(matches!(engine.flush(A), Err(Error::Io { .. })));
    assert!(engine.statistics(B).unwrap().segments > 0);
    std::fs::remove_file(&directory).unwrap();
    std::fs::create_dir(&directory).unwrap();
    while engine.statistics(A).unwrap().memtable_bytes > 0 {
        assert!(SystemClock.monotonic_millis() < deadline, "table A is not tried again");
        std::thread::yield_now();
    }
    assert_eq!((rows_of(&engine, A), rows_of(&engine, B)), (1, 8));
}

#[test]
fn a_mutation_without_entries_does_not_keep_the_log() {
    let house = House::new();
    let engine = house.with_tables();
    write(&engine, &[MutationBuilder::new(A, &partition(1)).unwrap().finish()]).unwrap();
    engine.flush(A).unwrap();
    assert_eq!(engine.catalog().tables.get(&A).unwrap().replay_from, engine.committed());
    assert_eq!(engine.statistics(A).unwrap().segments, 0);
}
