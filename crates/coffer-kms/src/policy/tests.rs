//! Decision tables of policies: the documented samples, each rule of IAM, each refusal.

use super::*;
use serde_json::{Value, json};

mod refusals;

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ROOT: &str = "arn:aws:iam::111122223333:root";
const LEAD: &str = "arn:aws:iam::111122223333:user/db-lead";
const TEAM: &str = "arn:aws:iam::111122223333:role/db-team";
const COFFER: &str = "arn:aws:iam::111122223333:role/Coffer";
const NOW: i64 = 1_790_000_000_000;

/// One line of a decision table.
struct Ask<'a> {
    who: &'a str,
    via: Option<&'a str>,
    action: &'a str,
    parameters: Value,
}

fn ask<'a>(who: &'a str, action: &'a str) -> Ask<'a> {
    Ask { who, via: None, action, parameters: json!({}) }
}

impl<'a> Ask<'a> {
    fn via(mut self, service: &'a str) -> Self {
        self.via = Some(service);
        self
    }

    fn with(mut self, parameters: Value) -> Self {
        self.parameters = parameters;
        self
    }

    fn decide(&self, key_policy: &Value, identity_policy: Option<&Value>) -> Decision {
        let parse = |policy: &Value, kind| Document::parse(&policy.to_string(), kind).unwrap();
        let requester = Requester::parse(self.who).unwrap();
        let address = Some(("203.0.113.9".parse().unwrap(), true));
        let mut context = Context::of_caller(&requester, self.via, address, NOW);
        context.add_request(self.action, &self.parameters);
        context.add_key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "AWS_KMS", false);
        authorize(
            &Request {
                requester: &requester,
                action: self.action,
                resource_arn: KEY,
                context: &context,
            },
            Some(&parse(key_policy, DocumentKind::Key)),
            identity_policy.map(|policy| parse(policy, DocumentKind::Identity)).as_ref(),
        )
    }

    fn is_allowed(&self, key_policy: &Value) -> bool {
        self.decide(key_policy, None).is_allowed()
    }
}

fn statement(effect: &str, principal: Value, action: Value, condition: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": {
        "Effect": effect, "Principal": principal, "Action": action, "Resource": "*",
        "Condition": condition,
    }})
}

/// Whether `role/Coffer` may decrypt under `condition`.
fn holds(condition: Value, ask: &Ask<'_>) -> bool {
    ask.is_allowed(&statement("Allow", json!({"AWS": COFFER}), json!("kms:*"), condition))
}

#[test]
fn the_documented_policy_of_keyspaces_decides_as_documented() {
    let policy = json!({"Id": "key-policy-cassandra", "Version": "2012-10-17", "Statement": [
        {"Sid": "Allow access through Amazon Keyspaces for all principals in the account that are \
                 authorized to use Amazon Keyspaces",
         "Effect": "Allow", "Principal": {"AWS": LEAD},
         "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*",
                    "kms:DescribeKey", "kms:CreateGrant"],
         "Resource": "*",
         "Condition": {"StringLike": {"kms:ViaService": "cassandra.*.amazonaws.com"}}},
        {"Sid": "Allow administrators to view the customer managed key and revoke grants",
         "Effect": "Allow", "Principal": {"AWS": TEAM},
         "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
         "Resource": "*"},
        {"Sid": "Allow Keyspaces to describe the key directly", "Effect": "Allow",
         "Principal": {"Service": "cassandra.amazonaws.com"},
         "Action": ["kms:Describe*", "kms:Get*", "kms:List*"], "Resource": "*"}]});
    let service = "cassandra.us-east-1.amazonaws.com";
    for action in [
        "Encrypt",
        "Decrypt",
        "ReEncryptFrom",
        "ReEncryptTo",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "DescribeKey",
        "CreateGrant",
    ] {
        let action = format!("kms:{action}");
        assert!(ask(LEAD, &action).via(service).is_allowed(&policy), "{action}");
        assert!(!ask(LEAD, &action).is_allowed(&policy), "{action} not through the service");
        let other = "dynamodb.us-east-1.amazonaws.com";
        assert!(!ask(LEAD, &action).via(other).is_allowed(&policy), "{action} elsewhere");
        assert!(!ask(TEAM, "kms:Decrypt").via(service).is_allowed(&policy));
    }
    assert!(ask(TEAM, "kms:ListGrants").is_allowed(&policy));
    assert!(ask(TEAM, "kms:RevokeGrant").is_allowed(&policy));
    assert!(!ask(TEAM, "kms:CreateGrant").is_allowed(&policy));
    assert!(!ask(LEAD, "kms:DisableKey").via(service).is_allowed(&policy));
    assert!(!ask(ROOT, "kms:PutKeyPolicy").is_allowed(&policy), "the account is not named");
    assert!(ask("cassandra.amazonaws.com", "kms:DescribeKey").is_allowed(&policy));
    assert!(!ask("dynamodb.amazonaws.com", "kms:DescribeKey").is_allowed(&policy));
    assert!(!ask(LEAD, "kms:ListGrants").is_allowed(&policy), "a service is no user");
}

#[test]
fn the_policy_for_coffer_decides_as_documented() {
    let policy = json!({"Version": "2012-10-17", "Id": "key-policy-coffer", "Statement": [
        {"Sid": "RootForAdministration", "Effect": "Allow", "Principal": {"AWS": ROOT},
         "Action": "kms:*", "Resource": "*"},
        {"Sid": "CofferUsesKeyForItsTables", "Effect": "Allow", "Principal": {"AWS": COFFER},
         "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"],
         "Resource": "*", "Condition": {
            "StringEquals":
                {"kms:EncryptionContext:aws:cassandra:subscriberId": "111122223333"},
            "Null": {"kms:EncryptionContext:aws:cassandra:tableName": "false"}}},
        {"Sid": "CofferDescribesKey", "Effect": "Allow", "Principal": {"AWS": COFFER},
         "Action": "kms:DescribeKey", "Resource": "*"},
        {"Sid": "CofferCreatesConstrainedGrantsToItself", "Effect": "Allow",
         "Principal": {"AWS": COFFER}, "Action": "kms:CreateGrant", "Resource": "*",
         "Condition": {"StringEquals": {"kms:GranteePrincipal": COFFER,
            "kms:GrantConstraintType": "EncryptionContextSubset"}}}]});
    let table = json!({"aws:cassandra:keyspaceName": "my_keyspace",
        "aws:cassandra:tableName": "my_table", "aws:cassandra:subscriberId": "111122223333"});
    let decrypt = |context: &Value| {
        ask(COFFER, "kms:Decrypt").with(json!({"EncryptionContext": context})).is_allowed(&policy)
    };
    assert!(decrypt(&table));
    let mut other = table.clone();
    other["aws:cassandra:subscriberId"] = json!("999");
    assert!(!decrypt(&other));
    other = table.clone();
    other.as_object_mut().unwrap().remove("aws:cassandra:tableName");
    assert!(!decrypt(&other));
    let both = json!({"SourceEncryptionContext": table, "DestinationEncryptionContext": {}});
    assert!(ask(COFFER, "kms:ReEncryptFrom").with(both.clone()).is_allowed(&policy));
    assert!(!ask(COFFER, "kms:ReEncryptTo").with(both).is_allowed(&policy));
    let grant = |grantee: &str, kind: &str| {
        let parameters = json!({"GranteePrincipal": grantee, "Operations": ["Decrypt"],
            "Constraints": {kind: {"a": "b"}}});
        ask(COFFER, "kms:CreateGrant").with(parameters).is_allowed(&policy)
    };
    assert!(grant(COFFER, "EncryptionContextSubset"));
    assert!(!grant(LEAD, "EncryptionContextSubset"));
    assert!(!grant(COFFER, "EncryptionContextEquals"));
    assert!(ask(COFFER, "kms:DescribeKey").is_allowed(&policy));
    assert!(!ask(COFFER, "kms:PutKeyPolicy").is_allowed(&policy));
    assert!(ask(ROOT, "kms:PutKeyPolicy").is_allowed(&policy));
}

#[test]
fn the_samples_of_healthlake_and_healthimaging_decide_as_documented() {
    let health_lake = json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "Allow access to create data stores and do CRUD/search in AWS HealthLake",
         "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/HealthLakeFullAccessRole"},
         "Action": ["kms:DescribeKey", "kms:CreateGrant", "kms:GenerateDataKey", "kms:Decrypt"],
         "Resource": KEY,
         "Condition": {"StringEquals": {"kms:ViaService": "healthlake.amazonaws.com",
                       "kms:CallerAccount": "111122223333"}}}]});
    let role = "arn:aws:iam::111122223333:role/HealthLakeFullAccessRole";
    let session = "arn:aws:sts::111122223333:assumed-role/HealthLakeFullAccessRole/Sampleuser01";
    for who in [role, session] {
        let ask = |via| ask(who, "kms:GenerateDataKey").via(via).is_allowed(&health_lake);
        assert!(ask("healthlake.amazonaws.com"));
        assert!(!ask("healthlake.us-east-1.amazonaws.com"));
    }
    let imaging = json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "Allow access to create data stores", "Effect": "Allow",
         "Principal": {"Service": "medical-imaging.amazonaws.com"},
         "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*",
         "Condition": {"StringEquals": {
            "kms:EncryptionContext:kms-arn": KEY,
            "kms:EncryptionContext:aws:medical-imaging:datastoreId": "datastoreId"}}}]});
    let decrypt = |who, id: &str| {
        let context = json!({"kms-arn": KEY, "aws:medical-imaging:datastoreId": id});
        ask(who, "kms:Decrypt").with(json!({"EncryptionContext": context})).is_allowed(&imaging)
    };
    assert!(decrypt("medical-imaging.amazonaws.com", "datastoreId"));
    assert!(!decrypt("medical-imaging.amazonaws.com", "other"));
    assert!(!decrypt(ROOT, "datastoreId"));
}

#[test]
fn the_default_policy_delegates_to_identity_policies() {
    let key_policy = statement("Allow", json!({"AWS": ROOT}), json!("kms:*"), json!({}));
    let by_number = statement("Allow", json!({"AWS": "111122223333"}), json!("kms:*"), json!({}));
    let identity = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "kms:Decrypt", "Resource": KEY}});
    let elsewhere = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Action": "kms:*", "Resource": "arn:aws:kms:us-east-1:111122223333:key/other"}});
    for policy in [&key_policy, &by_number] {
        assert!(ask(ROOT, "kms:ScheduleKeyDeletion").is_allowed(policy));
        let delegated = Decision::NotAllowed { is_delegated: true };
        assert_eq!(ask(LEAD, "kms:Decrypt").decide(policy, None), delegated);
        assert_eq!(ask(LEAD, "kms:Decrypt").decide(policy, Some(&elsewhere)), delegated);
        assert_eq!(ask(LEAD, "kms:Encrypt").decide(policy, Some(&identity)), delegated);
        assert!(ask(LEAD, "kms:Decrypt").decide(policy, Some(&identity)).is_allowed());
        let stranger = "arn:aws:iam::999999999999:root";
        assert!(!ask(stranger, "kms:Decrypt").is_allowed(policy));
    }
    let undelegated = statement("Allow", json!({"AWS": TEAM}), json!("kms:*"), json!({}));
    let decision = ask(LEAD, "kms:Decrypt").decide(&undelegated, Some(&identity));
    assert_eq!(decision, Decision::NotAllowed { is_delegated: false });
}

#[test]
fn an_explicit_denial_wins_wherever_it_stands() {
    let deny_account = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": [ROOT, LEAD]}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": {"AWS": "111122223333"}, "Action": "kms:Decrypt",
         "Resource": "*"}]});
    let denied = Decision::DeniedExplicitly(DocumentKind::Key);
    for who in [ROOT, LEAD, TEAM] {
        assert_eq!(ask(who, "kms:Decrypt").decide(&deny_account, None), denied, "{who}");
    }
    assert!(ask(LEAD, "kms:Encrypt").is_allowed(&deny_account));
    let open = statement("Allow", json!("*"), json!("kms:*"), json!({}));
    let identity = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny",
        "Action": "kms:Decrypt", "Resource": "*"}]});
    let decision = ask(LEAD, "kms:Decrypt").decide(&open, Some(&identity));
    assert_eq!(decision, Decision::DeniedExplicitly(DocumentKind::Identity));
    assert!(ask(LEAD, "kms:Decrypt").decide(&open, None).is_allowed());
}

#[test]
fn not_principal_denies_everybody_who_is_not_listed_by_each_name() {
    let session = "arn:aws:sts::111122223333:assumed-role/db-team/ann";
    let policy = |names: Value| {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"},
            {"Effect": "Deny", "NotPrincipal": {"AWS": names}, "Action": "kms:Decrypt",
             "Resource": "*"}]})
    };
    for (names, who, is_allowed) in [
        (json!([LEAD, ROOT]), LEAD, true),
        (json!([LEAD]), LEAD, false),
        (json!([LEAD, ROOT]), TEAM, false),
        (json!([LEAD, ROOT]), ROOT, true),
        (json!([TEAM, ROOT]), session, false),
        (json!([TEAM, ROOT, session]), session, true),
        (json!("*"), TEAM, true),
    ] {
        let asked = ask(who, "kms:Decrypt");
        assert_eq!(asked.is_allowed(&policy(names.clone())), is_allowed, "{names} {who}");
    }
}

#[test]
fn actions_and_resources_match_with_wildcards_and_in_the_negative() {
    let policy = |statement: Value| json!({"Version": "2012-10-17", "Statement": [statement]});
    for (member, value, action, is_allowed) in [
        ("Action", json!("*"), "kms:Decrypt", true),
        ("Action", json!("KMS:decrypt"), "kms:Decrypt", true),
        ("Action", json!(["kms:ReEncrypt*"]), "kms:ReEncryptFrom", true),
        ("Action", json!("kms:?ecrypt"), "kms:Decrypt", true),
        ("Action", json!("kms:GenerateDataKey"), "kms:GenerateDataKeyWithoutPlaintext", false),
        ("Action", json!(["s3:GetObject", "kms:Decrypt"]), "kms:Decrypt", true),
        ("NotAction", json!("kms:Decrypt"), "kms:Decrypt", false),
        ("NotAction", json!("kms:Decrypt"), "kms:Encrypt", true),
        ("NotAction", json!(["kms:D*", "kms:E*"]), "kms:Encrypt", false),
    ] {
        let mut statement = json!({"Effect": "Allow", "Principal": {"AWS": LEAD}, "Resource": "*"});
        statement[member] = value.clone();
        let decided = ask(LEAD, action).is_allowed(&policy(statement));
        assert_eq!(decided, is_allowed, "{member} {value} {action}");
    }
    for (member, value, is_allowed) in [
        ("Resource", json!(KEY), true),
        ("Resource", json!("arn:aws:kms:*:111122223333:key/*"), true),
        ("Resource", json!("arn:aws:kms:us-east-1:111122223333:key/other"), false),
        ("NotResource", json!(KEY), false),
        ("NotResource", json!(["arn:aws:kms:us-east-1:111122223333:key/other"]), true),
    ] {
        let mut statement =
            json!({"Effect": "Allow", "Principal": {"AWS": LEAD}, "Action": "kms:*"});
        statement[member] = value.clone();
        let decided = ask(LEAD, "kms:Decrypt").is_allowed(&policy(statement));
        assert_eq!(decided, is_allowed, "{member} {value}");
    }
}

#[test]
fn every_operator_compares_as_documented() {
    let decrypt = ask(COFFER, "kms:Decrypt")
        .via("cassandra.us-east-1.amazonaws.com")
        .with(json!({"EncryptionContext": {"Tenant": "Blue"}}));
    let tenant = "kms:EncryptionContext:tenant";
    let date = "aws:CurrentTime";
    for (operator, key, value, expected) in [
        ("StringEquals", tenant, json!("Blue"), true),
        ("StringEquals", tenant, json!(["Red", "Blue"]), true),
        ("StringEquals", tenant, json!("blue"), false),
        ("StringEquals", tenant, json!("Bl*"), false),
        ("StringNotEquals", tenant, json!("Blue"), false),
        ("StringNotEquals", tenant, json!(["Red", "Blue"]), false),
        ("StringNotEquals", tenant, json!("Red"), true),
        ("StringEqualsIgnoreCase", tenant, json!("BLUE"), true),
        ("StringNotEqualsIgnoreCase", tenant, json!("BLUE"), false),
        ("StringLike", tenant, json!("B?u*"), true),
        ("StringLike", tenant, json!("b*"), false),
        ("StringLike", tenant, json!("${*}"), false),
        ("StringNotLike", tenant, json!("B*"), false),
        ("StringNotLike", tenant, json!("R*"), true),
        ("Null", tenant, json!("false"), true),
        ("Null", tenant, json!(true), false),
        ("Null", "kms:RetiringPrincipal", json!("true"), true),
        ("Bool", "aws:SecureTransport", json!("true"), true),
        ("Bool", "aws:SecureTransport", json!(false), false),
        ("Bool", "kms:MultiRegion", json!("False"), true),
        ("Bool", "aws:ViaAWSService", json!("true"), true),
        ("ArnEquals", "aws:PrincipalArn", json!("arn:aws:iam::*:role/Cof*"), true),
        ("ArnLike", "aws:PrincipalArn", json!("arn:aws:iam::*:role/Cof*"), true),
        ("ArnLike", "aws:PrincipalArn", json!("arn:*:role/Coffer:::"), false),
        ("ArnNotEquals", "aws:PrincipalArn", json!("arn:aws:iam::*:role/*"), false),
        ("ArnNotLike", "aws:PrincipalArn", json!("arn:aws:iam::*:user/*"), true),
        ("IpAddress", "aws:SourceIp", json!("203.0.113.0/24"), true),
        ("IpAddress", "aws:SourceIp", json!(["10.0.0.0/8", "192.168.0.0/16"]), false),
        ("NotIpAddress", "aws:SourceIp", json!("203.0.113.0/24"), false),
        ("DateGreaterThan", date, json!("2020-01-01T00:00:00Z"), true),
        ("DateLessThan", date, json!("2020-01-01T00:00:00Z"), false),
        ("DateEquals", date, json!(NOW / 1000), true),
        ("DateNotEquals", date, json!(NOW / 1000), false),
        ("DateLessThanEquals", date, json!(NOW / 1000), true),
        ("DateGreaterThanEquals", date, json!((NOW / 1000 + 1).to_string()), false),
        ("StringEquals", "kms:CallerAccount", json!("111122223333"), true),
        ("StringEquals", "aws:PrincipalAccount", json!("999999999999"), false),
        ("StringEquals", "KMS:keyspec", json!("SYMMETRIC_DEFAULT"), true),
        ("StringEquals", "kms:EncryptionAlgorithm", json!("SYMMETRIC_DEFAULT"), true),
    ] {
        let condition = json!({operator: {key: value}});
        assert_eq!(holds(condition.clone(), &decrypt), expected, "{condition}");
    }
}

#[test]
fn numbers_compare_as_numbers_with_defaults_for_what_is_left_out() {
    let window = "kms:ScheduleKeyDeletionPendingWindowInDays";
    for (operator, bound, given, expected) in [
        ("NumericEquals", json!(7), json!({"PendingWindowInDays": 7}), true),
        ("NumericEquals", json!("07.0"), json!({"PendingWindowInDays": 7}), true),
        ("NumericNotEquals", json!("7"), json!({"PendingWindowInDays": 7}), false),
        ("NumericLessThan", json!("10"), json!({"PendingWindowInDays": 9}), true),
        ("NumericLessThanEquals", json!("9"), json!({"PendingWindowInDays": 9}), true),
        ("NumericGreaterThan", json!("9"), json!({"PendingWindowInDays": 9}), false),
        ("NumericGreaterThanEquals", json!("30"), json!({}), true),
    ] {
        let asked = ask(COFFER, "kms:ScheduleKeyDeletion").with(given.clone());
        let condition = json!({operator: {window: bound}});
        assert_eq!(holds(condition.clone(), &asked), expected, "{condition} {given}");
    }
    let bypass = json!({"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "false"}});
    assert!(holds(bypass, &ask(COFFER, "kms:PutKeyPolicy")));
}

#[test]
fn a_missing_key_fails_positive_tests_and_passes_negative_ones() {
    let decrypt = ask(COFFER, "kms:Decrypt");
    let via = "kms:ViaService";
    for (operator, expected) in [
        ("StringEquals", false),
        ("StringLike", false),
        ("StringNotEquals", true),
        ("StringNotLike", true),
        ("StringEqualsIfExists", true),
        ("StringNotEqualsIfExists", true),
        ("ForAllValues:StringEquals", true),
        ("ForAnyValue:StringEquals", false),
        ("ForAnyValue:StringNotEquals", false),
        ("ForAnyValue:StringLikeIfExists", true),
    ] {
        assert_eq!(holds(json!({operator: {via: "a"}}), &decrypt), expected, "{operator}");
    }
    let present = ask(COFFER, "kms:Decrypt").via("b");
    assert!(!holds(json!({"StringEqualsIfExists": {via: "a"}}), &present));
    assert!(holds(json!({"StringEqualsIfExists": {via: "b"}}), &present));
}

#[test]
fn quantifiers_look_at_every_value_or_at_any() {
    let decrypt = ask(COFFER, "kms:Decrypt")
        .with(json!({"EncryptionContext": {"Tenant": "Blue", "Class": "secret"}}));
    let keys = "kms:EncryptionContextKeys";
    for (operator, value, expected) in [
        ("ForAllValues:StringEquals", json!(["Tenant", "Class", "More"]), true),
        ("ForAllValues:StringEquals", json!(["Tenant"]), false),
        ("ForAllValues:StringEquals", json!(["tenant", "Class"]), false),
        ("ForAnyValue:StringEquals", json!(["Tenant"]), true),
        ("ForAnyValue:StringEquals", json!(["tenant"]), false),
        ("ForAnyValue:StringEqualsIgnoreCase", json!(["tenant"]), true),
        ("ForAllValues:StringNotEquals", json!(["Other"]), true),
        ("ForAllValues:StringNotEquals", json!(["Class"]), false),
        ("ForAnyValue:StringNotEquals", json!(["Class"]), true),
        ("ForAnyValue:StringNotEquals", json!(["Class", "Tenant"]), false),
        ("ForAllValues:StringLike", json!("*a*"), true),
    ] {
        let condition = json!({operator: {keys: value}});
        assert_eq!(holds(condition.clone(), &decrypt), expected, "{condition}");
    }
    let operations = |list: Value| {
        let asked = ask(COFFER, "kms:CreateGrant").with(json!({"Operations": list}));
        holds(
            json!({"ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt", "Encrypt"]}}),
            &asked,
        )
    };
    assert!(operations(json!(["Decrypt"])));
    assert!(!operations(json!(["Decrypt", "CreateGrant"])));
}

#[test]
fn all_conditions_must_hold_and_pairs_that_differ_in_case_count_against_the_caller() {
    let decrypt =
        |context: Value| ask(COFFER, "kms:Decrypt").with(json!({"EncryptionContext": context}));
    let both = json!({
        "StringEquals": {"kms:EncryptionContext:a": "1", "kms:EncryptionContext:b": "2"},
        "Bool": {"aws:SecureTransport": "true"}});
    assert!(holds(both.clone(), &decrypt(json!({"a": "1", "b": "2"}))));
    assert!(!holds(both, &decrypt(json!({"a": "1", "b": "3"}))));
    let twice = decrypt(json!({"tenant": "Blue", "Tenant": "Red"}));
    let blue = json!({"StringEquals": {"kms:EncryptionContext:tenant": "Blue"}});
    assert!(!holds(blue.clone(), &twice));
    let deny = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*",
         "Condition": blue}]});
    assert!(!twice.is_allowed(&deny));
}

#[test]
fn without_a_key_the_account_decides() {
    let identity = Document::parse(
        r#"{"Statement": {"Effect": "Allow", "Action": "kms:List*", "Resource": "*"}}"#,
        DocumentKind::Identity,
    )
    .unwrap();
    let decide = |who: &str, action: &str, identity: Option<&Document>| {
        let requester = Requester::parse(who).unwrap();
        let context = Context::of_caller(&requester, None, None, NOW);
        let request =
            Request { requester: &requester, action, resource_arn: "*", context: &context };
        authorize(&request, None, identity)
    };
    assert!(decide(ROOT, "kms:ListKeys", None).is_allowed());
    assert!(decide(LEAD, "kms:ListKeys", Some(&identity)).is_allowed());
    assert!(!decide(LEAD, "kms:ListKeys", None).is_allowed());
    assert!(!decide(LEAD, "kms:CreateKey", Some(&identity)).is_allowed());
}

#[test]
fn aliases_of_key_and_request_are_seen() {
    let requester = Requester::parse(LEAD).unwrap();
    let mut context = Context::of_caller(&requester, None, None, NOW);
    context.add_key_alias("alias/one");
    context.add_key_alias("alias/two");
    context.add_request_alias("alias/two");
    context.add_same_key(true);
    let policy = |condition: Value| {
        let json = statement("Allow", json!({"AWS": LEAD}), json!("kms:*"), condition);
        Document::parse(&json.to_string(), DocumentKind::Key).unwrap()
    };
    for (condition, expected) in [
        (json!({"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/t*"}}), true),
        (json!({"ForAllValues:StringLike": {"kms:ResourceAliases": "alias/t*"}}), false),
        (json!({"StringEquals": {"kms:RequestAlias": "alias/two"}}), true),
        (json!({"Bool": {"kms:ReEncryptOnSameKey": "false"}}), false),
    ] {
        let request = Request {
            requester: &requester,
            action: "kms:ReEncryptFrom",
            resource_arn: KEY,
            context: &context,
        };
        let policy = policy(condition.clone());
        assert_eq!(authorize(&request, Some(&policy), None).is_allowed(), expected, "{condition}");
    }
}
