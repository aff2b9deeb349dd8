//! The data model: schema, token, keys, rows, tombstones, mutations, and the rule that merges them.
