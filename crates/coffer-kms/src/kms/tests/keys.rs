//! Making and using keys: forms of names, exceptions, validation, paging, aliases, tags, policies.

use super::*;
use serde_json::{Value, json};

#[test]
fn what_is_encrypted_decrypts_with_the_same_context_only() {
    let house = new_house();
    let key = house.create();
    let request = GenerateDataKeyRequest {
        key_id: key.clone(),
        key_spec: Some("AES_256".to_owned()),
        encryption_context: context(&[("table", "t")]),
        ..Default::default()
    };
    let made = house.root(&request).unwrap();
    assert_eq!((made.plaintext.len(), &made.key_id), (32, &key));
    let decrypt = |pairs: &[(&str, &str)], key_id: Option<&str>| {
        house.root(&DecryptRequest {
            ciphertext_blob: made.ciphertext_blob.clone(),
            encryption_context: context(pairs),
            key_id: key_id.map(str::to_owned),
            ..Default::default()
        })
    };
    let opened = decrypt(&[("table", "t")], Some(&key)).unwrap();
    assert!(opened.plaintext == made.plaintext);
    assert_eq!(opened.key_material_id, made.key_material_id);
    assert_eq!(assert_refused(decrypt(&[("table", "T")], None), "InvalidCiphertextException"), "");
    assert_refused(decrypt(&[], None), "InvalidCiphertextException");
    let other = house.create();
    assert_refused(decrypt(&[("table", "t")], Some(&other)), "IncorrectKeyException");
}

#[test]
fn a_damaged_or_foreign_blob_is_refused() {
    let house = new_house();
    let key = house.create();
    let blob = house.encrypt(&key, b"secret").unwrap().ciphertext_blob;
    for place in 0..blob.len() {
        let mut changed = blob.to_vec();
        changed[place] ^= 1;
        let error = house.decrypt(&changed.into()).err().expect("refused");
        let names = ["InvalidCiphertextException", "AccessDeniedException"];
        assert!(names.contains(&error.name()), "byte {place}: {error}");
    }
    for len in 1..blob.len() {
        assert!(house.decrypt(&blob[..len].into()).is_err());
    }
}

#[test]
fn a_key_is_found_by_id_arn_alias_and_alias_arn() {
    let house = new_house();
    let arn = house.create();
    let id = arn.rsplit('/').next().unwrap();
    house.call("CreateAlias", json!({"AliasName": "alias/app", "TargetKeyId": id})).unwrap();
    let alias_arn = "arn:aws:kms:us-east-1:000000000000:alias/app";
    for name in [&*arn, id, "alias/app", alias_arn] {
        assert_eq!(house.describe(name).arn, arn, "{name}");
    }
    let text = |name: &str| house.call("DescribeKey", json!({"KeyId": name}));
    for (name, message) in [
        ("alias/none", "Alias arn:aws:kms:us-east-1:000000000000:alias/none is not found."),
        ("none", "Key 'arn:aws:kms:us-east-1:000000000000:key/none' does not exist"),
        (
            "arn:aws:kms:us-east-1:000000000000:key/none",
            "Key 'arn:aws:kms:us-east-1:000000000000:key/none' does not exist",
        ),
        ("arn:aws:kms:eu-west-1:000000000000:key/none", "Invalid arn eu-west-1"),
    ] {
        assert_eq!(assert_refused(text(name), "NotFoundException"), message);
    }
    assert_refused(text("arn:aws:s3:::bucket"), "InvalidArnException");
    assert_refused(house.call("EnableKey", json!({"KeyId": "alias/app"})), "NotFoundException");
}

#[test]
fn aliases_move_and_go_and_never_collide() {
    let house = new_house();
    let (a, b) = (house.create(), house.create());
    house.call("CreateAlias", json!({"AliasName": "alias/x", "TargetKeyId": a})).unwrap();
    let again = house.call("CreateAlias", json!({"AliasName": "alias/x", "TargetKeyId": b}));
    assert_refused(again, "AlreadyExistsException");
    for bad in ["alias/aws/x", "x", "alias/ä", "alias/"] {
        let made = house.call("CreateAlias", json!({"AliasName": bad, "TargetKeyId": a}));
        assert_refused(made, "InvalidAliasNameException");
    }
    house.call("UpdateAlias", json!({"AliasName": "alias/x", "TargetKeyId": b})).unwrap();
    assert_eq!(house.describe("alias/x").arn, b);
    let listed = house.call("ListAliases", json!({"KeyId": b})).unwrap();
    assert!(listed.contains("alias/x"), "{listed}");
    house.call("DeleteAlias", json!({"AliasName": "alias/x"})).unwrap();
    let gone = house.call("DeleteAlias", json!({"AliasName": "alias/x"}));
    assert_refused(gone, "NotFoundException");
}

#[test]
fn keys_that_do_not_encrypt_symmetrically_are_refused_for_it() {
    let house = new_house();
    let make = |spec: &str, usage: &str| {
        let body = json!({"KeySpec": spec, "KeyUsage": usage});
        let made: Value = serde_json::from_str(&house.call("CreateKey", body).unwrap()).unwrap();
        made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
    };
    for (spec, usage) in [
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ("RSA_2048", "SIGN_VERIFY"),
    ] {
        let key = make(spec, usage);
        assert_eq!(
            (house.describe(&key).key_spec, house.describe(&key).key_usage),
            (spec.into(), usage.into())
        );
        let body = json!({"KeyId": key, "KeySpec": "AES_256"});
        assert_refused(house.call("GenerateDataKey", body), "InvalidKeyUsageException");
        assert_refused(house.encrypt(&key, b"x"), "InvalidKeyUsageException");
        let rotation = house.call("EnableKeyRotation", json!({"KeyId": key}));
        assert_refused(rotation, "UnsupportedOperationException");
    }
    let body = json!({"KeySpec": "HMAC_256"});
    assert_refused(house.call("CreateKey", body), "ValidationException");
    let body = json!({"KeySpec": "HMAC_256", "KeyUsage": "ENCRYPT_DECRYPT"});
    assert_refused(house.call("CreateKey", body), "ValidationException");
}

#[test]
fn what_is_asked_wrongly_is_named_as_aws_names_it() {
    let house = new_house();
    let key = house.create();
    let long = "x".repeat(4097);
    let base64 = |text: &str| serde_json::to_value(Blob::from(text.as_bytes())).unwrap();
    for (operation, body, name) in [
        ("Nothing", json!({}), "UnknownOperationException"),
        ("DescribeKey", json!([]), "SerializationException"),
        ("DescribeKey", json!({"KeyId": 7}), "SerializationException"),
        ("Encrypt", json!({"KeyId": key, "Plaintext": "not base64"}), "SerializationException"),
        ("DescribeKey", json!({}), "ValidationException"),
        ("Encrypt", json!({"KeyId": key, "Plaintext": base64(&long)}), "ValidationException"),
        ("Encrypt", json!({"KeyId": key, "Plaintext": ""}), "ValidationException"),
        ("GenerateDataKey", json!({"KeyId": key}), "ValidationException"),
        ("GenerateDataKey", json!({"KeyId": key, "KeySpec": "AES_512"}), "ValidationException"),
        ("GenerateDataKey", json!({"KeyId": key, "NumberOfBytes": 1025}), "ValidationException"),
        (
            "ScheduleKeyDeletion",
            json!({"KeyId": key, "PendingWindowInDays": 6}),
            "ValidationException",
        ),
        ("GenerateRandom", json!({}), "ValidationException"),
        ("PutKeyPolicy", json!({"KeyId": key, "Policy": "{"}), "MalformedPolicyDocumentException"),
        ("CreateKey", json!({"MultiRegion": true}), "UnsupportedOperationException"),
        ("CreateKey", json!({"Origin": "AWS_CLOUDHSM"}), "CustomKeyStoreNotFoundException"),
        (
            "TagResource",
            json!({"KeyId": key, "Tags": [{"TagKey": "aws:x", "TagValue": ""}]}),
            "TagException",
        ),
        ("ListKeys", json!({"Limit": 1001}), "ValidationException"),
        ("ListKeys", json!({"Marker": "x"}), "InvalidMarkerException"),
    ] {
        assert_refused(house.call(operation, body), name);
    }
}

#[test]
fn a_dry_run_says_that_it_would_succeed_or_why_not() {
    let house = new_house();
    let key = house.create();
    let body = json!({"KeyId": key, "KeySpec": "AES_256", "DryRun": true});
    assert_refused(house.call("GenerateDataKey", body.clone()), "DryRunOperationException");
    house.disable(&key);
    assert_refused(house.call("GenerateDataKey", body), "DisabledException");
}

#[test]
fn lists_come_in_pages() {
    let house = new_house();
    let mut keys: Vec<String> = (0..7).map(|_| house.create()).collect();
    keys.sort_unstable();
    let mut seen = Vec::new();
    let mut marker = None;
    loop {
        let page = house.root(&ListKeysRequest { limit: Some(3), marker }).unwrap();
        assert_eq!(page.truncated, page.next_marker.is_some());
        seen.extend(page.keys.into_iter().map(|key| key.key_arn));
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, keys);
}

#[test]
fn a_policy_that_locks_its_author_out_is_refused_unless_asked_for() {
    let house = new_house();
    let key = house.create();
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::000000000000:user/ann"}, "Action": "kms:*", "Resource": "*"}]});
    let put = |bypass: bool| {
        let body = json!({"KeyId": key, "PolicyName": "default", "Policy": policy.to_string(),
            "BypassPolicyLockoutSafetyCheck": bypass});
        house.call("PutKeyPolicy", body)
    };
    let message = assert_refused(put(false), "MalformedPolicyDocumentException");
    assert!(message.contains("will not allow you to update"), "{message}");
    put(true).unwrap();
    let message = assert_refused(house.encrypt(&key, b"x"), "AccessDeniedException");
    assert_eq!(
        message,
        format!(
            "User: arn:aws:iam::000000000000:root is not authorized to perform: kms:Encrypt on \
             resource: {key} because no resource-based policy allows the kms:Encrypt action"
        )
    );
    house.kms.create_user("ann", None).unwrap();
    house.encrypt_as(&user("ann"), &key, b"x", EncryptionContext::new()).unwrap();
}

#[test]
fn the_policy_for_calls_through_a_service_lets_those_through_only() {
    let house = new_house();
    let key = house.create();
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:role/coffer-data"},
         "Action": ["kms:Encrypt"], "Resource": "*",
         "Condition": {"StringLike": {"kms:ViaService": "cassandra.*.amazonaws.com"},
                       "StringEquals": {"kms:EncryptionContext:t": "1"}}}]});
    house.call("PutKeyPolicy", json!({"KeyId": key, "Policy": policy.to_string()})).unwrap();
    let via = |service: Option<&str>, pairs: &[(&str, &str)]| {
        let caller = Caller::internal(Principal::data(), service.map(str::to_owned));
        house.encrypt_as(&caller, &key, b"x", context(pairs))
    };
    let service = Some("cassandra.us-east-1.amazonaws.com");
    via(service, &[("t", "1")]).unwrap();
    assert_refused(via(service, &[("t", "2")]), "AccessDeniedException");
    assert_refused(via(None, &[("t", "1")]), "AccessDeniedException");
}

#[test]
fn re_encrypt_moves_a_blob_to_another_key_and_context() {
    let house = new_house();
    let (a, b) = (house.create(), house.create());
    let blob = house.encrypt(&a, b"secret").unwrap().ciphertext_blob;
    let request = ReEncryptRequest {
        ciphertext_blob: blob,
        source_key_id: Some(a.clone()),
        destination_key_id: b.clone(),
        destination_encryption_context: context(&[("c", "d")]),
        ..Default::default()
    };
    let moved = house.root(&request).unwrap();
    assert_eq!((&moved.source_key_id, &moved.key_id), (&a, &b));
    house.disable(&a);
    let opened = house.root(&DecryptRequest {
        ciphertext_blob: moved.ciphertext_blob,
        encryption_context: context(&[("c", "d")]),
        ..Default::default()
    });
    assert_eq!(&*opened.unwrap().plaintext, b"secret");
    let wrong = ReEncryptRequest { source_key_id: Some(b), ..request };
    assert_refused(house.root(&wrong), "IncorrectKeyException");
}
