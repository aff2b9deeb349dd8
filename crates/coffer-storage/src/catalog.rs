//! The catalog: names, schemas, key records and file lists, as one immutable value and one sealed
//! document on disk.
//!
//! Every change is a function from the old [`Catalog`] to a new one; the new one is written under a
//! new name, synced, and only then published.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_crypto::KeyRecord;
use coffer_model::{KeyspaceSchema, TableId, TableSchema};

use crate::Lsn;
use crate::ids::ClusterId;
use crate::segment::SegmentEntry;

/// What the catalog says about one tail file: log records set aside while the table's key is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRecord {
    /// Identity and file name.
    pub id: [u8; 16],
    /// Length of the file in bytes.
    pub length: u64,
    /// SHA-256 of the whole file as it lies on disk.
    pub sha256: [u8; 32],
    /// The last log frame whose records are in it.
    pub last: Lsn,
}

/// One table: its schema, its keys and its files.
#[derive(Debug, Clone)]
pub struct TableEntry {
    /// Names, columns, options.
    pub schema: Arc<TableSchema>,
    /// The wrapped table keys.
    pub key: Arc<KeyRecord>,
    /// Live segments; the engine alone changes this list.
    pub segments: Vec<SegmentEntry>,
    /// Tail files; the engine alone changes this list.
    pub tails: Vec<TailRecord>,
    /// Log records at or before this one are in segments (or truncated) and skipped by replay.
    pub replay_from: Lsn,
    /// The catalog version of the table's last truncation or creation; 0 when never truncated.
    pub truncated_at: Lsn,
}

/// The catalog as one immutable value.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Rises by one with each change.
    pub version: u64,
    /// Random identity of this data directory.
    pub cluster_id: ClusterId,
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, Arc<KeyspaceSchema>>,
    /// Tables by id.
    pub tables: BTreeMap<TableId, Arc<TableEntry>>,
    /// Small settings of the layers above (account, region, schema version), by name.
    pub properties: BTreeMap<String, String>,
    /// What is known of the commit log's files.
    pub log: LogRecord,
}

/// What the catalog knows of the commit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRecord {
    /// Oldest log file that must exist.
    pub oldest: u64,
    /// Every log file from `oldest` to this one must exist.
    pub known: u64,
    /// The log holds at least the frames up to this one.
    pub committed: Lsn,
    /// Files that did not end cleanly: number, and the bytes of it that are valid.
    pub recovered: BTreeMap<u64, u64>,
}

impl TableEntry {
    /// A new table without files.
    #[must_use]
    pub fn new(schema: Arc<TableSchema>, key: Arc<KeyRecord>) -> Self {
        Self {
            schema,
            key,
            segments: Vec::new(),
            tails: Vec::new(),
            replay_from: Lsn(0),
            truncated_at: Lsn(0),
        }
    }
}

impl Catalog {
    /// The table of that keyspace and name.
    #[must_use]
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<TableEntry>> {
        self.tables.values().find(|table| table.schema.keyspace == keyspace && table.schema.name == name)
    }
}
