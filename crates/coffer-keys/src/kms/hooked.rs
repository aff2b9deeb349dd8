//! A provider around a provider, for tests and fault scripts: each call can be held, delayed or
//! failed, before it reaches the KMS or before its answer comes back.

use crate::kms::{
    DecryptedKey, EncryptedBlob, EncryptionContext, GeneratedDataKey, KeyMetadata, KmsError,
    KmsFuture, KmsOperation, KmsProvider, ReEncryptRequest, ReEncrypted,
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
    fn generate_data_key<'a>(
        &'a self,
        key: &'a str,
        context: &'a EncryptionContext,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        let call = self.inner.generate_data_key(key, context);
        Box::pin(self.around(KmsOperation::GenerateDataKey, key, call))
    }

    fn decrypt<'a>(
        &'a self,
        key: Option<&'a str>,
        blob: &'a [u8],
        context: &'a EncryptionContext,
    ) -> KmsFuture<'a, DecryptedKey> {
        let call = self.inner.decrypt(key, blob, context);
        Box::pin(self.around(KmsOperation::Decrypt, key.unwrap_or(""), call))
    }

    fn encrypt<'a>(
        &'a self,
        key: &'a str,
        plaintext: &'a [u8],
        context: &'a EncryptionContext,
    ) -> KmsFuture<'a, EncryptedBlob> {
        let call = self.inner.encrypt(key, plaintext, context);
        Box::pin(self.around(KmsOperation::Encrypt, key, call))
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        let call = self.inner.re_encrypt(request);
        Box::pin(self.around(KmsOperation::ReEncrypt, request.destination_key, call))
    }

    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        let call = self.inner.describe_key(key);
        Box::pin(self.around(KmsOperation::DescribeKey, key, call))
    }
}
