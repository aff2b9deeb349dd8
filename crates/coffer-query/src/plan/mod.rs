//! From syntax trees to plans: everything that can be decided before values are known.

// (DML engineer: put yours back when they compile: batch, display, modification, restrictions,
// select, selectable, term, types)
pub(crate) mod schema_change;
pub(crate) mod type_name;
