//! Import of key material.

use super::*;
use rsa::{Oaep, RsaPublicKey, pkcs8::DecodePublicKey, rand_core::OsRng};

/// Imports material as a client does.
pub(super) fn import(
    house: &House,
    key: &str,
    material: [u8; 32],
    valid_to: Option<f64>,
) -> Result<ImportKeyMaterialResponse, KmsException> {
    let parameters = parameters(house, key, "RSAES_OAEP_SHA_256");
    let public = RsaPublicKey::from_public_key_der(&parameters.public_key).unwrap();
    let wrapped = public.encrypt(&mut OsRng, Oaep::new::<rsa::sha2::Sha256>(), &material).unwrap();
    house.root(&request(key, &parameters, &wrapped, valid_to))
}

fn parameters(house: &House, key: &str, algorithm: &str) -> GetParametersForImportResponse {
    let request = GetParametersForImportRequest {
        key_id: key.to_owned(),
        wrapping_algorithm: Some(algorithm.to_owned()),
        wrapping_key_spec: Some("RSA_2048".to_owned()),
    };
    house.root(&request).unwrap()
}

fn request(
    key: &str,
    parameters: &GetParametersForImportResponse,
    wrapped: &[u8],
    valid_to: Option<f64>,
) -> ImportKeyMaterialRequest {
    let model = match valid_to {
        Some(_) => "KEY_MATERIAL_EXPIRES",
        None => "KEY_MATERIAL_DOES_NOT_EXPIRE",
    };
    ImportKeyMaterialRequest {
        key_id: key.to_owned(),
        import_token: parameters.import_token.clone(),
        encrypted_key_material: wrapped.into(),
        valid_to,
        expiration_model: Some(model.to_owned()),
        ..Default::default()
    }
}

fn external_key(house: &House) -> String {
    let request = CreateKeyRequest { origin: Some("EXTERNAL".to_owned()), ..Default::default() };
    house.root(&request).unwrap().key_metadata.arn
}

#[test]
fn imported_material_encrypts_goes_and_comes_back_the_same() {
    let house = new_house();
    let key = external_key(&house);
    assert_eq!(house.describe(&key).key_state, KeyState::PendingImport);
    let id = import(&house, &key, [1; 32], None).unwrap().key_material_id;
    let blob = house.encrypt(&key, b"secret").unwrap().ciphertext_blob;
    let house = house.reopened();
    assert_eq!(&*house.decrypt(&blob).unwrap().plaintext, b"secret");
    let delete = DeleteImportedKeyMaterialRequest { key_id: key.clone(), key_material_id: None };
    assert_eq!(house.root(&delete).unwrap().key_material_id, id);
    assert_refused(house.decrypt(&blob), "KMSInvalidStateException");
    house.root(&delete).unwrap();
    assert_refused(import(&house, &key, [2; 32], None), "IncorrectKeyMaterialException");
    assert_eq!(import(&house, &key, [1; 32], None).unwrap().key_material_id, id);
    assert_eq!(&*house.decrypt(&blob).unwrap().plaintext, b"secret");
}

#[test]
fn imported_material_expires_on_its_date() {
    let house = new_house();
    let key = external_key(&house);
    let valid_to = operations::seconds(START + 2 * DAY);
    import(&house, &key, [1; 32], Some(valid_to)).unwrap();
    assert_eq!(house.describe(&key).valid_to, Some(valid_to));
    let blob = house.encrypt(&key, b"x").unwrap().ciphertext_blob;
    house.clock.advance(2 * DAY - 1);
    house.decrypt(&blob).unwrap();
    house.clock.advance(1);
    assert_refused(house.decrypt(&blob), "KMSInvalidStateException");
    assert_eq!(house.describe(&key).key_state, KeyState::PendingImport);
    let state = house.kms.state.read();
    assert!(state.keys.values().all(|key| key.materials[0].bytes.is_none()), "gone from memory");
    drop(state);
    import(&house, &key, [1; 32], None).unwrap();
    house.decrypt(&blob).unwrap();
}

#[test]
fn tokens_are_for_one_key_and_one_day() {
    let house = new_house();
    let (key, other) = (external_key(&house), external_key(&house));
    let of_other = parameters(&house, &other, "RSAES_OAEP_SHA_1");
    let public = RsaPublicKey::from_public_key_der(&of_other.public_key).unwrap();
    let wrap =
        |material: &[u8]| public.encrypt(&mut OsRng, Oaep::new::<sha1::Sha1>(), material).unwrap();
    let wrapped = wrap(&[3; 32]);
    let crossed = house.root(&request(&key, &of_other, &wrapped, None));
    assert_refused(crossed, "InvalidImportTokenException");
    let short = house.root(&request(&other, &of_other, &wrap(&[3; 16]), None));
    assert_refused(short, "IncorrectKeyMaterialException");
    let garbled = house.root(&request(&other, &of_other, &[9; 256], None));
    assert_refused(garbled, "InvalidCiphertextException");
    house.root(&request(&other, &of_other, &wrapped, None)).unwrap();
    house.clock.advance(DAY);
    let late = house.root(&request(&other, &of_other, &wrapped, None));
    assert_refused(late, "ExpiredImportTokenException");
    let past = import(&house, &key, [3; 32], Some(1.0));
    assert_refused(past, "ValidationException");
}
