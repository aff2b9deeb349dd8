//! Requests that run statements: what to execute, owned, so that it can be executed again after a
//! wait.

use std::sync::Arc;

use bytes::Bytes;
use coffer_query::{BatchItem, BatchKind, BatchRequest, Database, Error, Prepared, Session, Step};
use cql_protocol::{
    Batch, BoundValue, Consistency, ErrorBody, ErrorDetail, Execute, Query, QueryParameters,
    Statement, Text, Values,
};

use crate::error_response;
use crate::prepared_cache::CachedStatement;
use crate::server::Server;

/// How often a text is planned again because the schema changed in between.
const PLANS_MAX: usize = 3;

/// Bind values and the rest of the query parameters.
#[derive(Debug)]
pub(crate) struct Parameters {
    values: Vec<BoundValue>,
    names: Option<Vec<String>>,
    page_size: Option<i32>,
    paging_state: Option<Bytes>,
    default_timestamp: Option<i64>,
    consistency: Consistency,
}

impl From<QueryParameters> for Parameters {
    fn from(parameters: QueryParameters) -> Self {
        let (values, names) = match parameters.values {
            Values::Positional(values) => (values, None),
            Values::Named(named) => {
                let (names, values) =
                    named.into_iter().map(|(name, value)| (name.to_string(), value)).unzip();
                (values, Some(names))
            }
        };
        Self {
            values,
            names,
            page_size: parameters.page_size,
            paging_state: parameters.paging_state,
            default_timestamp: parameters.default_timestamp,
            consistency: parameters.consistency,
        }
    }
}

impl Parameters {
    fn borrow(&self) -> coffer_query::QueryParameters<'_> {
        coffer_query::QueryParameters {
            values: &self.values,
            names: self.names.as_deref(),
            page_size: self.page_size,
            paging_state: self.paging_state.as_deref(),
            default_timestamp: self.default_timestamp,
            consistency: self.consistency.code(),
        }
    }
}

/// Something to execute.
#[derive(Debug)]
pub(crate) enum Work {
    /// One statement; `text` when the client sent it as text.
    One { prepared: Arc<Prepared>, text: Option<Text>, parameters: Parameters },
    /// A batch; `texts` beside the items that came as text.
    Batch {
        kind: BatchKind,
        items: Vec<BatchItem>,
        texts: Vec<Option<Text>>,
        default_timestamp: Option<i64>,
        consistency: Consistency,
    },
}

impl Work {
    /// A statement sent as text.
    pub(crate) fn query(
        server: &Server,
        session: &Session,
        query: Query,
    ) -> Result<Self, ErrorBody> {
        let consistency = query.parameters.consistency;
        let prepared = prepare(server, session, &query.statement)
            .map_err(|error| error_response::of_query(error, consistency))?;
        Ok(Self::One { prepared, text: Some(query.statement), parameters: query.parameters.into() })
    }

    /// A prepared statement.
    pub(crate) fn execute_prepared(statement: &CachedStatement, execute: Execute) -> Self {
        Self::One {
            prepared: Arc::clone(&statement.prepared),
            text: None,
            parameters: execute.parameters.into(),
        }
    }

    /// A batch.
    pub(crate) fn batch(
        server: &Server,
        session: &Session,
        batch: Batch,
    ) -> Result<Self, ErrorBody> {
        let mut items = Vec::with_capacity(batch.statements.len());
        let mut texts = Vec::with_capacity(batch.statements.len());
        for statement in batch.statements {
            let (prepared, text) = match statement.statement {
                Statement::Text(text) => {
                    let prepared = prepare(server, session, &text)
                        .map_err(|error| error_response::of_query(error, batch.consistency))?;
                    (prepared, Some(text))
                }
                Statement::Prepared(id) => {
                    let statement = server.prepared.find(&id).ok_or_else(|| unprepared(id))?;
                    (Arc::clone(&statement.prepared), None)
                }
            };
            let values = match statement.values {
                Values::Positional(values) => values,
                Values::Named(named) => named.into_iter().map(|(_, value)| value).collect(),
            };
            items.push(BatchItem { prepared, values });
            texts.push(text);
        }
        let kind = match batch.kind {
            cql_protocol::BatchKind::Logged => BatchKind::Logged,
            cql_protocol::BatchKind::Unlogged => BatchKind::Unlogged,
            cql_protocol::BatchKind::Counter => BatchKind::Counter,
        };
        Ok(Self::Batch {
            kind,
            items,
            texts,
            default_timestamp: batch.default_timestamp,
            consistency: batch.consistency,
        })
    }

    /// A bounded piece of work. What came as text is planned again when the schema has changed
    /// since; what the client prepared is the client's to prepare again.
    pub(crate) fn execute(
        &mut self,
        server: &Server,
        session: &mut Session,
    ) -> Result<Step, Error> {
        for _ in 1..PLANS_MAX {
            match self.execute_once(&server.database, session) {
                Err(Error::Unprepared(id)) if self.plan_again(server, session, id)? => {}
                result => return result,
            }
        }
        self.execute_once(&server.database, session)
    }

    fn execute_once(&self, database: &Database, session: &mut Session) -> Result<Step, Error> {
        match self {
            Self::One { prepared, parameters, .. } => {
                database.execute(prepared, &parameters.borrow(), session)
            }
            Self::Batch { kind, items, default_timestamp, consistency, .. } => database
                .execute_batch(&BatchRequest {
                    kind: *kind,
                    items,
                    default_timestamp: *default_timestamp,
                    consistency: consistency.code(),
                    role: session.role.as_deref(),
                }),
        }
    }

    /// False when the stale statement is one that the client prepared: it leaves the cache.
    fn plan_again(
        &mut self,
        server: &Server,
        session: &Session,
        id: [u8; 16],
    ) -> Result<bool, Error> {
        let mut is_planned = false;
        match self {
            Self::One { prepared, text: Some(text), .. } => {
                *prepared = prepare(server, session, text)?;
                is_planned = true;
            }
            Self::One { text: None, .. } => {}
            Self::Batch { items, texts, .. } => {
                for (item, text) in items.iter_mut().zip(texts) {
                    if let Some(text) = text
                        && item.prepared.id == id
                    {
                        item.prepared = prepare(server, session, text)?;
                        is_planned = true;
                    }
                }
            }
        }
        if !is_planned {
            server.prepared.remove(&id);
        }
        Ok(is_planned)
    }
}

/// Plans a text within the length limit.
pub(crate) fn prepare(
    server: &Server,
    session: &Session,
    text: &Text,
) -> Result<Arc<Prepared>, Error> {
    let maximum = server.limits.statement_bytes_max;
    if text.len() > maximum {
        return Err(Error::Invalid(format!(
            "statement of {} bytes exceeds the maximum of {maximum} bytes \
             (option statement_bytes_max)",
            text.len()
        )));
    }
    server.database.parse_and_prepare(text, session)
}

/// The answer to an id that is not in the cache.
pub(crate) fn unprepared(id: Bytes) -> ErrorBody {
    let message = format!(
        "Prepared query with ID {} not found (either the query was not prepared on this host \
         (maybe the host has been restarted?) or you have prepared too many queries and it has \
         been evicted from the internal cache)",
        hex::encode(&id)
    );
    ErrorBody::new(ErrorDetail::Unprepared { id }, message)
}
