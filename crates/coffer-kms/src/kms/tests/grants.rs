//! Grants.

use super::*;

fn role(name: &str) -> Caller {
    Caller::internal(Principal::Role { name: name.to_owned() }, None)
}

fn arn(name: &str) -> String {
    format!("arn:aws:iam::000000000000:role/{name}")
}

fn request(key: &str, grantee: &str, operations: &[&str]) -> CreateGrantRequest {
    CreateGrantRequest {
        key_id: key.to_owned(),
        grantee_principal: Some(arn(grantee)),
        operations: operations.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn within(pairs: &[(&str, &str)]) -> Option<GrantConstraints> {
    let encryption_context_subset = Some(context(pairs));
    Some(GrantConstraints { encryption_context_subset, ..Default::default() })
}

fn list(house: &House, key: &str) -> Vec<GrantListEntry> {
    let request = ListGrantsRequest { key_id: key.to_owned(), ..Default::default() };
    house.root(&request).unwrap().grants
}

#[test]
fn a_grant_gives_its_operations_within_its_constraints_until_it_is_revoked() {
    let house = new_house();
    let key = house.create();
    let encrypt = |pairs: &[(&str, &str)]| {
        house.encrypt_as(&role("r"), &key, b"x", context(pairs)).map(|_| ())
    };
    assert_refused(encrypt(&[("t", "1")]), "AccessDeniedException");
    let constraints = within(&[("t", "1")]);
    let made = house
        .root(&CreateGrantRequest { constraints, ..request(&key, "r", &["Encrypt"]) })
        .unwrap();
    encrypt(&[("t", "1")]).unwrap();
    encrypt(&[("t", "1"), ("more", "x")]).unwrap();
    for wrong in [&[("t", "2")][..], &[("T", "1")], &[]] {
        assert_refused(encrypt(wrong), "AccessDeniedException");
    }
    let describe = DescribeKeyRequest { key_id: key.clone(), ..Default::default() };
    assert_refused(house.kms.perform(&role("r"), &describe).map(|_| ()), "AccessDeniedException");
    let revoke = RevokeGrantRequest { key_id: key.clone(), grant_id: made.grant_id, dry_run: None };
    house.root(&revoke).unwrap();
    assert_refused(encrypt(&[("t", "1")]), "AccessDeniedException");
    assert_refused(house.root(&revoke), "NotFoundException");
}

#[test]
fn describing_needs_a_grant_but_no_context() {
    let house = new_house();
    let key = house.create();
    let constraints = within(&[("t", "1")]);
    let grant = CreateGrantRequest { constraints, ..request(&key, "r", &["DescribeKey"]) };
    house.root(&grant).unwrap();
    let describe = DescribeKeyRequest { key_id: key, ..Default::default() };
    assert!(house.kms.perform(&role("r"), &describe).is_ok());
}

#[test]
fn the_same_name_and_properties_give_the_same_grant() {
    let house = new_house();
    let key = house.create();
    let named = CreateGrantRequest {
        name: Some("n".to_owned()),
        ..request(&key, "r", &["Encrypt", "Decrypt"])
    };
    let first = house.root(&named).unwrap();
    let house = house.reopened();
    let again = house.root(&named).unwrap();
    assert_eq!(first.grant_id, again.grant_id);
    assert_ne!(first.grant_token, again.grant_token);
    let reordered = CreateGrantRequest {
        name: Some("n".to_owned()),
        ..request(&key, "r", &["Decrypt", "Encrypt"])
    };
    assert_eq!(house.root(&reordered).unwrap().grant_id, first.grant_id);
    let other = CreateGrantRequest { constraints: within(&[("a", "b")]), ..named };
    assert_ne!(house.root(&other).unwrap().grant_id, first.grant_id);
    let unnamed = request(&key, "r", &["Decrypt"]);
    assert_ne!(house.root(&unnamed).unwrap().grant_id, house.root(&unnamed).unwrap().grant_id);
    assert_eq!(list(&house, &key).len(), 4);
}

#[test]
fn a_grant_is_retired_by_whom_it_names_or_the_account() {
    let house = new_house();
    let key = house.create();
    let make = |operations: &[&str]| {
        let retiring_principal = Some(arn("retirer"));
        let grant = CreateGrantRequest { retiring_principal, ..request(&key, "r", operations) };
        house.root(&grant).unwrap()
    };
    let retire = |made: &CreateGrantResponse| RetireGrantRequest {
        key_id: Some(key.clone()),
        grant_id: Some(made.grant_id.clone()),
        ..Default::default()
    };
    let by = |name: &str, made: &CreateGrantResponse| house.kms.perform(&role(name), &retire(made));
    let made = make(&["Decrypt"]);
    assert_refused(by("stranger", &made), "AccessDeniedException");
    assert_refused(by("r", &made), "AccessDeniedException");
    by("retirer", &made).unwrap();
    assert_refused(by("retirer", &made), "NotFoundException");
    by("r", &make(&["RetireGrant"])).unwrap();
    let token = RetireGrantRequest {
        grant_token: Some(make(&["Decrypt"]).grant_token),
        ..Default::default()
    };
    house.kms.perform(&role("retirer"), &token).unwrap();
    house.root(&retire(&make(&["Decrypt"]))).unwrap();
    assert!(list(&house, &key).is_empty());
    let bad = RetireGrantRequest { grant_token: Some("x".to_owned()), ..Default::default() };
    assert_refused(house.root(&bad), "InvalidGrantTokenException");
    let short = RetireGrantRequest {
        key_id: Some(key.rsplit('/').next().unwrap().to_owned()),
        grant_id: Some("g".to_owned()),
        ..Default::default()
    };
    assert_refused(house.root(&short), "InvalidArnException");
}

#[test]
fn a_child_grant_is_at_least_as_strict_as_its_parent() {
    let house = new_house();
    let key = house.create();
    let parent = CreateGrantRequest {
        constraints: within(&[("t", "1")]),
        ..request(&key, "parent", &["CreateGrant", "Encrypt", "Decrypt"])
    };
    house.root(&parent).unwrap();
    let make = |operations: &[&str], constraints: Option<GrantConstraints>| {
        let child = CreateGrantRequest { constraints, ..request(&key, "child", operations) };
        house.kms.perform(&role("parent"), &child).map(|_| ())
    };
    make(&["Encrypt"], within(&[("t", "1")])).unwrap();
    make(&["Encrypt"], within(&[("t", "1"), ("u", "2")])).unwrap();
    let equals = GrantConstraints {
        encryption_context_equals: Some(context(&[("t", "1")])),
        ..Default::default()
    };
    make(&["Decrypt"], Some(equals)).unwrap();
    for (operations, constraints) in [
        (&["GenerateDataKey"][..], within(&[("t", "1")])),
        (&["Encrypt"], within(&[("t", "2")])),
        (&["Encrypt"], None),
    ] {
        assert_refused(make(operations, constraints), "AccessDeniedException");
    }
    house.encrypt_as(&role("child"), &key, b"x", context(&[("t", "1")])).unwrap();
}

#[test]
fn what_a_grant_cannot_be_is_refused() {
    let house = new_house();
    let key = house.create();
    let good = request(&key, "r", &["Decrypt"]);
    let with = |change: &dyn Fn(&mut CreateGrantRequest)| {
        let mut request = good.clone();
        change(&mut request);
        house.root(&request).map(|_| ())
    };
    let sign = with(&|it| it.operations = vec!["Sign".to_owned()]);
    assert_refused(sign, "ValidationException");
    assert_refused(with(&|it| it.operations.clear()), "ValidationException");
    let nonsense = with(&|it| it.operations = vec!["Nonsense".to_owned()]);
    assert_refused(nonsense, "ValidationException");
    let group = with(&|it| it.grantee_principal = Some("arn:aws:iam::000000000000:group/g".into()));
    assert_refused(group, "InvalidArnException");
    let service = with(&|it| it.grantee_service_principal = Some("s3.amazonaws.com".into()));
    assert_refused(service, "UnsupportedOperationException");
    let nine: Vec<(String, String)> = (0..9).map(|n| (n.to_string(), String::new())).collect();
    let nine: Vec<(&str, &str)> = nine.iter().map(|(a, b)| (&**a, &**b)).collect();
    let many = with(&|it| it.constraints = within(&nine));
    assert_refused(many, "ValidationException");
    let long = "x".repeat(385);
    let too_long = with(&|it| it.constraints = within(&[("a", &long)]));
    assert_refused(too_long, "ValidationException");
    let name = with(&|it| it.name = Some("a b".to_owned()));
    assert_refused(name, "ValidationException");
    let eleven = with(&|it| it.grant_tokens = vec![String::new(); 11]);
    assert_refused(eleven, "ValidationException");
    let token = with(&|it| it.grant_tokens = vec!["x".to_owned()]);
    assert_refused(token, "InvalidGrantTokenException");
    assert_refused(with(&|it| it.dry_run = Some(true)), "DryRunOperationException");
    assert!(list(&house, &key).is_empty());
}

#[test]
fn a_key_has_so_many_grants_and_no_more() {
    let house = house_with(KmsOptions { grants_per_key_max: 3, ..Default::default() });
    let (key, other) = (house.create(), house.create());
    let grant = request(&key, "r", &["Decrypt"]);
    let made: Vec<_> = (0..3).map(|_| house.root(&grant).unwrap()).collect();
    assert_refused(house.root(&grant).map(|_| ()), "LimitExceededException");
    house.root(&request(&other, "r", &["Decrypt"])).unwrap();
    let revoke =
        RevokeGrantRequest { key_id: key, grant_id: made[1].grant_id.clone(), dry_run: None };
    house.root(&revoke).unwrap();
    house.root(&grant).unwrap();
}

#[test]
fn grants_are_listed_in_pages_by_grantee_and_by_retiring_principal() {
    let house = new_house();
    let (key, other) = (house.create(), house.create());
    for (key, grantee) in [(&key, "a"), (&key, "b"), (&key, "b"), (&other, "b")] {
        let retiring_principal = Some(arn("retirer"));
        let grant =
            CreateGrantRequest { retiring_principal, ..request(key, grantee, &["Decrypt"]) };
        house.root(&grant).unwrap();
    }
    let of_b = ListGrantsRequest {
        key_id: key.clone(),
        grantee_principal: Some(arn("b")),
        limit: Some(1),
        ..Default::default()
    };
    let first = house.root(&of_b).unwrap();
    let second = house
        .root(&ListGrantsRequest { marker: first.next_marker.clone(), ..of_b.clone() })
        .unwrap();
    assert_eq!((first.grants.len(), second.grants.len()), (1, 1));
    assert!(first.truncated && !second.truncated);
    assert_ne!(first.grants[0].grant_id, second.grants[0].grant_id);
    let retirable = ListRetirableGrantsRequest {
        retiring_principal: Some(arn("retirer")),
        ..Default::default()
    };
    assert_eq!(house.root(&retirable).unwrap().grants.len(), 4);
    let id = second.grants[0].grant_id.clone();
    let one = ListGrantsRequest { grant_id: Some(id.clone()), limit: None, ..of_b };
    let listed = house.root(&one).unwrap().grants;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].grant_id, &listed[0].key_id), (&id, &key));
}

#[test]
fn coffers_control_identity_makes_grants_and_its_data_identity_lives_on_them() {
    let house = new_house();
    let key = house.create();
    let control = Caller::internal(Principal::control(), None);
    let data = Caller::internal(Principal::data(), None);
    let pairs = context(&[("aws:cassandra:tableName", "t")]);
    let encrypt = |caller: &Caller| house.encrypt_as(caller, &key, b"x", pairs.clone()).map(|_| ());
    assert_refused(encrypt(&control), "AccessDeniedException");
    assert_refused(encrypt(&data), "AccessDeniedException");
    let constraints = within(&[("aws:cassandra:tableName", "t")]);
    let grant = CreateGrantRequest {
        constraints,
        retiring_principal: Some(arn(CONTROL_ROLE)),
        ..request(&key, crate::DATA_ROLE, &["Encrypt"])
    };
    assert_refused(house.kms.perform(&data, &grant).map(|_| ()), "AccessDeniedException");
    let made = house.kms.perform(&control, &grant).unwrap();
    encrypt(&data).unwrap();
    let retire = RetireGrantRequest {
        key_id: Some(key.clone()),
        grant_id: Some(made.grant_id),
        ..Default::default()
    };
    house.kms.perform(&control, &retire).unwrap();
    assert_refused(encrypt(&data), "AccessDeniedException");
}
