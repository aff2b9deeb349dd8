//! Statements that change the schema: the KMS first, without any lock, then one publication of the
//! catalog.

use std::collections::HashSet;
use std::sync::Arc;

use coffer_crypto::{EncryptionType, KeyRecord, TableKeyId};
use coffer_keys::{
    EncryptionSpecification, KeyError, NewKeys, PreparedKeys, TableName, encryption_context,
};
use coffer_model::TableId;
use coffer_storage::{Catalog, TableEntry};
use cql_parser::ast::{QualifiedName, StatementKind};
use parking_lot::MutexGuard;

use crate::database::{Database, Outcome, OutcomeKind, Session};
use crate::error::{Error, Result};
use crate::plan::schema_change::{self as plan, Change, ChangeContext};
use crate::table_keys::table_name;

/// Times a key change is tried again when another one was faster.
const KEY_CHANGE_ATTEMPTS: usize = 5;
/// Catalog property with the account the encryption context names.
const ACCOUNT: &str = "account";
const DEFAULT_ACCOUNT: &str = "000000000000";

/// What a schema change did, for RESULT and EVENT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChangeEvent {
    /// `CREATED`, `UPDATED` or `DROPPED`.
    pub change: &'static str,
    /// `KEYSPACE`, `TABLE` or `TYPE`.
    pub target: &'static str,
    /// Keyspace.
    pub keyspace: String,
    /// Table or type; empty for a keyspace.
    pub name: String,
}

/// A schema change that may be run and may wait for the KMS.
#[derive(Debug, Clone)]
pub struct SchemaChangePlan {
    statement: StatementKind,
}

impl SchemaChangePlan {
    /// The plan of a CREATE, ALTER, DROP or TRUNCATE.
    ///
    /// # Errors
    /// Without a keyspace, on system keyspaces, and for statements that are not executed yet.
    pub(crate) fn new(statement: &StatementKind, session: &Session) -> Result<SchemaChangePlan> {
        Ok(SchemaChangePlan { statement: plan::with_keyspace(statement, session)? })
    }
}

/// Answers USE.
///
/// # Errors
/// Invalid when there is no such keyspace.
pub(crate) fn use_keyspace(
    database: &Database,
    name: &str,
    session: &mut Session,
) -> Result<Outcome> {
    if database.schema().keyspace(name).is_none() {
        return Err(Error::Invalid(format!("Keyspace '{name}' does not exist")));
    }
    session.keyspace = Some(name.into());
    Ok(OutcomeKind::SetKeyspace(name.to_owned()).into())
}

impl Database {
    /// Runs a schema change. Waits for the KMS, then writes the catalog, which blocks: call it off
    /// the connection tasks.
    ///
    /// # Errors
    /// What is wrong with the statement; a key that cannot be used; then nothing has changed.
    pub async fn execute_schema_change(&self, plan: SchemaChangePlan) -> Result<Outcome> {
        let statement = plan.statement;
        if let StatementKind::Truncate(name) = &statement {
            return self.truncate(name);
        }
        let properties = plan::custom_properties(&statement)?;
        let (change, warnings) = match (&statement, &properties.encryption) {
            (StatementKind::CreateTable(create), encryption) => {
                let owned = EncryptionSpecification::AwsOwned;
                let encryption = encryption.as_ref().unwrap_or(&owned);
                (
                    self.create_table(&statement, &create.name, encryption).await?,
                    properties.warnings(),
                )
            }
            (StatementKind::AlterTable(alter), Some(encryption)) => {
                (self.change_key(&statement, &alter.name, encryption).await?, properties.warnings())
            }
            _ => {
                let context = self.context(new_table_id()?, None);
                (self.publish(&statement, &context, None)?, properties.warnings())
            }
        };
        let kind = change.map_or(OutcomeKind::Void, OutcomeKind::SchemaChange);
        Ok(Outcome { kind, warnings })
    }

    fn context(&self, table_id: TableId, key: Option<KeyRecord>) -> ChangeContext {
        ChangeContext { now_millis: self.clock().now_millis(), table_id, key }
    }

    fn truncate(&self, name: &QualifiedName) -> Result<Outcome> {
        let keyspace = name.keyspace.as_deref().unwrap_or_default();
        let schema = self.schema();
        let present = schema
            .keyspace(keyspace)
            .ok_or_else(|| Error::Invalid(format!("keyspace {keyspace} does not exist")))?;
        let table = present
            .tables
            .get(&name.name)
            .ok_or_else(|| Error::Invalid(format!("table {} does not exist", name.name)))?;
        self.engine().truncate(table.schema.id)?;
        Ok(OutcomeKind::Void.into())
    }

    /// Checks the statement before the KMS is asked, so that a wrong one costs no call and makes no
    /// key; checks it again when it is published.
    async fn create_table(
        &self,
        statement: &StatementKind,
        name: &QualifiedName,
        encryption: &EncryptionSpecification,
    ) -> Result<Option<SchemaChangeEvent>> {
        let catalog = self.engine().catalog();
        let table_id = new_table_id()?;
        plan::apply(&catalog, statement, &self.context(table_id, None))?;
        let keyspace = name.keyspace.as_deref().unwrap_or_default();
        if catalog.table(keyspace, &name.name).is_some() {
            return Ok(None);
        }
        let table = TableName::new(table_id.0, keyspace, &name.name);
        let context = encryption_context(&table, account(&catalog));
        self.keyring().describe(&table, encryption).await?;
        let new = NewKeys {
            specification: encryption,
            context: &context,
            grants: None,
            double_wrapped: false,
        };
        let prepared = self.keyring().new_record(&table, new).await;
        let keys = prepared.map_err(|failed| failed.error)?;
        let context = self.context(table_id, Some(keys.record().clone()));
        let event = self.publish(statement, &context, None)?;
        if event.is_some() {
            self.install(table_id, keys, &self.key_installs().lock());
            // the table exists now whatever happens here; its first use opens it else
            if let Err(error) = self.engine().open_table(table_id) {
                tracing::warn!(%table, %error, "new table is not open yet");
            }
        }
        Ok(event)
    }

    /// ALTER TABLE with an encryption specification, and whatever else is in the statement.
    async fn change_key(
        &self,
        statement: &StatementKind,
        name: &QualifiedName,
        encryption: &EncryptionSpecification,
    ) -> Result<Option<SchemaChangeEvent>> {
        for _ in 0..KEY_CHANGE_ATTEMPTS {
            let catalog = self.installed_catalog();
            let keyspace = name.keyspace.as_deref().unwrap_or_default();
            let Some(entry) = catalog.table(keyspace, &name.name) else {
                let context = self.context(new_table_id()?, None);
                return self.publish(statement, &context, None);
            };
            let id = entry.schema.id;
            plan::apply(&catalog, statement, &self.context(id, None))?;
            let keys = match self.swapped(&catalog, entry, encryption).await {
                // another change of the key was faster: the catalog has it, or has it in a moment
                Err(KeyError::Superseded(_)) => continue,
                other => other?,
            };
            let record = keys.as_ref().map(|keys| keys.record().clone());
            let expected = Some((id, entry.key.table_key_id));
            let installing = self.key_installs().lock();
            match self.publish(statement, &self.context(id, record), expected) {
                Err(Error::Overloaded(_)) => {}
                Err(error) => return Err(error),
                Ok(event) => {
                    if let Some(keys) = keys {
                        self.install(id, keys, &installing);
                    }
                    return Ok(event);
                }
            }
        }
        Err(changed_meanwhile(&name.name))
    }

    async fn swapped(
        &self,
        catalog: &Catalog,
        entry: &TableEntry,
        encryption: &EncryptionSpecification,
    ) -> Result<Option<PreparedKeys>, KeyError> {
        let table = table_name(entry);
        let context = encryption_context(&table, account(catalog));
        let still_needed = self.table_keys_in_use(entry);
        if entry.key.kms_key_arn.as_deref() != encryption.arn() {
            self.keyring().describe(&table, encryption).await?;
        }
        let new = NewKeys {
            specification: encryption,
            context: &context,
            grants: None,
            double_wrapped: entry.key.double_wrapped,
        };
        let swapped = self.keyring().swap(&table, &entry.key, new, &still_needed).await;
        swapped.map_err(|failed| failed.error)
    }

    /// A table that was dropped needs none.
    fn table_keys_in_use(&self, entry: &TableEntry) -> HashSet<TableKeyId> {
        let in_use = self.engine().table_keys_in_use(entry.schema.id);
        in_use.unwrap_or_default()
    }

    /// Gives the table a new table key under its KMS key when the present one wrapped so much that
    /// it is [worn](coffer_keys::Keyring::is_worn). Does nothing else.
    ///
    /// # Errors
    /// As a key change's; then the table keeps its key, which serves to its limit.
    pub async fn renew_worn_key(&self, table: TableId) -> Result<()> {
        for _ in 0..KEY_CHANGE_ATTEMPTS {
            let catalog = self.installed_catalog();
            let Some(entry) = catalog.tables.get(&table) else {
                return Ok(());
            };
            if !self.keyring().is_worn(&table.0) {
                return Ok(());
            }
            let still_needed = self.table_keys_in_use(entry);
            let name = table_name(entry);
            let renewed = self.keyring().renew(&name, &entry.key, &still_needed);
            let keys = match renewed.await {
                Err(KeyError::Superseded(_)) => continue,
                other => other?,
            };
            let installing = self.key_installs().lock();
            if self.publish_key(table, entry.key.table_key_id, keys.record())? {
                tracing::info!(table = %name, "table key renewed: it wrapped enough");
                self.install(table, keys, &installing);
                return Ok(());
            }
        }
        Err(changed_meanwhile(&table.to_string()))
    }

    /// Publishes a key record and nothing else; false when the table's key is not `expected` any
    /// more.
    fn publish_key(
        &self,
        table: TableId,
        expected: TableKeyId,
        record: &KeyRecord,
    ) -> Result<bool> {
        let updated = self.engine().update_catalog(&mut |catalog| {
            let entry = catalog.tables.get(&table);
            let unchanged = entry.filter(|entry| entry.key.table_key_id == expected);
            let entry = unchanged.ok_or_else(|| {
                coffer_storage::Error::Refused("the table's key was changed meanwhile".into())
            })?;
            let mut entry = TableEntry::clone(entry);
            entry.key = Arc::new(record.clone());
            let mut next = catalog.clone();
            next.tables.insert(table, Arc::new(entry));
            Ok(next)
        });
        match updated {
            Ok(_) => Ok(true),
            Err(coffer_storage::Error::Refused(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The catalog when the keys of all its records are installed.
    fn installed_catalog(&self) -> Arc<Catalog> {
        let _installing = self.key_installs().lock();
        self.engine().catalog()
    }

    /// Installs keys whose record was published, unless the table was dropped meanwhile.
    fn install(&self, table: TableId, keys: PreparedKeys, _installing: &MutexGuard<'_, ()>) {
        let catalog = self.engine().catalog();
        let entry = catalog.tables.get(&table);
        if entry.is_some_and(|entry| entry.key.table_key_id == keys.record().table_key_id) {
            self.keyring().install(keys);
            self.engine().renew_log_key(table);
            self.key_healths().succeeded(table.0, &**self.clock());
        }
    }

    /// One catalog change: validates against the catalog that is changed, persists, makes it
    /// visible. `expected` is a table and the table key it must still have.
    ///
    /// # Errors
    /// As the statement's; Overloaded when `expected` does not hold any more.
    fn publish(
        &self,
        statement: &StatementKind,
        context: &ChangeContext,
        expected: Option<(TableId, TableKeyId)>,
    ) -> Result<Option<SchemaChangeEvent>> {
        let mut result = Ok(None);
        let mut dropped = Vec::new();
        let updated = self.engine().update_catalog(&mut |catalog| {
            let holds = expected.as_ref().is_none_or(|(id, key)| {
                // flushes count wraps and drop older keys meanwhile: only another swap matters
                let is_same = |entry: &TableEntry| entry.key.table_key_id == *key;
                catalog.tables.get(id).is_none_or(|entry| is_same(entry))
            });
            let change = if holds {
                plan::apply(catalog, statement, context)
            } else {
                Err(Error::Overloaded("the table's key was changed meanwhile".into()))
            };
            match change {
                Ok(Change::Next(next, event)) => {
                    dropped = catalog
                        .tables
                        .keys()
                        .filter(|id| !next.tables.contains_key(id))
                        .copied()
                        .collect();
                    result = Ok(Some(event));
                    Ok(*next)
                }
                Ok(Change::Nothing) => Err(coffer_storage::Error::Refused("nothing to do".into())),
                Err(error) => {
                    result = Err(error);
                    Err(coffer_storage::Error::Refused("statement is wrong".into()))
                }
            }
        });
        match updated {
            Ok(_) => {}
            Err(coffer_storage::Error::Refused(_)) => return result,
            Err(error) => return Err(error.into()),
        }
        self.refresh_schema()?;
        let _one_at_a_time = (!dropped.is_empty()).then(|| self.key_installs().lock());
        for table in dropped {
            self.keyring().forget(&table.0);
            self.key_healths().forget(&table.0);
        }
        result
    }
}

fn changed_meanwhile(table: &str) -> Error {
    Error::Overloaded(format!(
        "the key of table {table} was changed by others at the same time, try again"
    ))
}

fn account(catalog: &Catalog) -> &str {
    catalog.properties.get(ACCOUNT).map_or(DEFAULT_ACCOUNT, String::as_str)
}

/// Whether a table's key is kept by a KMS.
pub(crate) fn is_customer_managed(entry: &TableEntry) -> bool {
    entry.key.encryption_type == EncryptionType::CustomerManaged
}

fn new_table_id() -> Result<TableId> {
    let bytes = coffer_crypto::random_array()
        .map_err(|error| Error::Server(format!("make table id: {error}")))?;
    Ok(TableId::from(uuid::Builder::from_random_bytes(bytes).into_uuid()))
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tests;
