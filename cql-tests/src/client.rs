//! A blocking CQL v4 client that shows answers as they came: codes, texts, metadata, pages.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use cql_protocol::{
    Compression, Cut, Execute, FrameCodec, FrameFlags, Prepare, Query, QueryParameters, Received,
    ReceivedBody, ReceivedPrepared, ReceivedRows, Request, Startup, Text, encode_request,
};

use crate::Result;

/// No answer of a test takes longer, on a slow machine either.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const FRAME_BYTES_MAX: u32 = 256 << 20;

/// A connection's bytes, over TCP or TLS.
pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// One connection, one request at a time.
pub struct Client {
    stream: Box<dyn Stream>,
    input: BytesMut,
    codec: FrameCodec,
    compression: Option<Compression>,
}

impl Client {
    /// Connects and does the handshake without authentication.
    ///
    /// # Errors
    /// When the server does not answer READY.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        Self::with_compression(address, None)
    }

    /// Connects and does the handshake without authentication, with compression of all that follows.
    ///
    /// # Errors
    /// When the server does not answer READY.
    pub fn with_compression(address: SocketAddr, compression: Option<Compression>) -> Result<Self> {
        Self::raw(address)?.start(compression)
    }

    /// Does the handshake without authentication over a stream that is connected.
    ///
    /// # Errors
    /// When the server does not answer READY.
    pub fn over(stream: impl Stream + 'static) -> Result<Self> {
        Self::new(Box::new(stream)).start(None)
    }

    fn start(self, compression: Option<Compression>) -> Result<Self> {
        let mut client = self;
        let mut options = vec![(Text::from("CQL_VERSION"), Text::from("3.0.0"))];
        if let Some(compression) = compression {
            options.push((Text::from("COMPRESSION"), Text::from(compression.name())));
        }
        client.compression = compression;
        match client.request(&Request::Startup(Startup { options }))?.body {
            ReceivedBody::Ready => Ok(client),
            other => Err(format!("STARTUP was answered with {other:?}").into()),
        }
    }

    /// Connects and sends nothing.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn raw(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self::new(Box::new(stream)))
    }

    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            codec: FrameCodec::new(FRAME_BYTES_MAX),
            compression: None,
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Sends one request on stream 0 and waits for its answer.
    ///
    /// # Errors
    /// When the connection ends or the answer is no frame.
    pub fn request(&mut self, request: &Request) -> Result<Received> {
        self.traced(request, FrameFlags::default())
    }

    /// As `request`, with flags in the header.
    ///
    /// # Errors
    /// See [`Client::request`].
    pub fn traced(&mut self, request: &Request, flags: FrameFlags) -> Result<Received> {
        let mut out = BytesMut::new();
        encode_request(&mut out, 0, flags, self.compression, request);
        self.send(&out)?;
        self.receive()
    }

    /// Sends requests on streams 0, 1, ... in one write and waits for nothing.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send_requests(&mut self, requests: &[Request]) -> Result<()> {
        let mut out = BytesMut::new();
        for (stream, request) in (0..).zip(requests) {
            let flags = FrameFlags::default();
            encode_request(&mut out, stream, flags, self.compression, request);
        }
        self.send(&out)
    }

    /// Waits for the next frame of any stream.
    ///
    /// # Errors
    /// When the connection ends or sends what is no response.
    pub fn receive(&mut self) -> Result<Received> {
        let mut chunk = [0; 64 << 10];
        loop {
            match self.codec.cut(&mut self.input) {
                Cut::Frame(frame) => {
                    return Ok(Received::decode(&frame, self.compression, FRAME_BYTES_MAX)?);
                }
                Cut::Incomplete(_) => {}
                other => return Err(format!("not a response: {other:?}").into()),
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err("the server closed the connection".into()),
                length => self.input.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            }
        }
    }

    /// Sends a statement.
    ///
    /// # Errors
    /// See [`Client::request`].
    pub fn query(&mut self, statement: &str) -> Result<ReceivedBody> {
        Ok(self.page(statement, None, None)?.body)
    }

    /// Sends a statement with a page size and, for later pages, the paging state of the page before.
    ///
    /// # Errors
    /// See [`Client::request`].
    pub fn page(
        &mut self,
        statement: &str,
        size: Option<i32>,
        state: Option<Bytes>,
    ) -> Result<Received> {
        let parameters =
            QueryParameters { page_size: size, paging_state: state, ..QueryParameters::default() };
        self.request(&Request::Query(Query { statement: Text::from(statement), parameters }))
    }

    /// Sends a statement that must succeed.
    ///
    /// # Errors
    /// When the server answers an error; the text holds code and message.
    pub fn execute(&mut self, statement: &str) -> Result<ReceivedBody> {
        match self.query(statement)? {
            ReceivedBody::Error(error) => {
                Err(format!("0x{:04X} {}: {statement}", error.detail.code(), error.message).into())
            }
            body => Ok(body),
        }
    }

    /// The rows of a statement that must give rows.
    ///
    /// # Errors
    /// When it gives an error or no rows.
    pub fn rows(&mut self, statement: &str) -> Result<ReceivedRows> {
        match self.execute(statement)? {
            ReceivedBody::Rows(rows) => Ok(rows),
            other => Err(format!("no rows but {other:?}: {statement}").into()),
        }
    }

    /// The code and message of a statement that must fail.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn error(&mut self, statement: &str) -> Result<(i32, String)> {
        match self.query(statement)? {
            ReceivedBody::Error(error) => Ok((error.detail.code(), error.message)),
            other => Err(format!("no error but {other:?}: {statement}").into()),
        }
    }

    /// Prepares a statement that must be right.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn prepare(&mut self, statement: &str) -> Result<ReceivedPrepared> {
        match self.request(&Request::Prepare(Prepare { statement: Text::from(statement) }))?.body {
            ReceivedBody::Prepared(prepared) => Ok(prepared),
            other => Err(format!("PREPARE was answered with {other:?}").into()),
        }
    }

    /// Executes a prepared statement.
    ///
    /// # Errors
    /// See [`Client::request`].
    pub fn execute_prepared(
        &mut self,
        id: &Bytes,
        parameters: QueryParameters,
    ) -> Result<ReceivedBody> {
        Ok(self.request(&Request::Execute(Execute { id: id.clone(), parameters }))?.body)
    }
}

/// Sends bytes on a new connection and gives what comes back until the server closes or is silent for
/// `silence`.
///
/// # Errors
/// When nothing listens there.
pub fn exchange(address: SocketAddr, bytes: &[u8], silence: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(silence))?;
    let mut answer = Vec::new();
    // A server may close before it has read everything: what it answered counts.
    if stream.write_all(bytes).is_ok() {
        let mut chunk = [0; 4096];
        while let Ok(length) = stream.read(&mut chunk) {
            if length == 0 {
                break;
            }
            answer.extend_from_slice(chunk.get(..length).unwrap_or_default());
        }
    }
    Ok(answer)
}
