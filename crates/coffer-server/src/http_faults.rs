//! `--kms-fault` at the HTTP endpoint of the KMS, for tests: a connection's requests pass through
//! here on their way to the endpoint and back, and happen what the script says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use coffer_kms::Kms;
use coffer_kms::http::{BODY_LEN_MAX, Peer};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use crate::kms_fault::{FaultKind, KmsFaults};

/// Room of the pipe to the endpoint.
const PIPE_BYTES: usize = 64 << 10;
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// Serves one connection with faults.
pub(crate) async fn serve_connection<S>(
    stream: S,
    kms: Arc<Kms>,
    peer: Peer,
    faults: Arc<KmsFaults>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let endpoint = tokio::spawn(coffer_kms::http::serve_connection(far, kms, peer));
    let sender = match handshake(TokioIo::new(near)).await {
        Ok((sender, connection)) => {
            tokio::spawn(connection);
            Arc::new(Mutex::new(sender))
        }
        Err(error) => {
            tracing::warn!(%error, "faults of the KMS cannot be played");
            return;
        }
    };
    let service = service_fn(move |request| {
        let (sender, faults) = (Arc::clone(&sender), Arc::clone(&faults));
        async move { answer(request, &sender, &faults).await }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection of a KMS client ended");
    }
    endpoint.abort();
}

type Sender = Mutex<SendRequest<Full<Bytes>>>;

async fn answer(
    request: Request<Incoming>,
    sender: &Sender,
    faults: &KmsFaults,
) -> io::Result<Response<Answer>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_LEN_MAX).collect().await.map_err(io::Error::other)?;
    let body = body.to_bytes();
    let target = head.headers.get(TARGET).and_then(|value| value.to_str().ok());
    let operation = target.and_then(|target| target.split('.').nth(1)).unwrap_or_default();
    let parameters: Value = serde_json::from_slice(&body).unwrap_or_default();
    let rule = faults.take_for(operation, |arn| names(&parameters, arn));
    let fault = rule.as_ref().map(|rule| rule.fault);
    if let Some(rule) = &rule {
        match rule.fault {
            FaultKind::Delay => tokio::time::sleep(Duration::from_millis(rule.millis)).await,
            FaultKind::Error => {
                return refusal(rule.error.as_deref().unwrap_or("KMSInternalException"));
            }
            FaultKind::Throttle => return refusal("ThrottlingException"),
            FaultKind::Blackhole => faults.hold(rule).await,
            FaultKind::Drop | FaultKind::Truncate => {}
        }
    }
    let request = Request::from_parts(head, Full::new(body));
    let response = sender.lock().await.send_request(request).await.map_err(io::Error::other)?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    match fault {
        Some(FaultKind::Drop) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(FaultKind::Truncate) => Ok(Response::from_parts(head, Answer::cut(body))),
        _ => Ok(Response::from_parts(head, Answer::whole(body))),
    }
}

/// Whether a request is about the key: it names its ARN or id, or has a blob made under it.
fn names(parameters: &Value, arn: &str) -> bool {
    let is_it = |found: &str| found == arn || arn.rsplit('/').next() == Some(found);
    let is_named = ["KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId"]
        .iter()
        .filter_map(|name| parameters.get(*name).and_then(Value::as_str))
        .any(is_it);
    let blob = parameters.get("CiphertextBlob").and_then(Value::as_str);
    let blob = blob.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    is_named || blob.windows(arn.len().max(1)).any(|window| window == arn.as_bytes())
}

fn refusal(name: &str) -> io::Result<Response<Answer>> {
    let message = if name == "ThrottlingException" { "Rate exceeded" } else { "scripted fault" };
    let body = json!({"__type": name, "message": message}).to_string();
    let mut response = Response::new(Answer::whole(Bytes::from(body)));
    *response.status_mut() = match name {
        "KMSInternalException" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let content = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, content);
    Ok(response)
}

/// A body that may end before the length that its header tells.
struct Answer {
    bytes: Option<Bytes>,
    told: u64,
    is_cut: bool,
}

impl Answer {
    fn whole(bytes: Bytes) -> Self {
        Self { told: bytes.len() as u64, bytes: Some(bytes), is_cut: false }
    }

    fn cut(bytes: Bytes) -> Self {
        let told = bytes.len() as u64;
        Self { told, bytes: Some(bytes.slice(..bytes.len() / 2)), is_cut: true }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.is_cut => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && !self.is_cut
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_about_the_key_it_names_or_its_blob_is_under() {
        let arn = "arn:aws:kms:us-east-1:000000000000:key/k";
        assert!(names(&json!({"KeyId": arn}), arn));
        assert!(names(&json!({"KeyId": "k"}), arn));
        assert!(!names(&json!({"KeyId": "other"}), arn));
        let blob = STANDARD.encode(format!("\u{1}{arn}\u{2}"));
        assert!(names(&json!({"CiphertextBlob": blob}), arn));
        assert!(!names(&json!({"CiphertextBlob": "AAAA"}), arn));
        assert!(!names(&Value::Null, arn));
    }
}
