//! Why bytes or text are not a value of a type.

use std::borrow::Cow;

/// Errors of values. The messages are those Cassandra gives, without the value where it allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// Serialized bytes are not a value of the type.
    #[error("{0}")]
    InvalidBytes(Cow<'static, str>),
    /// Text is not a value of the type.
    #[error("{0}")]
    InvalidText(Cow<'static, str>),
}

impl TypeError {
    pub(crate) fn bytes(message: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidBytes(message.into())
    }

    pub(crate) fn text(message: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidText(message.into())
    }
}
