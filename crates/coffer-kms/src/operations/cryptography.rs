//! Encrypting, decrypting, making data keys.

use super::Perform;
use crate::{
    KmsException,
    api::{
        Blob, DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, EncryptionContext,
        GenerateDataKeyRequest, GenerateDataKeyResponse, GenerateDataKeyWithoutPlaintextRequest,
        GenerateDataKeyWithoutPlaintextResponse, GenerateRandomRequest, GenerateRandomResponse,
        ReEncryptRequest, ReEncryptResponse,
    },
    blob::{self, ParsedBlob},
    call::Call,
    state::Key,
    validation::Validation,
};
use std::sync::Arc;
use zeroize::Zeroizing;

type Result<T> = std::result::Result<T, KmsException>;

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";
const ALGORITHMS: [&str; 4] = [ALGORITHM, "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"];
const DATA_KEY_SPECS: [&str; 2] = ["AES_256", "AES_128"];
const PLAINTEXT_LEN_MAX: usize = 4096;
const BLOB_LEN_MAX: usize = 6144;
const RANDOM_LEN_MAX: i64 = 1024;

impl Perform for EncryptRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<EncryptResponse> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .bytes("plaintext", &self.plaintext, PLAINTEXT_LEN_MAX)
            .one_of("encryptionAlgorithm", self.encryption_algorithm.as_deref(), &ALGORITHMS)
            .grant_tokens(&self.grant_tokens)
            .finish()?;
        let key = destination(call, &self.key_id, "Encrypt", &self.encryption_context)?;
        check_algorithm(&key, self.encryption_algorithm.as_deref())?;
        call.check_grant_tokens(&self.grant_tokens)?;
        call.check_dry_run(self.dry_run)?;
        let sealed = seal(&key, &self.encryption_context, &self.plaintext)?;
        Ok(EncryptResponse {
            ciphertext_blob: sealed.blob,
            key_id: key.arn.clone(),
            encryption_algorithm: ALGORITHM.to_owned(),
        })
    }
}

impl Perform for DecryptRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<DecryptResponse> {
        Validation::default()
            .bytes("ciphertextBlob", &self.ciphertext_blob, BLOB_LEN_MAX)
            .length("keyId", self.key_id.as_deref(), 1, 2048)
            .one_of("encryptionAlgorithm", self.encryption_algorithm.as_deref(), &ALGORITHMS)
            .grant_tokens(&self.grant_tokens)
            .finish()?;
        check_no_recipient(self.recipient.is_some())?;
        let context = &self.encryption_context;
        let algorithm = self.encryption_algorithm.as_deref();
        let source = Source::find(call, &self.ciphertext_blob, self.key_id.as_deref())?;
        call.authorize_use(&source.key, "Decrypt", context)?;
        let opened = source.open(call, context, algorithm)?;
        call.check_grant_tokens(&self.grant_tokens)?;
        call.check_dry_run(self.dry_run)?;
        Ok(DecryptResponse {
            key_id: source.key.arn.clone(),
            plaintext: Blob(opened.plaintext),
            encryption_algorithm: ALGORITHM.to_owned(),
            key_material_id: opened.material_id,
        })
    }
}

impl Perform for ReEncryptRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ReEncryptResponse> {
        let (from, to) =
            (&self.source_encryption_algorithm, &self.destination_encryption_algorithm);
        Validation::default()
            .bytes("ciphertextBlob", &self.ciphertext_blob, BLOB_LEN_MAX)
            .length("sourceKeyId", self.source_key_id.as_deref(), 1, 2048)
            .key_id("destinationKeyId", &self.destination_key_id)
            .one_of("sourceEncryptionAlgorithm", from.as_deref(), &ALGORITHMS)
            .one_of("destinationEncryptionAlgorithm", to.as_deref(), &ALGORITHMS)
            .grant_tokens(&self.grant_tokens)
            .finish()?;
        let source_name = self.source_key_id.as_deref();
        let source = Source::find(call, &self.ciphertext_blob, source_name)?;
        let key = call.find(&self.destination_key_id)?;
        call.is_same_key = Some(key.arn == source.key.arn);
        let (old, new) = (&self.source_encryption_context, &self.destination_encryption_context);
        call.authorize_use(&source.key, "ReEncryptFrom", old)?;
        call.authorize_use(&key, "ReEncryptTo", new)?;
        let opened = source.open(call, old, from.as_deref())?;
        check_encrypts(call, &key)?;
        check_algorithm(&key, to.as_deref())?;
        call.check_grant_tokens(&self.grant_tokens)?;
        call.check_dry_run(self.dry_run)?;
        let sealed = seal(&key, new, &opened.plaintext)?;
        Ok(ReEncryptResponse {
            ciphertext_blob: sealed.blob,
            source_key_id: source.key.arn.clone(),
            key_id: key.arn.clone(),
            source_encryption_algorithm: ALGORITHM.to_owned(),
            destination_encryption_algorithm: ALGORITHM.to_owned(),
            source_key_material_id: opened.material_id,
            destination_key_material_id: sealed.material_id,
        })
    }
}

impl Perform for GenerateDataKeyRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<GenerateDataKeyResponse> {
        check_no_recipient(self.recipient.is_some())?;
        let made = NewDataKey {
            key_id: &self.key_id,
            context: &self.encryption_context,
            number_of_bytes: self.number_of_bytes,
            key_spec: self.key_spec.as_deref(),
            grant_tokens: &self.grant_tokens,
            dry_run: self.dry_run,
        }
        .make(call)?;
        Ok(GenerateDataKeyResponse {
            ciphertext_blob: made.sealed.blob,
            plaintext: Blob(made.plaintext),
            key_id: made.key_arn,
            key_material_id: made.sealed.material_id,
        })
    }
}

impl Perform for GenerateDataKeyWithoutPlaintextRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<GenerateDataKeyWithoutPlaintextResponse> {
        let made = NewDataKey {
            key_id: &self.key_id,
            context: &self.encryption_context,
            number_of_bytes: self.number_of_bytes,
            key_spec: self.key_spec.as_deref(),
            grant_tokens: &self.grant_tokens,
            dry_run: self.dry_run,
        }
        .make(call)?;
        Ok(GenerateDataKeyWithoutPlaintextResponse {
            ciphertext_blob: made.sealed.blob,
            key_id: made.key_arn,
            key_material_id: made.sealed.material_id,
        })
    }
}

impl Perform for GenerateRandomRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<GenerateRandomResponse> {
        Validation::default()
            .range("numberOfBytes", self.number_of_bytes, 1, RANDOM_LEN_MAX)
            .finish()?;
        check_no_recipient(self.recipient.is_some())?;
        if self.custom_key_store_id.is_some() {
            return Err(no_custom_key_store());
        }
        let len = self.number_of_bytes.and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(|| KmsException::validation("NumberOfBytes is required."))?;
        call.authorize_account("GenerateRandom", "*")?;
        Ok(GenerateRandomResponse { plaintext: Blob(random(len)?) })
    }
}

pub(super) fn no_custom_key_store() -> KmsException {
    KmsException::new("CustomKeyStoreNotFoundException", "This KMS has no custom key stores.")
}

/// What both operations that make data keys are asked.
struct NewDataKey<'a> {
    key_id: &'a str,
    context: &'a EncryptionContext,
    number_of_bytes: Option<i64>,
    key_spec: Option<&'a str>,
    grant_tokens: &'a [String],
    dry_run: Option<bool>,
}

struct MadeDataKey {
    plaintext: Zeroizing<Vec<u8>>,
    sealed: Sealed,
    key_arn: String,
}

impl NewDataKey<'_> {
    fn make(&self, call: &mut Call<'_>) -> Result<MadeDataKey> {
        Validation::default()
            .key_id("keyId", self.key_id)
            .range("numberOfBytes", self.number_of_bytes, 1, RANDOM_LEN_MAX)
            .one_of("keySpec", self.key_spec, &DATA_KEY_SPECS)
            .grant_tokens(self.grant_tokens)
            .finish()?;
        let len = match (self.key_spec, self.number_of_bytes) {
            (Some("AES_128"), None) => 16,
            (Some(_), None) => 32,
            (None, Some(len)) => usize::try_from(len).unwrap_or_default(),
            _ => {
                let message = "Please specify either number of bytes or key spec.";
                return Err(KmsException::validation(message));
            }
        };
        let key = destination(call, self.key_id, call.operation, self.context)?;
        check_algorithm(&key, None)?;
        call.check_grant_tokens(self.grant_tokens)?;
        call.check_dry_run(self.dry_run)?;
        let plaintext = random(len)?;
        let sealed = seal(&key, self.context, &plaintext)?;
        Ok(MadeDataKey { plaintext, sealed, key_arn: key.arn.clone() })
    }
}

/// A ciphertext and the key it is under.
struct Source<'a> {
    blob: ParsedBlob<'a>,
    key: Arc<Key>,
}

struct Opened {
    plaintext: Zeroizing<Vec<u8>>,
    material_id: String,
}

impl<'a> Source<'a> {
    /// With `name`: of this key, or refused.
    fn find(call: &mut Call<'_>, blob: &'a [u8], name: Option<&str>) -> Result<Self> {
        let named = name.map(|name| call.find(name)).transpose()?;
        let blob = blob::parse(blob).ok_or_else(invalid_ciphertext)?;
        let key = match named {
            Some(key) if key.arn != blob.arn => {
                let message = "The key ID in the request does not identify a CMK that can perform \
                               this operation.";
                return Err(KmsException::new("IncorrectKeyException", message));
            }
            Some(key) => key,
            None => call.find(blob.arn).map_err(|_| unknown_key())?,
        };
        Ok(Self { blob, key })
    }

    fn open(
        &self,
        call: &Call<'_>,
        context: &EncryptionContext,
        algorithm: Option<&str>,
    ) -> Result<Opened> {
        check_encrypts(call, &self.key)?;
        check_algorithm(&self.key, algorithm)?;
        let material_id = hex::encode(self.blob.material_id);
        let material = self.key.material(&material_id).ok_or_else(invalid_ciphertext)?;
        let bytes = material.bytes.as_ref().ok_or_else(invalid_ciphertext)?;
        let plaintext = blob::open(&self.blob, bytes, context).ok_or_else(invalid_ciphertext)?;
        Ok(Opened { plaintext, material_id })
    }
}

struct Sealed {
    blob: Blob,
    material_id: String,
}

fn seal(key: &Key, context: &EncryptionContext, plaintext: &[u8]) -> Result<Sealed> {
    let no_material = || KmsException::internal("the key has no material");
    let material = key.current_material().ok_or_else(no_material)?;
    let bytes = material.bytes.as_ref().ok_or_else(no_material)?;
    let blob = blob::seal(&key.arn, &material.id, bytes, context, plaintext)
        .ok_or_else(|| KmsException::internal("no randomness"))?;
    Ok(Sealed { blob: blob.into(), material_id: material.id.clone() })
}

/// A key to encrypt under.
fn destination(
    call: &mut Call<'_>,
    name: &str,
    action: &str,
    context: &EncryptionContext,
) -> Result<Arc<Key>> {
    let key = call.find(name)?;
    call.authorize_use(&key, action, context)?;
    check_encrypts(call, &key)?;
    Ok(key)
}

/// Refuses a key in the wrong state or of another use.
fn check_encrypts(call: &Call<'_>, key: &Key) -> Result<()> {
    call.check_usable(key)?;
    if key.usage == "ENCRYPT_DECRYPT" {
        return Ok(());
    }
    let message = format!(
        "{} key usage is {} which is not valid for {}.",
        key.arn, key.usage, call.operation
    );
    Err(KmsException::new("InvalidKeyUsageException", message))
}

/// Symmetric keys know one algorithm, and others have no material here.
fn check_algorithm(key: &Key, algorithm: Option<&str>) -> Result<()> {
    let algorithm = algorithm.unwrap_or(ALGORITHM);
    if key.is_symmetric() && algorithm == ALGORITHM {
        return Ok(());
    }
    if !key.is_symmetric() && algorithm != ALGORITHM {
        let message = "This KMS encrypts with symmetric keys only.";
        return Err(KmsException::new("UnsupportedOperationException", message));
    }
    let message = format!("Algorithm {algorithm} is incompatible with key spec {}.", key.spec);
    Err(KmsException::new("InvalidKeyUsageException", message))
}

fn check_no_recipient(has_recipient: bool) -> Result<()> {
    if has_recipient {
        let message = "Attested recipients are not supported.";
        return Err(KmsException::new("UnsupportedOperationException", message));
    }
    Ok(())
}

fn invalid_ciphertext() -> KmsException {
    KmsException::new("InvalidCiphertextException", "")
}

/// Does not tell whether there is such a key.
fn unknown_key() -> KmsException {
    let message = "The ciphertext refers to a customer master key that does not exist, does not \
                   exist in this region, or you are not allowed to access.";
    KmsException::new("AccessDeniedException", message)
}

fn random(len: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    coffer_crypto::fill_random(&mut bytes).map_err(|_| KmsException::internal("no randomness"))?;
    Ok(bytes)
}
