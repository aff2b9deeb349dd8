//! What the audit log says of calls.

use super::*;
use crate::audit::{AuditFilter, AuditReader};
use serde_json::Value;

/// Every record so far.
fn records(house: &House) -> Vec<Value> {
    house.kms.audit.flush().unwrap();
    let root = load_root_key(&house.path().join("root.key")).unwrap().unwrap();
    let reader = AuditReader::new(&house.path().join(AUDIT), JournalKind::KmsAudit, vec![root]);
    let mut lines = Vec::new();
    let summary = reader
        .read(&AuditFilter::default(), &mut |record| lines.push(record.line.clone()))
        .unwrap();
    assert_eq!(summary.records, lines.len() as u64);
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_call_is_recorded_with_key_and_outcome_and_without_secrets() {
    let house = new_house();
    let key = house.create();
    let blob = house.encrypt(&key, b"plaintext!").unwrap().ciphertext_blob;
    house.decrypt(&blob).unwrap();
    house.disable(&key);
    assert_refused(house.decrypt(&blob), "DisabledException");
    house.schedule_deletion(&key);
    house.clock.advance(7 * DAY);
    house.kms.run_due().unwrap();
    let records = records(&house);
    let names: Vec<&str> = records.iter().map(|it| it["eventName"].as_str().unwrap()).collect();
    let expected = [
        "CreateKey",
        "Encrypt",
        "Decrypt",
        "DisableKey",
        "Decrypt",
        "ScheduleKeyDeletion",
        "DeleteKey",
    ];
    assert_eq!(names, expected);
    for record in &records {
        assert_eq!(record["resources"][0]["ARN"], key, "{record}");
    }
    assert_eq!(records[4]["errorCode"], "DisabledException");
    assert_eq!(records[4]["userIdentity"]["type"], "Root");
    let all = format!("{records:?}");
    for secret in ["plaintext!", "cGxhaW50ZXh0IQ"] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[test]
fn a_rotation_that_nobody_asked_for_is_recorded() {
    let house = new_house();
    let key = house.create();
    let request =
        EnableKeyRotationRequest { key_id: key.clone(), rotation_period_in_days: Some(90) };
    house.root(&request).unwrap();
    house.clock.advance(90 * DAY);
    house.kms.run_due().unwrap();
    let last = records(&house).pop().unwrap();
    assert_eq!(
        (&last["eventName"], &last["eventType"]),
        (&"RotateKey".into(), &"AwsServiceEvent".into())
    );
    let now = house.describe(&key).current_key_material_id;
    assert_eq!(last["serviceEventDetails"]["currentKeyMaterialId"].as_str(), now.as_deref());
    assert_eq!(last["serviceEventDetails"]["rotationType"], "AUTOMATIC");
}
