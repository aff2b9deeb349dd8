//! Several KMSs behind one: the ARN of a key tells which of them holds it.

use crate::{
    KeyArn,
    kms::{
        CreateGrantRequest, CreatedGrant, DecryptRequest, DecryptedKey, GenerateDataKeyRequest,
        GeneratedDataKey, KeyMetadata, KmsError, KmsFuture, KmsOperation, KmsProvider,
        ReEncryptRequest, ReEncrypted,
    },
};
use std::sync::Arc;

/// Which keys a provider holds. What is `None` fits every ARN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProviderScope {
    /// As `aws` or `aws-cn`.
    pub partition: Option<String>,
    /// As `eu-central-1`.
    pub region: Option<String>,
    /// As `123456789012`.
    pub account: Option<String>,
}

impl ProviderScope {
    fn fits(&self, arn: &KeyArn) -> bool {
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        fits(&self.partition, arn.partition())
            && fits(&self.region, arn.region())
            && fits(&self.account, arn.account())
    }

    /// An account says more than a Region, a Region more than a partition.
    fn specificity(&self) -> (bool, bool, bool) {
        (self.account.is_some(), self.region.is_some(), self.partition.is_some())
    }
}

/// Two providers for the same keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two KMS providers are configured for the same keys: {0:?}")]
pub struct SameScope(pub ProviderScope);

/// Chooses a provider by the ARN of the key: of the configured ones that fit, the most specific, else
/// the embedded one.
pub struct Providers {
    embedded: Arc<dyn KmsProvider>,
    /// The most specific first.
    configured: Vec<(ProviderScope, Arc<dyn KmsProvider>)>,
}

impl Providers {
    /// The embedded KMS, and those that the configuration adds.
    ///
    /// # Errors
    /// [`SameScope`].
    pub fn new(
        embedded: Arc<dyn KmsProvider>,
        mut configured: Vec<(ProviderScope, Arc<dyn KmsProvider>)>,
    ) -> Result<Self, SameScope> {
        let mut scopes = std::collections::HashSet::new();
        if let Some((scope, _)) = configured.iter().find(|(scope, _)| !scopes.insert(scope.clone()))
        {
            return Err(SameScope(scope.clone()));
        }
        configured.sort_by_key(|(scope, _)| std::cmp::Reverse(scope.specificity()));
        Ok(Self { embedded, configured })
    }

    /// The provider of the key, and whether it is one that was configured.
    fn of(&self, key: &str) -> (&Arc<dyn KmsProvider>, bool) {
        let arn = KeyArn::parse(key).ok();
        let fitting = arn.and_then(|arn| {
            self.configured.iter().find(|(scope, _)| scope.fits(&arn)).map(|(_, found)| found)
        });
        fitting.map_or((&self.embedded, false), |found| (found, true))
    }

    fn call<'a, T: 'a>(
        &'a self,
        key: &'a str,
        call: impl FnOnce(&'a Arc<dyn KmsProvider>) -> KmsFuture<'a, T>,
    ) -> KmsFuture<'a, T> {
        let (provider, is_configured) = self.of(key);
        let call = call(provider);
        if is_configured || self.configured.is_empty() {
            return call;
        }
        Box::pin(async move { call.await.map_err(|error| explained(error, key)) })
    }
}

/// Whoever configured providers may have forgotten that of this key.
fn explained(error: KmsError, key: &str) -> KmsError {
    if error.name() != "NotFoundException" {
        return error;
    }
    let place = KeyArn::parse(key).map_or_else(
        |_| "this key".to_owned(),
        |arn| {
            let (partition, region, account) = (arn.partition(), arn.region(), arn.account());
            format!("partition {partition}, Region {region}, account {account}")
        },
    );
    error.with_note(&format!(
        "no KMS provider is configured for {place}, the embedded KMS was asked"
    ))
}

impl KmsProvider for Providers {
    fn identity<'a>(&'a self, key: &'a str) -> KmsFuture<'a, String> {
        self.of(key).0.identity(key)
    }

    fn describe_key<'a>(&'a self, key: &'a str) -> KmsFuture<'a, KeyMetadata> {
        self.call(key, move |provider| provider.describe_key(key))
    }

    fn create_grant<'a>(&'a self, request: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
        self.call(request.key, move |provider| provider.create_grant(request))
    }

    fn retire_grant<'a>(&'a self, key: &'a str, grant_id: &'a str) -> KmsFuture<'a, ()> {
        self.call(key, move |provider| provider.retire_grant(key, grant_id))
    }

    fn generate_data_key<'a>(
        &'a self,
        request: GenerateDataKeyRequest<'a>,
    ) -> KmsFuture<'a, GeneratedDataKey> {
        self.call(request.key, move |provider| provider.generate_data_key(request))
    }

    fn decrypt<'a>(&'a self, request: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
        self.call(request.key, move |provider| provider.decrypt(request))
    }

    fn decrypt_as_control<'a>(
        &'a self,
        request: DecryptRequest<'a>,
    ) -> KmsFuture<'a, DecryptedKey> {
        self.call(request.key, move |provider| provider.decrypt_as_control(request))
    }

    fn re_encrypt<'a>(&'a self, request: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
        let (from, to) = (self.of(request.source_key).0, self.of(request.destination_key).0);
        if !Arc::ptr_eq(from, to) {
            let text = "source and destination key are in different KMSs";
            let error = KmsError::new(KmsOperation::ReEncrypt, "ValidationException", text);
            return Box::pin(async move { Err(error) });
        }
        self.call(request.destination_key, move |provider| provider.re_encrypt(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EncryptionContext;

    /// Answers with its own name.
    struct Named(&'static str);

    impl Named {
        fn refuse<'a, T: 'a>(&self, operation: KmsOperation) -> KmsFuture<'a, T> {
            let error = KmsError::new(operation, "NotFoundException", self.0);
            Box::pin(async move { Err(error) })
        }
    }

    impl KmsProvider for Named {
        fn identity<'a>(&'a self, _: &'a str) -> KmsFuture<'a, String> {
            Box::pin(async { Ok(self.0.to_owned()) })
        }
        fn describe_key<'a>(&'a self, _: &'a str) -> KmsFuture<'a, KeyMetadata> {
            self.refuse(KmsOperation::DescribeKey)
        }
        fn create_grant<'a>(&'a self, _: CreateGrantRequest<'a>) -> KmsFuture<'a, CreatedGrant> {
            self.refuse(KmsOperation::CreateGrant)
        }
        fn retire_grant<'a>(&'a self, _: &'a str, _: &'a str) -> KmsFuture<'a, ()> {
            self.refuse(KmsOperation::RetireGrant)
        }
        fn generate_data_key<'a>(
            &'a self,
            _: GenerateDataKeyRequest<'a>,
        ) -> KmsFuture<'a, GeneratedDataKey> {
            self.refuse(KmsOperation::GenerateDataKey)
        }
        fn decrypt<'a>(&'a self, _: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
            self.refuse(KmsOperation::Decrypt)
        }
        fn decrypt_as_control<'a>(&'a self, _: DecryptRequest<'a>) -> KmsFuture<'a, DecryptedKey> {
            self.refuse(KmsOperation::Decrypt)
        }
        fn re_encrypt<'a>(&'a self, _: ReEncryptRequest<'a>) -> KmsFuture<'a, ReEncrypted> {
            self.refuse(KmsOperation::ReEncrypt)
        }
    }

    fn scope(partition: &str, region: &str, account: &str) -> ProviderScope {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ProviderScope { partition: some(partition), region: some(region), account: some(account) }
    }

    fn providers() -> Providers {
        let named = |name| Arc::new(Named(name)) as Arc<dyn KmsProvider>;
        let configured = vec![
            (scope("", "eu-west-1", ""), named("region")),
            (scope("", "eu-west-1", "7"), named("region and account")),
            (scope("", "", "7"), named("account")),
            (scope("aws-cn", "", ""), named("partition")),
        ];
        Providers::new(named("embedded"), configured).unwrap()
    }

    #[tokio::test]
    async fn the_most_specific_provider_that_fits_the_arn_is_asked() {
        let providers = providers();
        let cases = [
            ("arn:aws:kms:eu-west-1:7:key/k", "region and account"),
            ("arn:aws:kms:eu-west-1:8:key/k", "region"),
            ("arn:aws:kms:eu-west-2:7:key/k", "account"),
            ("arn:aws-cn:kms:eu-west-1:8:key/k", "region"),
            ("arn:aws-cn:kms:cn-north-1:8:key/k", "partition"),
        ];
        for (arn, expected) in cases {
            let error = providers.describe_key(arn).await.unwrap_err();
            assert_eq!(error.message(), expected, "{arn}");
            let error = providers.retire_grant(arn, "g").await.unwrap_err();
            assert_eq!(error.message(), expected, "{arn}");
        }
        for other in ["arn:aws:kms:eu-west-2:8:key/k", "alias/k", ""] {
            let error = providers.describe_key(other).await.unwrap_err();
            let text = error.message();
            assert!(text.starts_with("embedded; no KMS provider is configured"), "{text}");
        }
    }

    #[tokio::test]
    async fn the_embedded_kms_alone_is_as_if_there_were_no_choice() {
        let providers = Providers::new(Arc::new(Named("embedded")), Vec::new()).unwrap();
        let error = providers.describe_key("arn:aws:kms:x:8:key/k").await.unwrap_err();
        assert_eq!(error.message(), "embedded");
    }

    #[tokio::test]
    async fn nothing_is_re_encrypted_from_one_kms_to_another() {
        let (providers, context) = (providers(), EncryptionContext::new());
        let (here, there) = ("arn:aws:kms:eu-west-1:7:key/k", "arn:aws:kms:eu-west-1:8:key/k");
        for (to, name) in [(here, "NotFoundException"), (there, "ValidationException")] {
            let request = ReEncryptRequest {
                blob: b"blob",
                source_key: here,
                source_context: &context,
                destination_key: to,
                destination_context: &context,
            };
            assert_eq!(providers.re_encrypt(request).await.unwrap_err().name(), name);
        }
    }

    #[test]
    fn two_providers_for_the_same_keys_are_refused() {
        let named = |name| Arc::new(Named(name)) as Arc<dyn KmsProvider>;
        let same = vec![(scope("", "r", ""), named("a")), (scope("", "r", ""), named("b"))];
        assert!(Providers::new(named("embedded"), same).is_err());
    }
}
