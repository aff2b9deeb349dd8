//! What can end an execution early: an error, or something the server has to wait for.

use std::sync::Arc;

use coffer_model::TableId;

use crate::database::Step;
use crate::error::Error;

/// Why an execution stopped.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// The client gets an error.
    Error(Error),
    /// The table has to be opened first.
    NeedsTable(TableId),
    /// The KMS has to be asked whether this principal may use the table's key.
    NeedsAuthorization(TableId, Arc<str>),
    /// The engine has no room.
    NoRoom,
}

impl Interrupt {
    /// The step that the server takes, or the error.
    pub(crate) fn into_step(self) -> Result<Step, Error> {
        match self {
            Interrupt::Error(error) => Err(error),
            Interrupt::NeedsTable(table) => Ok(Step::NeedsTable(table)),
            Interrupt::NeedsAuthorization(table, principal) => {
                Ok(Step::NeedsAuthorization { table, principal })
            }
            Interrupt::NoRoom => Ok(Step::WaitForRoom),
        }
    }
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Interrupt {
        Interrupt::Error(error)
    }
}

impl From<coffer_storage::Error> for Interrupt {
    fn from(error: coffer_storage::Error) -> Interrupt {
        use coffer_storage::Error as Storage;
        match error {
            Storage::TableNotOpen(table) => Interrupt::NeedsTable(table),
            Storage::KeyUnavailable(key) => Interrupt::NeedsTable(TableId(key.table)),
            Storage::Overloaded(_) => Interrupt::NoRoom,
            other => Interrupt::Error(storage_error(&other)),
        }
    }
}

/// An engine error as the client sees it.
pub(crate) fn storage_error(error: &coffer_storage::Error) -> Error {
    use coffer_storage::Error as Storage;
    let text = error.to_string();
    match error {
        Storage::NoSuchTable(_) | Storage::TooLarge { .. } => Error::Invalid(text),
        Storage::Overloaded(_) => Error::Overloaded(text),
        Storage::Poisoned(_) | Storage::ShutDown => Error::WriteFailure(text),
        Storage::Tampered { .. }
        | Storage::WrongKey { .. }
        | Storage::Corrupt(_)
        | Storage::CorruptFile { .. }
        | Storage::Io { .. } => Error::ReadFailure(text),
        _ => Error::Server(text),
    }
}
