//! Asking the KMS in the background how the keys of tables are, without using them.
//!
//! Nobody waits for it, so it goes through the background's share of calls. Tables under one KMS key
//! share one `DescribeKey`; each has a dry run of `Decrypt` of its own blob, as Coffer's data identity:
//! that is what a request would need.

use super::{BlobUse, Keyring, arn_of, check, statistics::Asked};
use crate::{ErrorClass, KeyError, KeyMetadata, KeyState, KmsError, KmsOperation, TableName};
use coffer_crypto::KeyRecord;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};
use tokio::task::JoinHandle;

/// Says that two answers of one probe do not go together; nobody's exception, so it is ambiguous.
const CONTRADICTION: &str = "ContradictoryAnswers";

/// What a probe of one table's key found.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The table.
    pub table: TableName,
    /// The record whose blob was asked about.
    pub record: Arc<KeyRecord>,
    /// Nothing when the key can be used.
    pub outcome: Result<(), KeyError>,
    /// Who was asked, and as whom: [`crate::KmsProvider::identity`]. `None` when that is not known.
    pub identity: Option<String>,
    /// State of the KMS key, where the KMS told it.
    pub kms_state: Option<KeyState>,
    /// When the KMS deletes the key, milliseconds since 1970, where it told that.
    pub deletion_millis: Option<i64>,
    /// When it was asked, on the clock of key ages: a verdict that rests on the state of the KMS key
    /// alone is as old as that.
    pub asked_at_millis: i64,
}

impl Keyring {
    /// Asks about the keys of these tables; owned keys are left out. Calls of one round go on beside
    /// each other, so it takes no longer than the slowest answer, or than its share of calls lasts. A
    /// definitive refusal drops the cached keys of the table, as one of a refresh does.
    pub async fn probe(self: &Arc<Self>, tables: Vec<(TableName, Arc<KeyRecord>)>) -> Vec<Probe> {
        let mut identities: HashMap<String, Option<String>> = HashMap::new();
        let mut described: HashMap<String, (i64, JoinHandle<Result<KeyMetadata, KmsError>>)> =
            HashMap::new();
        let mut asked = Vec::new();
        for (table, record) in tables {
            let Some(arn) = record.kms_key_arn.clone() else { continue };
            if !described.contains_key(&arn) {
                identities.insert(arn.clone(), self.identity(&arn).await);
                self.background_turn().await;
                let at = self.clock.key_now_millis();
                described.insert(arn.clone(), (at, self.spawn_describe(arn.clone())));
            }
            self.background_turn().await;
            let at = self.clock.key_now_millis();
            let dry_run = self.spawn_dry_run(table.clone(), Arc::clone(&record));
            asked.push((table, record, arn, at, dry_run));
        }
        let mut states = HashMap::new();
        for (arn, (described_at, describing)) in described {
            // a task that is gone: the runtime stops, or the provider panicked
            let stopped = |_| Err(stopped(KmsOperation::DescribeKey));
            states.insert(arn, (described_at, describing.await.unwrap_or_else(stopped)));
        }
        let mut probes = Vec::with_capacity(asked.len());
        for (table, record, arn, dry_run_at, dry_run) in asked {
            let outcome = dry_run.await.unwrap_or_else(|_| {
                Err(KeyError::from_kms(&table, &arn, stopped(KmsOperation::Decrypt)))
            });
            let described = states.get(&arn);
            let metadata = described.and_then(|(_, answer)| answer.as_ref().ok());
            let is_refused = |outcome: &_| matches!(outcome, Err(KeyError::Definitive(_)));
            let was_refused = is_refused(&outcome);
            let outcome = judged(&table, &arn, outcome, metadata);
            // many tables may have waited for their turn since the key was described
            let asked_at_millis = match described {
                Some((at, _)) if is_refused(&outcome) && !was_refused => *at,
                _ => dry_run_at,
            };
            if let Err(error @ KeyError::Definitive(_)) = &outcome {
                self.refused(&table, &record, error, asked_at_millis);
            }
            probes.push(Probe {
                identity: identities.get(&arn).cloned().flatten(),
                kms_state: metadata.map(|metadata| metadata.key_state),
                deletion_millis: metadata.and_then(deletion_millis),
                table,
                record,
                outcome,
                asked_at_millis,
            });
        }
        probes
    }

    /// Whether these KMS keys can be used, by `DescribeKey` alone: for tables whose key is in memory, and
    /// is confirmed by its refreshes, and for those that were dropped. Without the keys about which
    /// there was no clear answer.
    pub async fn usable(self: &Arc<Self>, arns: HashSet<String>) -> HashMap<String, bool> {
        let mut described = Vec::with_capacity(arns.len());
        for arn in arns {
            self.background_turn().await;
            described.push((arn.clone(), self.spawn_describe(arn)));
        }
        let mut usable = HashMap::new();
        for (arn, describing) in described {
            let operation = KmsOperation::DescribeKey;
            let is_usable = match describing.await {
                Ok(Ok(metadata)) => {
                    KmsError::of_state(operation, &arn, metadata.key_state).is_none()
                }
                Ok(Err(error)) if error.class() == ErrorClass::Definitive => false,
                _ => continue,
            };
            usable.insert(arn, is_usable);
        }
        usable
    }

    /// Who answers for this KMS key, and as whom it is asked; `None` when that cannot be said.
    pub async fn identity(&self, arn: &str) -> Option<String> {
        let asked = tokio::time::timeout(self.options.kms_deadline, self.kms.identity(arn)).await;
        match asked {
            Ok(Ok(identity)) => Some(identity),
            Ok(Err(error)) => {
                tracing::debug!(key = arn, %error, "nobody knows as whom the KMS is asked");
                None
            }
            Err(_) => None,
        }
    }

    /// When the `Decrypt` was sent that last confirmed the table's key in memory, on the clock of key
    /// ages.
    #[must_use]
    pub fn confirmed_at_millis(&self, table: &[u8; 16]) -> Option<i64> {
        let entry = self.tables.lock().open.get(table).cloned()?;
        let is_kept_elsewhere = !entry.is_owned() && !entry.lease.is_revoked();
        is_kept_elsewhere.then(|| entry.confirmed_at_millis.load(Ordering::Relaxed))
    }

    fn spawn_describe(self: &Arc<Self>, arn: String) -> JoinHandle<Result<KeyMetadata, KmsError>> {
        let keyring = Arc::clone(self);
        tokio::spawn(async move {
            let operation = KmsOperation::DescribeKey;
            let asked = Asked { operation, table: None, key_arn: &arn };
            keyring.call(asked, keyring.kms.describe_key(&arn)).await
        })
    }

    fn spawn_dry_run(
        self: &Arc<Self>,
        table: TableName,
        record: Arc<KeyRecord>,
    ) -> JoinHandle<Result<(), KeyError>> {
        let keyring = Arc::clone(self);
        tokio::spawn(async move { keyring.check_decrypt(&table, &record).await })
    }

    /// Whether `Decrypt` of the table's own blob would be done: a dry run. Not for an owned key.
    ///
    /// # Errors
    /// The KMS's refusal.
    pub async fn check_decrypt(
        &self,
        table: &TableName,
        record: &KeyRecord,
    ) -> Result<(), KeyError> {
        let blob = self.kms_blob(table, record)?;
        let dry_run = BlobUse { dry_run: true, ..BlobUse::default() };
        let answer = self.decrypt_blob(table, record, &blob, dry_run).await;
        check::dry_run(table, arn_of(record), answer)
    }

    /// Drops the cached keys of a table that was refused, unless the KMS confirmed them since, or they
    /// are others by now.
    pub(super) fn refused(
        &self,
        table: &TableName,
        record: &KeyRecord,
        error: &KeyError,
        asked_at: i64,
    ) {
        let revoked = {
            let mut tables = self.tables.lock();
            let is_meant = tables.open.get(&table.id).is_some_and(|entry| {
                entry.current_id() == record.table_key_id
                    && entry.confirmed_at_millis.load(Ordering::Relaxed) <= asked_at
            });
            if is_meant { tables.open.remove(&table.id) } else { None }
        };
        if let Some(entry) = revoked {
            self.revoke(&entry, error);
        }
    }
}

fn stopped(operation: KmsOperation) -> KmsError {
    KmsError::new(operation, crate::failure::CONNECTION, "the call was stopped")
}

fn deletion_millis(metadata: &KeyMetadata) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "whole milliseconds are meant")]
    metadata.deletion_date.map(|seconds| (seconds * 1000.0) as i64)
}

/// What both answers say together. The dry run is what a request would meet. A state that does not
/// allow use is a refusal too, but beside a dry run that works it is none: then somebody is behind.
fn judged(
    table: &TableName,
    arn: &str,
    dry_run: Result<(), KeyError>,
    metadata: Option<&KeyMetadata>,
) -> Result<(), KeyError> {
    let of_state = metadata
        .and_then(|found| KmsError::of_state(KmsOperation::DescribeKey, arn, found.key_state))
        .map(|error| KeyError::from_kms(table, arn, error));
    match (dry_run, of_state) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(_)) => {
            let state = metadata.map(|found| found.key_state.to_string()).unwrap_or_default();
            let text = format!("DescribeKey says {state}, but Decrypt would work");
            let error = KmsError::new(KmsOperation::Decrypt, CONTRADICTION, text);
            Err(KeyError::from_kms(table, arn, error))
        }
        (Err(KeyError::Definitive(refusal)), _) => Err(KeyError::Definitive(refusal)),
        (Err(_), Some(KeyError::Definitive(refusal))) => Err(KeyError::Definitive(refusal)),
        (Err(error), _) => Err(error),
    }
}
