//! The object `manifest`: the table as it was, and length and SHA-256 of every file. Sealed under a
//! data key of the backup's own table key.
//!
//! ```text
//! magic    8    "COFRBKM\0"
//! identity 50   birth identity: the cluster, the backup in place of a table, a random id
//! key      108  wrapped data key
//! chunks        64 KiB of plaintext each and a tag; the last one says that it is last
//! ```

use std::path::PathBuf;

use coffer_crypto::{
    Component, DataKeySource, FORMAT_VERSION, FileIdentity, Opener, Place, Sealer, TAG_LEN,
    WrappedDataKey, random_array,
};
use coffer_storage::{ClusterId, SegmentEntry, SnapshotRecord, TailRecord};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::{BackupId, MANIFEST};

const MAGIC: [u8; 8] = *b"COFRBKM\0";
const FORMAT: u32 = 1;
const CHUNK_LEN: usize = 64 * 1024;
const HEADER_LEN: usize = 8 + FileIdentity::LEN + WrappedDataKey::LEN;
/// Longest manifest that is read: some hundred thousand files.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFile {
    /// Its object below the backup: `segments/<id>` or `tails/<id>`.
    pub object: String,
    /// Its file name in a directory of Coffer.
    pub file_name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of all of it.
    pub sha256: [u8; 32],
}

/// What a backup holds.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The data directory that it comes from.
    pub cluster: ClusterId,
    /// The table with its files and types.
    pub snapshot: SnapshotRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    cluster: String,
    snapshot: Box<RawValue>,
}

impl Manifest {
    /// The files, segments first.
    #[must_use]
    pub fn files(&self) -> Vec<BackupFile> {
        let of_segment = |segment: &SegmentEntry| BackupFile {
            object: format!("segments/{}", segment.id),
            file_name: file_name(segment.path(&PathBuf::new())),
            length: segment.length,
            sha256: segment.sha256,
        };
        let of_tail = |tail: &TailRecord| BackupFile {
            object: format!("tails/{}", hex::encode(tail.id)),
            file_name: file_name(tail.path(&PathBuf::new())),
            length: tail.length,
            sha256: tail.sha256,
        };
        let segments = self.snapshot.segments.iter().map(of_segment);
        segments.chain(self.snapshot.tails.iter().map(of_tail)).collect()
    }

    /// The sealed object. `keys` must have the keys of the backup open.
    ///
    /// # Errors
    /// `Crypto` when the keys are not at hand; `Storage` when the table does not encode.
    pub fn seal(&self, backup: BackupId, keys: &dyn DataKeySource) -> Result<Vec<u8>> {
        let unable = |error: serde_json::Error| Error::tampered(MANIFEST, error.to_string());
        let snapshot = String::from_utf8(self.snapshot.to_json()?)
            .map_err(|error| Error::tampered(MANIFEST, error.to_string()))?;
        let document = Document {
            format: FORMAT,
            cluster: self.cluster.to_string(),
            snapshot: RawValue::from_string(snapshot).map_err(unable)?,
        };
        let plaintext = serde_json::to_vec(&document).map_err(unable)?;
        let identity = FileIdentity {
            format_version: FORMAT_VERSION,
            cluster_id: self.cluster.0,
            table_id: backup.0,
            file_id: random_array()?,
        };
        let (data_key, wrapped) = keys.create_data_key(&identity)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&identity.to_bytes());
        bytes.extend_from_slice(&wrapped.to_bytes());
        let mut sealer = Sealer::new(data_key, &identity)?;
        let mut rest = plaintext.as_slice();
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(CHUNK_LEN));
            let place = if after.is_empty() { Place::Last } else { Place::Inner };
            let start = bytes.len();
            bytes.extend_from_slice(chunk);
            sealer.seal_in_place(Component::Document, place, &[], &mut bytes, start)?;
            if after.is_empty() {
                return Ok(bytes);
            }
            rest = after;
        }
    }

    /// Verifies and opens the object. `keys` must have the keys of the backup open.
    ///
    /// # Errors
    /// `Tampered`, naming the backup, when it is not as it was written or of another backup; `Crypto`
    /// when the keys are not at hand.
    pub fn open(backup: BackupId, bytes: &[u8], keys: &dyn DataKeySource) -> Result<Self> {
        let tampered = |what: &str| Error::tampered(format!("{backup}/{MANIFEST}"), what);
        let unsealed = |error: coffer_crypto::Error| match error {
            error @ coffer_crypto::Error::KeyUnavailable(_) => Error::Crypto(error),
            error => tampered(&error.to_string()),
        };
        let (header, mut rest) =
            bytes.split_at_checked(HEADER_LEN).ok_or_else(|| tampered("too short"))?;
        let (magic, header) = header.split_at(MAGIC.len());
        let (identity, wrapped) = header.split_at(FileIdentity::LEN);
        if magic != MAGIC {
            return Err(tampered("not the manifest of a backup"));
        }
        let identity = FileIdentity::from_bytes(identity).map_err(unsealed)?;
        if identity.table_id != backup.0 {
            return Err(tampered("it is the manifest of another backup"));
        }
        let wrapped = WrappedDataKey::from_bytes(wrapped).map_err(unsealed)?;
        let data_key = keys.unwrap_data_key(&backup.0, &wrapped, &identity).map_err(unsealed)?;
        let opener = Opener::new(&data_key, &identity).map_err(unsealed)?;
        let mut plaintext = Vec::with_capacity(rest.len());
        let mut block = 0;
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(CHUNK_LEN + TAG_LEN));
            let place = if after.is_empty() { Place::Last } else { Place::Inner };
            let mut chunk = chunk.to_vec();
            let opened = opener.open_in_place(Component::Document, block, place, &[], &mut chunk);
            plaintext.extend_from_slice(opened.map_err(|error| tampered(&error.to_string()))?);
            if after.is_empty() {
                break;
            }
            (rest, block) = (after, block + 1);
        }
        let document: Document =
            serde_json::from_slice(&plaintext).map_err(|error| tampered(&error.to_string()))?;
        if document.format != FORMAT {
            return Err(tampered("of a version of the format that is not known here"));
        }
        let cluster = document.cluster.parse().map_err(|_| tampered("cluster"))?;
        let snapshot = SnapshotRecord::from_json(document.snapshot.get().as_bytes());
        let snapshot = snapshot.map_err(|error| tampered(&error.to_string()))?;
        Ok(Self { cluster, snapshot })
    }
}

fn file_name(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
