//! Batches.

use crate::database::{BatchRequest, Database, Step};
use crate::error::Result;

pub(crate) fn execute_batch(_database: &Database, _request: &BatchRequest<'_>) -> Result<Step> {
    todo!()
}
