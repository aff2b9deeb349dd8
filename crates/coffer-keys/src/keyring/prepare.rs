//! New table keys: for a new table, for another KMS key, or because the old one wrapped enough.
//!
//! Nothing here changes what is in use. The caller publishes the prepared record in the catalog and
//! then installs it; until then a crash or an error leaves everything as it was.

use super::{
    GrantNames, Keyring,
    entry::{Entry, TableKeys},
    statistics::Asked,
};
use crate::{
    EncryptionContext, EncryptionSpecification, GenerateDataKeyRequest, KeyArn, KeyChangeError,
    KeyError, KeyMetadata, KmsError, KmsOperation, Result, TableName,
};
use coffer_crypto::{
    EncryptionType, Error, HexBytes, KeyGrant, KeyLease, KeyRecord, OlderTableKey, TableKey,
    TableKeyId,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Longest blob of a KMS.
const BLOB_LEN_MAX: usize = 6144;

/// What the keys of a table are to be.
#[derive(Clone, Copy, Debug)]
pub struct NewKeys<'a> {
    /// The KMS key, or the owned key.
    pub specification: &'a EncryptionSpecification,
    /// What the KMS is to bind the table key to; not used for an owned key.
    pub context: &'a EncryptionContext,
    /// The two grants to make first; `None` makes none. Not used for an owned key.
    pub grants: Option<&'a GrantNames>,
    /// Whether the blob of the KMS is sealed once more under the root key. Not used for an owned key.
    pub double_wrapped: bool,
}

/// Keys that are ready to be used, and the record to publish before they are installed.
pub struct PreparedKeys {
    pub(super) table: TableName,
    pub(super) record: KeyRecord,
    pub(super) asked_at_millis: i64,
    current: TableKey,
    older: HashMap<TableKeyId, TableKey>,
}

impl PreparedKeys {
    /// The record for the catalog.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// Wraps the current one of `keys`, and those older ones of `record` that are in `still_needed`,
    /// under the prepared key, bound to the table that it is for.
    pub(super) fn with_older(
        mut self,
        keys: &TableKeys,
        record: &KeyRecord,
        still_needed: &HashSet<TableKeyId>,
    ) -> Result<Self> {
        let damaged = |table: &TableName, error| KeyError::damaged(table, error);
        let needed = record.older.iter().map(|older| older.table_key_id);
        let needed = needed.filter(|id| still_needed.contains(id)).chain([record.table_key_id]);
        for id in needed {
            let table = &self.table;
            let older = keys.get(id).ok_or_else(|| damaged(table, Error::UnknownTableKey(id)))?;
            let wrapped = self.current.wrap_older(&table.id, older);
            let wrapped = wrapped.map_err(|error| damaged(table, error))?;
            let opened = self.current.unwrap_older(&table.id, id, &wrapped);
            let opened = opened.map_err(|error| damaged(table, error))?;
            self.older.insert(id, opened);
            self.record.wraps += 1;
            let wrapped = HexBytes(wrapped);
            self.record.older.push(OlderTableKey { table_key_id: id, wrapped });
        }
        Ok(self)
    }

    pub(super) fn into_entry(self, lease: Arc<KeyLease>) -> Entry {
        let keys = TableKeys { current: self.current, older: self.older };
        Entry::new(self.table, self.record, keys, lease, self.asked_at_millis)
    }
}

impl Keyring {
    /// Asks the KMS what the key is (`DescribeKey`), before anything is made for it. `None` for an
    /// owned key; then no KMS is asked.
    ///
    /// # Errors
    /// A [`KeyError`] that names the ARN and its state when no table can be encrypted under it.
    pub async fn describe(
        &self,
        table: &TableName,
        specification: &EncryptionSpecification,
    ) -> Result<Option<KeyMetadata>> {
        let Some(arn) = specification.arn() else {
            return Ok(None);
        };
        let refused = |error| KeyError::from_kms(table, arn, error);
        let asked =
            Asked { operation: KmsOperation::DescribeKey, table: Some(table), key_arn: arn };
        let metadata = self.call(asked, self.kms.describe_key(arn)).await.map_err(refused)?;
        check_usable(arn, &metadata).map_err(refused)?;
        Ok(Some(metadata))
    }

    /// The first keys of a new table: `CreateGrant` twice, then `GenerateDataKey` with the grants'
    /// tokens; no call for an owned key. [`Self::describe`] comes before.
    ///
    /// # Errors
    /// A [`KeyError`] that names ARN, state and missing permission, with the grants that were made.
    pub async fn new_record(
        &self,
        table: &TableName,
        new: NewKeys<'_>,
    ) -> Result<PreparedKeys, KeyChangeError> {
        match new.specification {
            EncryptionSpecification::AwsOwned => Ok(self.new_owned(table)?),
            EncryptionSpecification::CustomerManaged(arn) => {
                self.new_customer_managed(table, arn, new).await
            }
        }
    }

    /// Keys under another KMS key: a new table key, with the current and those older ones in
    /// `still_needed` (the table keys named by live files) wrapped under it. `None` when the table is
    /// under that key already; then no KMS is asked. [`Self::describe`] of the new key comes before.
    ///
    /// # Errors
    /// As [`Self::open`] for the current key and [`Self::new_record`] for the new one.
    pub async fn swap(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        new: NewKeys<'_>,
        still_needed: &HashSet<TableKeyId>,
    ) -> Result<Option<PreparedKeys>, KeyChangeError> {
        if is_under(record, new.specification) {
            return Ok(None);
        }
        self.replace(table, record, new, still_needed).await.map(Some)
    }

    /// As [`Self::swap`], but under the same KMS key and its grants: for a table key that wrapped so
    /// much that it [`Self::is_worn`], or that is as old as table keys may become.
    ///
    /// # Errors
    /// As [`Self::swap`]; nothing is left behind.
    pub async fn renew(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        still_needed: &HashSet<TableKeyId>,
    ) -> Result<PreparedKeys> {
        let specification = match &record.kms_key_arn {
            None => EncryptionSpecification::AwsOwned,
            Some(arn) => EncryptionSpecification::CustomerManaged(KeyArn::parse(arn)?),
        };
        let new = NewKeys {
            specification: &specification,
            context: &record.encryption_context,
            grants: None,
            double_wrapped: record.double_wrapped,
        };
        let mut prepared =
            self.replace(table, record, new, still_needed).await.map_err(|failed| failed.error)?;
        prepared.record.grants.clone_from(&record.grants);
        Ok(prepared)
    }

    async fn replace(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        new: NewKeys<'_>,
        still_needed: &HashSet<TableKeyId>,
    ) -> Result<PreparedKeys, KeyChangeError> {
        self.open(table, record).await?;
        let prepared = self.new_record(table, new).await?;
        let grants = prepared.record.grants.clone();
        let kept = self.keep_older(table, record, prepared, still_needed).await;
        kept.map_err(|error| KeyChangeError { error, grants })
    }

    /// Wraps the keys that files still need under the prepared one.
    async fn keep_older(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        prepared: PreparedKeys,
        still_needed: &HashSet<TableKeyId>,
    ) -> Result<PreparedKeys> {
        // while the new key was made, the old one may have left the cache
        self.open(table, record).await?;
        let superseded = || KeyError::Superseded(table.clone());
        let (entry, keys) = self.keys(&table.id).map_err(|_| superseded())?;
        // a refusal of the old key, or another swap, may have come meanwhile
        if !entry.is_for(record) {
            return Err(superseded());
        }
        prepared.with_older(&keys, record, still_needed)
    }

    fn new_owned(&self, table: &TableName) -> Result<PreparedKeys> {
        let damaged = |error| KeyError::damaged(table, error);
        let current = TableKey::generate().map_err(damaged)?;
        let wrapped = self.roots.read().current().wrap_table_key(&table.id, &current);
        let blob = HexBytes(wrapped.map_err(damaged)?);
        Ok(self.prepared(table, current, blob, EncryptionType::AwsOwned))
    }

    async fn new_customer_managed(
        &self,
        table: &TableName,
        arn: &KeyArn,
        new: NewKeys<'_>,
    ) -> Result<PreparedKeys, KeyChangeError> {
        let arn = arn.as_str();
        let (grants, tokens) = match new.grants {
            None => (Vec::new(), Vec::new()),
            Some(names) => {
                let made = self.make_grants(table, arn, new.context, names).await?;
                (made.grants, made.tokens)
            }
        };
        let generated = self.generate(table, arn, new, &tokens).await;
        match generated {
            Ok(mut prepared) => {
                prepared.record.grants = grants;
                Ok(prepared)
            }
            Err(error) => Err(KeyChangeError { error, grants }),
        }
    }

    async fn generate(
        &self,
        table: &TableName,
        arn: &str,
        new: NewKeys<'_>,
        grant_tokens: &[String],
    ) -> Result<PreparedKeys> {
        let asked_at_millis = self.clock.key_now_millis();
        let context = new.context;
        let request = GenerateDataKeyRequest { key: arn, context, grant_tokens, dry_run: false };
        let asked =
            Asked { operation: KmsOperation::GenerateDataKey, table: Some(table), key_arn: arn };
        let answer = self.call(asked, self.kms.generate_data_key(request)).await;
        let generated = answer.map_err(|error| KeyError::from_kms(table, arn, error))?;
        let damaged = |error| KeyError::damaged(table, error);
        if generated.blob.len() > BLOB_LEN_MAX {
            return Err(damaged(Error::Malformed { what: "blob of the KMS" }));
        }
        let current = TableKey::from_slice(&generated.plaintext).map_err(damaged)?;
        let blob = self.stored_blob(table, current.id(), generated.blob, new.double_wrapped)?;
        let mut prepared = self.prepared(table, current, blob, EncryptionType::CustomerManaged);
        prepared.asked_at_millis = asked_at_millis;
        prepared.record.kms_key_arn = Some(arn.to_owned());
        prepared.record.encryption_context = new.context.clone();
        prepared.record.key_material_id = generated.key_material_id;
        prepared.record.double_wrapped = new.double_wrapped;
        Ok(prepared)
    }

    fn prepared(
        &self,
        table: &TableName,
        current: TableKey,
        blob: HexBytes,
        encryption_type: EncryptionType,
    ) -> PreparedKeys {
        let record = KeyRecord {
            table_key_id: current.id(),
            encryption_type,
            kms_key_arn: None,
            blob,
            encryption_context: EncryptionContext::new(),
            key_material_id: None,
            created_at_millis: self.clock.key_wall_millis(),
            wraps: 0,
            older: Vec::new(),
            grants: Vec::<KeyGrant>::new(),
            double_wrapped: false,
        };
        PreparedKeys {
            table: table.clone(),
            record,
            asked_at_millis: self.clock.key_now_millis(),
            current,
            older: HashMap::new(),
        }
    }
}

/// Whether the record's table is under that key already.
fn is_under(record: &KeyRecord, specification: &EncryptionSpecification) -> bool {
    record.encryption_type == specification.encryption_type()
        && record.kms_key_arn.as_deref() == specification.arn()
}

/// Whether tables can be encrypted under the key that `metadata` describes.
pub(super) fn check_usable(arn: &str, metadata: &KeyMetadata) -> std::result::Result<(), KmsError> {
    let operation = KmsOperation::DescribeKey;
    if let Some(error) = KmsError::of_state(operation, arn, metadata.key_state) {
        return Err(error);
    }
    if metadata.key_usage == "ENCRYPT_DECRYPT" && metadata.key_spec == "SYMMETRIC_DEFAULT" {
        return Ok(());
    }
    let message = format!(
        "{arn} is not a symmetric encryption key, usage={} spec={}",
        metadata.key_usage, metadata.key_spec
    );
    Err(KmsError::new(operation, "InvalidKeyUsageException", message))
}
