//! The root key: the service's own key, above the catalog and the tables with owned keys.

use crate::{Error, Result, TableKey, commitment::derive, secret::Secret, wrap::WrappingKey};
use std::fmt;
use zeroize::Zeroizing;

/// First line of a root key file.
const FILE_MAGIC: &str = "coffer-root-key-v1";

/// Purpose of the keys that wrap the blobs of a KMS once more.
const DOUBLE_WRAP: &[u8] = b"coffer-double-wrap-v1";

/// The service's own key. It never seals anything itself: a key for each purpose is derived from
/// it, and each of those has its own budget of wraps.
pub struct RootKey {
    secret: Secret,
    id: [u8; 16],
}

impl RootKey {
    /// Longest root key file that is read.
    pub const FILE_LEN_MAX: usize = 256;

    /// 32 fresh random bytes.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn generate() -> Result<Self> {
        Secret::generate().map(Self::new)
    }

    fn new(secret: Secret) -> Self {
        let mut id = [0; 16];
        derive(secret.bytes(), b"coffer-root-key-id-v1", &[], &mut id);
        Self { secret, id }
    }

    /// Public id, derived from the key: tells a wrong root key from a damaged file.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Another owner of the same key.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { secret: self.secret.duplicate(), id: self.id }
    }

    /// The contents of a root key file: a line with magic and version, a line of 64 hex digits.
    #[must_use]
    pub fn to_file_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::FILE_LEN_MAX));
        bytes.extend_from_slice(FILE_MAGIC.as_bytes());
        bytes.push(b'\n');
        let mut digits = Zeroizing::new([0; 64]);
        if hex::encode_to_slice(self.secret.bytes(), digits.as_mut_slice()).is_ok() {
            bytes.extend_from_slice(digits.as_slice());
        }
        bytes.push(b'\n');
        bytes
    }

    /// Reads the contents of a root key file.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything that [`Self::to_file_bytes`] does not write (white space
    /// at the end aside).
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::Malformed { what: "root key file" };
        if bytes.len() > Self::FILE_LEN_MAX {
            return Err(malformed());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
        let (magic, digits) = text.trim_end().split_once('\n').ok_or_else(malformed)?;
        if magic.trim_end() != FILE_MAGIC {
            return Err(malformed());
        }
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, key.as_mut_slice()).map_err(|_| malformed())?;
        Secret::from_slice(key.as_slice()).map(Self::new)
    }

    /// The key derived for one purpose and one subject of it.
    pub(crate) fn derive(&self, purpose: &[u8], subject: &[u8]) -> WrappingKey {
        let mut key = Zeroizing::new([0; 32]);
        derive(self.secret.bytes(), purpose, subject, key.as_mut_slice());
        WrappingKey(Secret::from_array(&key))
    }

    /// An owned table key under the root key.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn wrap_table_key(&self, table: &[u8; 16], key: &TableKey) -> Result<Vec<u8>> {
        let wrapping = self.derive(b"coffer-owned-table-key-v1", table);
        key.wrap_under(&wrapping, &owned_key_aad(table, key))
    }

    /// The owned table key `id` that [`Self::wrap_table_key`] wrapped.
    ///
    /// # Errors
    /// [`Error::Tampered`] when it does not authenticate (also under another root key),
    /// [`Error::WrongKey`] when the bytes are those of another key.
    pub fn unwrap_table_key(
        &self,
        table: &[u8; 16],
        id: crate::TableKeyId,
        wrapped: &[u8],
    ) -> Result<TableKey> {
        let wrapping = self.derive(b"coffer-owned-table-key-v1", table);
        let aad = [b"coffer-owned-table-key-v1".as_slice(), table, &id.0].concat();
        let key = TableKey::from_slice(&wrapping.open(&aad, wrapped)?)?;
        if key.id() == id { Ok(key) } else { Err(Error::WrongKey) }
    }

    /// The blob of a KMS once more under the root key: the table key `id` then needs both.
    ///
    /// # Errors
    /// [`Error::Randomness`] when the operating system gives none.
    pub fn wrap_blob(
        &self,
        table: &[u8; 16],
        id: crate::TableKeyId,
        blob: &[u8],
    ) -> Result<Vec<u8>> {
        self.derive(DOUBLE_WRAP, table).seal(&double_wrap_aad(table, id), blob)
    }

    /// The blob that [`Self::wrap_blob`] wrapped.
    ///
    /// # Errors
    /// [`Error::Tampered`] when it does not authenticate, also under another root key.
    pub fn unwrap_blob(
        &self,
        table: &[u8; 16],
        id: crate::TableKeyId,
        wrapped: &[u8],
    ) -> Result<Vec<u8>> {
        let opened = self.derive(DOUBLE_WRAP, table).open(&double_wrap_aad(table, id), wrapped)?;
        Ok(opened.to_vec())
    }
}

fn double_wrap_aad(table: &[u8; 16], id: crate::TableKeyId) -> Vec<u8> {
    [DOUBLE_WRAP, table, &id.0].concat()
}

fn owned_key_aad(table: &[u8; 16], key: &TableKey) -> Vec<u8> {
    [b"coffer-owned-table-key-v1".as_slice(), table, &key.id().0].concat()
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", hex::encode(self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_comes_back_from_its_file() {
        let root = RootKey::generate().unwrap();
        let read = RootKey::from_file_bytes(&root.to_file_bytes()).unwrap();
        assert_eq!((read.id(), read.secret.bytes()), (root.id(), root.secret.bytes()));
    }

    #[test]
    fn anything_else_is_no_root_key_file() {
        let good = RootKey::generate().unwrap().to_file_bytes();
        let text = std::str::from_utf8(&good).unwrap();
        let long = format!("{text}{}", " ".repeat(RootKey::FILE_LEN_MAX));
        let bad =
            [String::new(), text[..60].into(), text.replace("v1", "v2"), format!("{text}00"), long];
        for text in bad {
            let read = RootKey::from_file_bytes(text.as_bytes());
            assert!(matches!(read, Err(Error::Malformed { .. })), "{text:?}");
        }
        assert!(RootKey::from_file_bytes(&[0xFF; 84]).is_err());
    }

    #[test]
    fn an_owned_table_key_opens_only_in_its_table() {
        let root = RootKey::generate().unwrap();
        let key = TableKey::generate().unwrap();
        let wrapped = root.wrap_table_key(&[1; 16], &key).unwrap();
        let opened = root.unwrap_table_key(&[1; 16], key.id(), &wrapped).unwrap();
        assert_eq!(opened.id(), key.id());
        assert!(root.unwrap_table_key(&[2; 16], key.id(), &wrapped).is_err());
        let other = RootKey::generate().unwrap();
        assert!(other.unwrap_table_key(&[1; 16], key.id(), &wrapped).is_err());
    }
}
