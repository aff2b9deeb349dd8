//! RESTORE TABLE: the files of a snapshot, or of a table's kept history, as a new table.
//!
//! Everything that can be refused is refused before anything is made. Then the intent is announced in
//! the catalog, the new table gets keys of its own with the older ones of its source wrapped under
//! them, and one publication puts the table with all its files there. No row is rewritten.

pub(crate) mod backup;
mod import;
mod source_keys;

use std::sync::Arc;

use coffer_crypto::KeyRecord;
use coffer_keys::{
    EncryptionContext, EncryptionSpecification, GrantNames, NewKeys, SourceKeys, TableName,
};
use coffer_model::{KeyspaceSchema, TableId, TableSchema};
use coffer_storage::{Catalog, RestoreSource, SnapshotId, SnapshotRecord};
use cql_parser::ast::{QualifiedName, RestoreTable};
use cql_types::time::format_timestamp;

use super::key_change::{Failed, Purpose};
use super::schema_change::{SchemaChangeEvent, new_table_id};
use crate::custom_properties::{ENCRYPTION_CONTEXT, SnapshotName, has_point_in_time_recovery};
use crate::database::Database;
use crate::encryption_policy::EncryptionPolicy;
use crate::error::{Error, Result};
use crate::events::{EventKind, NewEvent, new_incident};
use crate::plan::schema_change::restore::{self as plan, Origin, RestoreOptions};
use crate::plan::schema_change::{Change, ChangeContext};
use source_keys::Files;

/// What is restored: a table that is there, or one that was dropped.
struct Source {
    name: TableName,
    /// As it is now, or was when it was dropped.
    schema: Arc<TableSchema>,
    key: Arc<KeyRecord>,
    is_live: bool,
    state: State,
}

/// Which of its states.
enum State {
    /// At this moment, milliseconds since 1970; `None` is the newest.
    At(Option<i64>),
    Snapshot(SnapshotId),
}

/// The table that is to be made.
struct Target {
    table: TableName,
    encryption: EncryptionSpecification,
    context: EncryptionContext,
    double_wrapped: bool,
}

/// A restore that is allowed, with the files it takes.
struct Allowed<'a> {
    statement: &'a RestoreTable,
    options: RestoreOptions,
    source: Source,
    files: RestoreSource,
}

impl Allowed<'_> {
    fn origin(&self) -> Origin<'_> {
        Origin { then: &self.files.schema, now: &self.source.schema }
    }

    fn key_files(&self) -> Files<'_> {
        Files {
            table: self.source.name.clone(),
            // a swap may have been published since the source was found
            record: &self.files.key,
            needed: self.files.table_keys(),
            is_live: self.source.is_live,
        }
    }
}

impl Database {
    /// RESTORE TABLE. `role` is the client's.
    pub(super) async fn restore_table(
        &self,
        restore: &RestoreTable,
        role: Option<&str>,
    ) -> Result<Option<SchemaChangeEvent>> {
        let keyspace = restore.name.keyspace.as_deref().unwrap_or_default();
        let _turn = self.key_queues().enter(keyspace, &restore.name.name).await;
        let catalog = self.engine().catalog();
        let options = plan::options(restore, self.engine().write_clock_millis())?;
        let schema = plan::check_target(&catalog, &restore.name)?;
        let source = find_source(&catalog, &restore.source, &options)?;
        self.check_window(&source)?;
        let target = self.restore_target(restore, schema, &options, &source)?;
        self.check_restore_keys(&source, role, &target).await?;
        let files = match source.state {
            State::At(at) => self.engine().restore_source(TableId(source.name.id), at),
            State::Snapshot(id) => self.engine().snapshot_source(id),
        };
        let files = files.map_err(refused)?;
        self.check_files(&source, &options, &files)?;
        let allowed = Allowed { statement: restore, options, source, files };
        self.restore_files(&allowed, &target).await
    }

    /// What is to be made, when the rules of its keyspace allow its encryption.
    fn restore_target(
        &self,
        restore: &RestoreTable,
        schema: &KeyspaceSchema,
        options: &RestoreOptions,
        source: &Source,
    ) -> Result<Target> {
        let encryption = match &options.properties.encryption {
            Some(encryption) => encryption.clone(),
            None => plan::encryption_of(&source.key)?,
        };
        let policy = EncryptionPolicy::of(&self.options().encryption, schema);
        policy.check(&restore.name.name, &encryption)?;
        let keyspace = restore.name.keyspace.as_deref().unwrap_or_default();
        let table = TableName::new(new_table_id()?.0, keyspace, &restore.name.name);
        let extra = options.properties.others.get(ENCRYPTION_CONTEXT);
        let extra = extra.or_else(|| source.schema.custom_properties.get(ENCRYPTION_CONTEXT));
        let context = self.context_of(&table, extra)?;
        Ok(Target { table, encryption, context, double_wrapped: policy.double_wrapping })
    }

    /// Makes the table: all that can be refused was, but for what only opening the source's keys shows.
    async fn restore_files(
        &self,
        allowed: &Allowed<'_>,
        target: &Target,
    ) -> Result<Option<SchemaChangeEvent>> {
        let Target { table, encryption, context, double_wrapped } = target;
        let now_millis = self.clock().now_millis();
        let check = ChangeContext { now_millis, table_id: TableId(table.id), key: None };
        let catalog = self.engine().catalog();
        plan::apply(&catalog, allowed.statement, &allowed.options, allowed.origin(), &check)?;
        let files = allowed.key_files();
        let opened = self.open_with_rights(&files).await?;
        let purpose = Purpose::Restore { granted: files.granted(opened.as_ref()) };
        let begun = self.begin_change(table, encryption, context, purpose)?;
        let names = self.grant_names(&begun);
        let new = NewKeys {
            specification: encryption,
            context,
            grants: encryption.arn().map(|_| &names),
            double_wrapped: *double_wrapped,
        };
        let opened = self.open_announced(&files, opened, &names).await;
        let restored = match opened {
            Ok(opened) => self.make_restored(allowed, opened, table, new).await,
            Err(failed) => Err(failed),
        };
        restored.map_err(|failed| self.give_up(Some(&begun), failed))
    }

    /// Whether what is kept of the source reaches to the moment.
    fn check_window(&self, source: &Source) -> Result<()> {
        let State::At(at) = source.state else { return Ok(()) };
        let name = &source.name;
        let Some((earliest, latest)) = self.engine().restorable_millis(TableId(name.id)) else {
            return Err(Error::Invalid(if source.is_live {
                format!(
                    "table {name} cannot be restored yet: its history is not kept yet, try again in a \
                     moment"
                )
            } else {
                format!(
                    "table {name} cannot be restored like this: no snapshot was kept when it was \
                     dropped, only earlier ones are; name one with custom_properties = {{'snapshot': \
                     {{'id': ...}}}} (system_coffer.snapshots lists them)"
                )
            }));
        };
        match at {
            Some(at) if !(earliest..=latest).contains(&at) => Err(Error::Invalid(format!(
                "restore_timestamp {} is outside of what is kept of table {name}: earliest {}, latest \
                 {}",
                format_timestamp(at),
                format_timestamp(earliest),
                format_timestamp(latest)
            ))),
            _ => Ok(()),
        }
    }

    /// Whether what lay there for long is still as it was written. The live files of a table are checked
    /// as they are read.
    fn check_files(
        &self,
        source: &Source,
        options: &RestoreOptions,
        files: &RestoreSource,
    ) -> Result<()> {
        let is_newest = matches!(source.state, State::At(None));
        let takes_damaged = options.snapshot.as_ref().is_some_and(|wanted| wanted.takes_damaged);
        if takes_damaged || (source.is_live && is_newest) {
            return Ok(());
        }
        self.engine().compare_source(files).map_err(|error| match refused(error) {
            Error::ReadFailure(text) => Error::ReadFailure(format!(
                "table {} is not restored: {text}. Restore another snapshot or a backup of it; or, to \
                 have what can still be read, this snapshot with custom_properties = {{'snapshot': \
                 {{'id': ..., 'damaged': 'allow'}}}} (system_coffer.snapshots lists them)",
                source.name
            )),
            other => other,
        })
    }

    /// Whether the last key of the source can be used: by the server, and by whom the client's role
    /// stands for; and the key of what is to be made. No KMS is asked for an owned key.
    async fn check_restore_keys(
        &self,
        source: &Source,
        role: Option<&str>,
        target: &Target,
    ) -> Result<()> {
        let encryption = plan::encryption_of(&source.key)?;
        self.keyring().describe(&source.name, &encryption).await?;
        let principals = &self.options().encryption.role_principals;
        if let Some(principal) = role.and_then(|role| principals.get(role)) {
            self.keyring().authorize(&source.name, &source.key, principal).await?;
        }
        self.keyring().describe(&target.table, &target.encryption).await?;
        Ok(())
    }

    async fn make_restored(
        &self,
        allowed: &Allowed<'_>,
        opened: SourceKeys,
        table: &TableName,
        new: NewKeys<'_>,
    ) -> Result<Option<SchemaChangeEvent>, Failed> {
        let keys = self.keyring().adopt_opened(&opened, table, new).await?;
        drop(opened);
        let grants = keys.record().grants.clone();
        let id = TableId(table.id);
        let published = self.publish_restored(allowed, id, keys.record());
        let event =
            published.map_err(|error| Failed { error: Box::new(error), grants, is_lost: false })?;
        self.install(id, keys);
        // the table exists whatever happens here; its first use opens it else
        if let Err(error) = self.engine().open_table(id)
            && self.engine().catalog().tables.contains_key(&id)
        {
            tracing::warn!(%table, %error, "restored table is not open yet");
        }
        Ok(event)
    }

    fn publish_restored(
        &self,
        allowed: &Allowed<'_>,
        id: TableId,
        key: &KeyRecord,
    ) -> Result<Option<SchemaChangeEvent>> {
        let context = self.change_context(id, Some(key.clone()));
        let incident = new_incident()?;
        let mut result = Ok(None);
        let attached = self.engine().attach_table(&allowed.files, id, &mut |catalog| {
            let restore = allowed.statement;
            let applied =
                plan::apply(catalog, restore, &allowed.options, allowed.origin(), &context);
            match applied {
                Ok(Change::Next(mut next, event)) => {
                    next.key_changes.remove(&id);
                    self.record_event(&mut next, restored_event(allowed, &event, key, incident));
                    result = Ok(Some(event));
                    Ok(*next)
                }
                Ok(Change::Nothing) => Err(coffer_storage::Error::Refused("no key".into())),
                Err(error) => {
                    result = Err(error);
                    Err(coffer_storage::Error::Refused("the name was taken meanwhile".into()))
                }
            }
        });
        match attached {
            Ok(_) => {}
            Err(error @ coffer_storage::Error::Refused(_)) => {
                return result.and_then(|_| Err(refused(error)));
            }
            Err(error) => return Err(error.into()),
        }
        self.refresh_schema()?;
        result
    }
}

fn restored_event(
    allowed: &Allowed<'_>,
    made: &SchemaChangeEvent,
    key: &KeyRecord,
    incident: [u8; 16],
) -> NewEvent {
    let (source, as_of) = (&allowed.source, format_timestamp(allowed.files.as_of_millis));
    NewEvent {
        kind: EventKind::Restored,
        keyspace: made.keyspace.clone(),
        table: made.name.clone(),
        key_arn: key.kms_key_arn.clone(),
        state: "ACTIVE".to_owned(),
        since_millis: None,
        deadline_millis: None,
        incident,
        todo: "Nothing: the table can be used. Its source and what is kept of it stay as they are."
            .to_owned(),
        detail: format!("restored from {} as of {as_of}", source.name),
    }
}

/// The name of the temporary grant that opens the source of a restore.
pub(crate) fn source_grant_name(names: &GrantNames) -> String {
    format!("{}-source", names.data)
}

/// What the engine refuses here is wrong with the request, not with the server.
fn refused(error: coffer_storage::Error) -> Error {
    match error {
        coffer_storage::Error::Refused(text) => Error::Invalid(text),
        // expired since it was looked at
        error @ coffer_storage::Error::NotRestorable { .. } => Error::Invalid(error.to_string()),
        other => other.into(),
    }
}

/// What a name and a moment mean: the table of that name that is there, else the one that was dropped
/// last and of which something is kept.
fn find_source(
    catalog: &Catalog,
    name: &QualifiedName,
    options: &RestoreOptions,
) -> Result<Source> {
    let keyspace = name.keyspace.as_deref().unwrap_or_default();
    if let Some(wanted) = &options.snapshot {
        let snapshot = find_snapshot(catalog, (keyspace, &name.name), &wanted.name)?;
        let source = source_of(catalog, snapshot.schema.id, State::Snapshot(snapshot.id));
        return source.ok_or_else(|| unknown(keyspace, &name.name));
    }
    if let Some(entry) = catalog.table(keyspace, &name.name) {
        check_live(&entry.schema)?;
        let source = source_of(catalog, entry.schema.id, State::At(options.at_millis));
        return source.ok_or_else(|| unknown(keyspace, &name.name));
    }
    let id = restorable_dropped(catalog, keyspace, &name.name)
        .ok_or_else(|| unknown(keyspace, &name.name))?;
    source_of(catalog, id, State::At(options.at_millis))
        .ok_or_else(|| unknown(keyspace, &name.name))
}

fn source_of(catalog: &Catalog, id: TableId, state: State) -> Option<Source> {
    let live = catalog.tables.get(&id).map(|entry| (&entry.schema, &entry.key));
    let dropped = || catalog.dropped.get(&id).map(|dropped| (&dropped.schema, &dropped.key));
    let (schema, key) = live.or_else(dropped)?;
    Some(Source {
        name: TableName::new(id.0, &schema.keyspace, &schema.name),
        schema: Arc::clone(schema),
        key: Arc::clone(key),
        is_live: live.is_some(),
        state,
    })
}

/// The table that was dropped last under a name and that something is kept of.
pub(crate) fn restorable_dropped(catalog: &Catalog, keyspace: &str, name: &str) -> Option<TableId> {
    let is_meant = |schema: &TableSchema| schema.keyspace == keyspace && schema.name == name;
    let dropped = catalog.dropped.iter().filter(|(_, dropped)| is_meant(&dropped.schema));
    dropped.max_by_key(|(_, dropped)| dropped.dropped_at_millis).map(|(id, _)| *id)
}

fn find_snapshot<'a>(
    catalog: &'a Catalog,
    (keyspace, table): (&str, &str),
    wanted: &SnapshotName,
) -> Result<&'a Arc<SnapshotRecord>> {
    let of_table = |snapshot: &SnapshotRecord| {
        snapshot.schema.keyspace == keyspace && snapshot.schema.name == table
    };
    let is_wanted = |snapshot: &SnapshotRecord| match wanted {
        SnapshotName::Name(name) => snapshot.name == *name,
        SnapshotName::Id(id) => snapshot.id.to_string().eq_ignore_ascii_case(id),
    };
    let found = catalog.snapshots.values().filter(|known| of_table(known) && is_wanted(known));
    found.max_by_key(|snapshot| snapshot.as_of_millis).ok_or_else(|| {
        let (SnapshotName::Name(text) | SnapshotName::Id(text)) = wanted;
        Error::Invalid(format!(
            "there is no snapshot '{text}' of table {keyspace}.{table}: system_coffer.snapshots \
             lists what there is"
        ))
    })
}

fn unknown(keyspace: &str, table: &str) -> Error {
    Error::Invalid(format!(
        "table {keyspace}.{table} cannot be restored: there is no table of that name, and nothing is \
         kept of one that was dropped (system_coffer.snapshots lists what is kept)"
    ))
}

/// Whether the history of a table that is there is kept.
fn check_live(table: &TableSchema) -> Result<()> {
    if has_point_in_time_recovery(table) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "table {}.{} cannot be restored: point_in_time_recovery is not enabled for it (a snapshot of it, \
         or of a dropped table of the name, can be restored with custom_properties = {{'snapshot': \
         {{'id': ...}}}}: system_coffer.snapshots lists them)",
        table.keyspace, table.name
    )))
}
