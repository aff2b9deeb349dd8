//! What the keyring and its messages call a table.

use std::{fmt, sync::Arc};

/// Id and names of one table. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// Id of the table.
    pub id: [u8; 16],
    /// Its keyspace.
    pub keyspace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl TableName {
    /// The table `id`, called `keyspace.name`.
    #[must_use]
    pub fn new(id: [u8; 16], keyspace: &str, name: &str) -> Self {
        Self { id, keyspace: keyspace.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.keyspace, self.name)
    }
}
