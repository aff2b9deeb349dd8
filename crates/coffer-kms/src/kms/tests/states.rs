//! Every operation on a key in every state answers as AWS's table of key states says.

use super::*;
use serde_json::{Value, json};

const COLUMNS: [&str; 5] = ["Enabled", "Disabled", "PendingDeletion", "PendingImport", "Imported"];

/// `ok`, or the exception: of each state, for keys of this KMS's own material and for imported ones.
/// D `DisabledException`, S `KMSInvalidStateException`, U `UnsupportedOperationException`.
const TABLE: &[(&str, [&str; 5])] = &[
    ("CancelKeyDeletion", ["S", "S", "ok", "S", "S"]),
    ("CreateAlias", ["ok", "ok", "S", "ok", "ok"]),
    ("CreateGrant", ["ok", "D", "S", "S", "ok"]),
    ("Decrypt", ["ok", "D", "S", "S", "ok"]),
    ("DeleteAlias", ["ok", "ok", "ok", "ok", "ok"]),
    ("DeleteImportedKeyMaterial", ["U", "U", "U", "ok", "ok"]),
    ("DescribeKey", ["ok", "ok", "ok", "ok", "ok"]),
    ("DisableKey", ["ok", "ok", "S", "S", "ok"]),
    ("DisableKeyRotation", ["ok", "D", "S", "U", "U"]),
    ("EnableKey", ["ok", "ok", "S", "S", "ok"]),
    ("EnableKeyRotation", ["ok", "D", "S", "U", "U"]),
    ("Encrypt", ["ok", "D", "S", "S", "ok"]),
    ("GenerateDataKey", ["ok", "D", "S", "S", "ok"]),
    ("GenerateDataKeyWithoutPlaintext", ["ok", "D", "S", "S", "ok"]),
    ("GetKeyPolicy", ["ok", "ok", "ok", "ok", "ok"]),
    ("GetKeyRotationStatus", ["ok", "ok", "ok", "U", "U"]),
    ("GetParametersForImport", ["U", "U", "U", "ok", "ok"]),
    ("ListAliases", ["ok", "ok", "ok", "ok", "ok"]),
    ("ListGrants", ["ok", "ok", "ok", "ok", "ok"]),
    ("ListKeyPolicies", ["ok", "ok", "ok", "ok", "ok"]),
    ("ListKeyRotations", ["ok", "ok", "ok", "ok", "ok"]),
    ("ListResourceTags", ["ok", "ok", "ok", "ok", "ok"]),
    ("PutKeyPolicy", ["ok", "ok", "ok", "ok", "ok"]),
    ("ReEncrypt", ["ok", "D", "S", "S", "ok"]),
    ("RetireGrant", ["ok", "ok", "ok", "ok", "ok"]),
    ("RevokeGrant", ["ok", "ok", "ok", "ok", "ok"]),
    ("RotateKeyOnDemand", ["ok", "D", "S", "U", "U"]),
    ("ScheduleKeyDeletion", ["ok", "ok", "S", "ok", "ok"]),
    ("TagResource", ["ok", "ok", "S", "ok", "ok"]),
    ("UntagResource", ["ok", "ok", "S", "ok", "ok"]),
    ("UpdateAlias", ["ok", "ok", "S", "ok", "ok"]),
    ("UpdateKeyDescription", ["ok", "ok", "S", "ok", "ok"]),
];

/// A key in a state, with an alias, a grant and a blob.
struct Subject {
    key: String,
    grant: String,
    blob: Value,
    /// Another key, that encrypts.
    other: String,
}

fn subject(house: &House, state: &str) -> Subject {
    let is_external = matches!(state, "PendingImport" | "Imported");
    let origin = if is_external { "EXTERNAL" } else { "AWS_KMS" };
    let request = CreateKeyRequest { origin: Some(origin.to_owned()), ..Default::default() };
    let key = house.root(&request).unwrap().key_metadata.arn;
    if is_external {
        import::import(house, &key, [5; 32], None).unwrap();
    }
    let blob = house.encrypt(&key, b"x").unwrap().ciphertext_blob;
    let name = format!("alias/{}", key.rsplit('/').next().unwrap());
    house.call("CreateAlias", json!({"AliasName": name, "TargetKeyId": key})).unwrap();
    let grantee = "arn:aws:iam::000000000000:role/r";
    let body = json!({"KeyId": key, "GranteePrincipal": grantee, "Operations": ["Decrypt"]});
    let grant: Value = serde_json::from_str(&house.call("CreateGrant", body).unwrap()).unwrap();
    match state {
        "Disabled" => house.disable(&key),
        "PendingDeletion" => house.schedule_deletion(&key),
        "PendingImport" => {
            house.call("DeleteImportedKeyMaterial", json!({"KeyId": key})).unwrap();
        }
        _ => {}
    }
    let expected = if state == "Imported" { "Enabled" } else { state };
    assert_eq!(house.describe(&key).key_state.to_string(), expected);
    let grant = grant["GrantId"].as_str().unwrap().to_owned();
    Subject { key, grant, blob: serde_json::to_value(&blob).unwrap(), other: house.create() }
}

fn body(operation: &str, subject: &Subject) -> Value {
    let Subject { key, grant, blob, other } = subject;
    let alias = format!("alias/{}", key.rsplit('/').next().unwrap());
    match operation {
        "CreateAlias" => json!({"AliasName": format!("{alias}-2"), "TargetKeyId": key}),
        "DeleteAlias" => json!({"AliasName": alias}),
        "UpdateAlias" => json!({"AliasName": alias, "TargetKeyId": key}),
        "CreateGrant" => json!({"KeyId": key, "Operations": ["Decrypt"],
            "GranteePrincipal": "arn:aws:iam::000000000000:role/r"}),
        "Decrypt" => json!({"CiphertextBlob": blob}),
        "ReEncrypt" => json!({"CiphertextBlob": blob, "DestinationKeyId": other}),
        "Encrypt" => json!({"KeyId": key, "Plaintext": "eA=="}),
        "GenerateDataKey" | "GenerateDataKeyWithoutPlaintext" => {
            json!({"KeyId": key, "KeySpec": "AES_256"})
        }
        "GetParametersForImport" => json!({"KeyId": key, "WrappingKeySpec": "RSA_2048",
            "WrappingAlgorithm": "RSAES_OAEP_SHA_256"}),
        "PutKeyPolicy" => {
            json!({"KeyId": key, "Policy": operations::default_key_policy("000000000000")})
        }
        "RetireGrant" | "RevokeGrant" => json!({"KeyId": key, "GrantId": grant}),
        "TagResource" => json!({"KeyId": key, "Tags": [{"TagKey": "a", "TagValue": "b"}]}),
        "UntagResource" => json!({"KeyId": key, "TagKeys": ["a"]}),
        "UpdateKeyDescription" => json!({"KeyId": key, "Description": "d"}),
        _ => json!({"KeyId": key}),
    }
}

#[test]
fn every_operation_answers_by_the_state_of_the_key() {
    let house = new_house();
    let mut complaints = Vec::new();
    for (operation, row) in TABLE {
        for (state, expected) in COLUMNS.iter().zip(row) {
            let subject = subject(&house, state);
            let answer = house.call(operation, body(operation, &subject));
            let found = match &answer {
                Ok(_) => "ok",
                Err(error) => match error.name() {
                    "DisabledException" => "D",
                    "KMSInvalidStateException" => "S",
                    "UnsupportedOperationException" => "U",
                    other => other,
                },
            };
            if found != *expected {
                complaints.push(format!("{operation} {state}: {found} instead of {expected}"));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_texts_name_the_key_and_its_state() {
    let house = new_house();
    for (state, text) in [
        ("Disabled", " is disabled."),
        ("PendingDeletion", " is pending deletion."),
        (
            "PendingImport",
            " is pending import because no key material has ever been imported or \
          one of the imported key materials is deleted or expired.",
        ),
    ] {
        let subject = subject(&house, state);
        let error = house.encrypt(&subject.key, b"x").err().expect("refused");
        assert_eq!(error.message(), format!("{}{text}", subject.key));
    }
    let subject = subject(&house, "Enabled");
    let error = house.call("CancelKeyDeletion", json!({"KeyId": subject.key}));
    let message = assert_refused(error, "KMSInvalidStateException");
    assert_eq!(message, format!("{} is not pending deletion.", subject.key));
}

#[test]
fn a_deletion_that_is_called_off_leaves_the_key_disabled() {
    let house = new_house();
    let key = house.create();
    house.schedule_deletion(&key);
    house.call("CancelKeyDeletion", json!({"KeyId": key})).unwrap();
    assert_eq!(house.describe(&key).key_state, KeyState::Disabled);
    house.call("EnableKey", json!({"KeyId": key})).unwrap();
    house.encrypt(&key, b"x").unwrap();
}
