//! First use of a table: its key from the KMS, then its rows from the log; once, however many
//! requests wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coffer_model::TableId;
use coffer_query::{Database, Error};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::runtime::Handle;

type Opening = Shared<BoxFuture<'static, Result<(), Error>>>;

/// Tables being opened now.
#[derive(Default)]
pub(crate) struct TableOpenings {
    openings: Arc<Mutex<HashMap<TableId, Opening>>>,
}

impl TableOpenings {
    /// Opens a table, or waits for whoever is opening it.
    ///
    /// # Errors
    /// The opening's; [`Error::Overloaded`] when it takes longer than `timeout` (it goes on).
    pub(crate) async fn open(
        &self,
        database: &Arc<Database>,
        table: TableId,
        timeout: Duration,
    ) -> Result<(), Error> {
        let opening = {
            let mut openings = self.openings.lock();
            let start = || self.start(Arc::clone(database), table);
            openings.entry(table).or_insert_with(start).clone()
        };
        match tokio::time::timeout(timeout, opening).await {
            Ok(result) => result,
            Err(_) => Err(still_opening(database, table)),
        }
    }

    /// Runs as a task of its own: it ends even if every client that waits for it goes away.
    fn start(&self, database: Arc<Database>, table: TableId) -> Opening {
        let openings = Arc::clone(&self.openings);
        let task = tokio::spawn(async move {
            let result = open(database, table).await;
            openings.lock().remove(&table);
            result
        });
        let opening = async move {
            task.await.unwrap_or_else(|_| Err(Error::Server("opening a table panicked".to_owned())))
        };
        opening.boxed().shared()
    }
}

/// What a client is told that has waited long enough.
fn still_opening(database: &Database, table: TableId) -> Error {
    let catalog = database.engine().catalog();
    let Some(entry) = catalog.tables.get(&table) else {
        return Error::Overloaded("the table was dropped meanwhile".to_owned());
    };
    let name = format!("{}.{}", entry.schema.keyspace, entry.schema.name);
    match &entry.key.kms_key_arn {
        Some(arn) if !database.keyring().is_usable(&table.0) => Error::KeyUnreachable(format!(
            "KMS unavailable error: {arn}: no answer yet (table {name}); try again"
        )),
        _ => Error::Overloaded(format!(
            "table {name} is still being opened (its rows in the log); try again"
        )),
    }
}

async fn open(database: Arc<Database>, table: TableId) -> Result<(), Error> {
    database.load_table_key(table).await?;
    let opening = Handle::current().spawn_blocking(move || database.open_table(table));
    opening.await.unwrap_or_else(|_| Err(Error::Server("opening a table panicked".to_owned())))
}
