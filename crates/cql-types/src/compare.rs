//! placeholder
use crate::CqlType;
/// Compares.
pub fn compare(_ty: &CqlType, _left: &[u8], _right: &[u8]) -> std::cmp::Ordering {
    todo!()
}
