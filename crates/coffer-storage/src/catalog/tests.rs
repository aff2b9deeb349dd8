//! Tests of `catalog`.

use coffer_crypto::clock::{Clock as _, SystemClock};
use coffer_crypto::{EncryptionType, HexBytes, RootKey};
use coffer_model::{Column, ColumnId, ColumnKind, CqlType, TableOptions, UserType, WriteTimestamp};

use parking_lot::RwLock;

use super::*;
use crate::error::Error;
use crate::vfs::{OsVfs, Vfs};

fn shared(root_key: RootKey) -> SharedRootKeys {
    Arc::new(RwLock::new(root_key.into()))
}

#[expect(clippy::too_many_lines, reason = "one literal with every field")]
fn catalog() -> Catalog {
    let mut catalog = Catalog::new(ClusterId([3; 16]));
    let inner = UserType {
        keyspace: "k".into(),
        name: "z".into(),
        fields: vec![("f".into(), CqlType::Int)],
    };
    let inner = Arc::new(inner);
    let nested = CqlType::Frozen(Arc::new(CqlType::Udt(Arc::clone(&inner))));
    let outer = UserType {
        keyspace: "k".into(),
        name: "a".into(),
        fields: vec![("g".into(), nested.clone())],
    };
    let types = [inner, Arc::new(outer)].map(|ty| (ty.name.clone(), ty));
    let keyspace = KeyspaceSchema {
        name: "k".into(),
        replication: [("class".to_owned(), "SimpleStrategy".to_owned())].into(),
        durable_writes: true,
        tags: BTreeMap::new(),
        custom_properties: BTreeMap::from([(
            "p".into(),
            BTreeMap::from([("q".into(), "r".into())]),
        )]),
        types: types.into(),
    };
    let keyspace_types = keyspace.types.clone();
    catalog.keyspaces.insert("k".into(), Arc::new(keyspace));
    let id = TableId([9; 16]);
    let column =
        |number, name: &str, ty, kind| Column { id: ColumnId(number), name: name.into(), ty, kind };
    let schema = TableSchema {
        id,
        keyspace: "k".into(),
        name: "t".into(),
        columns: vec![
            column(0, "p", CqlType::Uuid, ColumnKind::PartitionKey { position: 0 }),
            column(1, "c", CqlType::Int, ColumnKind::Clustering { position: 0, reversed: true }),
            column(2, "s", nested, ColumnKind::Static),
            column(3, "Odd", CqlType::List(Arc::new(CqlType::Text)), ColumnKind::Regular),
        ],
        options: TableOptions { comment: "secret".into(), ..TableOptions::default() },
        custom_properties: BTreeMap::new(),
        dropped_columns: vec![coffer_model::schema::DroppedColumn {
            id: ColumnId(4),
            name: "d".into(),
            ty: CqlType::Int,
            kind: ColumnKind::Regular,
            dropped_at: WriteTimestamp(5),
        }],
        next_column_id: 5,
        created_at_millis: 77,
    };
    let key = KeyRecord {
        table_key_id: TableKeyId([1; 16]),
        encryption_type: EncryptionType::CustomerManaged,
        kms_key_arn: Some("arn:aws:kms:us-east-1:000000000000:key/1".into()),
        blob: HexBytes(vec![1]),
        encryption_context: BTreeMap::new(),
        key_material_id: None,
        created_at_millis: 5,
        wraps: 9,
        older: Vec::new(),
        grants: Vec::new(),
        double_wrapped: false,
    };
    let mut entry = TableEntry::new(Arc::new(schema), Arc::new(key));
    entry.replay_from = Lsn(12);
    entry.tails.push(TailRecord {
        id: [4; 16],
        length: 10,
        sha256: [5; 32],
        last: Lsn(11),
        table_keys: vec![TableKeyId([1; 16])],
        table: id,
        committed_millis: (3, 4),
        read_until_millis: Some(5),
    });
    let (schema, key) = (Arc::clone(&entry.schema), Arc::clone(&entry.key));
    let types = keyspace_types;
    let snapshot = SnapshotRecord {
        id: SnapshotId([6; 16]),
        kind: SnapshotKind::KeyLoss,
        name: "n".into(),
        schema: Arc::clone(&schema),
        types: types.clone(),
        key_arn: key.kms_key_arn.clone(),
        segments: Vec::new(),
        tails: entry.tails.clone(),
        as_of: Lsn(13),
        as_of_millis: 14,
        taken_at_millis: 15,
        expires_at_age: Some(16),
        verified_at_millis: Some(17),
    };
    catalog.snapshots.insert(snapshot.id, Arc::new(snapshot));
    let log = vec![ArchivedLog { tail: entry.tails[0].clone(), archived_at_age: 18 }];
    let archive = Archive {
        schemas: vec![(19, Arc::clone(&schema))],
        types: types.clone(),
        bases: vec![ArchiveBase {
            snapshot: SnapshotId([3; 16]),
            from_millis: 25,
            taken_at_age: 26,
        }],
        log,
        archived_to: Lsn(20),
        since_millis: 21,
        ended_at_age: Some(27),
    };
    catalog.archives.insert(id, Arc::new(archive));
    let dropped = DroppedTable {
        schema,
        types,
        key,
        dropped_at_millis: 22,
        last: Some(SnapshotId([6; 16])),
        is_key_loss: true,
    };
    catalog.dropped.insert(id, Arc::new(dropped));
    catalog.age = Age { millis: 23, noted_at_millis: 24 };
    catalog.tables.insert(id, Arc::new(entry));
    catalog.log.recovered.insert(3, 4096);
    let change = KeyChange {
        keyspace: "k".into(),
        name: "u".into(),
        target_arn: Some("arn".into()),
        change_id: u64::MAX,
        encryption_context: BTreeMap::from([("a".into(), "b".into())]),
        started_at_millis: 6,
        is_create: true,
        is_restore: false,
        source_arn: Some("source".into()),
        source_context: BTreeMap::from([("c".into(), "d".into())]),
    };
    catalog.key_changes.insert(TableId([8; 16]), change);
    catalog.retiring_grants.push(Arc::new(RetiringGrant {
        key_arn: "arn".into(),
        grant_id: "g".into(),
        kind: "snapshot".into(),
        due_at_millis: 7,
        keyspace: "k".into(),
        table: "v".into(),
    }));
    Arc::make_mut(&mut catalog.properties).insert("account".into(), "000000000000".into());
    catalog
}

#[test]
fn a_catalog_is_read_back_as_it_was_written_and_shows_nothing_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let root_key = shared(RootKey::generate().unwrap());
    let store =
        CatalogStore::create(&vfs, directory.path(), &root_key, ClusterId([3; 16])).unwrap();
    let written = store.update(|_| Ok(catalog())).unwrap();
    let names = vfs.list(directory.path()).unwrap();
    assert_eq!(names, ["0000000000000002.catalog"]);
    let bytes = std::fs::read(directory.path().join(&names[0])).unwrap();
    for name in [&b"secret"[..], b"SimpleStrategy", b"Odd"] {
        assert!(!bytes.windows(name.len()).any(|window| window == name));
    }
    let read = CatalogStore::open(&vfs, directory.path(), &root_key).unwrap().unwrap().current();
    assert_eq!(format!("{read:?}"), format!("{written:?}"));
    let other = shared(RootKey::generate().unwrap());
    assert!(matches!(
        CatalogStore::open(&vfs, directory.path(), &other),
        Err(Error::WrongKey { .. })
    ));
}

#[test]
fn a_refused_change_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let root_key = shared(RootKey::generate().unwrap());
    let store =
        CatalogStore::create(&vfs, directory.path(), &root_key, ClusterId([3; 16])).unwrap();
    let before = store.current();
    assert!(store.update(|_| Err(Error::Refused("no".into()))).is_err());
    assert!(Arc::ptr_eq(&before, &store.current()));
}

fn noting(name: &str) -> impl FnOnce(&Catalog) -> crate::Result<Catalog> {
    let name = name.to_owned();
    move |catalog| {
        let mut next = catalog.clone();
        Arc::make_mut(&mut next.properties).insert(name, String::new());
        Ok(next)
    }
}

/// Waits until a change that was made by another thread can be seen in the unpublished catalog.
fn await_unpublished(store: &CatalogStore, count: usize) {
    let deadline = SystemClock.monotonic_millis() + 30_000;
    while store.unpublished().properties.len() < count {
        assert!(SystemClock.monotonic_millis() < deadline, "changes are not applied");
        std::thread::yield_now();
    }
}

#[test]
fn changes_that_come_while_a_version_is_written_share_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let root_key = shared(RootKey::generate().unwrap());
    let store =
        CatalogStore::create(&vfs, directory.path(), &root_key, ClusterId([3; 16])).unwrap();
    let before = store.current().version;
    std::thread::scope(|scope| {
        let slow = store.hold_writing();
        let first = scope.spawn(|| store.update(noting("first")));
        await_unpublished(&store, 1);
        while !store.is_writing() {
            std::thread::yield_now();
        }
        let others: Vec<_> = (0..20)
            .map(|number| {
                let store = &store;
                scope.spawn(move || store.update(noting(&number.to_string())))
            })
            .collect();
        await_unpublished(&store, 21);
        let refused = scope.spawn(|| store.update(|_| Err(Error::Refused("no".into()))));
        assert!(store.current().properties.is_empty(), "nothing is visible before it is written");
        drop(slow);
        assert_eq!(first.join().unwrap().unwrap().version, before + 1);
        for other in others {
            let published = other.join().unwrap().unwrap();
            assert_eq!((published.version, published.properties.len()), (before + 2, 21));
        }
        assert!(matches!(refused.join().unwrap(), Err(Error::Refused(_))));
    });
    let read = CatalogStore::open(&vfs, directory.path(), &root_key).unwrap().unwrap().current();
    assert_eq!((read.version, read.properties.len()), (before + 2, 21));
}

#[test]
fn changes_whose_version_cannot_be_written_fail_together_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let catalogs = directory.path().join("catalogs");
    std::fs::create_dir(&catalogs).unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    let root_key = shared(RootKey::generate().unwrap());
    let store = CatalogStore::create(&vfs, &catalogs, &root_key, ClusterId([3; 16])).unwrap();
    let before = store.current();
    let away = directory.path().join("away");
    std::thread::scope(|scope| {
        let slow = store.hold_writing();
        let first = scope.spawn(|| store.update(noting("first")));
        await_unpublished(&store, 1);
        let second = scope.spawn(|| store.update(noting("second")));
        await_unpublished(&store, 2);
        vfs.rename(&catalogs, &away).unwrap();
        drop(slow);
        for change in [first, second] {
            assert!(matches!(change.join().unwrap(), Err(Error::Io { .. })));
        }
    });
    assert!(Arc::ptr_eq(&before, &store.current()));
    vfs.rename(&away, &catalogs).unwrap();
    let next = store.update(noting("third")).unwrap();
    assert_eq!(next.properties.keys().collect::<Vec<_>>(), ["third"]);
}

#[test]
fn a_catalog_from_before_key_changes_were_noted_is_read() {
    let mut catalog = catalog();
    catalog.key_changes.clear();
    catalog.retiring_grants.clear();
    let text = document::encode(&catalog, &mut document::Texts::default()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("key_changes") && !text.contains("retiring_grants"));
    let read = document::decode(text.as_bytes(), 0).unwrap();
    assert_eq!(format!("{read:?}"), format!("{catalog:?}"));
}

#[test]
fn the_snapshot_of_a_drop_that_an_earlier_version_did_not_note_is_found_where_it_is_sure() {
    let id = TableId([9; 16]);
    let read = |catalog: &Catalog| {
        let text = document::encode(catalog, &mut document::Texts::default()).unwrap();
        let noted = String::from_utf8(text).unwrap();
        let last = |text: &str| document::decode(text.as_bytes(), 0).unwrap().dropped[&id].last;
        let field = match catalog.dropped[&id].last {
            Some(last) => format!(r#""last":"{last}","#),
            None => r#""last":null,"#.to_owned(),
        };
        assert_eq!(last(&noted), catalog.dropped[&id].last);
        assert!(noted.contains(&field), "{noted}");
        last(&noted.replace(&field, ""))
    };
    let set = |catalog: &mut Catalog, number: u8, kind: SnapshotKind, as_of: u64| {
        let mut snapshot = (**catalog.snapshots.values().next().unwrap()).clone();
        (snapshot.id, snapshot.kind, snapshot.as_of) = (SnapshotId([number; 16]), kind, Lsn(as_of));
        catalog.snapshots.insert(snapshot.id, Arc::new(snapshot));
    };
    let mut catalog = catalog();
    // the history has the last state
    assert_eq!(read(&catalog), None);
    catalog.archives.clear();
    Arc::make_mut(catalog.dropped.get_mut(&id).unwrap()).last = None;
    assert_eq!(read(&catalog), Some(SnapshotId([6; 16])));
    set(&mut catalog, 7, SnapshotKind::Drop, 100);
    assert_eq!(read(&catalog), Some(SnapshotId([7; 16])));
    set(&mut catalog, 8, SnapshotKind::Manual, 101);
    assert_eq!(read(&catalog), None);
}
