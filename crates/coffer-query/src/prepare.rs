//! From a text to a plan.

use std::sync::Arc;

use crate::database::{Database, Session};
use crate::error::Result;
use crate::metadata::{BindMetadata, ResultMetadata};

/// A parsed, checked and planned statement.
#[derive(Debug)]
pub struct Prepared {
    /// MD5 of keyspace and text, as Cassandra.
    pub id: [u8; 16],
    /// Bind markers.
    pub bind: BindMetadata,
    /// Result columns; `None` when the statement returns no rows.
    pub result: Option<Arc<ResultMetadata>>,
}

pub(crate) fn parse_and_prepare(
    _database: &Database,
    _cql: &str,
    _session: &Session,
) -> Result<Arc<Prepared>> {
    todo!()
}
