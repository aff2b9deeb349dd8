//! One call: who makes it, what it has seen and changed, what the audit log is to say of it.

use crate::{
    Caller, Kms, KmsException,
    api::{EncryptionContext, KeyState},
    audit::Parameters,
    authorize::GrantUse,
    grant_token::GrantToken,
    state::{Change, Key, State},
};
use std::sync::Arc;

type Result<T> = std::result::Result<T, KmsException>;

/// A call on its way through the KMS.
pub(crate) struct Call<'a> {
    pub(crate) kms: &'a Kms,
    pub(crate) caller: &'a Caller,
    pub(crate) principal_arn: String,
    pub(crate) account: String,
    pub(crate) operation: &'static str,
    pub(crate) now_millis: i64,
    /// Number of the last change that the answer depends on.
    seen: u64,
    /// Key material was destroyed: it must leave the disk too.
    destroys: bool,
    /// What is asked, in the shape of the API, blobs left out.
    pub(crate) parameters: Parameters,
    /// Whether a ReEncrypt keeps the key.
    pub(crate) is_same_key: Option<bool>,
    /// ARNs of keys and the aliases they were named by.
    pub(crate) request_aliases: Vec<(String, String)>,
    /// ARNs of the keys in question.
    pub(crate) resources: Vec<String>,
    /// More for the audit record.
    pub(crate) additional: Vec<(&'static str, String)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        kms: &'a Kms,
        caller: &'a Caller,
        operation: &'static str,
        parameters: Parameters,
    ) -> Self {
        let account = kms.state.read().account.clone();
        Self {
            kms,
            caller,
            principal_arn: caller.principal.arn(&account),
            account,
            operation,
            now_millis: kms.clock.key_wall_millis(),
            seen: 0,
            destroys: false,
            parameters,
            is_same_key: None,
            request_aliases: Vec::new(),
            resources: Vec::new(),
            additional: Vec::new(),
        }
    }

    /// The key of an id, ARN, alias or alias ARN.
    pub(crate) fn find(&mut self, name: &str) -> Result<Arc<Key>> {
        let key = Arc::clone(self.kms.state.read().find(name, self.now_millis)?);
        if let Some((_, alias)) = name.rsplit_once("alias/") {
            self.request_aliases.push((key.arn.clone(), format!("alias/{alias}")));
        }
        Ok(self.found(key))
    }

    /// The key of an id or ARN.
    pub(crate) fn find_by_id(&mut self, name: &str) -> Result<Arc<Key>> {
        let key = Arc::clone(self.kms.state.read().find_by_id(name, self.now_millis)?);
        Ok(self.found(key))
    }

    fn found(&mut self, key: Arc<Key>) -> Arc<Key> {
        self.saw(key.sequence);
        if !self.resources.contains(&key.arn) {
            self.resources.push(key.arn.clone());
        }
        key
    }

    /// The answer depends on this change.
    pub(crate) fn saw(&mut self, sequence: u64) {
        self.seen = self.seen.max(sequence);
    }

    /// The answer depends on everything.
    pub(crate) fn saw_all(&mut self) {
        let sequence = self.kms.state.read().sequence;
        self.saw(sequence);
    }

    /// A key by id or ARN that the caller may do this operation with, by policy.
    pub(crate) fn authorized(&mut self, name: &str) -> Result<Arc<Key>> {
        let key = self.find_by_id(name)?;
        self.authorize(&key, self.operation, GrantUse::Never)?;
        Ok(key)
    }

    /// Whether the caller may use the key, by policy or grant, with this encryption context.
    pub(crate) fn authorize_use(
        &mut self,
        key: &Arc<Key>,
        action: &str,
        context: &EncryptionContext,
    ) -> Result<()> {
        self.authorize(key, action, GrantUse::Within(context))
    }

    /// Makes changes that are computed from the state as it is now.
    pub(crate) fn change<T>(
        &mut self,
        compute: impl FnOnce(&State) -> Result<(T, Vec<Change>)>,
    ) -> Result<T> {
        let mut state = self.kms.state.write();
        let (value, changes) = compute(&state)?;
        if changes.is_empty() {
            let sequence = state.sequence;
            self.saw(sequence);
            return Ok(value);
        }
        let moves_dates = changes.iter().any(|change| matches!(change, Change::Key(_)));
        let sequence = state.change(changes);
        self.saw(sequence);
        if moves_dates {
            self.kms.set_due(&state);
        }
        Ok(value)
    }

    /// Changes a key that was found before.
    pub(crate) fn change_key<T>(
        &mut self,
        key: &Key,
        compute: impl FnOnce(&mut Key) -> Result<T>,
    ) -> Result<T> {
        let now = self.now_millis;
        self.change(|state| {
            let mut next = Key::clone(state.find_by_id(&key.arn, now)?);
            let value = compute(&mut next)?;
            Ok((value, vec![Change::Key(Arc::new(next))]))
        })
    }

    /// Destroyed material must be gone from the disk when the call returns.
    pub(crate) fn destroys_material(&mut self) {
        self.destroys = true;
    }

    /// Waits until everything the answer depends on is durable.
    pub(crate) fn commit(&self) -> Result<()> {
        self.kms.commit(self.seen, self.destroys)
    }

    /// Refuses a key in a state that allows no use.
    pub(crate) fn check_usable(&self, key: &Key) -> Result<()> {
        match key.state(self.now_millis) {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(disabled(key)),
            KeyState::PendingDeletion => Err(pending_deletion(key)),
            KeyState::PendingImport => Err(pending_import(key)),
        }
    }

    /// Refuses a key that is to be deleted.
    pub(crate) fn check_not_pending_deletion(&self, key: &Key) -> Result<()> {
        match key.state(self.now_millis) {
            KeyState::PendingDeletion => Err(pending_deletion(key)),
            _ => Ok(()),
        }
    }

    /// As [`Self::check_not_pending_deletion`]; nor may imported material be away.
    pub(crate) fn check_has_material(&self, key: &Key) -> Result<()> {
        match key.state(self.now_millis) {
            KeyState::PendingDeletion => Err(pending_deletion(key)),
            KeyState::PendingImport => Err(pending_import(key)),
            KeyState::Enabled | KeyState::Disabled => Ok(()),
        }
    }

    /// Grants are in force at once, so their tokens say nothing new; what is none is refused.
    pub(crate) fn check_grant_tokens(&self, tokens: &[String]) -> Result<()> {
        tokens.iter().try_for_each(|token| GrantToken::parse(token).map(|_| ()))
    }

    /// The answer to a dry run that would have succeeded.
    pub(crate) fn check_dry_run(&self, dry_run: Option<bool>) -> Result<()> {
        if dry_run != Some(true) {
            return Ok(());
        }
        let message = "The request would have succeeded, but the DryRun option is set.";
        Err(KmsException::new("DryRunOperationException", message))
    }
}

fn disabled(key: &Key) -> KmsException {
    KmsException::new("DisabledException", format!("{} is disabled.", key.arn))
}

pub(crate) fn invalid_state(message: String) -> KmsException {
    KmsException::new("KMSInvalidStateException", message)
}

fn pending_deletion(key: &Key) -> KmsException {
    invalid_state(format!("{} is pending deletion.", key.arn))
}

fn pending_import(key: &Key) -> KmsException {
    invalid_state(format!(
        "{} is pending import because no key material has ever been imported or one of the \
         imported key materials is deleted or expired.",
        key.arn
    ))
}
