//! Portable backups: the sealed files of one snapshot, with keys of their own, in a directory or an
//! object store. Nothing in a backup is plaintext, and none can be made: the files are copied as they
//! are, their keys are wrapped under a KMS key, and what describes them is sealed too.
//!
//! A backup is the objects below `<backup id>/`: `key` (in the clear: the KMS key and the wrapped table
//! keys) is written first, then the files, and `manifest` (sealed) last: with it the backup counts.
#![forbid(unsafe_code)]

mod error;
mod key_object;
mod manifest;
mod store;

pub use error::{Error, Result};
pub use key_object::{BackupId, KEY_OBJECT_BYTES_MAX, KeyObject};
pub use manifest::{BackupFile, MANIFEST_BYTES_MAX, Manifest};
pub use store::{Listed, Store};

/// Name of the object that a backup begins with.
pub const KEY: &str = "key";
/// Name of the object that completes a backup.
pub const MANIFEST: &str = "manifest";
