//! What an operator does with the keys of tables while the server runs: `coffer keys`.

use coffer_keys::{CheckResult, ErrorClass, KeyError, TableName, encryption_context};
use coffer_model::TableId;
use coffer_query::Database;
use coffer_storage::TableEntry;
use serde_json::{Value, json};

use crate::admin::Report;
use crate::cli::KeysOperation;

/// Does what is asked; waits for the KMS.
///
/// # Errors
/// A text for whoever typed the command.
pub(crate) async fn perform(
    database: &Database,
    operation: &KeysOperation,
) -> Result<Report, String> {
    match operation {
        KeysOperation::Flush { table } => flush(database, table.as_deref()),
        KeysOperation::Check { target: Some(arn) } if arn.starts_with("arn:") => {
            Ok(check_key(database, arn).await)
        }
        KeysOperation::Check { target } => check(database, target.as_deref()).await,
        KeysOperation::Rewrap { table } => rewrap(database, table.as_deref()).await,
    }
}

/// The table of this name, or all.
fn chosen(database: &Database, table: Option<&str>) -> Result<Vec<TableEntry>, String> {
    let catalog = database.engine().catalog();
    let is_chosen = |entry: &TableEntry| {
        table.is_none_or(|wanted| {
            wanted == format!("{}.{}", entry.schema.keyspace, entry.schema.name)
        })
    };
    let found: Vec<TableEntry> =
        catalog.tables.values().map(|entry| TableEntry::clone(entry)).filter(is_chosen).collect();
    match table {
        Some(table) if found.is_empty() => {
            Err(format!("there is no table {table}; KEYSPACE.TABLE is wanted, as it was created"))
        }
        _ => Ok(found),
    }
}

fn name_of(entry: &TableEntry) -> TableName {
    TableName::new(entry.schema.id.0, &entry.schema.keyspace, &entry.schema.name)
}

fn flush(database: &Database, table: Option<&str>) -> Result<Report, String> {
    let flushed: usize = match table {
        None => database.keyring().flush(None),
        Some(_) => {
            let tables = chosen(database, table)?;
            tables.iter().map(|entry| database.keyring().flush(Some(&entry.schema.id.0))).sum()
        }
    };
    Ok(Report { rows: vec![json!({"flushed": flushed})], has_findings: false })
}

fn row_of(target: &str, result: &CheckResult) -> Value {
    let mut row = json!({
        "target": target,
        "operation": result.operation.to_string(),
        "key_arn": result.key_arn,
        "outcome": "ok",
    });
    if let (Err(error), Some(fields)) = (&result.outcome, row.as_object_mut()) {
        fields.insert("outcome".to_owned(), json!("failed"));
        fields.insert("class".to_owned(), json!(error.class().as_str()));
        fields.insert("message".to_owned(), json!(error.to_string()));
    }
    row
}

async fn check(database: &Database, table: Option<&str>) -> Result<Report, String> {
    let mut report = Report::default();
    for entry in chosen(database, table)? {
        let target = format!("{}.{}", entry.schema.keyspace, entry.schema.name);
        let results = database.keyring().check(&name_of(&entry), &entry.key).await;
        if results.is_empty() {
            report.rows.push(json!({
                "target": target, "operation": "none", "key_arn": null, "outcome": "ok",
                "message": "service-owned key, no KMS is needed",
            }));
        }
        for result in &results {
            report.has_findings |= result.outcome.is_err();
            report.rows.push(row_of(&target, result));
        }
    }
    Ok(report)
}

/// A key that no table uses yet: what CREATE TABLE would need.
async fn check_key(database: &Database, arn: &str) -> Report {
    let table = TableName::new([0; 16], "keyspace", "table");
    let account = arn.split(':').nth(4).unwrap_or_default();
    let context = encryption_context(&table, account);
    let mut report = Report::default();
    for result in &database.keyring().check_key(arn, &context).await {
        let mut row = row_of(arn, result);
        if let (true, Some(fields)) = (needs_grant(result), row.as_object_mut()) {
            // the data identity gets its rights by the grants that CREATE TABLE makes
            fields.insert("outcome".to_owned(), json!("by grant"));
            fields.insert(
                "message".to_owned(),
                json!(
                    "not allowed by policy; a table's own grant, made by CREATE TABLE, allows it"
                ),
            );
        } else {
            report.has_findings |= result.outcome.is_err();
        }
        report.rows.push(row);
    }
    report
}

fn needs_grant(result: &CheckResult) -> bool {
    match &result.outcome {
        Err(KeyError::Definitive(refusal)) => {
            result.operation.to_string() != "DescribeKey"
                && refusal.error.name() == "AccessDeniedException"
                && refusal.error.class() == ErrorClass::Definitive
        }
        _ => false,
    }
}

async fn rewrap(database: &Database, table: Option<&str>) -> Result<Report, String> {
    let mut report = Report::default();
    for entry in chosen(database, table)? {
        let target = format!("{}.{}", entry.schema.keyspace, entry.schema.name);
        let Some(arn) = entry.key.kms_key_arn.clone() else {
            continue;
        };
        let outcome = rewrap_one(database, entry.schema.id).await;
        report.has_findings |= outcome.is_err();
        report.rows.push(match outcome {
            Ok(material) => json!({
                "target": target, "operation": "ReEncrypt", "key_arn": arn, "outcome": "ok",
                "key_material_id": material,
            }),
            Err(message) => json!({
                "target": target, "operation": "ReEncrypt", "key_arn": arn, "outcome": "failed",
                "message": message,
            }),
        });
    }
    Ok(report)
}

/// The key material that the table key is under now, where the KMS tells it.
async fn rewrap_one(database: &Database, table: TableId) -> Result<Option<String>, String> {
    let rewrapped = database.rewrap_table_key(table).await.map_err(|error| error.to_string())?;
    if !rewrapped {
        return Err("the table's key was changed meanwhile; nothing was done".to_owned());
    }
    let catalog = database.engine().catalog();
    Ok(catalog.tables.get(&table).and_then(|entry| entry.key.key_material_id.clone()))
}
