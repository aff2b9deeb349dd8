//! Rotation.

use super::*;

fn enable(house: &House, key: &str, days: Option<i64>) -> Result<(), KmsException> {
    let key_id = key.to_owned();
    house.root(&EnableKeyRotationRequest { key_id, rotation_period_in_days: days })
}

fn rotations(house: &House, key: &str) -> Vec<RotationsListEntry> {
    let request = ListKeyRotationsRequest { key_id: key.to_owned(), ..Default::default() };
    house.root(&request).unwrap().rotations
}

#[test]
fn a_key_rotates_when_it_is_due_and_old_blobs_still_open() {
    let house = new_house();
    let key = house.create();
    for days in [89, 2561] {
        assert_refused(enable(&house, &key, Some(days)), "ValidationException");
    }
    enable(&house, &key, Some(90)).unwrap();
    let old = house.encrypt(&key, b"old").unwrap().ciphertext_blob;
    let first = house.describe(&key).current_key_material_id.unwrap();
    house.clock.advance(90 * DAY - 1);
    assert_eq!(house.describe(&key).current_key_material_id.unwrap(), first);
    house.clock.advance(1);
    let second = house.describe(&key).current_key_material_id.unwrap();
    assert_ne!(second, first);
    let new = house.encrypt(&key, b"new").unwrap().ciphertext_blob;
    let house = house.reopened();
    let (old, new) = (house.decrypt(&old).unwrap(), house.decrypt(&new).unwrap());
    assert_eq!((&old.key_material_id, &new.key_material_id), (&first, &second));
    let listed = rotations(&house, &key);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].rotation_type.as_deref(), Some("AUTOMATIC"));
    let status = house.root(&GetKeyRotationStatusRequest { key_id: key }).unwrap();
    assert_eq!(status.rotation_period_in_days, Some(90));
    let next = operations::seconds(START + 180 * DAY);
    assert_eq!(status.next_rotation_date, Some(next));
}

#[test]
fn a_disabled_key_is_rotated_when_it_is_enabled_again() {
    let house = new_house();
    let key = house.create();
    enable(&house, &key, None).unwrap();
    let first = house.describe(&key).current_key_material_id;
    house.disable(&key);
    house.clock.advance(400 * DAY);
    assert_eq!(house.describe(&key).current_key_material_id, first);
    house.root(&EnableKeyRequest { key_id: key.clone() }).unwrap();
    assert_ne!(house.describe(&key).current_key_material_id, first);
}

#[test]
fn a_key_rotates_on_demand_up_to_25_times() {
    let house = new_house();
    let key = house.create();
    let blob = house.encrypt(&key, b"x").unwrap().ciphertext_blob;
    let rotate = RotateKeyOnDemandRequest { key_id: key.clone() };
    for _ in 0..25 {
        house.root(&rotate).unwrap();
    }
    assert_refused(house.root(&rotate), "LimitExceededException");
    house.decrypt(&blob).unwrap();
    let listed = rotations(&house, &key);
    assert!(listed.iter().all(|entry| entry.rotation_type.as_deref() == Some("ON_DEMAND")));
    assert_eq!(listed.len(), 25);
    let all = ListKeyRotationsRequest {
        key_id: key,
        include_key_material: Some("ALL_KEY_MATERIAL".to_owned()),
        limit: Some(20),
        ..Default::default()
    };
    let page = house.root(&all).unwrap();
    let rest = house.root(&ListKeyRotationsRequest { marker: page.next_marker, ..all }).unwrap();
    assert_eq!((page.rotations.len(), rest.rotations.len()), (20, 6));
}
