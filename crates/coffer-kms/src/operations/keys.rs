//! Keys: making, describing, listing, switching on and off, deleting.

use super::{Perform, aliases, cryptography::no_custom_key_store, seconds, tags};
use crate::{
    KmsException,
    api::{
        CancelKeyDeletionRequest, CreateKeyRequest, DescribeKeyRequest, DisableKeyRequest,
        EnableKeyRequest, KeyIdResponse, KeyListEntry, KeyMetadata, KeyResponse, KeyState,
        ListKeysRequest, ListKeysResponse, ScheduleKeyDeletionRequest, ScheduleKeyDeletionResponse,
        UpdateKeyDescriptionRequest,
    },
    authorize::GrantUse,
    call::{Call, invalid_state},
    operations::policies::{default_key_policy, parse_policy},
    paging::Page,
    state::{Alias, Change, Deletion, Key, Material, Origin, State},
    validation::Validation,
};
use coffer_crypto::{WrappingKey, random_array};
use std::{collections::BTreeMap, sync::Arc};

type Result<T> = std::result::Result<T, KmsException>;

pub(crate) const MILLIS_PER_DAY: i64 = 86_400_000;
const DESCRIPTION_LEN_MAX: usize = 8192;
const WINDOW_DAYS_DEFAULT: i64 = 30;
const USAGES: [&str; 4] =
    ["SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"];
const ORIGINS: [&str; 4] = ["AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"];
/// Key specs, and the usages each can have.
const SPECS: [(&str, &[&str]); 12] = [
    ("SYMMETRIC_DEFAULT", &["ENCRYPT_DECRYPT"]),
    ("RSA_2048", &["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
    ("RSA_3072", &["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
    ("RSA_4096", &["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
    ("ECC_NIST_P256", &["SIGN_VERIFY", "KEY_AGREEMENT"]),
    ("ECC_NIST_P384", &["SIGN_VERIFY", "KEY_AGREEMENT"]),
    ("ECC_NIST_P521", &["SIGN_VERIFY", "KEY_AGREEMENT"]),
    ("ECC_SECG_P256K1", &["SIGN_VERIFY"]),
    ("HMAC_224", &["GENERATE_VERIFY_MAC"]),
    ("HMAC_256", &["GENERATE_VERIFY_MAC"]),
    ("HMAC_384", &["GENERATE_VERIFY_MAC"]),
    ("HMAC_512", &["GENERATE_VERIFY_MAC"]),
];

impl Perform for CreateKeyRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<KeyResponse> {
        let description = self.description.as_deref();
        let specs: Vec<&str> = SPECS.iter().map(|(spec, _)| *spec).collect();
        Validation::default()
            .length("description", description, 0, DESCRIPTION_LEN_MAX)
            .one_of("keyUsage", self.key_usage.as_deref(), &USAGES)
            .one_of("keySpec", self.spec(), &specs)
            .one_of("origin", self.origin.as_deref(), &ORIGINS)
            .finish()?;
        call.authorize_account("CreateKey", "*")?;
        let key = self.key(call)?;
        if self.bypass_policy_lockout_safety_check != Some(true) {
            super::policies::check_lockout(call, &key, &key.policy)?;
        }
        let alias = self
            .alias
            .as_deref()
            .map(|name| aliases::parse_name(name.strip_prefix("alias/").unwrap_or(name)));
        let alias = alias.transpose()?;
        let now = call.now_millis;
        let arn = key.arn.clone();
        let metadata = call.change(|state| {
            let mut key = key;
            let is_taken = |id: &str| state.keys.contains_key(id);
            if self.arn.is_some() && is_taken(key.id()) {
                let message = format!("a key with this id exists: {}", key.arn);
                return Err(KmsException::new("AlreadyExistsException", message));
            }
            let mut changes = Vec::new();
            if let Some(name) = &alias {
                aliases::check_new(state, name)?;
                let alias = Alias {
                    key: key.id().to_owned(),
                    created_at_millis: now,
                    updated_at_millis: now,
                };
                changes.push(Change::Alias(name.clone(), alias));
            }
            key.sequence = 0;
            let mut metadata = metadata(&key, now);
            metadata.arn.clone_from(&arn);
            changes.insert(0, Change::Key(Arc::new(key)));
            Ok((metadata, changes))
        })?;
        call.resources.push(metadata.arn.clone());
        Ok(KeyResponse { key_metadata: metadata })
    }
}

impl CreateKeyRequest {
    fn spec(&self) -> Option<&str> {
        self.key_spec.as_deref().or(self.customer_master_key_spec.as_deref())
    }

    fn key(&self, call: &Call<'_>) -> Result<Key> {
        let unsupported =
            |message: &str| KmsException::new("UnsupportedOperationException", message);
        if self.custom_key_store_id.is_some() || self.xks_key_id.is_some() {
            return Err(no_custom_key_store());
        }
        if self.multi_region == Some(true) {
            return Err(unsupported("Multi-Region keys are not supported."));
        }
        let spec = self.spec().unwrap_or("SYMMETRIC_DEFAULT");
        let usage = self.usage(spec)?;
        let origin = match self.origin.as_deref() {
            None | Some("AWS_KMS") => Origin::AwsKms,
            Some("EXTERNAL") if spec == "SYMMETRIC_DEFAULT" => Origin::External,
            Some("EXTERNAL") => {
                return Err(unsupported("Only symmetric keys can have imported material."));
            }
            Some(_) => return Err(no_custom_key_store()),
        };
        let policy = match &self.policy {
            Some(policy) => parse_policy(policy)?,
            None => parse_policy(&default_key_policy(&call.account))?,
        };
        let tags = self.tags.iter().map(|tag| (tag.tag_key.clone(), tag.tag_value.clone()));
        let has_material = origin == Origin::AwsKms && spec == "SYMMETRIC_DEFAULT";
        let materials = if has_material { vec![new_material()?] } else { Vec::new() };
        tags::check(&self.tags)?;
        let tags: BTreeMap<_, _> = tags.collect();
        tags::check_count(tags.len())?;
        Ok(Key {
            arn: self.new_arn(call)?,
            description: self.description.clone().unwrap_or_default(),
            created_at_millis: call.now_millis,
            enabled: true,
            spec: spec.to_owned(),
            usage: usage.to_owned(),
            origin,
            deletion: None,
            rotation: None,
            on_demand_rotations: 0,
            policy,
            tags,
            materials,
            sequence: 0,
        })
    }

    fn usage<'a>(&'a self, spec: &str) -> Result<&'a str> {
        let usages = SPECS.iter().find(|(name, _)| *name == spec).map_or(&[][..], |(_, it)| it);
        match self.key_usage.as_deref() {
            Some(usage) if usages.contains(&usage) => Ok(usage),
            Some(usage) => Err(KmsException::validation(format!(
                "KeyUsage {usage} is not compatible with KeySpec {spec}"
            ))),
            None if spec == "SYMMETRIC_DEFAULT" => Ok("ENCRYPT_DECRYPT"),
            None => {
                Err(KmsException::validation("You must specify a KeyUsage value for this key."))
            }
        }
    }

    fn new_arn(&self, call: &Call<'_>) -> Result<String> {
        let Some(arn) = &self.arn else {
            let state = call.kms.state.read();
            let (region, account) = (&state.region, &state.account);
            let id = uuid::Uuid::new_v4();
            return Ok(format!("arn:aws:kms:{region}:{account}:key/{id}"));
        };
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let is_word = |text: &str| {
            let is_good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !text.is_empty() && text.len() <= 256 && text.bytes().all(is_good)
        };
        // the ARNs of documents have other lengths too
        let is_account = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_good = match *parts {
            ["arn", partition, "kms", region, account, resource] => {
                is_word(partition)
                    && is_word(region)
                    && is_account(account)
                    && resource.strip_prefix("key/").is_some_and(is_word)
            }
            _ => false,
        };
        if is_good {
            return Ok(arn.clone());
        }
        let message = format!("not an ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID): {arn}");
        Err(KmsException::new("InvalidArnException", message))
    }
}

/// Fresh random material.
pub(crate) fn new_material() -> Result<Material> {
    let no_randomness = |_| KmsException::internal("no randomness");
    let id = random_array::<32>().map_err(no_randomness)?;
    let bytes = WrappingKey::generate().map_err(no_randomness)?;
    Ok(Material {
        id: hex::encode(id),
        bytes: Some(Arc::new(bytes)),
        rotated: None,
        valid_to_millis: None,
    })
}

impl Perform for DescribeKeyRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<KeyResponse> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .grant_tokens(&self.grant_tokens)
            .finish()?;
        let key = call.find(&self.key_id)?;
        call.authorize(&key, "DescribeKey", GrantUse::Always)?;
        call.check_grant_tokens(&self.grant_tokens)?;
        Ok(KeyResponse { key_metadata: metadata(&key, call.now_millis) })
    }
}

/// What `DescribeKey` tells of a key.
pub(crate) fn metadata(key: &Key, now_millis: i64) -> KeyMetadata {
    let state = key.state(now_millis);
    let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
    let encryption: &[&str] = match (&*key.usage, key.is_symmetric()) {
        ("ENCRYPT_DECRYPT", true) => &["SYMMETRIC_DEFAULT"],
        ("ENCRYPT_DECRYPT", false) => &["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"],
        _ => &[],
    };
    let mac = key.spec.strip_prefix("HMAC_").map(|bits| format!("HMAC_SHA_{bits}"));
    let material = key.current_material().filter(|material| material.is_there(now_millis));
    let expiry = material.filter(|_| key.origin == Origin::External);
    KeyMetadata {
        aws_account_id: key.account().to_owned(),
        arn: key.arn.clone(),
        creation_date: seconds(key.created_at_millis),
        current_key_material_id: key.current_material().map(|material| material.id.clone()),
        customer_master_key_spec: key.spec.clone(),
        deletion_date: key.deletion.map(|deletion| seconds(deletion.at_millis)),
        description: key.description.clone(),
        enabled: state == KeyState::Enabled,
        encryption_algorithms: list(encryption),
        expiration_model: expiry.map(|material| expiration_model(material).to_owned()),
        key_id: key.id().to_owned(),
        key_manager: "CUSTOMER".to_owned(),
        key_spec: key.spec.clone(),
        key_state: state,
        key_usage: key.usage.clone(),
        mac_algorithms: mac.into_iter().collect(),
        multi_region: false,
        origin: key.origin.as_str().to_owned(),
        pending_deletion_window_in_days: key.deletion.map(|deletion| deletion.window_days),
        signing_algorithms: Vec::new(),
        valid_to: expiry.and_then(|material| material.valid_to_millis).map(seconds),
    }
}

pub(super) fn expiration_model(material: &Material) -> &'static str {
    match material.valid_to_millis {
        Some(_) => "KEY_MATERIAL_EXPIRES",
        None => "KEY_MATERIAL_DOES_NOT_EXPIRE",
    }
}

impl Perform for ListKeysRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ListKeysResponse> {
        let page = Page::parse(self.limit, self.marker.as_deref(), 100, 1000)?;
        call.authorize_account("ListKeys", "*")?;
        call.saw_all();
        let state = call.kms.state.read();
        let keys = state.keys.values().filter(|key| !key.is_gone(call.now_millis));
        let (keys, next_marker) = page.cut(keys, |key| key.id());
        let entry =
            |key: &Arc<Key>| KeyListEntry { key_id: key.id().to_owned(), key_arn: key.arn.clone() };
        Ok(ListKeysResponse {
            keys: keys.into_iter().map(entry).collect(),
            truncated: next_marker.is_some(),
            next_marker,
        })
    }
}

impl Perform for EnableKeyRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        set_enabled(call, &self.key_id, true)
    }
}

impl Perform for DisableKeyRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        set_enabled(call, &self.key_id, false)
    }
}

fn set_enabled(call: &mut Call<'_>, key_id: &str, enabled: bool) -> Result<()> {
    Validation::default().key_id("keyId", key_id).finish()?;
    let key = call.authorized(key_id)?;
    call.check_has_material(&key)?;
    let now = call.now_millis;
    call.change_key(&key, |key| {
        check_deletion(key, false, now)?;
        key.enabled = enabled;
        Ok(())
    })
}

/// Again under the lock: another call may have come between.
fn check_deletion(key: &Key, must_be_pending: bool, now_millis: i64) -> Result<()> {
    let is_pending = key.state(now_millis) == KeyState::PendingDeletion;
    match (is_pending, must_be_pending) {
        (true, false) => Err(invalid_state(format!("{} is pending deletion.", key.arn))),
        (false, true) => Err(invalid_state(format!("{} is not pending deletion.", key.arn))),
        _ => Ok(()),
    }
}

impl Perform for ScheduleKeyDeletionRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ScheduleKeyDeletionResponse> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .range("pendingWindowInDays", self.pending_window_in_days, 7, 30)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        let now = call.now_millis;
        let days = self.pending_window_in_days.unwrap_or(WINDOW_DAYS_DEFAULT);
        let at_millis = now.saturating_add(days.saturating_mul(MILLIS_PER_DAY));
        let window_days = u32::try_from(days).unwrap_or_default();
        call.change_key(&key, |key| {
            check_deletion(key, false, now)?;
            key.enabled = false;
            key.deletion = Some(Deletion { at_millis, window_days });
            Ok(())
        })?;
        Ok(ScheduleKeyDeletionResponse {
            key_id: key.arn.clone(),
            deletion_date: seconds(at_millis),
            key_state: KeyState::PendingDeletion,
            pending_window_in_days: window_days,
        })
    }
}

impl Perform for CancelKeyDeletionRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<KeyIdResponse> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let key = call.authorized(&self.key_id)?;
        let now = call.now_millis;
        call.change_key(&key, |key| {
            check_deletion(key, true, now)?;
            key.enabled = false;
            key.deletion = None;
            Ok(())
        })?;
        Ok(KeyIdResponse { key_id: key.arn.clone() })
    }
}

impl Perform for UpdateKeyDescriptionRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        let description = self.description.as_deref();
        Validation::default()
            .key_id("keyId", &self.key_id)
            .length("description", description, 0, DESCRIPTION_LEN_MAX)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        let now = call.now_millis;
        call.change_key(&key, |key| {
            check_deletion(key, false, now)?;
            description.unwrap_or_default().clone_into(&mut key.description);
            Ok(())
        })
    }
}

/// Keys in the order they were made.
pub(crate) fn by_creation(state: &State, now_millis: i64) -> Vec<Arc<Key>> {
    let keys = state.keys.values().filter(|key| !key.is_gone(now_millis));
    let mut keys: Vec<_> = keys.cloned().collect();
    keys.sort_by(|a, b| (a.created_at_millis, &a.arn).cmp(&(b.created_at_millis, &b.arn)));
    keys
}
