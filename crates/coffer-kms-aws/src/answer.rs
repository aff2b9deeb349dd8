//! What an answer of the SDK means in Coffer's terms.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    types,
};
use coffer_keys::{ErrorClass, KeyMetadata, KeyState, KmsError, KmsOperation, failure};
use std::error::Error;

/// Longest text of an error that is kept.
const TEXT_LEN_MAX: usize = 1_000;

/// The error of a call that gave no result.
pub(crate) fn failed<E>(operation: KmsOperation, error: SdkError<E, HttpResponse>) -> KmsError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if let SdkError::ServiceError(answer) = &error {
        let status = answer.raw().status().as_u16();
        return exception(operation, status, answer.err().code(), answer.err().message());
    }
    let name = match &error {
        SdkError::TimeoutError(_) => failure::TIMEOUT,
        SdkError::ResponseError(_) => failure::RESPONSE,
        _ if has_credentials_error(&error) => failure::NO_CREDENTIALS,
        SdkError::DispatchFailure(dispatch) if dispatch.is_timeout() => failure::TIMEOUT,
        SdkError::DispatchFailure(_) => failure::CONNECTION,
        _ => "RequestNotBuilt",
    };
    KmsError::new(operation, name, shown(&chain(&error)))
}

/// An answer without what it must hold.
pub(crate) fn unreadable(operation: KmsOperation, what: &str) -> KmsError {
    KmsError::new(operation, failure::RESPONSE, what)
}

fn exception(
    operation: KmsOperation,
    status: u16,
    code: Option<&str>,
    message: Option<&str>,
) -> KmsError {
    let message = shown(message.unwrap_or_default());
    let error = match (code, status) {
        (Some(code), _) => KmsError::new(operation, shown(code), message),
        (None, 200..300) => KmsError::new(operation, failure::RESPONSE, "not a KMS's answer"),
        (None, 429) => KmsError::new(operation, "ThrottlingException", message),
        (None, 500..) => KmsError::new(operation, failure::SERVER, format!("HTTP {status}")),
        (None, _) => KmsError::new(operation, format!("HttpStatus{status}"), message),
    };
    if status >= 500 && error.class() == ErrorClass::Ambiguous {
        let text = format!("HTTP {status}: {error}");
        return KmsError::new(operation, failure::SERVER, text);
    }
    error
}

fn has_credentials_error(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error and what caused it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = error.source();
    }
    text
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_LEN_MAX).collect()
}

/// The key that `DescribeKey` describes.
pub(crate) fn metadata(found: &types::KeyMetadata) -> Result<KeyMetadata, KmsError> {
    let missing = |what: &str| unreadable(KmsOperation::DescribeKey, what);
    let arn = found.arn().ok_or_else(|| missing("no ARN in the answer"))?.to_owned();
    let state = found.key_state().map_or("", |state| state.as_str());
    Ok(KeyMetadata {
        account: found.aws_account_id().unwrap_or_default().to_owned(),
        arn,
        key_id: found.key_id().to_owned(),
        aliases: Vec::new(),
        creation_date: found.creation_date().map_or(0.0, |date| date.as_secs_f64()),
        description: found.description().unwrap_or_default().to_owned(),
        enabled: found.enabled(),
        key_state: key_state(state).ok_or_else(|| missing("unknown state of a key"))?,
        key_usage: found.key_usage().map_or("", |usage| usage.as_str()).to_owned(),
        key_spec: found.key_spec().map_or("", |spec| spec.as_str()).to_owned(),
        deletion_date: found.deletion_date().map(|date| date.as_secs_f64()),
        pending_deletion_window_in_days: found
            .pending_deletion_window_in_days()
            .and_then(|days| u32::try_from(days).ok()),
        current_key_material_id: found.current_key_material_id().map(str::to_owned),
    })
}

fn key_state(state: &str) -> Option<KeyState> {
    Some(match state {
        "Enabled" => KeyState::Enabled,
        "Disabled" => KeyState::Disabled,
        "PendingDeletion" | "PendingReplicaDeletion" => KeyState::PendingDeletion,
        "PendingImport" => KeyState::PendingImport,
        "Unavailable" => KeyState::Unavailable,
        "Creating" => KeyState::Creating,
        "Updating" => KeyState::Updating,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_without_a_name_are_classed_by_status() {
        let class = |status, code| exception(KmsOperation::Decrypt, status, code, None).class();
        assert_eq!(class(500, None), ErrorClass::Transient);
        assert_eq!(class(503, Some("WhoKnows")), ErrorClass::Transient);
        assert_eq!(class(429, None), ErrorClass::Transient);
        assert_eq!(class(403, None), ErrorClass::Ambiguous);
        assert_eq!(class(400, Some("WhoKnows")), ErrorClass::Ambiguous);
        assert_eq!(class(400, Some("DisabledException")), ErrorClass::Definitive);
        assert_eq!(class(500, Some("DisabledException")), ErrorClass::Definitive);
    }
}
