//! Options of CREATE TABLE and ALTER TABLE: read, checked with Cassandra's words and error classes,
//! kept and shown.

mod compaction;
mod compression;
mod policy;

use std::collections::BTreeMap;

use coffer_model::TableOptions;
use cql_parser::ast::{Constant, Property, PropertyValue};

use crate::error::{Error, Result};
use crate::java_double::java_double;

/// The option that holds the Keyspaces settings.
pub(crate) const CUSTOM_PROPERTIES: &str = "custom_properties";
/// Tags of a table.
pub(crate) const TAGS: &str = "tags";
/// Capacity settings of Keyspaces.
pub(crate) const AUTOSCALING_SETTINGS: &str = "autoscaling_settings";
/// The id of a table that is created.
pub(crate) const ID: &str = "id";

/// Largest `default_time_to_live`: 20 years of seconds.
const TTL_SECONDS_MAX: i32 = 20 * 365 * 24 * 60 * 60;
/// Below this a filter would need more than 20 bits for a key.
const FALSE_POSITIVE_CHANCE_MIN: f64 = 6.71e-5;

const KNOWN: [&str; 23] = [
    "additional_write_policy",
    "allow_auto_snapshot",
    AUTOSCALING_SETTINGS,
    "bloom_filter_fp_chance",
    "caching",
    "cdc",
    "comment",
    "compaction",
    "compression",
    "crc_check_chance",
    CUSTOM_PROPERTIES,
    "default_time_to_live",
    "extensions",
    "gc_grace_seconds",
    ID,
    "incremental_backups",
    "max_index_interval",
    "memtable",
    "memtable_flush_period_in_ms",
    "min_index_interval",
    "read_repair",
    "speculative_retry",
    TAGS,
];

/// Refuses a property that is given twice.
///
/// # Errors
/// Syntax.
pub(crate) fn no_duplicates(properties: &[Property]) -> Result<()> {
    for (index, property) in properties.iter().enumerate() {
        if properties.iter().skip(index + 1).any(|other| other.name == property.name) {
            return Err(Error::Syntax(format!(
                "Multiple definitions for property '{}'",
                property.name
            )));
        }
    }
    Ok(())
}

/// The options with those of a statement put in.
///
/// # Errors
/// Syntax for unknown options and values of the wrong form; Configuration for maps that make no
/// sense. Bounds are checked by [`validate`].
pub(crate) fn apply(base: &TableOptions, properties: &[Property]) -> Result<TableOptions> {
    no_duplicates(properties)?;
    if let Some(unknown) =
        properties.iter().rev().find(|property| !KNOWN.contains(&property.name.as_str()))
    {
        return Err(Error::Syntax(format!("Unknown property '{}'", unknown.name)));
    }
    let mut options = base.clone();
    for property in properties {
        set(&mut options, &property.name, &property.value)?;
    }
    Ok(options)
}

fn set(options: &mut TableOptions, name: &str, value: &PropertyValue) -> Result<()> {
    match name {
        "additional_write_policy" => {
            options.additional_write_policy = policy::speculative(text(name, value)?)?;
        }
        "allow_auto_snapshot" => options.allow_auto_snapshot = Some(boolean(name, value)?),
        "bloom_filter_fp_chance" => options.bloom_filter_fp_chance = double(name, value)?,
        "caching" => options.caching = policy::caching(&text_map(name, value)?)?,
        "cdc" => options.cdc = boolean(name, value)?,
        "comment" => text(name, value)?.clone_into(&mut options.comment),
        "compaction" => options.compaction = compaction::parse(text_map(name, value)?)?,
        "compression" => options.compression = compression::parse(text_map(name, value)?)?,
        "crc_check_chance" => options.crc_check_chance = double(name, value)?,
        "default_time_to_live" => options.default_time_to_live = seconds(name, value)?,
        "extensions" => options.extensions = extensions(value)?,
        "gc_grace_seconds" => options.gc_grace_seconds = at_least(name, value, 0)?,
        "incremental_backups" => options.incremental_backups = Some(boolean(name, value)?),
        "max_index_interval" => options.max_index_interval = interval(name, value)?,
        "memtable" => options.memtable = policy::memtable(text(name, value)?)?,
        "memtable_flush_period_in_ms" => {
            options.memtable_flush_period_in_ms = at_least(name, value, 0)?;
        }
        "min_index_interval" => options.min_index_interval = at_least(name, value, 1)?,
        "read_repair" => options.read_repair = policy::read_repair(text(name, value)?)?,
        "speculative_retry" => options.speculative_retry = policy::speculative(text(name, value)?)?,
        // the others are not options of the engine; their owners read them
        _ => {}
    }
    Ok(())
}

/// Checks bounds.
///
/// # Errors
/// Configuration.
pub(crate) fn validate(options: &TableOptions) -> Result<()> {
    let chance = options.bloom_filter_fp_chance;
    if chance <= FALSE_POSITIVE_CHANCE_MIN || chance > 1.0 {
        return Err(Error::Configuration(format!(
            "bloom_filter_fp_chance must be larger than 6.71E-5 and less than or equal to 1.0 \
             (got {})",
            java_double(chance)
        )));
    }
    if !(0.0..=1.0).contains(&options.crc_check_chance) {
        return Err(Error::Configuration(format!(
            "crc_check_chance must be larger than or equal to 0 and smaller than or equal to 1.0 \
             (got {})",
            java_double(options.crc_check_chance)
        )));
    }
    if options.max_index_interval < options.min_index_interval {
        return Err(Error::Configuration(format!(
            "max_index_interval must be greater than or equal to min_index_interval ({}) (got {})",
            options.min_index_interval, options.max_index_interval
        )));
    }
    Ok(())
}

fn text<'a>(name: &str, value: &'a PropertyValue) -> Result<&'a str> {
    value.text().ok_or_else(|| {
        Error::Syntax(format!("Invalid value for property '{name}'. It should be a string"))
    })
}

/// `true`, `1`, `yes` and their opposites.
///
/// # Errors
/// Syntax.
pub(crate) fn boolean(name: &str, value: &PropertyValue) -> Result<bool> {
    let text = text(name, value)?;
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(true),
        "0" | "false" | "no" => Ok(false),
        _ => Err(Error::Syntax(format!(
            "Invalid boolean value {text} for '{name}'. Positive values can be '1', 'true' or \
             'yes'. Negative values can be '0', 'false' or 'no'."
        ))),
    }
}

fn double(name: &str, value: &PropertyValue) -> Result<f64> {
    let text = text(name, value)?;
    text.parse::<f64>()
        .map_err(|_| Error::Syntax(format!("Invalid double value {text} for '{name}'")))
}

fn integer(name: &str, value: &PropertyValue) -> Result<i32> {
    let text = text(name, value)?;
    text.parse::<i32>()
        .map_err(|_| Error::Syntax(format!("Invalid integer value {text} for '{name}'")))
}

fn at_least(name: &str, value: &PropertyValue, least: i32) -> Result<u32> {
    let number = integer(name, value)?;
    match u32::try_from(number) {
        Ok(valid) if number >= least => Ok(valid),
        _ => Err(Error::Configuration(format!(
            "{name} must be greater than or equal to {least} (got {number})"
        ))),
    }
}

/// As any integer; that it is not below `min_index_interval` is checked when both are known.
fn interval(name: &str, value: &PropertyValue) -> Result<u32> {
    Ok(u32::try_from(integer(name, value)?).unwrap_or(0))
}

fn seconds(name: &str, value: &PropertyValue) -> Result<u32> {
    let seconds = at_least(name, value, 0)?;
    if seconds > TTL_SECONDS_MAX.unsigned_abs() {
        return Err(Error::Configuration(format!(
            "{name} must be less than or equal to {TTL_SECONDS_MAX} (got {seconds})"
        )));
    }
    Ok(seconds)
}

fn text_map(name: &str, value: &PropertyValue) -> Result<BTreeMap<String, String>> {
    let no_map =
        || Error::Syntax(format!("Invalid value for property '{name}'. It should be a map."));
    let mut map = BTreeMap::new();
    for (key, value) in value.map().ok_or_else(no_map)? {
        let text = value.text().ok_or_else(no_map)?;
        map.insert(key.text().to_owned(), text.to_owned());
    }
    Ok(map)
}

fn extensions(value: &PropertyValue) -> Result<BTreeMap<String, Vec<u8>>> {
    let no_map =
        || Error::Syntax("Invalid value for property 'extensions'. It should be a map.".into());
    let mut map = BTreeMap::new();
    for (key, value) in value.map().ok_or_else(no_map)? {
        let bytes = match value {
            PropertyValue::Constant(Constant::Hex(digits)) => from_hex(digits)?,
            other => other.text().ok_or_else(no_map)?.as_bytes().to_vec(),
        };
        map.insert(key.text().to_owned(), bytes);
    }
    Ok(map)
}

fn from_hex(digits: &str) -> Result<Vec<u8>> {
    let digits = digits.trim_start_matches("0x").trim_start_matches("0X");
    let wrong = || {
        Error::Syntax("Invalid value for property 'extensions': odd number of hex digits".into())
    };
    if !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            let pair = digits.get(at..at + 2).ok_or_else(wrong)?;
            u8::from_str_radix(pair, 16).map_err(|_| wrong())
        })
        .collect()
}

/// The full name of a class: what is short is in `package`.
fn class_name(class: &str, package: &str) -> String {
    if class.contains('.') { class.to_owned() } else { format!("{package}.{class}") }
}

#[cfg(test)]
mod tests;
