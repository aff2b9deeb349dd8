//! From syntax tree to rows: catalog, planning, execution, system tables.
//!
//! The server calls [`Database::parse_and_prepare`] once for a text and [`Database::execute`] for
//! every request; both are synchronous and bounded. What cannot be answered at once comes back as
//! a [`Step`] that says what to wait for.
#![forbid(unsafe_code)]

mod aggregate;
mod bind;
mod custom_properties;
mod database;
mod describe;
mod digest;
mod encryption_policy;
mod error;
mod events;
mod execute;
mod filter;
mod functions;
mod history;
mod java_double;
mod key_health;
mod key_monitor;
mod key_queue;
mod key_upkeep;
mod metadata;
mod number;
mod paging;
mod plan;
mod prepare;
mod root_key;
mod schema;
mod schema_audit;
mod selection;
mod system;
mod table_keys;
mod table_options;
mod table_source;

pub use database::{
    BatchItem, BatchKind, BatchRequest, Database, DatabaseOptions, Outcome, OutcomeKind,
    QueryParameters, Rows, Session, Step,
};
pub use encryption_policy::EncryptionOptions;
pub use error::{Error, Result};
pub use events::{Event, EventKind};
pub use execute::SelectExecution;
pub use execute::restore::backup::{BACKUP_KEYSPACE, BackupKeys, BackupNote, EXPORT_PREFIX};
pub use execute::schema_change::{SchemaChangeEvent, SchemaChangePlan};
pub use key_monitor::{KeyCondition, KeyHealthOptions};
pub use metadata::{BindMetadata, ColumnSpec, ResultMetadata};
pub use prepare::Prepared;
pub use schema::{Keyspace, Schema, Table};
pub use schema_audit::{AuditedOperation, SchemaAudit, SchemaAuditEvent};
pub use system::traces::{TraceEvent, TraceSession, Traces};
pub use table_source::{TableSource, VirtualRow, VirtualTable};
