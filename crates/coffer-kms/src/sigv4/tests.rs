//! Signatures made by the official signer, and everything that must not verify.

use super::*;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use std::time::{Duration, SystemTime};

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2023-11-14T22:13:20Z.
const NOW_SECONDS: u64 = 1_700_000_000;
const NOW_MILLIS: i64 = 1_700_000_000_000;
const BODY: &[u8] = br#"{"KeyId":"alias/a"}"#;

struct Signer {
    region: &'static str,
    service: &'static str,
    token: Option<&'static str>,
    at_seconds: u64,
    extra: Vec<(&'static str, &'static str)>,
}

impl Default for Signer {
    fn default() -> Self {
        let extra = Vec::new();
        Self { region: "us-east-1", service: "kms", token: None, at_seconds: NOW_SECONDS, extra }
    }
}

impl Signer {
    fn sign(&self, body: &[u8]) -> HeaderMap {
        let identity =
            Credentials::new(KEY_ID, SECRET, self.token.map(str::to_owned), None, "test").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(self.at_seconds))
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let mut fields = vec![
            ("host", "127.0.0.1:8443"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "TrentService.DescribeKey"),
        ];
        fields.extend(&self.extra);
        let request = SignableRequest::new(
            "POST",
            "http://127.0.0.1:8443/",
            fields.iter().copied(),
            SignableBody::Bytes(body),
        )
        .unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let mut headers = HeaderMap::new();
        let (signed, _) = instructions.into_parts();
        for (name, value) in fields {
            headers.append(name, value.parse().unwrap());
        }
        for header in signed {
            headers.append(header.name(), header.value().parse().unwrap());
        }
        headers
    }
}

fn check(headers: &HeaderMap, body: &[u8]) -> Result<String, KmsException> {
    check_at(headers, body, NOW_MILLIS)
}

fn check_at(headers: &HeaderMap, body: &[u8], now_millis: i64) -> Result<String, KmsException> {
    verify(headers, body, "us-east-1", now_millis, |id| {
        (id == KEY_ID).then(|| Zeroizing::new(SECRET.to_owned()))
    })
}

fn name_of(result: Result<String, KmsException>) -> &'static str {
    result.map_or_else(|error| error.name(), |_| "accepted")
}

#[test]
fn what_the_official_signer_signed_is_accepted() {
    assert_eq!(check(&Signer::default().sign(BODY), BODY).unwrap(), KEY_ID);
    assert_eq!(check(&Signer::default().sign(b""), b"").unwrap(), KEY_ID);
    let extra = vec![("x-amz-meta", "  two   words "), ("x-amz-meta", "more")];
    assert_eq!(check(&Signer { extra, ..Signer::default() }.sign(BODY), BODY).unwrap(), KEY_ID);
}

#[test]
fn the_signature_of_a_known_request_is_the_known_one() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "kms.us-east-1.amazonaws.com"),
        ("x-amz-date", "20231114T221320Z"),
        ("x-amz-target", "TrentService.ListKeys"),
        ("content-type", "application/x-amz-json-1.1"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    // computed with an independent implementation (Python, hashlib and hmac)
    let signature = "8070822bf074af1b1155cfe9de42cfc470dafe72220a1c11762c558e51e1117c";
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/20231114/us-east-1/kms/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={signature}"
    );
    headers.append("authorization", authorization.parse().unwrap());
    assert_eq!(check(&headers, b"{}").unwrap(), KEY_ID);
}

#[test]
fn any_change_to_what_was_signed_is_refused() {
    let signed = Signer::default().sign(BODY);
    assert_eq!(name_of(check(&signed, b"{\"KeyId\":\"alias/b\"}")), "InvalidSignatureException");
    assert_eq!(name_of(check(&signed, b"")), "InvalidSignatureException");
    for (name, value) in [
        ("x-amz-target", "TrentService.ScheduleKeyDeletion"),
        ("host", "127.0.0.1:8444"),
        ("content-type", "application/json"),
        ("x-amz-date", "20231114T221321Z"),
    ] {
        let mut changed = signed.clone();
        changed.insert(name, value.parse().unwrap());
        assert_eq!(name_of(check(&changed, BODY)), "InvalidSignatureException", "{name}");
        changed.remove(name);
        assert_ne!(name_of(check(&changed, BODY)), "accepted", "{name} removed");
        let mut twice = signed.clone();
        twice.append(name, value.parse().unwrap());
        assert_ne!(name_of(check(&twice, BODY)), "accepted", "{name} twice");
    }
    let mut added = signed.clone();
    added.append("x-amz-other", "1".parse().unwrap());
    assert_eq!(name_of(check(&added, BODY)), "InvalidSignatureException");
    let authorization = signed["authorization"].to_str().unwrap();
    for at in 0..authorization.len() {
        let mut bytes = authorization.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        let mut changed = signed.clone();
        changed.insert("authorization", String::from_utf8(bytes).unwrap().parse().unwrap());
        assert_ne!(name_of(check(&changed, BODY)), "accepted", "position {at}");
    }
}

#[test]
fn credentials_of_others_are_not_recognised() {
    let token = Signer { token: Some("session"), ..Signer::default() }.sign(BODY);
    assert_eq!(name_of(check(&token, BODY)), "UnrecognizedClientException");
    let signed = Signer::default().sign(BODY);
    let unknown = verify(&signed, BODY, "us-east-1", NOW_MILLIS, |_| None);
    assert_eq!(name_of(unknown), "UnrecognizedClientException");
    let other = |_: &str| Some(Zeroizing::new("other".to_owned()));
    let wrong = verify(&signed, BODY, "us-east-1", NOW_MILLIS, other);
    assert_eq!(name_of(wrong), "InvalidSignatureException");
}

#[test]
fn a_signature_for_another_region_or_service_is_refused() {
    let region = Signer { region: "eu-west-1", ..Signer::default() }.sign(BODY);
    let refused = check(&region, BODY).unwrap_err();
    assert_eq!(refused.name(), "InvalidSignatureException");
    assert!(refused.message().contains("'eu-west-1'") && refused.message().contains("us-east-1"));
    let service = Signer { service: "s3", ..Signer::default() }.sign(BODY);
    assert!(check(&service, BODY).unwrap_err().message().contains("'kms'"));
}

#[test]
fn a_request_is_good_for_five_minutes_around_its_date() {
    let signed = Signer::default().sign(BODY);
    for (shift_seconds, is_good) in
        [(0, true), (300, true), (-300, true), (301, false), (-301, false), (86_400, false)]
    {
        let checked = check_at(&signed, BODY, NOW_MILLIS + shift_seconds * 1000);
        assert_eq!(checked.is_ok(), is_good, "{shift_seconds}");
        if let Err(error) = checked {
            assert_eq!(error.name(), "InvalidSignatureException");
            let text = if shift_seconds > 0 { "Signature expired" } else { "not yet current" };
            assert!(error.message().contains(text), "{error}");
        }
    }
}

#[test]
fn an_authorization_that_is_not_whole_is_named() {
    let good = Signer::default().sign(BODY)["authorization"].to_str().unwrap().to_owned();
    for (authorization, name) in [
        ("", "IncompleteSignatureException"),
        ("Bearer abc", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 Credential=a", "IncompleteSignatureException"),
        (
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0",
            "IncompleteSignatureException",
        ),
        (&good.replace("us-east-1/kms", "kms"), "IncompleteSignatureException"),
        (&good.replace("content-type;", ""), "InvalidSignatureException"),
        (&good.replace(";x-amz-target", ""), "InvalidSignatureException"),
        (&good.replace("host;", ""), "InvalidSignatureException"),
        (&good.replace("content-type;host", "host;content-type"), "IncompleteSignatureException"),
        (&good.replace("host;", "host;host;"), "IncompleteSignatureException"),
        (&good.replace("host;", "Host;"), "IncompleteSignatureException"),
        (&format!("{good}, Signature=0"), "IncompleteSignatureException"),
        (&format!("{good}, Other=0"), "IncompleteSignatureException"),
        (&good.replace("20231114", "20231113"), "InvalidSignatureException"),
        (&good.replace("aws4_request", "aws5_request"), "InvalidSignatureException"),
    ] {
        let mut headers = Signer::default().sign(BODY);
        headers.insert("authorization", authorization.parse().unwrap());
        assert_eq!(name_of(check(&headers, BODY)), name, "{authorization}");
    }
    let mut headers = Signer::default().sign(BODY);
    headers.append("authorization", good.parse().unwrap());
    assert_eq!(name_of(check(&headers, BODY)), "IncompleteSignatureException");
    headers.remove("authorization");
    assert_eq!(name_of(check(&headers, BODY)), "MissingAuthenticationTokenException");
    for date in ["", "yesterday", "20231114T221320", "99991399T996699Z", "\u{e9}"] {
        let mut headers = Signer::default().sign(BODY);
        headers
            .insert("x-amz-date", hyper::header::HeaderValue::from_bytes(date.as_bytes()).unwrap());
        assert_eq!(name_of(check(&headers, BODY)), "IncompleteSignatureException", "{date}");
    }
}
