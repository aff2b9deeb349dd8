//! placeholder
use crate::{CqlType, TypeError};
/// Validates.
pub fn validate(_ty: &CqlType, _bytes: &[u8]) -> Result<(), TypeError> {
    todo!()
}
