//! Notifications: webhook, mail, command. Each message carries a durable incident id.
#![forbid(unsafe_code)]
