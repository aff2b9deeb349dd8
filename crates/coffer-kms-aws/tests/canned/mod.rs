//! A KMS of a few lines: answers by operation, over plain HTTP on this machine.
#![expect(clippy::expect_used, reason = "a test that cannot go on ends")]

use coffer_kms_aws::{AwsKms, AwsKmsOptions, KmsThread};
use std::{
    io,
    sync::{Arc, Mutex, Once},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One request as it came in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) operation: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Status and body of an answer; `None` closes the connection instead.
pub(crate) type Answer = Option<(u16, String)>;
type Answering = dyn Fn(&Request) -> Answer + Send + Sync;

pub(crate) struct CannedKms {
    pub(crate) endpoint: String,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

/// Not there, unless a test writes it.
pub(crate) const CONFIG_FILE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/canned-aws-config");

static CREDENTIALS: Once = Once::new();

/// Credentials in the environment, as an operator gives them.
#[expect(unsafe_code, reason = "the environment of a test program")]
pub(crate) fn set_credentials() {
    CREDENTIALS.call_once(|| {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", CONFIG_FILE),
            ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
        ];
        for (name, value) in pairs {
            // SAFETY: called before anything of the program reads the environment
            unsafe { std::env::set_var(name, value) };
        }
    });
}

impl CannedKms {
    /// Serves on `thread`.
    pub(crate) async fn start(
        thread: &KmsThread,
        answering: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answering) = (Arc::clone(&requests), Arc::new(answering) as Arc<Answering>);
        let (sender, bound) = tokio::sync::oneshot::channel();
        thread.handle().spawn(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            sender.send(listener.local_addr().expect("an address")).expect("the test waits");
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, Arc::clone(&answering), Arc::clone(&seen)));
            }
        });
        let address = bound.await.map_err(io::Error::other)?;
        Ok(Self { endpoint: format!("http://{address}"), requests })
    }

    pub(crate) fn operations(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("no panic");
        requests.iter().map(|request| request.operation.clone()).collect()
    }
}

async fn serve(mut stream: TcpStream, answering: Arc<Answering>, seen: Arc<Mutex<Vec<Request>>>) {
    let mut bytes = Vec::new();
    loop {
        let Some(request) = read(&mut stream, &mut bytes).await else { return };
        let answer = answering(&request);
        seen.lock().expect("no panic").push(request);
        let Some((status, body)) = answer else { return };
        let head = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.1\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
        if sent.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Request> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let field = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            };
            let len = field("content-length")?.parse::<usize>().ok()?;
            if body.len() >= len {
                let target = field("x-amz-target").unwrap_or("sts");
                let operation = target.trim_start_matches("TrentService.").to_owned();
                let request =
                    Request { operation, head: head.to_owned(), body: body[..len].to_owned() };
                bytes.drain(..head.len() + 4 + len);
                return Some(request);
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A provider for this KMS.
pub(crate) async fn provider(kms: &CannedKms, prepare: fn()) -> AwsKms {
    set_credentials();
    let options = AwsKmsOptions {
        region: "us-east-1".into(),
        endpoint: Some(kms.endpoint.clone()),
        principal_arn: Some("arn:aws:iam::1:user/coffer".into()),
        ..AwsKmsOptions::default()
    };
    let thread = KmsThread::start("kms-client", prepare).expect("a thread");
    AwsKms::new(options, Arc::new(thread)).await.expect("a provider")
}
