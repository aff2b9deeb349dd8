//! The calls.

use crate::{AwsKmsOptions, KmsThread, OptionsError, answer, clients::Clients};
use aws_sdk_kms::{
    primitives::Blob,
    types::{DataKeySpec, GrantConstraints, GrantOperation},
};
use coffer_keys::{
    CreateGrantRequest, CreatedGrant, DecryptRequest, DecryptedKey, EncryptionContext,
    GenerateDataKeyRequest, GeneratedDataKey, GrantKind, KeyMetadata, KmsError, KmsFuture,
    KmsOperation, KmsProvider, ReEncryptRequest, ReEncrypted, failure,
};
use std::{collections::HashMap, future::Future, sync::Arc};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

/// AWS KMS of one Region, or a server that speaks its API.
pub struct AwsKms {
    thread: Arc<KmsThread>,
    clients: Arc<Clients>,
}

/// Ends a call whose caller does not wait any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl AwsKms {
    /// A provider that makes its calls on `thread`. Reads the configuration; calls nobody before the
    /// first request.
    ///
    /// # Errors
    /// An option that cannot be; `None` credentials are told by the first request.
    pub async fn new(options: AwsKmsOptions, thread: Arc<KmsThread>) -> Result<Self, OptionsError> {
        options.check()?;
        let loading = thread.handle().spawn(Clients::load(options));
        let clients = loading.await.map_err(|error| OptionsError::Client(error.to_string()))??;
        Ok(Self { thread, clients: Arc::new(clients) })
    }

    /// Makes a call on the thread.
    fn call<'a, T, C, F>(&self, operation: KmsOperation, call: C) -> KmsFuture<'a, T>
    where
        T: Send + 'static,
        C: FnOnce(Arc<Clients>) -> F,
        F: Future<Output = Result<T, KmsError>> + Send + 'static,
    {
        let (thread, call) = (Arc::clone(&self.thread), call(Arc::clone(&self.clients)));
        Box::pin(async move {
            let task = thread.handle().spawn(call);
            let _abort = AbortOnDrop(task.abort_handle());
            task.await.unwrap_or_else(|error| {
                Err(KmsError::new(operation, failure::CONNECTION, error.to_string()))
            })
        })
    }
}

fn pairs(context: &EncryptionContext) -> HashMap<String, String> {
    context.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn tokens(given: &[String]) -> Option<Vec<String>> {
    (!given.is_empty()).then(|| given.to_vec())
}

fn grant_operations(kind: GrantKind) -> Vec<GrantOperation> {
    let mut operations = vec![
        GrantOperation::DescribeKey,
        GrantOperation::Decrypt,
        GrantOperation::ReEncryptFrom,
        GrantOperation::ReEncryptTo,
        GrantOperation::RetireGrant,
    ];
    if kind == GrantKind::Data {
        operations.extend([GrantOperation::GenerateDataKey, GrantOperation::Encrypt]);
    }
    operations
}

/// As whom a table key is opened.
enum Opener {
    Data,
    Control,
    Role(String),
}

impl AwsKms {
    fn decrypt_as<'a>(
        &'a self,
        opener: Opener,
        request: DecryptRequest<'a>,
    ) -> KmsFuture<'a, DecryptedKey> {
        let operation = KmsOperation::Decrypt;
        let (key, context) = (request.key.to_owned(), pairs(request.context));
        let (tokens, dry_run) = (tokens(request.grant_tokens), request.dry_run);
        let blob = request.blob.to_vec();
        self.call(operation, move |clients| async move {
            let client = match opener {
                Opener::Data => clients.data().clone(),
                Opener::Control => clients.control().clone(),
                Opener::Role(role) => clients.acting_as(&role).await,
            };
            let answer = client
                .decrypt()
                .key_id(key)
                .ciphertext_blob(Blob::new(blob))
                .set_encryption_context(Some(context))
                .set_grant_tokens(tokens)
                .set_dry_run(dry_run.then_some(true))
                .send()
                .await;
            let opened = answer.map_err(|error| answer::failed(operation, error))?;
            let plaintext = opened.plaintext.map(|blob| Zeroizing::new(blob.into_inner()));
            match (plaintext, opened.key_id) {
                (Some(plaintext), Some(key_arn)) => {
                    let key_material_id = opened.key_material_id;
                    Ok(DecryptedKey { plaintext, key_arn, key_material_id })
                }
                _ => Err(answer::unreadable(operation, "no key in the answer")),
            }
        })
    }
}

impl KmsProvider for AwsKms {
    fn identity<'a>(&'a self, _key: &'a str) -> KmsFuture<'a, String> {
        let operation = KmsOperation::DescribeKey;
        self.call(operation, |clients| async move { clients.identity(operation).await })
    }

    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        let (operation, key) = (KmsOperation::DescribeKey, key.to_owned());
        self.call(operation, |clients| async move {
            let answer = clients.control().describe_key().key_id(key).send().await;
            let described = answer.map_err(|error| answer::failed(operation, error))?;
            let found = described.key_metadata();
            answer::metadata(found.ok_or_else(|| answer::unreadable(operation, "no metadata"))?)
        })
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        let operation = KmsOperation::CreateGrant;
        let (key, name, kind) = (request.key.to_owned(), request.name.to_owned(), request.kind);
        let context = pairs(request.context);
        self.call(operation, move |clients| async move {
            let (data, control) = clients.principals().await?;
            let grantee = if kind == GrantKind::Data { data } else { control.clone() };
            let only =
                GrantConstraints::builder().set_encryption_context_subset(Some(context)).build();
            let call = clients.control().create_grant();
            let answer = call
                .key_id(key)
                .name(name)
                .grantee_principal(grantee)
                .retiring_principal(control)
                .set_operations(Some(grant_operations(kind)))
                .constraints(only)
                .send()
                .await;
            let made = answer.map_err(|error| answer::failed(operation, error))?;
            match (made.grant_id, made.grant_token) {
                (Some(grant_id), Some(grant_token)) => Ok(CreatedGrant { grant_id, grant_token }),
                _ => Err(answer::unreadable(operation, "no grant id or token")),
            }
        })
    }

    fn retire_grant<'a>(&'a self, key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()> {
        let operation = KmsOperation::RetireGrant;
        let (key, grant_id) = (key.to_owned(), grant_id.to_owned());
        self.call(operation, |clients| async move {
            let call = clients.control().retire_grant().key_id(key).grant_id(grant_id);
            let answer = call.send().await;
            answer.map(drop).map_err(|error| answer::failed(operation, error))
        })
    }

    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        let operation = KmsOperation::GenerateDataKey;
        let (key, context) = (request.key.to_owned(), pairs(request.context));
        let (tokens, dry_run) = (tokens(request.grant_tokens), request.dry_run);
        let asked = key.clone();
        self.call(operation, move |clients| async move {
            let call = clients.data().generate_data_key();
            let answer = call
                .key_id(key)
                .key_spec(DataKeySpec::Aes256)
                .set_encryption_context(Some(context))
                .set_grant_tokens(tokens)
                .set_dry_run(dry_run.then_some(true))
                .send()
                .await;
            let made = answer.map_err(|error| answer::failed(operation, error))?;
            let plaintext = made.plaintext.map(|blob| Zeroizing::new(blob.into_inner()));
            match (plaintext, made.ciphertext_blob, made.key_id) {
                // a table made under it could never be opened again
                (_, _, Some(other)) if other != asked => {
                    let text = format!("the KMS answered with another key, {other}");
                    Err(KmsError::new(operation, "IncorrectKeyException", text))
                }
                (Some(plaintext), Some(blob), Some(key_arn)) => Ok(GeneratedDataKey {
                    plaintext,
                    blob: blob.into_inner(),
                    key_arn,
                    key_material_id: made.key_material_id,
                }),
                _ => Err(answer::unreadable(operation, "no key in the answer")),
            }
        })
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        let opener = request.principal.map_or(Opener::Data, |role| Opener::Role(role.to_owned()));
        self.decrypt_as(opener, request)
    }

    fn decrypt_as_control<'a>(
        &'a self,
        request: DecryptRequest<'a>,
    ) -> KmsFuture<'a, DecryptedKey> {
        self.decrypt_as(Opener::Control, request)
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        let operation = KmsOperation::ReEncrypt;
        let (from, to) = (request.source_key.to_owned(), request.destination_key.to_owned());
        let (from_context, to_context) =
            (pairs(request.source_context), pairs(request.destination_context));
        let blob = Blob::new(request.blob);
        self.call(operation, move |clients| async move {
            let call = clients.data().re_encrypt();
            let answer = call
                .ciphertext_blob(blob)
                .source_key_id(from)
                .set_source_encryption_context(Some(from_context))
                .destination_key_id(to)
                .set_destination_encryption_context(Some(to_context))
                .send()
                .await;
            let made = answer.map_err(|error| answer::failed(operation, error))?;
            match (made.ciphertext_blob, made.source_key_id, made.key_id) {
                (Some(blob), Some(source_key_arn), Some(key_arn)) => Ok(ReEncrypted {
                    blob: blob.into_inner(),
                    source_key_arn,
                    key_arn,
                    key_material_id: made.destination_key_material_id,
                }),
                _ => Err(answer::unreadable(operation, "no ciphertext in the answer")),
            }
        })
    }
}
