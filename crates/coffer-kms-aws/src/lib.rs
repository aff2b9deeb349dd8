//! The KMS provider that calls AWS KMS, or whatever speaks its API.
//!
//! All traffic runs on one thread of its own ([`KmsThread`]): the SDK copies plaintext keys through
//! buffers it does not wipe, so the program's allocator wipes whatever that thread frees.
#![forbid(unsafe_code)]

mod answer;
mod clients;
mod options;
mod provider;
mod thread;

pub use options::{AwsKmsOptions, OptionsError};
pub use provider::AwsKms;
pub use thread::KmsThread;
