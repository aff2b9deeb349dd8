//! Statements that change the schema: the KMS first, without any lock, then one publication of the
//! catalog.

use coffer_crypto::{EncryptionType, KeyRecord, TableKeyId};
use coffer_model::TableId;
use coffer_storage::{Catalog, SnapshotRequest, TableEntry};
use cql_parser::ast::{QualifiedName, StatementKind};

use super::key_change::{check_context, retire_lost_grants};
use super::retention::{Kept, Leaving, leaving};
use crate::custom_properties::CustomProperties;
use crate::database::{Database, Outcome, OutcomeKind, Session};
use crate::error::{Error, Result};
use crate::plan::schema_change::{self as plan, Change, ChangeContext};
use crate::schema_audit::{self, SchemaAuditEvent};

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
    text: String,
    session: Session,
}

/// Times a DROP is decided when the table is changed meanwhile.
const DROP_ATTEMPTS: usize = 5;

/// What a publication ends, and what it rests on.
pub(super) struct Finishing {
    /// The table whose announced key change it ends.
    change: Option<TableId>,
    /// The table key that table must still have.
    expected: Option<TableKeyId>,
    /// Snapshots of tables that leave, taken with it.
    keep: Vec<(TableId, SnapshotRequest)>,
    /// The tables that may leave, as they were when `keep` was decided.
    leaving: Option<Vec<Leaving>>,
}

impl Finishing {
    /// Ends no change of a key.
    pub(super) fn nothing() -> Finishing {
        Finishing { change: None, expected: None, keep: Vec::new(), leaving: None }
    }

    /// Ends no change of a key, and keeps this.
    fn keeping(kept: Kept) -> Finishing {
        let Kept { snapshots, leaving, .. } = kept;
        Finishing { keep: snapshots, leaving: Some(leaving), ..Finishing::nothing() }
    }

    /// Ends the change of this table's key.
    pub(super) fn of(table: TableId, expected: Option<TableKeyId>) -> Finishing {
        Finishing { change: Some(table), expected, ..Finishing::nothing() }
    }
}

impl SchemaChangePlan {
    /// The plan of a CREATE, ALTER, RESTORE, DROP or TRUNCATE.
    ///
    /// # Errors
    /// Without a keyspace, on system keyspaces, and for statements that are not executed yet.
    pub(crate) fn new(
        statement: &StatementKind,
        text: &str,
        session: &Session,
    ) -> Result<SchemaChangePlan> {
        Ok(SchemaChangePlan {
            statement: plan::with_keyspace(statement, session)?,
            text: text.to_owned(),
            session: session.clone(),
        })
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
        let result = self.change_schema(&plan.statement, plan.session.role.as_deref()).await;
        if let Some(audit) = &self.options().schema_audit {
            let _is_kept = audit.record(&self.audit_event(&plan, result.as_ref().err()));
        }
        result
    }

    fn audit_event(&self, plan: &SchemaChangePlan, error: Option<&Error>) -> SchemaAuditEvent {
        let (name, keyspace, table) = schema_audit::subject(&plan.statement);
        let encryption = plan::custom_properties(&plan.statement).ok();
        let encryption = encryption.and_then(|properties| properties.encryption);
        SchemaAuditEvent {
            name,
            user: plan.session.role.as_deref().map(str::to_owned),
            client: plan.session.client,
            statement: plan.text.clone(),
            keyspace: keyspace.to_owned(),
            table: table.map(str::to_owned),
            key_arn: encryption.and_then(|encryption| encryption.arn().map(str::to_owned)),
            parameters: serde_json::Map::new(),
            error: error.cloned(),
            at_millis: self.clock().now_millis(),
        }
    }

    async fn change_schema(
        &self,
        statement: &StatementKind,
        role: Option<&str>,
    ) -> Result<Outcome> {
        if let StatementKind::Truncate(name) = statement {
            return self.truncate(name);
        }
        let properties = plan::custom_properties(statement)?;
        let mut warnings = properties.warnings();
        let change = match (statement, &properties.encryption) {
            (StatementKind::CreateTable(create), _) => {
                let created = self.create_table(statement, &create.name, &properties).await?;
                if created.is_some() {
                    warnings.extend(self.reused_name_warning(&create.name));
                }
                created
            }
            (StatementKind::RestoreTable(restore), _) => {
                let restored = self.restore_table(restore, role).await?;
                warnings.extend(self.reused_name_warning(&restore.name));
                restored
            }
            (StatementKind::DropTable { .. } | StatementKind::DropKeyspace { .. }, _) => {
                let (dropped, more) = self.drop_tables(statement).await?;
                warnings.extend(more);
                dropped
            }
            (StatementKind::AlterTable(alter), Some(encryption)) => {
                let changed = self.change_key(statement, &alter.name, &properties, encryption);
                let (change, more) = changed.await?;
                warnings.extend(more);
                change
            }
            _ => {
                self.check_without_key(statement, &properties)?;
                let context = self.change_context(new_table_id()?, None);
                self.publish(statement, &context, &Finishing::nothing())?
            }
        };
        warnings.extend(self.settle_archive_of(statement));
        let kind = change.map_or(OutcomeKind::Void, OutcomeKind::SchemaChange);
        Ok(Outcome { kind, warnings })
    }

    /// DROP TABLE and DROP KEYSPACE; with warnings. What a table leaves is decided before it is dropped,
    /// since the KMS is asked for that, and anew when the table was changed meanwhile.
    async fn drop_tables(
        &self,
        statement: &StatementKind,
    ) -> Result<(Option<SchemaChangeEvent>, Vec<String>)> {
        let context = self.change_context(new_table_id()?, None);
        let mut attempts_left = DROP_ATTEMPTS;
        loop {
            attempts_left -= 1;
            let mut kept = self.kept_by(statement).await;
            let warnings = std::mem::take(&mut kept.warnings);
            match self.publish(statement, &context, &Finishing::keeping(kept)) {
                Err(Error::Overloaded(why)) if attempts_left > 0 => {
                    tracing::debug!(why, "DROP is tried again");
                }
                dropped => return Ok((dropped?, warnings)),
            }
        }
    }

    /// What an ALTER TABLE that names no key may not change.
    fn check_without_key(
        &self,
        statement: &StatementKind,
        properties: &CustomProperties,
    ) -> Result<()> {
        let StatementKind::AlterTable(alter) = statement else { return Ok(()) };
        let keyspace = alter.name.keyspace.as_deref().unwrap_or_default();
        let catalog = self.engine().catalog();
        let entry = catalog.table(keyspace, &alter.name.name);
        entry.map_or(Ok(()), |entry| check_context(entry, properties))
    }

    pub(super) fn change_context(
        &self,
        table_id: TableId,
        key: Option<KeyRecord>,
    ) -> ChangeContext {
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
        self.keep_before_truncate(table.schema.id)?;
        self.engine().truncate(table.schema.id)?;
        Ok(OutcomeKind::Void.into())
    }

    /// One catalog change: validates against the catalog that is changed, persists, makes it
    /// visible.
    ///
    /// # Errors
    /// As the statement's; Overloaded when the table has another table key than expected.
    pub(super) fn publish(
        &self,
        statement: &StatementKind,
        context: &ChangeContext,
        finishing: &Finishing,
    ) -> Result<Option<SchemaChangeEvent>> {
        let mut result = Ok(None);
        let mut dropped = Vec::new();
        let mut apply = |catalog: &Catalog| {
            let entry = finishing.change.as_ref().and_then(|id| catalog.tables.get(id));
            // flushes count wraps and drop older keys meanwhile: only another swap matters
            let holds = finishing
                .expected
                .is_none_or(|key| entry.is_none_or(|entry| entry.key.table_key_id == key));
            let is_as_decided =
                finishing.leaving.as_ref().is_none_or(|then| *then == leaving(catalog, statement));
            let change = match (holds, is_as_decided) {
                (true, true) => plan::apply(catalog, statement, context),
                (false, _) => {
                    Err(Error::Overloaded("the table's key was changed meanwhile".into()))
                }
                (true, false) => Err(changed_meanwhile()),
            };
            match change {
                Ok(Change::Next(mut next, event)) => {
                    if let Some(table) = &finishing.change {
                        next.key_changes.remove(table);
                    }
                    retire_lost_grants(catalog, &mut next, self.clock().key_wall_millis());
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
        };
        let updated = match finishing.keep.as_slice() {
            [] => self.engine().update_catalog(&mut apply),
            keep => self.engine().drop_tables_keeping(keep, &mut apply),
        };
        match updated {
            Ok(_) => {}
            Err(coffer_storage::Error::Refused(_)) => return result,
            Err(coffer_storage::Error::NoSuchTable(_)) if !finishing.keep.is_empty() => {
                return Err(changed_meanwhile());
            }
            // after the first of these nobody knows what is on the disk, and the second is tried again
            Err(
                error @ (coffer_storage::Error::Poisoned(_) | coffer_storage::Error::Overloaded(_)),
            ) => return Err(error.into()),
            Err(error) if !finishing.keep.is_empty() => return Err(not_kept(&error)),
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

fn changed_meanwhile() -> Error {
    Error::Overloaded("nothing was dropped: what was to be was changed meanwhile, try again".into())
}

/// What a DROP answers that was to leave a snapshot.
fn not_kept(error: &coffer_storage::Error) -> Error {
    Error::Server(format!(
        "nothing was dropped: the snapshot that it is to leave could not be taken ({}). Mend that and \
         try again, or set auto_snapshot = 'disabled' for the table and lose its rows",
        error.chain()
    ))
}

/// Whether a table's key is kept by a KMS.
pub(crate) fn is_customer_managed(entry: &TableEntry) -> bool {
    entry.key.encryption_type == EncryptionType::CustomerManaged
}

/// A random id for a new table.
pub(super) fn new_table_id() -> Result<TableId> {
    let bytes = coffer_crypto::random_array()
        .map_err(|error| Error::Server(format!("make table id: {error}")))?;
    Ok(TableId::from(uuid::Builder::from_random_bytes(bytes).into_uuid()))
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tests;
