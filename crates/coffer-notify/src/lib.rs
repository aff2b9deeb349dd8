//! Notifications: one message, told by webhook, mail or command.
//!
//! A channel delivers one message at a time and remembers nothing that must outlive the process: what
//! is pending, and when to try again, is its caller's. Each message carries the id of its event and
//! the id of its incident, so that a receiver recognises one that comes twice.
#![forbid(unsafe_code)]

mod command;
mod error;
mod message;
mod retry;
mod secret;
mod smtp;
mod webhook;

pub use command::{Command, CommandOptions};
pub use error::{DeliveryError, SetupError};
pub use message::{Moment, Notification, Severity};
pub use retry::pause_millis;
pub use smtp::{Smtp, SmtpOptions, SmtpSecurity};
pub use webhook::{Webhook, WebhookFormat, WebhookOptions};

/// A way to tell somebody.
#[derive(Debug)]
#[non_exhaustive]
pub enum Channel {
    /// HTTP POST of JSON.
    Webhook(Webhook),
    /// Mail.
    Smtp(Box<Smtp>),
    /// A program is run.
    Command(Command),
}

impl Channel {
    /// Its name: `webhook`, `smtp` or `command`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Smtp(_) => "smtp",
            Self::Command(_) => "command",
        }
    }

    /// Delivers a message, or fails within the channel's timeout. `now_seconds` is the wall clock,
    /// seconds since 1970.
    ///
    /// # Errors
    /// The receiver does not answer, or does not take it.
    pub async fn deliver(
        &self,
        notification: &Notification,
        now_seconds: i64,
    ) -> Result<(), DeliveryError> {
        match self {
            Self::Webhook(webhook) => webhook.deliver(notification, now_seconds).await,
            Self::Smtp(smtp) => smtp.deliver(notification).await,
            Self::Command(command) => command.deliver(notification).await,
        }
    }
}
