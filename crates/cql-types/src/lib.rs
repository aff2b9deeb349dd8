//! CQL's type system: types, values, their wire encoding, and how two values compare.
//!
//! Values are passed around as the bytes of native protocol v4. [`CqlValue`] is the decoded form,
//! for literals, functions and formatting.
#![forbid(unsafe_code)]

mod bound_value;
pub mod collection;
mod compare;
mod cql_type;
mod error;
mod validate;

pub use bound_value::BoundValue;
pub use compare::compare;
pub use cql_type::{CqlType, UserType};
pub use error::TypeError;
pub use validate::validate;
