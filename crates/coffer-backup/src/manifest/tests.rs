//! Tests of `manifest` and of the key object.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_crypto::{
    DataKey, EncryptionType, HexBytes, KeyLease, KeyRecord, NewDataKey, TableKey, TableKeyId,
};
use coffer_model::{
    Column, ColumnId, ColumnKind, CqlType, TableId, TableOptions, TableSchema, UserType,
};
use coffer_storage::{Lsn, SegmentId, SnapshotId, SnapshotKind};

use super::*;
use crate::KeyObject;

/// One table key, for every table.
struct OneKey(TableKey);

impl DataKeySource for OneKey {
    fn create_data_key(
        &self,
        identity: &FileIdentity,
    ) -> coffer_crypto::Result<(NewDataKey, WrappedDataKey)> {
        let key = NewDataKey::generate()?;
        let wrapped = self.0.wrap_data_key(&key, identity)?;
        Ok((key, wrapped))
    }

    fn unwrap_data_key(
        &self,
        _: &[u8; 16],
        wrapped: &WrappedDataKey,
        birth: &FileIdentity,
    ) -> coffer_crypto::Result<DataKey> {
        self.0.unwrap_data_key(wrapped, birth)
    }

    fn lease(&self, _: &[u8; 16]) -> coffer_crypto::Result<Arc<KeyLease>> {
        Ok(Arc::new(KeyLease::unlimited()))
    }

    fn wrapping_key(&self, _: &[u8; 16]) -> Option<(TableKeyId, u64)> {
        None
    }
}

fn manifest(comment: &str) -> Manifest {
    let pair = UserType {
        keyspace: "ks".into(),
        name: "pair".into(),
        fields: vec![("a".into(), CqlType::Int)],
    };
    let pair = Arc::new(pair);
    let ty = CqlType::Frozen(Arc::new(CqlType::Udt(Arc::clone(&pair))));
    let column = Column {
        id: ColumnId(0),
        name: "secretcolumn".into(),
        ty,
        kind: ColumnKind::PartitionKey { position: 0 },
    };
    let schema = TableSchema {
        id: TableId([9; 16]),
        keyspace: "ks".into(),
        name: "t".into(),
        columns: vec![column],
        options: TableOptions { comment: comment.into(), ..TableOptions::default() },
        custom_properties: BTreeMap::new(),
        dropped_columns: Vec::new(),
        next_column_id: 1,
        created_at_millis: 1,
    };
    let segment = SegmentEntry {
        id: SegmentId([4; 16]),
        cluster: ClusterId([3; 16]),
        table: TableId([9; 16]),
        table_key: TableKeyId([1; 16]),
        length: 7,
        sha256: [8; 32],
        created_at_millis: 0,
    };
    let tail = TailRecord {
        id: [5; 16],
        length: 6,
        sha256: [7; 32],
        last: Lsn(3),
        table_keys: vec![TableKeyId([1; 16])],
        table: TableId([9; 16]),
        committed_millis: (1, 2),
        read_until_millis: None,
    };
    let snapshot = SnapshotRecord {
        id: SnapshotId([6; 16]),
        kind: SnapshotKind::Manual,
        name: "n".into(),
        schema: Arc::new(schema),
        types: BTreeMap::from([("pair".into(), pair)]),
        key_arn: None,
        segments: vec![segment],
        tails: vec![tail],
        as_of: Lsn(3),
        as_of_millis: 4,
        taken_at_millis: 5,
        expires_at_age: None,
        verified_at_millis: None,
    };
    Manifest { cluster: ClusterId([3; 16]), snapshot }
}

#[test]
fn a_manifest_comes_back_as_it_was_and_shows_nothing() {
    let keys = OneKey(TableKey::generate().unwrap());
    let id = BackupId([2; 16]);
    // shorter than a chunk, and several of them
    for comment in ["secretcomment".to_owned(), "secretcomment".repeat(20_000)] {
        let written = manifest(&comment);
        let bytes = written.seal(id, &keys).unwrap();
        for word in [&b"secretcolumn"[..], b"secretcomment", b"pair"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
        let read = Manifest::open(id, &bytes, &keys).unwrap();
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
        let other = OneKey(TableKey::generate().unwrap());
        assert!(Manifest::open(id, &bytes, &other).is_err(), "another key");
        assert!(Manifest::open(BackupId([1; 16]), &bytes, &keys).is_err(), "another backup");
    }
    let names: Vec<_> = manifest("").files().into_iter().map(|file| file.object).collect();
    assert_eq!(
        names,
        [format!("segments/{}", "04".repeat(16)), format!("tails/{}", "05".repeat(16))]
    );
}

#[test]
fn a_manifest_that_was_changed_or_cut_is_refused() {
    let keys = OneKey(TableKey::generate().unwrap());
    let id = BackupId([2; 16]);
    let bytes = manifest("x").seal(id, &keys).unwrap();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        for (what, bytes) in [("changed", changed.as_slice()), ("cut", &bytes[..place])] {
            let error = Manifest::open(id, bytes, &keys).unwrap_err();
            assert!(matches!(error, Error::Tampered { .. }), "{what} at {place}: {error:?}");
            assert!(error.to_string().contains(&id.to_string()), "{what} at {place}: {error}");
        }
    }
    let longer = [bytes.as_slice(), &[0; 80_000]].concat();
    assert!(Manifest::open(id, &longer, &keys).is_err());
}

#[test]
fn a_key_object_comes_back_and_anything_else_is_refused() {
    let record = KeyRecord {
        table_key_id: TableKeyId([1; 16]),
        encryption_type: EncryptionType::CustomerManaged,
        kms_key_arn: Some("arn:aws:kms:us-east-1:000000000000:key/1".into()),
        blob: HexBytes(vec![1, 2, 3]),
        encryption_context: BTreeMap::from([("coffer:backup-id".into(), "02".into())]),
        key_material_id: None,
        created_at_millis: 5,
        wraps: 1,
        older: Vec::new(),
        grants: Vec::new(),
        double_wrapped: false,
    };
    let key = KeyObject { id: BackupId([2; 16]), record, created_at_millis: 9 };
    let bytes = key.to_bytes().unwrap();
    assert_eq!(KeyObject::from_bytes(key.id, &bytes).unwrap(), key);
    for length in 0..bytes.len() {
        let error = KeyObject::from_bytes(key.id, &bytes[..length]).unwrap_err().to_string();
        assert!(error.contains(&key.id.to_string()), "cut at {length}: {error}");
    }
    for place in [0, 8, 9, 27, 29] {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(KeyObject::from_bytes(key.id, &changed).is_err(), "byte {place}");
    }
    assert!(KeyObject::from_bytes(BackupId([3; 16]), &bytes).is_err(), "of another backup");
    assert_eq!(key.id.to_string().parse::<BackupId>().unwrap(), key.id);
    assert!("xyz".parse::<BackupId>().is_err());
}
