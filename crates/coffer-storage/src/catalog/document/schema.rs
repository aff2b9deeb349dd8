//! Keyspaces, types and tables in the document of a catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_crypto::{HexBytes, KeyRecord, TableKeyId};
use coffer_model::schema::DroppedColumn;
use coffer_model::{
    Column, ColumnId, ColumnKind, KeyspaceSchema, TableOptions, TableSchema, UserType,
    WriteTimestamp, parse_type,
};
use serde::{Deserialize, Serialize};

use super::{Invalid, UserTypes};
use crate::Lsn;
use crate::catalog::{TableEntry, TailRecord};
use crate::segment::SegmentEntry;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyspaceDocument {
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
pub(super) struct TypeDocument {
    name: String,
    fields: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableDocument {
    pub(super) id: String,
    pub(super) keyspace: String,
    name: String,
    columns: Vec<ColumnDocument>,
    dropped_columns: Vec<DroppedColumnDocument>,
    next_column_id: u32,
    created_at_millis: u64,
    options: OptionsDocument,
    custom_properties: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<KeyRecord>,
    pub(super) segments: Vec<SegmentEntry>,
    pub(super) tails: Vec<TailDocument>,
    pub(super) replay_from: u64,
    pub(super) truncated_at: u64,
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
pub(super) struct TailDocument {
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

pub(super) fn types_document(types: &UserTypes) -> Vec<TypeDocument> {
    let document = |ty: &UserType| TypeDocument {
        name: ty.name.clone(),
        fields: ty.fields.iter().map(|(name, ty)| (name.clone(), ty.to_string())).collect(),
    };
    in_order(types).into_iter().map(document).collect()
}

pub(super) fn types_of(keyspace: &str, documents: Vec<TypeDocument>) -> Result<UserTypes, Invalid> {
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

pub(super) fn keyspace_document(keyspace: &KeyspaceSchema) -> KeyspaceDocument {
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

pub(super) fn keyspace_of(document: KeyspaceDocument) -> Result<KeyspaceSchema, Invalid> {
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
pub(super) fn schema_document(schema: &TableSchema) -> TableDocument {
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

pub(super) fn table_document(entry: &TableEntry) -> TableDocument {
    TableDocument {
        key: Some((*entry.key).clone()),
        segments: entry.segments.clone(),
        tails: entry.tails.iter().map(tail_document).collect(),
        replay_from: entry.replay_from.0,
        truncated_at: entry.truncated_at.0,
        ..schema_document(&entry.schema)
    }
}

pub(super) fn tail_document(tail: &TailRecord) -> TailDocument {
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

pub(super) fn tail_of(document: &TailDocument) -> Result<TailRecord, Invalid> {
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

pub(super) fn schema_of(
    document: TableDocument,
    types: &UserTypes,
) -> Result<TableSchema, Invalid> {
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

pub(super) fn table_of(
    mut document: TableDocument,
    types: &UserTypes,
) -> Result<TableEntry, Invalid> {
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
