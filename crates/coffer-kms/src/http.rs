//! The HTTP endpoint of the KMS: AWS JSON 1.1 over HTTP/1.1, signed with Signature Version 4.
//!
//! [`serve_connection`] speaks on one connection, whatever carries it; listening, TLS and the number
//! of connections are the caller's. Everything a client sends is limited before it is read: headers,
//! the length of a body, and the time for both. The work of a call is done on the runtime's blocking
//! threads, since it waits for the disk.

use crate::{CallSource, Caller, Kms, KmsException, TlsDetails, sigv4};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

/// Longest body of a request in bytes; the longest that the API allows is far below.
pub const BODY_LEN_MAX: usize = 1 << 20;
/// Most bytes of a request's head.
const HEAD_LEN_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
const USER_AGENT_LEN_MAX: usize = 1024;
/// For a request's head, counted from the end of the answer before, and for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
const CONTENT: &str = "application/x-amz-json-1.1";
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Version and cipher suite of an encrypted connection.
    pub tls: Option<(String, String)>,
}

/// Serves the requests of one connection until the client closes it, breaks the protocol, or is
/// too slow. Dropping the future closes the connection; a call that is under way is finished.
pub async fn serve_connection<I>(io: I, kms: Arc<Kms>, peer: Peer)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let address = peer.address;
    let service = service_fn(move |request| answer(kms.clone(), peer.clone(), request));
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    if let Err(error) = server.serve_connection(TokioIo::new(io), service).await {
        tracing::debug!(%error, %address, "connection of a KMS client ended");
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    kms: Arc<Kms>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let answered = perform(kms, &peer, request, &request_id).await;
    Ok(response(answered, &request_id))
}

async fn perform(
    kms: Arc<Kms>,
    peer: &Peer,
    request: Request<Incoming>,
    request_id: &str,
) -> Result<Zeroizing<Vec<u8>>, KmsException> {
    let (head, body) = request.into_parts();
    let operation = operation_of(&head)?.to_owned();
    let body = tokio::time::timeout(READ_TIMEOUT, read_body(&head.headers, body))
        .await
        .map_err(|_| KmsException::new("RequestTimeoutException", "The body took too long."))??;
    let work = {
        let source = source_of(peer, &head.headers, request_id);
        let headers = head.headers;
        move || {
            let caller = authenticate(&kms, &headers, &body, source)?;
            kms.call(&caller, &operation, &body)
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a call of the KMS panicked");
        Err(KmsException::internal("The request failed because of an internal error."))
    })
}

/// The operation that is called: a `POST` to `/` with `X-Amz-Target: TrentService.OPERATION`.
fn operation_of(head: &hyper::http::request::Parts) -> Result<&str, KmsException> {
    let unknown = || KmsException::new("UnknownOperationException", "");
    if head.method != Method::POST || head.uri.path() != "/" || head.uri.query().is_some() {
        return Err(unknown());
    }
    let mut targets = head.headers.get_all(TARGET).iter();
    let target = targets.next().and_then(|target| target.to_str().ok()).ok_or_else(unknown)?;
    let operation = target.strip_prefix("TrentService.").ok_or_else(unknown)?;
    if targets.next().is_some() || !operation.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(unknown());
    }
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(CONTENT)) {
        Ok(operation)
    } else {
        let message = format!("The content type must be {CONTENT}.");
        Err(KmsException::new("SerializationException", message))
    }
}

/// The whole body, in one allocation when its length is known, so that no part of it is left behind.
async fn read_body(
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Zeroizing<Vec<u8>>, KmsException> {
    let too_long = || {
        let message = format!("The request is longer than {BODY_LEN_MAX} bytes.");
        KmsException::new("RequestEntityTooLargeException", message)
    };
    if body.size_hint().lower() > BODY_LEN_MAX as u64 {
        return Err(too_long());
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(BODY_LEN_MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(BODY_LEN_MAX)));
    let mut body = Limited::new(body, BODY_LEN_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                too_long()
            } else {
                KmsException::new("RequestAbortedException", "The body is not complete.")
            }
        })?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

fn authenticate(
    kms: &Kms,
    headers: &HeaderMap,
    body: &[u8],
    mut source: CallSource,
) -> Result<Caller, KmsException> {
    let mut principal = None;
    let now = kms.clock.now_millis();
    let access_key_id = sigv4::verify(headers, body, &kms.region(), now, |id| {
        let credentials = kms.secret_key(id).filter(|credentials| credentials.enabled)?;
        principal = Some(credentials.principal);
        Some(credentials.secret_access_key)
    })
    .inspect_err(|error| {
        tracing::info!(error = error.name(), address = ?source.ip, "a KMS request is not signed");
    })?;
    source.access_key_id = Some(access_key_id);
    let principal =
        principal.ok_or_else(|| KmsException::internal("The signature has no principal."))?;
    Ok(Caller { principal, via_service: None, source })
}

fn source_of(peer: &Peer, headers: &HeaderMap, request_id: &str) -> CallSource {
    let text = |name: HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.map(|text| text.chars().take(USER_AGENT_LEN_MAX).collect::<String>())
    };
    let host = text(HOST).unwrap_or_default();
    CallSource {
        ip: Some(peer.address),
        user_agent: text(USER_AGENT),
        tls: peer.tls.clone().map(|(version, cipher_suite)| TlsDetails {
            version,
            cipher_suite,
            host,
        }),
        access_key_id: None,
        request_id: Some(request_id.to_owned()),
    }
}

fn response(answered: Result<Zeroizing<Vec<u8>>, KmsException>, request_id: &str) -> Answer {
    let mut response = match answered {
        Ok(json) => Response::new(Full::new(Bytes::from_owner(json))),
        Err(exception) => {
            let mut response = Response::new(Full::new(Bytes::from(error_body(&exception))));
            *response.status_mut() = status_of(exception.name());
            if let Ok(name) = HeaderValue::from_str(exception.name()) {
                response.headers_mut().insert(ERROR_TYPE, name);
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// AWS KMS answers 400 to everything a client can mend.
fn status_of(exception: &str) -> StatusCode {
    match exception {
        "KMSInternalException" | "KeyUnavailableException" => StatusCode::INTERNAL_SERVER_ERROR,
        "DependencyTimeoutException" => StatusCode::SERVICE_UNAVAILABLE,
        "RequestEntityTooLargeException" => StatusCode::PAYLOAD_TOO_LARGE,
        "RequestTimeoutException" => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn error_body(exception: &KmsException) -> Vec<u8> {
    let mut body = serde_json::Map::new();
    body.insert("__type".to_owned(), exception.name().into());
    if !exception.message().is_empty() {
        let member = match exception.name() {
            "AccessDeniedException" | "UnsupportedOperationException" => "Message",
            _ => "message",
        };
        body.insert(member.to_owned(), exception.message().into());
    }
    serde_json::Value::Object(body).to_string().into_bytes()
}

#[cfg(test)]
mod tests;
