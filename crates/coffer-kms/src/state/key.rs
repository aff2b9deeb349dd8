//! A key: its settings, its states, its material.

use super::{policy_text::KeyPolicy, serde_forms::arc_bytes};
use crate::api::{KeyState, Tag};
use coffer_crypto::WrappingKey;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// One key without its grants. A value: a change makes the next one.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) arn: String,
    pub(crate) description: String,
    pub(crate) created_at_millis: i64,
    pub(crate) enabled: bool,
    pub(crate) spec: String,
    pub(crate) usage: String,
    pub(crate) origin: Origin,
    pub(crate) deletion: Option<Deletion>,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) on_demand_rotations: u32,
    pub(crate) policy: KeyPolicy,
    pub(crate) tags: BTreeMap<String, String>,
    /// Oldest first; the last one that was ever put in force encrypts.
    pub(crate) materials: Vec<Material>,
    /// Number of the last change; what depends on it waits until that is durable.
    #[serde(skip)]
    pub(crate) sequence: u64,
}

/// Where material comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    AwsKms,
    External,
}

impl Origin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AwsKms => "AWS_KMS",
            Self::External => "EXTERNAL",
        }
    }
}

/// A deletion that is pending.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Deletion {
    pub(crate) at_millis: i64,
    pub(crate) window_days: u32,
}

/// Automatic rotation.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rotation {
    pub(crate) period_days: u32,
    pub(crate) next_at_millis: i64,
}

/// Key material.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Material {
    /// 64 hex digits.
    pub(crate) id: String,
    /// `None` while imported material is away, and for keys that encrypt nothing.
    #[serde(with = "arc_bytes")]
    pub(crate) bytes: Option<Arc<WrappingKey>>,
    /// When it replaced the one before it; `None` for a key's first.
    pub(crate) rotated: Option<Rotated>,
    /// Imported material goes away then.
    pub(crate) valid_to_millis: Option<i64>,
}

/// How material came to be in force.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rotated {
    pub(crate) at_millis: i64,
    pub(crate) on_demand: bool,
}

impl Material {
    pub(crate) fn is_there(&self, now_millis: i64) -> bool {
        self.bytes.is_some() && !self.is_expired(now_millis)
    }

    /// Its date has come and its bytes are still there.
    pub(crate) fn is_expired(&self, now_millis: i64) -> bool {
        self.bytes.is_some() && self.valid_to_millis.is_some_and(|at| at <= now_millis)
    }
}

impl Key {
    pub(crate) fn id(&self) -> &str {
        self.arn.rsplit_once('/').map_or("", |(_, id)| id)
    }

    pub(crate) fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }

    pub(crate) fn is_symmetric(&self) -> bool {
        self.spec == "SYMMETRIC_DEFAULT"
    }

    pub(crate) fn state(&self, now_millis: i64) -> KeyState {
        let lacks_material = || {
            let is_there = |material: &Material| material.is_there(now_millis);
            self.materials.is_empty() || !self.materials.iter().all(is_there)
        };
        if self.deletion.is_some() {
            KeyState::PendingDeletion
        } else if self.origin == Origin::External && lacks_material() {
            KeyState::PendingImport
        } else if self.enabled {
            KeyState::Enabled
        } else {
            KeyState::Disabled
        }
    }

    /// Whether the waiting period is over: nobody may see the key any more.
    pub(crate) fn is_gone(&self, now_millis: i64) -> bool {
        self.deletion.is_some_and(|deletion| deletion.at_millis <= now_millis)
    }

    /// When the next thing happens to the key by itself.
    pub(crate) fn due_at_millis(&self) -> Option<i64> {
        if let Some(deletion) = self.deletion {
            return Some(deletion.at_millis);
        }
        let expiry = self.materials.iter().filter(|material| material.bytes.is_some());
        let expiry = expiry.filter_map(|material| material.valid_to_millis).min();
        let rotation =
            self.rotation.filter(|_| self.enabled).map(|rotation| rotation.next_at_millis);
        expiry.into_iter().chain(rotation).min()
    }

    /// The material that encrypts.
    pub(crate) fn current_material(&self) -> Option<&Material> {
        self.materials.last()
    }

    pub(crate) fn material(&self, id: &str) -> Option<&Material> {
        self.materials.iter().find(|material| material.id == id)
    }

    pub(crate) fn tag_list(&self) -> Vec<Tag> {
        let tag = |(key, value): (&String, &String)| Tag {
            tag_key: key.clone(),
            tag_value: value.clone(),
        };
        self.tags.iter().map(tag).collect()
    }
}
