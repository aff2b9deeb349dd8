//! CQL's type system: types, values, their wire encoding, and how two values compare.
//!
//! Values are passed around as the bytes of native protocol v4. [`CqlValue`] is the decoded form,
//! for literals, functions and formatting.
#![forbid(unsafe_code)]

pub mod big_integer;
mod bound_value;
pub mod collection;
mod compare;
mod cql_type;
mod decimal;
mod duration;
mod error;
mod literal;
pub mod text;
pub mod time;
pub mod timeuuid;
pub mod uuid_order;
mod validate;
mod value;
pub mod vector;
pub mod vint;

pub use bound_value::BoundValue;
pub use collection::CollectionWriter;
pub use compare::{compare, double_order, float_order};
pub use cql_type::{CqlType, UserType};
pub use decimal::{Decimal, DecimalDigits};
pub use duration::Duration;
pub use error::TypeError;
pub use literal::{format_double, format_float, to_literal, to_text};
pub use num_bigint::BigInt;
pub use text::from_text;
pub use uuid::Uuid;
pub use validate::validate;
pub use value::{CqlValue, encode_map, encode_set};
