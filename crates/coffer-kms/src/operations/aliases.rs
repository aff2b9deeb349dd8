//! Aliases.

use super::{Perform, seconds};
use crate::{
    KmsException,
    api::{
        AliasListEntry, CreateAliasRequest, DeleteAliasRequest, ListAliasesRequest,
        ListAliasesResponse, UpdateAliasRequest,
    },
    authorize::GrantUse,
    call::Call,
    paging::Page,
    state::{Alias, Change, Key, State},
    validation::Validation,
};
use std::sync::Arc;

type Result<T> = std::result::Result<T, KmsException>;

const ALIASES_PER_KEY_MAX: usize = 50;
const NAME_LEN_MAX: usize = 256;

/// The whole name of an alias given without `alias/`.
///
/// # Errors
/// `InvalidAliasNameException`.
pub(super) fn parse_name(name: &str) -> Result<String> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
    let len_max = NAME_LEN_MAX - "alias/".len();
    let is_good = (1..=len_max).contains(&name.len())
        && name.bytes().all(is_name)
        && !name.starts_with("aws/");
    if !is_good {
        let message = "an alias is 1 to 250 letters, digits, '/', '_', '-', and not aws/...";
        return Err(KmsException::new("InvalidAliasNameException", message));
    }
    Ok(format!("alias/{name}"))
}

/// The name in a request.
fn request_name(name: &str) -> Result<String> {
    Validation::default().text("aliasName", name, NAME_LEN_MAX).finish()?;
    let invalid = || {
        let message = "Alias must start with the prefix \"alias/\".";
        KmsException::new("InvalidAliasNameException", message)
    };
    parse_name(name.strip_prefix("alias/").ok_or_else(invalid)?)
}

/// # Errors
/// `AlreadyExistsException`.
pub(super) fn check_new(state: &State, name: &str) -> Result<()> {
    if !state.aliases.contains_key(name) {
        return Ok(());
    }
    let message = format!("An alias with the name {} already exists", arn(state, name));
    Err(KmsException::new("AlreadyExistsException", message))
}

fn arn(state: &State, name: &str) -> String {
    format!("arn:aws:kms:{}:{}:{name}", state.region, state.account)
}

fn check_count(state: &State, key: &Key) -> Result<()> {
    if state.aliases_of(key.id()).len() >= ALIASES_PER_KEY_MAX {
        let message = format!("{} has {ALIASES_PER_KEY_MAX} aliases.", key.arn);
        return Err(KmsException::limit(message));
    }
    Ok(())
}

impl Call<'_> {
    /// Rights are needed on the alias and on its key: those on the alias only IAM can give. Where
    /// the key policy names the caller, that speaks for both.
    fn authorize_alias(&mut self, key: &Arc<Key>) -> Result<()> {
        self.authorize(key, self.operation, GrantUse::Never)
    }

    fn alias_key(&self, name: &str) -> Result<Arc<Key>> {
        let state = self.kms.state.read();
        let found = state.find(name, self.now_millis)?;
        Ok(Arc::clone(found))
    }
}

impl Perform for CreateAliasRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        let name = request_name(&self.alias_name)?;
        Validation::default().key_id("targetKeyId", &self.target_key_id).finish()?;
        let key = call.find_by_id(&self.target_key_id)?;
        call.authorize_alias(&key)?;
        call.check_not_pending_deletion(&key)?;
        let now = call.now_millis;
        call.change(|state| {
            check_new(state, &name)?;
            check_count(state, &key)?;
            let key = key.id().to_owned();
            let alias = Alias { key, created_at_millis: now, updated_at_millis: now };
            Ok(((), vec![Change::Alias(name, alias)]))
        })
    }
}

impl Perform for UpdateAliasRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        let name = request_name(&self.alias_name)?;
        Validation::default().key_id("targetKeyId", &self.target_key_id).finish()?;
        let present = call.alias_key(&name)?;
        let key = call.find_by_id(&self.target_key_id)?;
        call.authorize_alias(&present)?;
        call.authorize_alias(&key)?;
        call.check_not_pending_deletion(&key)?;
        if (&present.spec, &present.usage) != (&key.spec, &key.usage) {
            let message = "The present and the new key of an alias must be of the same kind.";
            return Err(KmsException::validation(message));
        }
        let now = call.now_millis;
        call.change(|state| {
            let alias = state.aliases.get(&name).ok_or_else(|| not_found(state, &name))?;
            if alias.key != key.id() {
                check_count(state, &key)?;
            }
            let alias = Alias { key: key.id().to_owned(), updated_at_millis: now, ..alias.clone() };
            Ok(((), vec![Change::Alias(name, alias)]))
        })
    }
}

impl Perform for DeleteAliasRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        let name = request_name(&self.alias_name)?;
        let key = call.alias_key(&name)?;
        call.resources.push(key.arn.clone());
        call.authorize_alias(&key)?;
        call.change(|state| {
            if !state.aliases.contains_key(&name) {
                return Err(not_found(state, &name));
            }
            Ok(((), vec![Change::AliasDeleted(name)]))
        })
    }
}

fn not_found(state: &State, name: &str) -> KmsException {
    let message = format!("Alias {} is not found.", arn(state, name));
    KmsException::new("NotFoundException", message)
}

impl Perform for ListAliasesRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ListAliasesResponse> {
        Validation::default().length("keyId", self.key_id.as_deref(), 1, 2048).finish()?;
        let page = Page::parse(self.limit, self.marker.as_deref(), 50, 100)?;
        call.authorize_account("ListAliases", "*")?;
        let key = self.key_id.as_deref().map(|name| call.find_by_id(name)).transpose()?;
        call.saw_all();
        let state = call.kms.state.read();
        let aliases = state.aliases.iter().filter(|(_, alias)| {
            key.as_ref().is_none_or(|key| key.id() == alias.key)
                && state.keys.get(&alias.key).is_some_and(|key| !key.is_gone(call.now_millis))
        });
        let (aliases, next_marker) = page.cut(aliases, |(name, _)| name);
        let entry = |(name, alias): (&String, &Alias)| AliasListEntry {
            alias_name: name.clone(),
            alias_arn: arn(&state, name),
            target_key_id: alias.key.clone(),
            creation_date: seconds(alias.created_at_millis),
            last_updated_date: seconds(alias.updated_at_millis),
        };
        Ok(ListAliasesResponse {
            aliases: aliases.into_iter().map(entry).collect(),
            truncated: next_marker.is_some(),
            next_marker,
        })
    }
}
