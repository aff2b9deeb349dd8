//! The endpoint as a client sees it, byte by byte.

use super::*;
use crate::KmsOptions;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use coffer_crypto::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

struct Bed {
    dir: TempDir,
    kms: Arc<Kms>,
    key_id: String,
    secret: String,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = KmsOptions::default();
        let kms = Kms::open(&dir.path().join("kms"), &options, Arc::new(SystemClock)).unwrap();
        let file = std::fs::read_to_string(dir.path().join("kms/credentials")).unwrap();
        let value = |name: &str| {
            let line = file.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_once('=').unwrap().1.trim().to_owned()
        };
        let (key_id, secret) = (value("aws_access_key_id"), value("aws_secret_access_key"));
        Self { dir, kms, key_id, secret }
    }

    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(1 << 16);
        let peer = Peer { address: "192.0.2.1".parse().unwrap(), tls: None };
        tokio::spawn(serve_connection(server, self.kms.clone(), peer));
        client
    }

    /// The bytes of a signed request.
    fn request(&self, operation: &str, body: &str) -> String {
        let identity = Credentials::new(&self.key_id, &self.secret, None, None, "test").into();
        let now = u64::try_from(SystemClock.now_millis()).unwrap();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("kms")
            .time(SystemTime::UNIX_EPOCH + Duration::from_millis(now))
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let target = format!("TrentService.{operation}");
        let fields =
            [("host", "localhost"), ("content-type", CONTENT), ("x-amz-target", target.as_str())];
        let signable = SignableRequest::new(
            "POST",
            "http://localhost/",
            fields.into_iter(),
            SignableBody::Bytes(body.as_bytes()),
        );
        let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
        let (signed, _) = instructions.into_parts();
        let mut text = "POST / HTTP/1.1\r\n".to_owned();
        for (name, value) in fields.into_iter().chain(signed.iter().map(|h| (h.name(), h.value())))
        {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        text
    }
}

/// The next answer on a connection: status line and headers, body.
async fn read_answer(client: &mut DuplexStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |text| text.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return (head, bytes[end + 4..end + 4 + length].to_vec());
            }
        }
        let mut more = [0; 4096];
        match client.read(&mut more).await.unwrap() {
            0 => return (String::from_utf8_lossy(&bytes).to_lowercase(), Vec::new()),
            count => bytes.extend_from_slice(&more[..count]),
        }
    }
}

async fn send(client: &mut DuplexStream, request: &str) -> (String, Value) {
    client.write_all(request.as_bytes()).await.unwrap();
    let (head, body) = read_answer(client).await;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    (head, body)
}

#[tokio::test]
async fn one_connection_serves_call_after_call() {
    let bed = Bed::new();
    let mut client = bed.connect();
    let (head, made) = send(&mut client, &bed.request("CreateKey", "{}")).await;
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains("content-type: application/x-amz-json-1.1"), "{head}");
    assert!(head.contains("x-amzn-requestid: "), "{head}");
    let key = made["KeyMetadata"]["Arn"].as_str().unwrap();
    let (head, none) =
        send(&mut client, &bed.request("DisableKey", &json!({"KeyId": key}).to_string())).await;
    assert!(head.starts_with("http/1.1 200 ok") && none.is_null(), "{head} {none}");
    let body = json!({"KeyId": key, "KeySpec": "AES_256"}).to_string();
    let (head, error) = send(&mut client, &bed.request("GenerateDataKey", &body)).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert!(head.contains("x-amzn-errortype: disabledexception"), "{head}");
    assert_eq!(
        error,
        json!({"__type": "DisabledException", "message": format!("{key} is disabled.")})
    );
}

#[tokio::test]
async fn a_request_that_is_not_signed_or_not_for_the_kms_is_refused() {
    let bed = Bed::new();
    let good = bed.request("ListKeys", "{}");
    let unsigned: String =
        good.split_inclusive("\r\n").filter(|l| !l.starts_with("authorization")).collect();
    for (request, name) in [
        (unsigned, "MissingAuthenticationTokenException"),
        (good.replace("Signature=", "Signature=0"), "InvalidSignatureException"),
        (good.replace(&bed.key_id, "AKIAUNKNOWN"), "UnrecognizedClientException"),
        (
            good.replace("TrentService.ListKeys", "TrentService.CreateKey"),
            "InvalidSignatureException",
        ),
        (good.replace("TrentService.", "DynamoDB."), "UnknownOperationException"),
        (good.replace("TrentService.ListKeys", "TrentService.a/b"), "UnknownOperationException"),
        (good.replace("POST / ", "POST /x "), "UnknownOperationException"),
        (good.replace("POST / ", "POST /?a=b "), "UnknownOperationException"),
        (good.replace("POST / ", "GET / "), "UnknownOperationException"),
        (good.replace(CONTENT, "text/plain"), "SerializationException"),
        (bed.request("NoSuchOperation", "{}"), "UnknownOperationException"),
        (bed.request("ListKeys", "{"), "SerializationException"),
    ] {
        let mut client = bed.connect();
        let (head, error) = send(&mut client, &request).await;
        assert_eq!(error["__type"], name, "{request}");
        assert!(head.starts_with("http/1.1 400"), "{head}");
    }
}

#[tokio::test]
async fn only_users_that_are_enabled_get_in() {
    let mut bed = Bed::new();
    let user = bed.kms.create_user("ann", None).unwrap();
    bed.key_id = user.access_key_id.clone();
    bed.secret = user.secret_access_key.to_string();
    let request = bed.request("ListKeys", "{}");
    let (head, error) = send(&mut bed.connect(), &request).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert_eq!(error["__type"], "AccessDeniedException");
    assert!(error["Message"].as_str().unwrap().contains("user/ann"), "{error}");
    bed.kms.set_user_enabled("ann", false).unwrap();
    let (_, error) = send(&mut bed.connect(), &request).await;
    assert_eq!(error["__type"], "UnrecognizedClientException");
}

#[tokio::test]
async fn a_body_is_limited_before_it_is_read() {
    let bed = Bed::new();
    let request = bed.request("ListKeys", "{}");
    let long =
        request.replace("content-length: 2", &format!("content-length: {}", BODY_LEN_MAX + 1));
    let (head, error) = send(&mut bed.connect(), &long).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    assert_eq!(error["__type"], "RequestEntityTooLargeException");
    let (head, _) = request.split_once("content-length").unwrap();
    let mut client = bed.connect();
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    client.write_all(chunked.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..=BODY_LEN_MAX / 0x10000 {
        // the server may have answered and closed by now
        if client.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let (head, _) = read_answer(&mut client).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    let exact = " ".repeat(BODY_LEN_MAX - 2) + "{}";
    let (head, answer) = send(&mut bed.connect(), &bed.request("ListKeys", &exact)).await;
    assert!(head.starts_with("http/1.1 200"), "{head} {answer}");
}

#[tokio::test(start_paused = true)]
async fn slow_clients_are_cut_off() {
    let bed = Bed::new();
    for part in ["", "POST / HTTP/1.1\r\nhost: a\r\n"] {
        let mut client = bed.connect();
        client.write_all(part.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("200"), "{part:?}");
    }
    let mut client = bed.connect();
    let request = bed.request("ListKeys", "{}");
    let (head, error) = send(&mut client, request.strip_suffix('}').unwrap()).await;
    assert!(head.starts_with("http/1.1 408"), "{head}");
    assert_eq!(error["__type"], "RequestTimeoutException");
}

#[tokio::test]
async fn hostile_bytes_do_no_harm() {
    let bed = Bed::new();
    let good = bed.request("ListKeys", "{}").into_bytes();
    let many = format!("POST / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 10));
    let long = format!("POST / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(HEAD_LEN_MAX));
    let two_lengths = "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    let mut cases = vec![
        b"\x16\x03\x01\x02\x00".to_vec(),
        many.into_bytes(),
        long.into_bytes(),
        two_lengths.as_bytes().to_vec(),
        vec![0; 1000],
    ];
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[at] ^= 0x80;
        cases.push(changed);
    }
    for case in cases {
        let mut client = bed.connect();
        // the server may close while this is written
        client.write_all(&case).await.ok();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let (head, _) = send(&mut bed.connect(), &String::from_utf8(good).unwrap()).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_call_is_on_record_with_its_request_id_address_and_key() {
    let bed = Bed::new();
    let (head, _) = send(&mut bed.connect(), &bed.request("CreateKey", "{}")).await;
    let id = head.lines().find_map(|line| line.strip_prefix("x-amzn-requestid: ")).unwrap();
    let root = crate::load_root_key(&bed.dir.path().join("kms/root.key")).unwrap().unwrap();
    let dir = bed.dir.path().join("kms/audit");
    let reader =
        crate::audit::AuditReader::new(&dir, coffer_crypto::JournalKind::KmsAudit, vec![root]);
    let mut found = Vec::new();
    let filter =
        crate::audit::AuditFilter { event: Some("CreateKey".to_owned()), ..Default::default() };
    let summary = reader.read(&filter, &mut |record| found.push(record.json.clone())).unwrap();
    assert_eq!(summary.problems, []);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["requestID"], id);
    assert_eq!(found[0]["sourceIPAddress"], "192.0.2.1");
    assert_eq!(found[0]["userIdentity"]["accessKeyId"], bed.key_id);
}
