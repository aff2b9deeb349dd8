//! Tests of the embedded KMS.
