//! `[notify.webhook]`, `[notify.smtp]`, `[notify.command]` of the configuration file: who is told of
//! what happens to keys.

use std::path::PathBuf;
use std::time::Duration;

use coffer_notify::{CommandOptions, SmtpOptions, SmtpSecurity, WebhookFormat, WebhookOptions};

use super::ConfigError;

/// Name of the table.
pub(super) const TABLE: &str = "notify";
/// What may be given, for messages.
const ALLOWED: &str = "tables [notify.webhook] with url, format, secret_file, ca_file, proxy, \
                       allow_plaintext; [notify.smtp] with host, port, security, from, to, user, \
                       password_file, ca_file, allow_plaintext; [notify.command] with path, \
                       arguments, timeout_seconds";
/// Longest time of a command.
const COMMAND_SECONDS_MAX: i64 = 600;

/// The channels that are configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyOptions {
    /// HTTP POST.
    pub webhook: Option<WebhookOptions>,
    /// Mail.
    pub smtp: Option<SmtpOptions>,
    /// A program.
    pub command: Option<CommandOptions>,
}

/// Reads the value of `notify`.
pub(super) fn parse(value: &toml::Value, source: &str) -> Result<NotifyOptions, ConfigError> {
    read(value).map_err(|problem| ConfigError::Value {
        name: TABLE,
        source_name: source.to_owned(),
        problem,
        allowed: ALLOWED,
    })
}

fn read(value: &toml::Value) -> Result<NotifyOptions, String> {
    let mut options = NotifyOptions::default();
    for (channel, value) in value.as_table().ok_or("it is no table")? {
        let table = value.as_table().ok_or_else(|| format!("{channel} is no table"))?;
        let in_channel = |problem: String| format!("{channel}: {problem}");
        match channel.as_str() {
            "webhook" => options.webhook = Some(webhook(table).map_err(in_channel)?),
            "smtp" => options.smtp = Some(smtp(table).map_err(in_channel)?),
            "command" => options.command = Some(command(table).map_err(in_channel)?),
            other => return Err(format!("there is no channel {other}")),
        }
    }
    Ok(options)
}

fn webhook(table: &toml::Table) -> Result<WebhookOptions, String> {
    let mut options = WebhookOptions::default();
    for (name, value) in table {
        match name.as_str() {
            "url" => options.url = text(name, value)?,
            "format" => {
                options.format = match text(name, value)?.as_str() {
                    "document" => WebhookFormat::Document,
                    "eventbridge" => WebhookFormat::EventBridge,
                    other => {
                        return Err(format!("format {other:?} is not document or eventbridge"));
                    }
                }
            }
            "secret_file" => options.secret_file = Some(PathBuf::from(text(name, value)?)),
            "ca_file" => options.ca_file = Some(PathBuf::from(text(name, value)?)),
            "proxy" => options.proxy = Some(text(name, value)?),
            "allow_plaintext" => options.allow_plaintext = truth(name, value)?,
            other => return Err(no_such(other)),
        }
    }
    if options.url.is_empty() {
        return Err("url is missing".to_owned());
    }
    Ok(options)
}

fn smtp(table: &toml::Table) -> Result<SmtpOptions, String> {
    let mut options = SmtpOptions::default();
    for (name, value) in table {
        match name.as_str() {
            "host" => options.host = text(name, value)?,
            "port" => {
                let port = value.as_integer().and_then(|port| u16::try_from(port).ok());
                options.port = Some(port.ok_or("port is not a number from 0 to 65535")?);
            }
            "security" => {
                options.security = match text(name, value)?.as_str() {
                    "starttls" => SmtpSecurity::StartTls,
                    "tls" => SmtpSecurity::Tls,
                    "none" => SmtpSecurity::None,
                    other => {
                        return Err(format!("security {other:?} is not starttls, tls or none"));
                    }
                }
            }
            "from" => options.from = text(name, value)?,
            "to" => options.to = texts(name, value)?,
            "user" => options.user = Some(text(name, value)?),
            "password_file" => options.password_file = Some(PathBuf::from(text(name, value)?)),
            "ca_file" => options.ca_file = Some(PathBuf::from(text(name, value)?)),
            "allow_plaintext" => options.allow_plaintext = truth(name, value)?,
            "password" => {
                return Err("a password has no place here: name a password_file".to_owned());
            }
            other => return Err(no_such(other)),
        }
    }
    for (name, is_missing) in [
        ("host", options.host.is_empty()),
        ("from", options.from.is_empty()),
        ("to", options.to.is_empty()),
    ] {
        if is_missing {
            return Err(format!("{name} is missing"));
        }
    }
    Ok(options)
}

fn command(table: &toml::Table) -> Result<CommandOptions, String> {
    let mut options = CommandOptions::default();
    for (name, value) in table {
        match name.as_str() {
            "path" => options.path = PathBuf::from(text(name, value)?),
            "arguments" => options.arguments = texts(name, value)?,
            "timeout_seconds" => {
                let seconds = value.as_integer().filter(|n| (1..=COMMAND_SECONDS_MAX).contains(n));
                let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let wrong =
                    || format!("timeout_seconds is not a number from 1 to {COMMAND_SECONDS_MAX}");
                options.timeout = Duration::from_secs(seconds.ok_or_else(wrong)?);
            }
            other => return Err(no_such(other)),
        }
    }
    if options.path.as_os_str().is_empty() {
        return Err("path is missing".to_owned());
    }
    Ok(options)
}

fn no_such(name: &str) -> String {
    format!("it has no {name}")
}

fn text(name: &str, value: &toml::Value) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty() && text.len() <= 4096);
    // not the value: it may be a secret in the wrong place
    text.map(str::to_owned).ok_or_else(|| format!("{name} is not a text, empty, or too long"))
}

fn texts(name: &str, value: &toml::Value) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| format!("{name} is no list of texts"))?;
    list.iter().map(|value| text(name, value)).collect()
}

fn truth(name: &str, value: &toml::Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{name} is neither true nor false"))
}
