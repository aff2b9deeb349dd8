//! What is kept beside the live tables: snapshots, archived log records, and what is needed to
//! restore tables that were dropped.
//!
//! The keys of all of it are in one place: the key record of the table, or of the dropped table. So a
//! swap reaches snapshots and archives by what it does anyway, and crypto-erasing is the removal of
//! one record.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::{KeyRecord, TableKeyId};
use coffer_model::{TableId, TableSchema, UserType};
use serde::{Deserialize, Serialize};

use super::{Catalog, TailRecord, document};
use crate::Lsn;
use crate::error::Error;
use crate::ids::SnapshotId;
use crate::segment::SegmentEntry;

type UserTypes = BTreeMap<String, Arc<UserType>>;

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// The table's key was lost for as long as its policy says, and the table dropped.
    KeyLoss,
    /// A client dropped the table.
    Drop,
    /// A client truncated the table: what was in it before.
    Truncate,
    /// An operator asked for it.
    Manual,
    /// It is where point-in-time recovery begins: archived log records come after it.
    Base,
}

impl SnapshotKind {
    /// Its name in tables and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyLoss => "key_loss",
            Self::Drop => "drop",
            Self::Truncate => "truncate",
            Self::Manual => "manual",
            Self::Base => "base",
        }
    }
}

/// The files of one table at one moment: links to its segments, and its unflushed log records in a
/// tail file, all in `snapshots/<id>/`. Nothing in it is plaintext, and no key is needed to take it.
#[derive(Debug, Clone)]
pub struct SnapshotRecord {
    /// Identity, and name of its directory.
    pub id: SnapshotId,
    /// Why it was taken.
    pub kind: SnapshotKind,
    /// What an operator called it; empty for the other kinds.
    pub name: String,
    /// The table as it was. Its id is the table whose key record, live or dropped, opens the files.
    pub schema: Arc<TableSchema>,
    /// The user types that the table needs.
    pub types: BTreeMap<String, Arc<UserType>>,
    /// ARN of the KMS key that the table was under at that time; `None` for an owned key.
    pub key_arn: Option<String>,
    /// Segments.
    pub segments: Vec<SegmentEntry>,
    /// Tail files.
    pub tails: Vec<TailRecord>,
    /// The last log frame that may be in it.
    pub as_of: Lsn,
    /// Server's clock of writes, milliseconds since 1970: every write that was committed by then is
    /// in it.
    pub as_of_millis: i64,
    /// Wall clock of keys, milliseconds since 1970.
    pub taken_at_millis: i64,
    /// Age of the data directory ([`crate::Engine::age_millis`]) at which it is erased; `None` is
    /// never.
    pub expires_at_age: Option<i64>,
    /// When all its files were read and found to be as the catalog says: wall clock of keys,
    /// milliseconds since 1970.
    pub verified_at_millis: Option<i64>,
}

impl SnapshotRecord {
    /// The record as JSON: what a backup describes its files with.
    ///
    /// # Errors
    /// `Internal` when it does not encode.
    pub fn to_json(&self) -> crate::Result<Vec<u8>> {
        serde_json::to_vec(&document::snapshot_document(self))
            .map_err(|error| Error::Internal(error.to_string()))
    }

    /// The record of [`Self::to_json`].
    ///
    /// # Errors
    /// `Refused` for anything else.
    pub fn from_json(bytes: &[u8]) -> crate::Result<Self> {
        let refused = |error: &dyn std::fmt::Display| {
            Error::Refused(format!("description of a table does not decode: {error}"))
        };
        let document = serde_json::from_slice(bytes).map_err(|error| refused(&error))?;
        document::snapshot_of(document).map_err(|error| refused(&error))
    }

    /// Directory of its files.
    #[must_use]
    pub fn directory(&self, data_directory: &Path) -> PathBuf {
        data_directory.join("snapshots").join(self.id.to_string())
    }

    /// Length of all its files, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.length);
        segments.chain(self.tails.iter().map(|tail| tail.length)).sum()
    }

    /// The table keys that wrap the data keys of its files.
    #[must_use]
    pub fn table_keys(&self) -> HashSet<TableKeyId> {
        table_keys(&self.segments, &self.tails)
    }
}

/// The table keys that wrap the data keys of these files.
pub(crate) fn table_keys(segments: &[SegmentEntry], tails: &[TailRecord]) -> HashSet<TableKeyId> {
    let segments = segments.iter().map(|segment| segment.table_key);
    segments.chain(tails.iter().flat_map(|tail| tail.table_keys.iter().copied())).collect()
}

impl Catalog {
    /// The snapshots of a table, live or dropped.
    pub fn snapshots_of(&self, table: TableId) -> impl Iterator<Item = &Arc<SnapshotRecord>> {
        self.snapshots.values().filter(move |snapshot| snapshot.schema.id == table)
    }

    /// The snapshot of the state in which a table was dropped, if there is one.
    pub(crate) fn last_snapshot(&self, table: TableId) -> Option<&Arc<SnapshotRecord>> {
        self.snapshots.get(&self.dropped.get(&table)?.last?)
    }

    /// What [`DroppedTable::last`] is taken to be where nobody noted it. A snapshot before a truncation
    /// was of kind `Drop` as well, so the history is believed where it is kept; and without it the
    /// newest of all snapshots, when it is of a drop.
    pub(super) fn guessed_last(&self, table: TableId) -> Option<SnapshotId> {
        if self.archives.get(&table).is_some_and(|archive| !archive.bases.is_empty()) {
            return None;
        }
        let is_of_drop = |snapshot: &SnapshotRecord| {
            matches!(snapshot.kind, SnapshotKind::KeyLoss | SnapshotKind::Drop)
        };
        let snapshots = self.snapshots_of(table);
        let newest = snapshots.max_by_key(|snapshot| (snapshot.as_of, is_of_drop(snapshot)))?;
        is_of_drop(newest).then_some(newest.id)
    }

    /// Whether there is a snapshot or an archive of the table.
    pub(crate) fn retains(&self, table: TableId) -> bool {
        self.archives.contains_key(&table) || self.snapshots_of(table).next().is_some()
    }

    /// The table keys that snapshots and archived log of a table need.
    pub(crate) fn retained_table_keys(&self, table: TableId) -> HashSet<TableKeyId> {
        let mut needed: HashSet<TableKeyId> =
            self.snapshots_of(table).flat_map(|snapshot| snapshot.table_keys()).collect();
        if let Some(archive) = self.archives.get(&table) {
            needed.extend(archive.log.iter().flat_map(|archived| &archived.tail.table_keys));
        }
        needed
    }

    /// The user types of its keyspace that a table needs.
    pub(crate) fn types_of(&self, schema: &TableSchema) -> UserTypes {
        let Some(keyspace) = self.keyspaces.get(&schema.keyspace) else { return UserTypes::new() };
        let is_needed = |name: &str| {
            let live = schema.columns.iter().map(|column| &column.ty);
            let dropped = schema.dropped_columns.iter().map(|column| &column.ty);
            live.chain(dropped).any(|ty| ty.mentions(&schema.keyspace, name))
        };
        let needed = keyspace.types.iter().filter(|(name, _)| is_needed(name));
        needed.map(|(name, ty)| (name.clone(), Arc::clone(ty))).collect()
    }
}

/// What is kept of a table that is not there any more, until the last snapshot and archived log of
/// it is gone.
#[derive(Debug, Clone)]
pub struct DroppedTable {
    /// The table as it was.
    pub schema: Arc<TableSchema>,
    /// The user types that it needs.
    pub types: BTreeMap<String, Arc<UserType>>,
    /// Its keys.
    pub key: Arc<KeyRecord>,
    /// Server's clock of writes, milliseconds since 1970: nothing was written after it.
    pub dropped_at_millis: i64,
    /// The snapshot of the state in which it was dropped; `None` when there is none, or none any more.
    pub last: Option<SnapshotId>,
    /// Whether the loss of its key was the reason.
    pub is_key_loss: bool,
}

/// Log records kept for point-in-time recovery of one table, dropped or not. Files are in
/// `archive/<table id>/`.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The table's schemas, oldest first: each was in force from its moment on (server's clock of
    /// writes, milliseconds since 1970).
    pub schemas: Vec<(i64, Arc<TableSchema>)>,
    /// The user types that these need.
    pub types: BTreeMap<String, Arc<UserType>>,
    /// The snapshots from which the table is restored, oldest first; empty while the first is taken.
    pub bases: Vec<ArchiveBase>,
    /// The records, in the order of the log. Each file begins where the one before it ends, and none
    /// has records from before and after a base.
    pub log: Vec<ArchivedLog>,
    /// The log frame up to which records are in `log`, or in the oldest base; those after it are in
    /// the commit log.
    pub archived_to: Lsn,
    /// Since when history is kept without a gap: server's clock of writes, milliseconds since 1970.
    pub since_millis: i64,
    /// Age of the data directory when it was seen that the table had been dropped.
    pub ended_at_age: Option<i64>,
}

/// A snapshot from which a table is restored, with the archived log after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveBase {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The earliest moment that it can be used for, server's clock of writes, milliseconds since 1970:
    /// nothing in it was committed later.
    pub from_millis: i64,
    /// Age of the data directory when it was taken.
    pub taken_at_age: i64,
}

/// One file of archived log records.
#[derive(Debug, Clone)]
pub struct ArchivedLog {
    /// The file.
    pub tail: TailRecord,
    /// Age of the data directory when it was written.
    pub archived_at_age: i64,
}

/// Directory of a table's archived log.
#[must_use]
pub fn archive_directory(data_directory: &Path, table: TableId) -> PathBuf {
    data_directory.join("archive").join(table.to_string())
}
