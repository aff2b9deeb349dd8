//! A provider around a provider, for tests and fault scripts: each call can be held, delayed or
//! failed, before it reaches the KMS or before its answer comes back.

use crate::kms::{
    CreateGrantRequest, CreatedGrant, DecryptRequest, DecryptedKey, GenerateDataKeyRequest,
    GeneratedDataKey, KeyMetadata, KmsError, KmsFuture, KmsOperation, KmsProvider,
    ReEncryptRequest, ReEncrypted,
};
use parking_lot::RwLock;
use std::sync::Arc;

/// What happens around each call. `key` is the key as the request names it.
pub trait KmsHook: Send + Sync {
    /// Before the call: an error is returned instead of making it.
    fn before<'a>(&'a self, _operation: KmsOperation, _key: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// After the call: an error replaces its answer, as when an answer is lost on the way.
    fn after<'a>(&'a self, _operation: KmsOperation, _key: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// `inner` with a hook that can be changed at any time.
pub struct HookedKms {
    inner: Arc<dyn KmsProvider>,
    hook: RwLock<Option<Arc<dyn KmsHook>>>,
}

impl HookedKms {
    /// Without a hook: every call goes through.
    #[must_use]
    pub fn new(inner: Arc<dyn KmsProvider>) -> Self {
        Self { inner, hook: RwLock::new(None) }
    }

    /// Calls from now on go through `hook`.
    pub fn set_hook(&self, hook: Option<Arc<dyn KmsHook>>) {
        *self.hook.write() = hook;
    }

    async fn around<T>(
        &self,
        operation: KmsOperation,
        key: &str,
        call: KmsFuture<'_, T>,
    ) -> Result<T, KmsError> {
        let hook = self.hook.read().clone();
        let Some(hook) = hook else { return call.await };
        hook.before(operation, key).await?;
        let answer = call.await?;
        hook.after(operation, key).await?;
        Ok(answer)
    }
}

impl KmsProvider for HookedKms {
    fn identity<'a>(&'a self, key: &'a str) -> KmsFuture<'a, String> {
        self.inner.identity(key)
    }

    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        let call = self.inner.describe_key(key);
        Box::pin(self.around(KmsOperation::DescribeKey, key, call))
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        let call = self.inner.create_grant(request);
        Box::pin(self.around(KmsOperation::CreateGrant, request.key, call))
    }

    fn retire_grant<'a>(&'a self, key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()> {
        let call = self.inner.retire_grant(key, grant_id);
        Box::pin(self.around(KmsOperation::RetireGrant, key, call))
    }

    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        let call = self.inner.generate_data_key(request);
        Box::pin(self.around(KmsOperation::GenerateDataKey, request.key, call))
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        let call = self.inner.decrypt(request);
        Box::pin(self.around(KmsOperation::Decrypt, request.key, call))
    }

    fn decrypt_as_control<'a>(
        &'a self,
        request: DecryptRequest<'a>,
    ) -> KmsFuture<'a, DecryptedKey> {
        let call = self.inner.decrypt_as_control(request);
        Box::pin(self.around(KmsOperation::Decrypt, request.key, call))
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        let call = self.inner.re_encrypt(request);
        Box::pin(self.around(KmsOperation::ReEncrypt, request.destination_key, call))
    }
}
