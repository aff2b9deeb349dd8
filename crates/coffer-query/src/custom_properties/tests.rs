//! Custom properties as the documentation writes them, and wrong ones.

use cql_parser::StatementKind;

use super::*;

const ARN: &str = "arn:aws:kms:eu-west-1:5555555555555:key/11111111-1111-111-1111-111111111111";

fn parse(properties: &str) -> Result<CustomProperties> {
    let cql = format!("ALTER TABLE k.t WITH custom_properties = {properties}");
    let statement = cql_parser::parse_statement(&cql).expect("test statement parses");
    let StatementKind::AlterTable(alter) = statement.kind else { panic!("not ALTER TABLE") };
    let cql_parser::ast::TableChange::Properties(properties) = alter.change else {
        panic!("no properties")
    };
    CustomProperties::parse(&properties[0].value)
}

#[test]
fn documented_forms_are_read() {
    let forms = [
        "{'capacity_mode':{'throughput_mode':'PROVISIONED','read_capacity_units':10,'write_capacity_units':20}}",
        "{'point_in_time_recovery':{'status':'enabled'}}",
        "{'TTL': {'status': 'enabled'}}",
        "{'ttl': {'status': 'enabled'}, 'client_side_timestamps': {'status': 'enabled'}}",
        "{'cdc_specification': {'view_type': 'NEW_IMAGE'}}",
        "{'warm_throughput': {'read_units_per_second': 13000, 'write_units_per_second': 5000}}",
        "{'key_loss': {'delete_after': 'never'}}",
        "{'key_loss': {'delete_after': '7d'}}",
        "{'replica_updates': {'us-east-1': {'read_capacity_units': 5}}}",
    ];
    for form in forms {
        assert!(parse(form).is_ok(), "{form}: {:?}", parse(form));
    }
    let owned = parse("{'encryption_specification':{'encryption_type' : 'AWS_OWNED_KMS_KEY'}}");
    assert_eq!(owned.unwrap().encryption, Some(EncryptionSpecification::AwsOwned));
    let managed = parse(&format!(
        "{{'encryption_specification': {{'Encryption_Type': 'CUSTOMER_MANAGED_KMS_KEY', \
         'KMS_KEY_IDENTIFIER': '{ARN}'}}}}"
    ));
    assert_eq!(managed.unwrap().encryption.unwrap().arn(), Some(ARN));
}

#[test]
fn wrong_forms_are_invalid() {
    let forms = [
        "{'encryption_specification': {'encryption_type': 'NONE'}}",
        "{'encryption_specification': {'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY'}}",
        "{'nosuch': {'status': 'enabled'}}",
        "{'ttl': {'status': 'sometimes'}}",
        "{'ttl': 'enabled'}",
        "{'capacity_mode': {'throughput_mode': 'PROVISIONED'}}",
        "{'capacity_mode': {'throughput_mode': 'PROVISIONED', 'read_capacity_units': 0, 'write_capacity_units': 1}}",
        "{'key_loss': {'delete_after': '0d'}}",
        "{'cdc_specification': {'view_type': 'EVERYTHING'}}",
    ];
    for form in forms {
        assert!(matches!(parse(form), Err(Error::Invalid(_))), "{form}: {:?}", parse(form));
    }
}

#[test]
fn a_key_that_is_no_arn_is_told_so() {
    for identifier in ["alias/a", "1234", "arn:aws:s3:::b", "arn:aws:kms:r:1:alias/a"] {
        let error = parse(&format!(
            "{{'encryption_specification': {{'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY', \
             'kms_key_identifier': '{identifier}'}}}}"
        ))
        .unwrap_err();
        assert!(error.to_string().contains("ARN"), "{error}");
    }
}

#[test]
fn nested_values_become_literals_that_can_be_read_again() {
    let properties =
        parse("{'replica_updates': {'us-east-1': {'read_capacity_units': 5, 'a': 'it''s'}}}")
            .unwrap();
    assert_eq!(
        properties.others["replica_updates"]["us-east-1"],
        "{'read_capacity_units': '5', 'a': 'it''s'}"
    );
}
