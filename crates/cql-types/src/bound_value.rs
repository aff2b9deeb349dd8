//! What a client bound to a marker.

use bytes::Bytes;

/// A value bound to a marker of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BoundValue {
    /// The column is deleted.
    Null,
    /// The column is left as it is.
    Unset,
    /// A serialized value.
    Value(Bytes),
}

impl BoundValue {
    /// The serialized value, if there is one.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Value(bytes) => Some(bytes),
            Self::Null | Self::Unset => None,
        }
    }
}
