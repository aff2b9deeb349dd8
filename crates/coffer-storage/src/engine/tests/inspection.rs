//! Log files by themselves, with the keys of their tables.

use super::*;
use crate::inspect::verify_log;

#[test]
fn records_of_a_log_file_verify_with_the_keys_that_are_at_hand() {
    let house = House::new();
    let engine = house.with_tables();
    for number in 0..3 {
        write(&engine, &[insert(A, number, b"c", &[1; 900]), insert(B, number, b"c", &[2; 900])])
            .unwrap();
    }
    drop(engine);
    let log = house.files("log", ".log")[0].clone();
    let verify = |path: &Path| verify_log(&OsVfs, path, &house.root_key, house.keys.as_ref());
    assert!(verify(&log).unwrap().is_empty());
    let bytes = std::fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let changed = house.directory.path().join("changed");
    for place in (0..used).step_by(97) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 4;
        std::fs::write(&changed, flipped).unwrap();
        let refused = verify(&changed).err().unwrap_or_else(|| panic!("byte {place} of {used}"));
        assert!(matches!(refused, Error::Tampered { .. } | Error::WrongKey { .. }), "{refused}");
    }
    house.keys.take_away(B.0);
    assert_eq!(verify(&log).unwrap().into_iter().collect::<Vec<_>>(), [B]);
}
