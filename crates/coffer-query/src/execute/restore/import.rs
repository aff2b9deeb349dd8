//! A table of the files of a backup: a restore whose source is no table of this server.

use coffer_keys::{EncryptionSpecification, NewKeys, TableName};
use coffer_storage::RestoreSource;
use cql_parser::ast::{QualifiedName, RestoreTable};

use super::{Allowed, Source, State};
use crate::custom_properties::{CustomProperties, ENCRYPTION_CONTEXT};
use crate::database::Database;
use crate::encryption_policy::EncryptionPolicy;
use crate::error::{Error, Result};
use crate::execute::key_change::{Failed, context_of};
use crate::execute::schema_change::new_table_id;
use crate::plan::schema_change::ChangeContext;
use crate::plan::schema_change::restore::{self as plan, RestoreOptions};

impl Database {
    /// Makes table `keyspace.name` of the files of a backup, under a KMS key. `files.table` is what the
    /// backup's key record is bound to, and `kept_as` what messages call the keyspace of that. Waits
    /// for the KMS, and blocks on the disk.
    ///
    /// # Errors
    /// As RESTORE TABLE's: a name that is taken, a keyspace that is missing, keys that cannot be used.
    pub async fn import_table(
        &self,
        files: RestoreSource,
        kept_as: &str,
        (keyspace, name): (&str, &str),
        encryption: EncryptionSpecification,
    ) -> Result<()> {
        let _turn = self.key_queues().enter(keyspace, name).await;
        let catalog = self.engine().catalog();
        let target = QualifiedName { keyspace: Some(keyspace.to_owned()), name: name.to_owned() };
        let restore =
            RestoreTable { name: target.clone(), source: target.clone(), properties: Vec::new() };
        let double_wrapped = {
            let schema = plan::check_target(&catalog, &target)?;
            let policy = EncryptionPolicy::of(&self.options().encryption, schema);
            policy.check(name, &encryption)?;
            policy.double_wrapping
        };
        let id = new_table_id()?;
        let table = TableName::new(id.0, keyspace, name);
        let extra = files.schema.custom_properties.get(ENCRYPTION_CONTEXT).cloned();
        let context = context_of(&catalog, &table, extra.unwrap_or_default())?;
        let source = Source {
            name: TableName::new(files.table.0, kept_as, &files.table.to_string()),
            schema: files.schema.clone(),
            key: files.key.clone(),
            is_live: false,
            state: State::At(None),
        };
        let properties = CustomProperties {
            encryption: Some(encryption.clone()),
            ..CustomProperties::default()
        };
        let options = RestoreOptions { at_millis: None, properties, snapshot: None };
        let allowed = Allowed { statement: &restore, options, source, files };

        self.check_source_key(&allowed.source, None).await?;
        self.keyring().describe(&table, &encryption).await?;
        let check =
            ChangeContext { now_millis: self.clock().now_millis(), table_id: id, key: None };
        plan::apply(&catalog, &restore, &allowed.options, allowed.origin(), &check)?;
        let may_need_grant = |failed: &Failed| matches!(*failed.error, Error::KeyRefused(_));
        let opened = match self.open_source(&allowed, None).await {
            Err(failed) if !may_need_grant(&failed) => return Err(*failed.error),
            opened => opened.ok(),
        };
        let purpose = allowed.purpose(opened.as_ref());
        let begun = self.begin_change(&table, &encryption, &context, purpose)?;
        let names = self.grant_names(&begun);
        let new = NewKeys {
            specification: &encryption,
            context: &context,
            grants: encryption.arn().map(|_| &names),
            double_wrapped,
        };
        let made = self.make_restored(&allowed, opened, &table, new, &names).await;
        made.map(drop).map_err(|failed| self.give_up(Some(&begun), failed))
    }
}
