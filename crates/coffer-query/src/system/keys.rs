//! `system_coffer`: what this server knows of the keys of its tables.

use std::collections::{BTreeMap, HashMap};

use coffer_crypto::TableKeyId;
use coffer_keys::{CallTimes, ErrorClass, KeyringStatistics, TableKeyStatistics};
use coffer_storage::{Catalog, KeyChange, TableEntry};

use super::cells::{Cell, bigint, boolean, count, optional_text, text, text_map, timestamp};
use super::definition::{C, P, R, SystemColumn, SystemTable, Type};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::execute::schema_change::is_customer_managed;
use crate::table_source::VirtualRow;

pub(crate) fn tables() -> Vec<SystemTable> {
    vec![key_status(), keys(), kms_requests()]
}

fn key_status() -> SystemTable {
    SystemTable {
        name: "key_status",
        comment: "keys of tables as the KMS last answered",
        columns: &[
            ("keyspace_name", P, Type::Text),
            ("table_name", C, Type::Text),
            ("bytes_by_table_key", R, Type::FrozenMapTextText),
            ("change_started_at", R, Type::Timestamp),
            ("change_target", R, Type::Text),
            ("data_grant", R, Type::Text),
            ("deadline", R, Type::Timestamp),
            ("delete_after", R, Type::Text),
            ("double_wrapped", R, Type::Boolean),
            ("encryption_status", R, Type::Text),
            ("encryption_type", R, Type::Text),
            ("inaccessible_since", R, Type::Timestamp),
            ("incident", R, Type::Text),
            ("is_cached", R, Type::Boolean),
            ("key_arn", R, Type::Text),
            ("key_created_at", R, Type::Timestamp),
            ("key_material_id", R, Type::Text),
            ("kms_deletion_date", R, Type::Timestamp),
            ("kms_state", R, Type::Text),
            ("last_error", R, Type::Text),
            ("last_error_class", R, Type::Text),
            ("last_failure", R, Type::Timestamp),
            ("last_success", R, Type::Timestamp),
            ("older_table_keys", R, Type::Int),
            ("oldest_data_key_age_seconds", R, Type::BigInt),
            ("progress", R, Type::Text),
            ("segment_bytes", R, Type::BigInt),
            ("segments", R, Type::Int),
            ("segments_by_table_key", R, Type::FrozenMapTextText),
            ("snapshot", R, Type::Text),
            ("snapshot_grant", R, Type::Text),
            ("state", R, Type::Text),
            ("table_key_age_seconds", R, Type::BigInt),
            ("table_key_id", R, Type::Text),
            ("unreachable_since", R, Type::Timestamp),
            ("wraps", R, Type::BigInt),
        ],
        rows: key_rows,
    }
}

fn keys() -> SystemTable {
    SystemTable {
        name: "keys",
        comment: "keys of KMSs that tables are under, or were",
        columns: &[
            ("key_arn", P, Type::Text),
            ("grants", R, Type::Int),
            ("kms_state", R, Type::Text),
            ("last_error", R, Type::Text),
            ("last_error_class", R, Type::Text),
            ("last_failure", R, Type::Timestamp),
            ("last_success", R, Type::Timestamp),
            ("retiring_grants", R, Type::Int),
            ("tables", R, Type::Int),
        ],
        rows: kms_key_rows,
    }
}

fn kms_requests() -> SystemTable {
    SystemTable {
        name: "kms_requests",
        comment: "requests to KMSs since the start",
        columns: &[
            ("operation", P, Type::Text),
            ("key_arn", C, Type::Text),
            ("keyspace_name", C, Type::Text),
            ("table_name", C, Type::Text),
            ("result", C, Type::Text),
            ("class", R, Type::Text),
            ("count", R, Type::BigInt),
            ("last_at", R, Type::Timestamp),
            ("last_error", R, Type::Text),
        ],
        rows: request_rows,
    }
}

fn key_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let catalog = database.engine().catalog();
    let statistics = database.keyring().statistics();
    let cached: HashMap<[u8; 16], &TableKeyStatistics> =
        statistics.tables.iter().map(|table| (table.table.id, table)).collect();
    let rows = catalog.tables.values().map(|entry| {
        let change = change_of(database, &catalog, entry);
        key_cells(database, entry, change, cached.get(&entry.schema.id.0).copied())
    });
    let coming = being_created(database, &catalog).filter(|(_, change)| change.is_restore);
    Ok(rows.chain(coming.map(|(_, change)| restoring_cells(change))).collect())
}

fn key_cells(
    database: &Database,
    entry: &TableEntry,
    change: Option<&KeyChange>,
    cached: Option<&TableKeyStatistics>,
) -> VirtualRow {
    let (key, health) = (&entry.key, database.key_healths().of(&entry.schema.id.0));
    let condition = database.key_condition(entry);
    let is_customers = is_customer_managed(entry);
    let millis = |value: Option<i64>| -> Cell { value.and_then(timestamp) };
    let calls = cached.map(|cached| cached.calls.clone()).unwrap_or_default();
    let now = database.clock().key_wall_millis();
    let age = |made: i64| bigint(now.saturating_sub(made).max(0) / 1000);
    let grant = |kind: &str| {
        optional_text(
            key.grants.iter().find(|grant| grant.kind == kind).map(|grant| &*grant.grant_id),
        )
    };
    let shares = Shares::of(entry);
    // 0 is what segments of earlier versions have
    let made = entry.segments.iter().map(|segment| segment.created_at_millis);
    let oldest = made.filter(|made| *made > 0).min();
    vec![
        text(&entry.schema.keyspace),
        text(&entry.schema.name),
        text_map(&shares.text(|share| share.bytes)),
        millis(change.map(|change| change.started_at_millis)),
        change.and_then(|change| text(change.target_arn.as_deref().unwrap_or("AWS_OWNED_KMS_KEY"))),
        grant("data"),
        millis(condition.deadline),
        if is_customers { text(&condition.delete_after) } else { None },
        boolean(key.double_wrapped),
        text(encryption_status(change)),
        text(key.encryption_type.as_str()),
        millis(condition.inaccessible_since),
        optional_text(condition.incident.as_deref()),
        boolean(cached.is_some_and(|cached| cached.is_cached)),
        optional_text(key.kms_key_arn.as_deref()),
        timestamp(key.created_at_millis),
        optional_text(key.key_material_id.as_deref()),
        millis(condition.kms_deletion_date),
        if is_customers { optional_text(health.kms_state) } else { None },
        optional_text(health.last_error.as_deref().or(calls.last_failure.as_deref())),
        optional_text(health.last_error_class),
        millis(health.last_failure.max(calls.last_failure_millis)),
        millis(health.last_success.max(calls.last_success_millis)),
        count(key.older.len()),
        oldest.and_then(age),
        text(&shares.progress(key.table_key_id)),
        bigint(shares.total.bytes),
        count(shares.total.segments),
        text_map(&shares.text(|share| share.segments)),
        optional_text(condition.snapshot.as_deref()),
        grant("snapshot"),
        text(condition.state),
        age(key.created_at_millis),
        text(&key.table_key_id.to_string()),
        millis(condition.unreachable_since),
        bigint(i64::try_from(key.wraps).unwrap_or(i64::MAX)),
    ]
}

/// How much of a table is under which of its table keys.
#[derive(Debug, Default)]
struct Shares {
    total: Share,
    of: BTreeMap<TableKeyId, Share>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    segments: i64,
    bytes: i64,
}

impl Share {
    fn add(&mut self, bytes: u64) {
        self.segments += 1;
        self.bytes = self.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Shares {
    fn of(entry: &TableEntry) -> Shares {
        let mut shares = Shares::default();
        for segment in &entry.segments {
            shares.total.add(segment.length);
            shares.of.entry(segment.table_key).or_default().add(segment.length);
        }
        shares
    }

    fn text(&self, number: impl Fn(&Share) -> i64) -> BTreeMap<String, String> {
        self.of.iter().map(|(key, share)| (key.to_string(), number(share).to_string())).collect()
    }

    /// How far the segments are written under the current table key: a swap or a renewal leaves
    /// them, compaction rewrites them.
    fn progress(&self, current: TableKeyId) -> String {
        let done = self.of.get(&current).copied().unwrap_or_default();
        let percent = if self.total.bytes == 0 {
            100
        } else {
            i128::from(done.bytes) * 100 / i128::from(self.total.bytes)
        };
        format!(
            "{percent} % of bytes, {} of {} segments under the current table key",
            done.segments, self.total.segments
        )
    }
}

fn kms_key_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    #[derive(Default)]
    struct KmsKey {
        tables: usize,
        grants: usize,
        retiring: usize,
        state: Option<&'static str>,
        class: Option<&'static str>,
    }
    let catalog = database.engine().catalog();
    let KeyringStatistics { keys: calls, .. } = database.keyring().statistics();
    let mut keys: BTreeMap<&str, KmsKey> = BTreeMap::new();
    for entry in catalog.tables.values() {
        let Some(arn) = entry.key.kms_key_arn.as_deref() else { continue };
        let health = database.key_healths().of(&entry.schema.id.0);
        let key = keys.entry(arn).or_default();
        key.tables += 1;
        key.grants += entry.key.grants.len();
        // a state that is worse than enabled is what somebody wants to see
        if key.state.is_none_or(|state| state == "Enabled") {
            key.state = health.kms_state.or(key.state);
        }
        key.class = key.class.or(health.last_error_class);
    }
    for grant in &catalog.retiring_grants {
        keys.entry(&grant.key_arn).or_default().retiring += 1;
    }
    for arn in calls.keys() {
        keys.entry(arn).or_default();
    }
    let rows = keys.into_iter().map(|(arn, key)| {
        let calls: CallTimes = calls.get(arn).cloned().unwrap_or_default();
        vec![
            text(arn),
            count(key.grants),
            optional_text(key.state),
            optional_text(calls.last_failure.as_deref()),
            optional_text(key.class),
            calls.last_failure_millis.and_then(timestamp),
            calls.last_success_millis.and_then(timestamp),
            count(key.retiring),
            count(key.tables),
        ]
    });
    Ok(rows.collect())
}

fn request_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    let requests = database.keyring().statistics().requests;
    let rows = requests.into_iter().map(|request| {
        let table = request.table.as_ref();
        let last_error = (!request.last_message.is_empty()).then_some(&*request.last_message);
        vec![
            text(request.operation.as_str()),
            text(&request.key_arn),
            text(table.map_or("", |table| &table.keyspace)),
            text(table.map_or("", |table| &table.name)),
            text(&request.result),
            optional_text(request.class.map(ErrorClass::as_str)),
            bigint(i64::try_from(request.count).unwrap_or(i64::MAX)),
            timestamp(request.last_at_millis),
            optional_text(last_error),
        ]
    });
    Ok(rows.collect())
}

/// A table that is being restored: it has a name, a key that was chosen, and no more yet.
fn restoring_cells(change: &KeyChange) -> VirtualRow {
    let cell = |(name, _, _): &SystemColumn| match *name {
        "keyspace_name" => text(&change.keyspace),
        "table_name" => text(&change.name),
        "change_started_at" => timestamp(change.started_at_millis),
        "change_target" => text(change.target_arn.as_deref().unwrap_or("AWS_OWNED_KMS_KEY")),
        "encryption_status" => text("ENABLING"),
        "progress" => text("RESTORING: its table key is made, then its files are linked"),
        "state" => text("UNKNOWN"),
        _ => None,
    };
    key_status().columns.iter().map(cell).collect()
}

/// The change of the table's key that is under way.
fn change_of<'a>(
    database: &Database,
    catalog: &'a Catalog,
    entry: &TableEntry,
) -> Option<&'a KeyChange> {
    let change = catalog.key_changes.get(&entry.schema.id)?;
    database.key_queues().is_under_way(change.change_id).then_some(change)
}

/// The tables that are being created or restored at the moment.
pub(super) fn being_created<'a>(
    database: &'a Database,
    catalog: &'a Catalog,
) -> impl Iterator<Item = (&'a coffer_model::TableId, &'a KeyChange)> {
    catalog.key_changes.iter().filter(|(id, change)| {
        (change.is_create || change.is_restore)
            && !catalog.tables.contains_key(id)
            && database.key_queues().is_under_way(change.change_id)
    })
}

fn encryption_status(change: Option<&KeyChange>) -> &'static str {
    if change.is_some() { "UPDATING" } else { "ENABLED" }
}

/// `status` and `encryption_status` of a table in `system_schema_mcs`.
pub(super) fn table_status(
    database: &Database,
    catalog: &Catalog,
    entry: &TableEntry,
) -> (&'static str, &'static str) {
    let change = change_of(database, catalog, entry);
    let status = if database.key_condition(entry).state == "INACCESSIBLE" {
        "INACCESSIBLE_ENCRYPTION_CREDENTIALS"
    } else if change.is_some() {
        "UPDATING"
    } else {
        "ACTIVE"
    };
    (status, encryption_status(change))
}
