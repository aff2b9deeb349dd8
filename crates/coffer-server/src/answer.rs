//! Outcomes and errors to response frames.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use coffer_query::{Outcome, OutcomeKind, Rows, SchemaChangeEvent};
use cql_protocol::{
    ChangeKind, ChangeTarget, Compression, Consistency, Envelope, ErrorBody, ErrorDetail, Response,
    RowsMetadata, SchemaChange, encode_response,
};

use crate::metrics::RequestKind;
use crate::prepared_cache::{CachedStatement, encode_columns};
use crate::trace::Trace;

/// What the answer to a statement needs to know of its request.
#[derive(Debug)]
pub(crate) struct ReplyTo {
    pub(crate) stream: i16,
    pub(crate) trace: Option<Box<Trace>>,
    pub(crate) skip_metadata: bool,
    pub(crate) statement: Option<Arc<CachedStatement>>,
    pub(crate) consistency: Consistency,
    pub(crate) request_bytes: usize,
    pub(crate) kind: RequestKind,
    pub(crate) arrived: Instant,
}

impl ReplyTo {
    fn envelope<'a>(
        &self,
        warnings: &'a [String],
        compression: Option<Compression>,
    ) -> Envelope<'a> {
        Envelope {
            stream: self.stream,
            tracing_id: self.trace.as_ref().map(|trace| trace.id),
            warnings,
            custom_payload: &[],
            compression,
        }
    }

    /// Encodes a result.
    pub(crate) fn outcome(
        &self,
        out: &mut BytesMut,
        compression: Option<Compression>,
        outcome: &Outcome,
    ) {
        let envelope = self.envelope(&outcome.warnings, compression);
        match &outcome.kind {
            OutcomeKind::Void => encode_response(out, &envelope, &Response::Void),
            OutcomeKind::Rows(rows) => self.rows(out, &envelope, rows),
            OutcomeKind::SetKeyspace(keyspace) => {
                encode_response(out, &envelope, &Response::SetKeyspace(keyspace));
            }
            OutcomeKind::SchemaChange(event) => match schema_change(event) {
                Some(change) => encode_response(out, &envelope, &Response::SchemaChange(&change)),
                None => {
                    let body = ErrorBody::new(ErrorDetail::Server, "unknown kind of schema change");
                    encode_response(out, &envelope, &Response::Error(&body));
                }
            },
        }
    }

    fn rows(&self, out: &mut BytesMut, envelope: &Envelope<'_>, rows: &Rows) {
        let encode = |out: &mut BytesMut, metadata: RowsMetadata<'_>| {
            let response = Response::Rows(cql_protocol::Rows {
                metadata,
                paging_state: rows.paging_state.as_deref(),
                count: rows.count,
                content: &rows.content,
            });
            encode_response(out, envelope, &response);
        };
        let cached =
            self.statement.as_ref().and_then(|statement| statement.columns_of(&rows.metadata));
        // the client's idea of the columns is the prepared statement's: only then may they be
        // left out
        match cached {
            Some(columns) if self.skip_metadata => {
                encode(out, RowsMetadata::Skipped { columns: columns.count() });
            }
            Some(columns) => encode(out, RowsMetadata::Columns(columns)),
            None => {
                let columns = encode_columns(&rows.metadata.columns);
                encode(out, RowsMetadata::Columns(&columns));
            }
        }
    }

    /// Encodes an error.
    pub(crate) fn error(
        &self,
        out: &mut BytesMut,
        compression: Option<Compression>,
        error: &ErrorBody,
    ) {
        encode_response(out, &self.envelope(&[], compression), &Response::Error(error));
    }
}

/// The protocol's form of a schema change; `None` for names that the protocol does not have.
pub(crate) fn schema_change(event: &SchemaChangeEvent) -> Option<SchemaChange> {
    let name = event.name.clone();
    Some(SchemaChange {
        kind: ChangeKind::from_name(event.change)?,
        keyspace: event.keyspace.clone(),
        target: match event.target {
            "KEYSPACE" => ChangeTarget::Keyspace,
            "TABLE" => ChangeTarget::Table(name),
            "TYPE" => ChangeTarget::Type(name),
            _ => return None,
        },
    })
}
