//! A KMS: keys with states, policies, grants, rotation, an audit trail, and its HTTP endpoint.
//!
//! [`Kms`] is the KMS of one data directory. It speaks the AWS KMS API: its operations, JSON shapes,
//! exceptions and texts are those of that service; [`api`] holds the shapes.
#![forbid(unsafe_code)]

pub mod api;
pub mod audit;
mod error;
pub mod policy;
mod principal;
pub mod sigv4;

pub use error::{KmsException, OpenError};
pub use principal::{CONTROL_ROLE, CallSource, Caller, DATA_ROLE, Principal, TlsDetails};
