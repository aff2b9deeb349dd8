//! Asking the KMS whether a key could be used, without using it.

use super::{Keyring, statistics::Asked};
use crate::{
    EncryptionContext, GenerateDataKeyRequest, KeyError, KmsError, KmsOperation, TableName,
    keyring::prepare,
};
use coffer_crypto::{EncryptionType, KeyRecord};

/// Name of the exception that says that a dry run would have been done.
const DRY_RUN: &str = "DryRunOperationException";

/// What one operation would give.
#[derive(Clone, Debug)]
pub struct CheckResult {
    /// The operation.
    pub operation: KmsOperation,
    /// ARN.
    pub key_arn: String,
    /// Nothing when it would be done; else what is missing, and what to do.
    pub outcome: Result<(), KeyError>,
}

impl Keyring {
    /// Whether the table's key could be used now: `DescribeKey`, and dry runs of `GenerateDataKey` and
    /// of `Decrypt` of the table's own blob. Changes nothing, whatever the answers. Empty for an
    /// owned key, which needs no KMS.
    pub async fn check(&self, table: &TableName, record: &KeyRecord) -> Vec<CheckResult> {
        let (EncryptionType::CustomerManaged, Some(arn)) =
            (record.encryption_type, record.kms_key_arn.as_deref())
        else {
            return Vec::new();
        };
        let context = &record.encryption_context;
        let mut results = self.check_key_of(table, arn, context).await;
        let operation = KmsOperation::Decrypt;
        let outcome = self.check_decrypt(table, record).await;
        results.push(CheckResult { operation, key_arn: arn.to_owned(), outcome });
        results
    }

    /// Whether a new table with this encryption context could be put under the key: `DescribeKey` and
    /// a dry run of `GenerateDataKey`. The latter is refused when Coffer's data identity has rights
    /// only through the grants of tables, which a new table gets at CREATE.
    pub async fn check_key(&self, arn: &str, context: &EncryptionContext) -> Vec<CheckResult> {
        let table = TableName::new([0; 16], "", "");
        self.check_key_of(&table, arn, context).await
    }

    async fn check_key_of(
        &self,
        table: &TableName,
        arn: &str,
        context: &EncryptionContext,
    ) -> Vec<CheckResult> {
        let asked = |operation| Asked { operation, table: Some(table), key_arn: arn };
        let refused = |error| KeyError::from_kms(table, arn, error);
        let operation = KmsOperation::DescribeKey;
        let described = self.call(asked(operation), self.kms.describe_key(arn)).await;
        let outcome =
            described.and_then(|metadata| prepare::check_usable(arn, &metadata)).map_err(refused);
        let mut results = vec![CheckResult { operation, key_arn: arn.to_owned(), outcome }];

        let operation = KmsOperation::GenerateDataKey;
        let request =
            GenerateDataKeyRequest { key: arn, context, grant_tokens: &[], dry_run: true };
        let answer = self.call(asked(operation), self.kms.generate_data_key(request)).await;
        let outcome = dry_run(table, arn, answer);
        results.push(CheckResult { operation, key_arn: arn.to_owned(), outcome });
        results
    }
}

/// A KMS that does not know dry runs does the thing, which is an answer too.
pub(super) fn dry_run<T>(
    table: &TableName,
    arn: &str,
    answer: Result<T, KmsError>,
) -> Result<(), KeyError> {
    match answer {
        Err(error) if error.name() != DRY_RUN => Err(KeyError::from_kms(table, arn, error)),
        _ => Ok(()),
    }
}
