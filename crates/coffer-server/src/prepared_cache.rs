//! Prepared statements of all connections, by id, bounded in bytes; the ones unused longest leave
//! first.

use std::sync::Arc;

use coffer_query::{Prepared, ResultMetadata};
use cql_protocol::{ColumnSpec, EncodedColumns};
use lru::LruCache;
use parking_lot::Mutex;

/// Locks, so that connections rarely meet in one.
const SHARDS: usize = 16;
/// What a statement takes apart from its text and columns, roughly.
const FIXED_BYTES: usize = 1024;
/// A plan takes more than the text it was made from, roughly by this factor.
const BYTES_PER_TEXT_BYTE: usize = 8;

/// A statement with its metadata as it goes on the wire.
#[derive(Debug)]
pub(crate) struct CachedStatement {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) bind: EncodedColumns,
    pub(crate) result: Option<EncodedColumns>,
    bytes: usize,
}

impl CachedStatement {
    pub(crate) fn new(prepared: Arc<Prepared>, text_bytes: usize) -> Self {
        let bind = encode_columns(&prepared.bind.columns);
        let result = prepared.result.as_ref().map(|result| encode_columns(&result.columns));
        let columns = prepared
            .result
            .as_ref()
            .map_or(0, |result| result.columns.len())
            .saturating_add(prepared.bind.columns.len());
        let bytes = text_bytes
            .saturating_mul(BYTES_PER_TEXT_BYTE)
            .saturating_add(columns.saturating_mul(256))
            .saturating_add(FIXED_BYTES);
        Self { prepared, bind, result, bytes }
    }

    /// The encoded result columns, if `metadata` is the statement's own.
    pub(crate) fn columns_of(&self, metadata: &Arc<ResultMetadata>) -> Option<&EncodedColumns> {
        let own = self.prepared.result.as_ref()?;
        if Arc::ptr_eq(own, metadata) { self.result.as_ref() } else { None }
    }
}

/// Metadata as it goes on the wire.
pub(crate) fn encode_columns(columns: &[coffer_query::ColumnSpec]) -> EncodedColumns {
    EncodedColumns::new(columns.iter().map(|column| ColumnSpec {
        keyspace: &column.keyspace,
        table: &column.table,
        name: &column.name,
        ty: &column.ty,
    }))
}

#[derive(Debug)]
struct Shard {
    statements: LruCache<[u8; 16], Arc<CachedStatement>>,
    bytes: usize,
}

/// The cache.
#[derive(Debug)]
pub(crate) struct PreparedCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: usize,
}

impl PreparedCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let shards = (0..SHARDS)
            .map(|_| Mutex::new(Shard { statements: LruCache::unbounded(), bytes: 0 }))
            .collect();
        Self { shards, shard_bytes_max: bytes_max / SHARDS }
    }

    fn shard(&self, id: &[u8; 16]) -> Option<&Mutex<Shard>> {
        let [first, ..] = *id;
        self.shards.get(usize::from(first) % SHARDS)
    }

    /// The statement with this id.
    pub(crate) fn find(&self, id: &[u8]) -> Option<Arc<CachedStatement>> {
        let id = id.try_into().ok()?;
        self.shard(id)?.lock().statements.get(id).cloned()
    }

    /// Keeps a statement; others leave until it fits. The newest one always stays.
    pub(crate) fn insert(&self, statement: Arc<CachedStatement>) {
        let id = statement.prepared.id;
        let Some(shard) = self.shard(&id) else { return };
        let mut shard = shard.lock();
        shard.bytes = shard.bytes.saturating_add(statement.bytes);
        if let Some(old) = shard.statements.put(id, statement) {
            shard.bytes = shard.bytes.saturating_sub(old.bytes);
        }
        while shard.bytes > self.shard_bytes_max && shard.statements.len() > 1 {
            let Some((_, old)) = shard.statements.pop_lru() else {
                break;
            };
            shard.bytes = shard.bytes.saturating_sub(old.bytes);
        }
    }

    /// Forgets a statement, whose schema changed.
    pub(crate) fn remove(&self, id: &[u8; 16]) {
        let Some(shard) = self.shard(id) else { return };
        let mut shard = shard.lock();
        if let Some(old) = shard.statements.pop(id) {
            shard.bytes = shard.bytes.saturating_sub(old.bytes);
        }
    }
}
