//! Bytes that are base64 in JSON, and wiped when dropped.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, ops::Deref};
use zeroize::Zeroizing;

/// Bytes of a request or an answer; maybe secret, so there is no `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Zeroizing<Vec<u8>>);

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(&**self));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64)
    }
}

struct Base64;

impl de::Visitor<'_> for Base64 {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        // the text itself may be secret: it must not end up in the message
        STANDARD.decode(text).map(Blob::from).map_err(|_| E::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_base64_in_json_and_an_error_does_not_quote_it() {
        let blob = Blob::from(b"\xFFsecret".as_slice());
        let json = serde_json::to_string(&blob).unwrap();
        assert_eq!(json, "\"/3NlY3JldA==\"");
        assert!(serde_json::from_str::<Blob>(&json).unwrap() == blob);
        let error = serde_json::from_str::<Blob>("\"se cret!\"").err().unwrap().to_string();
        assert!(!error.contains("cret"), "{error}");
    }
}
