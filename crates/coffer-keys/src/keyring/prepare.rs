//! New table keys: for a new table, for another KMS key, or because the old one wrapped enough.
//!
//! Nothing here changes what is in use. The caller publishes the prepared record in the catalog and
//! then installs it; until then a crash or an error leaves everything as it was.

use super::{Keyring, open_keys::OpenKeys};
use crate::{
    EncryptionContext, EncryptionSpecification, GenerateDataKeyRequest, KeyArn, KeyError,
    KeyMetadata, KmsError, KmsOperation, Result, TableName,
};
use coffer_crypto::{
    EncryptionType, Error, HexBytes, KeyLease, KeyRecord, OlderTableKey, TableKey, TableKeyId,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Longest blob of a KMS.
const BLOB_LEN_MAX: usize = 6144;

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

    pub(super) fn into_open_keys(self, lease: Arc<KeyLease>) -> OpenKeys {
        OpenKeys::new(self.table, self.record, self.current, self.older, lease)
    }
}

impl Keyring {
    /// The first keys of a new table: `DescribeKey`, then `GenerateDataKey`; no call for an owned
    /// key.
    ///
    /// # Errors
    /// A [`KeyError`] that names the ARN and its state; nothing is left behind.
    pub async fn new_record(
        &self,
        table: &TableName,
        specification: &EncryptionSpecification,
        context: &EncryptionContext,
    ) -> Result<PreparedKeys> {
        match specification {
            EncryptionSpecification::AwsOwned => self.new_owned(table),
            EncryptionSpecification::CustomerManaged(arn) => {
                self.new_customer_managed(table, arn, context).await
            }
        }
    }

    /// Keys under another KMS key: a new table key, with the current and those older ones in
    /// `still_needed` (the table keys named by live files) wrapped under it. `None` when the table is
    /// under that key already; then no KMS is asked.
    ///
    /// # Errors
    /// As [`Self::open`] for the current key and [`Self::new_record`] for the new one.
    pub async fn swap(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        specification: &EncryptionSpecification,
        context: &EncryptionContext,
        still_needed: &HashSet<TableKeyId>,
    ) -> Result<Option<PreparedKeys>> {
        let is_same = record.encryption_type == specification.encryption_type()
            && record.kms_key_arn.as_deref() == specification.arn();
        if is_same {
            return Ok(None);
        }
        self.replace(table, record, specification, context, still_needed).await.map(Some)
    }

    /// As [`Self::swap`], but under the same KMS key: for a table key that wrapped so much that it
    /// [`Self::is_worn`].
    ///
    /// # Errors
    /// As [`Self::swap`].
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
        let context = &record.encryption_context;
        self.replace(table, record, &specification, context, still_needed).await
    }

    async fn replace(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        specification: &EncryptionSpecification,
        context: &EncryptionContext,
        still_needed: &HashSet<TableKeyId>,
    ) -> Result<PreparedKeys> {
        self.open(table, record).await?;
        let keys = self.keys(&table.id).map_err(|_| KeyError::Superseded(table.clone()))?;
        let mut prepared = self.new_record(table, specification, context).await?;
        // a refusal of the old key, or another swap, may have come meanwhile
        if !keys.is_for(record) {
            return Err(KeyError::Superseded(table.clone()));
        }
        let needed = record.older.iter().map(|older| older.table_key_id);
        let needed = needed.filter(|id| still_needed.contains(id)).chain([record.table_key_id]);
        for id in needed {
            let damaged = |error| KeyError::damaged(table, error);
            let older = keys.table_key(id).ok_or_else(|| damaged(Error::UnknownTableKey(id)))?;
            let wrapped = prepared.current.wrap_older(&table.id, older).map_err(damaged)?;
            let opened = prepared.current.unwrap_older(&table.id, id, &wrapped).map_err(damaged)?;
            prepared.older.insert(id, opened);
            prepared.record.wraps += 1;
            let wrapped = HexBytes(wrapped);
            prepared.record.older.push(OlderTableKey { table_key_id: id, wrapped });
        }
        Ok(prepared)
    }

    fn new_owned(&self, table: &TableName) -> Result<PreparedKeys> {
        let damaged = |error| KeyError::damaged(table, error);
        let current = TableKey::generate().map_err(damaged)?;
        let blob = self.root.wrap_table_key(&table.id, &current).map_err(damaged)?;
        Ok(self.prepared(table, current, blob, EncryptionType::AwsOwned))
    }

    async fn new_customer_managed(
        &self,
        table: &TableName,
        arn: &KeyArn,
        context: &EncryptionContext,
    ) -> Result<PreparedKeys> {
        let arn = arn.as_str();
        let refused = |error| KeyError::from_kms(table, arn, error);
        let describe = self.kms.describe_key(arn);
        let metadata = self.call(KmsOperation::DescribeKey, describe).await.map_err(refused)?;
        check_usable(arn, &metadata).map_err(refused)?;

        let asked_at_millis = self.clock.key_now_millis();
        let request =
            GenerateDataKeyRequest { key: arn, context, grant_tokens: &[], dry_run: false };
        let generate = self.kms.generate_data_key(request);
        let generated =
            self.call(KmsOperation::GenerateDataKey, generate).await.map_err(refused)?;
        let damaged = |error| KeyError::damaged(table, error);
        if generated.blob.len() > BLOB_LEN_MAX {
            return Err(damaged(Error::Malformed { what: "blob of the KMS" }));
        }
        let current = TableKey::from_slice(&generated.plaintext).map_err(damaged)?;
        let blob = generated.blob;
        let mut prepared = self.prepared(table, current, blob, EncryptionType::CustomerManaged);
        prepared.asked_at_millis = asked_at_millis;
        prepared.record.kms_key_arn = Some(arn.to_owned());
        prepared.record.encryption_context = context.clone();
        prepared.record.key_material_id = generated.key_material_id;
        Ok(prepared)
    }

    fn prepared(
        &self,
        table: &TableName,
        current: TableKey,
        blob: Vec<u8>,
        encryption_type: EncryptionType,
    ) -> PreparedKeys {
        let record = KeyRecord {
            table_key_id: current.id(),
            encryption_type,
            kms_key_arn: None,
            blob: HexBytes(blob),
            encryption_context: EncryptionContext::new(),
            key_material_id: None,
            created_at_millis: self.clock.key_wall_millis(),
            wraps: 0,
            older: Vec::new(),
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

/// Whether tables can be encrypted under the key that `metadata` describes.
fn check_usable(arn: &str, metadata: &KeyMetadata) -> std::result::Result<(), KmsError> {
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
