//! The root keys of a data directory: one, or two while it is given a new one.

use crate::{Error, Result, RootKey, TableKey, TableKeyId};

/// The root key that seals from now on, and during a rotation the one before it, which still opens.
///
/// A rotation: the new key is made and stored next to the old one; everything under the old one is
/// wrapped or sealed anew under the current one; then the old one is removed. After a crash both are
/// still there, whatever was rewrapped so far opens, and the rotation is taken up again.
#[derive(Debug)]
pub struct RootKeys {
    current: RootKey,
    previous: Option<RootKey>,
}

impl From<RootKey> for RootKeys {
    fn from(current: RootKey) -> Self {
        Self { current, previous: None }
    }
}

impl From<std::sync::Arc<RootKey>> for RootKeys {
    fn from(current: std::sync::Arc<RootKey>) -> Self {
        current.duplicate().into()
    }
}

impl RootKeys {
    /// Both keys of a rotation that is not finished.
    #[must_use]
    pub fn rotating(current: RootKey, previous: RootKey) -> Self {
        Self { current, previous: Some(previous) }
    }

    /// The key that wraps and seals.
    #[must_use]
    pub fn current(&self) -> &RootKey {
        &self.current
    }

    /// The key before it, while a rotation is not finished.
    #[must_use]
    pub fn previous(&self) -> Option<&RootKey> {
        self.previous.as_ref()
    }

    /// Whether something may still be under the previous key.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.previous.is_some()
    }

    /// The key whose [`RootKey::id`] this is.
    #[must_use]
    pub fn with_id(&self, id: &[u8; 16]) -> Option<&RootKey> {
        self.all().find(|root| root.id() == *id)
    }

    /// Another owner of the same keys.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let previous = self.previous.as_ref().map(RootKey::duplicate);
        Self { current: self.current.duplicate(), previous }
    }

    /// The owned table key `id`, and whether it is under the current root key.
    ///
    /// # Errors
    /// As [`RootKey::unwrap_table_key`], for the current key.
    pub fn unwrap_table_key(
        &self,
        table: &[u8; 16],
        id: TableKeyId,
        wrapped: &[u8],
    ) -> Result<(TableKey, bool)> {
        self.try_each(|root| root.unwrap_table_key(table, id, wrapped))
    }

    /// The blob of a doubly wrapped table key as the KMS made it, and whether it is under the current
    /// root key.
    ///
    /// # Errors
    /// As [`RootKey::unwrap_blob`], for the current key.
    pub fn unwrap_blob(
        &self,
        table: &[u8; 16],
        id: TableKeyId,
        wrapped: &[u8],
    ) -> Result<(Vec<u8>, bool)> {
        self.try_each(|root| root.unwrap_blob(table, id, wrapped))
    }

    fn all(&self) -> impl Iterator<Item = &RootKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    fn try_each<T>(&self, open: impl Fn(&RootKey) -> Result<T>) -> Result<(T, bool)> {
        match (open(&self.current), &self.previous) {
            (Ok(opened), _) => Ok((opened, true)),
            (Err(Error::Tampered), Some(previous)) => Ok((open(previous)?, false)),
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DocumentKind, SealedDocument};

    #[test]
    fn during_a_rotation_both_keys_open_and_tell_which_did() {
        let (old, new) = (RootKey::generate().unwrap(), RootKey::generate().unwrap());
        let key = TableKey::generate().unwrap();
        let (table, id) = ([1; 16], key.id());
        let under_old = old.wrap_table_key(&table, &key).unwrap();
        let under_new = new.wrap_table_key(&table, &key).unwrap();
        let blob = old.wrap_blob(&table, id, b"blob").unwrap();
        let document = SealedDocument::seal(&old, DocumentKind::Catalog, 1, b"text").unwrap();

        let both = RootKeys::rotating(new.duplicate(), old.duplicate());
        assert!(!both.unwrap_table_key(&table, id, &under_old).unwrap().1);
        assert!(both.unwrap_table_key(&table, id, &under_new).unwrap().1);
        assert_eq!(both.unwrap_blob(&table, id, &blob).unwrap(), (b"blob".to_vec(), false));
        let opened = SealedDocument::open_with(&both, DocumentKind::Catalog, &document).unwrap();
        assert_eq!(*opened.plaintext, b"text");
        assert_eq!(both.with_id(&old.id()).unwrap().id(), old.id());

        let finished = RootKeys::from(new);
        assert!(finished.unwrap_table_key(&table, id, &under_old).is_err());
        assert!(finished.unwrap_table_key(&table, id, &under_new).is_ok());
        let refused = SealedDocument::open_with(&finished, DocumentKind::Catalog, &document);
        assert!(matches!(refused, Err(Error::WrongKey)));
    }

    #[test]
    fn a_blob_under_the_root_key_belongs_to_one_table_and_one_key() {
        let root = RootKey::generate().unwrap();
        let (table, id) = ([1; 16], TableKeyId([2; 16]));
        let wrapped = root.wrap_blob(&table, id, b"blob").unwrap();
        assert_eq!(root.unwrap_blob(&table, id, &wrapped).unwrap(), b"blob");
        assert!(root.unwrap_blob(&[9; 16], id, &wrapped).is_err());
        assert!(root.unwrap_blob(&table, TableKeyId([9; 16]), &wrapped).is_err());
        assert!(RootKey::generate().unwrap().unwrap_blob(&table, id, &wrapped).is_err());
    }
}
