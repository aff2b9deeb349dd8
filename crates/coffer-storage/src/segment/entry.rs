//! What the catalog knows of a segment: its birth identity and how to tell that the file is the one.

use std::path::{Path, PathBuf};

use coffer_crypto::TableKeyId;
use coffer_model::TableId;
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, SegmentId};

/// The catalog's line about a live segment. Nothing in it derives from rows but the length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EntryText", into = "EntryText")]
pub struct SegmentEntry {
    /// The segment, and the name of its file.
    pub id: SegmentId,
    /// The cluster it was born in.
    pub cluster: ClusterId,
    /// The table it was born for.
    pub table: TableId,
    /// The table key that wraps its data key.
    pub table_key: TableKeyId,
    /// Length of the file in bytes.
    pub length: u64,
    /// SHA-256 of the whole file as it is on disk.
    pub sha256: [u8; 32],
    /// When it was written, and its data key made: wall clock of keys, milliseconds since 1970. 0 in
    /// catalogs of earlier versions.
    pub created_at_millis: i64,
}

impl SegmentEntry {
    /// The segment's file in its table's directory.
    #[must_use]
    pub fn path(&self, table_directory: &Path) -> PathBuf {
        table_directory.join(format!("{}.segment", self.id))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryText {
    id: String,
    cluster: String,
    table: String,
    table_key: String,
    length: u64,
    sha256: String,
    #[serde(default)]
    created_at_millis: i64,
}

impl From<SegmentEntry> for EntryText {
    fn from(entry: SegmentEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            cluster: entry.cluster.to_string(),
            table: hex::encode(entry.table.0),
            table_key: hex::encode(entry.table_key.0),
            length: entry.length,
            sha256: hex::encode(entry.sha256),
            created_at_millis: entry.created_at_millis,
        }
    }
}

impl TryFrom<EntryText> for SegmentEntry {
    type Error = hex::FromHexError;

    fn try_from(text: EntryText) -> Result<Self, Self::Error> {
        let mut entry = Self {
            id: SegmentId([0; 16]),
            cluster: ClusterId([0; 16]),
            table: TableId([0; 16]),
            table_key: TableKeyId([0; 16]),
            length: text.length,
            sha256: [0; 32],
            created_at_millis: text.created_at_millis,
        };
        hex::decode_to_slice(text.id, &mut entry.id.0)?;
        hex::decode_to_slice(text.cluster, &mut entry.cluster.0)?;
        hex::decode_to_slice(text.table, &mut entry.table.0)?;
        hex::decode_to_slice(text.table_key, &mut entry.table_key.0)?;
        hex::decode_to_slice(text.sha256, &mut entry.sha256)?;
        Ok(entry)
    }
}
