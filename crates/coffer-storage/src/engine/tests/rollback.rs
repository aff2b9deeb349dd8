//! What was put back into the data directory from earlier.

use super::*;

/// The catalog files of a directory that is in use or was copied, with their bytes.
fn catalogs(house: &House) -> Vec<(PathBuf, Vec<u8>)> {
    let files = house.files("catalog", ".catalog");
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn refuses_the_catalog(house: &House, versions: &[(PathBuf, Vec<u8>)], of: &House) {
    let newest = catalogs(house).pop().unwrap().0;
    for (path, bytes) in versions {
        let copy = copy_of(house);
        let place = |path: &PathBuf| {
            copy.directory.path().join(path.strip_prefix(of.directory.path()).unwrap())
        };
        let present =
            copy.directory.path().join(newest.strip_prefix(house.directory.path()).unwrap());
        std::fs::remove_file(&present).unwrap();
        std::fs::write(place(path), bytes).unwrap();
        let refused =
            copy.open().err().unwrap_or_else(|| panic!("{} under its own name", path.display()));
        assert!(matches!(&refused, Error::Tampered { .. }), "{refused}");
        assert!(
            refused.to_string().contains("catalog") || refused.to_string().contains("log"),
            "{refused}"
        );
        std::fs::remove_file(place(path)).unwrap();
        std::fs::write(&present, bytes).unwrap();
        assert!(
            matches!(copy.open(), Err(Error::Tampered { .. })),
            "{} as the newest",
            path.display()
        );
    }
}

#[test]
fn an_older_catalog_is_refused_under_its_own_name_and_as_the_newest() {
    let house = House::new();
    let engine = house.with_tables();
    let mut older = catalogs(&house);
    write(&engine, &[insert(A, 1, b"c", b"v")]).unwrap();
    for _ in 0..3 {
        older.extend(catalogs(&house));
        engine.update_catalog(&mut |old| Ok(old.clone())).unwrap();
        // nothing was written since, and the machine stops here
        refuses_the_catalog(&copy_of(&house), &older, &house);
    }
    older.extend(catalogs(&house));
    engine.flush(A).unwrap();
    older.extend(catalogs(&house));
    engine.truncate(A).unwrap();
    refuses_the_catalog(&copy_of(&house), &older, &house);
    drop(engine);
    refuses_the_catalog(&copy_of(&house), &older, &house);
    older.extend(catalogs(&house));
    let restarted = house.open().unwrap();
    refuses_the_catalog(&copy_of(&house), &older, &house);
    drop(restarted);
    house.open().unwrap();
}

#[test]
fn a_log_that_was_cut_after_a_clean_stop_is_named() {
    let house = House::new();
    let engine = house.with_tables();
    for number in 0..5 {
        write(&engine, &[insert(A, number, b"c", b"v")]).unwrap();
    }
    drop(engine);
    let log = house.files("log", ".log")[0].clone();
    let bytes = std::fs::read(&log).unwrap();
    let sectors =
        bytes.chunks(512).rposition(|sector| sector.iter().any(|byte| *byte != 0)).unwrap() + 1;
    let mut told = 0;
    for left in 2..sectors {
        let copy = copy_of(&house);
        let path = copy.directory.path().join(log.strip_prefix(house.directory.path()).unwrap());
        let mut cut = bytes.clone();
        cut[left * 512..].fill(0);
        std::fs::write(path, cut).unwrap();
        match reads_all(&copy) {
            // only what a clean stop says last is gone
            Ok(rows) => assert_eq!(rows, 5, "cut at sector {left} of {sectors}"),
            Err(Error::Tampered { .. }) => told += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(told > 4, "{told}");
}

#[test]
fn with_periodic_syncs_a_loss_of_power_may_take_any_sector_that_was_not_synced() {
    let mut house = House::new();
    house.options.durability = Durability::Periodic { sync_interval_millis: 600_000 };
    let engine = house.with_tables();
    for number in 0..3 {
        write(&engine, &[insert(A, number, b"c", &[7; 3000])]).unwrap();
    }
    let log = house.files("log", ".log")[0].clone();
    let bytes = std::fs::read(&log).unwrap();
    let crashed = copy_of(&house);
    drop(engine);
    let used =
        bytes.chunks(512).rposition(|sector| sector.iter().any(|byte| *byte != 0)).unwrap() + 1;
    let mut counts = Vec::new();
    // the last three frames are of seven sectors each
    for lost in used - 21..used {
        let copy = copy_of(&crashed);
        let path = copy.directory.path().join(log.strip_prefix(house.directory.path()).unwrap());
        let mut changed = bytes.clone();
        changed[lost * 512..(lost + 1) * 512].fill(0);
        std::fs::write(path, changed).unwrap();
        counts.push(
            reads_all(&copy).unwrap_or_else(|error| panic!("sector {lost} of {used}: {error}")),
        );
    }
    assert_eq!(counts, [[0; 7], [1; 7], [2; 7]].concat());
}
