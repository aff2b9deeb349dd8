//! The SDK's clients, one for each identity, and who these identities are.

use crate::{AwsKmsOptions, OptionsError, answer};
use aws_config::{
    BehaviorVersion, Region, SdkConfig, profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig, retry::RetryConfig, sts::AssumeRoleProvider,
    timeout::TimeoutConfig,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sdk_kms::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut,
    },
    error::BoxError,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use coffer_keys::{KmsError, KmsOperation, failure};
use std::{collections::HashMap, time::Duration};
use tokio::sync::Mutex;

/// First part of the User-Agent: how Coffer's calls are told apart in an audit.
const PRODUCT: &str = concat!("coffer/", env!("CARGO_PKG_VERSION"));
const SESSION_NAME: &str = "coffer";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The keyring's deadline is shorter or longer as configured; this one only ends what hangs.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);
/// The keyring backs off by itself; one more attempt is for a connection that was closed.
const ATTEMPTS_MAX: u32 = 2;
/// Connections keep buffers, and these may hold keys: none stays long.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_millis(300);
/// Most roles whose clients are kept.
const ROLES_MAX: usize = 1_000;

/// The clients of one provider. Used on its thread only.
pub(crate) struct Clients {
    config: SdkConfig,
    options: AwsKmsOptions,
    control: Client,
    data: Client,
    /// Who the last credentials were of, as STS said: id of the access key, and ARN.
    caller: Mutex<Option<(String, String)>>,
    by_role: Mutex<HashMap<String, Client>>,
}

impl Clients {
    /// Reads configuration, asks nobody.
    pub(crate) async fn load(options: AwsKmsOptions) -> Result<Self, OptionsError> {
        options.check()?;
        let http = http_client(options.certificates()?)?;
        let region = Region::new(options.region.clone());
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region.clone())
            .http_client(http.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT)
                    .build(),
            );
        if let Some(profile) = &options.profile {
            // a profile that is named is meant, whatever the environment holds
            let providing = ProviderConfig::default().with_http_client(http);
            let credentials = ProfileFileCredentialsProvider::builder()
                .profile_name(profile)
                .configure(&providing.with_region(Some(region)))
                .build();
            loader = loader.profile_name(profile).credentials_provider(credentials);
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let mut config = loader.load().await;
        if let Some(role) = &options.assume_role_arn {
            let credentials = assumed(&config, role).await;
            config = config.into_builder().credentials_provider(credentials).build();
        }
        let control = client(&config, options.control_role_arn.as_deref()).await;
        let data = client(&config, options.data_role_arn.as_deref()).await;
        let (caller, by_role) = (Mutex::default(), Mutex::default());
        Ok(Self { config, options, control, data, caller, by_role })
    }

    pub(crate) fn control(&self) -> &Client {
        &self.control
    }

    pub(crate) fn data(&self) -> &Client {
        &self.data
    }

    /// A client that acts as `role`, with the credentials of the data identity's account.
    pub(crate) async fn acting_as(&self, role: &str) -> Client {
        let mut by_role = self.by_role.lock().await;
        if let Some(client) = by_role.get(role) {
            return client.clone();
        }
        let client = client(&self.config, Some(role)).await;
        if by_role.len() >= ROLES_MAX {
            by_role.clear();
        }
        by_role.insert(role.to_owned(), client.clone());
        client
    }

    /// ARN of whom grants are made for and may be retired by: data and control identity.
    pub(crate) async fn principals(&self) -> Result<(String, String), KmsError> {
        let (data, control) = (&self.options.data_role_arn, &self.options.control_role_arn);
        if let (Some(data), Some(control)) = (data, control) {
            return Ok((data.clone(), control.clone()));
        }
        let own = self.own_arn().await?;
        let or_own = |role: &Option<String>| role.clone().unwrap_or_else(|| own.clone());
        Ok((or_own(data), or_own(control)))
    }

    /// Endpoint and caller, as one text. Temporary credentials change each hour and are told by the
    /// role they are of, as STS says it: never by what the options say of it, since an instance can be
    /// given another role while the server runs. Others are told by the id of the access key.
    pub(crate) async fn identity(&self, operation: KmsOperation) -> Result<String, KmsError> {
        let options = &self.options;
        let found = self.credentials(operation).await?;
        let caller = match (found.session_token(), &options.assume_role_arn) {
            (None, _) => found.access_key_id().to_owned(),
            // these are of that role or there are none
            (Some(_), Some(role)) => role.clone(),
            (Some(_), None) => self.caller(operation, found).await?,
        };
        let roles = [&options.assume_role_arn, &options.control_role_arn, &options.data_role_arn];
        let roles: Vec<&str> = roles.iter().filter_map(|role| role.as_deref()).collect();
        let endpoint = options.endpoint.as_deref().unwrap_or("AWS");
        Ok(format!("aws {} at {endpoint} as {caller} {}", options.region, roles.join(" ")))
    }

    /// Whom grants are made for where no role is named for it.
    async fn own_arn(&self) -> Result<String, KmsError> {
        let known = self.options.principal_arn.as_ref().or(self.options.assume_role_arn.as_ref());
        if let Some(arn) = known {
            return Ok(arn.clone());
        }
        let operation = KmsOperation::CreateGrant;
        let found = self.credentials(operation).await?;
        let asked = self.caller(operation, found).await;
        asked.map_err(|error| error.with_note("principal_arn tells it too"))
    }

    async fn credentials(&self, operation: KmsOperation) -> Result<Credentials, KmsError> {
        let missing = |text: String| KmsError::new(operation, failure::NO_CREDENTIALS, text);
        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| missing("no credentials are configured".into()))?;
        provider.provide_credentials().await.map_err(|error| missing(error.to_string()))
    }

    /// Whose credentials these are. STS is asked anew when they are not those of the last time.
    async fn caller(
        &self,
        operation: KmsOperation,
        credentials: Credentials,
    ) -> Result<String, KmsError> {
        let key_id = credentials.access_key_id().to_owned();
        if let Some((known, arn)) = &*self.caller.lock().await
            && *known == key_id
        {
            return Ok(arn.clone());
        }
        // with the very credentials: the provider may give others by then
        let config = aws_sdk_sts::config::Builder::from(&self.config)
            .credentials_provider(credentials)
            .build();
        let answer = aws_sdk_sts::Client::from_conf(config).get_caller_identity().send().await;
        let identity = answer.map_err(|error| {
            answer::failed(operation, error).with_note("while asking STS who the server is")
        })?;
        let arn = identity.arn().map(role_of_session);
        let arn = arn.ok_or_else(|| answer::unreadable(operation, "no ARN from STS"))?;
        *self.caller.lock().await = Some((key_id, arn.clone()));
        Ok(arn)
    }
}

/// A grant is for the role, not for one session of it.
fn role_of_session(arn: &str) -> String {
    let role = arn.split_once(":sts::").and_then(|(partition, rest)| {
        let (account, session) = rest.split_once(":assumed-role/")?;
        let (role, _) = session.split_once('/')?;
        Some(format!("{partition}:iam::{account}:role/{role}"))
    });
    role.unwrap_or_else(|| arn.to_owned())
}

async fn client(config: &SdkConfig, role: Option<&str>) -> Client {
    let mut builder = aws_sdk_kms::config::Builder::from(config).interceptor(UserAgent);
    if let Some(role) = role {
        builder = builder.credentials_provider(assumed(config, role).await);
    }
    Client::from_conf(builder.build())
}

async fn assumed(config: &SdkConfig, role: &str) -> SharedCredentialsProvider {
    let builder = AssumeRoleProvider::builder(role).configure(config).session_name(SESSION_NAME);
    SharedCredentialsProvider::new(match config.credentials_provider() {
        Some(base) => builder.build_from_provider(base).await,
        None => builder.build().await,
    })
}

fn http_client(
    certificates: Option<Vec<u8>>,
) -> Result<aws_sdk_kms::config::SharedHttpClient, OptionsError> {
    let mut trusted = TrustStore::default();
    if let Some(pem) = certificates {
        trusted = trusted.with_pem_certificate(pem);
    }
    let context = TlsContext::builder().with_trust_store(trusted).build();
    let context = context.map_err(|error| OptionsError::Client(error.to_string()))?;
    Ok(Builder::new()
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

/// Puts the product's name before what the SDK says of itself. The header is not signed.
#[derive(Debug)]
struct UserAgent;

impl Intercept for UserAgent {
    fn name(&self) -> &'static str {
        "UserAgent"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        let sdk = headers.get("user-agent").unwrap_or_default().to_owned();
        headers.try_insert("user-agent", format!("{PRODUCT} {sdk}"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_stands_for_its_role() {
        let role = role_of_session("arn:aws-cn:sts::12:assumed-role/Coffer/i-0abc");
        assert_eq!(role, "arn:aws-cn:iam::12:role/Coffer");
        for other in ["arn:aws:iam::12:user/ann", "arn:aws:sts::12:federated-user/a", "x"] {
            assert_eq!(role_of_session(other), other);
        }
    }
}
