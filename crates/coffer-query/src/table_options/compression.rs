//! The `compression` map.

use std::collections::BTreeMap;

use super::class_name;
use crate::error::{Error, Result};

const PACKAGE: &str = "org.apache.cassandra.io.compress";
/// Classes, and the options of each besides those of all.
const COMPRESSORS: [(&str, &[&str]); 6] = [
    ("LZ4Compressor", &["lz4_compressor_type", "lz4_high_compressor_level"]),
    ("SnappyCompressor", &[]),
    ("DeflateCompressor", &[]),
    ("ZstdCompressor", &["compression_level"]),
    ("ZstdDictionaryCompressor", &["compression_level"]),
    ("NoopCompressor", &[]),
];

/// The map as Cassandra keeps it.
pub(super) fn parse(mut given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let enabled = given.remove("enabled");
    let is_off = given.is_empty() && enabled.is_none()
        || enabled.as_deref().is_some_and(|enabled| !enabled.eq_ignore_ascii_case("true"));
    if is_off {
        if !given.is_empty() {
            return Err(Error::Configuration(
                "If the 'enabled' option is set to false no other options must be specified".into(),
            ));
        }
        return Ok(BTreeMap::from([("enabled".to_owned(), "false".to_owned())]));
    }
    let class = given.get("class").filter(|class| !class.is_empty()).ok_or_else(|| {
        Error::Configuration("Missing sub-option 'class' for the 'compression' option.".into())
    })?;
    let full = class_name(class, PACKAGE);
    let known = COMPRESSORS.iter().find(|(name, _)| {
        full.strip_prefix(PACKAGE).is_some_and(|rest| rest.get(1..) == Some(*name))
    });
    let Some((_, own_options)) = known else {
        return Err(Error::Configuration(format!("Could not create Compression for type {full}")));
    };
    check_options(&given, own_options)?;
    given.insert("class".to_owned(), full);
    given.entry("chunk_length_in_kb".to_owned()).or_insert_with(|| "16".to_owned());
    Ok(given)
}

fn check_options(given: &BTreeMap<String, String>, own_options: &[&str]) -> Result<()> {
    for (name, value) in given {
        match name.as_str() {
            "class" => {}
            "chunk_length_in_kb" => chunk_length(value)?,
            "min_compress_ratio" => {
                let ratio: f64 = value.parse().map_err(|_| {
                    Error::Configuration("Invalid value for min_compress_ratio".into())
                })?;
                if ratio != 0.0 && ratio < 1.0 {
                    return Err(Error::Configuration(
                        "min_compress_ratio can either be 0 or greater than or equal to 1".into(),
                    ));
                }
            }
            other if own_options.contains(&other) => {}
            other => {
                return Err(Error::Configuration(format!("Unknown compression options {other}")));
            }
        }
    }
    Ok(())
}

fn chunk_length(value: &str) -> Result<()> {
    let length: i32 = value
        .parse()
        .map_err(|_| Error::Configuration("Invalid value for chunk_length_in_kb".into()))?;
    if length <= 0 {
        return Err(Error::Configuration("Invalid negative or null chunk_length_in_kb".into()));
    }
    if length.count_ones() != 1 {
        return Err(Error::Configuration("chunk_length_in_kb must be a power of 2".into()));
    }
    Ok(())
}
