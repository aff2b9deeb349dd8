//! A provider around a provider that writes down what it is asked, and refuses some
//! principals.

use crate::*;
use parking_lot::Mutex;
use std::sync::Arc;

/// One call: its operation and what of its request the tests look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) operation: String,
    pub(super) grant_tokens: Vec<String>,
    pub(super) principal: Option<String>,
    pub(super) dry_run: bool,
}

pub(super) struct Recorder {
    inner: Arc<dyn KmsProvider>,
    pub(super) calls: Mutex<Vec<Call>>,
    pub(super) refused: Mutex<Vec<String>>,
    /// Tokens of the grants made, in their order.
    pub(super) tokens: Mutex<Vec<String>>,
}

impl Recorder {
    pub(super) fn new(inner: Arc<dyn KmsProvider>) -> Arc<Self> {
        let (calls, refused, tokens) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { inner, calls, refused, tokens })
    }

    fn note(&self, operation: KmsOperation) {
        self.calls.lock().push(Call { operation: operation.to_string(), ..Call::default() });
    }

    pub(super) fn operations(&self) -> Vec<String> {
        self.calls.lock().drain(..).map(|call| call.operation).collect()
    }
}

impl KmsProvider for Recorder {
    fn identity<'a>(&'a self, key: &'a str) -> KmsFuture<'a, String> {
        self.inner.identity(key)
    }

    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        self.note(KmsOperation::DescribeKey);
        self.inner.describe_key(key)
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        self.note(KmsOperation::CreateGrant);
        Box::pin(async move {
            let created = self.inner.create_grant(request).await?;
            self.tokens.lock().push(created.grant_token.clone());
            Ok(created)
        })
    }

    fn retire_grant<'a>(&'a self, key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()> {
        self.note(KmsOperation::RetireGrant);
        self.inner.retire_grant(key, grant_id)
    }

    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        let operation = KmsOperation::GenerateDataKey;
        self.calls.lock().push(Call {
            operation: operation.to_string(),
            grant_tokens: request.grant_tokens.to_vec(),
            dry_run: request.dry_run,
            principal: None,
        });
        self.inner.generate_data_key(request)
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        let operation = KmsOperation::Decrypt;
        let principal = request.principal.map(str::to_owned);
        self.calls.lock().push(Call {
            operation: operation.to_string(),
            grant_tokens: request.grant_tokens.to_vec(),
            dry_run: request.dry_run,
            principal: principal.clone(),
        });
        if let Some(principal) = principal.filter(|name| self.refused.lock().contains(name)) {
            let text = format!("User: {principal} is not authorized to perform: kms:Decrypt");
            let error = KmsError::new(operation, "AccessDeniedException", text);
            return Box::pin(async move { Err(error) });
        }
        // whom to ask for is this provider's matter
        self.inner.decrypt(DecryptRequest { principal: None, ..request })
    }

    fn decrypt_as_control<'a>(
        &'a self,
        request: DecryptRequest<'a>,
    ) -> KmsFuture<'a, DecryptedKey> {
        self.calls.lock().push(Call {
            operation: KmsOperation::Decrypt.to_string(),
            principal: Some("control".to_owned()),
            ..Call::default()
        });
        self.inner.decrypt_as_control(request)
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        self.note(KmsOperation::ReEncrypt);
        self.inner.re_encrypt(request)
    }
}
