//! Import of key material. The private key of the wrapping pair travels inside the import token,
//! sealed with a key of the store, so that nothing has to be kept between the two calls.

use super::{
    Perform,
    keys::{MILLIS_PER_DAY, expiration_model},
    seconds,
};
use crate::{
    KmsException,
    api::{
        DeleteImportedKeyMaterialRequest, GetParametersForImportRequest,
        GetParametersForImportResponse, ImportKeyMaterialRequest, ImportKeyMaterialResponse,
    },
    call::Call,
    state::{Change, Key, Material, Origin},
    validation::Validation,
    wiped::{secret_text, to_json},
};
use coffer_crypto::WrappingKey;
use rsa::{
    Oaep, RsaPrivateKey, RsaPublicKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey},
    rand_core::OsRng,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use zeroize::Zeroizing;

type Result<T> = std::result::Result<T, KmsException>;

const ALGORITHMS: [&str; 6] = [
    "RSAES_PKCS1_V1_5",
    "RSAES_OAEP_SHA_1",
    "RSAES_OAEP_SHA_256",
    "RSA_AES_KEY_WRAP_SHA_1",
    "RSA_AES_KEY_WRAP_SHA_256",
    "SM2PKE",
];
const SPECS: [&str; 4] = ["RSA_2048", "RSA_3072", "RSA_4096", "SM2"];
const MODELS: [&str; 2] = ["KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE"];
const TOKEN_AAD: &[u8] = b"coffer-kms-import-token-v1";
const BLOB_LEN_MAX: usize = 6144;
const VALID_DAYS_MAX: i64 = 365;

/// What an import token holds.
#[derive(Serialize, Deserialize)]
struct Token {
    key_arn: String,
    algorithm: String,
    valid_to_millis: i64,
    /// PKCS #8, hex.
    #[serde(with = "secret_text")]
    private_key: Zeroizing<String>,
}

fn check_external(call: &Call<'_>, key: &Key) -> Result<()> {
    if key.origin == Origin::External {
        return call.check_not_pending_deletion(key);
    }
    let origin = key.origin.as_str();
    let message = format!("{} origin is {origin} which is not valid for this operation.", key.arn);
    Err(KmsException::new("UnsupportedOperationException", message))
}

impl Perform for GetParametersForImportRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<GetParametersForImportResponse> {
        let (algorithm, spec) = (&self.wrapping_algorithm, &self.wrapping_key_spec);
        Validation::default()
            .key_id("keyId", &self.key_id)
            .text("wrappingAlgorithm", algorithm.as_deref().unwrap_or_default(), 64)
            .one_of("wrappingAlgorithm", algorithm.as_deref(), &ALGORITHMS)
            .text("wrappingKeySpec", spec.as_deref().unwrap_or_default(), 64)
            .one_of("wrappingKeySpec", spec.as_deref(), &SPECS)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        check_external(call, &key)?;
        let (algorithm, bits) = match (algorithm.as_deref(), spec.as_deref()) {
            (Some(name @ ("RSAES_OAEP_SHA_1" | "RSAES_OAEP_SHA_256")), Some("RSA_2048")) => {
                (name, 2048)
            }
            (Some(name @ ("RSAES_OAEP_SHA_1" | "RSAES_OAEP_SHA_256")), Some("RSA_3072")) => {
                (name, 3072)
            }
            (Some(name @ ("RSAES_OAEP_SHA_1" | "RSAES_OAEP_SHA_256")), Some("RSA_4096")) => {
                (name, 4096)
            }
            _ => {
                let message = "Key material is wrapped with RSAES_OAEP_SHA_256 or \
                               RSAES_OAEP_SHA_1 under an RSA key here.";
                return Err(KmsException::new("UnsupportedOperationException", message));
            }
        };
        let failed = |_| KmsException::internal("cannot make a wrapping key");
        let private = RsaPrivateKey::new(&mut OsRng, bits).map_err(failed)?;
        let public = RsaPublicKey::from(&private)
            .to_public_key_der()
            .map_err(|_| KmsException::internal("cannot encode a wrapping key"))?;
        let valid_to_millis = call.now_millis.saturating_add(MILLIS_PER_DAY);
        let der = private
            .to_pkcs8_der()
            .map_err(|_| KmsException::internal("cannot encode a wrapping key"))?;
        let token = Token {
            key_arn: key.arn.clone(),
            algorithm: algorithm.to_owned(),
            valid_to_millis,
            private_key: Zeroizing::new(hex::encode(der.as_bytes())),
        };
        let json = to_json(&token).map_err(|_| KmsException::internal("import token"))?;
        let sealed = import_key(call)?
            .seal(TOKEN_AAD, &json)
            .map_err(|_| KmsException::internal("no randomness"))?;
        Ok(GetParametersForImportResponse {
            key_id: key.arn.clone(),
            import_token: sealed.into(),
            public_key: public.as_bytes().into(),
            parameters_valid_to: seconds(valid_to_millis),
        })
    }
}

/// The key that import tokens are sealed with; made at the first import.
fn import_key(call: &mut Call<'_>) -> Result<Arc<WrappingKey>> {
    let fresh = WrappingKey::generate().map_err(|_| KmsException::internal("no randomness"))?;
    call.change(|state| {
        if let Some(key) = &state.import_key {
            return Ok((Arc::clone(key), Vec::new()));
        }
        let key = Arc::new(fresh);
        Ok((Arc::clone(&key), vec![Change::ImportKey(Some(key))]))
    })
}

impl Perform for ImportKeyMaterialRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ImportKeyMaterialResponse> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .bytes("importToken", &self.import_token, BLOB_LEN_MAX)
            .bytes("encryptedKeyMaterial", &self.encrypted_key_material, BLOB_LEN_MAX)
            .one_of("expirationModel", self.expiration_model.as_deref(), &MODELS)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        check_external(call, &key)?;
        let valid_to_millis = self.valid_to_millis(call.now_millis)?;
        if self.import_type.as_deref().is_some_and(|kind| kind != "EXISTING_KEY_MATERIAL")
            && !key.materials.is_empty()
        {
            let message = "A key with imported material has one material here.";
            return Err(KmsException::new("UnsupportedOperationException", message));
        }
        let bytes = self.unwrap_material(call, &key)?;
        let id = material_id(&key.arn, &bytes);
        if self.key_material_id.as_ref().is_some_and(|given| *given != id) {
            return Err(other_material(&key));
        }
        let bytes = WrappingKey::from_slice(&bytes)
            .map_err(|_| KmsException::new("IncorrectKeyMaterialException", "not 32 bytes"))?;
        let material = Material {
            id: id.clone(),
            bytes: Some(Arc::new(bytes)),
            rotated: None,
            valid_to_millis,
        };
        call.change_key(&key, |key| {
            if key.materials.first().is_some_and(|present| present.id != material.id) {
                return Err(other_material(key));
            }
            key.materials = vec![material];
            Ok(())
        })?;
        Ok(ImportKeyMaterialResponse { key_id: key.arn.clone(), key_material_id: id })
    }
}

fn other_material(key: &Key) -> KmsException {
    let message =
        format!("{} takes the material that was imported into it before, and no other.", key.arn);
    KmsException::new("IncorrectKeyMaterialException", message)
}

/// Tells the same material when it is imported again; nothing about it.
fn material_id(arn: &str, material: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"coffer-kms-material-v1");
    hash.update((arn.len() as u64).to_be_bytes());
    hash.update(arn.as_bytes());
    hash.update(material);
    hex::encode(hash.finalize())
}

impl ImportKeyMaterialRequest {
    fn valid_to_millis(&self, now_millis: i64) -> Result<Option<i64>> {
        let expires = self.expiration_model.as_deref() != Some("KEY_MATERIAL_DOES_NOT_EXPIRE");
        let Some(valid_to) = self.valid_to else {
            if expires {
                let message = "A validTo date must be set if the ExpirationModel is \
                               KEY_MATERIAL_EXPIRES";
                return Err(KmsException::validation(message));
            }
            return Ok(None);
        };
        if !expires {
            let message = "A validTo date may not be set if the ExpirationModel is \
                           KEY_MATERIAL_DOES_NOT_EXPIRE";
            return Err(KmsException::validation(message));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what is out of range is refused below"
        )]
        let millis = (valid_to * 1000.0) as i64;
        let last = now_millis.saturating_add(VALID_DAYS_MAX * MILLIS_PER_DAY);
        if millis <= now_millis || millis > last {
            let message = "The validTo date must be in the future, at most 365 days from now";
            return Err(KmsException::validation(message));
        }
        Ok(Some(millis))
    }

    fn unwrap_material(&self, call: &mut Call<'_>, key: &Key) -> Result<Zeroizing<Vec<u8>>> {
        let invalid = || {
            let message = "The import token is not one of this key.";
            KmsException::new("InvalidImportTokenException", message)
        };
        let opened =
            import_key(call)?.open(TOKEN_AAD, &self.import_token).map_err(|_| invalid())?;
        let token: Token = serde_json::from_slice(&opened).map_err(|_| invalid())?;
        if token.key_arn != key.arn {
            return Err(invalid());
        }
        if token.valid_to_millis <= call.now_millis {
            let message = "The import token has expired.";
            return Err(KmsException::new("ExpiredImportTokenException", message));
        }
        let der = Zeroizing::new(hex::decode(token.private_key.as_str()).map_err(|_| invalid())?);
        let private = RsaPrivateKey::from_pkcs8_der(&der).map_err(|_| invalid())?;
        let padding = match &*token.algorithm {
            "RSAES_OAEP_SHA_1" => Oaep::new::<sha1::Sha1>(),
            _ => Oaep::new::<rsa::sha2::Sha256>(),
        };
        let material = private
            .decrypt_blinded(&mut OsRng, padding, &self.encrypted_key_material)
            .map(Zeroizing::new)
            .map_err(|_| KmsException::new("InvalidCiphertextException", ""))?;
        if material.len() != 32 {
            let message = "Key material for a symmetric key has 32 bytes.";
            return Err(KmsException::new("IncorrectKeyMaterialException", message));
        }
        Ok(material)
    }
}

impl Perform for DeleteImportedKeyMaterialRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ImportKeyMaterialResponse> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .length("keyMaterialId", self.key_material_id.as_deref(), 64, 64)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        if key.origin != Origin::External {
            check_external(call, &key)?;
        }
        let present = key.current_material().map(|material| material.id.clone());
        let id = self.key_material_id.clone().or_else(|| present.clone()).unwrap_or_default();
        if self.key_material_id.is_some() && present.as_ref() != Some(&id) {
            let message = format!("{} has no material {id}", key.arn);
            return Err(KmsException::new("NotFoundException", message));
        }
        let is_there = key.current_material().is_some_and(|material| material.bytes.is_some());
        if is_there {
            call.change_key(&key, |key| {
                key.materials.iter_mut().for_each(forget);
                Ok(())
            })?;
            call.destroys_material();
        }
        Ok(ImportKeyMaterialResponse { key_id: key.arn.clone(), key_material_id: id })
    }
}

/// Drops the bytes of a material; which it was stays known.
pub(crate) fn forget(material: &mut Material) {
    tracing::info!(
        material = material.id,
        model = expiration_model(material),
        "imported key material is away"
    );
    material.bytes = None;
    material.valid_to_millis = None;
}
