//! From a decoded request to its answer: the one place where async meets blocking. What the query
//! layer can answer at once is answered by the caller; everything else becomes a future here.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use coffer_model::TableId;
use coffer_query::{Error, Outcome, OutcomeKind, SchemaChangePlan, Session, Step};
use coffer_storage::Lsn;
use cql_protocol::Event;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::schema_change;
use crate::server::{PageClaim, Server};
use crate::statement::Work;

/// How often one request may find its table closed (the key was revoked in between) before it
/// gives up.
const OPENINGS_MAX: usize = 4;

/// An answer, or the point in the log it has to wait for.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    /// To be waited for before the answer goes out.
    pub(crate) commit: Option<Lsn>,
    /// Held until the answer is encoded, so that pages do not pile up in memory.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    /// Held until the client has taken the answer.
    pub(crate) claim: Option<PageClaim>,
}

/// Follows a step that cannot be answered at once to its end.
///
/// # Errors
/// The statement's; [`Error::Overloaded`] at a deadline.
pub(crate) async fn finish(
    server: Arc<Server>,
    mut session: Session,
    scans: Arc<Semaphore>,
    mut work: Work,
    mut step: Step,
) -> Result<Finished, Error> {
    let mut openings = 0;
    loop {
        step = match step {
            Step::Done(outcome) => {
                return Ok(Finished { outcome, commit: None, permit: None, claim: None });
            }
            Step::Commit { lsn, outcome } => {
                return Ok(Finished { outcome, commit: Some(lsn), permit: None, claim: None });
            }
            Step::Continue(execution) => {
                let permit = scans.acquire_owned().await.ok();
                let mut claim = server.page_memory.claim(execution.result_bytes_max()).await?;
                let outcome = server.scan_lane.read(execution).await?;
                claim.shrink(match &outcome.kind {
                    OutcomeKind::Rows(rows) => rows.content.len(),
                    _ => 0,
                });
                return Ok(Finished { outcome, commit: None, permit, claim: Some(claim) });
            }
            Step::SchemaChange(plan) => {
                let outcome = change_schema(&server, plan).await?;
                return Ok(Finished { outcome, commit: None, permit: None, claim: None });
            }
            Step::NeedsTable(table) => {
                openings += 1;
                check_openings(openings, &server, table)?;
                let timeout = Duration::from_millis(server.limits.table_timeout_millis);
                server.openings.open(&server.database, table, timeout).await?;
                work.execute(&server, &mut session)?
            }
            Step::NeedsAuthorization { table, principal } => {
                openings += 1;
                check_openings(openings, &server, table)?;
                server.database.authorize(table, &principal).await?;
                work.execute(&server, &mut session)?
            }
            Step::WaitForRoom => {
                let timeout = Duration::from_millis(server.limits.room_timeout_millis);
                let waiting = wait_for_room(&server, &mut session, &mut work);
                match tokio::time::timeout(timeout, waiting).await {
                    Ok(step) => step?,
                    Err(_) => {
                        return Err(Error::Overloaded(
                            "no room in memory for the write (option memtable_total_bytes), \
                             try again later"
                                .to_owned(),
                        ));
                    }
                }
            }
        };
    }
}

/// # Errors
/// [`Error::Overloaded`] when a request found its table closed too often.
fn check_openings(openings: usize, server: &Server, table: TableId) -> Result<(), Error> {
    if openings <= OPENINGS_MAX {
        return Ok(());
    }
    let catalog = server.database.engine().catalog();
    let (name, arn) = match catalog.tables.get(&table) {
        Some(entry) => (
            format!("{}.{}", entry.schema.keyspace, entry.schema.name),
            entry.key.kms_key_arn.clone().unwrap_or_else(|| "AWS_OWNED_KMS_KEY".to_owned()),
        ),
        None => (table.to_string(), String::new()),
    };
    Err(Error::Overloaded(format!(
        "the key of table {name} does not stay at hand ({arn}), try again later"
    )))
}

/// Executes again each time there may be room, until there is.
async fn wait_for_room(
    server: &Server,
    session: &mut Session,
    work: &mut Work,
) -> Result<Step, Error> {
    loop {
        let mut is_registered = false;
        poll_fn(|context| {
            // the first poll registers; the second one is the wake-up
            if is_registered || server.database.engine().wake_when_room(context.waker()) {
                return Poll::Ready(());
            }
            is_registered = true;
            Poll::Pending
        })
        .await;
        match work.execute(server, session)? {
            // others were faster; also gives the connection its turn when room is claimed
            // without being there
            Step::WaitForRoom => tokio::task::yield_now().await,
            step => return Ok(step),
        }
    }
}

/// Schema changes write the catalog and may wait for the KMS: they run where blocking is allowed,
/// and to their end, even if the client goes away.
async fn change_schema(
    server: &Arc<Server>,
    plan: Box<SchemaChangePlan>,
) -> Result<Outcome, Error> {
    let server = Arc::clone(server);
    let runtime = Handle::current();
    let change = Handle::current().spawn_blocking(move || {
        let outcome = runtime.block_on(server.database.execute_schema_change(*plan));
        if let Ok(Outcome { kind: OutcomeKind::SchemaChange(change), .. }) = &outcome
            && let Some(change) = schema_change(change)
        {
            server.events.publish(Event::SchemaChange(change));
        }
        outcome
    });
    change.await.unwrap_or_else(|_| Err(Error::Server("a schema change panicked".to_owned())))
}
