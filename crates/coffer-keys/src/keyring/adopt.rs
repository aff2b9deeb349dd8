//! Keys of a table that is made from the files of another one: by a restore, or from a backup.
//!
//! The files stay as they are, so the table keys they were born under are kept, wrapped under the new
//! table's own key. The KMS is always asked, also for a source whose key is cached: who may not use
//! the last key of a table any more may not copy it either.

use super::{
    BlobUse, Keyring, NewKeys, PreparedKeys, arn_of,
    entry::{self, TableKeys},
    statistics::Asked,
};
use crate::{
    CreateGrantRequest, ErrorClass, GrantKind, KeyChangeError, KeyError, KmsOperation, Result,
    TableName,
};
use coffer_crypto::{EncryptionType, KeyRecord, TableKey, TableKeyId};
use std::{collections::HashSet, sync::Arc};

/// The table whose files are to be used.
#[derive(Clone, Copy, Debug)]
pub struct KeySource<'a> {
    /// Its name; its id is what its record is bound to.
    pub table: &'a TableName,
    /// Its keys.
    pub record: &'a KeyRecord,
    /// The table keys that the files need.
    pub needed: &'a HashSet<TableKeyId>,
    /// As whom the KMS is asked.
    pub access: SourceAccess<'a>,
}

/// As whom the KMS is asked for the keys of a source.
#[derive(Clone, Copy, Debug)]
pub enum SourceAccess<'a> {
    /// The table is there, with its data grant: as the data identity.
    Live,
    /// The table was dropped: as the control identity, through the table's snapshot grant. Where that
    /// is gone too and a name is given, a grant of that name is made, used and retired.
    Dropped {
        /// Name of that grant; the same name gives the same grant.
        temporary_grant: Option<&'a str>,
    },
}

/// Opened keys of a source. No `Debug`.
pub struct SourceKeys {
    keys: TableKeys,
    record: KeyRecord,
    needed: HashSet<TableKeyId>,
}

impl Keyring {
    /// Keys of `target`, which is to have files of `source`: a new table key, with the source's current
    /// and needed older ones wrapped under it. [`Self::describe`] of both keys comes before.
    ///
    /// # Errors
    /// As [`Self::open_source`] and [`Self::adopt_opened`].
    pub async fn adopt(
        &self,
        source: KeySource<'_>,
        target: &TableName,
        new: NewKeys<'_>,
    ) -> Result<PreparedKeys, KeyChangeError> {
        let opened = self.open_source(source).await?;
        self.adopt_opened(&opened, target, new).await
    }

    /// Opens the keys of a source: one `Decrypt`, none for an owned key.
    ///
    /// # Errors
    /// A [`KeyError`] that names ARN, state and missing permission, with the temporary grant when it
    /// was made and could not be retired.
    pub async fn open_source(&self, source: KeySource<'_>) -> Result<SourceKeys, KeyChangeError> {
        let key = match source.record.encryption_type {
            EncryptionType::AwsOwned => self.owned_source_key(&source)?,
            EncryptionType::CustomerManaged => match source.access {
                SourceAccess::Live => self.decrypt_source(&source, &[], false).await?,
                SourceAccess::Dropped { temporary_grant } => {
                    self.dropped_source_key(&source, temporary_grant).await?
                }
            },
        };
        let keys = entry::open_older(source.table, source.record, key)?;
        let (record, needed) = (source.record.clone(), source.needed.clone());
        Ok(SourceKeys { keys, record, needed })
    }

    /// Opens the keys of a source and holds them as those of an open table of its id, for files that
    /// belong to no table: those of a backup. [`Self::forget`] ends it.
    ///
    /// # Errors
    /// As [`Self::open_source`].
    pub async fn open_files(&self, source: KeySource<'_>) -> Result<(), KeyChangeError> {
        let asked_at_millis = self.clock.key_now_millis();
        let opened = self.open_source(source).await?;
        let id = source.table.id;
        let mut tables = self.tables.lock();
        let lease = tables.lease(&id, self.lease_end(&opened.record, asked_at_millis));
        let (name, record) = (source.table.clone(), opened.record);
        let entry = entry::Entry::new(name, record, opened.keys, lease, asked_at_millis);
        tables.open.insert(id, Arc::new(entry));
        Ok(())
    }

    /// As [`Self::adopt`], for keys that were opened before.
    ///
    /// # Errors
    /// As [`Self::new_record`].
    pub async fn adopt_opened(
        &self,
        source: &SourceKeys,
        target: &TableName,
        new: NewKeys<'_>,
    ) -> Result<PreparedKeys, KeyChangeError> {
        let prepared = self.new_record(target, new).await?;
        let grants = prepared.record().grants.clone();
        let adopted = prepared.with_older(&source.keys, &source.record, &source.needed);
        adopted.map_err(|error| KeyChangeError { error, grants })
    }

    fn owned_source_key(&self, source: &KeySource<'_>) -> Result<TableKey> {
        let (table, record) = (source.table, source.record);
        let unwrapped =
            self.roots.read().unwrap_table_key(&table.id, record.table_key_id, &record.blob.0);
        let (key, _) = unwrapped.map_err(|error| KeyError::damaged(table, error))?;
        Ok(key)
    }

    async fn dropped_source_key(
        &self,
        source: &KeySource<'_>,
        temporary_grant: Option<&str>,
    ) -> Result<TableKey, KeyChangeError> {
        let refused = match self.decrypt_source(source, &[], true).await {
            Ok(key) => return Ok(key),
            Err(error) => error,
        };
        let is_denied =
            refused.refusal().is_some_and(|told| told.error.name() == "AccessDeniedException");
        let Some(name) = temporary_grant.filter(|_| is_denied) else {
            return Err(refused.into());
        };
        let (table, arn) = (source.table, arn_of(source.record));
        let context = &source.record.encryption_context;
        let request = CreateGrantRequest { key: arn, kind: GrantKind::Data, context, name };
        let (made, token) = match self.make_grant(table, request).await {
            Ok(made) => made,
            // it may be there: the caller keeps what it needs to find it
            Err(error)
                if matches!(error.class(), ErrorClass::Transient | ErrorClass::Ambiguous) =>
            {
                return Err(error.into());
            }
            Err(error) => {
                tracing::warn!(%table, %error, "no grant to open the key of a dropped table with");
                return Err(refused.into());
            }
        };
        let opened = self.decrypt_source(source, &[token], false).await;
        let asked =
            Asked { operation: KmsOperation::RetireGrant, table: Some(table), key_arn: arn };
        let retired = self.call(asked, self.kms.retire_grant(arn, &made.grant_id)).await;
        match retired {
            Err(error) if error.name() != "NotFoundException" => {
                let error = KeyError::from_kms(table, arn, error);
                Err(KeyChangeError { error, grants: vec![made] })
            }
            _ => Ok(opened?),
        }
    }

    async fn decrypt_source(
        &self,
        source: &KeySource<'_>,
        grant_tokens: &[String],
        as_control: bool,
    ) -> Result<TableKey> {
        let (table, record) = (source.table, source.record);
        let blob = self.kms_blob(table, record)?;
        let as_asked = BlobUse { grant_tokens, as_control, ..BlobUse::default() };
        let answer = self.decrypt_blob(table, record, &blob, as_asked).await;
        let decrypted = answer.map_err(|error| KeyError::from_kms(table, arn_of(record), error))?;
        record_key(table, record, &decrypted.plaintext)
    }
}

/// The table key of `record` in the clear, unless the KMS gave another one.
pub(super) fn record_key(
    table: &TableName,
    record: &KeyRecord,
    plaintext: &[u8],
) -> Result<TableKey> {
    let key = TableKey::from_slice(plaintext).map_err(|error| KeyError::damaged(table, error))?;
    if key.id() == record.table_key_id {
        Ok(key)
    } else {
        Err(KeyError::WrongTableKey { table: table.clone(), arn: arn_of(record).to_owned() })
    }
}
