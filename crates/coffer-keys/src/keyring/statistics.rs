//! What the KMS was asked, what it said, and how the cache did. In memory, since the start.

use super::Keyring;
use crate::{ErrorClass, KmsError, KmsOperation, TableName};
use coffer_crypto::TableKeyId;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most different results that are counted for one operation and table; the rest is `Other`.
const RESULTS_MAX: usize = 16;
/// Longest name of an exception that is kept: it comes from the KMS.
const NAME_LEN_MAX: usize = 64;
/// What an answered call is counted as.
const OK: &str = "ok";

/// Calls made to the KMS since the start, of all tables together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KmsCalls {
    /// `GenerateDataKey`: one for each new table key.
    pub generate_data_key: u64,
    /// `Decrypt`: one for each opening and refresh of a table key.
    pub decrypt: u64,
    /// `DescribeKey`: one for each choice of a key.
    pub describe_key: u64,
    /// `CreateGrant`: two for each table and KMS key.
    pub create_grant: u64,
    /// `RetireGrant`.
    pub retire_grant: u64,
    /// `ReEncrypt`: one for each rewrap.
    pub re_encrypt: u64,
}

/// Everything a [`Keyring`] counted since the start. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct KeyringStatistics {
    /// Requests by operation, table, key and result, in this order.
    pub requests: Vec<RequestCount>,
    /// Openings of a table that found its key cached.
    pub cache_hits: u64,
    /// Openings of a table that had to ask the KMS, or waited for somebody who did.
    pub cache_misses: u64,
    /// The tables whose keys were used since the start.
    pub tables: Vec<TableKeyStatistics>,
    /// By ARN: the last success and failure of any call.
    pub keys: BTreeMap<String, CallTimes>,
    /// Refusals that took a cached key away.
    pub revocations: u64,
    /// From the last time the KMS confirmed the key to the refusal that took it away: the true
    /// latency of the revocation is at most this.
    pub revocation_latency_millis_last: Option<i64>,
    /// The longest of them.
    pub revocation_latency_millis_max: Option<i64>,
    /// Their sum.
    pub revocation_latency_millis_sum: i64,
}

/// How often one request gave one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// What was asked.
    pub operation: KmsOperation,
    /// The table it was asked for; `None` for a check of a key.
    pub table: Option<TableName>,
    /// ARN.
    pub key_arn: String,
    /// `ok`, or the name of the exception.
    pub result: String,
    /// Class of the exception.
    pub class: Option<ErrorClass>,
    /// How often.
    pub count: u64,
    /// When last.
    pub last_at_millis: i64,
    /// Text of the last exception.
    pub last_message: String,
}

/// The table key of one table.
#[derive(Clone, Debug)]
pub struct TableKeyStatistics {
    /// The table.
    pub table: TableName,
    /// ARN of the KMS key, `None` for an owned key.
    pub key_arn: Option<String>,
    /// The current table key.
    pub table_key_id: TableKeyId,
    /// The material of the KMS key that wrapped it, where the KMS tells it.
    pub key_material_id: Option<String>,
    /// When it was made.
    pub created_at_millis: i64,
    /// Age of the table key, by the clock of key ages.
    pub age_millis: i64,
    /// Whether it is in memory now.
    pub is_cached: bool,
    /// Data keys and older table keys wrapped under it.
    pub wraps: u64,
    /// Milliseconds since the KMS last confirmed it; `None` for an owned key.
    pub confirmed_millis_ago: Option<i64>,
    /// The last calls for the table.
    pub calls: CallTimes,
}

/// The last success and the last failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallTimes {
    /// When a call was last answered.
    pub last_success_millis: Option<i64>,
    /// When a call last failed.
    pub last_failure_millis: Option<i64>,
    /// Class of the last failure.
    pub last_failure_class: Option<ErrorClass>,
    /// Exception and text of the last failure.
    pub last_failure: Option<String>,
}

impl CallTimes {
    fn note(&mut self, error: Option<&KmsError>, now: i64) {
        match error {
            None => self.last_success_millis = Some(now),
            Some(error) => {
                self.last_failure_millis = Some(now);
                self.last_failure_class = Some(error.class());
                self.last_failure = Some(error.to_string());
            }
        }
    }
}

/// For whom a call is made.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) operation: KmsOperation,
    pub(super) table: Option<&'a TableName>,
    pub(super) key_arn: &'a str,
}

#[derive(Default)]
pub(super) struct Counters {
    counts: Mutex<Counts>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Default)]
struct Counts {
    tables: HashMap<Option<[u8; 16]>, TableCounts>,
    keys: BTreeMap<String, CallTimes>,
    totals: HashMap<KmsOperation, u64>,
    revocations: u64,
    latency_last: Option<i64>,
    latency_max: Option<i64>,
    latency_sum: i64,
}

#[derive(Default)]
struct TableCounts {
    name: Option<TableName>,
    requests: BTreeMap<(KmsOperation, String, String), Tally>,
    times: CallTimes,
}

struct Tally {
    class: Option<ErrorClass>,
    count: u64,
    last_at_millis: i64,
    last_message: String,
}

impl Counters {
    pub(super) fn opened(&self, was_cached: bool) {
        let counter = if was_cached { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, asked: Asked<'_>, error: Option<&KmsError>, now: i64) {
        let mut counts = self.counts.lock();
        *counts.totals.entry(asked.operation).or_default() += 1;
        // a dry run that would have been done is an answer
        let error = error.filter(|error| error.name() != "DryRunOperationException");
        counts.keys.entry(asked.key_arn.to_owned()).or_default().note(error, now);
        let table = counts.tables.entry(asked.table.map(|table| table.id)).or_default();
        table.name = asked.table.cloned();
        table.times.note(error, now);
        let mut result: String =
            error.map_or(OK, KmsError::name).chars().take(NAME_LEN_MAX).collect();
        let of_operation = |key: &&(KmsOperation, String, String)| key.0 == asked.operation;
        let known = (asked.operation, asked.key_arn.to_owned(), result.clone());
        if !table.requests.contains_key(&known)
            && table.requests.keys().filter(of_operation).count() >= RESULTS_MAX
        {
            "Other".clone_into(&mut result);
        }
        let key = (asked.operation, asked.key_arn.to_owned(), result);
        let class = error.map(KmsError::class);
        let tally = table.requests.entry(key).or_insert_with(|| Tally {
            class,
            count: 0,
            last_at_millis: now,
            last_message: String::new(),
        });
        tally.count += 1;
        tally.last_at_millis = now;
        if let Some(error) = error {
            error.message().clone_into(&mut tally.last_message);
        }
    }

    pub(super) fn revoked(&self, latency_millis: i64) {
        let mut counts = self.counts.lock();
        counts.revocations += 1;
        counts.latency_last = Some(latency_millis);
        counts.latency_max = counts.latency_max.max(Some(latency_millis));
        counts.latency_sum = counts.latency_sum.saturating_add(latency_millis);
    }

    pub(super) fn forget(&self, table: &[u8; 16]) {
        self.counts.lock().tables.remove(&Some(*table));
    }
}

impl Keyring {
    /// Calls made to the KMS so far.
    #[must_use]
    pub fn kms_calls(&self) -> KmsCalls {
        let counts = self.counters.counts.lock();
        let of = |operation| counts.totals.get(&operation).copied().unwrap_or(0);
        KmsCalls {
            generate_data_key: of(KmsOperation::GenerateDataKey),
            decrypt: of(KmsOperation::Decrypt),
            describe_key: of(KmsOperation::DescribeKey),
            create_grant: of(KmsOperation::CreateGrant),
            retire_grant: of(KmsOperation::RetireGrant),
            re_encrypt: of(KmsOperation::ReEncrypt),
        }
    }

    /// Everything counted so far. Walks all tables: for system tables and metrics, not for requests.
    #[must_use]
    pub fn statistics(&self) -> KeyringStatistics {
        let tables = self.table_statistics();
        let counts = self.counters.counts.lock();
        let mut requests: Vec<_> = counts.tables.values().flat_map(TableCounts::requests).collect();
        let key = |request: &RequestCount| {
            let table = request.table.as_ref().map(|table| table.id);
            (request.operation, table, request.key_arn.clone(), request.result.clone())
        };
        requests.sort_by_cached_key(key);
        let with_calls = |mut table: TableKeyStatistics| {
            let known = counts.tables.get(&Some(table.table.id));
            table.calls = known.map(|known| known.times.clone()).unwrap_or_default();
            table
        };
        KeyringStatistics {
            requests,
            cache_hits: self.counters.hits.load(Ordering::Relaxed),
            cache_misses: self.counters.misses.load(Ordering::Relaxed),
            tables: tables.into_iter().map(with_calls).collect(),
            keys: counts.keys.clone(),
            revocations: counts.revocations,
            revocation_latency_millis_last: counts.latency_last,
            revocation_latency_millis_max: counts.latency_max,
            revocation_latency_millis_sum: counts.latency_sum,
        }
    }

    fn table_statistics(&self) -> Vec<TableKeyStatistics> {
        let now = self.clock.key_now_millis();
        let wall = self.clock.key_wall_millis();
        let entries: Vec<Arc<_>> = self.tables.lock().open.values().cloned().collect();
        entries.iter().map(|entry| entry.statistics(now, wall)).collect()
    }
}

impl TableCounts {
    fn requests(&self) -> impl Iterator<Item = RequestCount> {
        self.requests.iter().map(|((operation, key_arn, result), tally)| RequestCount {
            operation: *operation,
            table: self.name.clone(),
            key_arn: key_arn.clone(),
            result: result.clone(),
            class: tally.class,
            count: tally.count,
            last_at_millis: tally.last_at_millis,
            last_message: tally.last_message.clone(),
        })
    }
}
