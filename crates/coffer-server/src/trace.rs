//! Requests that ask to be traced: recorded in `system_traces` when their answer is made.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use coffer_query::{TraceEvent, TraceSession};
use cql_protocol::Request;
use uuid::Uuid;

use crate::server::Server;

/// A traced request. Dropping it, which happens when its answer is encoded, records it: a client
/// that has the answer finds the session.
pub(crate) struct Trace {
    pub(crate) id: Uuid,
    server: Arc<Server>,
    client: IpAddr,
    command: &'static str,
    request: &'static str,
    parameters: BTreeMap<String, String>,
    started_at_micros: i64,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trace").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Trace {
    /// Begins now.
    pub(crate) fn begin(
        server: &Arc<Server>,
        client: Option<SocketAddr>,
        request: &Request,
    ) -> Self {
        let (command, words, consistency) = match request {
            Request::Execute(execute) => {
                ("EXECUTE", "Execute CQL3 prepared query", execute.parameters.consistency)
            }
            Request::Batch(batch) => ("BATCH", "Execute batch of CQL3 queries", batch.consistency),
            Request::Query(query) => ("QUERY", "Execute CQL3 query", query.parameters.consistency),
            _ => ("QUERY", "Execute CQL3 query", cql_protocol::Consistency::One),
        };
        let started_at_micros = server.database.clock().now_micros();
        Self {
            id: server.trace_ids.next(started_at_micros),
            server: Arc::clone(server),
            client: client.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |client| client.ip()),
            command,
            request: words,
            parameters: BTreeMap::from([("consistency_level".to_owned(), consistency.to_string())]),
            started_at_micros,
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let now_micros = self.server.database.clock().now_micros();
        let elapsed = now_micros.saturating_sub(self.started_at_micros);
        let elapsed_micros = u64::try_from(elapsed).unwrap_or(0);
        let event = |activity: &str, micros: i64, source_elapsed_micros| TraceEvent {
            id: self.server.trace_ids.next(micros),
            activity: activity.to_owned(),
            source_elapsed_micros,
        };
        self.server.database.traces().record(TraceSession {
            id: self.id,
            client: self.client,
            command: self.command,
            request: self.request.to_owned(),
            parameters: std::mem::take(&mut self.parameters),
            started_at_millis: self.started_at_micros / 1000,
            duration_micros: elapsed_micros,
            events: vec![
                event("Request received", self.started_at_micros, 0),
                event("Answer encoded", now_micros, elapsed_micros),
            ],
        });
    }
}
