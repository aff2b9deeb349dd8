//! CQL's type system: types, values, their wire encoding, and how two values compare.
