//! The object `key`: which backup this is, and its keys, wrapped. In the clear, and nothing in it
//! tells what the table is called.

use std::fmt;
use std::str::FromStr;

use coffer_crypto::KeyRecord;
use serde::{Deserialize, Serialize};

use crate::KEY;
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"COFRBAK\0";
const VERSION: u16 = 1;
/// Magic, version, backup id, length of the JSON.
const PREFIX_LEN: usize = 8 + 2 + 16 + 4;
/// Longest object that is read.
pub const KEY_OBJECT_BYTES_MAX: u64 = 64 << 20;

/// Names a backup: random, and the id that its keys are bound to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(pub [u8; 16]);

impl BackupId {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn random() -> Result<Self> {
        Ok(Self(coffer_crypto::random_array()?))
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BackupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BackupId({self})")
    }
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| Error::Location {
            location: text.to_owned(),
            what: "the id of a backup is 32 hex digits".to_owned(),
        })?;
        Ok(Self(id))
    }
}

/// The keys of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyObject {
    /// The backup.
    pub id: BackupId,
    /// Its table key under the KMS key, and under that the table keys that its files were born with.
    pub record: KeyRecord,
    /// Wall clock, milliseconds since 1970.
    pub created_at_millis: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    created_at_millis: i64,
    record: KeyRecord,
}

impl KeyObject {
    /// The object.
    ///
    /// # Errors
    /// When it does not encode.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let document =
            Document { created_at_millis: self.created_at_millis, record: self.record.clone() };
        let json = serde_json::to_vec(&document)
            .map_err(|error| Error::tampered(KEY, error.to_string()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.id.0);
        let length = u32::try_from(json.len()).map_err(|_| Error::tampered(KEY, "too long"))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&json);
        Ok(bytes)
    }

    /// Reads the object of a backup. That it was not changed shows when its keys are opened.
    ///
    /// # Errors
    /// `Tampered`, naming the backup, for anything that [`Self::to_bytes`] does not write, and for the
    /// object of another backup.
    pub fn from_bytes(backup: BackupId, bytes: &[u8]) -> Result<Self> {
        let malformed = |what: &str| Error::tampered(format!("{backup}/{KEY}"), what);
        let (prefix, json) = bytes
            .split_at_checked(PREFIX_LEN)
            .ok_or_else(|| malformed("too short for the key object of a backup"))?;
        let (magic, rest) = prefix.split_at(MAGIC.len());
        let (version, rest) = rest.split_at(2);
        let (id, length) = rest.split_at(16);
        if magic != MAGIC {
            return Err(malformed("not the key object of a backup"));
        }
        if version != VERSION.to_be_bytes() {
            return Err(malformed("of a version of the format that is not known here"));
        }
        if usize::try_from(u32::from_be_bytes(length.try_into().unwrap_or_default()))
            != Ok(json.len())
        {
            return Err(malformed("cut, or longer than it says"));
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|error| malformed(&error.to_string()))?;
        let id = BackupId(id.try_into().map_err(|_| malformed("id"))?);
        if id != backup {
            return Err(malformed(&format!("it is the key object of backup {id}")));
        }
        Ok(Self { id, record: document.record, created_at_millis: document.created_at_millis })
    }
}
