//! Whether a principal of the KMS may use a table's key: one `Decrypt` made as that principal in each
//! window, so that its use is authorised, and seen in the audit of the KMS.

use super::{BlobUse, Keyring, arn_of};
use crate::{KeyError, Result, TableName};
use coffer_crypto::{EncryptionType, KeyRecord};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::watch;

/// Most (table, principal) pairs that are remembered; what is beyond asks each time.
const PAIRS_MAX: usize = 100_000;

type Pair = ([u8; 16], Arc<str>);

/// Allowed uses until their time, and the calls under way.
#[derive(Default)]
pub(super) struct Authorizations {
    pairs: Mutex<Pairs>,
}

#[derive(Default)]
struct Pairs {
    allowed_until: HashMap<Pair, i64>,
    asking: HashMap<Pair, Asking>,
    last_asking: u64,
}

struct Asking {
    number: u64,
    done: watch::Receiver<Option<Result<()>>>,
}

impl Authorizations {
    /// Forgets whoever may use the table, and the answers under way.
    pub(super) fn forget(&self, table: &[u8; 16]) {
        let mut pairs = self.pairs.lock();
        pairs.allowed_until.retain(|(of, _), _| of != table);
        pairs.asking.retain(|(of, _), _| of != table);
    }

    pub(super) fn sweep(&self, now: i64) {
        self.pairs.lock().allowed_until.retain(|_, until| now < *until);
    }

    fn is_allowed(&self, pair: &Pair, now: i64) -> bool {
        self.pairs.lock().allowed_until.get(pair).is_some_and(|until| now < *until)
    }

    fn finish(&self, pair: &Pair, number: u64, allowed_until: Option<i64>) {
        let mut pairs = self.pairs.lock();
        let is_current = |asking: &Asking| asking.number == number;
        if !pairs.asking.get(pair).is_some_and(is_current) {
            return;
        }
        pairs.asking.remove(pair);
        match allowed_until {
            Some(until) if pairs.allowed_until.len() < PAIRS_MAX => {
                pairs.allowed_until.insert(pair.clone(), until);
            }
            _ => {
                pairs.allowed_until.remove(pair);
            }
        }
    }
}

/// Ends a call under way also when the provider panics.
struct AskingGuard {
    keyring: Arc<Keyring>,
    pair: Pair,
    number: u64,
}

impl Drop for AskingGuard {
    fn drop(&mut self) {
        self.keyring.authorizations.finish(&self.pair, self.number, None);
    }
}

impl Keyring {
    /// Whether `principal` (an ARN) may use the table's key: one `Decrypt` of the table's blob made as
    /// that principal, shared by all who ask meanwhile; a yes is remembered up to the maximum age of
    /// keys, a no is not. An owned key may be used by everyone.
    ///
    /// # Errors
    /// [`KeyError::Definitive`] that names the principal when it may not; the other errors of the KMS.
    pub async fn authorize(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        principal: &str,
    ) -> Result<()> {
        if record.encryption_type == EncryptionType::AwsOwned {
            return Ok(());
        }
        let pair = (table.id, Arc::from(principal));
        if self.authorizations.is_allowed(&pair, self.clock.key_now_millis()) {
            return Ok(());
        }
        let mut done = self.start_asking(table, record, pair);
        match done.wait_for(Option::is_some).await {
            Ok(result) => {
                result.clone().unwrap_or_else(|| Err(KeyError::Superseded(table.clone())))
            }
            Err(_) => Err(KeyError::Superseded(table.clone())),
        }
    }

    /// Whether `principal` may use the table's key as far as is known; asks nobody.
    #[must_use]
    pub fn is_authorized(&self, table: &[u8; 16], record: &KeyRecord, principal: &str) -> bool {
        record.encryption_type == EncryptionType::AwsOwned || {
            let pair = (*table, Arc::from(principal));
            self.authorizations.is_allowed(&pair, self.clock.key_now_millis())
        }
    }

    fn start_asking(
        self: &Arc<Self>,
        table: &TableName,
        record: &KeyRecord,
        pair: Pair,
    ) -> watch::Receiver<Option<Result<()>>> {
        let mut pairs = self.authorizations.pairs.lock();
        if let Some(asking) = pairs.asking.get(&pair) {
            return asking.done.clone();
        }
        pairs.last_asking += 1;
        let number = pairs.last_asking;
        let (result, done) = watch::channel(None);
        pairs.asking.insert(pair.clone(), Asking { number, done: done.clone() });
        drop(pairs);
        let guard = AskingGuard { keyring: Arc::clone(self), pair, number };
        let (table, record) = (table.clone(), record.clone());
        tokio::spawn(async move {
            let keyring = &guard.keyring;
            let asked_at = keyring.clock.key_now_millis();
            let answer = keyring.decrypt_as(&table, &record, &guard.pair.1).await;
            let until = asked_at.saturating_add(keyring.options.max_age_millis);
            keyring.authorizations.finish(&guard.pair, number, answer.is_ok().then_some(until));
            drop(guard);
            result.send_replace(Some(answer));
        });
        done
    }

    async fn decrypt_as(
        &self,
        table: &TableName,
        record: &KeyRecord,
        principal: &str,
    ) -> Result<()> {
        let blob = self.kms_blob(table, record)?;
        let as_principal = BlobUse { principal: Some(principal), ..BlobUse::default() };
        let answer = self.decrypt_blob(table, record, &blob, as_principal).await;
        // the key itself is not wanted here; dropping the answer wipes it
        answer
            .map(drop)
            .map_err(|error| KeyError::from_kms_for(table, arn_of(record), principal, error))
    }
}
