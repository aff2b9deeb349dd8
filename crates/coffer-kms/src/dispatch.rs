//! Operations by name.

use crate::{Caller, Kms, KmsException, api};
use zeroize::Zeroizing;

type Answer = Result<Zeroizing<Vec<u8>>, KmsException>;

/// One arm for each request type: its operation's name leads to it.
macro_rules! dispatch {
    ($kms:expr, $caller:expr, $operation:expr, $body:expr; $($request:ident)*) => {
        match $operation {
            $(name if name == <api::$request as api::ApiRequest>::OPERATION => {
                $kms.perform_json::<api::$request>($caller, $body)
            })*
            _ => Err(KmsException::new("UnknownOperationException", "")),
        }
    };
}

pub(crate) fn call(kms: &Kms, caller: &Caller, operation: &str, body: &[u8]) -> Answer {
    dispatch! { kms, caller, operation, body;
        CreateKeyRequest
        DescribeKeyRequest
        ListKeysRequest
        EnableKeyRequest
        DisableKeyRequest
        ScheduleKeyDeletionRequest
        CancelKeyDeletionRequest
        UpdateKeyDescriptionRequest
        GetKeyPolicyRequest
        PutKeyPolicyRequest
        ListKeyPoliciesRequest
        EncryptRequest
        DecryptRequest
        ReEncryptRequest
        GenerateDataKeyRequest
        GenerateDataKeyWithoutPlaintextRequest
        GenerateRandomRequest
        CreateGrantRequest
        ListGrantsRequest
        ListRetirableGrantsRequest
        RetireGrantRequest
        RevokeGrantRequest
        CreateAliasRequest
        UpdateAliasRequest
        DeleteAliasRequest
        ListAliasesRequest
        EnableKeyRotationRequest
        DisableKeyRotationRequest
        GetKeyRotationStatusRequest
        RotateKeyOnDemandRequest
        ListKeyRotationsRequest
        GetParametersForImportRequest
        ImportKeyMaterialRequest
        DeleteImportedKeyMaterialRequest
        TagResourceRequest
        UntagResourceRequest
        ListResourceTagsRequest
    }
}
