//! `system_traces`: what was recorded of requests that asked to be traced. In memory only, the
//! newest [`SESSIONS_MAX`]; the text of a statement is never written to disk here.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use parking_lot::Mutex;
use uuid::Uuid;

use super::cells::{count, inet, int, text, text_map, timestamp, uuid};
use super::definition::{C, P, R, SystemTable, Type};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::table_source::VirtualRow;

/// Sessions kept; the oldest go first.
const SESSIONS_MAX: usize = 1000;

/// One traced request.
#[derive(Debug, Clone)]
pub struct TraceSession {
    /// Given to the client as tracing id; version 1, because drivers sort by its time.
    pub id: Uuid,
    /// Address of the client.
    pub client: IpAddr,
    /// `QUERY`, `EXECUTE`, `BATCH` or `PREPARE`.
    pub command: &'static str,
    /// What was asked in words, for example `Execute CQL3 query`.
    pub request: String,
    /// Parameters, for example `consistency_level`.
    pub parameters: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub started_at_millis: i64,
    /// Microseconds until the answer.
    pub duration_micros: u64,
    /// Steps in order.
    pub events: Vec<TraceEvent>,
}

/// One step of a traced request.
#[derive(Debug, Clone)]
pub struct TraceEvent {
    /// Version 1.
    pub id: Uuid,
    /// What was done.
    pub activity: String,
    /// Microseconds since the request began.
    pub source_elapsed_micros: u64,
}

/// Traced requests, the newest last.
#[derive(Debug, Default)]
pub struct Traces {
    sessions: Mutex<VecDeque<TraceSession>>,
}

impl Traces {
    /// Keeps a session, and forgets the oldest when there are too many.
    pub fn record(&self, session: TraceSession) {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(session);
    }
}

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![
        SystemTable {
            name: "sessions",
            comment: "tracing sessions",
            columns: &[
                ("session_id", P, Type::Uuid),
                ("client", R, Type::Inet),
                ("command", R, Type::Text),
                ("coordinator", R, Type::Inet),
                ("coordinator_port", R, Type::Int),
                ("duration", R, Type::Int),
                ("parameters", R, Type::MapTextText),
                ("request", R, Type::Text),
                ("started_at", R, Type::Timestamp),
            ],
            rows: session_rows,
        },
        SystemTable {
            name: "events",
            comment: "tracing events",
            columns: &[
                ("session_id", P, Type::Uuid),
                ("event_id", C, Type::TimeUuid),
                ("activity", R, Type::Text),
                ("source", R, Type::Inet),
                ("source_elapsed", R, Type::Int),
                ("source_port", R, Type::Int),
                ("thread", R, Type::Text),
            ],
            rows: event_rows,
        },
    ]
}

fn session_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let listen = database.options().listen;
    let sessions = database.traces().sessions.lock();
    Ok(sessions
        .iter()
        .map(|session| {
            vec![
                uuid(session.id),
                inet(session.client),
                text(session.command),
                inet(listen.ip()),
                int(i32::from(listen.port())),
                count(session.duration_micros),
                text_map(&session.parameters),
                text(&session.request),
                timestamp(session.started_at_millis),
            ]
        })
        .collect())
}

fn event_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let listen = database.options().listen;
    let sessions = database.traces().sessions.lock();
    let mut rows = Vec::new();
    for session in sessions.iter() {
        for event in &session.events {
            rows.push(vec![
                uuid(session.id),
                uuid(event.id),
                text(&event.activity),
                inet(listen.ip()),
                count(event.source_elapsed_micros),
                int(i32::from(listen.port())),
                text("coffer"),
            ]);
        }
    }
    Ok(rows)
}
