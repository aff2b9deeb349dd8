//! Who changed the schema: an event for each statement that tries to.

use std::fmt;
use std::net::SocketAddr;

use cql_parser::ast::StatementKind;
use serde_json::{Map, Value};

use crate::database::Database;
use crate::error::Error;

/// A schema statement that was run, or what Coffer or its operator did to a table or with a copy of it.
/// Never holds values of rows: only statements that change the schema are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaAuditEvent {
    /// `CreateKeyspace`, `AlterKeyspace`, `DropKeyspace`, `CreateTable`, `AlterTable`, `DropTable`,
    /// `RestoreTable`, `CreateUdt`, `AlterUdt`, `DropUdt` or `TruncateTable`; of what is no statement
    /// `DropTable`, `PurgeSnapshot`, or an [`AuditedOperation`]'s.
    pub name: &'static str,
    /// Role that authenticated; `None` without authentication.
    pub user: Option<String>,
    /// Address of the client.
    pub client: Option<SocketAddr>,
    /// The statement as it was given; empty for what is no statement and has `parameters`.
    pub statement: String,
    /// Keyspace.
    pub keyspace: String,
    /// Table or type; `None` for a keyspace.
    pub table: Option<String>,
    /// ARN of the KMS key the statement names.
    pub key_arn: Option<String>,
    /// What an operation was done with.
    pub parameters: Map<String, Value>,
    /// Why it failed.
    pub error: Option<Error>,
    /// Wall clock at its end, milliseconds since 1970.
    pub at_millis: i64,
}

/// Keeps the events of schema statements.
pub trait SchemaAudit: fmt::Debug + Send + Sync {
    /// Takes one event, after the statement and before its answer. May block for as long as writing
    /// a line takes. Tells whether it is kept; that it is not is its own to report.
    fn record(&self, event: &SchemaAuditEvent) -> bool;
}

/// What was done to a table without a statement.
#[derive(Debug)]
pub struct AuditedOperation<'a> {
    /// As `CreateSnapshot`.
    pub name: &'static str,
    /// The table's keyspace.
    pub keyspace: &'a str,
    /// The table.
    pub table: &'a str,
    /// ARN of the KMS key it was done under.
    pub key_arn: Option<String>,
    /// What it was done with, by name.
    pub parameters: Map<String, Value>,
    /// Why it failed.
    pub error: Option<Error>,
}

impl Database {
    /// Records an operation in the audit log, where there is one. Blocks for as long as writing a line
    /// takes.
    pub fn audit_operation(&self, operation: AuditedOperation<'_>) {
        let Some(audit) = &self.options().schema_audit else { return };
        let _is_kept = audit.record(&SchemaAuditEvent {
            name: operation.name,
            user: None,
            client: None,
            statement: String::new(),
            keyspace: operation.keyspace.to_owned(),
            table: Some(operation.table.to_owned()),
            key_arn: operation.key_arn,
            parameters: operation.parameters,
            error: operation.error,
            at_millis: self.clock().now_millis(),
        });
    }
}

/// Name, keyspace, and table or type of a schema statement.
pub(crate) fn subject(statement: &StatementKind) -> (&'static str, &str, Option<&str>) {
    use StatementKind as Kind;
    let (event, name) = match statement {
        Kind::CreateKeyspace(create) => return ("CreateKeyspace", &create.name, None),
        Kind::AlterKeyspace(alter) => return ("AlterKeyspace", &alter.name, None),
        Kind::DropKeyspace { name, .. } => return ("DropKeyspace", name, None),
        Kind::CreateTable(create) => ("CreateTable", &create.name),
        Kind::AlterTable(alter) => ("AlterTable", &alter.name),
        Kind::RestoreTable(restore) => ("RestoreTable", &restore.name),
        Kind::DropTable { name, .. } => ("DropTable", name),
        Kind::CreateType(create) => ("CreateUdt", &create.name),
        Kind::AlterType(alter) => ("AlterUdt", &alter.name),
        Kind::DropType { name, .. } => ("DropUdt", name),
        Kind::Truncate(name) => ("TruncateTable", name),
        _ => return ("Unknown", "", None),
    };
    (event, name.keyspace.as_deref().unwrap_or_default(), Some(&name.name))
}
