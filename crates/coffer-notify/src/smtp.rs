//! Mail by SMTP.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::error::{DeliveryError, SetupError, chain, printable};
use crate::message::Notification;
use crate::secret::{read_certificates, read_secret};
use crate::webhook::is_loopback;

/// Time to connect.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one transaction, from connecting to the answer.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages of which it is known who has them already.
const PARTLY_DELIVERED_MAX: usize = 1_000;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SmtpSecurity {
    /// STARTTLS, and nothing is sent without it.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Nothing; for loopback.
    None,
}

impl SmtpSecurity {
    const fn default_port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// Settings of mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmtpOptions {
    /// Name or address of the mail server.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// How the connection is protected.
    pub security: SmtpSecurity,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// User at the mail server.
    pub user: Option<String>,
    /// File of its password.
    pub password_file: Option<PathBuf>,
    /// PEM file of the certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// No TLS to any address.
    pub allow_plaintext: bool,
}

/// Mail.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    /// Time for one transaction.
    timeout: Duration,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// Which recipients have a message that others of them do not have yet, by its id.
    delivered: Mutex<HashMap<String, HashSet<usize>>>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Reads the files; connects to nothing.
    ///
    /// # Errors
    /// When a setting is wrong or a file cannot be used.
    pub fn new(options: &SmtpOptions) -> Result<Self, SetupError> {
        let mailbox = |name: &'static str, text: &str| {
            text.parse::<Mailbox>()
                .map_err(|error| SetupError::setting(name, format!("{text:?}: {error}")))
        };
        let to: Vec<Mailbox> =
            options.to.iter().map(|text| mailbox("to", text)).collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(SetupError::setting("to", "it names no recipient"));
        }
        if options.host.is_empty() {
            return Err(SetupError::setting("host", "it is missing"));
        }
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(options.host.as_str())
                .port(options.port.unwrap_or(options.security.default_port()))
                .timeout(Some(TIMEOUT))
                .tls(tls(options)?);
        match (&options.user, &options.password_file) {
            (None, None) => {}
            (Some(user), Some(path)) => {
                let password = read_secret("password_file", path, 1)?;
                let password = std::str::from_utf8(&password).map_err(|_| {
                    SetupError::setting("password_file", "the password is no UTF-8 text")
                })?;
                builder = builder.credentials(Credentials::new(user.clone(), password.to_owned()));
            }
            _ => {
                return Err(SetupError::setting("user", "user and password_file go together"));
            }
        }
        Ok(Self {
            transport: builder.build(),
            timeout: TRANSACTION_TIMEOUT,
            from: mailbox("from", &options.from)?,
            to,
            delivered: Mutex::default(),
        })
    }

    /// One transaction for each recipient, so that a mailbox that is gone does not keep the mail from
    /// the others.
    pub(crate) async fn deliver(&self, notification: &Notification) -> Result<(), DeliveryError> {
        let mail = self.mail(notification)?;
        let mut failure: Option<DeliveryError> = None;
        for (place, recipient) in self.to.iter().enumerate() {
            if self.has(&notification.id, place) {
                continue;
            }
            let sender = Some(self.from.email.clone());
            let envelope = Envelope::new(sender, vec![recipient.email.clone()])
                .map_err(|error| DeliveryError::refused(chain(&error)))?;
            let sending = self.transport.send_raw(&envelope, &mail);
            // the transport's own timeout is that of connecting
            let (reason, is_refused) = match tokio::time::timeout(self.timeout, sending).await {
                Ok(Ok(_)) => {
                    self.note(&notification.id, place);
                    continue;
                }
                Ok(Err(error)) => (chain(&error), error.is_permanent()),
                Err(_) => {
                    let seconds = self.timeout.as_secs();
                    (format!("the mail server did not take it within {seconds} s"), false)
                }
            };
            // one that may get through soon is what decides when to try again
            if failure.as_ref().is_none_or(|known| known.is_refused) {
                let reason = printable(&format!("mail to {}: {reason}", recipient.email));
                failure = Some(DeliveryError { reason, is_refused });
            }
        }
        match failure {
            Some(error) => Err(error),
            None => {
                self.forget(&notification.id);
                Ok(())
            }
        }
    }

    fn mail(&self, notification: &Notification) -> Result<Vec<u8>, DeliveryError> {
        let millis = u64::try_from(notification.at.0).unwrap_or_default();
        let date = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let header = |name: &'static str, value: &str| {
            HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
        };
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(notification.subject())
            .date(date)
            .message_id(Some(format!("<{}@{}>", notification.id, self.from.email.domain())))
            .raw_header(header("Coffer-Incident", &notification.incident))
            .raw_header(header("Coffer-Event", &notification.id))
            .raw_header(header("Coffer-Kind", &notification.kind))
            .raw_header(header("Auto-Submitted", "auto-generated"));
        for recipient in &self.to {
            builder = builder.to(recipient.clone());
        }
        let message = builder.header(ContentType::TEXT_PLAIN).body(notification.text());
        Ok(message.map_err(|error| DeliveryError::refused(chain(&error)))?.formatted())
    }

    fn has(&self, id: &str, place: usize) -> bool {
        let delivered = self.delivered.lock();
        delivered.is_ok_and(|known| known.get(id).is_some_and(|places| places.contains(&place)))
    }

    fn note(&self, id: &str, place: usize) {
        let Ok(mut delivered) = self.delivered.lock() else { return };
        if delivered.len() < PARTLY_DELIVERED_MAX || delivered.contains_key(id) {
            delivered.entry(id.to_owned()).or_default().insert(place);
        }
    }

    fn forget(&self, id: &str) {
        if let Ok(mut delivered) = self.delivered.lock() {
            delivered.remove(id);
        }
    }
}

fn tls(options: &SmtpOptions) -> Result<Tls, SetupError> {
    if options.security == SmtpSecurity::None {
        if options.allow_plaintext || is_loopback(Some(&options.host)) {
            return Ok(Tls::None);
        }
        return Err(SetupError::setting(
            "security",
            "\"none\" tells everybody on the way: use \"starttls\" or \"tls\", or set \
             allow_plaintext = true",
        ));
    }
    let failed = |error| SetupError::setting("ca_file", chain(&error));
    let mut parameters = TlsParameters::builder(options.host.clone());
    if let Some(path) = &options.ca_file {
        let certificates = Certificate::from_pem(&read_certificates(path)?).map_err(failed)?;
        parameters =
            parameters.certificate_store(CertificateStore::None).add_root_certificate(certificates);
    }
    let parameters = parameters.build_rustls().map_err(failed)?;
    Ok(match options.security {
        SmtpSecurity::Tls => Tls::Wrapper(parameters),
        SmtpSecurity::StartTls | SmtpSecurity::None => Tls::Required(parameters),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    fn options() -> SmtpOptions {
        SmtpOptions {
            host: "127.0.0.1".into(),
            security: SmtpSecurity::None,
            from: "Coffer <coffer@example.com>".into(),
            to: vec!["ops@example.com".into(), "Ann <ann@example.com>".into()],
            ..SmtpOptions::default()
        }
    }

    #[test]
    fn mail_carries_event_and_incident_in_its_headers() {
        let smtp = Smtp::new(&options()).unwrap();
        let mail = String::from_utf8(smtp.mail(&sample()).unwrap()).unwrap();
        for wanted in [
            "Message-ID: <5f1e3c00-c77a-11f0-8001-020304050607@example.com>\r\n",
            "Coffer-Incident: 07070707-0707-4707-8707-070707070707\r\n",
            "To: ops@example.com, Ann <ann@example.com>\r\n",
            "Date: Sun, 22 Nov 2026 00:00:00 +0000\r\n",
            "Auto-Submitted: auto-generated\r\n",
        ] {
            assert!(mail.contains(wanted), "{wanted} is not in:\n{mail}");
        }
        assert_eq!(mail, String::from_utf8(smtp.mail(&sample()).unwrap()).unwrap(), "a repeat");
    }

    #[tokio::test]
    async fn a_mail_server_that_stays_silent_is_given_up() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = Some(silent.local_addr().unwrap().port());
        let mut smtp = Smtp::new(&SmtpOptions { port, ..options() }).unwrap();
        smtp.timeout = Duration::from_millis(100);
        let sample = sample();
        let delivering = tokio::time::timeout(Duration::from_secs(30), smtp.deliver(&sample));
        let error = delivering.await.expect("it hangs").unwrap_err();
        assert!(error.reason.contains("did not take it") && !error.is_refused, "{error}");
        drop(silent);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        for (wrong, wanted) in [
            (SmtpOptions { to: Vec::new(), ..options() }, "to"),
            (SmtpOptions { from: "coffer".into(), ..options() }, "from"),
            (SmtpOptions { host: "mail.example.com".into(), ..options() }, "security"),
            (SmtpOptions { user: Some("u".into()), ..options() }, "password_file"),
            (SmtpOptions { host: String::new(), ..options() }, "host"),
        ] {
            let text = Smtp::new(&wrong).unwrap_err().to_string();
            assert!(text.contains(wanted), "{text}");
        }
        let secure = SmtpOptions { security: SmtpSecurity::StartTls, ..options() };
        assert!(Smtp::new(&SmtpOptions { host: "mail.example.com".into(), ..secure }).is_ok());
    }
}
