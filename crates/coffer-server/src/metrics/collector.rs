//! What a scrape gives: looked up at that moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_keys::ErrorClass;
use coffer_query::Database;
use coffer_storage::TableEntry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Encoded, Families, Labels};
use super::{Metrics, RequestKind};
use crate::notifications::{Line, Notifications};

/// Where figures come from.
pub(crate) struct Sources {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) database: Arc<Database>,
    pub(crate) notifications: Arc<Notifications>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Encoded {
        let mut families = Families(encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        families.gauges("coffer_build", "The running version", [(version, 1.0)])?;
        self.encode_cql(&mut families)?;
        self.encode_engine(&mut families)?;
        self.encode_tables(&mut families)?;
        self.encode_keys(&mut families)?;
        self.encode_notifications(&mut families)
    }
}

/// A figure as the format has it.
#[expect(clippy::cast_precision_loss, reason = "figures of the text format are floating")]
fn float(number: u64) -> f64 {
    number as f64
}

fn seconds(millis: i64) -> f64 {
    float(millis.max(0).unsigned_abs()) / 1000.0
}

fn one(value: u64) -> [(Labels, f64); 1] {
    [(Labels::new(), float(value))]
}

fn count(value: u64) -> [(Labels, u64); 1] {
    [(Labels::new(), value)]
}

fn table_labels(entry: &TableEntry) -> Labels {
    vec![("keyspace", entry.schema.keyspace.clone()), ("table", entry.schema.name.clone())]
}

impl Sources {
    fn encode_cql(&self, families: &mut Families<'_>) -> Encoded {
        let metrics = &self.metrics;
        families.gauges("coffer_cql_connections", "Open connections", one(metrics.open()))?;
        families.counters(
            "coffer_cql_connections_accepted",
            "Connections accepted",
            count(metrics.accepted()),
        )?;
        families.counters(
            "coffer_cql_connections_refused",
            "Connections refused because connections_max were open",
            count(metrics.refused()),
        )?;
        let latencies = RequestKind::ALL
            .map(|kind| (vec![("kind", kind.name().to_owned())], metrics.latencies(kind)));
        families.counters(
            "coffer_cql_requests",
            "Requests answered",
            latencies.iter().map(|(labels, latencies)| (labels.clone(), latencies.count)),
        )?;
        families.histograms(
            "coffer_cql_request_seconds",
            "Time from a request's arrival to its answer",
            latencies,
        )?;
        let errors = metrics.errors().into_iter();
        families.counters(
            "coffer_cql_errors",
            "Errors answered, by CQL code",
            errors.map(|(code, count)| (vec![("code", format!("0x{code:04X}"))], count)),
        )
    }

    fn encode_notifications(&self, families: &mut Families<'_>) -> Encoded {
        let lines = self.notifications.lines();
        if lines.is_empty() {
            return Ok(());
        }
        let labels = |name: &str| -> Labels { vec![("channel", name.to_owned())] };
        let pending = self.notifications.pending().into_iter();
        families.gauges(
            "coffer_notifications_pending",
            "Notifications not delivered yet",
            pending.map(|(name, count)| (labels(name), float(count))),
        )?;
        families.gauges(
            "coffer_notifications_failing",
            "Whether the last try of a channel failed",
            lines.iter().map(|line| {
                let is_failing = line.is_failing.load(Ordering::Relaxed);
                (labels(line.name()), float(u64::from(is_failing)))
            }),
        )?;
        let count = |of: fn(&Line) -> &AtomicU64| {
            let count = move |line: &Arc<Line>| of(line).load(Ordering::Relaxed);
            lines.iter().map(move |line| (labels(line.name()), count(line))).collect::<Vec<_>>()
        };
        families.counters(
            "coffer_notifications_delivered",
            "Notifications delivered",
            count(|line| &line.delivered),
        )?;
        families.counters(
            "coffer_notification_failures",
            "Tries to deliver a notification that failed",
            count(|line| &line.failures),
        )
    }

    fn encode_engine(&self, families: &mut Families<'_>) -> Encoded {
        let figures = self.database.engine().figures();
        for (name, help, value) in [
            ("coffer_engine_memtable_bytes", "Memory of all memtables", figures.memtable_bytes),
            (
                "coffer_engine_block_cache_bytes",
                "Memory of opened blocks",
                figures.block_cache_bytes,
            ),
            ("coffer_engine_log_bytes", "Disk of the commit log", figures.log_bytes),
        ] {
            families.gauges(name, help, one(value))?;
        }
        for (name, help, value) in [
            ("coffer_engine_flushes", "Memtables written to segments", figures.flushes),
            ("coffer_engine_compactions", "Compactions", figures.compactions),
            ("coffer_engine_log_syncs", "Syncs of the commit log", figures.log_syncs),
        ] {
            families.counters(name, help, count(value))?;
        }
        Ok(())
    }

    fn encode_tables(&self, families: &mut Families<'_>) -> Encoded {
        let engine = self.database.engine();
        let catalog = engine.catalog();
        let now = self.database.clock().now_millis();
        let tables: Vec<_> = catalog
            .tables
            .iter()
            // one that is dropped meanwhile is left out
            .filter_map(|(id, entry)| Some((entry, engine.statistics(*id).ok()?)))
            .collect();
        families.gauges(
            "coffer_table_segments",
            "Live segments",
            tables.iter().map(|(entry, figures)| (table_labels(entry), float(figures.segments))),
        )?;
        families.gauges(
            "coffer_table_segment_bytes",
            "Disk of live segments",
            tables
                .iter()
                .map(|(entry, figures)| (table_labels(entry), float(figures.segment_bytes))),
        )?;
        families.gauges(
            "coffer_table_memtable_bytes",
            "Memory of memtables",
            tables
                .iter()
                .map(|(entry, figures)| (table_labels(entry), float(figures.memtable_bytes))),
        )?;
        families.gauges(
            "coffer_table_key_age_seconds",
            "Age of the present table key",
            tables.iter().map(|(entry, _)| {
                let millis = now.saturating_sub(entry.key.created_at_millis).max(0);
                (table_labels(entry), seconds(millis))
            }),
        )
    }

    fn encode_keys(&self, families: &mut Families<'_>) -> Encoded {
        let statistics = self.database.keyring().statistics();
        self.encode_table_states(families)?;
        families.counters(
            "coffer_kms_requests",
            "Requests to a KMS, by operation, result and table",
            statistics.requests.iter().map(|request| {
                let table = request.table.as_ref();
                let labels = vec![
                    ("operation", request.operation.to_string()),
                    ("result", request.result.clone()),
                    ("class", request.class.map_or("", ErrorClass::as_str).to_owned()),
                    (
                        "keyspace",
                        table.map_or_else(String::new, |table| table.keyspace.to_string()),
                    ),
                    ("table", table.map_or_else(String::new, |table| table.name.to_string())),
                    ("key_arn", request.key_arn.clone()),
                ];
                (labels, request.count)
            }),
        )?;
        families.counters(
            "coffer_key_cache_hits",
            "Uses of a table key that was in memory",
            count(statistics.cache_hits),
        )?;
        families.counters(
            "coffer_key_cache_misses",
            "Uses of a table key that had to be opened",
            count(statistics.cache_misses),
        )?;
        families.counters(
            "coffer_key_revocations",
            "Table keys that left memory because the KMS refused",
            count(statistics.revocations),
        )?;
        families.gauges(
            "coffer_table_key_confirmed_seconds",
            "Time since the KMS last confirmed the table key in memory",
            statistics.tables.iter().filter_map(|table| {
                let ago = table.confirmed_millis_ago.filter(|_| table.is_cached)?;
                let labels = vec![
                    ("keyspace", table.table.keyspace.to_string()),
                    ("table", table.table.name.to_string()),
                ];
                Some((labels, seconds(ago)))
            }),
        )
    }

    /// How many tables there are in each state, as `system_coffer.key_status` names them, and how long
    /// those whose key is lost have.
    fn encode_table_states(&self, families: &mut Families<'_>) -> Encoded {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut left = Vec::new();
        let catalog = self.database.engine().catalog();
        for entry in catalog.tables.values() {
            let condition = self.database.key_condition(entry);
            let kind = (condition.state, entry.key.encryption_type.as_str());
            let number = counts.entry(kind).or_default();
            *number = number.saturating_add(1);
            if let Some(millis) = condition.millis_left {
                left.push((table_labels(entry), seconds(millis)));
            }
        }
        families.gauges(
            "coffer_tables",
            "Tables by state of their key and by encryption",
            counts.into_iter().map(|((state, encryption), number)| {
                let labels =
                    vec![("state", state.to_owned()), ("encryption_type", encryption.to_owned())];
                (labels, float(number))
            }),
        )?;
        families.gauges(
            "coffer_table_key_deadline_seconds",
            "Time until a table whose key is refused may be dropped",
            left,
        )
    }
}
