//! The JSON document that a catalog version is: what stands in it, and how it becomes a [`Catalog`].

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_crypto::{HexBytes, KeyRecord, TableKeyId};
use coffer_model::schema::DroppedColumn;
use coffer_model::{
    Column, ColumnId, ColumnKind, KeyspaceSchema, TableId, TableOptions, TableSchema, UserType,
    WriteTimestamp, parse_type,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Age, Archive, ArchivedLog, Catalog, DroppedTable, KeyChange, LogRecord, RetiringGrant,
    SnapshotKind, SnapshotRecord, TableEntry, TailRecord,
};
use crate::Lsn;
use crate::segment::SegmentEntry;

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

/// `Table` is a document when it is read, and its text when it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<Table> {
    cluster: String,
    keyspaces: Vec<KeyspaceDocument>,
    tables: Vec<Table>,
    properties: Arc<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key_changes: Vec<KeyChangeDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retiring_grants: Vec<RetiringGrant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<SnapshotDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    archives: Vec<ArchiveDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<DroppedDocument>,
    #[serde(default)]
    age: Age,
    log: LogDocument,
}

/// `schema` has no key and no files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotDocument {
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
    log: Vec<ArchivedLogDocument>,
    archived_to: u64,
    since_millis: i64,
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
    is_key_loss: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyChangeDocument {
    table: String,
    change: KeyChange,
}

/// The texts of the tables in the version that was written last. Few tables change from one version
/// to the next.
#[derive(Default)]
pub(super) struct TableTexts {
    tables: BTreeMap<TableId, TableText>,
}

struct TableText {
    entry: Arc<TableEntry>,
    text: Arc<RawValue>,
}

impl TableTexts {
    /// The texts of the catalog's tables, in their order.
    fn of(&mut self, catalog: &Catalog) -> Result<Vec<Arc<RawValue>>, Invalid> {
        self.tables.retain(|id, _| catalog.tables.contains_key(id));
        let text = |(id, entry): (&TableId, &Arc<TableEntry>)| {
            if let Some(kept) = self.tables.get(id)
                && Arc::ptr_eq(&kept.entry, entry)
            {
                return Ok(Arc::clone(&kept.text));
            }
            let document = TableDocument {
                key: Some((*entry.key).clone()),
                segments: entry.segments.clone(),
                tails: entry.tails.iter().map(tail_document).collect(),
                replay_from: entry.replay_from.0,
                truncated_at: entry.truncated_at.0,
                ..schema_document(&entry.schema)
            };
            let text: Arc<RawValue> = to_raw_value(&document)?.into();
            let kept = TableText { entry: Arc::clone(entry), text: Arc::clone(&text) };
            self.tables.insert(*id, kept);
            Ok(text)
        };
        catalog.tables.iter().map(text).collect()
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyspaceDocument {
    name: String,
    replication: BTreeMap<String, String>,
    durable_writes: bool,
    tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    custom_properties: BTreeMap<String, BTreeMap<String, String>>,
    /// Each type with its fields; a type stands after those it is made of.
    types: Vec<TypeDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypeDocument {
    name: String,
    fields: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableDocument {
    id: String,
    keyspace: String,
    name: String,
    columns: Vec<ColumnDocument>,
    dropped_columns: Vec<DroppedColumnDocument>,
    next_column_id: u32,
    created_at_millis: u64,
    options: OptionsDocument,
    custom_properties: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyRecord>,
    segments: Vec<SegmentEntry>,
    tails: Vec<TailDocument>,
    replay_from: u64,
    truncated_at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnDocument {
    id: u32,
    name: String,
    #[serde(rename = "type")]
    ty: String,
    kind: KindDocument,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindDocument {
    PartitionKey { position: u16 },
    Clustering { position: u16, reversed: bool },
    Static,
    Regular,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DroppedColumnDocument {
    id: u32,
    name: String,
    #[serde(rename = "type")]
    ty: String,
    is_static: bool,
    dropped_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsDocument {
    additional_write_policy: String,
    allow_auto_snapshot: Option<bool>,
    bloom_filter_fp_chance: f64,
    caching: BTreeMap<String, String>,
    cdc: bool,
    comment: String,
    compaction: BTreeMap<String, String>,
    compression: BTreeMap<String, String>,
    crc_check_chance: f64,
    default_time_to_live: u32,
    extensions: BTreeMap<String, HexBytes>,
    gc_grace_seconds: u32,
    incremental_backups: Option<bool>,
    max_index_interval: u32,
    memtable: String,
    memtable_flush_period_in_ms: u32,
    min_index_interval: u32,
    read_repair: String,
    speculative_retry: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TailDocument {
    id: String,
    length: u64,
    sha256: String,
    last: u64,
    table_keys: Vec<TableKeyId>,
    table: String,
    committed_millis: (i64, i64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_until_millis: Option<i64>,
}

/// The document of a catalog.
pub(super) fn encode(catalog: &Catalog, texts: &mut TableTexts) -> Result<Vec<u8>, Invalid> {
    let tables = texts.of(catalog)?;
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
        snapshots: catalog.snapshots.values().map(|snapshot| snapshot_document(snapshot)).collect(),
        archives: catalog.archives.iter().map(archive_document).collect(),
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
    let document: Document<TableDocument> = serde_json::from_slice(bytes)?;
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
        let dropped = dropped_of(dropped)?;
        catalog.dropped.insert(dropped.schema.id, Arc::new(dropped));
    }
    catalog.age = document.age;
    Ok(catalog)
}

fn types_document(types: &UserTypes) -> Vec<TypeDocument> {
    let document = |ty: &UserType| TypeDocument {
        name: ty.name.clone(),
        fields: ty.fields.iter().map(|(name, ty)| (name.clone(), ty.to_string())).collect(),
    };
    in_order(types).into_iter().map(document).collect()
}

fn types_of(keyspace: &str, documents: Vec<TypeDocument>) -> Result<UserTypes, Invalid> {
    let mut types = UserTypes::new();
    for ty in documents {
        let fields =
            ty.fields.into_iter().map(|(name, text)| Ok((name, parse_type(&text, &types)?)));
        let fields = fields.collect::<Result<_, coffer_model::Error>>()?;
        let ty = UserType { keyspace: keyspace.to_owned(), name: ty.name, fields };
        types.insert(ty.name.clone(), Arc::new(ty));
    }
    Ok(types)
}

fn snapshot_document(snapshot: &SnapshotRecord) -> SnapshotDocument {
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

fn snapshot_of(document: SnapshotDocument) -> Result<SnapshotRecord, Invalid> {
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

fn archive_document((table, archive): (&TableId, &Arc<Archive>)) -> ArchiveDocument {
    let log = archive.log.iter().map(|archived| ArchivedLogDocument {
        tail: tail_document(&archived.tail),
        archived_at_age: archived.archived_at_age,
    });
    let schemas = archive.schemas.iter().map(|(from, schema)| (*from, schema_document(schema)));
    ArchiveDocument {
        table: table.to_string(),
        schemas: schemas.collect(),
        types: types_document(&archive.types),
        log: log.collect(),
        archived_to: archive.archived_to.0,
        since_millis: archive.since_millis,
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
    Ok(Archive {
        schemas: schemas.collect::<Result<_, Invalid>>()?,
        log: log.collect::<Result<_, Invalid>>()?,
        types,
        archived_to: Lsn(document.archived_to),
        since_millis: document.since_millis,
    })
}

fn dropped_document(dropped: &DroppedTable) -> DroppedDocument {
    let table =
        TableDocument { key: Some((*dropped.key).clone()), ..schema_document(&dropped.schema) };
    DroppedDocument {
        table,
        types: types_document(&dropped.types),
        dropped_at_millis: dropped.dropped_at_millis,
        is_key_loss: dropped.is_key_loss,
    }
}

fn dropped_of(mut document: DroppedDocument) -> Result<DroppedTable, Invalid> {
    let types = types_of(&document.table.keyspace, document.types)?;
    let key = document.table.key.take().ok_or(Invalid::Field("key of a dropped table"))?;
    Ok(DroppedTable {
        schema: Arc::new(schema_of(document.table, &types)?),
        types,
        key: Arc::new(key),
        dropped_at_millis: document.dropped_at_millis,
        is_key_loss: document.is_key_loss,
    })
}

fn keyspace_document(keyspace: &KeyspaceSchema) -> KeyspaceDocument {
    KeyspaceDocument {
        name: keyspace.name.clone(),
        replication: keyspace.replication.clone(),
        durable_writes: keyspace.durable_writes,
        tags: keyspace.tags.clone(),
        custom_properties: keyspace.custom_properties.clone(),
        types: types_document(&keyspace.types),
    }
}

/// The types so that each stands after those it is made of.
fn in_order(types: &UserTypes) -> Vec<&UserType> {
    let mut ordered: Vec<&UserType> = Vec::with_capacity(types.len());
    let mut left: Vec<&UserType> = types.values().map(|ty| &**ty).collect();
    while !left.is_empty() {
        let uses = |ty: &UserType, other: &UserType| {
            ty.fields.iter().any(|(_, field)| field.mentions(&other.keyspace, &other.name))
        };
        let blocked =
            |ty: &&UserType| left.iter().any(|other| other.name != ty.name && uses(ty, other));
        let (later, now): (Vec<_>, Vec<_>) = left.iter().partition(|ty| blocked(ty));
        if now.is_empty() {
            ordered.extend(later);
            break;
        }
        ordered.extend(now);
        left = later;
    }
    ordered
}

fn keyspace_of(document: KeyspaceDocument) -> Result<KeyspaceSchema, Invalid> {
    let types = types_of(&document.name, document.types)?;
    Ok(KeyspaceSchema {
        name: document.name,
        replication: document.replication,
        durable_writes: document.durable_writes,
        tags: document.tags,
        custom_properties: document.custom_properties,
        types,
    })
}

/// A table without key and files.
fn schema_document(schema: &TableSchema) -> TableDocument {
    let columns = schema.columns.iter().map(|column| ColumnDocument {
        id: column.id.0,
        name: column.name.clone(),
        ty: column.ty.to_string(),
        kind: match column.kind {
            ColumnKind::PartitionKey { position } => KindDocument::PartitionKey { position },
            ColumnKind::Clustering { position, reversed } => {
                KindDocument::Clustering { position, reversed }
            }
            ColumnKind::Static => KindDocument::Static,
            ColumnKind::Regular => KindDocument::Regular,
        },
    });
    let dropped = schema.dropped_columns.iter().map(|column| DroppedColumnDocument {
        id: column.id.0,
        name: column.name.clone(),
        ty: column.ty.to_string(),
        is_static: column.kind == ColumnKind::Static,
        dropped_at: column.dropped_at.0,
    });
    TableDocument {
        id: schema.id.to_string(),
        keyspace: schema.keyspace.clone(),
        name: schema.name.clone(),
        columns: columns.collect(),
        dropped_columns: dropped.collect(),
        next_column_id: schema.next_column_id,
        created_at_millis: schema.created_at_millis,
        options: options_document(&schema.options),
        custom_properties: schema.custom_properties.clone(),
        key: None,
        segments: Vec::new(),
        tails: Vec::new(),
        replay_from: 0,
        truncated_at: 0,
    }
}

fn tail_document(tail: &TailRecord) -> TailDocument {
    TailDocument {
        id: hex::encode(tail.id),
        length: tail.length,
        sha256: hex::encode(tail.sha256),
        last: tail.last.0,
        table_keys: tail.table_keys.clone(),
        table: tail.table.to_string(),
        committed_millis: tail.committed_millis,
        read_until_millis: tail.read_until_millis,
    }
}

fn options_document(options: &TableOptions) -> OptionsDocument {
    let extensions = options.extensions.iter();
    OptionsDocument {
        additional_write_policy: options.additional_write_policy.clone(),
        allow_auto_snapshot: options.allow_auto_snapshot,
        bloom_filter_fp_chance: options.bloom_filter_fp_chance,
        caching: options.caching.clone(),
        cdc: options.cdc,
        comment: options.comment.clone(),
        compaction: options.compaction.clone(),
        compression: options.compression.clone(),
        crc_check_chance: options.crc_check_chance,
        default_time_to_live: options.default_time_to_live,
        extensions: extensions
            .map(|(name, value)| (name.clone(), HexBytes(value.clone())))
            .collect(),
        gc_grace_seconds: options.gc_grace_seconds,
        incremental_backups: options.incremental_backups,
        max_index_interval: options.max_index_interval,
        memtable: options.memtable.clone(),
        memtable_flush_period_in_ms: options.memtable_flush_period_in_ms,
        min_index_interval: options.min_index_interval,
        read_repair: options.read_repair.clone(),
        speculative_retry: options.speculative_retry.clone(),
    }
}

fn options_of(options: OptionsDocument) -> TableOptions {
    TableOptions {
        additional_write_policy: options.additional_write_policy,
        allow_auto_snapshot: options.allow_auto_snapshot,
        bloom_filter_fp_chance: options.bloom_filter_fp_chance,
        caching: options.caching,
        cdc: options.cdc,
        comment: options.comment,
        compaction: options.compaction,
        compression: options.compression,
        crc_check_chance: options.crc_check_chance,
        default_time_to_live: options.default_time_to_live,
        extensions: options.extensions.into_iter().map(|(name, value)| (name, value.0)).collect(),
        gc_grace_seconds: options.gc_grace_seconds,
        incremental_backups: options.incremental_backups,
        max_index_interval: options.max_index_interval,
        memtable: options.memtable,
        memtable_flush_period_in_ms: options.memtable_flush_period_in_ms,
        min_index_interval: options.min_index_interval,
        read_repair: options.read_repair,
        speculative_retry: options.speculative_retry,
    }
}

fn column_of(document: ColumnDocument, types: &UserTypes) -> Result<Column, Invalid> {
    Ok(Column {
        id: ColumnId(document.id),
        name: document.name,
        ty: parse_type(&document.ty, types)?,
        kind: match document.kind {
            KindDocument::PartitionKey { position } => ColumnKind::PartitionKey { position },
            KindDocument::Clustering { position, reversed } => {
                ColumnKind::Clustering { position, reversed }
            }
            KindDocument::Static => ColumnKind::Static,
            KindDocument::Regular => ColumnKind::Regular,
        },
    })
}

/// A dropped column whose user type was dropped since is a blob: only its id still matters.
fn dropped_column_of(
    document: DroppedColumnDocument,
    types: &UserTypes,
) -> Result<DroppedColumn, Invalid> {
    let ty = parse_type(&document.ty, types).or_else(|_| parse_type("blob", types))?;
    Ok(DroppedColumn {
        id: ColumnId(document.id),
        name: document.name,
        ty,
        kind: if document.is_static { ColumnKind::Static } else { ColumnKind::Regular },
        dropped_at: WriteTimestamp(document.dropped_at),
    })
}

fn tail_of(document: &TailDocument) -> Result<TailRecord, Invalid> {
    let mut tail = TailRecord {
        id: [0; 16],
        length: document.length,
        sha256: [0; 32],
        last: Lsn(document.last),
        table_keys: document.table_keys.clone(),
        table: document.table.parse()?,
        committed_millis: document.committed_millis,
        read_until_millis: document.read_until_millis,
    };
    hex::decode_to_slice(&document.id, &mut tail.id).map_err(|_| Invalid::Field("tail id"))?;
    hex::decode_to_slice(&document.sha256, &mut tail.sha256)
        .map_err(|_| Invalid::Field("tail hash"))?;
    Ok(tail)
}

fn schema_of(document: TableDocument, types: &UserTypes) -> Result<TableSchema, Invalid> {
    let columns = document.columns.into_iter().map(|column| column_of(column, types));
    let dropped =
        document.dropped_columns.into_iter().map(|column| dropped_column_of(column, types));
    Ok(TableSchema {
        id: document.id.parse()?,
        keyspace: document.keyspace,
        name: document.name,
        columns: columns.collect::<Result<_, _>>()?,
        options: options_of(document.options),
        custom_properties: document.custom_properties,
        dropped_columns: dropped.collect::<Result<_, _>>()?,
        next_column_id: document.next_column_id,
        created_at_millis: document.created_at_millis,
    })
}

fn table_of(mut document: TableDocument, types: &UserTypes) -> Result<TableEntry, Invalid> {
    let key = document.key.take().ok_or(Invalid::Field("key of a table"))?;
    let tails = document.tails.iter().map(tail_of).collect::<Result<_, _>>()?;
    Ok(TableEntry {
        key: Arc::new(key),
        segments: std::mem::take(&mut document.segments),
        tails,
        replay_from: Lsn(document.replay_from),
        truncated_at: Lsn(document.truncated_at),
        schema: Arc::new(schema_of(document, types)?),
    })
}
