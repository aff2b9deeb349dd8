//! The data model: schema, token, keys, rows, tombstones, mutations, and the rule that merges them.
//!
//! Rows are type-agnostic bytes ([`row`]): the storage engine merges, shadows and purges them
//! without the schema. Column names never appear in them, only [`ColumnId`]s.
#![forbid(unsafe_code)]

pub mod entry_key;
mod error;
mod id;
pub mod mutation;
pub mod ordered_bytes;
pub mod partition_key;
pub mod reconcile;
pub mod row;
pub mod row_builder;
pub mod schema;
#[cfg(test)]
mod test_random;
mod token;
pub mod tombstone;
mod type_text;
pub mod varint;

pub use cql_types::{CqlType, UserType};
pub use entry_key::{EntryKey, EntryKind};
pub use error::Error;
pub use id::{ColumnId, TableId, WriteTimestamp};
pub use mutation::{Mutation, MutationBuilder, MutationEntry};
pub use row::{CellContent, CellRef, Expiry, Liveness, RowRef};
pub use row_builder::RowBuilder;
pub use schema::{Column, ColumnKind, KeyspaceSchema, TableOptions, TableSchema};
pub use token::Token;
pub use tombstone::{DeletionTime, PartitionTombstones, RangeTombstone};
pub use type_text::parse_type;
