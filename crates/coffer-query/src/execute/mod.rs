//! Prepared statements with their values, against the engine.

pub(crate) mod batch;
pub(crate) mod schema_change;

use crate::database::{Database, Outcome, QueryParameters, Session, Step};
use crate::error::Result;
use crate::prepare::Prepared;

/// A read that is too big to be answered at once.
#[derive(Debug)]
pub struct SelectExecution {}

impl SelectExecution {
    /// Reads on for about `rows` rows. `None` while there is more to read.
    ///
    /// # Errors
    /// As [`Database::execute`].
    pub fn step(&mut self, _database: &Database, _rows: usize) -> Result<Option<Outcome>> {
        todo!()
    }
}

pub(crate) fn execute(
    _database: &Database,
    _prepared: &Prepared,
    _parameters: &QueryParameters<'_>,
    _session: &mut Session,
) -> Result<Step> {
    todo!()
}
