//! The KMS that tables' keys are under: the embedded one, and those of the configuration.

use std::sync::Arc;

use coffer_keys::{HookedKms, KmsProvider, ProviderScope, Providers};
use coffer_kms_aws::AwsKms;

use crate::config::{AwsProviderOptions, KmsProviderOptions};
use crate::error::{CommandError, Result};
use crate::kms_fault::KmsFaults;
use crate::kms_thread::start_kms_thread;

/// Puts them behind one, which chooses by the ARN of a key. Asks no KMS.
///
/// # Errors
/// Options that cannot be, by name.
pub(crate) async fn build(
    embedded: Arc<dyn KmsProvider>,
    configured: &[KmsProviderOptions],
    faults: Option<KmsFaults>,
) -> Result<Arc<dyn KmsProvider>> {
    let refused = |error: String| {
        CommandError::Refused(format!("option kms_provider of the configuration file: {error}"))
    };
    let mut kms = embedded;
    if !configured.is_empty() {
        let thread = start_kms_thread("coffer-kms").map_err(CommandError::io("start threads"))?;
        let mut providers = Vec::with_capacity(configured.len());
        for KmsProviderOptions::Aws(options) in configured {
            let provider = AwsKms::new(options.client.clone(), Arc::clone(&thread)).await;
            let provider = provider.map_err(|error| refused(error.to_string()))?;
            providers.push((scope(options), Arc::new(provider) as Arc<dyn KmsProvider>));
        }
        let all = Providers::new(kms, providers).map_err(|error| refused(error.to_string()))?;
        kms = Arc::new(all);
    }
    if let Some(faults) = faults {
        let hooked = HookedKms::new(kms);
        hooked.set_hook(Some(Arc::new(faults)));
        kms = Arc::new(hooked);
    }
    Ok(kms)
}

fn scope(options: &AwsProviderOptions) -> ProviderScope {
    ProviderScope {
        partition: options.partition.clone(),
        region: Some(options.client.region.clone()),
        account: options.account.clone(),
    }
}
