//! Encrypting, decrypting, making data keys.

use super::{Blob, EncryptionContext, request, shape};

request!("Encrypt", EncryptRequest {
    pub key_id: String,
    #[serde(skip_serializing)]
    pub plaintext: Blob,
    pub encryption_context: EncryptionContext,
    #[serde(skip_serializing)]
    pub grant_tokens: Vec<String>,
    pub encryption_algorithm: Option<String>,
    pub dry_run: Option<bool>,
} -> EncryptResponse);

shape!(EncryptResponse {
    pub ciphertext_blob: Blob,
    pub key_id: String,
    pub encryption_algorithm: String,
});

request!("Decrypt", DecryptRequest {
    #[serde(skip_serializing)]
    pub ciphertext_blob: Blob,
    pub encryption_context: EncryptionContext,
    #[serde(skip_serializing)]
    pub grant_tokens: Vec<String>,
    pub key_id: Option<String>,
    pub encryption_algorithm: Option<String>,
    #[serde(skip_serializing)]
    pub recipient: Option<serde_json::Value>,
    pub dry_run: Option<bool>,
} -> DecryptResponse);

shape!(DecryptResponse {
    pub key_id: String,
    pub plaintext: Blob,
    pub encryption_algorithm: String,
    pub key_material_id: String,
});

request!("ReEncrypt", ReEncryptRequest {
    #[serde(skip_serializing)]
    pub ciphertext_blob: Blob,
    pub source_encryption_context: EncryptionContext,
    pub source_key_id: Option<String>,
    pub destination_key_id: String,
    pub destination_encryption_context: EncryptionContext,
    pub source_encryption_algorithm: Option<String>,
    pub destination_encryption_algorithm: Option<String>,
    #[serde(skip_serializing)]
    pub grant_tokens: Vec<String>,
    pub dry_run: Option<bool>,
} -> ReEncryptResponse);

shape!(ReEncryptResponse {
    pub ciphertext_blob: Blob,
    pub source_key_id: String,
    pub key_id: String,
    pub source_encryption_algorithm: String,
    pub destination_encryption_algorithm: String,
    pub source_key_material_id: String,
    pub destination_key_material_id: String,
});

request!("GenerateDataKey", GenerateDataKeyRequest {
    pub key_id: String,
    pub encryption_context: EncryptionContext,
    pub number_of_bytes: Option<i64>,
    pub key_spec: Option<String>,
    #[serde(skip_serializing)]
    pub grant_tokens: Vec<String>,
    #[serde(skip_serializing)]
    pub recipient: Option<serde_json::Value>,
    pub dry_run: Option<bool>,
} -> GenerateDataKeyResponse);

shape!(GenerateDataKeyResponse {
    pub ciphertext_blob: Blob,
    pub plaintext: Blob,
    pub key_id: String,
    pub key_material_id: String,
});

request!("GenerateDataKeyWithoutPlaintext", GenerateDataKeyWithoutPlaintextRequest {
    pub key_id: String,
    pub encryption_context: EncryptionContext,
    pub number_of_bytes: Option<i64>,
    pub key_spec: Option<String>,
    #[serde(skip_serializing)]
    pub grant_tokens: Vec<String>,
    pub dry_run: Option<bool>,
} -> GenerateDataKeyWithoutPlaintextResponse);

shape!(GenerateDataKeyWithoutPlaintextResponse {
    pub ciphertext_blob: Blob,
    pub key_id: String,
    pub key_material_id: String,
});

request!("GenerateRandom", GenerateRandomRequest {
    pub number_of_bytes: Option<i64>,
    pub custom_key_store_id: Option<String>,
    #[serde(skip_serializing)]
    pub recipient: Option<serde_json::Value>,
} -> GenerateRandomResponse);

shape!(GenerateRandomResponse {
    pub plaintext: Blob,
});
