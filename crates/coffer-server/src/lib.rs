//! The `coffer` binary: configuration, listener, connections, dispatch, shutdown.
//!
//! `connection` is the loop of one client, `dispatch` the way of what cannot be answered at once,
//! `error_response` the only place where errors become CQL codes, `config` every option and limit.
#![forbid(unsafe_code)]

mod admin;
mod answer;
mod audit_anchor;
mod audit_command;
mod audit_operations;
mod authentication;
mod backup_command;
mod backups;
mod cli;
mod command;
mod config;
mod connection;
mod data_directory;
mod dispatch;
mod error;
mod error_response;
mod events;
mod http_faults;
mod in_flight;
mod inspect;
mod key_policy;
mod key_watch;
mod kms_command;
mod kms_endpoint;
mod kms_fault;
mod kms_providers;
mod kms_serve;
mod kms_thread;
mod listener;
mod logging;
mod metrics;
mod notifications;
mod prepared_cache;
mod printable;
mod scan_lane;
mod schema_log;
mod serve;
mod server;
mod snapshot_command;
mod snapshots;
mod statement;
mod table_keys;
mod table_opening;
mod tls;
mod trace;
mod verify;

pub use command::run;
pub use config::{
    AuthenticatorKind, AwsProviderOptions, Config, ConfigError, KmsProviderOptions, Limits,
    NotifyOptions, OPTIONS, OptionSpec, TlsOptions,
};
pub use error::{CommandError, Result};
pub use kms_thread::prepare_kms_threads;
