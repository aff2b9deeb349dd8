//! Policies that must be refused, each with a text that names why.

use super::*;

fn refusal(policy: &str, kind: DocumentKind) -> String {
    Document::parse(policy, kind).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn what_is_not_evaluated_is_refused_by_name() {
    let condition = |condition: Value| json!({"Condition": condition});
    for (change, named) in [
        (json!({"Version": "2012-10-18"}), "2012-10-18"),
        (json!({"Comment": "x"}), "Comment"),
        (json!({"Id": 1}), "Id"),
    ] {
        let mut policy = statement("Allow", json!("*"), json!("kms:*"), json!({}));
        policy.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let text = refusal(&policy.to_string(), DocumentKind::Key);
        assert!(text.contains(named), "{policy}: {text}");
    }
    for (change, named) in [
        (json!({"Efect": "Allow"}), "Efect"),
        (json!({"Effect": "allow"}), "allow"),
        (json!({"NotPrincipal": {"AWS": LEAD}}), "NotPrincipal"),
        (json!({"Action": "kms:Decrpyt"}), "kms:Decrpyt"),
        (json!({"Action": []}), "Action"),
        (json!({"Action": "Decrypt"}), "Decrypt"),
        (json!({"Action": "kms:"}), "kms:"),
        (json!({"Action": 1}), "Action"),
        (json!({"NotAction": "kms:Encrypt"}), "NotAction"),
        (json!({"Resource": "key/1"}), "key/1"),
        (json!({"Resource": "arn:aws:kms:*:*:key/${aws:username}"}), "${aws:username}"),
        (json!({"NotResource": "*"}), "NotResource"),
        (json!({"Principal": "arn:aws:iam::111122223333:root"}), "Principal"),
        (json!({"Principal": {"AWS": "arn:aws:iam::111122223333:user/a*"}}), "user/a*"),
        (json!({"Principal": {"AWS": "arn:aws:iam::111122223333:group/g"}}), "group/g"),
        (json!({"Principal": {"AWS": "arn:aws:iam::1234:root"}}), "1234"),
        (json!({"Principal": {"AWS": "AIDAQ3EGTZEXAMPLE"}}), "AIDAQ3EGTZEXAMPLE"),
        (json!({"Principal": {"Federated": "cognito-identity.amazonaws.com"}}), "Federated"),
        (json!({"Principal": {"CanonicalUser": "79a59d"}}), "CanonicalUser"),
        (json!({"Principal": {"Service": "*"}}), "Service"),
        (json!({"Principal": {}}), "Principal"),
        (json!({"Sid": 7}), "Sid"),
        (json!({"Condition": "x"}), "Condition"),
        (condition(json!({"StringMatches": {"kms:ViaService": "a"}})), "StringMatches"),
        (condition(json!({"ForSomeValues:StringEquals": {"kms:ViaService": "a"}})), "ForSome"),
        (condition(json!({"BinaryEquals": {"kms:ViaService": "a"}})), "BinaryEquals"),
        (condition(json!({"NullIfExists": {"kms:ViaService": "true"}})), "NullIfExists"),
        (condition(json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}})), "aws:PrincipalOrgID"),
        (condition(json!({"StringEquals": {"aws:ResourceTag/a": "b"}})), "aws:ResourceTag/a"),
        (condition(json!({"StringEquals": {"kms:EncryptionContext:": "b"}})), "kms:Encryption"),
        (condition(json!({"StringEquals": {"kms:ViaServices": "b"}})), "kms:ViaServices"),
        (condition(json!({"StringEquals": {"kms:ViaService": "${aws:userid}"}})), "${aws:userid}"),
        (condition(json!({"StringEquals": {"kms:ViaService": []}})), "kms:ViaService"),
        (condition(json!({"StringEquals": {"kms:ViaService": {"a": 1}}})), "kms:ViaService"),
        (condition(json!({"StringEquals": {}})), "StringEquals"),
        (condition(json!({"StringEquals": {"kms:GrantOperations": "Decrypt"}})), "ForAllValues"),
        (condition(json!({"Bool": {"aws:SecureTransport": "yes"}})), "yes"),
        (condition(json!({"Null": {"kms:ViaService": ["true", "false"]}})), "one value"),
        (condition(json!({"StringEquals": {"aws:SourceIp": "1.2.3.4"}})), "aws:SourceIp"),
        (condition(json!({"IpAddress": {"aws:SourceIp": "1.2.3.4/40"}})), "1.2.3.4/40"),
        (condition(json!({"DateLessThan": {"aws:CurrentTime": "soon"}})), "soon"),
        (condition(json!({"ArnLike": {"aws:PrincipalArn": "*"}})), "\"*\""),
        (condition(json!({"NumericEquals": {"kms:RotationPeriodInDays": "1e3"}})), "1e3"),
    ] {
        let mut policy = statement("Allow", json!({"AWS": LEAD}), json!("kms:*"), json!({}));
        let members = policy["Statement"].as_object_mut().unwrap();
        members.extend(change.as_object().unwrap().clone());
        let text = refusal(&policy.to_string(), DocumentKind::Key);
        assert!(text.contains(named), "{change}: {text:?}");
    }
}

#[test]
fn what_is_missing_is_refused_by_name() {
    for element in ["Effect", "Principal", "Action", "Resource"] {
        let mut policy = statement("Allow", json!({"AWS": LEAD}), json!("kms:*"), json!({}));
        policy["Statement"].as_object_mut().unwrap().remove(element);
        let text = refusal(&policy.to_string(), DocumentKind::Key);
        assert_eq!(text, format!("A statement has no {element}"));
    }
    for policy in ["", "{", "[]", "{}", r#"{"Statement": []}"#, r#"{"Statement": "x"}"#, "\"\""] {
        assert_ne!(refusal(policy, DocumentKind::Key), "", "{policy}");
    }
}

#[test]
fn members_that_stand_twice_are_refused() {
    let text = |condition: &str| {
        format!(
            r#"{{"Statement": {{"Effect": "Allow", "Principal": "*", "Action": "kms:*",
                "Resource": "*", "Condition": {condition}}}}}"#
        )
    };
    let twice = [
        text(r#"{"Bool": {"aws:SecureTransport": "true"}, "Bool": {}}"#),
        text(r#"{"StringEquals": {"kms:ViaService": "a", "KMS:VIASERVICE": "b"}}"#),
        text("{}").replace(r#""Effect": "Allow""#, r#""Effect": "Allow", "Effect": "Deny""#),
    ];
    for policy in twice {
        assert!(refusal(&policy, DocumentKind::Key).contains("twice"), "{policy}");
    }
    let sids = json!({"Statement": [
        {"Sid": "a b", "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"},
        {"Sid": "a b", "Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}]});
    assert!(refusal(&sids.to_string(), DocumentKind::Key).contains("\"a b\" stands twice"));
    let different = sids.to_string().replacen("a b", "c d", 1);
    assert_eq!(refusal(&different, DocumentKind::Key), "");
}

#[test]
fn identity_policies_name_no_principal_and_not_principal_never_allows() {
    let policy = statement("Allow", json!("*"), json!("kms:*"), json!({})).to_string();
    assert!(refusal(&policy, DocumentKind::Identity).contains("Principal"));
    let allow = r#"{"Statement": {"Effect": "Allow", "NotPrincipal": "*", "Action": "kms:*",
        "Resource": "*"}}"#;
    assert!(refusal(allow, DocumentKind::Key).contains("NotPrincipal"));
    assert_eq!(refusal(&allow.replace("Allow", "Deny"), DocumentKind::Key), "");
    let sid = r#"{"Statement": {"Sid": "a b", "Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
    assert!(refusal(sid, DocumentKind::Identity).contains("a b"));
    assert_eq!(refusal(&sid.replace("a b", "ab"), DocumentKind::Identity), "");
}

#[test]
fn a_policy_is_at_most_32_kilobytes() {
    let policy = statement("Allow", json!("*"), json!("kms:*"), json!({})).to_string();
    let padded = |len: usize| policy.clone() + &" ".repeat(len - policy.len());
    assert_eq!(refusal(&padded(POLICY_LEN_MAX), DocumentKind::Key), "");
    assert!(refusal(&padded(POLICY_LEN_MAX + 1), DocumentKind::Key).contains("32768"));
}

#[test]
fn a_variable_is_plain_text_in_the_old_version() {
    let old = r#"{"Version": "2008-10-17", "Statement": {"Effect": "Allow", "Principal": "*",
        "Action": "kms:*", "Resource": "*",
        "Condition": {"StringEquals": {"kms:ViaService": "${aws:userid}"}}}}"#;
    let policy: Value = serde_json::from_str(old).unwrap();
    assert!(ask(LEAD, "kms:Decrypt").via("${aws:userid}").is_allowed(&policy));
    assert!(!ask(LEAD, "kms:Decrypt").via("x").is_allowed(&policy));
}

#[test]
fn deep_and_random_json_is_refused_without_harm() {
    let deep = "[".repeat(20_000);
    assert_ne!(refusal(&deep, DocumentKind::Key), "");
    let policy = statement("Allow", json!({"AWS": LEAD}), json!("kms:*"), json!({})).to_string();
    for at in 0..policy.len() {
        for replacement in ["\"", "{", "\u{0}", "é"] {
            let mut changed = policy.clone();
            changed.replace_range(at..=at, replacement);
            let parsed = Document::parse(&changed, DocumentKind::Key);
            assert!(
                parsed.is_err() || parsed.is_ok_and(|document| document.kind == DocumentKind::Key)
            );
        }
    }
}
