//! Black-box tests of Coffer: a server harness, a plain blocking client, and scripts of CQL with the
//! answers they must get. For whoever writes a test or compares Coffer with another server.
#![forbid(unsafe_code)]

pub mod backup;
mod boto;
mod client;
pub mod dump;
pub mod files;
pub mod key_loss;
mod key_script;
pub mod key_status;
mod kms_service;
pub mod poll;
mod proxy;
pub mod python;
mod python_driver;
pub mod random;
mod script;
mod server;
mod sinks;

/// Any failure ends a test with its text.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub use boto::{Boto, Refused};
pub use client::{Client, exchange};
pub use key_script::{KeyScript, WITH_OWNED_KEY, free_address, with_key};
pub use kms_service::{KmsService, ProxiedKms, SERVICE_ACCOUNT, SERVICE_REGION};
pub use proxy::{Call, Proxy, Wire};
pub use python_driver::{DriverDump, PythonDriver};
pub use script::{Script, Transcript, run_script};
pub use server::{Server, ServerBuilder, build, executable, run_coffer};
pub use sinks::Sinks;
