//! The `compaction` map. The engine compacts by size whatever the class; the map is checked and
//! kept so that scripts and tools find what they wrote.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::class_name;
use crate::error::{Error, Result};
use crate::java_double::java_double;

const PACKAGE: &str = "org.apache.cassandra.db.compaction";

/// Options of all classes.
const COMMON: &[&str] = &[
    "class",
    "enabled",
    "log_all",
    "only_purge_repaired_tombstones",
    "provide_overlapping_tombstones",
    "tombstone_compaction_interval",
    "tombstone_threshold",
    "unchecked_tombstone_compaction",
];
const THRESHOLDS: &[&str] = &["min_threshold", "max_threshold"];
const SIZE_TIERED: &[&str] = &["min_sstable_size", "bucket_low", "bucket_high"];
const LEVELED: &[&str] = &["sstable_size_in_mb", "fanout_size", "single_sstable_uplevel"];
const TIME_WINDOW: &[&str] = &[
    "min_sstable_size",
    "bucket_low",
    "bucket_high",
    "compaction_window_unit",
    "compaction_window_size",
    "timestamp_resolution",
    "expired_sstable_check_frequency_seconds",
    "unsafe_aggressive_sstable_expiration",
];
const UNIFIED: &[&str] = &[
    "scaling_parameters",
    "min_sstable_size",
    "flush_size_override",
    "base_shard_count",
    "target_sstable_size",
    "sstable_growth",
    "overlap_inclusion_method",
    "max_sstables_to_compact",
    "survival_factors",
    "parallelize_output_shards",
    "expired_sstable_check_frequency_seconds",
    "unsafe_aggressive_sstable_expiration",
];

/// The map as Cassandra keeps it.
pub(super) fn parse(mut given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let class = given.get("class").ok_or_else(|| {
        Error::Configuration("Missing sub-option 'class' for the 'compaction' option".into())
    })?;
    let full = class_name(class, PACKAGE);
    let short = full.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('.')).unwrap_or("");
    let own = match short {
        "SizeTieredCompactionStrategy" => SIZE_TIERED,
        "LeveledCompactionStrategy" => LEVELED,
        "TimeWindowCompactionStrategy" => TIME_WINDOW,
        "UnifiedCompactionStrategy" => UNIFIED,
        _ => {
            return Err(Error::Configuration(format!(
                "Unable to find compaction strategy class '{full}'"
            )));
        }
    };
    let has_thresholds = short != "UnifiedCompactionStrategy";
    let allowed = |name: &str| {
        COMMON.contains(&name)
            || own.contains(&name)
            || has_thresholds && THRESHOLDS.contains(&name)
    };
    let unknown: Vec<&str> =
        given.keys().map(String::as_str).filter(|name| !allowed(name)).collect();
    if !unknown.is_empty() {
        return Err(Error::Configuration(format!(
            "Properties specified [{}] are not understood by {short}",
            unknown.join(", ")
        )));
    }
    check_common(&given)?;
    match short {
        "LeveledCompactionStrategy" => check_leveled(&given)?,
        "UnifiedCompactionStrategy" => check_unified(&given)?,
        "TimeWindowCompactionStrategy" => {
            check_time_window(&given)?;
            check_size_tiered(&given)?;
        }
        _ => check_size_tiered(&given)?,
    }
    if has_thresholds {
        thresholds(&mut given)?;
    }
    given.insert("class".to_owned(), full);
    Ok(given)
}

fn number<T: FromStr>(
    given: &BTreeMap<String, String>,
    name: &str,
    kind: &str,
) -> Result<Option<T>> {
    given
        .get(name)
        .map(|text| {
            text.parse().map_err(|_| {
                Error::Configuration(format!("{text} is not a parsable {kind} for {name}"))
            })
        })
        .transpose()
}

fn check_common(given: &BTreeMap<String, String>) -> Result<()> {
    if let Some(threshold) = number::<f32>(given, "tombstone_threshold", "float")?
        && threshold < 0.0
    {
        return Err(Error::Configuration(format!(
            "tombstone_threshold must be greater than 0, but was {}",
            java_double(f64::from(threshold))
        )));
    }
    if let Some(interval) = number::<i64>(given, "tombstone_compaction_interval", "int (base10)")?
        && interval < 0
    {
        return Err(Error::Configuration(format!(
            "tombstone_compaction_interval must be greater than 0, but was {interval}"
        )));
    }
    for name in [
        "enabled",
        "log_all",
        "only_purge_repaired_tombstones",
        "unchecked_tombstone_compaction",
        "unsafe_aggressive_sstable_expiration",
    ] {
        if let Some(value) = given.get(name)
            && !value.eq_ignore_ascii_case("true")
            && !value.eq_ignore_ascii_case("false")
        {
            return Err(Error::Configuration(format!(
                "{name} should either be 'true' or 'false', not {value}"
            )));
        }
    }
    Ok(())
}

fn check_size_tiered(given: &BTreeMap<String, String>) -> Result<()> {
    let low = number::<f64>(given, "bucket_low", "float")?.unwrap_or(0.5);
    let high = number::<f64>(given, "bucket_high", "float")?.unwrap_or(1.5);
    if high <= low {
        return Err(Error::Configuration(format!(
            "bucket_high value ({}) is less than or equal to the bucket_low value ({})",
            java_double(high),
            java_double(low)
        )));
    }
    if let Some(size) = number::<i64>(given, "min_sstable_size", "int (base10)")?
        && size < 0
    {
        return Err(Error::Configuration(format!("min_sstable_size must be non negative: {size}")));
    }
    Ok(())
}

fn check_leveled(given: &BTreeMap<String, String>) -> Result<()> {
    for name in ["sstable_size_in_mb", "fanout_size"] {
        if let Some(value) = number::<i32>(given, name, "int (base10)")?
            && value < 1
        {
            return Err(Error::Configuration(format!(
                "{name} must be larger than 0, but was {value}"
            )));
        }
    }
    Ok(())
}

fn check_time_window(given: &BTreeMap<String, String>) -> Result<()> {
    if let Some(size) = number::<i32>(given, "compaction_window_size", "int (base10)")?
        && size < 1
    {
        return Err(Error::Configuration(format!(
            "{size} must be greater than 1 for compaction_window_size"
        )));
    }
    let words = [
        ("compaction_window_unit", ["MINUTES", "HOURS", "DAYS"]),
        ("timestamp_resolution", ["MICROSECONDS", "MILLISECONDS", "SECONDS"]),
    ];
    for (name, allowed) in words {
        if let Some(value) = given.get(name)
            && !allowed.contains(&value.as_str())
        {
            return Err(Error::Configuration(format!("{value} is not valid for {name}")));
        }
    }
    Ok(())
}

fn check_unified(given: &BTreeMap<String, String>) -> Result<()> {
    let Some(parameters) = given.get("scaling_parameters") else {
        return Ok(());
    };
    for parameter in parameters.split(',').map(str::trim) {
        let digits = parameter.strip_prefix(['L', 'T', '+', '-']).unwrap_or(parameter);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if parameter != "N" && !is_number {
            return Err(Error::Configuration(format!(
                "Scaling parameter {parameter} must match N|L[0-9]+|T[0-9]+|[+-]?[0-9]+"
            )));
        }
    }
    Ok(())
}

/// Checks `min_threshold` and `max_threshold`, and writes down the defaults.
fn thresholds(given: &mut BTreeMap<String, String>) -> Result<()> {
    let mut bounds = [("min_threshold", 4), ("max_threshold", 32)];
    for (name, value) in &mut bounds {
        if let Some(text) = given.get(*name) {
            *value = text.parse().map_err(|_| {
                Error::Configuration(format!(
                    "Invalid value {text} for '{name}' compaction sub-option - must be an integer"
                ))
            })?;
        }
        given.insert((*name).to_owned(), value.to_string());
    }
    let [(_, least), (_, most)] = bounds;
    if least < 2 {
        return Err(Error::Configuration(format!(
            "Min compaction threshold cannot be less than 2 (got {least})"
        )));
    }
    if least > most {
        return Err(Error::Configuration(format!(
            "Min compaction threshold (got {least}) cannot be greater than max compaction \
             threshold (got {most})"
        )));
    }
    Ok(())
}
