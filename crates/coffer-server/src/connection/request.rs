//! What a connection does with one frame.

use std::sync::Arc;

use bytes::Bytes;
use coffer_query::{Error, Step};
use cql_protocol::{
    AuthResponse, Compression, Consistency, ErrorBody, ErrorDetail, EventKind, Execute, Frame,
    FrameFlags, FrameHeader, Prepare, Prepared, ProtocolError, Register, Request, Response,
    Startup, VERSION,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use super::{Connection, PendingCommit, Phase, SlowAnswer};
use crate::answer::ReplyTo;
use crate::authentication::PASSWORD_AUTHENTICATOR;
use crate::dispatch::finish;
use crate::error_response;
use crate::metrics::RequestKind;
use crate::prepared_cache::CachedStatement;
use crate::statement::{Work, prepare, unprepared};
use crate::trace::Trace;

/// What OPTIONS tells.
const SUPPORTED: [(&str, &[&str]); 3] = [
    ("CQL_VERSION", &["3.4.7"]),
    ("COMPRESSION", &["lz4", "snappy"]),
    ("PROTOCOL_VERSIONS", &["4/v4"]),
];

fn kind_of(request: &Request) -> RequestKind {
    match request {
        Request::Query(_) => RequestKind::Query,
        Request::Execute(_) => RequestKind::Execute,
        Request::Batch(_) => RequestKind::Batch,
        Request::Prepare(_) => RequestKind::Prepare,
        _ => RequestKind::Other,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn handle_frame(&mut self, frame: Frame) {
        let header = frame.header;
        if header.is_response {
            self.send_error(
                header.stream,
                &ErrorBody::new(ErrorDetail::Protocol, "a response where a request is expected"),
            );
            self.is_ending = true;
            return;
        }
        if header.version != VERSION {
            return self
                .send_error(header.stream, &error_response::unsupported_version(header.version));
        }
        let request_bytes = frame.body.len();
        let request = self
            .decompress(header.flags, frame.body)
            .and_then(|body| Request::decode(header.opcode, header.flags, body));
        match request {
            Ok(request) => self.handle_request(header, request, request_bytes),
            Err(error) => self.send_error(header.stream, &error_response::of_protocol(&error)),
        }
    }

    fn handle_request(&mut self, header: FrameHeader, request: Request, request_bytes: usize) {
        let is_traced = header.flags.has(FrameFlags::TRACING);
        let kind = kind_of(&request);
        if matches!(kind, RequestKind::Prepare | RequestKind::Other) {
            self.metrics.answered_in_round(kind);
        }
        match (self.phase, request) {
            (_, Request::Options) => self.send(header.stream, &Response::Supported(&SUPPORTED)),
            (Phase::New, Request::Startup(startup)) => self.startup(header.stream, &startup),
            (Phase::Authenticating, Request::AuthResponse(token)) => {
                self.authenticate(header.stream, token);
            }
            (Phase::Ready, Request::Register(register)) => {
                self.register(header.stream, &register);
            }
            (Phase::Ready, Request::Prepare(prepare)) => self.prepare(header.stream, &prepare),
            (
                Phase::Ready,
                request @ (Request::Query(_) | Request::Execute(_) | Request::Batch(_)),
            ) => {
                let reply = ReplyTo {
                    stream: header.stream,
                    trace: is_traced.then(|| {
                        Box::new(Trace::begin(&self.server, self.session.client, &request))
                    }),
                    skip_metadata: false,
                    statement: None,
                    consistency: Consistency::One,
                    request_bytes,
                    kind,
                    arrived: self.round_began,
                };
                self.statement(reply, request);
            }
            (_, request) => self.refuse(header.stream, &request),
        }
    }

    fn refuse(&mut self, stream: i16, request: &Request) {
        let message = format!(
            "Unexpected message {}, expecting {}",
            format!("{:?}", request.opcode()).to_uppercase(),
            match self.phase {
                Phase::New => "STARTUP or OPTIONS",
                Phase::Authenticating => "AUTH_RESPONSE",
                Phase::Ready => "a statement: the connection is started already",
            }
        );
        self.send_error(stream, &ErrorBody::new(ErrorDetail::Protocol, message));
    }

    fn decompress(&self, flags: FrameFlags, body: Bytes) -> Result<Bytes, ProtocolError> {
        if !flags.has(FrameFlags::COMPRESSED) {
            return Ok(body);
        }
        let compression = self.compression.ok_or(ProtocolError::NoCompression)?;
        compression.decompress(&body, self.server.limits.frame_bytes_max)
    }

    fn startup(&mut self, stream: i16, startup: &Startup) {
        let wrong = |message: String| ErrorBody::new(ErrorDetail::Protocol, message);
        let version = startup.option("CQL_VERSION").unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 3) {
            let message = format!("CQL version {version} is not supported; 3.0.0 or later is");
            return self.send_error(stream, &wrong(message));
        }
        let compression = startup.option("COMPRESSION").filter(|name| !name.is_empty());
        let compression = match compression.map(|name| (name, Compression::from_name(name))) {
            None => None,
            Some((_, Some(compression))) => Some(compression),
            Some((name, None)) => {
                let message = format!("Unknown compression algorithm: {name}");
                return self.send_error(stream, &wrong(message));
            }
        };
        if self.server.authenticator.is_required() {
            self.phase = Phase::Authenticating;
            self.send(stream, &Response::Authenticate { class: PASSWORD_AUTHENTICATOR });
        } else {
            self.become_ready();
            self.send(stream, &Response::Ready);
        }
        self.compression = compression;
    }

    fn become_ready(&mut self) {
        self.phase = Phase::Ready;
        // unless the deadline is that of the stop
        if !self.is_ending {
            self.deadline = None;
        }
    }

    fn authenticate(&mut self, stream: i16, response: AuthResponse) {
        // one at a time: a client cannot make the server hash in parallel
        if !self.slow.is_empty() {
            let message = "an authentication is under way";
            return self.send_error(stream, &ErrorBody::new(ErrorDetail::Protocol, message));
        }
        let server = Arc::clone(&self.server);
        let verification = Handle::current().spawn_blocking(move || {
            server.authenticator.authenticate(response.token.as_deref().unwrap_or_default())
        });
        self.slow.push(Box::pin(async move {
            let result = verification.await;
            let result = result.unwrap_or_else(|_| Err("authentication failed".to_owned()));
            SlowAnswer::Authentication(stream, result)
        }));
    }

    pub(super) fn end_authentication(&mut self, stream: i16, result: Result<String, String>) {
        match result {
            Ok(user) => {
                self.session.role = Some(Arc::from(user));
                self.become_ready();
                self.send(stream, &Response::AuthSuccess { token: None });
            }
            Err(message) => {
                tracing::warn!(client = ?self.session.client, "authentication failed");
                self.send_error(stream, &ErrorBody::new(ErrorDetail::BadCredentials, message));
            }
        }
    }

    fn register(&mut self, stream: i16, register: &Register) {
        if register.events.contains(&EventKind::SchemaChange) && self.events.is_none() {
            self.events = Some(self.server.events.register());
        }
        self.send(stream, &Response::Ready);
    }

    fn prepare(&mut self, stream: i16, request: &Prepare) {
        let prepared = match prepare(&self.server, &self.session, &request.statement) {
            Ok(prepared) => prepared,
            Err(error) => {
                let body = error_response::of_query(error, Consistency::One);
                return self.send_error(stream, &body);
            }
        };
        let statement = Arc::new(CachedStatement::new(prepared, request.statement.len()));
        self.server.prepared.insert(Arc::clone(&statement));
        let response = Response::Prepared(Prepared {
            id: &statement.prepared.id,
            bind: &statement.bind,
            partition_key_indexes: &statement.prepared.bind.partition_key_indexes,
            result: statement.result.as_ref(),
        });
        self.send(stream, &response);
    }

    /// Runs QUERY, EXECUTE or BATCH.
    fn statement(&mut self, mut reply: ReplyTo, request: Request) {
        if !self.in_flight.has_room(reply.request_bytes, &self.server.limits) {
            self.metrics.answered_in_round(reply.kind);
            return self.reply_error(&reply, &error_response::overloaded());
        }
        match self.work_of(&mut reply, request) {
            Ok(work) => self.run(reply, work),
            Err(body) => {
                self.metrics.answered_in_round(reply.kind);
                self.reply_error(&reply, &body);
            }
        }
    }

    fn work_of(&self, reply: &mut ReplyTo, request: Request) -> Result<Work, ErrorBody> {
        match request {
            Request::Query(query) => {
                reply.consistency = query.parameters.consistency;
                Work::query(&self.server, &self.session, query)
            }
            Request::Execute(execute) => self.work_of_execute(reply, execute),
            Request::Batch(batch) => {
                reply.consistency = batch.consistency;
                Work::batch(&self.server, &self.session, batch)
            }
            _ => Err(ErrorBody::new(ErrorDetail::Server, "not a statement")),
        }
    }

    fn work_of_execute(&self, reply: &mut ReplyTo, execute: Execute) -> Result<Work, ErrorBody> {
        let Some(statement) = self.server.prepared.find(&execute.id) else {
            return Err(unprepared(execute.id));
        };
        reply.consistency = execute.parameters.consistency;
        reply.skip_metadata = execute.parameters.skip_metadata;
        let work = Work::execute_prepared(&statement, execute);
        reply.statement = Some(statement);
        Ok(work)
    }

    fn run(&mut self, reply: ReplyTo, mut work: Work) {
        match work.execute(&self.server, &mut self.session) {
            Ok(Step::Done(outcome)) => {
                self.metrics.answered_in_round(reply.kind);
                self.answer_outcome(&reply, &outcome);
            }
            Ok(Step::Commit { lsn, outcome }) => {
                self.in_flight.add(reply.request_bytes);
                self.commits.push_back(PendingCommit { lsn, reply, outcome });
            }
            Ok(step) => self.run_slowly(reply, work, step),
            Err(error) => self.answer_error(&reply, error),
        }
    }

    fn answer_error(&mut self, reply: &ReplyTo, error: Error) {
        let body = match error {
            Error::Unprepared(id) => unprepared(Bytes::copy_from_slice(&id)),
            error => error_response::of_query(error, reply.consistency),
        };
        self.metrics.answered_in_round(reply.kind);
        self.reply_error(reply, &body);
    }

    fn run_slowly(&mut self, reply: ReplyTo, work: Work, step: Step) {
        self.in_flight.add(reply.request_bytes);
        let end = finish(
            Arc::clone(&self.server),
            self.session.clone(),
            Arc::clone(&self.scans),
            work,
            step,
        );
        self.slow.push(Box::pin(async move { SlowAnswer::Statement(reply, end.await) }));
    }
}
