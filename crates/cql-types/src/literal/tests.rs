//! Tests of `literal`.

use std::sync::Arc;

use super::*;
use crate::{UserType, from_text};

fn round(ty: &CqlType, text: &str) -> String {
    to_text(ty, &from_text(ty, text).unwrap()).unwrap()
}

/// The right-hand sides are what Apache Cassandra 5.0 answered for `CAST(... AS text)`.
#[test]
fn text_forms_are_cassandras() {
    let cases = [
        (CqlType::Double, "1e7", "1.0E7"),
        (CqlType::Double, "0.00012345", "1.2345E-4"),
        (CqlType::Double, "4.9E-324", "4.9E-324"),
        (CqlType::Double, "100", "100.0"),
        (CqlType::Double, "-123456789.125", "-1.23456789125E8"),
        (CqlType::Double, "-0.0", "-0.0"),
        (CqlType::Double, "NaN", "NaN"),
        (CqlType::Double, "-Infinity", "-Infinity"),
        (CqlType::Float, "1e-3", "0.001"),
        (CqlType::Float, "1234567.9", "1234567.9"),
        (CqlType::Float, "1.4E-45", "1.4E-45"),
        (CqlType::Float, "0.1", "0.1"),
        (CqlType::Float, "3.4028235E38", "3.4028235E38"),
        (CqlType::Decimal, "1.10", "1.10"),
        (CqlType::Decimal, "1e-10", "1E-10"),
        (CqlType::Decimal, "12E+5", "1.2E+6"),
        (CqlType::Decimal, "-0.000001", "-0.000001"),
        (CqlType::Decimal, "0.0000001", "1E-7"),
        (CqlType::Timestamp, "2011-02-03 04:05+0130", "2011-02-03T02:35:00.000Z"),
        (CqlType::Timestamp, "2011-02-03T04:05:06.7Z", "2011-02-03T04:05:06.700Z"),
        (CqlType::Timestamp, "1969-12-31 23:59:59.999", "1969-12-31T23:59:59.999Z"),
        (CqlType::Timestamp, "2011-02-03", "2011-02-03T00:00:00.000Z"),
        (CqlType::Timestamp, "2011-02-03 04:05:06+01:00", "2011-02-03T03:05:06.000Z"),
        (CqlType::Timestamp, "2011-02-03+0100", "2011-02-02T23:00:00.000Z"),
        (CqlType::Timestamp, "-1", "1969-12-31T23:59:59.999Z"),
        (CqlType::Date, "2011-02-03", "2011-02-03"),
        (CqlType::Date, "-0044-03-15", "-0044-03-15"),
        (CqlType::Date, "1582-10-15", "1582-10-15"),
        (CqlType::Date, "2147483648", "1970-01-01"),
        (CqlType::Time, "08:12:54.1", "08:12:54.100000000"),
        (CqlType::Time, "01:02:03.000000001", "01:02:03.000000001"),
        (CqlType::Duration, "1y2mo3w4d5h6m7s8ms9us10ns", "1y2mo25d5h6m7s8ms9us10ns"),
        (CqlType::Duration, "-P1Y2M3DT4H5M6S", "-1y2mo3d4h5m6s"),
        (CqlType::Duration, "P0001-02-03T04:05:06", "1y2mo3d4h5m6s"),
        (CqlType::Duration, "-10us", "-10us"),
        (CqlType::Duration, "P3W", "21d"),
        (CqlType::Inet, "::1", "0:0:0:0:0:0:0:1"),
        (CqlType::Inet, "::ffff:1.2.3.4", "1.2.3.4"),
    ];
    for (ty, text, wanted) in cases {
        assert_eq!(round(&ty, text), wanted, "{ty} from {text}");
    }
}

#[test]
fn what_is_no_text_form_is_refused() {
    let cases = [
        (CqlType::Timestamp, "2011-02-30"),
        (CqlType::Timestamp, "2011-02-03T"),
        (CqlType::Timestamp, "2011-02-03 04"),
        (CqlType::Timestamp, "2011-02-03 04:05 somewhere"),
        (CqlType::Timestamp, ""),
        (CqlType::Date, "12345-01-01"),
        (CqlType::Date, "2011-13-01"),
        (CqlType::Date, "4294967296"),
        (CqlType::Time, "24:00:00"),
        (CqlType::Time, "08:12"),
        (CqlType::Time, "86400000000000"),
        (CqlType::Duration, ""),
        (CqlType::Duration, "1d1y"),
        (CqlType::Duration, "1x"),
        (CqlType::Duration, "99999999999mo"),
        (CqlType::Inet, "localhost"),
        (CqlType::Uuid, "67e5504410b1426f9247bb680e5fe0c8"),
        (CqlType::TimeUuid, "67e55044-10b1-426f-9247-bb680e5fe0c8"),
        (CqlType::TinyInt, "128"),
        (CqlType::Decimal, "1.2.3"),
        (CqlType::Decimal, "1e99999999999"),
        (CqlType::Decimal, "-"),
        (CqlType::Ascii, "é"),
        (CqlType::Blob, "0xabc"),
        (CqlType::Boolean, "yes"),
    ];
    for (ty, text) in cases {
        assert!(from_text(&ty, text).is_err(), "{ty} from {text:?}");
    }
}

#[test]
fn nested_values_are_literals_and_decode_to_what_was_encoded() {
    let user_type = UserType {
        keyspace: "k".to_owned(),
        name: "u".to_owned(),
        fields: vec![("a".to_owned(), CqlType::Int), ("B".to_owned(), CqlType::Text)],
    };
    let ty = CqlType::Map(
        Arc::new(CqlType::Text),
        Arc::new(CqlType::Tuple(
            [
                CqlType::Set(Arc::new(CqlType::Int)),
                CqlType::Udt(Arc::new(user_type)),
                CqlType::Vector(Arc::new(CqlType::Blob), 2),
            ]
            .into(),
        )),
    );
    let blob = |bytes: &'static [u8]| CqlValue::Blob(bytes.into());
    let tuple = CqlValue::Tuple(vec![
        Some(CqlValue::Set(vec![CqlValue::Int(2), CqlValue::Int(-1), CqlValue::Int(2)])),
        Some(CqlValue::Udt(vec![("B".to_owned(), Some(CqlValue::Text("it's".to_owned())))])),
        Some(CqlValue::Vector(vec![blob(b"\x01"), blob(b"")])),
    ]);
    let value = CqlValue::Map(vec![
        (CqlValue::Text("b".to_owned()), CqlValue::Tuple(vec![])),
        (CqlValue::Text("a".to_owned()), tuple),
    ]);
    let bytes = value.encode(&ty).unwrap();
    let wanted = "{'a': ({-1, 2}, {a: null, \"B\": 'it''s'}, [0x01, 0x]), 'b': (null, null, null)}";
    assert_eq!(to_literal(&ty, &bytes).unwrap(), wanted);
    assert_eq!(CqlValue::decode(&ty, &bytes).unwrap().encode(&ty).unwrap(), bytes);
    for length in 0..bytes.len() {
        assert!(CqlValue::decode(&ty, &bytes[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn types_are_written_as_in_system_schema() {
    let list = |ty: CqlType| CqlType::List(Arc::new(ty));
    let tuple = CqlType::Tuple([CqlType::Int, list(CqlType::Int)].into());
    let cases = [
        (list(tuple.clone()).frozen(), "frozen<list<frozen<tuple<int, frozen<list<int>>>>>>"),
        (
            list(CqlType::Tuple([CqlType::Int, CqlType::Text].into())).normalized(),
            "list<frozen<tuple<int, text>>>",
        ),
        (tuple.normalized(), "frozen<tuple<int, frozen<list<int>>>>"),
    ];
    for (ty, wanted) in cases {
        assert_eq!(ty.to_string(), wanted);
    }
}
