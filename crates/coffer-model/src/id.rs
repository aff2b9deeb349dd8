//! Newtypes for the identities a row carries.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Identity of a table: 16 random bytes, written as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub [u8; 16]);

impl TableId {
    /// The bytes as they stand in files and additional data.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The same 16 bytes as a [`uuid::Uuid`].
    #[must_use]
    pub const fn to_uuid(self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.0)
    }
}

impl From<uuid::Uuid> for TableId {
    fn from(uuid: uuid::Uuid) -> Self {
        Self(uuid.into_bytes())
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_uuid().fmt(f)
    }
}

impl fmt::Debug for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableId({self})")
    }
}

impl FromStr for TableId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        uuid::Uuid::parse_str(text).map(Self::from).map_err(|_| Error::Malformed("table id"))
    }
}

/// Identity of a column within its table. Never reused, so a column that is dropped and added
/// again cannot show the old values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u32);

/// Microseconds since 1970 chosen by the client or coordinator; the larger one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteTimestamp(pub i64);

impl WriteTimestamp {
    /// Smaller than any timestamp a write may carry (`i64::MIN` itself is refused by CQL).
    pub const MIN: Self = Self(i64::MIN);
    /// The largest timestamp.
    pub const MAX: Self = Self(i64::MAX);
}
