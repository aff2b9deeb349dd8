//! The shapes of records, against the samples of CloudTrail.

use super::*;

/// The record of an event, without what the log adds for each.
fn record(event: impl Into<AuditEvent>) -> Value {
    let bed = Bed::new();
    let log = bed.open().unwrap();
    log.record(event).unwrap();
    drop(log);
    let mut json = bed.read().0.remove(0).json;
    for (member, expected) in [
        ("eventVersion", json!("1.11")),
        ("eventTime", json!("2023-11-14T22:13:20Z")),
        ("awsRegion", json!("us-east-1")),
        ("recipientAccountId", json!(ACCOUNT)),
        ("managementEvent", json!(true)),
        ("eventCategory", json!("Management")),
    ] {
        assert_eq!(json.as_object_mut().unwrap().remove(member), Some(expected), "{member}");
    }
    assert!(json.as_object_mut().unwrap().remove("previousRecordSha256").is_some());
    let id = json.as_object_mut().unwrap().remove("eventID").unwrap();
    assert!(uuid::Uuid::parse_str(id.as_str().unwrap()).is_ok());
    json
}

fn remote(principal: Principal) -> Caller {
    Caller {
        principal,
        via_service: None,
        source: CallSource {
            ip: Some("::ffff:192.0.2.7".parse().unwrap()),
            user_agent: Some("aws-cli/2.0".to_owned()),
            tls: Some(TlsDetails {
                version: "TLSv1.3".to_owned(),
                cipher_suite: "TLS_AES_256_GCM_SHA384".to_owned(),
                host: "kms.us-east-1.amazonaws.com".to_owned(),
            }),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            request_id: None,
        },
    }
}

fn parameters(json: &Value) -> Parameters {
    Parameters::of_body(json.to_string().as_bytes())
}

#[test]
fn a_call_from_inside_names_the_role_and_coffer() {
    let caller = Caller::internal(Principal::data(), Some("cassandra.x".to_owned()));
    let asked = parameters(&json!({"KeyId": KEY, "KeySpec": "AES_256",
        "EncryptionContext": {"aws:cassandra:tableName": "T"}, "GrantTokens": ["token"]}));
    let answer = parameters(&json!({"KeyId": KEY, "KeyMaterialId": "ab", "Plaintext": "c2VjcmV0",
        "CiphertextBlob": "YmxvYg=="}));
    let keys = [KEY.to_owned()];
    let json = record(call("GenerateDataKey", &caller, &asked, Ok(&answer), &keys));
    let role = "arn:aws:iam::111122223333:role/coffer-data";
    let id = json["userIdentity"]["sessionContext"]["sessionIssuer"]["principalId"].clone();
    let id = id.as_str().unwrap();
    assert!(id.starts_with("AROA") && id.len() == 21, "{id}");
    let expected = json!({
        "userIdentity": {
            "type": "AssumedRole", "principalId": format!("{id}:coffer-data"),
            "arn": "arn:aws:sts::111122223333:assumed-role/coffer-data/coffer-data",
            "accountId": ACCOUNT, "invokedBy": "coffer.internal",
            "sessionContext": {"sessionIssuer": {"type": "Role", "principalId": id, "arn": role,
                "accountId": ACCOUNT, "userName": "coffer-data"}}},
        "eventSource": "kms.amazonaws.com", "eventName": "GenerateDataKey",
        "sourceIPAddress": "coffer.internal", "userAgent": "coffer.internal",
        "requestParameters": {"keyId": KEY, "keySpec": "AES_256",
            "encryptionContext": {"aws:cassandra:tableName": "T"}},
        "responseElements": null, "additionalEventData": {"keyMaterialId": "ab"},
        "requestID": "5e8e9cb5-9194-4334-aacc-9dd7d50fe246", "readOnly": true,
        "resources": [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": KEY}],
        "eventType": "AwsApiCall"});
    assert_eq!(json, expected);
}

#[test]
fn a_user_over_tls_makes_a_grant() {
    let caller = remote(Principal::User { name: "admin".to_owned() });
    let asked = parameters(&json!({"KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
        "Operations": ["Decrypt"], "GranteePrincipal": "arn:aws:iam::111122223333:role/R",
        "Constraints": {"EncryptionContextSubset": {"AppName": "x"}}, "Name": "n"}));
    let answer = parameters(&json!({"GrantId": "18e4", "GrantToken": "AQpA"}));
    let keys = [KEY.to_owned()];
    let json = record(call("CreateGrant", &caller, &asked, Ok(&answer), &keys));
    assert_eq!(json["readOnly"], false);
    assert_eq!(json["responseElements"], json!({"grantId": "18e4", "keyId": KEY}));
    assert_eq!(
        json["requestParameters"]["constraints"],
        json!({"encryptionContextSubset": {"AppName": "x"}})
    );
    let user = &json["userIdentity"];
    assert_eq!((&user["type"], &user["userName"]), (&json!("IAMUser"), &json!("admin")));
    assert_eq!(user["accessKeyId"], "AKIAIOSFODNN7EXAMPLE");
    assert_eq!(user.get("invokedBy"), None);
    assert_eq!(
        (&json["sourceIPAddress"], &json["userAgent"]),
        (&json!("192.0.2.7"), &json!("aws-cli/2.0"))
    );
    assert_eq!(
        json["tlsDetails"],
        json!({"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_256_GCM_SHA384",
            "clientProvidedHostHeader": "kms.us-east-1.amazonaws.com"})
    );
}

#[test]
fn a_refused_call_carries_code_and_message() {
    let caller = remote(Principal::Root);
    let asked = parameters(&json!({"CiphertextBlob": "AAAA"}));
    let error = KmsException::new("IncorrectKeyException", "The key ID is wrong");
    let json = record(call("Decrypt", &caller, &asked, Err(&error), &[]));
    assert_eq!(json["errorCode"], "IncorrectKeyException");
    assert_eq!(json["errorMessage"], "The key ID is wrong");
    assert_eq!(json["requestParameters"], json!({"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}));
    assert_eq!((json["responseElements"].clone(), json.get("resources")), (Value::Null, None));
    assert_eq!(json["userIdentity"]["type"], "Root");
}

#[test]
fn each_change_tells_what_came_of_it() {
    let caller = remote(Principal::Root);
    let keys = [KEY.to_owned()];
    for (operation, asked, answer, expected_parameters, expected_elements) in [
        (
            "DisableKey",
            json!({"KeyId": "k"}),
            json!({}),
            json!({"keyId": "k"}),
            json!({"keyId": KEY}),
        ),
        (
            "ScheduleKeyDeletion",
            json!({"KeyId": "k"}),
            json!({"KeyId": KEY, "DeletionDate": 1_618_253_910.5, "KeyState": "PendingDeletion",
                "PendingWindowInDays": 30}),
            json!({"keyId": "k", "pendingWindowInDays": 30}),
            json!({"keyId": KEY, "deletionDate": "Apr 12, 2021, 6:58:30 PM",
                "keyState": "PendingDeletion", "pendingWindowInDays": 30}),
        ),
        ("RetireGrant", json!({"KeyId": KEY, "GrantId": "g"}), json!({}), Value::Null, Value::Null),
        (
            "RevokeGrant",
            json!({"KeyId": "k", "GrantId": "g"}),
            json!({}),
            json!({"keyId": "k", "grantId": "g"}),
            json!({"keyId": KEY}),
        ),
        (
            "TagResource",
            json!({"KeyId": "k", "Tags": [{"TagKey": "a", "TagValue": "b"}]}),
            json!({}),
            json!({"keyId": "k", "tags": [{"tagKey": "a", "tagValue": "b"}]}),
            json!({"keyId": KEY}),
        ),
        (
            "CreateKey",
            json!({"Description": "", "Policy": "{}"}),
            json!({"KeyMetadata": {"AWSAccountId": "1", "Arn": KEY}}),
            json!({"policy": "{}"}),
            json!({"keyMetadata": {"awsAccountId": "1", "arn": KEY}}),
        ),
        (
            "ImportKeyMaterial",
            json!({"KeyId": "k", "EncryptedKeyMaterial": "QUJD", "ImportToken": "QUJD"}),
            json!({"KeyId": KEY, "KeyMaterialId": "m"}),
            json!({"keyId": "k"}),
            json!({"keyId": KEY, "keyMaterialId": "m"}),
        ),
    ] {
        let (asked, answer) = (parameters(&asked), parameters(&answer));
        let json = record(call(operation, &caller, &asked, Ok(&answer), &keys));
        assert_eq!(json["requestParameters"], expected_parameters, "{operation}");
        assert_eq!(json["responseElements"], expected_elements, "{operation}");
        assert_eq!(json["readOnly"], false, "{operation}");
    }
}

#[test]
fn a_re_encrypt_names_both_keys_and_materials() {
    let caller = remote(Principal::Root);
    let asked = parameters(&json!({"DestinationKeyId": "d", "CiphertextBlob": "AAAA",
        "SourceEncryptionContext": {"A": "1"}, "DestinationEncryptionContext": {"B": "2"}}));
    let answer = parameters(&json!({"SourceKeyMaterialId": "s", "DestinationKeyMaterialId": "t"}));
    let keys = ["arn:source".to_owned(), "arn:destination".to_owned()];
    let json = record(call("ReEncrypt", &caller, &asked, Ok(&answer), &keys));
    let algorithm = "SYMMETRIC_DEFAULT";
    assert_eq!(
        json["requestParameters"],
        json!({"destinationKeyId": "d", "sourceEncryptionContext": {"A": "1"},
            "destinationEncryptionContext": {"B": "2"}, "sourceEncryptionAlgorithm": algorithm,
            "destinationEncryptionAlgorithm": algorithm})
    );
    assert_eq!(
        json["additionalEventData"],
        json!({"sourceKeyMaterialId": "s", "destinationKeyMaterialId": "t"})
    );
    assert_eq!(json["resources"][0]["ARN"], "arn:source");
    assert_eq!(json["resources"][1]["ARN"], "arn:destination");
}

#[test]
fn the_service_itself_rotates_and_deletes() {
    let json = record(change("DeleteKey"));
    assert_eq!(json["eventType"], "AwsServiceEvent");
    assert_eq!(json["userIdentity"], json!({"accountId": ACCOUNT, "invokedBy": "AWS Internal"}));
    assert_eq!((&json["requestParameters"], json.get("requestID")), (&Value::Null, None));
    assert_eq!(json["responseElements"], json!({"keyId": KEY}));
    let mut rotation = change("RotateKey");
    rotation.details.insert("rotationType".to_owned(), json!("AUTOMATIC"));
    let json = record(rotation);
    assert_eq!(json["serviceEventDetails"], json!({"rotationType": "AUTOMATIC"}));
}

#[test]
fn a_statement_of_the_database_is_recorded_as_keyspaces_does() {
    let json = record(DatabaseEvent {
        name: "CreateTable",
        account: ACCOUNT,
        region: "us-east-1",
        user: None,
        address: Some("192.0.2.9".parse().unwrap()),
        protocol_version: 5,
        raw_query: "CREATE TABLE my_keyspace.my_table (a int PRIMARY KEY)",
        keyspace: "my_keyspace",
        table: Some("my_table"),
        ..DatabaseEvent::default()
    });
    assert_eq!(json["eventSource"], "cassandra.amazonaws.com");
    assert_eq!(json["userAgent"], "Cassandra Client/ProtocolV5");
    assert_eq!((&json["apiVersion"], &json["eventType"]), (&json!("3.4.4"), &json!("AwsApiCall")));
    assert_eq!(
        json["requestParameters"],
        json!({"rawQuery": "CREATE TABLE my_keyspace.my_table (a int PRIMARY KEY)",
            "keyspaceName": "my_keyspace", "tableName": "my_table"})
    );
    assert_eq!(
        json["resources"],
        json!([{"accountId": ACCOUNT, "type": "AWS::Cassandra::Table",
            "ARN": "arn:aws:cassandra:us-east-1:111122223333:/keyspace/my_keyspace/table/my_table"}])
    );
}

#[test]
fn what_is_done_to_a_table_without_a_statement_has_its_own_parameters() {
    let parameters = json!({"cause": "key_loss"});
    let json = record(DatabaseEvent {
        name: "DropTable",
        account: ACCOUNT,
        region: "us-east-1",
        keyspace: "shop",
        table: Some("orders"),
        key_arn: Some(KEY),
        parameters: parameters.as_object().unwrap().clone(),
        ..DatabaseEvent::default()
    });
    assert_eq!(
        json["requestParameters"],
        json!({"cause": "key_loss", "keyspaceName": "shop", "tableName": "orders"})
    );
    assert_eq!(json["userIdentity"]["invokedBy"], "coffer.internal");
    assert_eq!(json["resources"][1]["ARN"], KEY);
}

#[test]
fn secrets_of_requests_are_never_kept() {
    let request = crate::api::EncryptRequest {
        key_id: "k".to_owned(),
        plaintext: b"canary".as_slice().into(),
        grant_tokens: vec!["token".to_owned()],
        ..crate::api::EncryptRequest::default()
    };
    assert_eq!(*Parameters::of(&request).as_json(), json!({"KeyId": "k"}));
    for body in ["", "[", "[1]", "\"text\"", "{\"Plaintext\":"] {
        assert_eq!(*Parameters::of_body(body.as_bytes()).as_json(), json!({}), "{body}");
    }
}

#[test]
fn changes_are_told_from_reads() {
    for operation in [
        "Encrypt",
        "Decrypt",
        "ReEncrypt",
        "GenerateDataKey",
        "GenerateRandom",
        "DescribeKey",
        "ListGrants",
        "GetKeyPolicy",
        "GetParametersForImport",
    ] {
        assert!(!is_mutating(operation), "{operation}");
    }
    for operation in [
        "CreateKey",
        "CreateGrant",
        "RetireGrant",
        "RevokeGrant",
        "EnableKey",
        "DisableKey",
        "PutKeyPolicy",
        "TagResource",
        "ImportKeyMaterial",
        "RotateKeyOnDemand",
        "ScheduleKeyDeletion",
        "CancelKeyDeletion",
        "UpdateAlias",
        "DeleteAlias",
    ] {
        assert!(is_mutating(operation), "{operation}");
    }
}
