//! Key policies.

use super::Perform;
use crate::{
    KmsException,
    api::{
        GetKeyPolicyRequest, GetKeyPolicyResponse, ListKeyPoliciesRequest, ListKeyPoliciesResponse,
        PutKeyPolicyRequest,
    },
    call::Call,
    paging::Page,
    policy::POLICY_LEN_MAX,
    state::{Key, KeyPolicy},
    validation::Validation,
};

type Result<T> = std::result::Result<T, KmsException>;

/// A key has one policy, of this name.
const NAME: &str = "default";
const TEXT_LEN_MAX: usize = 131_072;

/// The policy of a key that is made without one: the account decides.
pub(crate) fn default_key_policy(account: &str) -> String {
    format!(
        r#"{{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {{
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:aws:iam::{account}:root"
    }},
    "Action" : "kms:*",
    "Resource" : "*"
  }} ]
}}"#
    )
}

/// # Errors
/// `LimitExceededException`, `MalformedPolicyDocumentException`.
pub(super) fn parse_policy(text: &str) -> Result<KeyPolicy> {
    Validation::default().length("policy", Some(text), 1, TEXT_LEN_MAX).finish()?;
    if text.len() > POLICY_LEN_MAX {
        return Err(KmsException::limit(format!(
            "A key policy has at most {POLICY_LEN_MAX} bytes."
        )));
    }
    KeyPolicy::try_from(text.to_owned()).map_err(|error| malformed(&error.to_string()))
}

fn malformed(message: &str) -> KmsException {
    KmsException::new("MalformedPolicyDocumentException", message)
}

/// Refuses a policy under which the caller could not change the policy any more.
pub(super) fn check_lockout(call: &mut Call<'_>, key: &Key, policy: &KeyPolicy) -> Result<()> {
    if call.may_put_policy(key, policy)? {
        return Ok(());
    }
    Err(malformed("The new key policy will not allow you to update the key policy in the future."))
}

fn check_name(name: Option<&str>) -> Result<()> {
    Validation::default().length("policyName", name, 1, 128).finish()?;
    match name {
        None | Some(NAME) => Ok(()),
        Some(_) => Err(KmsException::new("NotFoundException", "No such policy exists")),
    }
}

impl Perform for GetKeyPolicyRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<GetKeyPolicyResponse> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let key = call.authorized(&self.key_id)?;
        check_name(self.policy_name.as_deref())?;
        let (policy, policy_name) = (key.policy.text().to_owned(), NAME.to_owned());
        Ok(GetKeyPolicyResponse { policy, policy_name })
    }
}

impl Perform for PutKeyPolicyRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .text("policy", &self.policy, TEXT_LEN_MAX)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        check_name(self.policy_name.as_deref())?;
        let policy = parse_policy(&self.policy)?;
        if self.bypass_policy_lockout_safety_check != Some(true) {
            check_lockout(call, &key, &policy)?;
        }
        call.change_key(&key, |key| {
            key.policy = policy;
            Ok(())
        })
    }
}

impl Perform for ListKeyPoliciesRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ListKeyPoliciesResponse> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let page = Page::parse(self.limit, self.marker.as_deref(), 100, 1000)?;
        call.authorized(&self.key_id)?;
        let (names, next_marker) = page.cut([NAME], |name| name);
        Ok(ListKeyPoliciesResponse {
            policy_names: names.into_iter().map(str::to_owned).collect(),
            truncated: next_marker.is_some(),
            next_marker,
        })
    }
}
