//! `coffer keys policy`: a key policy for AWS KMS that gives Coffer what it needs and no more.

use serde_json::{Value, json};

use crate::cli::Policy;
use crate::error::{CommandError, Result};

/// The policy as JSON text.
///
/// # Errors
/// Which flag is wrong.
pub(crate) fn generate(flags: &Policy) -> Result<String> {
    let role = Role::parse("--role", &flags.role)?;
    let account = flags.account.as_deref().unwrap_or(role.account);
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CommandError::Refused(format!("--account: {account} is not 12 digits")));
    }
    let is_region = |region: &str| {
        !region.is_empty()
            && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if let Some(region) = flags.region.as_deref().filter(|region| !is_region(region)) {
        return Err(CommandError::Refused(format!("--region: {region} is no name of a Region")));
    }
    let data = flags.data_role.as_deref().map(|arn| Role::parse("--data-role", arn)).transpose()?;
    let mut statements = vec![administration(role.partition, account)];
    match &data {
        Some(data) => statements.extend(by_grants(&role, data)),
        None => statements.extend(by_policy(&role, account)),
    }
    if let Some(region) = &flags.region {
        let principals = data.iter().map(|data| data.arn).chain([role.arn]).collect::<Vec<_>>();
        statements.push(json!({
            "Sid": "CofferOnlyInItsRegion", "Effect": "Deny",
            "Principal": {"AWS": principals}, "Action": "kms:*", "Resource": "*",
            "Condition": {"StringNotEquals": {"aws:RequestedRegion": region}},
        }));
    }
    let policy = json!({
        "Version": "2012-10-17", "Id": "key-policy-coffer", "Statement": statements,
    });
    Ok(format!("{policy:#}\n"))
}

struct Role<'a> {
    arn: &'a str,
    partition: &'a str,
    account: &'a str,
}

impl<'a> Role<'a> {
    fn parse(flag: &str, arn: &'a str) -> Result<Self> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "iam", "", account, name]
                if ["role/", "user/"].iter().any(|kind| name.starts_with(kind)) =>
            {
                Ok(Self { arn, partition, account })
            }
            _ => Err(CommandError::Refused(format!(
                "{flag}: {arn} is no ARN of a role, as arn:aws:iam::111122223333:role/Coffer"
            ))),
        }
    }
}

fn administration(partition: &str, account: &str) -> Value {
    json!({
        "Sid": "RootForAdministration", "Effect": "Allow",
        "Principal": {"AWS": format!("arn:{partition}:iam::{account}:root")},
        "Action": "kms:*", "Resource": "*",
    })
}

/// One role for everything: it has the key by this policy, for tables only.
fn by_policy(role: &Role<'_>, account: &str) -> [Value; 4] {
    let arn = role.arn;
    [
        json!({
            "Sid": "CofferUsesKeyForItsTables", "Effect": "Allow", "Principal": {"AWS": arn},
            "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*"],
            "Resource": "*",
            "Condition": {
                "StringEquals": {"kms:EncryptionContext:aws:cassandra:subscriberId": account},
                "Null": {"kms:EncryptionContext:aws:cassandra:tableName": "false"},
            },
        }),
        describes(arn),
        creates_grants(arn, arn),
        retires_grants(arn),
    ]
}

/// Two roles: the control role describes the key and makes grants; the data role has the key only by
/// the grant of each table.
fn by_grants(control: &Role<'_>, data: &Role<'_>) -> Vec<Value> {
    let for_itself = json!({
        "Sid": "CofferCreatesConstrainedGrantsToItself", "Effect": "Allow",
        "Principal": {"AWS": control.arn}, "Action": "kms:CreateGrant", "Resource": "*",
        "Condition": {"StringEquals": {
            "kms:GranteePrincipal": control.arn,
            "kms:GrantConstraintType": "EncryptionContextSubset",
        }},
    });
    vec![
        describes(control.arn),
        creates_grants(control.arn, data.arn),
        for_itself,
        retires_grants(control.arn),
    ]
}

fn describes(arn: &str) -> Value {
    json!({
        "Sid": "CofferDescribesKey", "Effect": "Allow", "Principal": {"AWS": arn},
        "Action": "kms:DescribeKey", "Resource": "*",
    })
}

fn creates_grants(arn: &str, grantee: &str) -> Value {
    let name = if arn == grantee { "Itself" } else { "ItsDataRole" };
    json!({
        "Sid": format!("CofferCreatesConstrainedGrantsTo{name}"), "Effect": "Allow",
        "Principal": {"AWS": arn}, "Action": "kms:CreateGrant", "Resource": "*",
        "Condition": {"StringEquals": {
            "kms:GranteePrincipal": grantee,
            "kms:GrantConstraintType": "EncryptionContextSubset",
        }},
    })
}

fn retires_grants(arn: &str) -> Value {
    json!({
        "Sid": "CofferRetiresItsGrants", "Effect": "Allow", "Principal": {"AWS": arn},
        "Action": ["kms:ListGrants", "kms:RetireGrant"], "Resource": "*",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "arn:aws:iam::111122223333:role/Coffer";
    const DATA: &str = "arn:aws:iam::111122223333:role/CofferData";

    fn flags(role: &str, data_role: Option<&str>) -> Policy {
        let data_role = data_role.map(str::to_owned);
        Policy { role: role.to_owned(), data_role, account: None, region: None }
    }

    fn statements(flags: &Policy) -> Vec<Value> {
        let policy: Value = serde_json::from_str(&generate(flags).unwrap()).unwrap();
        policy["Statement"].as_array().unwrap().clone()
    }

    fn is_allowed(statement: &Value, arn: &str, action: &str) -> bool {
        let has = |value: &Value, wanted: &str| {
            value == wanted
                || value.as_array().is_some_and(|list| list.iter().any(|it| it == wanted))
        };
        statement["Effect"] == "Allow"
            && has(&statement["Principal"]["AWS"], arn)
            && has(&statement["Action"], action)
    }

    #[test]
    fn one_role_may_use_the_key_for_tables_only() {
        let all = statements(&flags(CONTROL, None));
        let using: Vec<_> =
            all.iter().filter(|one| is_allowed(one, CONTROL, "kms:Decrypt")).collect();
        assert_eq!(using.len(), 1);
        let condition = &using[0]["Condition"];
        let subscriber = "kms:EncryptionContext:aws:cassandra:subscriberId";
        assert_eq!(condition["StringEquals"][subscriber], "111122223333");
        assert_eq!(condition["Null"]["kms:EncryptionContext:aws:cassandra:tableName"], "false");
        let granting = all.iter().find(|one| is_allowed(one, CONTROL, "kms:CreateGrant")).unwrap();
        assert_eq!(granting["Condition"]["StringEquals"]["kms:GranteePrincipal"], CONTROL);
    }

    #[test]
    fn a_data_role_has_nothing_but_grants() {
        let all = statements(&flags(CONTROL, Some(DATA)));
        let text = serde_json::to_string(&all).unwrap();
        assert!(!text.contains("kms:Decrypt") && !text.contains("GenerateDataKey"), "{text}");
        assert!(all.iter().all(|one| one["Principal"]["AWS"] != DATA), "{text}");
        assert!(text.contains(&format!("\"kms:GranteePrincipal\":\"{DATA}\"")), "{text}");
    }

    #[test]
    fn a_region_denies_the_others_and_wrong_flags_are_named() {
        let mut with_region = flags(CONTROL, None);
        with_region.region = Some("eu-west-1".to_owned());
        let denied = statements(&with_region).pop().unwrap();
        assert_eq!(denied["Effect"], "Deny");
        assert_eq!(denied["Condition"]["StringNotEquals"]["aws:RequestedRegion"], "eu-west-1");
        for (wrong, name) in [
            (flags("Coffer", None), "--role"),
            (flags(CONTROL, Some("arn:aws:kms:x:y:key/z")), "--data-role"),
            (Policy { account: Some("1".to_owned()), ..flags(CONTROL, None) }, "--account"),
            (Policy { region: Some("a b".to_owned()), ..flags(CONTROL, None) }, "--region"),
        ] {
            let error = generate(&wrong).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
