//! The JSON document that a catalog version is: what stands in it, and how it becomes a [`Catalog`].

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{TableId, UserType};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Age, Archive, ArchiveBase, ArchivedLog, Catalog, DroppedTable, KeyChange, LogRecord,
    RetiringGrant, SnapshotKind, SnapshotRecord, TableEntry,
};
use crate::Lsn;
use crate::ids::SnapshotId;
use crate::segment::SegmentEntry;

mod schema;

use schema::{
    KeyspaceDocument, TableDocument, TailDocument, TypeDocument, keyspace_document, keyspace_of,
    schema_document, schema_of, table_document, table_of, tail_document, tail_of, types_document,
    types_of,
};

type UserTypes = BTreeMap<String, Arc<UserType>>;

/// Why a document is not a catalog.
#[derive(Debug, thiserror::Error)]
pub(super) enum Invalid {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Model(#[from] coffer_model::Error),
    #[error("{0}")]
    Field(&'static str),
}

/// Tables, snapshots and archives are documents when it is read, and their texts when it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<Table, Snapshot, Archive> {
    cluster: String,
    keyspaces: Vec<KeyspaceDocument>,
    tables: Vec<Table>,
    properties: Arc<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key_changes: Vec<KeyChangeDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retiring_grants: Vec<RetiringGrant>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Snapshot>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    archives: Vec<Archive>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<DroppedDocument>,
    #[serde(default)]
    age: Age,
    log: LogDocument,
}

/// `schema` has no key and no files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotDocument {
    id: String,
    kind: SnapshotKind,
    name: String,
    schema: TableDocument,
    types: Vec<TypeDocument>,
    key_arn: Option<String>,
    segments: Vec<SegmentEntry>,
    tails: Vec<TailDocument>,
    as_of: u64,
    as_of_millis: i64,
    taken_at_millis: i64,
    expires_at_age: Option<i64>,
    verified_at_millis: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchiveDocument {
    table: String,
    schemas: Vec<(i64, TableDocument)>,
    types: Vec<TypeDocument>,
    bases: Vec<ArchiveBaseDocument>,
    log: Vec<ArchivedLogDocument>,
    archived_to: u64,
    since_millis: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at_age: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchiveBaseDocument {
    snapshot: String,
    from_millis: i64,
    taken_at_age: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchivedLogDocument {
    tail: TailDocument,
    archived_at_age: i64,
}

/// `table` has a key and no files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DroppedDocument {
    table: TableDocument,
    types: Vec<TypeDocument>,
    dropped_at_millis: i64,
    /// Null when there is none; missing in versions that did not note it.
    #[serde(default, deserialize_with = "noted")]
    last: Option<Option<String>>,
    is_key_loss: bool,
}

/// A field that is there, null or not.
fn noted<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(field).map(Some)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyChangeDocument {
    table: String,
    change: KeyChange,
}

/// The texts of what stands in the version that was written last. Little of it changes from one
/// version to the next.
#[derive(Default)]
pub(super) struct Texts {
    tables: TextsOf<TableId, TableEntry>,
    snapshots: TextsOf<SnapshotId, SnapshotRecord>,
    archives: TextsOf<TableId, Archive>,
}

/// The texts of the values of one map.
struct TextsOf<Key, Value> {
    kept: BTreeMap<Key, (Arc<Value>, Arc<RawValue>)>,
}

impl<Key, Value> Default for TextsOf<Key, Value> {
    fn default() -> Self {
        Self { kept: BTreeMap::new() }
    }
}

impl<Key: Ord + Copy, Value> TextsOf<Key, Value> {
    /// The texts of the values, in their order.
    fn of<Document: Serialize>(
        &mut self,
        values: &BTreeMap<Key, Arc<Value>>,
        document: impl Fn(&Key, &Value) -> Document,
    ) -> Result<Vec<Arc<RawValue>>, Invalid> {
        self.kept.retain(|key, _| values.contains_key(key));
        let text = |(key, value): (&Key, &Arc<Value>)| {
            if let Some((kept, text)) = self.kept.get(key)
                && Arc::ptr_eq(kept, value)
            {
                return Ok(Arc::clone(text));
            }
            let text: Arc<RawValue> = to_raw_value(&document(key, value))?.into();
            self.kept.insert(*key, (Arc::clone(value), Arc::clone(&text)));
            Ok(text)
        };
        values.iter().map(text).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogDocument {
    oldest: u64,
    known: u64,
    freed: u64,
    committed: u64,
    recovered: BTreeMap<u64, u64>,
}

/// The document of a catalog.
pub(super) fn encode(catalog: &Catalog, texts: &mut Texts) -> Result<Vec<u8>, Invalid> {
    let tables = texts.tables.of(&catalog.tables, |_, entry| table_document(entry))?;
    let snapshots =
        texts.snapshots.of(&catalog.snapshots, |_, snapshot| snapshot_document(snapshot))?;
    let archives = texts.archives.of(&catalog.archives, archive_document)?;
    let changes = catalog.key_changes.iter().map(|(table, change)| KeyChangeDocument {
        table: table.to_string(),
        change: change.clone(),
    });
    let document = Document {
        cluster: hex::encode(catalog.cluster_id.0),
        keyspaces: catalog.keyspaces.values().map(|keyspace| keyspace_document(keyspace)).collect(),
        tables: tables.iter().map(|text| &**text).collect(),
        properties: Arc::clone(&catalog.properties),
        key_changes: changes.collect(),
        retiring_grants: catalog.retiring_grants.iter().map(|grant| (**grant).clone()).collect(),
        snapshots: snapshots.iter().map(|text| &**text).collect(),
        archives: archives.iter().map(|text| &**text).collect(),
        dropped: catalog.dropped.values().map(|dropped| dropped_document(dropped)).collect(),
        age: catalog.age,
        log: LogDocument {
            oldest: catalog.log.oldest,
            known: catalog.log.known,
            freed: catalog.log.freed.0,
            committed: catalog.log.committed.0,
            recovered: catalog.log.recovered.clone(),
        },
    };
    Ok(serde_json::to_vec(&document)?)
}

/// The catalog of a document.
pub(super) fn decode(bytes: &[u8], version: u64) -> Result<Catalog, Invalid> {
    let document: Document<TableDocument, SnapshotDocument, ArchiveDocument> =
        serde_json::from_slice(bytes)?;
    let mut catalog =
        Catalog::new(document.cluster.parse().map_err(|_| Invalid::Field("cluster"))?);
    catalog.version = version;
    catalog.properties = document.properties;
    for KeyChangeDocument { table, change } in document.key_changes {
        catalog.key_changes.insert(table.parse()?, change);
    }
    catalog.retiring_grants = document.retiring_grants.into_iter().map(Arc::new).collect();
    catalog.log = LogRecord {
        oldest: document.log.oldest,
        known: document.log.known,
        freed: Lsn(document.log.freed),
        committed: Lsn(document.log.committed),
        recovered: document.log.recovered,
    };
    for keyspace in document.keyspaces {
        let keyspace = keyspace_of(keyspace)?;
        catalog.keyspaces.insert(keyspace.name.clone(), Arc::new(keyspace));
    }
    for table in document.tables {
        let keyspace =
            catalog.keyspaces.get(&table.keyspace).ok_or(Invalid::Field("keyspace of a table"))?;
        let entry = table_of(table, &keyspace.types)?;
        catalog.tables.insert(entry.schema.id, Arc::new(entry));
    }
    for snapshot in document.snapshots {
        let snapshot = snapshot_of(snapshot)?;
        catalog.snapshots.insert(snapshot.id, Arc::new(snapshot));
    }
    for archive in document.archives {
        let table = archive.table.parse()?;
        catalog.archives.insert(table, Arc::new(archive_of(archive)?));
    }
    for dropped in document.dropped {
        let is_noted = dropped.last.is_some();
        let mut dropped = dropped_of(dropped)?;
        let table = dropped.schema.id;
        if !is_noted {
            dropped.last = catalog.guessed_last(table);
        }
        catalog.dropped.insert(table, Arc::new(dropped));
    }
    catalog.age = document.age;
    Ok(catalog)
}

pub(super) fn snapshot_document(snapshot: &SnapshotRecord) -> SnapshotDocument {
    SnapshotDocument {
        id: snapshot.id.to_string(),
        kind: snapshot.kind,
        name: snapshot.name.clone(),
        schema: schema_document(&snapshot.schema),
        types: types_document(&snapshot.types),
        key_arn: snapshot.key_arn.clone(),
        segments: snapshot.segments.clone(),
        tails: snapshot.tails.iter().map(tail_document).collect(),
        as_of: snapshot.as_of.0,
        as_of_millis: snapshot.as_of_millis,
        taken_at_millis: snapshot.taken_at_millis,
        expires_at_age: snapshot.expires_at_age,
        verified_at_millis: snapshot.verified_at_millis,
    }
}

pub(super) fn snapshot_of(document: SnapshotDocument) -> Result<SnapshotRecord, Invalid> {
    let types = types_of(&document.schema.keyspace, document.types)?;
    Ok(SnapshotRecord {
        id: document.id.parse().map_err(|_| Invalid::Field("snapshot id"))?,
        kind: document.kind,
        name: document.name,
        schema: Arc::new(schema_of(document.schema, &types)?),
        types,
        key_arn: document.key_arn,
        segments: document.segments,
        tails: document.tails.iter().map(tail_of).collect::<Result<_, _>>()?,
        as_of: Lsn(document.as_of),
        as_of_millis: document.as_of_millis,
        taken_at_millis: document.taken_at_millis,
        expires_at_age: document.expires_at_age,
        verified_at_millis: document.verified_at_millis,
    })
}

fn archive_document(table: &TableId, archive: &Archive) -> ArchiveDocument {
    let log = archive.log.iter().map(|archived| ArchivedLogDocument {
        tail: tail_document(&archived.tail),
        archived_at_age: archived.archived_at_age,
    });
    let schemas = archive.schemas.iter().map(|(from, schema)| (*from, schema_document(schema)));
    let bases = archive.bases.iter().map(|base| ArchiveBaseDocument {
        snapshot: base.snapshot.to_string(),
        from_millis: base.from_millis,
        taken_at_age: base.taken_at_age,
    });
    ArchiveDocument {
        table: table.to_string(),
        schemas: schemas.collect(),
        types: types_document(&archive.types),
        bases: bases.collect(),
        log: log.collect(),
        archived_to: archive.archived_to.0,
        since_millis: archive.since_millis,
        ended_at_age: archive.ended_at_age,
    }
}

fn archive_of(document: ArchiveDocument) -> Result<Archive, Invalid> {
    let keyspace = document.schemas.first().map(|(_, schema)| schema.keyspace.clone());
    let types = types_of(&keyspace.unwrap_or_default(), document.types)?;
    let schemas = document.schemas.into_iter();
    let schemas = schemas.map(|(from, schema)| Ok((from, Arc::new(schema_of(schema, &types)?))));
    let log = document.log.iter().map(|archived| {
        Ok(ArchivedLog {
            tail: tail_of(&archived.tail)?,
            archived_at_age: archived.archived_at_age,
        })
    });
    let bases = document.bases.iter().map(|base| {
        Ok(ArchiveBase {
            snapshot: base.snapshot.parse().map_err(|_| Invalid::Field("snapshot id"))?,
            from_millis: base.from_millis,
            taken_at_age: base.taken_at_age,
        })
    });
    Ok(Archive {
        schemas: schemas.collect::<Result<_, Invalid>>()?,
        log: log.collect::<Result<_, Invalid>>()?,
        types,
        bases: bases.collect::<Result<_, Invalid>>()?,
        archived_to: Lsn(document.archived_to),
        since_millis: document.since_millis,
        ended_at_age: document.ended_at_age,
    })
}

fn dropped_document(dropped: &DroppedTable) -> DroppedDocument {
    let mut table = schema_document(&dropped.schema);
    table.key = Some((*dropped.key).clone());
    DroppedDocument {
        table,
        types: types_document(&dropped.types),
        dropped_at_millis: dropped.dropped_at_millis,
        last: Some(dropped.last.map(|id| id.to_string())),
        is_key_loss: dropped.is_key_loss,
    }
}

fn dropped_of(mut document: DroppedDocument) -> Result<DroppedTable, Invalid> {
    let types = types_of(&document.table.keyspace, document.types)?;
    let key = document.table.key.take().ok_or(Invalid::Field("key of a dropped table"))?;
    let last = document.last.flatten().map(|id| id.parse()).transpose();
    Ok(DroppedTable {
        schema: Arc::new(schema_of(document.table, &types)?),
        types,
        key: Arc::new(key),
        dropped_at_millis: document.dropped_at_millis,
        last: last.map_err(|_| Invalid::Field("snapshot id"))?,
        is_key_loss: document.is_key_loss,
    })
}
