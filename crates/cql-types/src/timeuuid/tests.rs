//! Tests of `timeuuid`.

use super::*;

/// What Apache Cassandra 5.0 answered for `mintimeuuid('2013-02-02 10:00+0000')` and the like.
#[test]
fn bounds_of_a_millisecond_are_cassandras() {
    let millis = crate::time::parse_timestamp("2013-02-02 10:00+0000").unwrap();
    let (min, max) = (min_timeuuid(millis), max_timeuuid(millis));
    assert_eq!(min.to_string(), "4e52d000-6d1f-11e2-8080-808080808080");
    assert_eq!(max.to_string(), "4e52f70f-6d1f-11e2-7f7f-7f7f7f7f7f7f");
    assert_eq!((to_millis(&min), to_millis(&max)), (Some(millis), Some(millis)));
    assert_eq!(to_millis(&Uuid::nil()), None);
}

#[test]
fn made_uuids_ascend_even_when_the_clock_goes_back() {
    let generator = TimeUuidGenerator::new([0x5a; 8]);
    let uuids = [1000, 1000, 5, 2000].map(|micros| generator.next(micros));
    let ordered = uuids.map(|uuid| crate::uuid_order::timeuuid_to_ordered(uuid.into_bytes()));
    assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(to_micros(&uuids[3]), Some(2000));
    assert!(
        uuids
            .iter()
            .all(|uuid| crate::validate(&crate::CqlType::TimeUuid, uuid.as_bytes()).is_ok())
    );
}
