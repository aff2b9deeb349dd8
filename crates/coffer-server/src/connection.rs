//! One client: one task that reads what is there, executes every complete frame in place, and
//! writes all answers at once. Writes wait in a queue for the log's sync, slow requests are futures
//! polled by this same task; answers go out in whatever order they become ready.

mod request;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use coffer_query::{Error, Outcome, OutcomeKind, Session};
use coffer_storage::Lsn;
use cql_protocol::{
    Compression, Cut, Envelope, ErrorBody, ErrorDetail, FrameCodec, FrameHeader, Response,
    encode_response,
};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;

use crate::answer::ReplyTo;
use crate::dispatch::Finished;
use crate::error_response;
use crate::events::EventQueue;
use crate::in_flight::ConnectionInFlight;
use crate::metrics::{self, ConnectionMetrics};
use crate::server::{PageClaim, Server};

/// Frames executed before the answers are written and other connections have their turn.
const FRAMES_PER_ROUND: usize = 64;
/// Answers encoded before they are written, and written before other connections have their turn,
/// in bytes.
const OUTPUT_BYTES_PER_ROUND: usize = 64 << 10;
/// Rounds of one poll; then the task gives way.
const ROUNDS_PER_POLL: usize = 4;
/// Room for one read from the socket: least, and most for a client that fills it.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// A frame longer than this is counted as a request in flight from its header on.
const LARGE_FRAME_BYTES: u32 = 64 << 10;
/// Time for a client to take some of its answers; then what they hold in memory is given to others.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for such a frame to arrive.
const LARGE_FRAME_TIMEOUT: Duration = Duration::from_secs(60);
/// Buffers that grew beyond this are given back when they are empty.
const BUFFER_BYTES_KEPT: usize = 256 << 10;
/// Big reads of one connection at a time; the others wait for their turn.
const SCANS_PER_CONNECTION: usize = 4;
/// Time to answer what is under way when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the end of a stream to go out.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// How far the handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// STARTUP is to come.
    New,
    /// AUTH_RESPONSE is to come.
    Authenticating,
    /// Statements may come.
    Ready,
}

/// A write whose answer waits for the log.
struct PendingCommit {
    lsn: Lsn,
    reply: ReplyTo,
    outcome: Outcome,
}

/// How a slow request ended.
enum SlowAnswer {
    Statement(ReplyTo, Result<Finished, Error>),
    Authentication(i16, Result<String, String>),
}

/// One connection, over TCP or TLS.
pub(crate) struct Connection<S> {
    server: Arc<Server>,
    stream: S,
    codec: FrameCodec,
    input: BytesMut,
    output: BytesMut,
    phase: Phase,
    compression: Option<Compression>,
    session: Session,
    commits: VecDeque<PendingCommit>,
    /// The commit that the engine will wake this task for.
    wake_lsn: Option<Lsn>,
    slow: FuturesUnordered<BoxFuture<'static, SlowAnswer>>,
    scans: Arc<Semaphore>,
    /// Memory of the results in `output`.
    unsent: Vec<PageClaim>,
    in_flight: ConnectionInFlight,
    metrics: ConnectionMetrics,
    /// When the present round of frames began.
    round_began: Instant,
    /// Bytes of a large frame that is still arriving.
    arriving: Option<usize>,
    /// Room for the next read.
    read_bytes: usize,
    /// A round ended before the frames of the input did.
    has_more_frames: bool,
    events: Option<Arc<EventQueue>>,
    /// Of the handshake, of a large frame, or of the rest when the server stops.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of a client that takes none of its answers.
    stalled: Option<Pin<Box<Sleep>>>,
    stop: Option<BoxFuture<'static, ()>>,
    /// Nothing more is read: what is under way is answered, then the connection closes.
    is_ending: bool,
    /// The stream may hold back some of what was written.
    is_flushing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(
        server: Arc<Server>,
        stream: S,
        client: SocketAddr,
        mut stopping: watch::Receiver<bool>,
    ) -> Self {
        let limits = &server.limits;
        let startup = Duration::from_millis(limits.startup_timeout_millis);
        Self {
            codec: FrameCodec::new(limits.frame_bytes_max),
            metrics: server.metrics.connect(),
            round_began: metrics::now(),
            in_flight: ConnectionInFlight::new(Arc::clone(&server.in_flight)),
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            phase: Phase::New,
            compression: None,
            session: Session { client: Some(client), ..Session::default() },
            commits: VecDeque::new(),
            wake_lsn: None,
            slow: FuturesUnordered::new(),
            scans: Arc::new(Semaphore::new(SCANS_PER_CONNECTION)),
            unsent: Vec::new(),
            arriving: None,
            read_bytes: READ_BYTES_MIN,
            has_more_frames: false,
            events: None,
            deadline: Some(Box::pin(tokio::time::sleep(startup))),
            stop: Some(Box::pin(async move {
                // a dropped sender means stopping too
                drop(stopping.wait_for(|is_stopping| *is_stopping).await);
            })),
            is_ending: false,
            is_flushing: false,
            stalled: None,
            server,
        }
    }

    /// Serves the client until it goes, misbehaves, or the server stops.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn serve(mut self) -> io::Result<()> {
        poll_fn(|context| self.poll(context)).await?;
        // the client learns that nothing was cut off; one that is not there is not waited for
        drop(tokio::time::timeout(SHUTDOWN_TIMEOUT, self.stream.shutdown()).await);
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_deadlines(context) {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS_PER_POLL {
            let mut has_progress = self.answer_commits(context);
            has_progress |= self.answer_slow(context);
            has_progress |= self.send_events(context);
            has_progress |= self.execute_frames();
            has_progress |= self.poll_write(context)?;
            if self.is_ending && self.is_idle() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => has_progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            if !has_progress {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_idle(&self) -> bool {
        self.output.is_empty()
            && !self.is_flushing
            && self.commits.is_empty()
            && self.slow.is_empty()
    }

    /// True when the connection must close now.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(stop) = &mut self.stop
            && stop.as_mut().poll(context).is_ready()
        {
            self.stop = None;
            self.is_ending = true;
            self.deadline = Some(Box::pin(tokio::time::sleep(STOP_TIMEOUT)));
        }
        let deadlines = self.deadline.iter_mut().chain(&mut self.stalled);
        let mut is_over = false;
        for deadline in deadlines {
            is_over |= deadline.as_mut().poll(context).is_ready();
        }
        is_over
    }

    /// Whether more answers may be encoded before the client has read some.
    fn has_output_room(&self) -> bool {
        self.output.len() < self.server.limits.write_backlog_bytes_max
    }

    /// Answers the writes that the log has on disk.
    fn answer_commits(&mut self, context: &Context<'_>) -> bool {
        let mut has_progress = false;
        while let Some(first) = self.commits.front() {
            let engine = self.server.database.engine();
            let lsn = first.lsn;
            if engine.committed() >= lsn {
                has_progress |= self.answer_up_to(engine.committed());
            } else if let Err(error) = engine.poisoned() {
                let message = error.to_string();
                for PendingCommit { reply, .. } in std::mem::take(&mut self.commits) {
                    let error = Error::WriteFailure(message.clone());
                    let body = error_response::of_query(error, reply.consistency);
                    self.answer_late(&reply, &body);
                }
                has_progress = true;
            } else if self.wake_lsn == Some(lsn) || !engine.wake_at(lsn, context.waker()) {
                self.wake_lsn = Some(lsn);
                break;
            }
        }
        has_progress
    }

    fn answer_up_to(&mut self, committed: Lsn) -> bool {
        let (mut requests, mut bytes) = (0_usize, 0_usize);
        let now = metrics::now();
        while let Some(pending) = self.commits.front()
            && pending.lsn <= committed
        {
            pending.reply.outcome(&mut self.output, self.compression, &pending.outcome);
            let latency = now.saturating_duration_since(pending.reply.arrived);
            self.metrics.answered(pending.reply.kind, latency);
            requests = requests.saturating_add(1);
            bytes = bytes.saturating_add(pending.reply.request_bytes);
            self.commits.pop_front();
        }
        self.in_flight.remove(requests, bytes);
        requests > 0
    }

    /// Answers the slow requests that have ended.
    fn answer_slow(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_progress = false;
        while !self.slow.is_empty() && self.has_output_room() {
            match Pin::new(&mut self.slow).poll_next(context) {
                Poll::Ready(Some(answer)) => self.answer(answer),
                Poll::Ready(None) | Poll::Pending => break,
            }
            has_progress = true;
        }
        has_progress
    }

    fn answer(&mut self, answer: SlowAnswer) {
        match answer {
            SlowAnswer::Statement(reply, Ok(Finished { outcome, commit, permit, claim })) => {
                match commit {
                    // its request stays counted while it waits in the queue
                    Some(lsn) => self.commits.push_back(PendingCommit { lsn, reply, outcome }),
                    None => {
                        self.in_flight.remove(1, reply.request_bytes);
                        self.answer_outcome(&reply, &outcome);
                        self.metrics.answered(reply.kind, reply.arrived.elapsed());
                    }
                }
                drop(permit);
                self.unsent.extend(claim);
            }
            SlowAnswer::Statement(reply, Err(error)) => {
                let body = error_response::of_query(error, reply.consistency);
                self.answer_late(&reply, &body);
            }
            SlowAnswer::Authentication(stream, result) => self.end_authentication(stream, result),
        }
    }

    /// Answers a request that was counted as in flight with an error.
    fn answer_late(&mut self, reply: &ReplyTo, body: &ErrorBody) {
        self.in_flight.remove(1, reply.request_bytes);
        self.metrics.answered(reply.kind, reply.arrived.elapsed());
        self.reply_error(reply, body);
    }

    fn reply_error(&mut self, reply: &ReplyTo, body: &ErrorBody) {
        self.metrics.failed(body.detail.code());
        reply.error(&mut self.output, self.compression, body);
    }

    fn answer_outcome(&mut self, reply: &ReplyTo, outcome: &Outcome) {
        if let OutcomeKind::SetKeyspace(keyspace) = &outcome.kind {
            self.session.keyspace = Some(Arc::from(keyspace.as_str()));
        }
        reply.outcome(&mut self.output, self.compression, outcome);
    }

    fn send_events(&mut self, context: &Context<'_>) -> bool {
        let Some(queue) = &self.events else {
            return false;
        };
        if !queue.has_events() {
            return false;
        }
        for event in queue.take(context.waker()) {
            let envelope =
                Envelope { stream: -1, compression: self.compression, ..Envelope::default() };
            encode_response(&mut self.output, &envelope, &Response::Event(&event));
        }
        true
    }

    /// Executes the complete frames of the input, up to the bounds of a round.
    fn execute_frames(&mut self) -> bool {
        if self.is_ending || self.input.is_empty() {
            self.has_more_frames = false;
            return false;
        }
        self.round_began = metrics::now();
        let has_progress = self.execute_round();
        if has_progress {
            self.metrics.end_round(self.round_began.elapsed());
        }
        has_progress
    }

    fn execute_round(&mut self) -> bool {
        let room = self.server.limits.write_backlog_bytes_max.min(OUTPUT_BYTES_PER_ROUND);
        let mut has_progress = false;
        self.has_more_frames = false;
        for _ in 0..FRAMES_PER_ROUND {
            if self.is_ending || self.input.is_empty() {
                return has_progress;
            }
            if self.output.len() >= room {
                break;
            }
            match self.codec.cut(&mut self.input) {
                Cut::Frame(frame) => {
                    self.end_arrival();
                    self.handle_frame(frame);
                }
                Cut::TooLarge(header) => {
                    let maximum = self.server.limits.frame_bytes_max;
                    let message = format!(
                        "request of {} bytes exceeds the maximum of {maximum} bytes \
                         (option frame_bytes_max)",
                        header.body_bytes
                    );
                    self.send_error(header.stream, &ErrorBody::new(ErrorDetail::Invalid, message));
                }
                Cut::OldVersion(version) => {
                    // an older header: the stream is unknown, and where the next frame begins
                    self.send_error(0, &error_response::unsupported_version(version));
                    self.is_ending = true;
                }
                Cut::Incomplete(header) => {
                    let is_large = |header: &FrameHeader| header.body_bytes > LARGE_FRAME_BYTES;
                    if let Some(header) = header.filter(is_large) {
                        self.begin_arrival(header);
                    }
                    return has_progress;
                }
            }
            has_progress = true;
        }
        self.has_more_frames = true;
        has_progress
    }

    /// A large frame takes memory while it arrives: it is counted, and has a deadline, so that many
    /// halves of frames cannot fill the memory.
    fn begin_arrival(&mut self, header: FrameHeader) {
        if self.arriving.is_some() {
            return;
        }
        if self.phase != Phase::Ready {
            // strangers get no share of the memory that all requests have together
            self.codec.skip_frame(header, &mut self.input);
            let message = "a large request before the connection is started";
            return self.send_error(header.stream, &ErrorBody::new(ErrorDetail::Protocol, message));
        }
        let bytes = usize::try_from(header.body_bytes).unwrap_or(usize::MAX);
        if self.in_flight.has_room(bytes, &self.server.limits) {
            self.in_flight.add(bytes);
            self.arriving = Some(bytes);
            if self.deadline.is_none() {
                self.deadline = Some(Box::pin(tokio::time::sleep(LARGE_FRAME_TIMEOUT)));
            }
        } else {
            self.codec.skip_frame(header, &mut self.input);
            self.send_error(header.stream, &error_response::overloaded());
        }
    }

    fn end_arrival(&mut self) {
        if let Some(bytes) = self.arriving.take() {
            self.in_flight.remove(1, bytes);
            if self.phase == Phase::Ready && !self.is_ending {
                self.deadline = None;
            }
        }
    }

    fn send_error(&mut self, stream: i16, error: &ErrorBody) {
        self.metrics.failed(error.detail.code());
        self.send(stream, &Response::Error(error));
    }

    fn send(&mut self, stream: i16, response: &Response<'_>) {
        let envelope = Envelope { stream, compression: self.compression, ..Envelope::default() };
        encode_response(&mut self.output, &envelope, response);
    }

    /// Writes the output, at most a round's share of it. True when the client has taken that.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.output.is_empty() && !self.is_flushing {
            return Ok(false);
        }
        self.is_flushing = true;
        let mut left = OUTPUT_BYTES_PER_ROUND.min(self.output.len());
        while left > 0 {
            let chunk = self.output.get(..left).unwrap_or(&self.output);
            match Pin::new(&mut self.stream).poll_write(context, chunk)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.output.advance(written);
                    left = left.saturating_sub(written);
                    self.stalled = None;
                }
                Poll::Pending => return Ok(self.stall()),
            }
        }
        if !self.output.is_empty() {
            // the rest of a large page: others have their turn in between
            return Ok(true);
        }
        if Pin::new(&mut self.stream).poll_flush(context)?.is_pending() {
            return Ok(self.stall());
        }
        self.is_flushing = false;
        self.stalled = None;
        self.unsent.clear();
        if self.output.capacity() > BUFFER_BYTES_KEPT {
            self.output = BytesMut::new();
        }
        Ok(true)
    }

    /// The client does not take its answers: that has a deadline. No progress.
    fn stall(&mut self) -> bool {
        self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(UNREAD_TIMEOUT)));
        false
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // frames left over by a round and answers not taken go first
        if self.is_ending || self.has_more_frames || !self.has_output_room() {
            return Poll::Pending;
        }
        if self.input.is_empty() && self.input.capacity() > BUFFER_BYTES_KEPT {
            self.input = BytesMut::new();
        }
        self.input.reserve(self.read_bytes);
        let room = self.input.capacity().saturating_sub(self.input.len());
        let read = std::task::ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context))?;
        if read == room {
            self.read_bytes = self.read_bytes.saturating_mul(2).min(READ_BYTES_MAX);
        }
        Poll::Ready(Ok(read))
    }
}
