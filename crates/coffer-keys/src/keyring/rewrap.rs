//! New envelopes for a table key that stays: under the KMS key's newest material, under another
//! root key.

use super::{Keyring, statistics::Asked};
use crate::{KeyError, KmsOperation, ReEncryptRequest, Result, TableName};
use coffer_crypto::{EncryptionType, HexBytes, KeyRecord, RootKeys};
use std::borrow::Cow;

impl Keyring {
    /// The record with its blob encrypted anew by the KMS (`ReEncrypt` under the same key and context:
    /// the plaintext does not leave the KMS), so that it is under the key's newest material. The table
    /// key, and with it every file, stays. An owned key's record comes back as it is.
    ///
    /// The caller publishes the record and then calls [`Self::install_record`].
    ///
    /// # Errors
    /// As a refusal of the KMS; nothing is changed then.
    pub async fn rewrap(&self, table: &TableName, record: &KeyRecord) -> Result<KeyRecord> {
        let (EncryptionType::CustomerManaged, Some(arn)) =
            (record.encryption_type, record.kms_key_arn.as_deref())
        else {
            return Ok(record.clone());
        };
        let blob = self.kms_blob(table, record)?;
        let context = &record.encryption_context;
        let request = ReEncryptRequest {
            blob: &blob,
            source_key: arn,
            source_context: context,
            destination_key: arn,
            destination_context: context,
        };
        let asked = Asked { operation: KmsOperation::ReEncrypt, table: Some(table), key_arn: arn };
        let answer = self.call(asked, self.kms.re_encrypt(request)).await;
        let new = answer.map_err(|error| KeyError::from_kms(table, arn, error))?;
        let mut rewrapped = record.clone();
        rewrapped.blob =
            self.stored_blob(table, record.table_key_id, new.blob, record.double_wrapped)?;
        rewrapped.key_material_id = new.key_material_id.or(rewrapped.key_material_id);
        Ok(rewrapped)
    }

    /// The record with everything in it that is under the previous root key put under the current one:
    /// an owned table key, or the outer wrap of a doubly wrapped one. `None` when nothing is. Asks no
    /// KMS.
    ///
    /// The caller publishes the record and then calls [`Self::install_record`].
    ///
    /// # Errors
    /// [`KeyError::Damaged`] when neither root key opens it.
    pub fn rewrap_under_root(
        &self,
        table: &TableName,
        record: &KeyRecord,
    ) -> Result<Option<KeyRecord>> {
        let damaged = |error| KeyError::damaged(table, error);
        let roots = self.roots.read();
        let (id, stored) = (record.table_key_id, &record.blob.0);
        let rewrapped = match record.encryption_type {
            EncryptionType::AwsOwned => {
                let (key, is_current) =
                    roots.unwrap_table_key(&table.id, id, stored).map_err(damaged)?;
                (!is_current).then(|| roots.current().wrap_table_key(&table.id, &key))
            }
            EncryptionType::CustomerManaged if record.double_wrapped => {
                let (blob, is_current) =
                    roots.unwrap_blob(&table.id, id, stored).map_err(damaged)?;
                (!is_current).then(|| roots.current().wrap_blob(&table.id, id, &blob))
            }
            EncryptionType::CustomerManaged => None,
        };
        let Some(blob) = rewrapped.transpose().map_err(damaged)? else {
            return Ok(None);
        };
        Ok(Some(KeyRecord { blob: HexBytes(blob), ..record.clone() }))
    }

    /// Uses these root keys from now on: both when a rotation begins, one when it ended.
    pub fn set_root_keys(&self, roots: RootKeys) {
        *self.roots.write() = roots;
    }

    /// Remembers a record that differs from the cached one in its envelope only, after it was
    /// published. Does nothing when the table has another table key by now.
    pub fn install_record(&self, table: &[u8; 16], record: &KeyRecord) {
        if let Some(keys) = self.tables.lock().open.get(table)
            && keys.current_id() == record.table_key_id
        {
            keys.set_record(record.clone());
        }
    }

    /// The blob as the KMS made it.
    pub(super) fn kms_blob<'a>(
        &self,
        table: &TableName,
        record: &'a KeyRecord,
    ) -> Result<Cow<'a, [u8]>> {
        if !record.double_wrapped {
            return Ok(Cow::Borrowed(&record.blob.0));
        }
        let roots = self.roots.read();
        let opened = roots.unwrap_blob(&table.id, record.table_key_id, &record.blob.0);
        let (blob, _) = opened.map_err(|error| KeyError::damaged(table, error))?;
        Ok(Cow::Owned(blob))
    }

    /// The blob as the record holds it.
    pub(super) fn stored_blob(
        &self,
        table: &TableName,
        id: coffer_crypto::TableKeyId,
        blob: Vec<u8>,
        is_double: bool,
    ) -> Result<HexBytes> {
        if !is_double {
            return Ok(HexBytes(blob));
        }
        let wrapped = self.roots.read().current().wrap_blob(&table.id, id, &blob);
        wrapped.map(HexBytes).map_err(|error| KeyError::damaged(table, error))
    }
}
