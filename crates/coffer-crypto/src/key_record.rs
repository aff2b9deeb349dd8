//! The key record of a table: everything needed to get at its keys again, nothing secret in it.

use crate::{Error, Result, TableKeyId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who keeps the key above the table key. The names are those of CQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EncryptionType {
    /// The service's own root key.
    #[serde(rename = "AWS_OWNED_KMS_KEY")]
    AwsOwned,
    /// A key in a KMS.
    #[serde(rename = "CUSTOMER_MANAGED_KMS_KEY")]
    CustomerManaged,
}

impl EncryptionType {
    /// The name in `encryption_specification`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwsOwned => "AWS_OWNED_KMS_KEY",
            Self::CustomerManaged => "CUSTOMER_MANAGED_KMS_KEY",
        }
    }
}

/// Bytes that JSON shows as hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexBytes(pub Vec<u8>);

impl From<HexBytes> for String {
    fn from(bytes: HexBytes) -> Self {
        hex::encode(bytes.0)
    }
}

impl TryFrom<String> for HexBytes {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        hex::decode(text).map(Self).map_err(|_| Error::Malformed { what: "hex digits" })
    }
}

/// Key record of one table. Lives in the catalog; replaced as a whole, never changed in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The current table key, which wraps the data keys of new files.
    pub table_key_id: TableKeyId,
    /// Who keeps the key above it.
    pub encryption_type: EncryptionType,
    /// ARN of the KMS key; `None` for an owned key.
    pub kms_key_arn: Option<String>,
    /// The current table key as the KMS (or the root key) returned it.
    pub blob: HexBytes,
    /// The pairs the KMS bound the blob to; empty for an owned key.
    pub encryption_context: BTreeMap<String, String>,
    /// Which material of the KMS key wrapped the blob, where the KMS tells it.
    pub key_material_id: Option<String>,
    /// Wall clock, milliseconds since 1970.
    pub created_at_millis: i64,
    /// Data keys and older table keys wrapped under the current table key so far.
    pub wraps: u64,
    /// Older table keys that a live file still needs, each directly under the current one.
    pub older: Vec<OlderTableKey>,
    /// The grants of the KMS key that were made for this table.
    #[serde(default)]
    pub grants: Vec<KeyGrant>,
    /// Whether `blob` is the blob of the KMS, sealed once more under the root key: then both keys
    /// are needed.
    #[serde(default)]
    pub double_wrapped: bool,
}

/// A grant of a KMS key. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyGrant {
    /// What it is for: `data` or `snapshot`.
    pub kind: String,
    /// Its id in the KMS.
    pub grant_id: String,
    /// ARN of the KMS key it belongs to.
    pub key_arn: String,
}

/// An older table key under the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OlderTableKey {
    /// Its id, as in the headers of the files it is needed for.
    pub table_key_id: TableKeyId,
    /// Nonce, sealed key, tag.
    pub wrapped: HexBytes,
}

impl KeyRecord {
    /// Whether a file wrapped under `id` can be opened through this record.
    #[must_use]
    pub fn holds(&self, id: TableKeyId) -> bool {
        self.table_key_id == id || self.older.iter().any(|older| older.table_key_id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_from_json() {
        let older = OlderTableKey { table_key_id: TableKeyId([2; 16]), wrapped: HexBytes(vec![9]) };
        let record = KeyRecord {
            table_key_id: TableKeyId([1; 16]),
            encryption_type: EncryptionType::CustomerManaged,
            kms_key_arn: Some("arn:aws:kms:r:1:key/k".into()),
            blob: HexBytes(vec![0, 255]),
            encryption_context: BTreeMap::from([("a".into(), "b".into())]),
            key_material_id: None,
            created_at_millis: 5,
            wraps: 3,
            older: vec![older],
            grants: vec![KeyGrant {
                kind: "data".into(),
                grant_id: "g".into(),
                key_arn: "arn".into(),
            }],
            double_wrapped: true,
        };
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains("\"CUSTOMER_MANAGED_KMS_KEY\"") && json.contains("\"00ff\""));
        assert_eq!(serde_json::from_str::<KeyRecord>(&json).unwrap(), record);
        let before_grants = json.split(",\"grants\"").next().unwrap().to_owned() + "}";
        let old = serde_json::from_str::<KeyRecord>(&before_grants).unwrap();
        assert!(old.grants.is_empty() && !old.double_wrapped, "records of earlier versions");
        assert!(record.holds(TableKeyId([2; 16])) && !record.holds(TableKeyId([3; 16])));
    }
}
