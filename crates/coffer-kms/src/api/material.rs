//! Key material: rotation and import.

use super::{Blob, KeyIdResponse, request, shape};

request!("EnableKeyRotation", EnableKeyRotationRequest {
    pub key_id: String,
    pub rotation_period_in_days: Option<i64>,
} -> ());

request!("DisableKeyRotation", DisableKeyRotationRequest {
    pub key_id: String,
} -> ());

request!("GetKeyRotationStatus", GetKeyRotationStatusRequest {
    pub key_id: String,
} -> GetKeyRotationStatusResponse);

shape!(GetKeyRotationStatusResponse {
    pub key_id: String,
    pub key_rotation_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_period_in_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_rotation_date: Option<f64>,
});

request!("RotateKeyOnDemand", RotateKeyOnDemandRequest {
    pub key_id: String,
} -> KeyIdResponse);

request!("ListKeyRotations", ListKeyRotationsRequest {
    pub key_id: String,
    pub include_key_material: Option<String>,
    pub limit: Option<i64>,
    pub marker: Option<String>,
} -> ListKeyRotationsResponse);

shape!(ListKeyRotationsResponse {
    pub rotations: Vec<RotationsListEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    pub truncated: bool,
});

shape!(RotationsListEntry {
    pub key_id: String,
    pub key_material_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_material_state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_date: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_type: Option<String>,
});

request!("GetParametersForImport", GetParametersForImportRequest {
    pub key_id: String,
    pub wrapping_algorithm: Option<String>,
    pub wrapping_key_spec: Option<String>,
} -> GetParametersForImportResponse);

shape!(GetParametersForImportResponse {
    pub key_id: String,
    pub import_token: Blob,
    pub public_key: Blob,
    pub parameters_valid_to: f64,
});

request!("ImportKeyMaterial", ImportKeyMaterialRequest {
    pub key_id: String,
    #[serde(skip_serializing)]
    pub import_token: Blob,
    #[serde(skip_serializing)]
    pub encrypted_key_material: Blob,
    pub valid_to: Option<f64>,
    pub expiration_model: Option<String>,
    pub import_type: Option<String>,
    pub key_material_id: Option<String>,
} -> ImportKeyMaterialResponse);

shape!(ImportKeyMaterialResponse {
    pub key_id: String,
    pub key_material_id: String,
});

request!("DeleteImportedKeyMaterial", DeleteImportedKeyMaterialRequest {
    pub key_id: String,
    pub key_material_id: Option<String>,
} -> ImportKeyMaterialResponse);
