//! AUTH_RESPONSE: a SASL token.

use std::fmt;

use bytes::Bytes;

use crate::error::Result;
use crate::reader::Reader;
use crate::writer::Writer;

/// A SASL token, possibly null. It holds a password, so `Debug` tells its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthResponse {
    /// For PLAIN: authorization id, NUL, user, NUL, password.
    pub token: Option<Bytes>,
}

impl AuthResponse {
    pub(super) fn decode(reader: &mut Reader) -> Result<Self> {
        Ok(Self { token: reader.bytes()? })
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.bytes(self.token.as_deref());
    }
}

impl fmt::Debug for AuthResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AuthResponse({:?} bytes)", self.token.as_ref().map(Bytes::len))
    }
}
