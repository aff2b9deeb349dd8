//! A KMS: keys with states, policies, grants, rotation, an audit trail, and its HTTP endpoint.
#![forbid(unsafe_code)]
