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

fn key_of(id: BackupId, created_at_millis: i64) -> Vec<u8> {
    let record = coffer_crypto::KeyRecord {
        table_key_id: coffer_crypto::TableKeyId([1; 16]),
        encryption_type: coffer_crypto::EncryptionType::CustomerManaged,
        kms_key_arn: Some("arn:aws:kms:us-east-1:000000000000:key/1".into()),
        blob: coffer_crypto::HexBytes(vec![1]),
        encryption_context: std::collections::BTreeMap::new(),
        key_material_id: None,
        created_at_millis: 5,
        wraps: 1,
        older: Vec::new(),
        grants: Vec::new(),
        double_wrapped: false,
    };
    KeyObject { id, record, created_at_millis }.to_bytes().unwrap()
}

#[test]
fn a_damaged_backup_and_foreign_files_hide_no_other_backup() {
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), None, false).unwrap();
    let [older, newer, cut, keyless, foreign, begun] =
        [5, 4, 3, 2, 1, 6].map(|byte| BackupId([byte; 16]));
    let put = |id, object, bytes: &[u8]| block_on(store.put(id, object, bytes.to_vec())).unwrap();
    for (id, created_at) in [(newer, 2), (older, 1)] {
        put(id, KEY, &key_of(id, created_at));
        put(id, MANIFEST, b"12345");
    }
    put(begun, KEY, &key_of(begun, 3));
    put(cut, KEY, &key_of(cut, 1)[..40]);
    put(cut, MANIFEST, b"x");
    put(keyless, MANIFEST, b"x");
    put(foreign, KEY, &key_of(newer, 1));
    for name in [&b"\xff\xfe"[..], b"a\x01b", b"lost+found"] {
        for place in [folder.path(), &folder.path().join(newer.to_string())] {
            std::fs::write(place.join(std::ffi::OsStr::from_bytes(name)), b"").unwrap();
        }
    }
    let listed = block_on(store.list()).unwrap();
    let ids: Vec<_> = listed.iter().map(|backup| (backup.id, backup.is_complete)).collect();
    let wanted = [(older, true), (newer, true), (begun, false)];
    let damaged = [(foreign, false), (keyless, false), (cut, false)];
    assert_eq!(ids, [wanted, damaged].concat());
    assert_eq!(listed[0].bytes, key_of(older, 1).len() as u64 + 5);
    for backup in &listed[3..] {
        let told = backup.key.as_ref().unwrap_err().to_string();
        assert!(told.contains(&backup.id.to_string()), "{told}");
    }
}

#[test]
fn only_the_last_folder_of_a_place_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let unmounted = folder.path().join("mnt");
    let place = unmounted.join("backups");
    let error = Store::open(place.to_str().unwrap(), None, true).unwrap_err().to_string();
    assert!(error.contains("there is no directory") && error.contains("/mnt"), "{error}");
    assert!(!unmounted.exists(), "nothing was made");
    std::fs::create_dir(&unmounted).unwrap();
    Store::open(place.to_str().unwrap(), None, true).unwrap();
    Store::open(place.to_str().unwrap(), None, true).unwrap();
    assert!(place.is_dir());
}
