//! The shapes of the KMS API: what each operation is asked and answers, in the names of AWS.
//!
//! Blobs are base64 in JSON, dates seconds since 1970 with a fraction. What AWS requires may be left
//! empty here; the KMS answers as AWS does.
#![expect(missing_docs, reason = "names and meaning are those of the AWS KMS API")]

mod aliases;
mod blob;
mod cryptography;
mod grants;
mod keys;
mod material;
mod tags;

pub use aliases::*;
pub use blob::Blob;
pub use cryptography::*;
pub use grants::*;
pub use keys::*;
pub use material::*;
pub use tags::*;

use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Public names that are bound to a ciphertext; the same are needed to decrypt.
pub type EncryptionContext = BTreeMap<String, String>;

/// The request of an operation.
pub trait ApiRequest: Serialize + DeserializeOwned {
    /// The operation's name, as `GenerateDataKey`.
    const OPERATION: &'static str;
    /// What is answered; `()` for operations that answer nothing.
    type Response: Serialize;
}

/// Defines the request of an operation. Written as JSON it lacks blobs and grant tokens: that form is
/// for conditions of policies and for the audit log.
macro_rules! request {
    ($operation:literal, $(#[$attribute:meta])* $name:ident { $($body:tt)* } -> $response:ty) => {
        $(#[$attribute])*
        #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name { $($body)* }

        impl crate::api::ApiRequest for $name {
            const OPERATION: &'static str = $operation;
            type Response = $response;
        }
    };
}

/// Defines what operations answer, and its parts.
macro_rules! shape {
    ($(#[$attribute:meta])* $name:ident { $($body:tt)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $name { $($body)* }
    };
}

use {request, shape};
