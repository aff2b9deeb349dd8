//! A provider around a provider that writes down what it is asked, knows dry runs, and refuses some
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
    pub(super) retired: Mutex<Vec<String>>,
}

impl Recorder {
    pub(super) fn new(inner: Arc<dyn KmsProvider>) -> Arc<Self> {
        let (calls, refused, retired) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { inner, calls, refused, retired })
    }

    fn note(&self, operation: KmsOperation) {
        self.calls.lock().push(Call { operation: operation.to_string(), ..Call::default() });
    }

    pub(super) fn operations(&self) -> Vec<String> {
        self.calls.lock().drain(..).map(|call| call.operation).collect()
    }
}

fn dry_run<T>(operation: KmsOperation, wanted: bool) -> impl FnOnce(T) -> Result<T, KmsError> {
    move |answer| match wanted {
        true => Err(KmsError::new(operation, "DryRunOperationException", "would have")),
        false => Ok(answer),
    }
}

impl KmsProvider for Recorder {
    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        self.note(KmsOperation::DescribeKey);
        self.inner.describe_key(key)
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        self.note(KmsOperation::CreateGrant);
        Box::pin(async move {
            self.inner.describe_key(request.key).await?;
            let (grant_id, grant_token) =
                (format!("id of {}", request.name), format!("token of {}", request.name));
            Ok(CreatedGrant { grant_id, grant_token })
        })
    }

    fn retire_grant<'a>(&'a self, _key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()> {
        self.note(KmsOperation::RetireGrant);
        let gone = self.retired.lock().contains(&grant_id.to_owned());
        self.retired.lock().push(grant_id.to_owned());
        Box::pin(async move {
            let error = KmsError::new(KmsOperation::RetireGrant, "NotFoundException", "gone");
            if gone { Err(error) } else { Ok(()) }
        })
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
        let call = self.inner.generate_data_key(request);
        Box::pin(async move { call.await.and_then(dry_run(operation, request.dry_run)) })
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        let operation = KmsOperation::Decrypt;
        let principal = request.principal.map(str::to_owned);
        self.calls.lock().push(Call {
            operation: operation.to_string(),
            grant_tokens: Vec::new(),
            dry_run: request.dry_run,
            principal: principal.clone(),
        });
        if let Some(principal) = principal.filter(|name| self.refused.lock().contains(name)) {
            let text = format!("User: {principal} is not authorized to perform: kms:Decrypt");
            let error = KmsError::new(operation, "AccessDeniedException", text);
            return Box::pin(async move { Err(error) });
        }
        // whom to ask for is this provider's matter
        let call = self.inner.decrypt(DecryptRequest { principal: None, ..request });
        Box::pin(async move { call.await.and_then(dry_run(operation, request.dry_run)) })
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        self.note(KmsOperation::ReEncrypt);
        self.inner.re_encrypt(request)
    }
}
