//! A new root key for a data directory that is in use.

use super::*;

fn write_some(engine: &Engine, from: u32) {
    let mut last = Lsn(0);
    for number in from..from + 200 {
        last = engine.append(&[insert(A, number, b"c", b"value")]).unwrap();
    }
    engine.wait_committed(last).unwrap();
}

#[test]
fn after_a_new_root_key_nothing_is_under_the_old_one_and_reads_and_writes_went_on() {
    let mut house = House::new();
    let engine = house.with_tables();
    write_some(&engine, 0);
    let old = Arc::clone(&house.root_key);
    let new = Arc::new(RootKey::generate().unwrap());
    let both = || RootKeys::rotating(new.duplicate(), old.duplicate());
    engine.set_root_keys(both());
    engine.leave_previous_root_key().unwrap();
    write_some(&engine, 200);
    let rows = rows_of(&engine, A);
    assert_eq!(rows, 400);
    engine.shutdown();
    drop(engine);
    let under_old = old.id();
    for file in house.files("", "") {
        let bytes = std::fs::read(&file).unwrap();
        let names_old = bytes.windows(16).any(|window| window == under_old);
        assert!(!names_old, "{} names the old root key", file.display());
    }
    house.root_key = new;
    let engine = house.open().unwrap();
    engine.open_table(A).unwrap();
    assert_eq!(rows_of(&engine, A), rows);
}

#[test]
fn a_rotation_of_the_root_key_that_ends_in_the_middle_opens_with_both_keys() {
    let house = House::new();
    let engine = house.with_tables();
    write_some(&engine, 0);
    let rows = rows_of(&engine, A);
    let new = RootKey::generate().unwrap();
    engine.set_root_keys(RootKeys::rotating(new.duplicate(), house.root_key.duplicate()));
    // the catalog is under the new key, the log under the old one
    engine.update_catalog(&mut |catalog| Ok(catalog.clone())).unwrap();
    drop(engine);
    assert!(matches!(house.open(), Err(Error::WrongKey { .. })));
    let both = RootKeys::rotating(new, house.root_key.duplicate());
    let engine = house.open_with(both).unwrap();
    engine.open_table(A).unwrap();
    assert_eq!(rows_of(&engine, A), rows);
}
