//! The KMS provider that calls AWS KMS, or whatever speaks its API.
#![forbid(unsafe_code)]
