//! The two grants of a table with a KMS key.

use super::{Keyring, statistics::Asked};
use crate::{
    CreateGrantRequest, EncryptionContext, GrantKind, KeyChangeError, KeyError, KmsOperation,
    Result, TableName,
};
use coffer_crypto::KeyGrant;

/// Names of the grants of one key change: the same names give the same grants, so a change can be
/// repeated after a crash. They show up in logs of the KMS and hold nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantNames {
    /// Of the grant for daily use.
    pub data: String,
    /// Of the grant for the snapshot.
    pub snapshot: String,
}

/// Grants that were made, with what lets them count at once.
pub(super) struct MadeGrants {
    pub(super) grants: Vec<KeyGrant>,
    pub(super) tokens: Vec<String>,
}

impl GrantKind {
    /// Its name in key records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Snapshot => "snapshot",
        }
    }
}

impl Keyring {
    /// The grants of these names: makes those that are not there. To clean up after a crash, this
    /// gives the ids back.
    ///
    /// # Errors
    /// A [`KeyError`] with the grants that there are.
    pub async fn create_grants(
        &self,
        table: &TableName,
        arn: &str,
        context: &EncryptionContext,
        names: &GrantNames,
    ) -> Result<Vec<KeyGrant>, KeyChangeError> {
        self.make_grants(table, arn, context, names).await.map(|made| made.grants)
    }

    pub(super) async fn make_grants(
        &self,
        table: &TableName,
        arn: &str,
        context: &EncryptionContext,
        names: &GrantNames,
    ) -> Result<MadeGrants, KeyChangeError> {
        let mut made = MadeGrants { grants: Vec::new(), tokens: Vec::new() };
        for (kind, name) in [(GrantKind::Data, &names.data), (GrantKind::Snapshot, &names.snapshot)]
        {
            match self.make_grant(table, CreateGrantRequest { key: arn, kind, context, name }).await
            {
                Ok((grant, token)) => {
                    made.grants.push(grant);
                    made.tokens.push(token);
                }
                Err(error) => return Err(KeyChangeError { error, grants: made.grants }),
            }
        }
        Ok(made)
    }

    /// The temporary grant of this name that [`Self::open_source`] makes: makes it if it is not there.
    /// To clean up after a crash, this gives its id back.
    ///
    /// # Errors
    /// A [`KeyError`] that names the ARN.
    pub async fn source_grant(
        &self,
        table: &TableName,
        arn: &str,
        context: &EncryptionContext,
        name: &str,
    ) -> Result<KeyGrant> {
        let request = CreateGrantRequest { key: arn, kind: GrantKind::Data, context, name };
        self.make_grant(table, request).await.map(|(grant, _)| grant)
    }

    /// A grant and its token.
    pub(super) async fn make_grant(
        &self,
        table: &TableName,
        request: CreateGrantRequest<'_>,
    ) -> Result<(KeyGrant, String)> {
        let (key_arn, kind) = (request.key, request.kind.as_str().to_owned());
        let asked = Asked { operation: KmsOperation::CreateGrant, table: Some(table), key_arn };
        let made = self.call(asked, self.kms.create_grant(request)).await;
        let made = made.map_err(|error| KeyError::from_kms(table, key_arn, error))?;
        let grant = KeyGrant { kind, grant_id: made.grant_id, key_arn: key_arn.to_owned() };
        Ok((grant, made.grant_token))
    }

    /// Gives a grant back. A grant that is gone, or whose key is, is a success. A background call:
    /// waits for its turn in the budget of such calls.
    ///
    /// # Errors
    /// Every other refusal; the caller tries again later.
    pub async fn retire_grant(
        &self,
        table: &TableName,
        key_arn: &str,
        grant_id: &str,
    ) -> Result<()> {
        self.background_turn().await;
        let asked = Asked { operation: KmsOperation::RetireGrant, table: Some(table), key_arn };
        match self.call(asked, self.kms.retire_grant(key_arn, grant_id)).await {
            Err(error) if error.name() != "NotFoundException" => {
                Err(KeyError::from_kms(table, key_arn, error))
            }
            _ => Ok(()),
        }
    }
}
