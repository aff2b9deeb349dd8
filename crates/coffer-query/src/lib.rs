//! From syntax tree to rows: catalog, planning, execution, system tables.
