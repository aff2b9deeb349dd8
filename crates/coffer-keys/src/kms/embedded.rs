//! The embedded KMS as a provider: calls of Coffer made as its control and data identities.
//!
//! Both are roles of the KMS's account and subject to key policies and grants, as with a KMS
//! elsewhere. What only reads is answered at once; what changes something waits for the disk on a
//! thread of its own.

use crate::{
    KeyError, Result,
    kms::{
        CreateGrantRequest, CreatedGrant, DecryptRequest, DecryptedKey, GenerateDataKeyRequest,
        GeneratedDataKey, GrantKind, KeyMetadata, KeyState, KmsError, KmsFuture, KmsOperation,
        KmsProvider, ReEncryptRequest, ReEncrypted,
    },
};
use coffer_crypto::clock::Clock;
use coffer_kms::{Caller, Kms, KmsException, KmsOptions, Principal, api};
use std::{path::Path, sync::Arc};

/// What a new key is to be.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// Text for people.
    pub description: String,
    /// A name for the key, with or without `alias/`.
    pub alias: Option<String>,
    /// The ARN to have, instead of one with a random id.
    pub arn: Option<String>,
}

/// The embedded KMS of one data directory.
pub struct EmbeddedKms {
    kms: Arc<Kms>,
    control: Caller,
    data: Caller,
    operator: Caller,
    /// Opens what grants let the control identity open no more.
    account: Option<Caller>,
}

impl EmbeddedKms {
    /// Opens the KMS in `dir`; creates it at the first start.
    ///
    /// # Errors
    /// [`KeyError::KeyFile`] as [`Kms::open`].
    pub fn open(dir: &Path, options: &KmsOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let kms = Kms::open(dir, options, clock).map_err(KeyError::from)?;
        Ok(Arc::new(Self::new(kms)))
    }

    /// Opens a copy of a KMS that nobody else uses, to look at what was kept of dropped tables: where
    /// their grants are gone, keys that are enabled open by the right of the account.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_copy(dir: &Path, options: &KmsOptions, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let kms = Kms::open(dir, options, clock).map_err(KeyError::from)?;
        let of_owner = Self::new(kms);
        let account = Caller { principal: Principal::Root, ..of_owner.control.clone() };
        Ok(Arc::new(Self { account: Some(account), ..of_owner }))
    }

    fn new(kms: Arc<Kms>) -> Self {
        let service = format!("cassandra.{}.amazonaws.com", kms.region());
        let caller = |principal| Caller::internal(principal, Some(service.clone()));
        Self {
            control: caller(Principal::control()),
            data: caller(Principal::data()),
            operator: Kms::operator(),
            account: None,
            kms,
        }
    }

    /// The KMS itself, for its own endpoint and its users.
    #[must_use]
    pub fn kms(&self) -> &Arc<Kms> {
        &self.kms
    }

    /// The account of new keys.
    #[must_use]
    pub fn account(&self) -> String {
        self.kms.account()
    }

    /// The Region of new keys.
    #[must_use]
    pub fn region(&self) -> String {
        self.kms.region()
    }

    /// Makes an enabled key, as the operator. Waits for the disk, as do all changes.
    ///
    /// # Errors
    /// `InvalidArnException`, `InvalidAliasNameException`, `AlreadyExistsException`,
    /// `ValidationException`, `KMSInternalException`.
    pub fn create_key(&self, new: NewKey) -> std::result::Result<KeyMetadata, KmsException> {
        let request = api::CreateKeyRequest {
            description: Some(new.description),
            arn: new.arn,
            alias: new.alias,
            ..api::CreateKeyRequest::default()
        };
        let made = self.kms.perform(&self.operator, &request)?;
        Ok(self.metadata(made.key_metadata))
    }

    /// All keys that are not deleted, in the order of their creation.
    #[must_use]
    pub fn list_keys(&self) -> Vec<KeyMetadata> {
        self.kms.all_keys().into_iter().map(|key| self.metadata(key)).collect()
    }

    /// What `DescribeKey` answers the operator for an id, ARN or alias.
    ///
    /// # Errors
    /// `NotFoundException`.
    pub fn describe(&self, key: &str) -> std::result::Result<KeyMetadata, KmsException> {
        let described = self.describe_as(&self.operator, key);
        let is_bare = !key.contains([':', '/']);
        match described {
            Err(error) if is_bare && error.name() == "NotFoundException" => {
                let by_alias = self.describe_as(&self.operator, &format!("alias/{key}"));
                by_alias.map_err(|_| error)
            }
            described => described,
        }
    }

    /// Makes a key usable.
    ///
    /// # Errors
    /// `NotFoundException`; `KMSInvalidStateException` while deletion is pending;
    /// `KMSInternalException`.
    pub fn enable_key(&self, key: &str) -> std::result::Result<KeyMetadata, KmsException> {
        let arn = self.describe(key)?.arn;
        let request = api::EnableKeyRequest { key_id: arn.clone() };
        self.kms.perform(&self.operator, &request)?;
        self.describe(&arn)
    }

    /// Makes a key unusable.
    ///
    /// # Errors
    /// As [`Self::enable_key`].
    pub fn disable_key(&self, key: &str) -> std::result::Result<KeyMetadata, KmsException> {
        let arn = self.describe(key)?.arn;
        let request = api::DisableKeyRequest { key_id: arn.clone() };
        self.kms.perform(&self.operator, &request)?;
        self.describe(&arn)
    }

    /// Makes a key unusable now and deletes it in 7 to 30 days (30 unless given).
    ///
    /// # Errors
    /// `ValidationException` for another window, else as [`Self::enable_key`].
    pub fn schedule_key_deletion(
        &self,
        key: &str,
        pending_window_days: Option<u32>,
    ) -> std::result::Result<KeyMetadata, KmsException> {
        let arn = self.describe(key)?.arn;
        let request = api::ScheduleKeyDeletionRequest {
            key_id: arn.clone(),
            pending_window_in_days: pending_window_days.map(i64::from),
        };
        self.kms.perform(&self.operator, &request)?;
        self.describe(&arn)
    }

    /// Calls a deletion off; the key is disabled then.
    ///
    /// # Errors
    /// `NotFoundException`; `KMSInvalidStateException` when no deletion is pending;
    /// `KMSInternalException`.
    pub fn cancel_key_deletion(&self, key: &str) -> std::result::Result<KeyMetadata, KmsException> {
        let arn = self.describe(key)?.arn;
        let request = api::CancelKeyDeletionRequest { key_id: arn.clone() };
        self.kms.perform(&self.operator, &request)?;
        self.describe(&arn)
    }

    /// Deletes the keys whose date has come, and does what else is due. Every other call does so
    /// too; a server that wants it on the day calls this now and then.
    ///
    /// # Errors
    /// `KMSInternalException` when the change cannot be stored; the keys are unusable all the same.
    pub fn delete_due_keys(&self) -> std::result::Result<(), KmsException> {
        self.kms.run_due()
    }

    fn describe_as(
        &self,
        caller: &Caller,
        key: &str,
    ) -> std::result::Result<KeyMetadata, KmsException> {
        let key_id = key.to_owned();
        let request = api::DescribeKeyRequest { key_id, ..api::DescribeKeyRequest::default() };
        Ok(self.metadata(self.kms.perform(caller, &request)?.key_metadata))
    }

    fn metadata(&self, key: api::KeyMetadata) -> KeyMetadata {
        KeyMetadata {
            account: key.aws_account_id,
            aliases: self.kms.aliases_of(&key.key_id),
            arn: key.arn,
            key_id: key.key_id,
            creation_date: key.creation_date,
            description: key.description,
            enabled: key.enabled,
            key_state: match key.key_state {
                api::KeyState::Enabled => KeyState::Enabled,
                api::KeyState::Disabled => KeyState::Disabled,
                api::KeyState::PendingImport => KeyState::PendingImport,
                api::KeyState::PendingDeletion => KeyState::PendingDeletion,
            },
            key_usage: key.key_usage,
            key_spec: key.key_spec,
            deletion_date: key.deletion_date,
            pending_deletion_window_in_days: key.pending_deletion_window_in_days,
            current_key_material_id: key.current_key_material_id,
        }
    }

    /// Makes a change where waiting for the disk holds up nobody.
    async fn change<R, T>(
        &self,
        operation: KmsOperation,
        request: R,
        call: Change<R, T>,
    ) -> Answer<T>
    where
        R: Send + 'static,
        T: Send + 'static,
    {
        let (kms, caller) = (Arc::clone(&self.kms), self.control.clone());
        let call = tokio::task::spawn_blocking(move || call(&kms, &caller, &request));
        match call.await {
            Ok(result) => result.map_err(|error| told(operation, &error)),
            Err(_) => Err(KmsError::new(operation, "KMSInternalException", "the call was stopped")),
        }
    }

    fn grant(&self, request: &CreateGrantRequest<'_>) -> api::CreateGrantRequest {
        let daily: &[&str] = match request.kind {
            GrantKind::Data => &["GenerateDataKey", "Encrypt"],
            GrantKind::Snapshot => &[],
        };
        let grantee = match request.kind {
            GrantKind::Data => &self.data,
            GrantKind::Snapshot => &self.control,
        };
        let both = ["DescribeKey", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "RetireGrant"];
        let account = self.kms.account();
        api::CreateGrantRequest {
            key_id: request.key.to_owned(),
            grantee_principal: Some(grantee.principal.arn(&account)),
            retiring_principal: Some(self.control.principal.arn(&account)),
            operations: both.iter().chain(daily).map(|&name| name.to_owned()).collect(),
            constraints: Some(api::GrantConstraints {
                encryption_context_subset: Some(request.context.clone()),
                ..api::GrantConstraints::default()
            }),
            name: Some(request.name.to_owned()),
            ..api::CreateGrantRequest::default()
        }
    }

    fn decrypt_as(&self, caller: &Caller, request: &DecryptRequest<'_>) -> Answer<DecryptedKey> {
        let request = api::DecryptRequest {
            key_id: Some(request.key.to_owned()),
            ciphertext_blob: request.blob.into(),
            encryption_context: request.context.clone(),
            grant_tokens: request.grant_tokens.to_vec(),
            dry_run: request.dry_run.then_some(true),
            ..api::DecryptRequest::default()
        };
        let opened = self.kms.perform(caller, &request);
        let opened = opened.map_err(|error| told(KmsOperation::Decrypt, &error))?;
        Ok(DecryptedKey {
            plaintext: opened.plaintext.0,
            key_arn: opened.key_id,
            key_material_id: Some(opened.key_material_id),
        })
    }

    /// Who a table key is opened for: the data identity, or another principal of the account.
    fn opener(&self, principal: Option<&str>) -> Answer<Caller> {
        let Some(arn) = principal else {
            return Ok(self.data.clone());
        };
        let account = self.kms.account();
        let principal = Principal::of_arn(arn, &account).ok_or_else(|| {
            let message = format!("{arn} is no user or role of account {account}");
            KmsError::new(KmsOperation::Decrypt, "InvalidArnException", message)
        })?;
        Ok(Caller { principal, ..self.data.clone() })
    }
}

type Answer<T> = std::result::Result<T, KmsError>;
type Change<R, T> = fn(&Kms, &Caller, &R) -> std::result::Result<T, KmsException>;

/// An exception of the KMS as an error of the call.
fn told(operation: KmsOperation, error: &KmsException) -> KmsError {
    KmsError::new(operation, error.name(), error.message())
}

impl KmsProvider for EmbeddedKms {
    fn identity<'a>(&'a self, _key: &'a str) -> KmsFuture<'a, String> {
        let arn = self.data.principal.arn(&self.kms.account());
        let identity = format!("embedded {} as {arn}", self.kms.region());
        Box::pin(async { Ok(identity) })
    }

    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        Box::pin(async move {
            let described = self.describe_as(&self.control, key);
            described.map_err(|error| told(KmsOperation::DescribeKey, &error))
        })
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        Box::pin(async move {
            let grant = self.grant(&request);
            let made = self.change(KmsOperation::CreateGrant, grant, Kms::perform).await?;
            Ok(CreatedGrant { grant_id: made.grant_id, grant_token: made.grant_token })
        })
    }

    fn retire_grant<'a>(&'a self, key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()> {
        let request = api::RetireGrantRequest {
            key_id: Some(key.to_owned()),
            grant_id: Some(grant_id.to_owned()),
            ..api::RetireGrantRequest::default()
        };
        Box::pin(self.change(KmsOperation::RetireGrant, request, Kms::perform))
    }

    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        Box::pin(async move {
            let request = api::GenerateDataKeyRequest {
                key_id: request.key.to_owned(),
                encryption_context: request.context.clone(),
                key_spec: Some("AES_256".to_owned()),
                grant_tokens: request.grant_tokens.to_vec(),
                dry_run: request.dry_run.then_some(true),
                ..api::GenerateDataKeyRequest::default()
            };
            let made = self.kms.perform(&self.data, &request);
            let made = made.map_err(|error| told(KmsOperation::GenerateDataKey, &error))?;
            Ok(GeneratedDataKey {
                plaintext: made.plaintext.0,
                blob: made.ciphertext_blob.to_vec(),
                key_arn: made.key_id,
                key_material_id: Some(made.key_material_id),
            })
        })
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        Box::pin(async move {
            let caller = self.opener(request.principal)?;
            self.decrypt_as(&caller, &request)
        })
    }

    fn decrypt_as_control<'a>(
        &'a self,
        request: DecryptRequest<'a>,
    ) -> KmsFuture<'a, DecryptedKey> {
        Box::pin(async move {
            let answer = self.decrypt_as(&self.control, &request);
            let is_denied =
                answer.as_ref().is_err_and(|error| error.name() == "AccessDeniedException");
            match &self.account {
                Some(account) if is_denied => self.decrypt_as(account, &request),
                _ => answer,
            }
        })
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        Box::pin(async move {
            let request = api::ReEncryptRequest {
                ciphertext_blob: request.blob.into(),
                source_key_id: Some(request.source_key.to_owned()),
                source_encryption_context: request.source_context.clone(),
                destination_key_id: request.destination_key.to_owned(),
                destination_encryption_context: request.destination_context.clone(),
                ..api::ReEncryptRequest::default()
            };
            let made = self.kms.perform(&self.data, &request);
            let made = made.map_err(|error| told(KmsOperation::ReEncrypt, &error))?;
            Ok(ReEncrypted {
                blob: made.ciphertext_blob.to_vec(),
                source_key_arn: made.source_key_id,
                key_arn: made.key_id,
                key_material_id: Some(made.destination_key_material_id),
            })
        })
    }
}
