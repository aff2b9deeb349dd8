//! Changes of a table's key: the first one at CREATE, another KMS key at ALTER, a new table key when
//! the old one is worn or old.
//!
//! What is made in a KMS is announced before in the catalog, as a `KeyChange`: so a crash leaves
//! nothing at the KMS that is not found again. One change of a table at a time; no lock but that
//! queue is held while a KMS is asked.

use std::collections::HashSet;
use std::sync::Arc;

use coffer_crypto::{KeyGrant, KeyRecord, TableKeyId};
use coffer_keys::{
    EncryptionContext, EncryptionSpecification, ErrorClass, GrantNames, KeyChangeError, KeyError,
    NewKeys, PreparedKeys, TableName, encryption_context_with,
};
use coffer_model::TableId;
use coffer_storage::{Catalog, KeyChange, RetiringGrant, TableEntry};
use cql_parser::ast::{QualifiedName, StatementKind};

use super::schema_change::{Finishing, SchemaChangeEvent, new_table_id};
use crate::custom_properties::{CustomProperties, ENCRYPTION_CONTEXT};
use crate::database::Database;
use crate::encryption_policy::EncryptionPolicy;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::key_queue::UnderWay;
use crate::plan::schema_change as plan;
use crate::table_keys::table_name;

/// Times a key change is tried again when the keys it began with are gone.
const KEY_CHANGE_ATTEMPTS: usize = 5;
/// How long the snapshot grant outlives the table, or its use of the key: milliseconds of the key
/// clock.
const SNAPSHOT_GRANT_MILLIS: i64 = 42 * 24 * 3_600 * 1_000;
/// [`KeyGrant::kind`] of the grant that outlives the table.
const SNAPSHOT: &str = "snapshot";

/// A change that is announced in the catalog and under way.
pub(super) struct Begun {
    pub(super) table: TableName,
    pub(super) change: KeyChange,
    _under_way: UnderWay,
}

/// What a change of a key is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    Create,
    Swap,
    Restore {
        /// Key of the source, when a temporary grant is needed to open it.
        granted: Option<&'a KeyRecord>,
    },
    /// Keys of a backup: no table is made.
    Backup {
        /// As that of a restore.
        granted: Option<&'a KeyRecord>,
    },
}

impl Database {
    /// What the keys of a table are bound to, with the pairs of its `kms_encryption_context`.
    pub(super) fn context_of(
        &self,
        table: &TableName,
        extra: Option<&EncryptionContext>,
    ) -> Result<EncryptionContext> {
        let none = EncryptionContext::new();
        encryption_context_with(table, &self.options().account, extra.unwrap_or(&none))
            .map_err(|error| Error::Invalid(error.to_string()))
    }

    /// CREATE TABLE. Checks the statement before the KMS is asked, so that a wrong one costs no call
    /// and makes no key; checks it again when it is published.
    pub(super) async fn create_table(
        &self,
        statement: &StatementKind,
        name: &QualifiedName,
        properties: &CustomProperties,
    ) -> Result<Option<SchemaChangeEvent>> {
        let keyspace = name.keyspace.as_deref().unwrap_or_default();
        let _turn = self.key_queues().enter(keyspace, &name.name).await;
        let catalog = self.engine().catalog();
        plan::apply(&catalog, statement, &self.change_context(new_table_id()?, None))?;
        if catalog.table(keyspace, &name.name).is_some() {
            return Ok(None);
        }
        let chosen = {
            let Some(schema) = catalog.keyspaces.get(keyspace) else { return Ok(None) };
            let policy = EncryptionPolicy::of(&self.options().encryption, schema);
            let chosen = policy.chosen(properties.encryption.as_ref());
            policy.check(&name.name, &chosen)?;
            (chosen, policy.double_wrapping)
        };
        let (encryption, double_wrapped) = chosen;
        let left = left_of_create(&catalog, keyspace, &name.name, &encryption);
        let id = left.as_ref().map_or_else(new_table_id, |(id, _)| Ok(*id))?;
        let table = TableName::new(id.0, keyspace, &name.name);
        let extra = properties.others.get(ENCRYPTION_CONTEXT);
        let context = self.context_of(&table, extra)?;
        self.keyring().describe(&table, &encryption).await?;
        let begun = match (encryption.arn(), left) {
            (None, _) => None,
            // of a CREATE that a crash ended: its grants are found again by their names
            (Some(_), Some((_, change))) if change.encryption_context == context => {
                let under_way = self.key_queues().begin(change.change_id);
                Some(Begun { table: table.clone(), change, _under_way: under_way })
            }
            (Some(_), _) => {
                Some(self.begin_change(&table, &encryption, &context, Purpose::Create)?)
            }
        };
        let names = begun.as_ref().map(|begun| self.grant_names(begun));
        let new = NewKeys {
            specification: &encryption,
            context: &context,
            grants: names.as_ref(),
            double_wrapped,
        };
        let prepared = self.keyring().new_record(&table, new).await;
        let result = self.publish_created(statement, id, prepared);
        result.map_err(|failed| self.give_up(begun.as_ref(), failed))
    }

    fn publish_created(
        &self,
        statement: &StatementKind,
        id: TableId,
        prepared: Result<PreparedKeys, KeyChangeError>,
    ) -> Result<Option<SchemaChangeEvent>, Failed> {
        let keys = prepared?;
        let grants = keys.record().grants.clone();
        let context = self.change_context(id, Some(keys.record().clone()));
        let published = self.publish(statement, &context, &Finishing::of(id, None));
        let event =
            published.map_err(|error| Failed { error: Box::new(error), grants, is_lost: false })?;
        if event.is_some() {
            self.install(id, keys);
            // the table exists whatever happens here; its first use opens it else
            if let Err(error) = self.engine().open_table(id)
                && self.engine().catalog().tables.contains_key(&id)
            {
                tracing::warn!(table = %id, %error, "new table is not open yet");
            }
        }
        Ok(event)
    }

    /// ALTER TABLE with an encryption specification, and whatever else is in the statement. Also gives
    /// the warnings for the client.
    pub(super) async fn change_key(
        &self,
        statement: &StatementKind,
        name: &QualifiedName,
        properties: &CustomProperties,
        encryption: &EncryptionSpecification,
    ) -> Result<(Option<SchemaChangeEvent>, Vec<String>)> {
        let keyspace = name.keyspace.as_deref().unwrap_or_default();
        let _turn = self.key_queues().enter(keyspace, &name.name).await;
        let catalog = self.engine().catalog();
        let (Some(entry), Some(schema)) =
            (catalog.table(keyspace, &name.name), catalog.keyspaces.get(keyspace))
        else {
            let context = self.change_context(new_table_id()?, None);
            return Ok((self.publish(statement, &context, &Finishing::nothing())?, Vec::new()));
        };
        let id = entry.schema.id;
        plan::apply(&catalog, statement, &self.change_context(id, None))?;
        if is_under(&entry.key, encryption) {
            check_context(entry, properties)?;
            let context = self.change_context(id, None);
            let event = self.publish(statement, &context, &Finishing::nothing())?;
            return Ok((event, vec![same_key(entry)]));
        }
        let double_wrapped = {
            let policy = EncryptionPolicy::of(&self.options().encryption, schema);
            policy.check_change(&name.name)?;
            policy.check(&name.name, encryption)?;
            policy.double_wrapping
        };
        let table = table_name(entry);
        let extra = properties.others.get(ENCRYPTION_CONTEXT);
        let extra = extra.or_else(|| entry.schema.custom_properties.get(ENCRYPTION_CONTEXT));
        let context = self.context_of(&table, extra)?;
        self.keyring().describe(&table, encryption).await?;
        let begun = match catalog.key_changes.get(&id) {
            Some(left)
                if left.target_arn.as_deref() == encryption.arn()
                    && left.encryption_context == context =>
            {
                let under_way = self.key_queues().begin(left.change_id);
                Begun { table: table.clone(), change: left.clone(), _under_way: under_way }
            }
            Some(left) => {
                self.settle_change(&table, left).await?;
                self.begin_change(&table, encryption, &context, Purpose::Swap)?
            }
            None => self.begin_change(&table, encryption, &context, Purpose::Swap)?,
        };
        let names = encryption.arn().map(|_| self.grant_names(&begun));
        let new = NewKeys {
            specification: encryption,
            context: &context,
            grants: names.as_ref(),
            double_wrapped,
        };
        match self.swap_and_publish(statement, id, new).await {
            Ok(event) => Ok((event, Vec::new())),
            Err(failed) => Err(self.give_up(Some(&begun), failed)),
        }
    }

    async fn swap_and_publish(
        &self,
        statement: &StatementKind,
        id: TableId,
        new: NewKeys<'_>,
    ) -> Result<Option<SchemaChangeEvent>, Failed> {
        let mut grants = Vec::new();
        for _ in 0..KEY_CHANGE_ATTEMPTS {
            let catalog = self.engine().catalog();
            let Some(entry) = catalog.tables.get(&id) else {
                let error = Error::invalid("the table was dropped while its key was changed");
                return Err(Failed { error: Box::new(error), grants, is_lost: false });
            };
            let still_needed = self.table_keys_in_use(entry);
            let table = table_name(entry);
            let swapped = self.keyring().swap(&table, &entry.key, new, &still_needed).await;
            let keys = match swapped {
                Err(KeyChangeError { error: KeyError::Superseded(_), grants: made }) => {
                    grants = made;
                    continue;
                }
                other => other?,
            };
            let record = keys.as_ref().map(|keys| keys.record().clone());
            grants = record.as_ref().map_or_else(Vec::new, |record| record.grants.clone());
            let context = self.change_context(id, record);
            let finishing = Finishing::of(id, Some(entry.key.table_key_id));
            match self.publish(statement, &context, &finishing) {
                Err(Error::Overloaded(_)) => {}
                Err(error) => {
                    return Err(Failed { error: Box::new(error), grants, is_lost: false });
                }
                Ok(event) => {
                    if let Some(keys) = keys {
                        self.install(id, keys);
                    }
                    return Ok(event);
                }
            }
        }
        let error = changed_meanwhile(&id.to_string());
        Err(Failed { error: Box::new(error), grants, is_lost: false })
    }

    /// Announces a change in the catalog.
    pub(super) fn begin_change(
        &self,
        table: &TableName,
        encryption: &EncryptionSpecification,
        context: &EncryptionContext,
        purpose: Purpose<'_>,
    ) -> Result<Begun> {
        let random = coffer_crypto::random_array()
            .map_err(|error| Error::Server(format!("begin change of key: {error}")))?;
        let granted = match purpose {
            Purpose::Restore { granted } | Purpose::Backup { granted } => granted,
            Purpose::Create | Purpose::Swap => None,
        };
        let change = KeyChange {
            keyspace: table.keyspace.to_string(),
            name: table.name.to_string(),
            target_arn: encryption.arn().map(str::to_owned),
            change_id: u64::from_be_bytes(random),
            encryption_context: context.clone(),
            started_at_millis: self.clock().now_millis(),
            is_create: matches!(purpose, Purpose::Create),
            is_restore: matches!(purpose, Purpose::Restore { .. }),
            source_arn: granted.and_then(|key| key.kms_key_arn.clone()),
            source_context: granted.map(|key| key.encryption_context.clone()).unwrap_or_default(),
        };
        let under_way = self.key_queues().begin(change.change_id);
        self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            next.key_changes.insert(TableId(table.id), change.clone());
            Ok(next)
        })?;
        Ok(Begun { table: table.clone(), change, _under_way: under_way })
    }

    pub(super) fn grant_names(&self, begun: &Begun) -> GrantNames {
        grant_names(&self.engine().catalog(), &begun.table, &begun.change)
    }

    /// Ends a change that failed: what it made in the KMS is retired in the background. When an answer
    /// of the KMS was lost the intent stays, and the background finds by it what was made.
    pub(super) fn give_up(&self, begun: Option<&Begun>, failed: Failed) -> Error {
        let Some(begun) = begun else { return *failed.error };
        let change = &begun.change;
        let asks_kms = change.target_arn.is_some() || change.source_arn.is_some();
        if !failed.is_lost || !asks_kms {
            let event = events::create_failed(&begun.change, &failed.error);
            self.end_change(&begun.table, &begun.change, &failed.grants, event.as_ref());
        }
        *failed.error
    }

    /// Removes an intent; its grants are due at once.
    pub(crate) fn remove_change(&self, table: &TableName, change: &KeyChange, grants: &[KeyGrant]) {
        self.end_change(table, change, grants, None);
    }

    fn end_change(
        &self,
        table: &TableName,
        change: &KeyChange,
        grants: &[KeyGrant],
        event: Option<&NewEvent>,
    ) {
        let now = self.clock().key_wall_millis();
        let removed = self.engine().update_catalog(&mut |catalog| {
            let id = TableId(table.id);
            let known = catalog.key_changes.get(&id);
            if known.is_none_or(|known| known.change_id != change.change_id) {
                return Err(coffer_storage::Error::Refused("it is gone already".into()));
            }
            let mut next = catalog.clone();
            next.key_changes.remove(&id);
            let due = |grant: &KeyGrant| retiring(grant, now, &change.keyspace, &change.name);
            next.retiring_grants.extend(grants.iter().map(due));
            if let Some(event) = event {
                self.record_event(&mut next, event.clone());
            }
            Ok(next)
        });
        match removed {
            Ok(_) | Err(coffer_storage::Error::Refused(_)) => {}
            Err(error) => {
                tracing::warn!(%table, %error, "an ended change of a key stays noted for now");
            }
        }
    }

    /// A table that was dropped needs none.
    fn table_keys_in_use(&self, entry: &TableEntry) -> HashSet<TableKeyId> {
        let in_use = self.engine().table_keys_in_use(entry.schema.id);
        in_use.unwrap_or_default()
    }

    /// Gives the table a new table key under its KMS key, with the grants it has. Does nothing when
    /// `is_due` says so, or while another change of the key is under way. Tells whether it did.
    ///
    /// # Errors
    /// As a key change's; then the table keeps its key, which serves to its limit.
    pub(crate) async fn renew_table_key(
        &self,
        table: TableId,
        is_due: impl Fn(&TableEntry) -> bool,
    ) -> Result<bool> {
        for _ in 0..KEY_CHANGE_ATTEMPTS {
            let catalog = self.engine().catalog();
            let Some(entry) = catalog.tables.get(&table).filter(|entry| is_due(entry)) else {
                return Ok(false);
            };
            let schema = &entry.schema;
            let Some(_turn) = self.key_queues().try_enter(&schema.keyspace, &schema.name) else {
                return Ok(false);
            };
            let still_needed = self.table_keys_in_use(entry);
            let name = table_name(entry);
            let renewed = self.keyring().renew(&name, &entry.key, &still_needed);
            let keys = match renewed.await {
                Err(KeyError::Superseded(_)) => continue,
                other => other?,
            };
            if self.publish_record(table, entry.key.table_key_id, |_| keys.record().clone())? {
                self.install(table, keys);
                return Ok(true);
            }
        }
        Err(changed_meanwhile(&table.to_string()))
    }

    /// Has the KMS wrap the table's key anew under the newest material of its key. The table key and
    /// all files stay. False for a table without a customer managed key.
    ///
    /// # Errors
    /// A refusal of the KMS; then nothing is changed.
    pub async fn rewrap_table_key(&self, table: TableId) -> Result<bool> {
        let no_such_table = || Error::invalid("the table was dropped meanwhile");
        let catalog = self.engine().catalog();
        let schema = &catalog.tables.get(&table).ok_or_else(no_such_table)?.schema;
        let _turn = self.key_queues().enter(&schema.keyspace, &schema.name).await;
        let catalog = self.engine().catalog();
        let entry = catalog.tables.get(&table).ok_or_else(no_such_table)?;
        if entry.key.kms_key_arn.is_none() {
            return Ok(false);
        }
        let rewrapped = self.keyring().rewrap(&table_name(entry), &entry.key).await?;
        self.publish_envelope(table, &rewrapped)
    }

    /// Publishes a record of which only what wraps its table key changed.
    pub(crate) fn publish_envelope(&self, table: TableId, rewrapped: &KeyRecord) -> Result<bool> {
        let published =
            self.publish_record(table, rewrapped.table_key_id, |present| KeyRecord {
                blob: rewrapped.blob.clone(),
                key_material_id: rewrapped.key_material_id.clone(),
                ..present.clone()
            })?;
        if published {
            let catalog = self.engine().catalog();
            if let Some(entry) = catalog.tables.get(&table) {
                self.keyring().install_record(&table.0, &entry.key);
            }
        }
        Ok(published)
    }

    /// Publishes a key record and nothing else; false when the table's key is not `expected` any
    /// more.
    fn publish_record(
        &self,
        table: TableId,
        expected: TableKeyId,
        record: impl Fn(&KeyRecord) -> KeyRecord,
    ) -> Result<bool> {
        let updated = self.engine().update_catalog(&mut |catalog| {
            let entry = catalog.tables.get(&table);
            let unchanged = entry.filter(|entry| entry.key.table_key_id == expected);
            let entry = unchanged.ok_or_else(|| {
                coffer_storage::Error::Refused("the table's key was changed meanwhile".into())
            })?;
            let mut entry = TableEntry::clone(entry);
            entry.key = Arc::new(record(&entry.key));
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

    /// Installs keys whose record was published, unless the table was dropped meanwhile.
    pub(super) fn install(&self, table: TableId, keys: PreparedKeys) {
        let _installing = self.key_installs().lock();
        let catalog = self.engine().catalog();
        let entry = catalog.tables.get(&table);
        if entry.is_some_and(|entry| entry.key.table_key_id == keys.record().table_key_id) {
            self.keyring().install(keys);
            self.engine().renew_log_key(table);
            self.key_healths().succeeded(table.0, &**self.clock());
            self.key_monitor().used(table, self.clock().key_now_millis());
        }
    }
}

/// Why a change failed, and what it made in the KMS.
pub(super) struct Failed {
    pub(super) error: Box<Error>,
    pub(super) grants: Vec<KeyGrant>,
    /// Whether the KMS may have made something and its answer did not come.
    pub(super) is_lost: bool,
}

impl From<KeyChangeError> for Failed {
    fn from(failed: KeyChangeError) -> Failed {
        let is_lost = matches!(failed.error.class(), ErrorClass::Transient | ErrorClass::Ambiguous);
        Failed { error: Box::new(failed.error.into()), grants: failed.grants, is_lost }
    }
}

/// The intent that a CREATE of the same table under the same key left.
fn left_of_create(
    catalog: &Catalog,
    keyspace: &str,
    name: &str,
    encryption: &EncryptionSpecification,
) -> Option<(TableId, KeyChange)> {
    let is_same = |change: &KeyChange| {
        change.is_create
            && change.keyspace == keyspace
            && change.name == name
            && change.target_arn.as_deref() == encryption.arn()
    };
    let left = catalog.key_changes.iter().find(|(_, change)| is_same(change))?;
    Some((*left.0, left.1.clone()))
}

/// The names of the grants of a change: the same for each try of it.
pub(crate) fn grant_names(catalog: &Catalog, table: &TableName, change: &KeyChange) -> GrantNames {
    let start = format!(
        "coffer-{}-{}-{:016x}",
        catalog.cluster_id,
        TableId(table.id).to_uuid().simple(),
        change.change_id
    );
    GrantNames { data: format!("{start}-data"), snapshot: format!("{start}-{SNAPSHOT}") }
}

pub(super) fn retiring(
    grant: &KeyGrant,
    due_at_millis: i64,
    keyspace: &str,
    table: &str,
) -> Arc<RetiringGrant> {
    Arc::new(RetiringGrant {
        key_arn: grant.key_arn.clone(),
        grant_id: grant.grant_id.clone(),
        kind: grant.kind.clone(),
        due_at_millis,
        keyspace: keyspace.to_owned(),
        table: table.to_owned(),
    })
}

/// Notes the grants of tables that `next` has no more, or has under another key. The data grant is
/// due at once, the snapshot grant later.
pub(crate) fn retire_lost_grants(old: &Catalog, next: &mut Catalog, now_millis: i64) {
    let mut lost = Vec::new();
    for (id, before) in &old.tables {
        let after = next.tables.get(id);
        if after.is_some_and(|after| Arc::ptr_eq(&after.key, &before.key)) {
            continue;
        }
        let is_kept = |grant: &&KeyGrant| {
            after.is_some_and(|after| {
                after.key.grants.iter().any(|kept| kept.grant_id == grant.grant_id)
            })
        };
        for grant in before.key.grants.iter().filter(|grant| !is_kept(grant)) {
            let later = if grant.kind == SNAPSHOT { SNAPSHOT_GRANT_MILLIS } else { 0 };
            let due = now_millis.saturating_add(later);
            lost.push(retiring(grant, due, &before.schema.keyspace, &before.schema.name));
        }
    }
    next.retiring_grants.extend(lost);
}

/// Whether a table with this record is under the key asked for.
fn is_under(record: &KeyRecord, encryption: &EncryptionSpecification) -> bool {
    record.encryption_type == encryption.encryption_type()
        && record.kms_key_arn.as_deref() == encryption.arn()
}

fn same_key(entry: &TableEntry) -> String {
    let key = entry.key.kms_key_arn.as_deref().unwrap_or("AWS_OWNED_KMS_KEY");
    format!(
        "table {}.{} is under {key} already: its key is not changed",
        entry.schema.keyspace, entry.schema.name
    )
}

/// The pairs of a table's encryption context change only together with its key: the blob and the
/// grants are bound to them.
///
/// # Errors
/// Invalid when the statement names other pairs than the table has.
pub(super) fn check_context(entry: &TableEntry, properties: &CustomProperties) -> Result<()> {
    let Some(wanted) = properties.others.get(ENCRYPTION_CONTEXT) else { return Ok(()) };
    let schema = &entry.schema;
    let present = schema.custom_properties.get(ENCRYPTION_CONTEXT);
    if entry.key.kms_key_arn.is_none() || present.unwrap_or(&EncryptionContext::new()) == wanted {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{ENCRYPTION_CONTEXT} of table {}.{} can only be changed together with its key: name \
         another key in encryption_specification",
        schema.keyspace, schema.name
    )))
}

fn changed_meanwhile(table: &str) -> Error {
    Error::Overloaded(format!(
        "the key of table {table} was changed by others at the same time, try again"
    ))
}
