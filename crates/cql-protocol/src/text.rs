//! A UTF-8 string that is a slice of the frame it came in.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::error::{ProtocolError, Result};

/// Bytes checked to be UTF-8 once, shared with the frame's buffer.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Checks the bytes.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidUtf8`].
    pub fn new(bytes: Bytes) -> Result<Self> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(ProtocolError::InvalidUtf8),
        }
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // checked in `new`, and the bytes cannot change; a second check costs less than `unsafe`
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // statements and names never reach a log through Debug
        write!(formatter, "Text({} bytes)", self.0.len())
    }
}
