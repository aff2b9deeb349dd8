//! Randomness of the operating system.

use crate::{Error, Result};

/// Fills `bytes` with randomness of the operating system.
///
/// # Errors
/// [`Error::Randomness`] when the operating system gives none.
pub fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| Error::Randomness)
}

/// `N` random bytes, for identifiers and nonces; keys have their own constructors.
///
/// # Errors
/// [`Error::Randomness`] when the operating system gives none.
pub fn random_array<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}
