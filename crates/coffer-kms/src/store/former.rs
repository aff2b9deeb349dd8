//! Reads the former store, which knew keys and aliases only.

use crate::{
    operations::default_key_policy,
    state::{Alias, Change, Deletion, Key, KeyPolicy, Material, Origin, State},
    wiped::secret_text,
};
use coffer_crypto::WrappingKey;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};
use zeroize::Zeroizing;

#[derive(Deserialize)]
struct Former {
    account: String,
    region: String,
    keys: Vec<FormerKey>,
    aliases: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct FormerKey {
    arn: String,
    description: String,
    created_at_millis: i64,
    enabled: bool,
    deletion_at_millis: Option<i64>,
    pending_window_days: Option<u32>,
    material_id: String,
    /// 64 hex digits.
    #[serde(with = "secret_text")]
    material: Zeroizing<String>,
}

/// The state of a former store. Errors quote nothing.
pub(super) fn read(json: &[u8]) -> Result<State, String> {
    let former: Former =
        serde_json::from_slice(json).map_err(|_| "not a store of keys".to_owned())?;
    let mut state = State::new(&former.account, &former.region);
    let mut created = BTreeMap::new();
    for key in former.keys {
        let key = taken_over(key)?;
        created.insert(key.arn.clone(), (key.id().to_owned(), key.created_at_millis));
        state.apply(Change::Key(Arc::new(key)));
    }
    for (name, arn) in former.aliases {
        let (key, at) = created.get(&arn).ok_or("an alias points to no key")?.clone();
        let alias = Alias { key, created_at_millis: at, updated_at_millis: at };
        state.apply(Change::Alias(name, alias));
    }
    Ok(state)
}

fn taken_over(former: FormerKey) -> Result<Key, String> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(former.material.as_str(), bytes.as_mut_slice())
        .map_err(|_| "material is not 64 hex digits".to_owned())?;
    let bytes = WrappingKey::from_slice(bytes.as_slice()).map_err(|error| error.to_string())?;
    let account = former.arn.split(':').nth(4).unwrap_or_default();
    let policy = default_key_policy(account);
    let policy = KeyPolicy::try_from(policy).map_err(|error| error.to_string())?;
    Ok(Key {
        description: former.description,
        created_at_millis: former.created_at_millis,
        enabled: former.enabled,
        spec: "SYMMETRIC_DEFAULT".to_owned(),
        usage: "ENCRYPT_DECRYPT".to_owned(),
        origin: Origin::AwsKms,
        deletion: former.deletion_at_millis.map(|at_millis| Deletion {
            at_millis,
            window_days: former.pending_window_days.unwrap_or(30),
        }),
        rotation: None,
        on_demand_rotations: 0,
        policy,
        tags: BTreeMap::new(),
        materials: vec![Material {
            id: former.material_id,
            bytes: Some(Arc::new(bytes)),
            rotated: None,
            valid_to_millis: None,
        }],
        sequence: 0,
        arn: former.arn,
    })
}
