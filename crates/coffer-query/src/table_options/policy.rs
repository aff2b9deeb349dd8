//! Small options that are one word or a pair of words.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// `speculative_retry` and `additional_write_policy`, in the form Cassandra keeps them in.
pub(super) fn speculative(text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "NONE" | "NEVER" => return Ok("NEVER".to_owned()),
        "ALWAYS" => return Ok("ALWAYS".to_owned()),
        _ => {}
    }
    if let Some(percentile) = percentile(&upper)? {
        return Ok(percentile);
    }
    if let Some(fixed) = fixed(&upper) {
        return Ok(fixed);
    }
    if let Some(hybrid) = hybrid(&upper)? {
        return Ok(hybrid);
    }
    Err(invalid(text))
}

fn invalid(text: &str) -> Error {
    Error::Configuration(format!("Invalid value {text} for option 'speculative_retry'"))
}

/// `99p`, `99.9PERCENTILE`
fn percentile(upper: &str) -> Result<Option<String>> {
    let Some(number) = upper.strip_suffix("PERCENTILE").or_else(|| upper.strip_suffix('P')) else {
        return Ok(None);
    };
    let Ok(value) = number.parse::<f64>() else {
        return Ok(None);
    };
    if value <= 0.0 || value >= 100.0 {
        return Err(Error::Configuration(format!(
            "Invalid value {} for PERCENTILE option 'speculative_retry': must be between (0.0 and \
             100.0)",
            upper.to_ascii_lowercase()
        )));
    }
    Ok(Some(format!("{number}p")))
}

/// `10ms`
fn fixed(upper: &str) -> Option<String> {
    let number = upper.strip_suffix("MS")?;
    let is_number = number.parse::<f64>().is_ok_and(|millis| millis >= 0.0);
    is_number.then(|| format!("{number}ms"))
}

/// `MIN(99p, 10ms)`, `MAX(...)`
fn hybrid(upper: &str) -> Result<Option<String>> {
    let Some((function, rest)) = upper.split_once('(') else {
        return Ok(None);
    };
    let Some((left, right)) = rest.strip_suffix(')').and_then(|inner| inner.split_once(',')) else {
        return Ok(None);
    };
    if !matches!(function, "MIN" | "MAX") {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for part in [left.trim(), right.trim()] {
        match percentile(part)?.or_else(|| fixed(part)) {
            Some(text) => parts.push(text),
            None => return Ok(None),
        }
    }
    Ok(Some(format!("{function}({})", parts.join(","))))
}

/// `{'keys': 'ALL', 'rows_per_partition': 'NONE'}`
pub(super) fn caching(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut caching = BTreeMap::from([
        ("keys".to_owned(), "ALL".to_owned()),
        ("rows_per_partition".to_owned(), "NONE".to_owned()),
    ]);
    let unknown: Vec<&str> =
        given.keys().map(String::as_str).filter(|key| !caching.contains_key(*key)).collect();
    if !unknown.is_empty() {
        return Err(Error::Configuration(format!(
            "Invalid caching sub-options [{}]: only 'keys' and 'rows_per_partition' are allowed",
            unknown.join(", ")
        )));
    }
    for (key, value) in given {
        let upper = value.to_ascii_uppercase();
        let is_word = matches!(upper.as_str(), "ALL" | "NONE");
        let is_number = key == "rows_per_partition"
            && !value.is_empty()
            && value.bytes().all(|byte| byte.is_ascii_digit())
            && value.parse::<i32>().is_ok();
        if !is_word && !is_number {
            let allowed = if key == "keys" {
                "only 'ALL' and 'NONE' are allowed"
            } else {
                "only 'ALL', 'NONE', and integer values are allowed"
            };
            return Err(Error::Configuration(format!(
                "Invalid value '{value}' for caching sub-option '{key}': {allowed}"
            )));
        }
        caching.insert(key.clone(), upper);
    }
    Ok(caching)
}

/// There is one kind of memtable.
pub(super) fn memtable(name: &str) -> Result<String> {
    if name == "default" {
        return Ok(name.to_owned());
    }
    Err(Error::Configuration(format!("Memtable configuration \"{name}\" not found.")))
}

pub(super) fn read_repair(text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    if matches!(upper.as_str(), "NONE" | "BLOCKING") {
        return Ok(upper);
    }
    Err(Error::Configuration(format!(
        "Invalid value {text} for option 'read_repair': must be 'NONE' or 'BLOCKING'"
    )))
}
