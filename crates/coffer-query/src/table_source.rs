//! Where the rows of a table come from: the engine, or a computation (system tables).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::database::{Database, Session};
use crate::error::Result;

/// Where SELECT finds the rows of a table.
#[derive(Debug, Clone)]
pub enum TableSource {
    /// In the engine, by table id.
    Stored,
    /// Computed at each SELECT; writes to such a table are refused.
    Virtual(Arc<dyn VirtualTable>),
}

/// The serialized values of one row in the order of `TableSchema::columns`; `None` is null.
pub type VirtualRow = Vec<Option<Bytes>>;

/// A table whose rows are computed. WHERE, projection, functions, aggregates, ORDER BY and paging
/// are done by the SELECT plan; the table gives all of its rows. The plan sorts them by token and
/// clustering key, so the order does not matter.
pub trait VirtualTable: fmt::Debug + Send + Sync {
    /// All rows as they are now.
    ///
    /// # Errors
    /// Whatever stands against computing them.
    fn rows(&self, database: &Database, session: &Session) -> Result<Vec<VirtualRow>>;
}
