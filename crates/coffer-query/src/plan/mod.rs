//! From syntax trees to plans: everything that can be decided before values are known.

pub(crate) mod batch;
pub(crate) mod column_name;
pub(crate) mod display;
pub(crate) mod modification;
pub(crate) mod restrictions;
pub(crate) mod schema_change;
pub(crate) mod select;
pub(crate) mod selectable;
pub(crate) mod term;
pub(crate) mod type_name;
