//! Tests of `store`.

use super::*;

#[test]
fn plain_http_is_for_this_machine() {
    for url in ["http://127.0.0.1:9000", "http://localhost/x", "http://[::1]:9000"] {
        assert_eq!(is_plain_to_this_machine(url), Ok(true), "{url}");
    }
    assert_eq!(is_plain_to_this_machine("https://store.example.com"), Ok(false));
    for url in [
        "http://10.0.0.1:9000",
        "http://127.0.0.1.example.com",
        "http://localhost:x@example.com",
        "https://user:x@example.com",
        "http://localhost@127.0.0.1",
        "ftp://127.0.0.1",
        "x",
    ] {
        assert!(is_plain_to_this_machine(url).is_err(), "{url}");
    }
}

#[test]
fn what_is_no_place_is_refused() {
    for location in ["", "s3://", "s3:///prefix", "gs://bucket", "/there/is/no/such/directory"] {
        assert!(Store::open(location, None, false).is_err(), "{location}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn file_of(bytes: &[u8]) -> BackupFile {
    BackupFile {
        object: "segments/a".into(),
        file_name: "a.segment".into(),
        length: bytes.len() as u64,
        sha256: Sha256::digest(bytes).into(),
    }
}

#[test]
fn files_go_there_and_come_back_and_what_is_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("place");
    let store = Store::open(place.to_str().unwrap(), None, true).unwrap();
    let id = BackupId([7; 16]);
    for length in [0, 5, PART_BYTES, PART_BYTES * 2 + 3] {
        let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, &bytes).unwrap();
        let file = file_of(&bytes);
        let done = std::cell::Cell::new(0);
        let count = |bytes| done.set(done.get() + bytes);
        assert!(block_on(store.put_file(id, &file, &from, &count)).unwrap());
        assert_eq!(done.get(), length as u64);
        assert!(!block_on(store.put_file(id, &file, &from, &count)).unwrap(), "it is there");
        block_on(store.get_file(id, &file, &to, &count)).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
        block_on(store.get_file(id, &file, &to, &count)).unwrap();

        let object = place.join(id.to_string()).join("segments/a");
        let mut changed = bytes.clone();
        changed.push(0);
        if let Some(first) = changed.first_mut() {
            *first ^= 1;
        }
        changed.truncate(length.max(1));
        std::fs::write(&object, &changed).unwrap();
        let error = block_on(store.verify(id, &file, &|_| {})).unwrap_err().to_string();
        assert!(error.contains("segments/a"), "{error}");
        std::fs::write(&to, b"x").unwrap();
        assert!(block_on(store.get_file(id, &file, &to, &|_| {})).is_err());
        assert!(block_on(store.put_file(id, &file, &from, &|_| {})).unwrap(), "it is repaired");
        std::fs::write(&from, b"other").unwrap();
        std::fs::remove_file(&object).unwrap();
        let error = block_on(store.put_file(id, &file, &from, &|_| {}));
        assert!(length == 5 || error.is_err());
        assert!(error.is_err() && !object.exists(), "a changed file is not backed up");
    }
}
