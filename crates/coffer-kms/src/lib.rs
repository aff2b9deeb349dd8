//! A KMS: keys with states, policies, grants, rotation, an audit trail, and its HTTP endpoint.
//!
//! [`Kms`] is the KMS of one data directory. It speaks the AWS KMS API: its operations, JSON shapes,
//! exceptions and texts are those of that service; [`api`] holds the shapes. Whatever is asked goes
//! through one door ([`Kms::call`], [`Kms::perform`]), which authorises and performs it.
#![forbid(unsafe_code)]

pub mod api;
pub mod audit;
mod authorize;
mod blob;
mod call;
mod dispatch;
mod due;
mod durable;
mod error;
mod grant_token;
pub mod http;
mod kms;
mod operations;
mod paging;
pub mod policy;
mod principal;
mod root_key_file;
pub mod sigv4;
mod state;
mod store;
mod users;
mod validation;
mod wiped;

pub use error::{KmsException, OpenError};
pub use kms::{Kms, KmsOptions};
pub use principal::{CONTROL_ROLE, CallSource, Caller, DATA_ROLE, Principal, TlsDetails};
pub use root_key_file::{create_root_key, load_root_key};
pub use users::{Credentials, UserDescription};
