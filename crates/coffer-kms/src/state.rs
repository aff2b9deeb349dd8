//! Everything the KMS knows, in memory. A change is made here at once and is in the next batch of
//! the journal; who saw it waits for that batch before answering.

mod grant;
mod key;
mod policy_text;
mod serde_forms;

pub(crate) use grant::{Grant, Grants, is_subset};
pub(crate) use key::{Deletion, Key, Material, Origin, Rotated, Rotation};
pub(crate) use policy_text::{IdentityPolicy, KeyPolicy};

use crate::{KmsException, Principal, wiped::secret_text};
use coffer_crypto::WrappingKey;
use serde::{Deserialize, Serialize};
use serde_forms::{arc, arc_bytes};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use zeroize::Zeroizing;

/// A change of the state, as it stands in the journal; a checkpoint is a list of them.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    Key(#[serde(with = "arc")] Arc<Key>),
    /// With its grants and aliases.
    KeyDeleted(String),
    Alias(String, Alias),
    AliasDeleted(String),
    Grant(#[serde(with = "arc")] Arc<Grant>),
    GrantDeleted {
        key: String,
        grant: String,
    },
    User(#[serde(with = "arc")] Arc<User>),
    UserDeleted(String),
    /// What import tokens are sealed with.
    ImportKey(#[serde(with = "arc_bytes")] Option<Arc<WrappingKey>>),
}

/// Where an alias points.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Alias {
    /// Id.
    pub(crate) key: String,
    pub(crate) created_at_millis: i64,
    pub(crate) updated_at_millis: i64,
}

/// Somebody with an access key: a user, or the account itself under the name `root`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) is_root: bool,
    pub(crate) enabled: bool,
    pub(crate) created_at_millis: i64,
    pub(crate) access_key_id: String,
    #[serde(with = "secret_text")]
    pub(crate) secret_access_key: Zeroizing<String>,
    pub(crate) policy: Option<IdentityPolicy>,
}

impl User {
    pub(crate) fn principal(&self) -> Principal {
        if self.is_root { Principal::Root } else { Principal::User { name: self.name.clone() } }
    }
}

/// The state.
pub(crate) struct State {
    pub(crate) account: String,
    pub(crate) region: String,
    /// By id.
    pub(crate) keys: BTreeMap<String, Arc<Key>>,
    /// By the id of their key; a key without grants may be missing.
    pub(crate) grants: HashMap<String, Grants>,
    /// By name, with `alias/`.
    pub(crate) aliases: BTreeMap<String, Alias>,
    /// By name.
    pub(crate) users: BTreeMap<String, Arc<User>>,
    access_keys: HashMap<String, String>,
    pub(crate) import_key: Option<Arc<WrappingKey>>,
    /// Number of the last change.
    pub(crate) sequence: u64,
    /// Changes that are in no batch of the journal yet.
    pub(crate) pending: Vec<Change>,
}

impl State {
    pub(crate) fn new(account: &str, region: &str) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            keys: BTreeMap::new(),
            grants: HashMap::new(),
            aliases: BTreeMap::new(),
            users: BTreeMap::new(),
            access_keys: HashMap::new(),
            import_key: None,
            sequence: 0,
            pending: Vec::new(),
        }
    }

    /// Makes changes and puts them on the way to the journal. Returns their number.
    pub(crate) fn change(&mut self, changes: Vec<Change>) -> u64 {
        self.sequence += 1;
        for mut change in changes {
            match &mut change {
                Change::Key(key) => Arc::make_mut(key).sequence = self.sequence,
                Change::Grant(grant) => Arc::make_mut(grant).sequence = self.sequence,
                _ => {}
            }
            self.pending.push(change.clone());
            self.apply(change);
        }
        self.sequence
    }

    /// Makes a change that is durable already.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Key(key) => {
                self.keys.insert(key.id().to_owned(), key);
            }
            Change::KeyDeleted(id) => {
                self.keys.remove(&id);
                self.grants.remove(&id);
                self.aliases.retain(|_, alias| alias.key != id);
            }
            Change::Alias(name, alias) => {
                self.aliases.insert(name, alias);
            }
            Change::AliasDeleted(name) => {
                self.aliases.remove(&name);
            }
            Change::Grant(grant) => {
                if let Some((_, key)) = grant.key_arn.rsplit_once('/') {
                    self.grants.entry(key.to_owned()).or_default().insert(grant);
                }
            }
            Change::GrantDeleted { key, grant } => {
                if let Some(grants) = self.grants.get_mut(&key) {
                    grants.remove(&grant);
                }
            }
            Change::User(user) => {
                self.access_keys.insert(user.access_key_id.clone(), user.name.clone());
                self.users.insert(user.name.clone(), user);
            }
            Change::UserDeleted(name) => {
                if let Some(user) = self.users.remove(&name) {
                    self.access_keys.remove(&user.access_key_id);
                }
            }
            Change::ImportKey(key) => self.import_key = key,
        }
    }

    /// What makes this state out of an empty one.
    pub(crate) fn snapshot(&self) -> Vec<Change> {
        let keys = self.keys.values().map(|key| Change::Key(Arc::clone(key)));
        let grants = self.grants.values().flat_map(|grants| grants.after(None));
        let grants = grants.map(|grant| Change::Grant(Arc::clone(grant)));
        let aliases = self.aliases.iter();
        let aliases = aliases.map(|(name, alias)| Change::Alias(name.clone(), alias.clone()));
        let users = self.users.values().map(|user| Change::User(Arc::clone(user)));
        let import_key = self.import_key.clone().map(|key| Change::ImportKey(Some(key)));
        keys.chain(grants).chain(aliases).chain(users).chain(import_key).collect()
    }

    pub(crate) fn user_of_access_key(&self, access_key_id: &str) -> Option<&Arc<User>> {
        self.users.get(self.access_keys.get(access_key_id)?)
    }

    /// The first date on which something happens by itself.
    pub(crate) fn due_at_millis(&self) -> Option<i64> {
        self.keys.values().filter_map(|key| key.due_at_millis()).min()
    }

    /// The key of an id or key ARN, and of an alias name or alias ARN.
    pub(crate) fn find(&self, name: &str, now_millis: i64) -> Result<&Arc<Key>, KmsException> {
        let id = match Name::parse(name, &self.region)? {
            Name::Id(id) => Some(id),
            Name::Arn(id) => {
                Some(id).filter(|id| self.keys.get(*id).is_some_and(|key| key.arn == name))
            }
            Name::Alias(alias) => self.aliases.get(alias).map(|alias| alias.key.as_str()),
            Name::AliasArn { account, alias } => {
                let alias = self.aliases.get(alias).filter(|_| account == self.account);
                alias.map(|alias| alias.key.as_str())
            }
        };
        id.and_then(|id| self.keys.get(id))
            .filter(|key| !key.is_gone(now_millis))
            .ok_or_else(|| self.not_found(name))
    }

    /// As [`Self::find`], for operations that take no alias.
    pub(crate) fn find_by_id(
        &self,
        name: &str,
        now_millis: i64,
    ) -> Result<&Arc<Key>, KmsException> {
        match Name::parse(name, &self.region)? {
            Name::Alias(_) | Name::AliasArn { .. } => {
                Err(KmsException::new("NotFoundException", format!("Invalid keyId {name}")))
            }
            Name::Id(_) | Name::Arn(_) => self.find(name, now_millis),
        }
    }

    fn not_found(&self, name: &str) -> KmsException {
        let (region, account) = (&self.region, &self.account);
        let message = match name {
            _ if name.starts_with("alias/") => {
                format!("Alias arn:aws:kms:{region}:{account}:{name} is not found.")
            }
            _ if name.contains(":alias/") => format!("Alias {name} is not found."),
            _ if name.starts_with("arn:") => match name.split(':').nth(3) {
                Some(other) if other != region => format!("Invalid arn {other}"),
                _ => format!("Key '{name}' does not exist"),
            },
            _ => format!("Key 'arn:aws:kms:{region}:{account}:key/{name}' does not exist"),
        };
        KmsException::new("NotFoundException", message)
    }

    pub(crate) fn aliases_of(&self, id: &str) -> Vec<String> {
        let aliases = self.aliases.iter().filter(|(_, alias)| alias.key == id);
        aliases.map(|(name, _)| name.clone()).collect()
    }
}

/// The forms a key may be named in.
enum Name<'a> {
    Id(&'a str),
    Arn(&'a str),
    Alias(&'a str),
    AliasArn { account: &'a str, alias: &'a str },
}

impl<'a> Name<'a> {
    fn parse(name: &'a str, region: &str) -> Result<Self, KmsException> {
        let Some(arn) = name.strip_prefix("arn:") else {
            return Ok(if name.starts_with("alias/") { Self::Alias(name) } else { Self::Id(name) });
        };
        let invalid = || KmsException::new("InvalidArnException", format!("Invalid arn {name}"));
        let mut parts = arn.splitn(5, ':');
        let (_, service) = (parts.next(), parts.next());
        let (Some("kms"), Some(of), Some(account), Some(resource)) =
            (service, parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        let elsewhere = || KmsException::new("NotFoundException", format!("Invalid arn {of}"));
        match resource.strip_prefix("key/") {
            // a key with a given ARN may be of any Region
            Some(id) if !id.is_empty() => Ok(Self::Arn(id)),
            None if resource.starts_with("alias/") && of != region => Err(elsewhere()),
            None if resource.starts_with("alias/") => {
                Ok(Self::AliasArn { account, alias: resource })
            }
            _ => Err(invalid()),
        }
    }
}
