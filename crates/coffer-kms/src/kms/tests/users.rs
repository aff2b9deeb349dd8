//! The account's own access key, and users.

use super::*;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_first_start_writes_the_accounts_access_key() {
    let house = new_house();
    let path = house.path().join("credentials");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(" = ").unwrap().1.to_owned()
    };
    assert!(text.starts_with("# arn:aws:iam::000000000000:root\n[default]\n"), "{text}");
    let house = house.reopened();
    let found = house.kms.secret_key(&value("aws_access_key_id")).unwrap();
    assert_eq!(found.principal, Principal::Root);
    assert_eq!(*found.secret_access_key, value("aws_secret_access_key"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "written once");
}

#[test]
fn a_user_has_what_policies_give_and_goes_when_deleted() {
    let house = new_house();
    let key = house.create();
    let plain = house.kms.create_user("plain", None).unwrap();
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["kms:Encrypt", "kms:ListKeys"], "Resource": "*"}]});
    house.kms.create_user("able", Some(&policy.to_string())).unwrap();
    assert_refused(house.kms.create_user("able", None), "EntityAlreadyExistsException");
    assert_refused(house.kms.create_user("root", None), "ValidationException");
    assert_refused(house.kms.create_user("a/b", None), "ValidationException");
    assert_refused(house.kms.create_user("x", Some("{}")), "MalformedPolicyDocumentException");
    let encrypt = |name: &str| house.encrypt_as(&user(name), &key, b"x", EncryptionContext::new());
    let text = assert_refused(encrypt("plain"), "AccessDeniedException");
    assert!(text.contains("user/plain") && text.contains("kms:Encrypt") && text.contains(&key));
    encrypt("able").unwrap();
    house.kms.perform(&user("able"), &ListKeysRequest::default()).unwrap();
    let listed = house.kms.perform(&user("plain"), &ListKeysRequest::default());
    assert_refused(listed, "AccessDeniedException");
    house.kms.set_user_enabled("plain", false).unwrap();
    let house = house.reopened();
    assert!(!house.kms.secret_key(&plain.access_key_id).unwrap().enabled);
    let names: Vec<String> = house.kms.list_users().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["able", "plain"]);
    house.kms.delete_user("plain").unwrap();
    assert!(house.kms.secret_key(&plain.access_key_id).is_none());
    assert_refused(house.kms.delete_user("plain"), "NoSuchEntityException");
}
