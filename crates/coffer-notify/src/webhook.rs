//! Webhook: POST of the JSON document, signed.

use std::path::PathBuf;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Proxy, StatusCode, Url};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::{DeliveryError, SetupError, chain};
use crate::message::Notification;
use crate::secret::{read_certificates, read_secret};

/// Header of the signature: `t=<seconds since 1970>,v1=<hex of HMAC-SHA-256 of "t.body">`.
const SIGNATURE_HEADER: &str = "Coffer-Signature";
/// Shortest secret of signatures, bytes.
const SECRET_BYTES_MIN: usize = 16;
/// Time for one request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a webhook posts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WebhookFormat {
    /// The document itself.
    #[default]
    Document,
    /// The document in an event as Amazon EventBridge has them.
    EventBridge,
}

/// Settings of a webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookOptions {
    /// Where to; `https://`, or `http://` to a loopback address.
    pub url: String,
    /// What is posted there.
    pub format: WebhookFormat,
    /// File of the secret that requests are signed with.
    pub secret_file: Option<PathBuf>,
    /// PEM file of the certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxy to go through.
    pub proxy: Option<String>,
    /// `http://` to any address.
    pub allow_plaintext: bool,
}

/// A webhook.
pub struct Webhook {
    client: Client,
    url: Url,
    format: WebhookFormat,
    secret: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

impl Webhook {
    /// Reads the files; connects to nothing. The process must have a default provider of TLS.
    ///
    /// # Errors
    /// When a setting is wrong or a file cannot be used.
    pub fn new(options: &WebhookOptions) -> Result<Self, SetupError> {
        // not the text itself: a URL may hold a token
        let wrong = |problem: &str| SetupError::setting("url", problem);
        let url = Url::parse(&options.url).map_err(|error| wrong(&error.to_string()))?;
        match url.scheme() {
            "https" => {}
            "http" if options.allow_plaintext || is_loopback(url.host_str()) => {}
            "http" => {
                return Err(wrong(
                    "http:// tells everybody on the way: use https://, or set allow_plaintext = true",
                ));
            }
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        }
        let mut builder = Client::builder().redirect(Policy::none()).timeout(TIMEOUT).no_proxy();
        if let Some(proxy) = &options.proxy {
            let proxy = Proxy::all(proxy);
            builder =
                builder.proxy(proxy.map_err(|error| SetupError::setting("proxy", chain(&error)))?);
        }
        if let Some(path) = &options.ca_file {
            let certificates = Certificate::from_pem_bundle(&read_certificates(path)?);
            builder = builder.tls_certs_only(
                certificates.map_err(|error| SetupError::setting("ca_file", chain(&error)))?,
            );
        }
        let secret = options
            .secret_file
            .as_deref()
            .map(|path| read_secret("secret_file", path, SECRET_BYTES_MIN))
            .transpose()?;
        let client = builder.build().map_err(|error| SetupError::setting("url", chain(&error)))?;
        Ok(Self { client, url, format: options.format, secret })
    }

    pub(crate) async fn deliver(
        &self,
        notification: &Notification,
        now_seconds: i64,
    ) -> Result<(), DeliveryError> {
        let body = match self.format {
            WebhookFormat::Document => notification.to_json(),
            WebhookFormat::EventBridge => notification.to_event_bridge(),
        };
        let mut request = self
            .client
            .post(self.url.clone())
            .header("Content-Type", "application/json")
            .header("User-Agent", concat!("coffer/", env!("CARGO_PKG_VERSION")))
            .header("Coffer-Event", &notification.id)
            .header("Coffer-Incident", &notification.incident);
        if let Some(secret) = &self.secret {
            request = request.header(SIGNATURE_HEADER, signature(secret, now_seconds, &body));
        }
        let answer = request.body(body).send().await;
        // the error without the URL, which may hold a token
        let answer = answer.map_err(|error| DeliveryError::failed(chain(&error.without_url())))?;
        judge(answer.status())
    }
}

fn judge(status: StatusCode) -> Result<(), DeliveryError> {
    let text = format!("the receiver answered {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        // asked to wait, or the receiver is being started
        408 | 425 | 429 => Err(DeliveryError::failed(text)),
        300..=499 => Err(DeliveryError::refused(text)),
        _ => Err(DeliveryError::failed(text)),
    }
}

fn signature(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    // HMAC takes keys of any length
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// Whether a host of a URL is this machine.
pub(crate) fn is_loopback(host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> WebhookOptions {
        WebhookOptions { url: url.to_owned(), ..WebhookOptions::default() }
    }

    #[test]
    fn plaintext_is_for_loopback_or_by_word() {
        // of several tests of this process only the first sets it
        let _ = rustls::crypto::ring::default_provider().install_default();
        for right in ["http://127.0.0.1:1/x", "http://[::1]:1", "http://localhost", "https://a.b"] {
            assert!(Webhook::new(&options(right)).is_ok(), "{right}");
        }
        for wrong in ["http://192.0.2.1/x", "ftp://127.0.0.1", "no url"] {
            assert!(Webhook::new(&options(wrong)).is_err(), "{wrong}");
        }
        let allowed = WebhookOptions { allow_plaintext: true, ..options("http://192.0.2.1/x") };
        assert!(Webhook::new(&allowed).is_ok());
        let token = Webhook::new(&options("ftp://h/token-4711")).unwrap_err().to_string();
        assert!(!token.contains("4711"), "{token}");
    }

    #[test]
    fn the_signature_is_that_of_the_manual() {
        // printf '17.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            signature(b"0123456789abcdef", 17, b"{}"),
            "t=17,v1=47fbe0b0fc46f5c1c83c07456c70992bb9ad376f5f8bd7e3c695a76445ac2cbc"
        );
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let of = |status: u16| judge(StatusCode::from_u16(status).unwrap());
        for status in [200, 202, 204] {
            assert_eq!(of(status), Ok(()));
        }
        for (status, is_refused) in [
            (301, true),
            (400, true),
            (404, true),
            (408, false),
            (425, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            assert_eq!(of(status).unwrap_err().is_refused, is_refused, "{status}");
        }
    }
}
