//! A proxy in front of a KMS that can do everything that goes wrong between a server and its KMS, and that
//! writes down what passes.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;

use crate::Result;

/// How often the end of open connections is looked for.
const LOOKS_MAX: usize = 250;
/// How often a held connection looks whether it is let go.
const LOOK: Duration = Duration::from_millis(20);
const HEADER_BYTES_MAX: usize = 64 << 10;

/// What the proxy does to calls.
#[derive(Clone, Debug, PartialEq)]
pub enum Wire {
    /// Passes them on.
    Pass,
    /// Nobody listens.
    Refuse,
    /// Takes connections and answers nothing.
    BlackHole,
    /// Passes the call on and gives the answer after this long.
    Slow(Duration),
    /// Answers with this status and body instead.
    Answer(u16, &'static str),
    /// Passes the call on, and ends the connection in the middle of the answer's body.
    Cut,
    /// Passes the call on, and changes key bytes and key ARN in the answer.
    WrongKey,
    /// Only where bytes are passed: ends the handshake of TLS with an alert.
    NoTls,
}

/// One call that passed.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation, without `TrentService.`.
    pub operation: String,
    /// Header lines, names in small letters.
    pub headers: Vec<(String, String)>,
    /// What was asked.
    pub request: Value,
    /// What came back; null when nothing did.
    pub answer: Value,
}

struct Shared {
    upstream: SocketAddr,
    is_of_bytes: bool,
    wire: Mutex<Wire>,
    calls: Mutex<Vec<Call>>,
    /// Changes with every [`Proxy::set`], so that held connections are let go.
    turn: AtomicU64,
    /// Connections whose bytes are passed on.
    passing: AtomicUsize,
    is_ending: AtomicBool,
}

/// A listening proxy. Ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Listens on a free port and passes everything on to `upstream`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        Self::new(upstream, false)
    }

    /// As [`Proxy::start`], for what is encrypted: writes nothing down, and knows only the faults of
    /// connections.
    ///
    /// # Errors
    /// When no port is free.
    pub fn of_bytes(upstream: SocketAddr) -> Result<Self> {
        Self::new(upstream, true)
    }

    fn new(upstream: SocketAddr, is_of_bytes: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            is_of_bytes,
            wire: Mutex::new(Wire::Pass),
            calls: Mutex::default(),
            turn: AtomicU64::new(0),
            passing: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
        });
        let mut proxy = Self { address, shared, listener: None };
        proxy.listen(listener)?;
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this to all calls from now on; connections that are held or open are closed.
    ///
    /// # Errors
    /// When its port was taken while nobody listened.
    pub fn set(&mut self, wire: Wire) -> Result<()> {
        let is_refusing = wire == Wire::Refuse;
        *lock(&self.shared.wire) = wire;
        self.shared.turn.fetch_add(1, Ordering::SeqCst);
        for _ in 0..LOOKS_MAX {
            if self.shared.passing.load(Ordering::SeqCst) == 0 {
                break;
            }
            std::thread::park_timeout(LOOK);
        }
        if is_refusing {
            self.stop_listening()
        } else if self.listener.is_none() {
            self.listen(TcpListener::bind(self.address)?)
        } else {
            Ok(())
        }
    }

    /// The calls that passed so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.shared.calls).clone()
    }

    fn listen(&mut self, listener: TcpListener) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("proxy".to_owned());
        self.listener = Some(thread.spawn(move || {
            for stream in listener.incoming() {
                let is_over = *lock(&shared.wire) == Wire::Refuse;
                if is_over || shared.is_ending.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&shared);
                let thread = std::thread::Builder::new().name("proxied".to_owned());
                // A connection that breaks is what faults are about.
                let serve = if shared.is_of_bytes { serve_bytes } else { serve };
                let serve = move || if serve(&stream, &shared).is_err() {};
                if thread.spawn(serve).is_err() {}
            }
        })?);
        Ok(())
    }

    fn stop_listening(&mut self) -> Result<()> {
        // Wakes the thread that accepts; it sees that it is over, and the port is free.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            listener.join().map_err(|_| "the proxy panicked")?;
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        self.shared.turn.fetch_add(1, Ordering::SeqCst);
        if self.stop_listening().is_err() {}
    }
}

/// One HTTP message.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    fn headers(&self) -> Vec<(String, String)> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// `None` at the end of the connection.
    fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = String::new();
        loop {
            let before = head.len();
            if input.read_line(&mut head)? == 0 {
                return Ok(None);
            }
            if head.len() > HEADER_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if matches!(head.get(before..), Some("\r\n" | "\n")) {
                break;
            }
        }
        let mut message = Self { head, body: Vec::new() };
        let length = message.header("content-length").and_then(|text| text.parse().ok());
        message.body = vec![0; length.unwrap_or(0)];
        input.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    fn send(&self, output: &mut impl Write) -> io::Result<()> {
        output.write_all(self.head.as_bytes())?;
        output.write_all(&self.body)?;
        output.flush()
    }
}

fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let turn = shared.turn.load(Ordering::SeqCst);
    let is_over = || shared.turn.load(Ordering::SeqCst) != turn;
    client.set_nodelay(true)?;
    let mut input = BufReader::new(client.try_clone()?);
    let upstream = TcpStream::connect(shared.upstream)?;
    upstream.set_nodelay(true)?;
    let mut answers = BufReader::new(upstream.try_clone()?);
    let mut output = client.try_clone()?;
    while let Some(request) = Message::read(&mut input)? {
        if is_over() {
            break;
        }
        let wire = lock(&shared.wire).clone();
        match wire {
            Wire::Refuse | Wire::NoTls => break,
            Wire::BlackHole => {
                while !is_over() {
                    std::thread::park_timeout(LOOK);
                }
                break;
            }
            Wire::Answer(status, body) => {
                write!(
                    output,
                    "HTTP/1.1 {status} Fault\r\nContent-Type: application/x-amz-json-1.1\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )?;
                continue;
            }
            Wire::Pass | Wire::Slow(_) | Wire::Cut | Wire::WrongKey => {}
        }
        request.send(&mut upstream.try_clone()?)?;
        let Some(mut answer) = Message::read(&mut answers)? else { break };
        write_down(shared, &request, &answer);
        match wire {
            Wire::Slow(pause) => hold(pause, is_over),
            Wire::Cut => {
                answer.body.truncate(answer.body.len() / 2);
                answer.send(&mut output)?;
                break;
            }
            Wire::WrongKey => falsify(&mut answer)?,
            _ => {}
        }
        answer.send(&mut output)?;
    }
    client.shutdown(Shutdown::Both)
}

/// Copies both ways until the proxy does something else.
fn serve_bytes(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let turn = shared.turn.load(Ordering::SeqCst);
    if *lock(&shared.wire) == Wire::NoTls {
        // A fatal alert of TLS 1.2: handshake failure.
        return client.try_clone()?.write_all(&[21, 3, 3, 0, 2, 2, 40]);
    }
    let upstream = TcpStream::connect(shared.upstream)?;
    shared.passing.fetch_add(1, Ordering::SeqCst);
    let served = pass_on(client, &upstream, || shared.turn.load(Ordering::SeqCst) != turn);
    shared.passing.fetch_sub(1, Ordering::SeqCst);
    served
}

fn pass_on(client: &TcpStream, upstream: &TcpStream, is_over: impl Fn() -> bool) -> io::Result<()> {
    std::thread::scope(|scope| {
        let (mut from, mut to) = (upstream.try_clone()?, client.try_clone()?);
        scope.spawn(move || {
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Both));
        });
        let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
        let other = scope.spawn(move || drop(io::copy(&mut from, &mut to)));
        while !other.is_finished() && !is_over() {
            std::thread::park_timeout(LOOK);
        }
        // Ends both copies.
        drop(upstream.shutdown(Shutdown::Both));
        drop(client.shutdown(Shutdown::Both));
        Ok(())
    })
}

fn hold(pause: Duration, is_over: impl Fn() -> bool) {
    let looks = pause.as_millis() / LOOK.as_millis().max(1);
    for _ in 0..looks {
        if is_over() {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
}

fn write_down(shared: &Shared, request: &Message, answer: &Message) {
    let json = |body: &[u8]| serde_json::from_slice(body).unwrap_or(Value::Null);
    let target = request.header("x-amz-target").unwrap_or_default();
    lock(&shared.calls).push(Call {
        operation: target.rsplit('.').next().unwrap_or_default().to_owned(),
        headers: request.headers(),
        request: json(&request.body),
        answer: json(&answer.body),
    });
}

/// Another key than the one that was asked for: its bytes and its ARN.
fn falsify(answer: &mut Message) -> io::Result<()> {
    let Ok(mut value) = serde_json::from_slice::<Value>(&answer.body) else { return Ok(()) };
    let other = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000";
    if let Some(plaintext) = value.get_mut("Plaintext") {
        *plaintext = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=".into();
    }
    if let Some(key) = value.get_mut("KeyId") {
        *key = other.into();
    }
    if let Some(arn) = value.get_mut("KeyMetadata").and_then(|all| all.get_mut("Arn")) {
        *arn = other.into();
    }
    answer.body = serde_json::to_vec(&value)?;
    let length = answer.body.len();
    let lines = answer.head.lines().filter(|line| !line.is_empty());
    let lines = lines.map(|line| {
        let is_length = line.to_ascii_lowercase().starts_with("content-length:");
        if is_length { format!("Content-Length: {length}\r\n") } else { format!("{line}\r\n") }
    });
    answer.head = lines.collect::<String>() + "\r\n";
    Ok(())
}
