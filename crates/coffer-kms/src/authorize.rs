//! Whether a caller may do something: key policy, identity policy, grants.

use crate::{
    KmsException, Principal,
    api::{EncryptionContext, GrantConstraints},
    call::Call,
    policy::{Context, Decision, Document, Request, Requester, authorize},
    state::{Grant, Key, KeyPolicy, is_subset},
};
use std::sync::Arc;

type Result<T> = std::result::Result<T, KmsException>;

/// What a grant may allow of an operation.
#[derive(Clone, Copy)]
pub(crate) enum GrantUse<'a> {
    /// Nothing: policies alone decide.
    Never,
    /// The operation, whatever the constraints.
    Always,
    /// The operation with this encryption context.
    Within(&'a EncryptionContext),
    /// Making a grant that allows no more than itself.
    Parent { operations: &'a [String], constraints: Option<&'a GrantConstraints> },
}

impl Call<'_> {
    /// Whether the caller may do `action` with the key.
    ///
    /// # Errors
    /// `AccessDeniedException`.
    pub(crate) fn authorize(
        &mut self,
        key: &Arc<Key>,
        action: &str,
        grant_use: GrantUse<'_>,
    ) -> Result<()> {
        let kms_action = format!("kms:{action}");
        self.check_caller(&kms_action, &key.arn)?;
        let decision = self.decide(key, &kms_action, &key.policy)?;
        match decision {
            Decision::Allowed => return Ok(()),
            Decision::DeniedExplicitly(_) => {}
            Decision::NotAllowed { .. } => {
                if let Some(grant) = self.find_grant(key, action, grant_use) {
                    self.saw(grant.sequence);
                    return Ok(());
                }
            }
        }
        Err(self.denied(&kms_action, &key.arn, decision))
    }

    /// Whether the caller may do `action` on no key: IAM alone decides.
    ///
    /// # Errors
    /// `AccessDeniedException`.
    pub(crate) fn authorize_account(&mut self, action: &str, resource: &str) -> Result<()> {
        let kms_action = format!("kms:{action}");
        self.check_caller(&kms_action, resource)?;
        let requester = self.requester()?;
        let mut context = self.context(&requester);
        context.add_request(&kms_action, self.parameters.as_json());
        let decision = self.evaluate(&requester, &kms_action, resource, &context, None);
        if decision.is_allowed() {
            return Ok(());
        }
        Err(self.denied(&kms_action, resource, decision))
    }

    /// Whether the caller could change the policy again once `policy` is in force.
    pub(crate) fn may_put_policy(&mut self, key: &Key, policy: &KeyPolicy) -> Result<bool> {
        Ok(self.decide(key, "kms:PutKeyPolicy", policy)?.is_allowed())
    }

    /// Policies and grants may name a user that is not there any more.
    fn check_caller(&self, action: &str, resource: &str) -> Result<()> {
        let Principal::User { name } = &self.caller.principal else {
            return Ok(());
        };
        let state = self.kms.state.read();
        if state.users.get(name).is_some_and(|user| user.enabled && !user.is_root) {
            return Ok(());
        }
        drop(state);
        Err(self.denied(action, resource, Decision::NotAllowed { is_delegated: true }))
    }

    fn decide(&mut self, key: &Key, action: &str, policy: &KeyPolicy) -> Result<Decision> {
        let requester = self.requester()?;
        let mut context = self.context(&requester);
        context.add_request(action, self.parameters.as_json());
        context.add_key(&key.spec, &key.usage, key.origin.as_str(), false);
        for alias in self.kms.state.read().aliases_of(key.id()) {
            context.add_key_alias(&alias);
        }
        for (_, alias) in self.request_aliases.iter().filter(|(arn, _)| *arn == key.arn) {
            context.add_request_alias(alias);
        }
        if let Some(is_same) = self.is_same_key {
            context.add_same_key(is_same);
        }
        let policy = Some(policy.document());
        Ok(self.evaluate(&requester, action, &key.arn, &context, policy))
    }

    fn evaluate(
        &self,
        requester: &Requester,
        action: &str,
        resource_arn: &str,
        context: &Context,
        key_policy: Option<&Document>,
    ) -> Decision {
        let request = Request { requester, action, resource_arn, context };
        let user = match &self.caller.principal {
            Principal::User { name } => self.kms.state.read().users.get(name).cloned(),
            Principal::Root | Principal::Role { .. } => None,
        };
        let identity_policy = match &self.caller.principal {
            Principal::Root => None,
            Principal::User { .. } => {
                user.as_ref().and_then(|user| user.policy.as_ref()).map(|it| it.document())
            }
            Principal::Role { name } => self.kms.role_policy(name),
        };
        authorize(&request, key_policy, identity_policy)
    }

    fn requester(&self) -> Result<Requester> {
        Requester::parse(&self.principal_arn)
            .ok_or_else(|| KmsException::internal("the caller has no ARN"))
    }

    fn context(&self, requester: &Requester) -> Context {
        let source = &self.caller.source;
        let address = source.ip.map(|ip| (ip, source.tls.is_some()));
        let via_service = self.caller.via_service.as_deref();
        Context::of_caller(requester, via_service, address, self.kms.clock.now_millis())
    }

    fn find_grant(&self, key: &Key, action: &str, grant_use: GrantUse<'_>) -> Option<Arc<Grant>> {
        let state = self.kms.state.read();
        let grants = state.grants.get(key.id())?;
        let grantee = &self.principal_arn;
        match grant_use {
            GrantUse::Never => None,
            GrantUse::Always => grants.find(grantee, action, None).cloned(),
            GrantUse::Within(context) => grants.find(grantee, action, Some(context)).cloned(),
            GrantUse::Parent { operations, constraints } => grants
                .allowing(grantee, action)
                .find(|parent| {
                    operations.iter().all(|operation| parent.allows(operation))
                        && is_as_strict(constraints, parent.constraints.as_ref())
                })
                .cloned(),
        }
    }

    fn denied(&self, action: &str, resource: &str, decision: Decision) -> KmsException {
        let message = format!(
            "User: {} is not authorized to perform: {action} on resource: {resource} {}",
            self.principal_arn,
            decision.reason(action)
        );
        KmsException::new("AccessDeniedException", message)
    }
}

/// Whether what fits `child` always fits `parent`.
fn is_as_strict(child: Option<&GrantConstraints>, parent: Option<&GrantConstraints>) -> bool {
    let Some(parent) = parent else {
        return true;
    };
    let equals = child.and_then(|child| child.encryption_context_equals.as_ref());
    let subset = child.and_then(|child| child.encryption_context_subset.as_ref());
    let has_subset = |wanted: &EncryptionContext| {
        equals.is_some_and(|child| is_subset(wanted, child))
            || subset.is_some_and(|child| is_subset(wanted, child))
    };
    parent.encryption_context_equals.as_ref().is_none_or(|wanted| equals == Some(wanted))
        && parent.encryption_context_subset.as_ref().is_none_or(has_subset)
}
