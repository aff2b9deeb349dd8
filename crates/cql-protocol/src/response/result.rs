//! Kinds of RESULT.

pub(super) const VOID: i32 = 1;
pub(super) const ROWS: i32 = 2;
pub(super) const SET_KEYSPACE: i32 = 3;
pub(super) const PREPARED: i32 = 4;
pub(super) const SCHEMA_CHANGE: i32 = 5;
