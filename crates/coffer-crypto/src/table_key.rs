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
        hex::decode_to_slice(text, &mut id).map_err(|_| Error::Malformed {
            what: "table key id",
        })?;
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
        Self {
            key: WrappingKey(secret),
            id: TableKeyId(id),
        }
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
        let sealed = self
            .key
            .seal(&data_key_aad(&identity, self.id), data_key.0.bytes())?;
        let malformed = |_| Error::Malformed {
            what: "wrapped data key",
        };
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
        let bytes = self
            .key
            .open(&data_key_aad(&identity, self.id), &wrapped.sealed)?;
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
        self.key.seal(
            &older_key_aad(table, self.id, older.id),
            older.key.0.bytes(),
        )
    }

    /// The older table key `id` of `table` that [`Self::wrap_older`] wrapped.
    ///
    /// # Errors
    /// [`Error::Tampered`] when it does not authenticate, [`Error::WrongKey`] when the bytes are
    /// those of another key.
    pub fn unwrap_older(&self, table: &[u8; 16], id: TableKeyId, wrapped: &[u8]) -> Result<Self> {
        let bytes = self.key.open(&older_key_aad(table, self.id, id), wrapped)?;
        let older = Self::from_slice(&bytes)?;
        if older.id == id {
            Ok(older)
        } else {
            Err(Error::WrongKey)
        }
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
    [
        b"coffer-older-table-key-v1".as_slice(),
        table,
        &current.0,
        &older.0,
    ]
    .concat()
}
