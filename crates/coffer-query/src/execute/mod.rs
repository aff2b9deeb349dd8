//! Prepared statements with their values, against the engine.

pub(crate) mod batch;
pub(crate) mod interrupt;
pub(crate) mod key_change;
pub(crate) mod keys;
mod limits;
pub(crate) mod read;
pub(crate) mod restore;
mod retention;
pub(crate) mod row_view;
pub(crate) mod schema_change;
pub(crate) mod stream;
pub(crate) mod write;

pub use read::SelectExecution;

use crate::bind::{self, Evaluation};
use crate::database::{Database, QueryParameters, Session, Step};
use crate::error::{Error, Result};
use crate::prepare::{Plan, Prepared};
use interrupt::Interrupt;
use schema_change::SchemaChangePlan;

const ANY: u16 = 0x0000;
const SERIAL: u16 = 0x0008;
const LOCAL_SERIAL: u16 = 0x0009;

/// Executes a statement: at most a bounded piece of work.
pub(crate) fn execute(
    database: &Database,
    prepared: &Prepared,
    parameters: &QueryParameters<'_>,
    session: &mut Session,
) -> Result<Step> {
    check_current(database, prepared)?;
    if let Err(interrupt) = check_authorized(database, prepared, session.role.as_deref()) {
        return interrupt.into_step();
    }
    let values = bind::arrange(&prepared.bind, parameters)?;
    let evaluation = Evaluation { database, values: &values };
    let step = match &prepared.plan {
        Plan::Select(plan) => {
            if parameters.consistency == ANY {
                return Err(Error::invalid("ANY ConsistencyLevel is only supported for writes"));
            }
            read::execute_select(database, plan, &values, parameters, session)
        }
        Plan::Modification(plan) => {
            check_write_consistency(parameters.consistency)?;
            write::execute_modification(plan, &evaluation, parameters)
        }
        Plan::Batch(plan) => {
            check_write_consistency(parameters.consistency)?;
            batch::execute_batch_statement(plan, &evaluation, parameters)
        }
        Plan::Use(keyspace) => {
            return schema_change::use_keyspace(database, keyspace, session).map(Step::Done);
        }
        Plan::Describe(describe) => {
            return crate::describe::describe(database, describe, parameters, session)
                .map(Step::Done);
        }
        Plan::SchemaChange(statement, text) => {
            let plan = SchemaChangePlan::new(statement, text, session)?;
            return Ok(Step::SchemaChange(Box::new(plan)));
        }
    };
    step.or_else(Interrupt::into_step)
}

/// Writes at a serial level would be conditional ones.
fn check_write_consistency(consistency: u16) -> Result<()> {
    if matches!(consistency, SERIAL | LOCAL_SERIAL) {
        return Err(Error::invalid("You must use conditional updates for serializable writes"));
    }
    Ok(())
}

/// Whether the client's role may use the keys of the tables, where it stands for a principal of the
/// KMS.
fn check_authorized(
    database: &Database,
    prepared: &Prepared,
    role: Option<&str>,
) -> Result<(), Interrupt> {
    let principals = &database.options().encryption.role_principals;
    if principals.is_empty() {
        return Ok(());
    }
    let Some(principal) = role.and_then(|role| principals.get(role)) else { return Ok(()) };
    let catalog = database.engine().catalog();
    for table in prepared.tables() {
        let id = table.schema.id;
        if let Some(entry) = catalog.tables.get(&id)
            && !database.keyring().is_authorized(&id.0, &entry.key, principal)
        {
            return Err(Interrupt::NeedsAuthorization(id, principal.as_str().into()));
        }
    }
    Ok(())
}

/// Whether all tables of the plan are still as they were when it was made.
fn check_current(database: &Database, prepared: &Prepared) -> Result<()> {
    if prepared.tables().all(|table| database.is_current(table)) {
        Ok(())
    } else {
        Err(Error::Unprepared(prepared.id))
    }
}

#[cfg(test)]
mod tests;
