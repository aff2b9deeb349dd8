//! Table keys: what a KMS key or the root key wraps, and what wraps data keys.

use crate::{
    DataKey, Error, FileIdentity, NewDataKey, Result, WrappedDataKey,
    commitment::{commitment, derive, equal},
    secret::Secret,
    wrap::WrappingKey,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a table key; derived from the key itself, so a wrong key is noticed before it is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableKeyId(pub [u8; 16]);

impl fmt::Display for TableKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TableKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableKeyId({self})")
    }
}

impl From<TableKeyId> for String {
    fn from(id: TableKeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TableKeyId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id)
            .map_err(|_| Error::Malformed { what: "table key id" })?;
        Ok(Self(id))
    }
}

/// Wraps the data keys of one table. Printed as its id only.
pub struct TableKey {
    key: WrappingKey,
    id: TableKeyId,
}

impl TableKey {
    /// 32 fresh random bytes, for a table whose key no KMS makes.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn generate() -> Result<Self> {
        Secret::generate().map(Self::new)
    }

    /// The key of the 32 bytes that a KMS gave. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`Error::Malformed`] for any other length.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        Secret::from_slice(bytes).map(Self::new)
    }

    fn new(secret: Secret) -> Self {
        let mut id = [0; 16];
        derive(secret.bytes(), b"coffer-table-key-id-v1", &[], &mut id);
        Self { key: WrappingKey(secret), id: TableKeyId(id) }
    }

    /// The id that headers and key records use.
    #[must_use]
    pub fn id(&self) -> TableKeyId {
        self.id
    }

    /// The header form of `data_key` for the file `identity`. Counts as one wrap.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn wrap_data_key(
        &self,
        data_key: &NewDataKey,
        identity: &FileIdentity,
    ) -> Result<WrappedDataKey> {
        let identity = identity.to_bytes();
        let sealed = self.key.seal(&data_key_aad(&identity, self.id), data_key.0.bytes())?;
        let malformed = |_| Error::Malformed { what: "wrapped data key" };
        Ok(WrappedDataKey {
            table_key_id: self.id,
            sealed: sealed.as_slice().try_into().map_err(malformed)?,
            commitment: commitment(&data_key.0, b"coffer-commit-v1", &identity),
        })
    }

    /// The data key of the file born as `identity`.
    ///
    /// # Errors
    /// [`Error::UnknownTableKey`] when it names another table key, [`Error::Tampered`] when the
    /// header was changed or belongs to another file, [`Error::WrongKey`] when the commitment is
    /// that of another key.
    pub fn unwrap_data_key(
        &self,
        wrapped: &WrappedDataKey,
        identity: &FileIdentity,
    ) -> Result<DataKey> {
        if wrapped.table_key_id != self.id {
            return Err(Error::UnknownTableKey(wrapped.table_key_id));
        }
        let identity = identity.to_bytes();
        let bytes = self.key.open(&data_key_aad(&identity, self.id), &wrapped.sealed)?;
        let secret = Secret::from_slice(&bytes)?;
        let expected = commitment(&secret, b"coffer-commit-v1", &identity);
        if equal(&expected, &wrapped.commitment) {
            Ok(DataKey(secret))
        } else {
            Err(Error::WrongKey)
        }
    }

    /// An older table key of `table` under this one, for the table's key record.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn wrap_older(&self, table: &[u8; 16], older: &Self) -> Result<Vec<u8>> {
        self.key.seal(&older_key_aad(table, self.id, older.id), older.key.0.bytes())
    }

    /// The older table key `id` of `table` that [`Self::wrap_older`] wrapped.
    ///
    /// # Errors
    /// [`Error::Tampered`] when it does not authenticate, [`Error::WrongKey`] when the bytes are
    /// those of another key.
    pub fn unwrap_older(&self, table: &[u8; 16], id: TableKeyId, wrapped: &[u8]) -> Result<Self> {
        let bytes = self.key.open(&older_key_aad(table, self.id, id), wrapped)?;
        let older = Self::from_slice(&bytes)?;
        if older.id == id { Ok(older) } else { Err(Error::WrongKey) }
    }

    /// This key under a KMS key or the root key; `aad` binds it to its table.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn wrap_under(&self, wrapping: &WrappingKey, aad: &[u8]) -> Result<Vec<u8>> {
        wrapping.seal(aad, self.key.0.bytes())
    }
}

impl fmt::Debug for TableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableKey({})", self.id)
    }
}

fn data_key_aad(identity: &[u8; FileIdentity::LEN], table_key: TableKeyId) -> Vec<u8> {
    [b"coffer-data-key-v1".as_slice(), identity, &table_key.0].concat()
}

fn older_key_aad(table: &[u8; 16], current: TableKeyId, older: TableKeyId) -> Vec<u8> {
    [b"coffer-older-table-key-v1".as_slice(), table, &current.0, &older.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> FileIdentity {
        FileIdentity {
            format_version: crate::FORMAT_VERSION,
            cluster_id: [1; 16],
            table_id: [2; 16],
            file_id: [3; 16],
        }
    }

    #[test]
    fn a_data_key_comes_back_from_its_header_bytes() {
        let table_key = TableKey::generate().unwrap();
        let data_key = NewDataKey::generate().unwrap();
        let wrapped = table_key.wrap_data_key(&data_key, &identity()).unwrap();
        let read = WrappedDataKey::from_bytes(&wrapped.to_bytes()).unwrap();
        assert_eq!(read, wrapped);
        let opened = table_key.unwrap_data_key(&read, &identity()).unwrap();
        assert_eq!(opened.0.bytes(), data_key.0.bytes());
    }

    #[test]
    fn any_flipped_bit_of_a_wrapped_data_key_is_named() {
        let table_key = TableKey::generate().unwrap();
        let data_key = NewDataKey::generate().unwrap();
        let bytes = table_key.wrap_data_key(&data_key, &identity()).unwrap().to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            let wrapped = WrappedDataKey::from_bytes(&changed).unwrap();
            let opened = table_key.unwrap_data_key(&wrapped, &identity());
            let named = match bit / 8 {
                0..16 => matches!(opened, Err(Error::UnknownTableKey(_))),
                16..76 => matches!(opened, Err(Error::Tampered)),
                _ => matches!(opened, Err(Error::WrongKey)),
            };
            assert!(named, "bit {bit}");
        }
        assert!(WrappedDataKey::from_bytes(&bytes[1..]).is_err());
    }

    #[test]
    fn a_header_of_another_file_or_table_does_not_open() {
        let table_key = TableKey::generate().unwrap();
        let data_key = NewDataKey::generate().unwrap();
        let wrapped = table_key.wrap_data_key(&data_key, &identity()).unwrap();
        for change in [0, 1, 2] {
            let mut other = identity();
            match change {
                0 => other.cluster_id[0] ^= 1,
                1 => other.table_id[0] ^= 1,
                _ => other.file_id[0] ^= 1,
            }
            let opened = table_key.unwrap_data_key(&wrapped, &other);
            assert!(matches!(opened, Err(Error::Tampered)));
        }
    }

    #[test]
    fn an_older_table_key_opens_only_in_its_table_and_under_its_id() {
        let (current, older) = (TableKey::generate().unwrap(), TableKey::generate().unwrap());
        let wrapped = current.wrap_older(&[5; 16], &older).unwrap();
        let opened = current.unwrap_older(&[5; 16], older.id(), &wrapped).unwrap();
        assert_eq!(opened.id(), older.id());
        assert!(current.unwrap_older(&[6; 16], older.id(), &wrapped).is_err());
        assert!(current.unwrap_older(&[5; 16], current.id(), &wrapped).is_err());
        assert!(older.unwrap_older(&[5; 16], older.id(), &wrapped).is_err());
    }

    #[test]
    fn debug_and_display_hold_the_id_only() {
        let key = TableKey::from_slice(&[0xAB; 32]).unwrap();
        assert!(!format!("{key:?}").contains("abab"));
        assert_eq!(format!("{key:?}"), format!("TableKey({})", key.id()));
        let json = serde_json::to_string(&key.id()).unwrap();
        assert_eq!(serde_json::from_str::<TableKeyId>(&json).unwrap(), key.id());
        assert!(serde_json::from_str::<TableKeyId>("\"12\"").is_err());
    }
}
