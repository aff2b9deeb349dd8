//! Schema statements in the audit log of the database, `DIR/audit`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use coffer_crypto::clock::Clock;
use coffer_crypto::{JournalKind, RootKey, RootKeys};
use coffer_kms::audit::{AuditError, AuditLog, AuditOptions, DatabaseEvent};
use coffer_query::{SchemaAudit, SchemaAuditEvent};

/// The protocol that all clients speak.
const PROTOCOL_VERSION: u8 = 4;

/// The log of schema statements.
pub(crate) struct SchemaLog {
    log: AuditLog,
    account: String,
    region: String,
}

impl fmt::Debug for SchemaLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SchemaLog").finish_non_exhaustive()
    }
}

impl SchemaLog {
    /// Opens the log of a data directory.
    ///
    /// # Errors
    /// When it cannot be read, or is under another root key.
    pub(crate) fn open(
        data_dir: &Path,
        roots: &RootKeys,
        (account, region): (String, String),
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuditError> {
        let options = AuditOptions {
            dir: data_dir.join("audit"),
            kind: JournalKind::DatabaseAudit,
            root: roots.current().duplicate(),
            older_roots: roots.previous().map(RootKey::duplicate).into_iter().collect(),
            account: account.clone(),
            region: region.clone(),
        };
        Ok(Self { log: AuditLog::open(options, clock)?, account, region })
    }
}

impl SchemaLog {
    /// The log itself.
    pub(crate) fn log(&self) -> &AuditLog {
        &self.log
    }

    /// Puts all files under this root key.
    ///
    /// # Errors
    /// When one cannot be read or replaced; may be repeated.
    pub(crate) fn replace_root_key(&self, root: &RootKey) -> Result<(), AuditError> {
        self.log.replace_root_key(root.duplicate())
    }
}

impl SchemaAudit for SchemaLog {
    fn record(&self, event: &SchemaAuditEvent) -> bool {
        let error = event.error.as_ref().map(|error| {
            let name = format!("{error:?}");
            let name = name.split(|letter: char| !letter.is_alphanumeric()).next();
            (name.unwrap_or("Error").to_owned(), error.to_string())
        });
        let record = DatabaseEvent {
            name: event.name,
            account: &self.account,
            region: &self.region,
            user: event.user.as_deref(),
            address: event.client.map(|client| client.ip()),
            protocol_version: PROTOCOL_VERSION,
            raw_query: &event.statement,
            keyspace: &event.keyspace,
            table: event.table.as_deref(),
            // of a statement those resources that Amazon Keyspaces names
            key_arn: event.key_arn.as_deref().filter(|_| event.statement.is_empty()),
            parameters: event.parameters.clone(),
            error,
            tls: None,
        };
        let recorded = self.log.record(record);
        if let Err(error) = &recorded {
            let (event, keyspace) = (event.name, &event.keyspace);
            tracing::error!(%error, event, keyspace, "schema statement is not in the audit log");
        }
        recorded.is_ok()
    }
}
