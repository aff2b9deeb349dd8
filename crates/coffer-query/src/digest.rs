//! Identities derived from names.

use md5::{Digest, Md5};
use uuid::{Builder, Uuid};

/// The UUID of version 3 that Java's `UUID.nameUUIDFromBytes` gives.
pub(crate) fn name_uuid(name: &[u8]) -> Uuid {
    Builder::from_md5_bytes(Md5::digest(name).into()).into_uuid()
}
