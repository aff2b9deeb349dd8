//! A table of the files of a backup: a restore whose source is no table of this server.

use coffer_keys::{EncryptionSpecification, TableName};
use coffer_storage::RestoreSource;
use cql_parser::ast::{QualifiedName, RestoreTable};

use super::{Allowed, Source, State};
use crate::custom_properties::CustomProperties;
use crate::database::Database;
use crate::error::Result;
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
        let name = QualifiedName { keyspace: Some(keyspace.to_owned()), name: name.to_owned() };
        let restore = RestoreTable { name: name.clone(), source: name, properties: Vec::new() };
        let schema = plan::check_target(&catalog, &restore.name)?;
        let source = Source {
            name: TableName::new(
                files.table.0,
                kept_as,
                // as a backup's id is written everywhere
                &files.table.to_uuid().simple().to_string(),
            ),
            schema: files.schema.clone(),
            key: files.key.clone(),
            is_live: false,
            state: State::At(None),
        };
        let properties =
            CustomProperties { encryption: Some(encryption), ..CustomProperties::default() };
        let options = RestoreOptions { at_millis: None, properties, snapshot: None };
        let target = self.restore_target(&restore, schema, &options, &source)?;
        self.check_restore_keys(&source, None, &target).await?;
        let allowed = Allowed { statement: &restore, options, source, files };
        self.restore_files(&allowed, &target).await.map(drop)
    }
}
