//! `CUSTOM_PROPERTIES`: the settings that Amazon Keyspaces adds to a table.
//!
//! Encryption is executed; the others are checked, kept and shown. They live in
//! `TableSchema::custom_properties`, but for the encryption specification, which is what the key
//! record says.

use std::collections::BTreeMap;

use coffer_crypto::{EncryptionType, KeyRecord};
use coffer_keys::{EncryptionSpecification, check_extra_context};
use coffer_model::TableSchema;
use coffer_storage::KeyChange;
use cql_parser::ast::{Constant, PropertyValue};

use crate::encryption_policy::check_keyspace_properties;
use crate::error::{Error, Result};

/// Where tags of a table are kept among its custom properties; never a property of its own.
pub(crate) const TAGS: &str = "tags";
/// Where the pairs of AUTOSCALING_SETTINGS are kept; never a custom property of its own.
pub(crate) const AUTOSCALING: &str = "autoscaling_settings";

/// Custom property that says which key is wanted.
pub(crate) const ENCRYPTION: &str = "encryption_specification";
/// Custom property with pairs that are added to a table's encryption context.
pub(crate) const ENCRYPTION_CONTEXT: &str = "kms_encryption_context";
const PITR: &str = "point_in_time_recovery";
const AUTO_SNAPSHOT: &str = "auto_snapshot";
const SNAPSHOT: &str = "snapshot";

const AUTOSCALING_FIELDS: [&str; 3] = [
    "provisioned_read_capacity_autoscaling_update",
    "provisioned_write_capacity_autoscaling_update",
    "replica_updates",
];

/// Largest number of tags on one keyspace or table.
const TAGS_MAX: usize = 50;

/// Checked custom properties of one statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CustomProperties {
    /// The encryption asked for, if any.
    pub encryption: Option<EncryptionSpecification>,
    /// The snapshot to restore, in a RESTORE TABLE.
    pub snapshot: Option<SnapshotChoice>,
    /// The others.
    pub others: BTreeMap<String, BTreeMap<String, String>>,
}

/// A snapshot that a statement chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotChoice {
    /// Which one.
    pub name: SnapshotName,
    /// Whether it is restored also when its files are not as they were written.
    pub takes_damaged: bool,
}

/// How a statement names a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SnapshotName {
    /// What the operator called it.
    Name(String),
    /// As in `system_coffer.snapshots`.
    Id(String),
}

impl CustomProperties {
    /// Reads the value of `CUSTOM_PROPERTIES`.
    ///
    /// # Errors
    /// Invalid, naming the property and what it may be.
    pub(crate) fn parse(value: &PropertyValue) -> Result<CustomProperties> {
        let mut properties = CustomProperties::default();
        for (name, value) in entries(value)? {
            let name = name.text().to_ascii_lowercase();
            let mut fields = match value.text() {
                Some(status) if name == AUTO_SNAPSHOT => auto_snapshot_status(status)?,
                _ => fields(&name, value)?,
            };
            if name == ENCRYPTION {
                properties.encryption = Some(encryption(&fields)?);
            } else if name == SNAPSHOT {
                properties.snapshot = Some(snapshot_choice(&fields)?);
            } else {
                check(&name, &fields)?;
                if name == PITR {
                    // the times are what is shown, not what is set
                    fields.retain(|field, _| field == "status");
                }
                properties.others.insert(name, fields);
            }
        }
        Ok(properties)
    }

    /// What a client should know about properties that are kept but do nothing yet.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.others.contains_key("cdc_specification") {
            warnings.push(
                "cdc_specification is stored and shown, but this version writes no change stream"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Puts the properties into a table; those not named stay.
    ///
    /// # Errors
    /// Invalid when a setting cannot be turned off again.
    pub(crate) fn apply(&self, table: &mut TableSchema) -> Result<()> {
        if self.snapshot.is_some() {
            return Err(Error::invalid(
                "custom property 'snapshot' names what RESTORE TABLE restores: it is no setting of \
                 a table",
            ));
        }
        for name in ["client_side_timestamps", "ttl"] {
            let was_enabled = table.custom_properties.get(name).is_some_and(is_enabled);
            let disables = self.others.get(name).is_some_and(|fields| !is_enabled(fields));
            if was_enabled && disables {
                return Err(Error::Invalid(format!(
                    "{name} cannot be disabled once it is enabled (table {}.{})",
                    table.keyspace, table.name
                )));
            }
        }
        for (name, fields) in &self.others {
            table.custom_properties.insert(name.clone(), fields.clone());
        }
        Ok(())
    }
}

fn is_enabled(fields: &BTreeMap<String, String>) -> bool {
    fields.get("status").is_some_and(|status| status.eq_ignore_ascii_case("enabled"))
}

/// Whether the history of the table is kept, so that it can be restored to any moment.
pub(crate) fn has_point_in_time_recovery(table: &TableSchema) -> bool {
    table.custom_properties.get(PITR).is_some_and(is_enabled)
}

/// Whether DROP keeps a snapshot of the table; `None` where nothing was said. Cassandra's option
/// `allow_auto_snapshot` can forbid it too.
pub(crate) fn auto_snapshot(table: &TableSchema) -> Option<bool> {
    let said = table.custom_properties.get(AUTO_SNAPSHOT).map(is_enabled);
    if table.options.allow_auto_snapshot == Some(false) { Some(false) } else { said }
}

/// The short forms of `auto_snapshot`.
fn auto_snapshot_status(text: &str) -> Result<BTreeMap<String, String>> {
    let status = match text.to_ascii_lowercase().as_str() {
        "true" | "enabled" => "enabled",
        "false" | "disabled" => "disabled",
        _ => {
            return Err(Error::Invalid(format!(
                "custom property 'auto_snapshot' is true, false or {{'status': 'enabled'}} or \
                 {{'status': 'disabled'}}, got '{text}'"
            )));
        }
    };
    Ok(BTreeMap::from([("status".to_owned(), status.to_owned())]))
}

fn snapshot_choice(fields: &BTreeMap<String, String>) -> Result<SnapshotChoice> {
    only(SNAPSHOT, fields, &["name", "id", "damaged"])?;
    let name = match (fields.get("name"), fields.get("id")) {
        (Some(name), None) => SnapshotName::Name(name.clone()),
        (None, Some(id)) => SnapshotName::Id(id.clone()),
        _ => return Err(Error::invalid("custom property 'snapshot' needs either 'name' or 'id'")),
    };
    let takes_damaged = match fields.get("damaged").map(|text| text.to_ascii_lowercase()).as_deref()
    {
        None | Some("refuse") => false,
        Some("allow") => true,
        Some(_) => {
            return Err(Error::invalid(
                "'damaged' of custom property 'snapshot' is 'refuse' or 'allow'",
            ));
        }
    };
    Ok(SnapshotChoice { name, takes_damaged })
}

/// The pairs of one property, names in lower case, nested values as CQL text.
pub(crate) fn fields(name: &str, value: &PropertyValue) -> Result<BTreeMap<String, String>> {
    let entries = value.map().ok_or_else(|| {
        Error::Invalid(format!("custom property '{name}' must be a map of names and values"))
    })?;
    let mut fields = BTreeMap::new();
    for (key, value) in entries {
        // regions of replica_updates and names of encryption contexts keep their case
        let keeps_case = matches!(name, "replica_updates" | ENCRYPTION_CONTEXT);
        let key = if keeps_case { key.text().to_owned() } else { key.text().to_ascii_lowercase() };
        fields.insert(key, value_text(value));
    }
    Ok(fields)
}

/// Reads `CUSTOM_PROPERTIES` of a keyspace.
///
/// # Errors
/// Invalid, naming the property and what it may be.
pub(crate) fn of_keyspace(
    value: &PropertyValue,
) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut properties = BTreeMap::new();
    for (name, value) in entries(value)? {
        let name = name.text().to_ascii_lowercase();
        let fields = fields(&name, value)?;
        properties.insert(name, fields);
    }
    check_keyspace_properties(&properties)?;
    Ok(properties)
}

fn entries(value: &PropertyValue) -> Result<&[(Constant, PropertyValue)]> {
    value.map().ok_or_else(|| {
        Error::Syntax("Invalid value for property 'custom_properties'. It should be a map.".into())
    })
}

/// A property's value as it is shown: text as it is, maps as CQL literals.
pub(crate) fn value_text(value: &PropertyValue) -> String {
    match value {
        PropertyValue::Constant(constant) => constant.text().to_owned(),
        PropertyValue::Keyword(word) => word.clone(),
        PropertyValue::Map(entries) => {
            let pairs: Vec<String> = entries
                .iter()
                .map(|(key, value)| {
                    let text = value_text(value);
                    let value = if value.map().is_some() { text } else { quoted(&text) };
                    format!("{}: {value}", quoted(key.text()))
                })
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// A CQL string literal.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Reads the fields of an encryption specification.
///
/// # Errors
/// Invalid, naming the field and what it may be.
pub(crate) fn encryption(fields: &BTreeMap<String, String>) -> Result<EncryptionSpecification> {
    let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    EncryptionSpecification::parse(pairs).map_err(|error| Error::Invalid(error.to_string()))
}

fn check(name: &str, fields: &BTreeMap<String, String>) -> Result<()> {
    match name {
        PITR => {
            only(
                name,
                fields,
                &["status", "earliest_restorable_timestamp", "restorable_until_time"],
            )?;
            status(name, fields)
        }
        "client_side_timestamps" | "ttl" => {
            only(name, fields, &["status"])?;
            status(name, fields)
        }
        "capacity_mode" => capacity_mode(fields),
        "cdc_specification" => cdc_specification(fields),
        "warm_throughput" => {
            only(name, fields, &["read_units_per_second", "write_units_per_second"])?;
            fields.iter().try_for_each(|(field, value)| positive(name, field, value))
        }
        "key_loss" => key_loss(fields),
        AUTO_SNAPSHOT => {
            only(name, fields, &["status"])?;
            status(name, fields)
        }
        ENCRYPTION_CONTEXT => {
            check_extra_context(fields).map_err(|error| Error::Invalid(error.to_string()))
        }
        "replica_updates" => Ok(()),
        _ => Err(Error::Invalid(format!("unknown custom property '{name}'"))),
    }
}

fn only(name: &str, fields: &BTreeMap<String, String>, allowed: &[&str]) -> Result<()> {
    match fields.keys().find(|field| !allowed.contains(&field.as_str())) {
        Some(unknown) => Err(Error::Invalid(format!(
            "unknown field '{unknown}' of custom property '{name}': {} are allowed",
            allowed.join(", ")
        ))),
        None => Ok(()),
    }
}

fn status(name: &str, fields: &BTreeMap<String, String>) -> Result<()> {
    let status = fields.get("status").map(|status| status.to_ascii_lowercase());
    match status.as_deref() {
        Some("enabled" | "disabled") => Ok(()),
        _ => Err(Error::Invalid(format!(
            "custom property '{name}' needs 'status', which is 'enabled' or 'disabled'"
        ))),
    }
}

fn positive(name: &str, field: &str, value: &str) -> Result<()> {
    match value.parse::<u64>() {
        Ok(number) if number > 0 => Ok(()),
        _ => Err(Error::Invalid(format!(
            "field '{field}' of custom property '{name}' must be a positive integer, got '{value}'"
        ))),
    }
}

fn capacity_mode(fields: &BTreeMap<String, String>) -> Result<()> {
    let name = "capacity_mode";
    let units = ["read_capacity_units", "write_capacity_units"];
    only(
        name,
        fields,
        &[
            "throughput_mode",
            "read_capacity_units",
            "write_capacity_units",
            "last_update_to_pay_per_request_timestamp",
        ],
    )?;
    for unit in units {
        if let Some(value) = fields.get(unit) {
            positive(name, unit, value)?;
        }
    }
    let mode = fields.get("throughput_mode").map(|mode| mode.to_ascii_uppercase());
    let has_units = units.iter().all(|unit| fields.contains_key(*unit));
    match mode.as_deref() {
        Some("PAY_PER_REQUEST") if units.iter().all(|unit| !fields.contains_key(*unit)) => Ok(()),
        Some("PROVISIONED") if has_units => Ok(()),
        Some("PAY_PER_REQUEST") => {
            Err(Error::invalid("capacity units may only be given with throughput_mode PROVISIONED"))
        }
        Some("PROVISIONED") => Err(Error::invalid(
            "throughput_mode PROVISIONED needs read_capacity_units and write_capacity_units",
        )),
        _ => Err(Error::invalid(
            "custom property 'capacity_mode' needs 'throughput_mode', which is PAY_PER_REQUEST or \
             PROVISIONED",
        )),
    }
}

fn cdc_specification(fields: &BTreeMap<String, String>) -> Result<()> {
    let name = "cdc_specification";
    only(name, fields, &["view_type", "status", "latest_stream_arn", "propagate_tags"])?;
    let views = ["NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES", "KEYS_ONLY"];
    if let Some(view) = fields.get("view_type")
        && !views.contains(&view.to_ascii_uppercase().as_str())
    {
        return Err(Error::Invalid(format!(
            "view_type of custom property '{name}' must be one of {}, got '{view}'",
            views.join(", ")
        )));
    }
    if fields.contains_key("status") { status(name, fields) } else { Ok(()) }
}

fn key_loss(fields: &BTreeMap<String, String>) -> Result<()> {
    only("key_loss", fields, &["delete_after"])?;
    let said = fields.get("delete_after").map(String::as_str).unwrap_or_default();
    coffer_health::delete_after(said).map(drop).map_err(|error| {
        Error::Invalid(format!("'delete_after' of custom property 'key_loss': {error}"))
    })
}

/// All custom properties of a table as `system_schema_mcs` shows them, defaults included.
pub(crate) fn shown(
    table: &TableSchema,
    key: &KeyRecord,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let pair = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let mut shown = stored(table, key);
    shown
        .entry("capacity_mode".to_owned())
        .or_insert_with(|| pair("throughput_mode", "PAY_PER_REQUEST"));
    shown.entry(PITR.to_owned()).or_insert_with(|| pair("status", "disabled"));
    shown
}

/// Adds the time that Keyspaces shows beside the status of point-in-time recovery.
pub(crate) fn show_restorable(
    shown: &mut BTreeMap<String, BTreeMap<String, String>>,
    field: &str,
    millis: i64,
) {
    let shown = shown.entry(PITR.to_owned()).or_default();
    shown.insert(field.to_owned(), cql_types::time::format_timestamp(millis));
}

/// The encryption specification and what statements have set: what DESCRIBE prints.
pub(crate) fn stored(
    table: &TableSchema,
    key: &KeyRecord,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut stored: BTreeMap<_, _> = table
        .custom_properties
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), TAGS | AUTOSCALING))
        .map(|(name, fields)| (name.clone(), fields.clone()))
        .collect();
    let kind = key.encryption_type.as_str().to_owned();
    let mut encryption = BTreeMap::from([("encryption_type".to_owned(), kind)]);
    if key.encryption_type == EncryptionType::CustomerManaged
        && let Some(arn) = &key.kms_key_arn
    {
        encryption.insert("kms_key_identifier".to_owned(), arn.clone());
    }
    stored.insert(ENCRYPTION.to_owned(), encryption);
    stored
}

/// What a table that is being created is going to show.
pub(crate) fn of_change(change: &KeyChange) -> BTreeMap<String, BTreeMap<String, String>> {
    let encryption = match &change.target_arn {
        None => BTreeMap::from([(
            "encryption_type".to_owned(),
            EncryptionType::AwsOwned.as_str().to_owned(),
        )]),
        Some(arn) => BTreeMap::from([
            ("encryption_type".to_owned(), EncryptionType::CustomerManaged.as_str().to_owned()),
            ("kms_key_identifier".to_owned(), arn.clone()),
        ]),
    };
    BTreeMap::from([(ENCRYPTION.to_owned(), encryption)])
}

/// Reads TAGS.
///
/// # Errors
/// When it is not a map of texts, or there are too many.
pub(crate) fn tags(value: &PropertyValue) -> Result<BTreeMap<String, String>> {
    let entries = value.map().ok_or_else(|| {
        Error::Syntax("Invalid value for property 'tags'. It should be a map.".into())
    })?;
    if entries.len() > TAGS_MAX {
        return Err(Error::Invalid(format!("at most {TAGS_MAX} tags are allowed")));
    }
    let mut tags = BTreeMap::new();
    for (key, value) in entries {
        let text = value.text().ok_or_else(|| Error::invalid("the value of a tag must be text"))?;
        let (key, text) = (key.text(), text);
        if key.is_empty() || key.chars().count() > 128 || text.chars().count() > 256 {
            return Err(Error::invalid(
                "a tag has a name of 1 to 128 and a value of at most 256 characters",
            ));
        }
        tags.insert(key.to_owned(), text.to_owned());
    }
    Ok(tags)
}

/// Reads AUTOSCALING_SETTINGS: kept and shown, there is nothing to scale.
///
/// # Errors
/// When it is not a map of the two known settings.
pub(crate) fn autoscaling(value: &PropertyValue) -> Result<BTreeMap<String, String>> {
    let entries = value.map().ok_or_else(|| {
        Error::Syntax(
            "Invalid value for property 'autoscaling_settings'. It should be a map.".into(),
        )
    })?;
    let mut settings = BTreeMap::new();
    for (name, value) in entries {
        let name = name.text().to_ascii_lowercase();
        if !AUTOSCALING_FIELDS.contains(&name.as_str()) || value.map().is_none() {
            return Err(Error::Invalid(format!(
                "unknown field '{name}' of AUTOSCALING_SETTINGS: {} are allowed, each a map",
                AUTOSCALING_FIELDS.join(", ")
            )));
        }
        settings.insert(name, value_text(value));
    }
    Ok(settings)
}

/// Adds tags to those there are.
///
/// # Errors
/// When there would be too many.
pub(crate) fn add_tags(
    tags: &mut BTreeMap<String, String>,
    added: BTreeMap<String, String>,
) -> Result<()> {
    tags.extend(added);
    if tags.len() > TAGS_MAX {
        return Err(Error::Invalid(format!("at most {TAGS_MAX} tags are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
