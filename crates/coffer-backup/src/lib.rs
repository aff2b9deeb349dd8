//! Portable backups: the sealed files of one snapshot, with keys of their own, in a directory or object store.
#![forbid(unsafe_code)]
