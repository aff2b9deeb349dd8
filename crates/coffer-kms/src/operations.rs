//! The operations of the API: check, find the key, authorise, look at its state, do it.

mod aliases;
mod cryptography;
mod grants;
mod import;
mod keys;
mod policies;
mod rotation;
mod tags;

pub(crate) use import::forget;
pub(crate) use keys::{by_creation, metadata};
pub(crate) use policies::default_key_policy;
pub(crate) use rotation::rotate_due;

use crate::{KmsException, api::ApiRequest, call::Call};

/// What an operation does.
pub(crate) trait Perform: ApiRequest {
    /// Does it.
    ///
    /// # Errors
    /// The exceptions of AWS.
    fn perform(&self, call: &mut Call<'_>) -> Result<Self::Response, KmsException>;
}

/// Seconds since 1970, as dates stand in answers.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 2^53")]
pub(crate) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
